"""Asks a running hub over the HTTP of its ``--ops``. Counterpart: :mod:`spnhub.ops.server`, which answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx2

from spnhub import bounded_json
from spnhub.bounded_http import AnswerError, ask
from spnhub.settings import SettingsError

__all__ = ["ask_hub"]

_TIMEOUT: Final = httpx2.Timeout(60.0, connect=5.0)
_LIMIT: Final = 512 << 20
"""Bytes and parts of an answer: it is an operator's own hub."""


async def ask_hub(
    url: str, token: str | None, *, option: str, params: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The object that a hub answers with.

    :param token: the hub's ``--ops-token``; None: it has none.
    :param option: what the URL was given with, for messages.
    :raises SettingsError: it doesn't answer, or not with an object.
    """
    try:
        headers = None if token is None else {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(timeout=_TIMEOUT, headers=headers) as client:
            answer = await ask(client, url, params=params, most=_LIMIT)
        if answer.status != httpx2.codes.OK:
            raise SettingsError(f"{option}: {url}: status {answer.status}")
        found = bounded_json.loads(answer.body, parts=_LIMIT)
    except (httpx2.HTTPError, httpx2.InvalidURL, AnswerError, ValueError) as error:
        raise SettingsError(f"{option}: {url}: {str(error) or type(error).__name__}") from error
    if not isinstance(found, dict):
        raise SettingsError(f"{option}: {url}: the answer is not an object")
    return found
