"""One parser under random bytes: it raises nothing but what it documents, within bounds of time and memory."""

from __future__ import annotations

import base64
import functools
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

__all__ = ["CPU_LIMIT", "GROWTH_LIMIT", "BoundError", "Harness"]

CPU_LIMIT: Final = 5.0
"""Seconds of CPU time for one input: a hundred times what the slowest takes."""
GROWTH_LIMIT: Final = 256
"""MiB by which one input may raise the most memory that the process ever had."""

_CORPUS: Final = Path(__file__).parent / "corpus"


class BoundError(BaseException):
    """An input took longer, or more memory, than an input may. No Exception: nothing catches it."""


@dataclass(frozen=True)
class Harness:
    """A row of :mod:`tests.fuzz.table`."""

    name: str
    takes: str
    """What it takes, and whose."""
    run: Callable[[bytes], object]
    """Takes an input; raises AssertionError where a promise is broken."""
    seeds: Callable[[], list[bytes]]
    """Good inputs, to be changed."""
    allowed: tuple[type[Exception], ...] = ()
    """What the parser says that it raises."""
    words: tuple[bytes, ...] = ()
    """What is worth putting into an input."""
    slice: int = 150
    """Changed inputs that every run of the tests takes: some tenths of a second."""

    @functools.cached_property
    def corpus(self) -> list[bytes]:
        """Good inputs, and those that were kept."""
        kept = sorted((_CORPUS / self.name).glob("*"))
        return [*self.seeds(), *(path.read_bytes() for path in kept)]

    def take(self, data: bytes) -> bool:
        """Run one input; whether the parser took it.

        :raises BoundError: it costs too much.
        :raises Exception: anything that isn't allowed.
        """
        with _bounded():
            try:
                self.run(data)
            except self.allowed:
                return False
            except BaseException as exc:
                # Seeds hold keys and certificates that each run makes: what failed is to be had from what it prints.
                exc.add_note(f"the input, in base64: {base64.b64encode(data).decode()}")
                raise
        return True


@contextmanager
def _bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGVTALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if grown > GROWTH_LIMIT:
        raise BoundError(f"one input took {grown:.0f} MiB")


def _out_of_time(_: int, frame: FrameType | None) -> None:
    raise BoundError(f"one input took {CPU_LIMIT:g} s of CPU time")
