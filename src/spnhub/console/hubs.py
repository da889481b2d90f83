"""What running hubs say beside their log: when certificates expire, and where sessions come from.

Counterpart: ``/state`` of :mod:`spnhub.ops.server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from spnhub.console.page import Certificate
from spnhub.events.model import to_datetime
from spnhub.ops.client import ask_hub
from spnhub.settings import SettingsError

__all__ = ["RunningHubs", "certificates_of"]

_log = structlog.get_logger("spnhub.console")

_EVERY: Final = 30.0
"""Seconds between two questions."""


class RunningHubs:
    """Asks them again and again.

    :param urls: of their ``--ops``.
    """

    def __init__(self, urls: Sequence[str], token: str | None) -> None:
        self._urls = urls
        self._token = token
        self._certificates: dict[str, list[tuple[Certificate, datetime]]] = {}
        self.addresses: dict[tuple[str, str], str] = {}
        """By hub and session id."""
        self.silent: dict[str, str] = {}
        """Why a hub doesn't answer, by URL."""

    async def ask(self) -> None:
        """For ever."""
        while self._urls:
            for url in self._urls:
                try:
                    state = await ask_hub(f"{url.rstrip('/')}/state", self._token, option="--hub")
                    self.take(url, state)
                    self.silent.pop(url, None)
                except (SettingsError, KeyError, TypeError, ValueError) as exc:
                    if url not in self.silent:
                        _log.warning("console.hub_silent", url=url, reason=str(exc))
                    self.silent[url] = str(exc)
            await asyncio.sleep(_EVERY)

    def take(self, url: str, state: Mapping[str, Any]) -> None:
        """What a hub's ``/state`` says.

        :raises KeyError, TypeError, ValueError: it isn't one.
        """
        hub = str(state["hubId"])
        known = {
            (hub, str(one["spnSessionId"])): str(one["remoteAddress"])
            for one in state["sessions"]
            if one.get("remoteAddress")
        }
        self._certificates[url] = list(certificates_of(state))
        self.addresses = {key: value for key, value in self.addresses.items() if key[0] != hub} | known

    def certificates(self, time: int) -> list[Certificate]:
        """Each once, with the days that are left at a moment (microseconds since 1970)."""
        now = to_datetime(time)
        found: dict[tuple[str, str, str, str], Certificate] = {}
        for known in self._certificates.values():
            for one, end in known:
                days = round((end - now) / timedelta(days=1), 3)
                found[one.kind, one.name, one.subject, one.not_after] = Certificate(
                    one.kind, one.realm, one.name, one.subject, one.not_after, days
                )
        return list(found.values())


def certificates_of(state: Mapping[str, Any]) -> Iterable[tuple[Certificate, datetime]]:
    """Those that a ``/state`` names, and when they expire.

    :raises KeyError, TypeError, ValueError: it isn't one.
    """
    for one in state["certificates"]:
        end = _time(one["notAfter"])
        yield Certificate(one["kind"], one["realm"], one["name"], one["subject"], one["notAfter"], 0.0), end
    for one in state["sessions"]:
        if text := one.get("certificateExpiry"):
            subject, realm = str(one["spnEndPoint"]), str(one["realm"] or "")
            yield Certificate("session", realm, str(one["serviceUrn"]), subject, text, 0.0), _time(text)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
