"""The topic in Kafka: connecting, making sure that it is there, and what is known about it.

Counterparts: :mod:`spnhub.events.kafka_settings` (how to reach it), :mod:`spnhub.events.shipper_loop` (writes),
:mod:`spnhub.events.kafka` (reads). Only these modules know aiokafka.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from aiokafka.helpers import create_ssl_context

from spnhub.events.kafka_settings import KafkaSettings, KafkaSettingsError

__all__ = [
    "KafkaUnavailable",
    "LastWarning",
    "TopicState",
    "client_arguments",
    "ensure_topic",
    "reason_of",
    "topic_partitions",
]

DEFAULT_MAX_MESSAGE_BYTES: Final = 1_048_588
"""Kafka's own default of ``max.message.bytes``, for topics whose settings we may not read."""

_TOPIC_EXISTS: Final = 36
_CONNECT_TIMEOUT: Final = 10.0


class KafkaUnavailable(Exception):
    """Kafka can't be reached, or doesn't let us; the message says why. A retry can help."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is now."""

    cluster_id: str
    partitions: tuple[int, ...]
    max_message_bytes: int
    ends: dict[int, int]
    """Offset behind the last record, by partition."""


class LastWarning(logging.Handler):
    """Remembers aiokafka's last complaint: while it retries by itself, the log is the only place that says why."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        self._logger = logging.getLogger("aiokafka")
        self._logger.addHandler(self)
        self._logger.propagate = False

    def remove(self) -> None:
        """Let the log go where it went."""
        self._logger.removeHandler(self)
        self._logger.propagate = not self._logger.handlers

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.text = record.getMessage()


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
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.sasl_password
    return arguments


def reason_of(exc: BaseException) -> str:
    """An exception as one short line for people; aiokafka's are often without text."""
    text = str(exc).strip().replace("\n", " ")
    return text if text and text != type(exc).__name__ else type(exc).__name__


async def ensure_topic(settings: KafkaSettings) -> TopicState:
    """Create the topic unless it is there, and say what it looks like.

    It is created with LogAppendTime: with the other kind a journal that is shipped late would be deleted at once, since
    its records look old (D-12).

    :raises KafkaUnavailable: not reached, or not allowed.
    """
    async with _admin(settings) as admin:
        cluster = await admin.describe_cluster()
        partitions = await _partitions(admin, settings.topic)
        if not partitions:
            partitions = await _create(admin, settings, len(cluster["brokers"]))
        limit = await _max_message_bytes(admin, settings.topic)
        ends = await _ends(settings, partitions)
    return TopicState(str(cluster.get("cluster_id") or ""), partitions, limit, ends)


async def topic_partitions(settings: KafkaSettings) -> tuple[int, ...]:
    """The topic's partitions; none: there is no such topic.

    :raises KafkaUnavailable: not reached, or not allowed.
    """
    async with _admin(settings) as admin:
        return await _partitions(admin, settings.topic)


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for a bounded time.

    :raises KafkaUnavailable: whatever went wrong with Kafka, in words.
    """
    admin = AIOKafkaAdminClient(request_timeout_ms=int(_CONNECT_TIMEOUT * 1000), **client_arguments(settings))
    try:
        async with asyncio.timeout(2 * _CONNECT_TIMEOUT):
            await admin.start()
            yield admin
    except TimeoutError:
        raise KafkaUnavailable(f"{settings.bootstrap_servers} does not answer") from None
    except KafkaConnectionError as exc:
        raise KafkaUnavailable(f"cannot connect to {settings.bootstrap_servers}") from exc
    except (KafkaError, OSError) as exc:
        raise KafkaUnavailable(reason_of(exc)) from exc
    finally:
        with suppress(KafkaError, OSError):
            await admin.close()


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> tuple[int, ...]:
    """Of a topic all of whose partitions have a leader; none: there is no such topic."""
    while True:
        (described,) = await admin.describe_topics([topic])
        error = for_code(described["error_code"])
        partitions = tuple(sorted(entry["partition"] for entry in described["partitions"]))
        if described["error_code"] and error.__name__ == "UnknownTopicOrPartitionError":
            return ()
        if described["error_code"] and not error.retriable:
            raise error(topic)
        if not described["error_code"] and partitions and all(e["leader"] >= 0 for e in described["partitions"]):
            return partitions
        await asyncio.sleep(0.05)  # no leader yet; the caller bounds the whole


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, brokers: int) -> tuple[int, ...]:
    topic = NewTopic(
        settings.topic,
        num_partitions=settings.partitions,
        replication_factor=settings.replication or max(1, min(3, brokers)),
        topic_configs=_topic_configs(settings),
    )
    answer = await admin.create_topics([topic])
    for name, code, *message in answer.topic_errors:
        if code not in {0, _TOPIC_EXISTS}:
            raise KafkaUnavailable(f"topic {name} cannot be created: {(message or [''])[0] or for_code(code).__name__}")
    while True:
        partitions = await _partitions(admin, settings.topic)
        if partitions:
            return partitions
        await asyncio.sleep(0.05)  # created, and not yet known to the broker that we ask; the caller bounds the whole


def _topic_configs(settings: KafkaSettings) -> dict[str, str]:
    configs = {"message.timestamp.type": "LogAppendTime"}
    if settings.min_insync is not None:
        configs["min.insync.replicas"] = str(settings.min_insync)
    if settings.retention is not None:
        configs["retention.ms"] = str(max(-1, round(settings.retention * 1000)))
    return configs


async def _max_message_bytes(admin: AIOKafkaAdminClient, topic: str) -> int:
    wanted = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": ""})
    for answer in await admin.describe_configs([wanted]):
        for code, _, _, _, entries, *_ in answer.resources:
            if code == 0 and entries:
                return int(entries[0][1])
    return DEFAULT_MAX_MESSAGE_BYTES


async def _ends(settings: KafkaSettings, partitions: tuple[int, ...]) -> dict[int, int]:
    consumer = AIOKafkaConsumer(request_timeout_ms=int(_CONNECT_TIMEOUT * 1000), **client_arguments(settings))
    try:
        await consumer.start()
        ends = await consumer.end_offsets([TopicPartition(settings.topic, number) for number in partitions])
    finally:
        await consumer.stop()
    return {place.partition: offset for place, offset in ends.items()}
