"""The status reports of a shipper: each change once, numbers at most once a second.

Counterparts: :mod:`spnhub.events.shipper.loop`, which calls it; :class:`ShipperStatus`, a report.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from spnhub.events.kafka.settings import ShipperStatus

__all__ = ["Voice"]

_INTERVAL: Final = 1.0
"""Seconds between two reports of numbers."""
_UP: Final = ("", "connected")
"""States of the link in which nothing is wrong with it."""


class Voice:
    """Says how the link to Kafka is, and what happens beside.

    :param report: gets each status.
    :param progress: the position, and how many events are behind it.
    """

    def __init__(self, report: Callable[[ShipperStatus], None], progress: Callable[[], tuple[int, int]]) -> None:
        self._report = report
        self._progress = progress
        self._link = ("", "")
        """State, and its reason without the numbers in it."""
        self._numbers = (-1, 0)
        self._said_at = 0.0
        self.topic_faults: tuple[str, ...] = ()
        """Of the topic's settings; they go with every status."""

    @property
    def link(self) -> str:
        """The last state of the link that was said; ``""``: none was."""
        return self._link[0]

    def set_link(self, state: str, reason: str, *, lasting: bool = False) -> None:
        """Say it if it is news: another state, or another reason. Another number in a reason is none."""
        link = state, re.sub(r"\d+", "", reason)
        if link != self._link:
            self._link = link
            self.say(state, reason=reason, lasting=lasting)

    def numbers(self) -> None:
        """Say how far it is, if that is news and was not said just now.

        While the link is down only an acknowledgement is: that more events wait doesn't mean that Kafka takes them.
        """
        progress = self._progress()
        news = progress != self._numbers and (self._link[0] in _UP or progress[0] != self._numbers[0])
        if news and time.monotonic() - self._said_at >= _INTERVAL:
            self.say("shipped")

    def say(
        self, state: str, *, reason: str = "", sequence: int | None = None, attempts: int = 0, lasting: bool = False
    ) -> None:
        """Say this."""
        self._numbers = position, behind = self._progress()
        self._said_at = time.monotonic()
        self._report(
            ShipperStatus(
                state=state,
                position=position,
                behind=behind,
                sequence=sequence,
                attempts=attempts,
                reason=reason,
                lasting=lasting,
                topic_faults=self.topic_faults,
            )
        )
