"""The topic in Kafka: connecting, making sure that it is there and keeps events, and its metadata.

Counterparts: :mod:`spnhub.events.kafka.settings` (how to reach it), :mod:`spnhub.events.kafka.topic_settings` (what its
settings mean), :mod:`spnhub.events.shipper.loop` (writes), :mod:`spnhub.events.kafka.watch` (for those who read).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import BrokerResponseError, KafkaError, for_code
from aiokafka.helpers import create_ssl_context

from spnhub.dataclass import dataclass
from spnhub.events.kafka.metadata import TopicMetadataRequest
from spnhub.events.kafka.reasons import Complaints, is_lasting, reason_of
from spnhub.events.kafka.settings import KafkaSettings, KafkaSettingsError
from spnhub.events.kafka.topic_settings import LOOKED_AT, TopicFault, topic_faults

__all__ = [
    "Admin",
    "Described",
    "KafkaUnavailable",
    "TopicState",
    "client_arguments",
    "connected",
    "ensure_topic",
    "look_at_topic",
]

DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588
"""Bytes: Kafka's own default of ``max.message.bytes``, for topics whose settings we may not read."""

_TOPIC_EXISTS: Final = 36
_CONNECT_TIMEOUT: Final = 10.0
_SOON: Final = 0.05
"""Seconds between two looks for what is under way."""


class KafkaUnavailable(Exception):
    """Kafka can't be reached, or doesn't let us; the message says why. A retry can help."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting
        """Whether the error stays until settings are changed, here or at the broker."""


@dataclass(frozen=True, slots=True)
class Described:
    """What the metadata say of a topic."""

    cluster_id: str
    topic_id: str
    """``""``: of a broker before Kafka 2.8, which gives none."""
    partitions: tuple[int, ...]
    replicas: int
    """Copies of the partition that has the fewest."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now."""

    cluster_id: str
    topic_id: str
    partitions: tuple[int, ...]
    max_message_bytes: int
    ends: dict[int, int]
    """Offset behind the last record, by partition; empty where they weren't asked for."""
    faults: tuple[TopicFault, ...]
    """Of its settings."""


def client_arguments(settings: KafkaSettings) -> dict[str, Any]:
    """What each of aiokafka's clients takes to get in.

    :raises KafkaSettingsError: a certificate or key file that can't be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "client_id": "spnhub",
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        try:
            arguments["ssl_context"] = create_ssl_context(
                cafile=settings.ssl_cafile,
                capath=settings.ssl_capath,
                certfile=settings.ssl_certfile,
                keyfile=settings.ssl_keyfile,
                password=settings.ssl_password,
            )
        except (OSError, ssl.SSLError) as exc:
            raise KafkaSettingsError(f"the TLS files for Kafka cannot be used: {exc}") from exc
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism or "PLAIN"
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.sasl_password
    return arguments


async def ensure_topic(settings: KafkaSettings) -> TopicState:
    """Create the topic unless it is there, and say what it looks like.

    It is created with LogAppendTime: with the other kind a journal that is shipped late would be deleted at once, since
    its records look old (D-12). And so that it deletes by age, whatever the broker's default is: one that compacts
    keeps the last event of each key only.

    :raises KafkaUnavailable: not reached, or not allowed.
    """
    async with connected(settings) as admin:
        described = await admin.described(settings.topic)
        if described is None:
            await _create(admin, settings)
            described = await admin.made(settings.topic)
        ends = await _ends(settings, described.partitions)
        return await _state(admin, settings, described, ends)


async def look_at_topic(settings: KafkaSettings) -> TopicState | None:
    """What the topic looks like, but for its ends; None: there is no such topic.

    :raises KafkaUnavailable: not reached, or not allowed.
    """
    async with connected(settings) as admin:
        described = await admin.described(settings.topic)
        return None if described is None else await _state(admin, settings, described, {})


@asynccontextmanager
async def connected(settings: KafkaSettings, *, within: float | None = 2 * _CONNECT_TIMEOUT) -> AsyncIterator[Admin]:
    """A client, for so many seconds at most.

    :raises KafkaUnavailable: whatever went wrong with Kafka, in words.
    """
    complaints = Complaints()
    admin = Admin(request_timeout_ms=int(_CONNECT_TIMEOUT * 1000), **client_arguments(settings))
    servers = settings.bootstrap_servers
    try:
        async with asyncio.timeout(within):
            await admin.start()
            yield admin
    except (TimeoutError, KafkaError, OSError) as exc:
        if complaints.text and not isinstance(exc, BrokerResponseError):
            raise KafkaUnavailable(f"cannot connect to {complaints.text}", lasting=complaints.lasting) from exc
        reason = "no answer" if isinstance(exc, TimeoutError) else reason_of(exc)
        raise KafkaUnavailable(f"{servers}: {reason}", lasting=is_lasting(exc)) from exc
    finally:
        complaints.remove()
        with suppress(KafkaError, OSError):
            await admin.close()


class Admin(AIOKafkaAdminClient):  # type: ignore[misc] # untyped
    """Knows topics by their ids, too."""

    async def described(self, topic: str) -> Described | None:
        """The topic, if all of its partitions have a leader; None: there is none."""
        while True:
            answer = await self._send_request(TopicMetadataRequest(topic))
            (found,) = answer.to_object()["topics"]
            error = for_code(found["error_code"])
            if found["error_code"] and error.__name__ == "UnknownTopicOrPartitionError":
                return None
            if found["error_code"] and not error.retriable:
                raise error(topic)
            partitions = found["partitions"]
            if not found["error_code"] and partitions and all(each["leader"] >= 0 for each in partitions):
                return Described(
                    cluster_id=str(answer.cluster_id or ""),
                    topic_id=str(found.get("topic_id") or ""),
                    partitions=tuple(sorted(each["partition"] for each in partitions)),
                    replicas=min(len(each["replicas"]) for each in partitions),
                )
            await asyncio.sleep(_SOON)  # no leader yet; the caller bounds the whole

    async def made(self, topic: str) -> Described:
        """The same of one that was created and may not be known yet to the broker that is asked."""
        while True:
            found = await self.described(topic)
            if found is not None:
                return found
            await asyncio.sleep(_SOON)

    async def settings_of(self, topic: str) -> dict[str, str] | None:
        """Those that matter to events; None: we may not read them."""
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict.fromkeys(LOOKED_AT, ""))
        for answer in await self.describe_configs([wanted]):
            for code, _, _, _, entries, *_ in answer.resources:
                if code == 0:
                    return {entry[0]: entry[1] for entry in entries}
        return None


async def _state(admin: Admin, settings: KafkaSettings, described: Described, ends: dict[int, int]) -> TopicState:
    configs = await admin.settings_of(settings.topic)
    limit = (configs or {}).get("max.message.bytes")
    return TopicState(
        cluster_id=described.cluster_id,
        topic_id=described.topic_id,
        partitions=described.partitions,
        max_message_bytes=DEFAULT_MAX_MESSAGE_BYTES if limit is None else int(limit),
        ends=ends,
        faults=topic_faults(configs, described.replicas, settings),
    )


async def _create(admin: Admin, settings: KafkaSettings) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    topic = NewTopic(
        settings.topic,
        num_partitions=settings.partitions,
        replication_factor=settings.replication or max(1, min(3, brokers)),
        topic_configs=_topic_configs(settings),
    )
    answer = await admin.create_topics([topic])
    for name, code, *message in answer.topic_errors:
        if code not in {0, _TOPIC_EXISTS}:
            reason = (message or [""])[0] or for_code(code).__name__
            raise KafkaUnavailable(f"topic {name} cannot be created: {reason}", lasting=not for_code(code).retriable)


def _topic_configs(settings: KafkaSettings) -> dict[str, str]:
    configs = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    if settings.min_insync is not None:
        configs["min.insync.replicas"] = str(settings.min_insync)
    if settings.retention is not None:
        configs["retention.ms"] = str(max(-1, round(settings.retention * 1000)))
    return configs


async def _ends(settings: KafkaSettings, partitions: tuple[int, ...]) -> dict[int, int]:
    consumer = AIOKafkaConsumer(request_timeout_ms=int(_CONNECT_TIMEOUT * 1000), **client_arguments(settings))
    try:
        await consumer.start()
        ends = await consumer.end_offsets([TopicPartition(settings.topic, number) for number in partitions])
    finally:
        await consumer.stop()
    return {place.partition: offset for place, offset in ends.items()}
