"""One partition's way into Kafka: batches of our own making, one at a time, in order.

A batch of our own (rather than single sends) costs one future for thousands of records, and its failure says which
records failed. Counterpart: :mod:`spnhub.events.shipper.loop` makes a lane per partition for each producer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    KafkaError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from spnhub.events.kafka.reasons import reason_of
from spnhub.events.shipper.window import Entry

__all__ = ["BATCH_BYTES", "Lane", "LaneBroken", "RecordsRefused", "TopicShrank"]

BATCH_BYTES: Final = 256 * 1024
"""A batch before compression. Below 64 KiB throughput halves."""

_NOT_THE_RECORDS: Final = (
    ClusterAuthorizationFailedError,
    DuplicateSequenceNumber,
    InvalidProducerEpoch,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)


class LaneBroken(Exception):
    """This producer is of no more use; another one may be."""


class RecordsRefused(LaneBroken):
    """The broker will not take these records. The producer is lost with them: its sequence has a hole now."""

    def __init__(self, partition: int, entries: list[Entry], reason: str) -> None:
        super().__init__(reason)
        self.partition = partition
        self.entries = entries
        self.reason = reason


class TopicShrank(LaneBroken):
    """A record was acknowledged at an offset that was given before: the topic has lost what was there."""


class Lane:
    """The records of one partition, as long as one producer lives.

    :param limit: records in a batch; lower after a refusal, until the culprit is alone.
    :param byte_limit: bytes in a batch before compression, below the topic's ``max.message.bytes``.
    :param last_offset: the partition's last acknowledged offset; -1: none.
    :param outgoing: a frame as it goes out, with the ids that are wanted there.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        *,
        limit: int,
        byte_limit: int,
        linger: float,
        last_offset: int,
        delivered: Callable[[int, list[Entry], int], None],
        outgoing: Callable[[bytes], bytes],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._limit = limit
        self._byte_limit = byte_limit
        self._linger = linger
        self._last_offset = last_offset
        self._delivered = delivered
        self._outgoing = outgoing
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._more = asyncio.Event()
        self._closing = False
        self._woken = asyncio.Event()
        self.sent_at = 0.0
        """When the batch under way was handed over (monotonic seconds); 0: none is."""

    def put(self, entry: Entry) -> None:
        """Behind all others."""
        self._queue.append(entry)
        self._bytes += len(entry.frame)
        self._more.set()

    def close(self) -> None:
        """Begin no other batch; :meth:`run` ends when the one under way is answered."""
        self._closing = True
        self._woken.set()
        self._more.set()

    def drop(self, entry: Entry) -> bool:
        """Forget a record that was refused, and with it the wait for its next attempt. False: it is under way."""
        if not self._queue or self._queue[0] is not entry or self.sent_at:
            return False
        self._queue.popleft()
        self._bytes -= len(entry.frame)
        self._woken.set()
        return True

    async def run(self) -> None:
        """Deliver until closed.

        :raises LaneBroken: another producer is needed.
        """
        while not self._closing:
            if not self._queue:
                self._more.clear()
                await self._more.wait()
                continue
            pause = self._queue[0].retry_at - time.monotonic()
            if pause <= 0 and self._bytes < self._byte_limit and len(self._queue) < self._limit:
                pause = self._linger
                if await self._closed_within(pause) or not self._queue:
                    continue
            elif pause > 0:
                await self._closed_within(pause)
                continue
            await self._deliver()

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return self._closing

    async def _deliver(self) -> None:
        builder, entries = self._build()
        self.sent_at = time.monotonic()
        try:
            answer = await self._producer.send_batch(builder, self._topic, partition=self._partition)
            offset = (await answer).offset
        except BrokerResponseError as exc:
            if isinstance(exc, _NOT_THE_RECORDS) or exc.retriable:
                raise LaneBroken(reason_of(exc)) from exc
            raise RecordsRefused(self._partition, entries, reason_of(exc)) from exc
        except (KafkaError, AssertionError) as exc:  # an assertion: the partition is gone from the metadata
            raise LaneBroken(reason_of(exc)) from exc
        finally:
            self.sent_at = 0.0
        if offset < 0:
            raise LaneBroken("a batch was acknowledged without an offset")
        if offset <= self._last_offset:
            place = f"partition {self._partition} of {self._topic}"
            raise TopicShrank(f"{place} gave offset {offset} again, after {self._last_offset}")
        self._last_offset = offset + len(entries) - 1
        for entry in entries:
            self._queue.popleft()
            self._bytes -= len(entry.frame)
        self._delivered(self._partition, entries, self._last_offset)

    def _build(self) -> tuple[Any, list[Entry]]:
        builder = self._producer.create_batch()
        entries: list[Entry] = []
        for entry in islice(self._queue, self._limit):
            if entries and (entry.refusals or entries[0].refusals):
                break  # a record known to be refused goes alone
            if (
                builder.append(timestamp=None, key=entry.key, value=self._outgoing(entry.frame), headers=entry.headers)
                is None
            ):
                break
            entries.append(entry)
        builder.close()
        return builder, entries
