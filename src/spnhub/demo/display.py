"""What the person sees: steps, events as they happen, results. Colours on a terminal, the same lines in a pipe."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from spnhub.events.analysis.log_lines import format_time
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionStarted,
    EndPointType,
    Recorded,
    SessionEnded,
    SessionRefused,
    SessionStarted,
)
from spnhub.plain_text import printable

__all__ = ["Display", "describe"]

_COLOURS = {
    "startSpnSession": "green",
    "endSpnSession": "yellow",
    "startSpnConnection": "cyan",
    "endSpnConnection": "blue",
}
_SERVICE_URN = re.compile(r"urn:chip-in:service:\S*:(\S+)")
_ROLES = {EndPointType.PROVIDER: "provides", EndPointType.CONSUMER: "uses"}


class Display:
    """Prints to standard output."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._step = 0
        self._names: dict[str, str] = {}
        """Who is behind a session id."""

    def text(self, text: str = "") -> None:
        """A line as it is."""
        self._console.print(text)

    def step(self, headline: str, why: str) -> None:
        """What comes next, and why it matters."""
        self._step += 1
        self._console.print()
        self._console.print(Text(f"{self._step}. {headline}", "bold"))
        self._console.print(f"   {why}")

    def note(self, text: str) -> None:
        """A result."""
        self._console.print(f"     {text}")

    def good(self, text: str) -> None:
        """A result that was checked."""
        self._console.print(Text.assemble("     ", ("ok ", "bold green"), text))

    def failure(self, text: str) -> None:
        """What was not as it should be."""
        self._console.print()
        self._console.print(Text(f"The demo failed: {printable(text)}", "bold red"))

    def end(self, text: str) -> None:
        """The last word."""
        self._console.print()
        self._console.print(Text(text, "bold green"))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Columns; the first row names them, and all but the first column are set to the right."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            self._console.print(Text("     " + "   ".join(cells), "bold" if number == 0 else ""))

    def event(self, recorded: Recorded) -> None:
        """An event that has just been written to the journal."""
        event = recorded.event
        if isinstance(event, SessionStarted):
            self._names[event.spn_session_id] = event.spn_end_point
        kind = event.event_type
        self._console.print(
            Text.assemble(
                (f"     | {format_time(recorded.timestamp)[11:23]} #{recorded.sequence:<2} ", "dim"),
                (f"{kind:<18} ", _COLOURS.get(kind, "red")),
                printable(describe(recorded, self._names)),
            )
        )


def describe(recorded: Recorded, names: dict[str, str]) -> str:
    """An event in a few words. ``names``: the endpoint's subject by session id."""
    event = recorded.event
    match event:
        case SessionStarted():
            return f"{event.spn_end_point} {_ROLES[event.end_point_type]} {_short(event.service_urn)}"
        case SessionEnded():
            count = event.total_connection_count
            return f"{event.spn_end_point}: {event.terminate_reason}, {count} connection{'' if count == 1 else 's'}"
        case ConnectionStarted():
            consumer = names.get(event.consumer_side_spn_session_id, "?")
            return f"{event.spn_connection_id}: {consumer} -> {names.get(event.provider_side_spn_session_id, '?')}"
        case ConnectionEnded():
            sent, received = f"{event.total_sent_bytes:,}", f"{event.total_receive_bytes:,}"
            return f"{event.spn_connection_id}: {event.disconnect_reason}, {sent} bytes sent, {received} received"
        case SessionRefused():
            who = event.spn_end_point or event.remote_address
            what = f"TLS alert {event.alert}" if event.alert is not None else f"code {event.code}"
            again = f" ({event.count} times)" if event.count > 1 else ""
            return f"{who}: {what}, {_short(event.reason)}{again}"
        case _:
            return str(getattr(event, "reason", ""))


def _short(text: str) -> str:
    """``text`` with services called by their names alone."""
    return _SERVICE_URN.sub(r"\1", text)
