"""Kafka's metadata about a topic, its id included, requested so that the broker doesn't create the topic.

aiokafka's own request lets a broker create a topic that is missing, with settings that aren't ours; importing this
module ends that for all of its clients in the process. And aiokafka knows the request up to version 5, which has no
topic ids: without them a topic that was made anew looks like the old one. Counterpart:
:mod:`spnhub.events.kafka.topic`.
"""

from __future__ import annotations

import uuid
from functools import partial
from io import BytesIO
from typing import Any, Final

import aiokafka.admin.client
import aiokafka.client
from aiokafka.protocol import metadata
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

__all__ = ["TopicMetadataRequest"]

aiokafka.client.MetadataRequest = partial(metadata.MetadataRequest, allow_auto_topic_creation=False)
aiokafka.admin.client.MetadataRequest = aiokafka.client.MetadataRequest


class _Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc] # untyped
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_TAGS: Final = ("tags", TaggedFields)


class _Response(Response):  # type: ignore[misc] # untyped, as all that follows
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                _TAGS,
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("authorized_operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_authorized_operations", Int32),
        _TAGS,
    )


class _RequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class TopicMetadataRequest(Request[metadata.MetadataRequest_v5 | _RequestV10]):  # type: ignore[misc]
    """Of one topic; with its id from brokers of Kafka 2.8 on."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: Any) -> Any:
        """In the newest version that both sides know."""
        if request_struct_class is _RequestV10:
            return _RequestV10([(uuid.UUID(int=0), self._topic, {})], False, False, False, {})
        return request_struct_class([self._topic], False)
