"""What others have said, as text that people see: a line that drives no terminal, and no secret of this process.

Subjects of certificates, reasons, names, answers of servers: whoever wrote them may have put escape sequences, line
ends or signs that turn the direction of writing into them. Everything that goes to a terminal passes here:
:mod:`spnhub.streams` for commands, :mod:`spnhub.logging` for services. In the lowest room, because any room may show
something.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

__all__ = ["HIDDEN", "SECRETS", "printable", "remember_secret", "without_secrets"]

HIDDEN: Final = "(hidden)"
_SHORTEST: Final = 6
"""Characters of a secret that is looked for: a shorter one would be found in ordinary words."""
_DRIVING: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: escape sequences, line ends, what moves the cursor
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # what turns the direction, ends lines, doesn't show
    "\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff"
    "]"
)
SECRETS: Final[set[str]] = set()
"""What :func:`remember_secret` was given."""


def printable(text: str) -> str:
    """``text`` with every character escaped that drives a terminal: ``\\x1b``, ``\\n``, ``\\u202e``."""
    return _DRIVING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def remember_secret(value: str | None) -> None:
    """Show this nowhere from now on: a password or a token of this process, which a server may send back.

    Of a URL its password is the secret. PEM isn't looked for: :mod:`spnhub.logging` knows it by its form.
    """
    if value is not None and "://" in value:
        with suppress(ValueError):  # it is no URL, and nothing is sent anywhere
            value = unquote(urlsplit(value).password or "")
    if value is not None and len(value) >= _SHORTEST and "-----BEGIN " not in value:
        SECRETS.add(value)


def without_secrets(text: str) -> str:
    """``text`` with each remembered secret replaced."""
    for secret in SECRETS:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text
