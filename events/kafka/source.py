"""The log in Kafka as a source of events: the whole topic up to its present end, or on and on.

Counterparts: :mod:`spnhub.events.shipper.shipper` writes what is read here, :mod:`spnhub.events.analysis.source` names
the protocol, :mod:`spnhub.events.kafka.merge` makes the order.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from spnhub.events import model
from spnhub.events.kafka.merge import Item, Merger
from spnhub.events.kafka.reasons import Complaints, reason_of
from spnhub.events.kafka.registry import RegistryUnavailable, learn
from spnhub.events.kafka.settings import KafkaSettings, KafkaSettingsError, parse_kafka_url
from spnhub.events.kafka.topic import KafkaUnavailable, client_arguments
from spnhub.events.kafka.topic_settings import TopicFault
from spnhub.events.kafka.watch import TopicChanged, TopicIsGone, TopicWatch
from spnhub.events.model import Recorded
from spnhub.events.source import SourceError
from spnhub.schemas.codec import ForeignSchemas, SchemaError

__all__ = ["KafkaSettings", "KafkaSettingsError", "KafkaSource", "Unreadable", "parse_kafka_url"]

_BATCH: Final = 2_000
_METADATA_MS: Final = 10_000
"""Time between the consumer's requests for the leaders of the topic's partitions."""
_WAIT_MS: Final = 200
_SILENCE: Final = 30.0
"""Seconds without a record before the topic's end is reached, after which the broker counts as gone."""
_DOUBT: Final = 2.0
"""Seconds without a record before the topic's end is reached, after which is looked whether it still is the same."""
_STOP_TIMEOUT: Final = 5.0
_FOLLOW_DELAY: Final = 1.0
"""Seconds a followed event waits at most for one that belongs before it and is in another partition."""
_UNREADABLE_LIMIT: Final = 100

_Offsets = dict[TopicPartition, int]
Unreadable = tuple[int, int, str]
"""Partition, offset and reason of a record that is no event."""


class KafkaSource:
    """A topic as a source (:class:`spnhub.events.source.Source`). An async context manager.

    :param source: settings, or ``kafka://host:port[,host:port…]/topic``; security then comes from the environment
        (``SPNHUB_KAFKA_SECURITY_PROTOCOL`` and so on), and so does the schema registry (``SPNHUB_SCHEMA_REGISTRY``).
    :raises SourceError: not such an address; on entering: not reached, not allowed, or no such topic.
    """

    def __init__(self, source: KafkaSettings | str) -> None:
        try:
            if isinstance(source, str):
                source = parse_kafka_url(source, **KafkaSettings.security_from(os.environ))
            self._arguments = client_arguments(source)
        except KafkaSettingsError as exc:
            raise SourceError(str(exc)) from exc
        self.settings = source
        self.name = f"kafka://{source.bootstrap_servers}/{source.topic}"
        self.ordered = True
        self.unreadable: list[Unreadable] = []
        """Records that are no events known here: passed over, the first hundred kept here."""
        self.unreadable_count = 0
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: list[TopicPartition] = []
        self._foreign = None if source.schema_registry is None else ForeignSchemas()
        self._complaints: Complaints | None = None
        self.on_news: Callable[[str], None] = lambda _: None
        """Told, while the topic is followed, when it is gone, was made anew, or can't be reached."""
        self._watch = TopicWatch(source, self._on_trouble)
        self._trouble = ""

    @property
    def topic_faults(self) -> tuple[TopicFault, ...]:
        """What is wrong with the topic's settings: it may lose events."""
        return self._watch.faults

    async def __aenter__(self) -> Self:
        self._complaints = Complaints()
        try:
            await self._find()
            consumer = AIOKafkaConsumer(
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                fetch_max_wait_ms=_WAIT_MS,
                metadata_max_age_ms=_METADATA_MS,
                **self._arguments,
            )
            self._consumer = consumer
            await asyncio.wait_for(consumer.start(), _SILENCE)
            consumer.assign(self._partitions)
        except TopicIsGone as exc:
            await self._close()
            raise SourceError(f"{self.name}: there is no such topic") from exc
        except (KafkaUnavailable, KafkaError, OSError, TimeoutError) as exc:
            reason = self._complaints.text or reason_of(exc)
            await self._close()
            raise SourceError(f"{self.name}: {reason}") from exc
        except BaseException:  # also on a KeyboardInterrupt: neither connections nor the log handler may stay
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._consumer is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(self._consumer.stop(), _STOP_TIMEOUT)
            self._consumer = None
        if self._complaints is not None:
            self._complaints.remove()
            self._complaints = None

    async def _find(self) -> None:
        found = await self._watch.begin()
        self._partitions = [TopicPartition(self.settings.topic, number) for number in found.partitions]

    def _on_trouble(self, error: KafkaUnavailable | None) -> None:
        reason = "" if error is None else str(error)
        if reason != self._trouble:
            self.on_news(reason or "it answers again")
        self._trouble = reason

    async def records(self, *, follow: bool = False) -> AsyncIterator[tuple[bytes, Recorded]]:
        """Each event with its Confluent frame, redeliveries included, in the order of its hub.

        Without ``follow``: from the beginning up to the end that the topic has when this is asked. The order is exact
        except for events that came to the topic when all its partitions had later events of the hub already. With
        ``follow``: for ever; an event waits at most a second for one that belongs before it. A broker or a topic that
        is gone is waited for, and a topic that was made anew is read from its beginning.

        :raises SourceError: the broker or the topic is gone, and ``follow`` isn't asked for.
        """
        if self._consumer is None:
            raise SourceError(f"{self.name} is not open")
        read = self._follow(self._consumer) if follow else self._up_to(self._consumer)
        try:
            async for item in read:
                yield item
        except TopicIsGone as exc:
            raise SourceError(f"{self.name}: the topic was deleted while it was read") from exc
        except (KafkaUnavailable, KafkaError, OSError, TimeoutError) as exc:
            raise SourceError(f"{self.name}: {reason_of(exc)}") from exc

    async def _offsets(self, consumer: AIOKafkaConsumer) -> tuple[_Offsets, _Offsets]:
        """Go to the beginning of each partition; where those are, and the ends.

        :raises TopicIsGone: meanwhile.
        :raises TopicChanged: meanwhile.
        """
        asking = asyncio.gather(consumer.beginning_offsets(self._partitions), consumer.end_offsets(self._partitions))
        try:
            # A partition that isn't there any more is asked for again and again.
            while not (await asyncio.wait([asking], timeout=_DOUBT))[0]:
                await self._doubt()
            begins, ends = await asking
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        for place, offset in begins.items():
            consumer.seek(place, offset)
        return begins, ends

    async def _up_to(self, consumer: AIOKafkaConsumer) -> AsyncIterator[Item]:
        begins, ends = await self._offsets(consumer)
        merger = Merger(place.partition for place in self._partitions)
        # An emptied partition begins where it ends: nothing will ever come from there.
        queues = {place: deque[Any]() for place in self._partitions if begins[place] < ends[place]}
        for place in set(self._partitions) - set(queues):
            for item in merger.finish(place.partition):
                yield item
        unread = set(queues)
        while queues:
            # Partitions advance together, by the times of their records: so few events have to wait.
            dry = [place for place, queue in queues.items() if not queue and place in unread]
            for place in dry:
                if await self._fill(consumer, place, queues[place], ends[place]):
                    unread.discard(place)
            for place in [place for place, queue in queues.items() if not queue and place not in unread]:
                del queues[place]
                for item in merger.finish(place.partition):
                    yield item
            while queues and all(queues.values()):
                place = min(queues, key=lambda each: queues[each][0][0])
                _, item = queues[place].popleft()
                for ready in merger.add(place.partition, item):
                    yield ready
        for item in merger.flush():
            yield item

    async def _fill(self, consumer: AIOKafkaConsumer, place: TopicPartition, queue: deque[Any], end: int) -> bool:
        """Read on in one partition until there is an event, or the end; True: the end."""
        last = looked = time.monotonic()
        position: int = await consumer.position(place)
        while not queue and position < end:
            found = await consumer.getmany(place, timeout_ms=_WAIT_MS, max_records=_BATCH)
            for record in found.get(place, ()):
                if record.offset < end and (item := await self._decode(record)) is not None:
                    queue.append((record.timestamp, item))
            # Also moves over what is no record: the marks of transactions, and gaps left by compaction.
            before, position = position, await consumer.position(place)
            if position > before:
                last = time.monotonic()
            elif time.monotonic() - last > _SILENCE:
                why = self._complaints.text if self._complaints is not None else ""
                raise SourceError(f"{self.name}: nothing came for {_SILENCE:.0f} s; {why or 'no reason is known'}")
            elif time.monotonic() - looked > _DOUBT:
                await self._doubt()
                looked = time.monotonic()
        return position >= end

    async def _doubt(self) -> None:
        """Nothing comes: because the topic is gone, or another? A broker that can't be asked may come back."""
        try:
            await self._watch.check()
        except (TopicIsGone, TopicChanged):
            raise
        except KafkaUnavailable:
            pass

    async def _follow(self, consumer: AIOKafkaConsumer) -> AsyncIterator[Item]:
        while True:
            watching = asyncio.create_task(self._watch.run(), name="watch the topic")
            try:
                await self._offsets(consumer)
                async for item in self._follow_one(consumer, watching):
                    yield item
            except (TopicIsGone, TopicChanged) as exc:
                self._on_trouble(exc)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await self._find_again()
            consumer.assign(self._partitions)

    async def _find_again(self) -> None:
        while True:
            try:
                await self._find()
            except KafkaUnavailable as exc:
                self._on_trouble(exc)
                await asyncio.sleep(_DOUBT / 2)
            else:
                return

    async def _follow_one(self, consumer: AIOKafkaConsumer, watching: asyncio.Task[None]) -> AsyncIterator[Item]:
        """As long as the topic is the same.

        :raises TopicIsGone: there is none.
        :raises TopicChanged: it is another.
        """
        merger = Merger(place.partition for place in self._partitions)
        since: float | None = None
        following: dict[TopicPartition, int] = {}
        while True:
            wait = _WAIT_MS if since is None else max(1, min(_WAIT_MS, int((since + _FOLLOW_DELAY - _now()) * 1000)))
            found = await consumer.getmany(timeout_ms=wait, max_records=_BATCH)
            if watching.done():
                watching.result()
            for place, batch in found.items():
                if batch[0].offset < following.get(place, 0):
                    raise TopicChanged(f"partition {place.partition} has begun again", anew=True)
                following[place] = batch[-1].offset + 1
                for record in batch:
                    if (item := await self._decode(record)) is not None:
                        for ready in merger.add(place.partition, item):
                            yield ready
            if not merger.held:
                since = None
            elif since is None:
                since = _now()
            elif _now() - since >= _FOLLOW_DELAY:
                since = None
                for item in merger.flush():
                    yield item

    async def _decode(self, record: Any) -> Item | None:
        frame = record.value or b""
        try:
            if self._foreign is not None and self.settings.schema_registry is not None:
                await learn(self._foreign, self.settings.schema_registry, frame)
            return frame, model.decode(frame, self._foreign)
        except RegistryUnavailable as exc:
            raise SourceError(f"{self.name}: {exc}") from exc
        except (SchemaError, KeyError) as exc:
            self.unreadable_count += 1
            if len(self.unreadable) < _UNREADABLE_LIMIT:
                self.unreadable.append((record.partition, record.offset, str(exc)))
            return None


def _now() -> float:
    return time.monotonic()
