"""What running hubs say beside their log: certificates' ends, sessions' addresses, incidents that no event tells of.

Counterparts: ``/state`` and ``/incidents`` of :mod:`spnhub.ops.server`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spnhub.console.page import Certificate, Seen
from spnhub.events.analysis.incidents import Incident
from spnhub.events.model import to_datetime
from spnhub.ops.client import ask_hub
from spnhub.settings import SettingsError

__all__ = ["RunningHubs", "certificates_of"]

_EVERY: Final = 2.0
"""Seconds between two questions for incidents."""
_STATE_EVERY: Final = 15
"""Questions after which the state is asked for: all sessions are in it."""


class RunningHubs:
    """Asks them again and again.

    :param urls: of their ``--ops``.
    :param on_silent: called with URL and reason when one doesn't answer any more.
    """

    def __init__(
        self, urls: Sequence[str], token: str | None, on_silent: Callable[[str, str], None] = lambda _url, _why: None
    ) -> None:
        self._urls = urls
        self._token = token
        self._on_silent = on_silent
        self._incidents: dict[str, list[Incident]] = {}
        self._certificates: dict[str, list[tuple[Certificate, datetime]]] = {}
        self.addresses: dict[tuple[str, str], str] = {}
        """By hub and session id."""
        self.silent: dict[str, str] = {}
        """Why a hub doesn't answer, by URL."""

    async def ask(self) -> None:
        """For ever."""
        for number in itertools.count():
            if not self._urls:
                return
            await self.ask_once(state=number % _STATE_EVERY == 0)
            await asyncio.sleep(_EVERY)

    async def ask_once(self, *, state: bool = True) -> None:
        """Each of them, at the same time.

        :param state: the state, too.
        """
        await asyncio.gather(*(self._ask(url, state=state) for url in self._urls))

    async def _ask(self, url: str, *, state: bool) -> None:
        base = url.rstrip("/")
        try:
            params = {"of": "hub"}
            self.take_incidents(url, await ask_hub(f"{base}/incidents", self._token, option="--hub", params=params))
            # A hub that is there again may be another: its certificates and sessions, too.
            if state or url in self.silent:
                self.take(url, await ask_hub(f"{base}/state", self._token, option="--hub"))
            self.silent.pop(url, None)
        except (SettingsError, KeyError, TypeError, ValueError) as exc:
            if url not in self.silent:
                self._on_silent(url, str(exc))
            self.silent[url] = str(exc)

    def take_incidents(self, url: str, found: Mapping[str, Any]) -> None:
        """What a hub's ``/incidents`` says of itself.

        :raises KeyError, TypeError, ValueError: it isn't that.
        """
        self._incidents[url] = [Incident.from_json(one) for one in found["incidents"]]

    def completed(self, seen: Seen) -> Seen:
        """With what they say."""
        return replace(
            seen,
            incidents=[*seen.incidents, *self._incidents_at(seen.time)],
            certificates=self.certificates(seen.time),
            addresses={**self.addresses, **seen.addresses},
        )

    def _incidents_at(self, time: int) -> Iterable[Incident]:
        """As they were known then: those that had begun, and weren't over yet if they ended later."""
        for known in self._incidents.values():
            for one in known:
                if one.since > time:
                    continue
                yield one if one.over is None or one.over <= time else replace(one, over=None, recovered="")

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
