"""Draws the state diagrams of ``transport/STATES.md`` from the tables.

Run ``python -m tests.transport.endpoint.diagrams``.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from spnhub.transport.endpoint.connection.states import CONNECTION_TABLE, ConnectionState
from spnhub.transport.endpoint.kernel.state_machine import Arrow
from spnhub.transport.endpoint.session.states import SESSION_TABLE, SessionState

__all__ = ["DOCUMENT", "arrows", "draw"]

DOCUMENT: Final = Path(__file__).parents[3] / "transport" / "STATES.md"

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


def _diagram(table: Mapping[tuple[S, E], Arrow[S]], start: S) -> str:
    """Mermaid; arrows of ours are marked with ``*``, those between the same states share a line."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (state, event), arrow in table.items():
        label = f"{event.value} *" if arrow.ours else event.value
        labels.setdefault((state.value, arrow.to.value), []).append(label.replace(":", ""))
    left = {state for state, _ in table}
    final = [state for state in type(start) if state not in left]
    lines = [
        "stateDiagram-v2",
        f"    [*] --> {start.value}",
        *(f"    {one} --> {other}: {' / '.join(events)}" for (one, other), events in labels.items()),
        *(f"    {state.value} --> [*]" for state in final),
    ]
    return "\n".join(["```mermaid", *lines, "```"])


def arrows(table: Mapping[tuple[S, E], Arrow[S]]) -> list[str]:
    """The table as lines of a diagram, ours marked."""
    return [
        f"{state.value} -> {arrow.to.value}: {event.value}{' (ours)' if arrow.ours else ''}"
        for (state, event), arrow in table.items()
    ]


def draw(text: str) -> str:
    """``text`` with its two diagrams as the tables have them now."""
    for name, diagram in (
        ("session", _diagram(SESSION_TABLE, SessionState.IP_FOUND)),
        ("connection", _diagram(CONNECTION_TABLE, ConnectionState.LOOKING_UP_SESSION)),
    ):
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{diagram}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(draw(DOCUMENT.read_text()))
