"""What a topic's settings do to events: which lose them, which refuse them, and which aren't those that were asked for.

No I/O. Counterparts: :mod:`spnhub.events.kafka.topic` reads the settings, :mod:`spnhub.events.shipper.loop` and
:mod:`spnhub.events.analysis.verify` draw the consequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events.kafka.settings import KafkaSettings

__all__ = ["LOOKED_AT", "TopicFault", "topic_faults"]

LOOKED_AT: Final = (
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
)

_LEAST_RETENTION: Final = 3_600_000
"""Milliseconds.

A retention below an hour is more likely a wrong unit than a wish; asked for by an option, it is right.
"""
_LEAST_BYTES: Final = 16 << 20
_LEAST_MESSAGE: Final = 64 << 10
"""Bytes: few events are larger than some hundred, but an inventory's rejection lists its faults."""


@dataclass(frozen=True, slots=True)
class TopicFault:
    """A setting of a topic that does harm to events."""

    setting: str
    """Kafka's name of it."""
    message: str
    """One line that names it."""
    loses: bool = False
    """It takes away what Kafka has acknowledged, whatever comes: nothing is shipped into such a topic."""


def topic_faults(
    settings: Mapping[str, str] | None, replicas: int, asked: KafkaSettings | None = None
) -> tuple[TopicFault, ...]:
    """Everything that is wrong with a topic.

    :param settings: those of :data:`LOOKED_AT`; None: they can't be read.
    :param replicas: copies of its partitions.
    :param asked: what a topic would be made with.
    """
    if settings is None:
        return (TopicFault("cleanup.policy", "the topic's settings can't be read; it may not keep events"),)
    return (*_harmful(settings, replicas, asked), *_other_than_asked(settings, replicas, asked))


def _harmful(settings: Mapping[str, str], replicas: int, asked: KafkaSettings | None) -> Iterator[TopicFault]:
    policy = settings.get("cleanup.policy", "")
    if "compact" in policy:
        message = f"cleanup.policy is {policy}: Kafka keeps only the last event of each key; it has to be delete"
        yield TopicFault("cleanup.policy", message, loses=True)
    retention = _number(settings, "retention.ms")
    if 0 <= retention < _LEAST_RETENTION and retention != _milliseconds(asked):
        yield TopicFault("retention.ms", f"retention.ms is {retention}: events go after {retention / 1000:g} s")
    size = _number(settings, "retention.bytes")
    if 0 <= size < _LEAST_BYTES:
        yield TopicFault("retention.bytes", f"retention.bytes is {size}: a partition keeps only its last events")
    largest = _number(settings, "max.message.bytes")
    if 0 <= largest < _LEAST_MESSAGE:
        message = f"max.message.bytes is {largest}: events that are larger are refused, and declared as lost"
        yield TopicFault("max.message.bytes", message)
    if settings.get("message.timestamp.type") == "CreateTime":
        message = "message.timestamp.type is CreateTime: by a wrong clock at the hub Kafka refuses or deletes events"
        yield TopicFault("message.timestamp.type", message)
    copies = _number(settings, "min.insync.replicas")
    if replicas and copies > replicas:
        message = f"min.insync.replicas is {copies} and a partition has {replicas}: Kafka may refuse every event"
        yield TopicFault("min.insync.replicas", message)
    if settings.get("unclean.leader.election.enable") == "true":
        message = "unclean.leader.election.enable is true: when brokers fail, acknowledged events may be lost"
        yield TopicFault("unclean.leader.election.enable", message)


def _other_than_asked(settings: Mapping[str, str], replicas: int, asked: KafkaSettings | None) -> Iterator[TopicFault]:
    """Options that count for a topic that is made, and this one was there before."""
    if asked is None:
        return
    wanted = (
        ("retention.ms", _milliseconds(asked), _number(settings, "retention.ms")),
        ("min.insync.replicas", asked.min_insync, _number(settings, "min.insync.replicas")),
        ("replication factor", asked.replication, replicas),
    )
    for setting, wish, is_so in wanted:
        if wish is not None and wish != is_so:
            message = f"{setting} is {is_so}, and {wish} was asked for: the topic was there before"
            yield TopicFault(setting, message)


def _milliseconds(asked: KafkaSettings | None) -> int | None:
    return None if asked is None or asked.retention is None else max(-1, round(asked.retention * 1000))


def _number(settings: Mapping[str, str], name: str) -> int:
    try:
        return int(settings[name])
    except (KeyError, ValueError):
        return -1
