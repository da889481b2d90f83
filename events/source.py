"""Where events are read from: a journal folder or a Kafka topic, behind one protocol.

Counterparts: :class:`spnhub.events.reader.JournalSource`, ``spnhub.events.kafka.KafkaSource``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from spnhub.events.model import Recorded

__all__ = ["Source", "SourceError", "open_source"]


class SourceError(Exception):
    """A source can't be read; the message names it and says why."""


class Source(Protocol):
    """An async context manager. What can't be read when it is entered raises :class:`SourceError` or JournalError."""

    name: str
    """As the user would write it."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def records(self, *, follow: bool) -> AsyncIterator[tuple[bytes, Recorded]]:
        """Each event with its Confluent frame.

        Those of one hub come in the order of their sequence, redeliveries aside. Without ``follow`` it ends at what is
        there when it is asked, with it never.
        """
        ...


def open_source(text: str) -> Source:
    """The source that ``text`` names: ``kafka://host:port[,host:port]/topic``, else a journal folder.

    :raises SourceError: it names neither.
    """
    if text.startswith("kafka://"):
        return _kafka(text)
    if "://" in text:
        raise SourceError(f"source {text} is neither a journal folder nor kafka://host:port/topic")
    folder = Path(text)
    if not folder.is_dir():
        raise SourceError(f"source {text} is not a folder")
    from spnhub.events.reader import JournalSource  # noqa: PLC0415 - each kind of source loads what it needs

    return JournalSource(folder)


def _kafka(text: str) -> Source:
    parts = urlsplit(text)
    topic = parts.path.removeprefix("/")
    if not parts.netloc or not topic or "/" in topic or parts.query or parts.fragment:
        raise SourceError(f"source {text} is not of the form kafka://host:port/topic")
    from spnhub.events.kafka import KafkaSource  # noqa: PLC0415 - aiokafka takes a while to load

    source: Source = KafkaSource(text)
    return source
