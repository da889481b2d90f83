"""Who may see what: a token for everything, and tokens of one realm each. Counterpart: :mod:`spnhub.console.server`."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request

from spnhub.http_guard import token_in
from spnhub.settings import SettingsError

__all__ = ["DENIED", "Tokens", "read_realm_tokens"]

_SHORTEST: Final = 16
"""Characters of a realm's token."""


class _Denied:
    """Nobody known."""


DENIED: Final = _Denied()


class Tokens:
    """Tokens, and the realm that each may see.

    :param whole: for everything; None: there is none.
    :param realms: the realm by token.
    """

    def __init__(self, whole: str | None, realms: Mapping[str, str]) -> None:
        self._scopes: list[tuple[bytes, str | None]] = [(token.encode(), realm) for token, realm in realms.items()]
        if whole is not None:
            self._scopes.append((whole.encode(), None))

    @property
    def needed(self) -> bool:
        """Whether there are any: without, everybody sees everything."""
        return bool(self._scopes)

    def scope(self, request: Request) -> str | _Denied | None:
        """The realm that a request may see; None: all."""
        if not self._scopes:
            return None
        given = token_in(request.headers.get("authorization", "").encode("latin-1", errors="replace"))
        found: str | _Denied | None = DENIED
        for token, scope in self._scopes:
            # Each is compared, so that time doesn't tell which.
            if hmac.compare_digest(token, given):
                found = scope
        return found


def read_realm_tokens(path: Path) -> dict[str, str]:
    """Lines of ``REALM TOKEN``; empty ones, and those that begin with ``#``, say nothing. The realm by token.

    :raises SettingsError: the file can't be read or used.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise SettingsError(f"--realm-tokens: {path}: {reason}") from exc
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise SettingsError(f"--realm-tokens: {path}, line {number}: not a realm and a token")
        realm, token = words
        if len(token) < _SHORTEST:
            raise SettingsError(
                f"--realm-tokens: {path}, line {number}: the token has less than {_SHORTEST} characters"
            )
        if found.setdefault(token, realm) != realm:
            raise SettingsError(f"--realm-tokens: {path}, line {number}: this token is another realm's, too")
    return found
