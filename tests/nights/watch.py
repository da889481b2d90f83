"""What an operator can look at, looked at all the time: what is said for the first time, and when."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx2

from tests.support.command import Command, Line, run

__all__ = ["Seen", "Watch"]

_BAD: Final = frozenset({"warning", "error", "critical"})
_PASSED: Final = frozenset({"timestamp", "event", "level", "logger", "eventType", "eventId"})
_POLL: Final = 0.02


@dataclass(slots=True)
class Seen:
    """What was said of one fault; seconds since it was made."""

    incident: str = ""
    incident_after: float | None = None
    """When ``spnlog incidents`` had printed it: the command's own start is part of it."""
    console: str = ""
    console_after: float | None = None
    logs: dict[str, tuple[float, str]] = field(default_factory=dict)
    """By program: the first line from level warning on."""

    def misses(self, kinds: Sequence[str], within: float) -> list[str]:
        """What did not say it in time, seconds; ``kinds`` empty: only the logs can."""
        found = [
            name
            for name, after in (("incidents", self.incident_after), ("console", self.console_after))
            if after is None or after > within
        ]
        if not kinds:
            found.clear()
        if not self.logs or min(after for after, _ in self.logs.values()) > within:
            found.append("logs")
        return found


class Watch:
    """See the module.

    :param sources: journals, or a hub's HTTP.
    :param console: where ``spnlog console`` answers.
    """

    def __init__(self, sources: Sequence[str], console: str) -> None:
        self._sources = tuple(sources)
        self._console = console
        self._known: set[str] = set()

    async def before(self) -> None:
        """Take note of what is there already: it is not this fault's."""
        self._known = {_name(one) for one in await self._incidents()}

    async def until_said(
        self, began: float, processes: Callable[[], Sequence[Command]], kinds: Sequence[str], seconds: float, after: int
    ) -> Seen:
        """Look until all three have said it, or so many seconds have passed.

        :param began: when the fault was made, by the monotonic clock.
        :param kinds: of incidents, one of which says that it is this fault; none: the journal has none.
        :param after: wall-clock time of that, microseconds since 1970: older lines are not this fault's.
        """
        seen = Seen()

        async def logs() -> None:
            while time.monotonic() - began < seconds:
                for process in processes():
                    lines = [line for line in process.lines if line.get("level") in _BAD and _time(line) >= after]
                    if lines and process.name not in seen.logs:
                        seen.logs[process.name] = time.monotonic() - began, _text(lines[0])
                told = bool(seen.incident and seen.console) or not kinds
                # Others may say it later.
                if seen.logs and told and time.monotonic() - began > min(seconds, 10.0):
                    return
                await asyncio.sleep(_POLL)

        async def incidents() -> None:
            while kinds and time.monotonic() - began < seconds:
                for one in await self._incidents():
                    if one["kind"] in kinds and _name(one) not in self._known:
                        seen.incident, seen.incident_after = _incident(one), time.monotonic() - began
                        return

        async def console() -> None:
            async with httpx2.AsyncClient(timeout=10) as client:
                while kinds and time.monotonic() - began < seconds:
                    page = (await client.get(f"{self._console}/page.json")).json()
                    for one in page["incidents"]["rows"]:
                        if one["kind"] in kinds and _name(one) not in self._known:
                            seen.console, seen.console_after = _incident(one), time.monotonic() - began
                            return
                    await asyncio.sleep(0.1)

        await asyncio.gather(logs(), incidents(), console())
        return seen

    async def _incidents(self) -> list[Line]:
        status, out, errors = await run("spnlog", "incidents", "--json", *self._sources)
        assert status == 0, errors
        found: list[Line] = json.loads(out)["incidents"]
        return found


def _time(line: Line) -> int:
    text = line.get("timestamp")
    return int(datetime.fromisoformat(str(text)).timestamp() * 1_000_000) if text else 0


def _name(one: Line) -> str:
    return f"{one['kind']} {one['who']} {one['since']}"


def _incident(one: Line) -> str:
    why = ": ".join(filter(None, (one.get("code"), one.get("reason"))))
    return f"{one['kind']}: {one['who']}" + (f": {why}" if why else "")


def _text(line: Line) -> str:
    fields: dict[str, Any] = {name: value for name, value in line.items() if name not in _PASSED}
    shown = ", ".join(
        f"{name}={value}" for name, value in fields.items() if name in ("reason", "code", "address", "uid")
    )
    return f"{line['level']} {line['event']}" + (f" ({shown})" if shown else "")
