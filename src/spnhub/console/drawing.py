"""Pictures as SVG: what flowed over time, and a story's legs over all hubs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import htpy as h

from spnhub.console.story import Picture
from spnhub.console.text import clock
from spnhub.events.analysis.index_making import MINUTE
from spnhub.events.analysis.narrative import bytes_text, seconds_text
from spnhub.events.analysis.segment_index import MinuteFlow
from spnhub.plain_text import printable

__all__ = ["drawn", "timeline"]

_BINS: Final = 240
_WIDE: Final = 1000
_LANE: Final = 54
_LEFT: Final = 120
_TOP: Final = 26
_LEGS: Final = 300
"""That are drawn."""


def timeline(flow: Iterable[MinuteFlow], first: int, last: int) -> h.Node:
    """Connections that were opened, and ends by an error, over the time of the slider."""
    span = max(1, last - first)
    opened, failures = [0] * _BINS, [0] * _BINS
    for one in flow:
        # In the middle of its minute; the first begins before the log.
        at = min(_BINS - 1, max(0, (one.minute + MINUTE // 2 - first) * _BINS // span))
        opened[at] += one.opened
        failures[at] += one.failed
    most = max(*opened, 1)
    spoken = f"Connections over time: {sum(opened):,} opened, {sum(failures):,} failed"
    return h.svg(viewBox=f"0 0 {_BINS} 40", preserveAspectRatio="none", role="img", aria_label=spoken)[
        (_bar("flow", at, number, most) for at, number in enumerate(opened) if number),
        (_bar("failures", at, number, most) for at, number in enumerate(failures) if number),
    ]


def _bar(kind: str, at: int, number: int, most: int) -> h.Node:
    height = max(1.0, 40 * number / most)
    return h.rect(class_=kind, x=str(at), y=f"{40 - height:.1f}", width="0.9", height=f"{height:.1f}")


def drawn(of: Picture) -> h.Node:
    """Lanes of hubs, legs on them, gaps between legs, and signs."""
    span = max(1, of.over - of.begun)
    lanes = {hub: place for place, hub in enumerate(of.hubs)}
    height = _TOP + _LANE * max(1, len(lanes)) + 24

    def x(time: int) -> float:
        return _LEFT + (_WIDE - _LEFT - 12) * min(1.0, max(0.0, (time - of.begun) / span))

    def y(hub: str) -> int:
        return _TOP + _LANE * lanes.get(hub, 0) + 14

    name = f"{len(of.legs)} legs on {len(lanes)} hubs in {seconds_text(span / 1_000_000)}"
    return h.svg(viewBox=f"0 0 {_WIDE} {height}", role="img", aria_label=name)[
        (
            [
                h.text(x="4", y=str(y(hub) + 18))[printable(hub)[:16]],
                h.line(class_="lane", x1=str(_LEFT), x2=str(_WIDE), y1=str(y(hub) + 14), y2=str(y(hub) + 14)),
            ]
            for hub in of.hubs
        ),
        (
            h.path(
                class_="pause",
                d=f"M{x(one.start):.1f} {y(one.from_hub) + 14} L{x(one.end):.1f} {y(one.to_hub) + 14}",
            )[h.title[printable(f"still for {seconds_text(max(0, one.end - one.start) / 1_000_000)}: {one.reason}")]]
            for one in of.pauses[:_LEGS]
        ),
        (
            [
                h.rect(
                    class_=f"leg {leg.condition}",
                    x=f"{x(leg.start):.1f}",
                    y=str(y(leg.hub_id)),
                    width=f"{max(3.0, x(of.over if leg.end is None else leg.end) - x(leg.start)):.1f}",
                    height="28",
                    rx="3",
                )[
                    h.title[
                        printable(
                            f"leg {leg.epoch} on {leg.hub_id}, {leg.consumer} to {leg.provider}: from"
                            f" {bytes_text(leg.start_sent)} and {bytes_text(leg.start_received)} back, it passed on"
                            f" {bytes_text(leg.sent)} and {bytes_text(leg.received)} back; {leg.how}"
                        )
                    ]
                ],
                h.text(x=f"{x(leg.start) + 4:.1f}", y=str(y(leg.hub_id) - 3))[f"{leg.epoch}"],
            ]
            for leg in of.legs[:_LEGS]
        ),
        (
            h.circle(class_=f"sign {sign.kind}", cx=f"{x(sign.time):.1f}", cy=str(y(sign.hub_id) + 14), r="6")[
                h.title[printable(sign.text)]
            ]
            for sign in of.signs[:_LEGS]
        ),
        h.text(x=str(_LEFT), y=str(height - 6))[clock(of.begun)],
        h.text(x=str(_WIDE - 4), y=str(height - 6), text_anchor="end")[clock(of.over)],
    ]
