"""Faults of our own code: exceptions where none should be. Each is counted, and logged with its traceback.

A fault that comes back with every packet must not fill the log: each place gets one line a second, with the number of
faults since the last line. Counterparts: the command lines make one of these for their process and their event loop;
code that catches a fault ends what it was about (a connection, say), and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from spnhub.transport.log import get_logger

__all__ = ["Faults", "Throttle", "report_to_loop"]

_log = get_logger()

_INTERVAL: Final = 1.0
"""Seconds from one line about a place to the next."""
_PLACES: Final = 256
"""The most places that are counted separately; further ones share the last."""

_SHOWN: Final = 200
"""Characters of a message."""

_Place = tuple[str, str, str, int]


class Throttle:
    """Lets one pass in a while, and counts the others: for log lines about what may happen with every packet."""

    __slots__ = ("_due", "_held_back")

    def __init__(self) -> None:
        self._due: float | None = None
        self._held_back = 0

    def admit(self, now: float) -> int | None:
        """How many didn't pass since the last that did, which this one, that passes, speaks for; None: it doesn't."""
        if self._due is not None and now < self._due:
            self._held_back += 1
            return None
        self._due = now + _INTERVAL
        held_back, self._held_back = self._held_back, 0
        return held_back


class Faults:
    """Those of one process. May be used in any thread; what is counted is never a decision's ground.

    :param clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._places: dict[_Place, Throttle] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many there were, by where they were caught."""
        return dict(self._counts)

    def report(self, where: str, fault: BaseException, **fields: object) -> None:
        """Count a fault, and log it.

        :param where: what it was caught in, one of a few fixed words: a metric's label.
        :param fields: of the log line: what it was about.
        """
        self._counts[where] += 1
        self._log_fault(_place(where, fault), {"where": where, **fields, "exc_info": fault})

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception handler for :meth:`asyncio.loop.set_exception_handler`."""
        del loop
        message, fault = str(context.get("message", "")).partition("\n")[0][:_SHOWN], context.get("exception")
        if isinstance(fault, BaseException):
            self.report("loop", fault, message=message)
            return
        self._counts["loop"] += 1
        self._log_fault(("loop", message, "", 0), {"where": "loop", "message": message})

    def _log_fault(self, place: _Place, fields: dict[str, object]) -> None:
        if place not in self._places and len(self._places) >= _PLACES:
            place = ("", "", "", 0)
        repeated = self._places.setdefault(place, Throttle()).admit(self._clock())
        if repeated is not None:
            _log.error("fault", **fields, **({"repeated": repeated} if repeated else {}))


def report_to_loop(loop: asyncio.AbstractEventLoop, message: str, fault: BaseException) -> None:
    """Tell the loop's exception handler of a fault that was dealt with: that of a command is a :class:`Faults`."""
    loop.call_exception_handler({"message": message, "exception": fault})


def _place(where: str, fault: BaseException) -> _Place:
    trace = fault.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return where, type(fault).__name__, "", 0
    return where, type(fault).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
