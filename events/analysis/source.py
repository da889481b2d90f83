"""The source of events that a user names: a journal folder or a Kafka topic (:class:`spnhub.events.source.Source`)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from spnhub.events.analysis.concerning_source import ConcerningSource
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.journal.reader import JournalPart, JournalSource
from spnhub.events.source import Source, SourceError
from spnhub.extras import MissingExtra, check_extra

__all__ = ["open_source"]


def open_source(text: str, *, part: JournalPart | None = None, incidents_of: JournalIndex | None = None) -> Source:
    """The source that ``text`` names: ``kafka://host:port[,host:port]/topic``, else a journal folder.

    :param part: what is read of it, if it is a journal.
    :param incidents_of: the journal's index: only what concerns incidents is read, as far as it goes.
    :raises SourceError: it names neither, or what reads it isn't installed.
    """
    if text.startswith("kafka://"):
        return _kafka(text)
    if "://" in text:
        raise SourceError(f"source {text} is neither a journal folder nor kafka://host:port/topic")
    folder = Path(text)
    if not folder.is_dir():
        raise SourceError(f"source {text} is not a folder")
    return JournalSource(folder, part=part) if incidents_of is None else ConcerningSource(incidents_of)


def _kafka(text: str) -> Source:
    parts = urlsplit(text)
    topic = parts.path.removeprefix("/")
    if not parts.netloc or not topic or "/" in topic or parts.query or parts.fragment:
        raise SourceError(f"source {text} is not of the form kafka://host:port/topic")
    try:
        check_extra("kafka")
    except MissingExtra as exc:
        raise SourceError(f"source {text}: {exc}") from exc
    from spnhub.events.kafka.source import KafkaSource  # noqa: PLC0415 - aiokafka takes a while to load

    source: Source = KafkaSource(text)
    return source
