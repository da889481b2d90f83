"""What a topic's settings do to events, and how a shipper talks of it."""

from __future__ import annotations

import pytest

from spnhub.events.kafka.settings import KafkaSettings, ShipperStatus
from spnhub.events.kafka.topic_settings import LOOKED_AT, topic_faults
from spnhub.events.shipper.status import Voice

SOUND = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "LogAppendTime",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "unclean.leader.election.enable": "false",
}


def asked(**settings: float) -> KafkaSettings:
    """What a topic would be made with."""
    return KafkaSettings(bootstrap_servers="x:1", **settings)  # type: ignore[arg-type] # numbers only


def test_a_sound_topic_has_no_faults() -> None:
    """All that is looked at."""
    assert tuple(SOUND) == LOOKED_AT
    assert topic_faults(SOUND, 3, asked(retention=604_800, min_insync=1, replication=3)) == ()


@pytest.mark.parametrize(
    ("setting", "value", "loses", "said"),
    [
        ("cleanup.policy", "compact", True, "cleanup.policy is compact: Kafka keeps only the last event of each key"),
        ("cleanup.policy", "compact,delete", True, "cleanup.policy is compact,delete: "),
        ("retention.ms", "7000", False, "retention.ms is 7000: events go after 7 s"),
        ("retention.ms", "0", False, "retention.ms is 0"),
        ("retention.bytes", "1000", False, "retention.bytes is 1000"),
        ("max.message.bytes", "1000", False, "max.message.bytes is 1000"),
        ("message.timestamp.type", "CreateTime", False, "message.timestamp.type is CreateTime"),
        ("min.insync.replicas", "2", False, "min.insync.replicas is 2 and a partition has 1"),
        ("unclean.leader.election.enable", "true", False, "unclean.leader.election.enable is true"),
    ],
)
def test_each_setting_that_does_harm(setting: str, value: str, loses: bool, said: str) -> None:
    """Named, with its value; only compaction takes away what was acknowledged, whatever comes."""
    (fault,) = topic_faults(SOUND | {setting: value}, 1)
    assert (fault.setting, fault.loses) == (setting, loses)
    assert fault.message.startswith(said)


def test_a_short_retention_that_was_asked_for_is_no_fault() -> None:
    """By --topic-retention; another than that is one."""
    assert topic_faults(SOUND | {"retention.ms": "60000"}, 1, asked(retention=60)) == ()
    (fault,) = topic_faults(SOUND, 1, asked(retention=60))
    assert fault.message == "retention.ms is 604800000, and 60000 was asked for: the topic was there before"


def test_settings_that_cannot_be_read_are_told() -> None:
    """Nobody knows then."""
    (fault,) = topic_faults(None, 1)
    assert "can't be read" in fault.message
    assert not fault.loses


def test_a_voice_says_each_news_once() -> None:
    """Another state or reason is news, another number isn't; how far it is goes with everything."""
    said: list[ShipperStatus] = []
    voice = Voice(said.append, lambda: (7, 3))
    voice.set_link("unreachable", "no acknowledgement for 4 s")
    voice.set_link("unreachable", "no acknowledgement for 5 s")
    voice.set_link("unreachable", "connection refused")
    voice.topic_faults = ("x",)
    voice.set_link("held", "x", lasting=True)
    voice.numbers()
    voice.say("refused", sequence=3, attempts=2)
    assert [(one.state, one.reason) for one in said] == [
        ("unreachable", "no acknowledgement for 4 s"),
        ("unreachable", "connection refused"),
        ("held", "x"),
        ("refused", ""),
    ]
    assert {(one.position, one.behind) for one in said} == {(7, 3)}
    assert [(one.lasting, one.topic_faults) for one in said[1:3]] == [(False, ()), (True, ("x",))]
    assert ShipperStatus.from_json(said[2].to_json()) == said[2]
