"""What events are read from: one protocol for a journal folder and a Kafka topic.

Counterparts: :class:`spnhub.events.journal.reader.JournalSource`, :class:`spnhub.events.kafka.source.KafkaSource`;
:mod:`spnhub.events.analysis.source` opens the one that a text names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self

from spnhub.events.model import Recorded

__all__ = ["Source", "SourceError"]


class SourceError(Exception):
    """A source can't be read; the message names it and says why."""


class Source(Protocol):
    """An async context manager. What can't be read when it is entered raises :class:`SourceError` or JournalError."""

    name: str
    """As the user writes it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def records(self, *, follow: bool) -> AsyncIterator[tuple[bytes, Recorded]]:
        """Each event with its Confluent frame.

        Those of one hub come in the order of their sequence, redeliveries aside. Without ``follow`` it ends with the
        last event that is there when it begins; with it, never.
        """
        ...
