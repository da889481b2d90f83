"""A member of a consumer group: processes share a topic's partitions, and each folds those that it is assigned.

A partition's fold is a function of the records in it (a hub's start is in each partition). So a member that gets a
partition folds it anew from its beginning, with the same result. A member keeps its folds over a rebalance; partitions
stay where they are as far as possible (sticky assignment). The offset up to which records are folded is committed: so
each member knows how far the group was, and a fold that is made anew isn't shown before it is as far again. What it
costs is bounded by the retention of a partition. When a topic is gone or was made anew, all folds end, since their
events don't exist any more. Counterparts: :mod:`spnhub.events.analysis.metrics` (a fold),
:mod:`spnhub.events.kafka.registry` (what other schema ids mean), :mod:`spnhub.analytics`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError

from spnhub.backoff import Backoff
from spnhub.dataclass import dataclass
from spnhub.events import model
from spnhub.events.kafka.reasons import Complaints, is_lasting, reason_of
from spnhub.events.kafka.registry import RegistryUnavailable, learn
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.kafka.topic import KafkaUnavailable, client_arguments
from spnhub.events.kafka.watch import TopicChanged, TopicIsGone, TopicWatch
from spnhub.events.model import Recorded
from spnhub.schemas.codec import ForeignSchemas, SchemaError

__all__ = ["Fold", "Followed", "KafkaGroup"]

_BATCH: Final = 1_000
"""Records folded between two looks at everything else: a few hundredths of a second."""
_WAIT_MS: Final = 200
_COMMIT_INTERVAL: Final = 1.0
_SESSION_TIMEOUT_MS: Final = 10_000
"""After which a member that died without a word loses its partitions to the others."""
_HEARTBEAT_MS: Final = 1_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Between attempts to reach Kafka, in seconds."""
_MISSING_PAUSE: Final = 0.5
"""The longest, in seconds, while there is no such topic."""
_METADATA_MS: Final = 10_000
"""Between two looks of the consumer at the topic's partitions."""
_STOP_TIMEOUT: Final = 5.0
_UNREADABLE_LIMIT: Final = 10
"""Records of a partition that are reported one by one; all are counted."""


class Fold(Protocol):
    """What a partition's events are folded into."""

    def apply(self, recorded: Recorded) -> bool:
        """Take in the next event of the partition; False: a redelivery."""
        ...


F = TypeVar("F", bound=Fold)


@dataclass(slots=True)
class Followed(Generic[F]):
    """A partition that this member has."""

    number: int
    fold: F
    position: int
    """Offset behind the last record folded."""
    target: int
    """Where the partition ended when it was given to this member."""
    ready: bool = False
    """Folded up to ``target``: fit to be shown."""
    end: int = 0
    """Where it ended when last heard of."""
    redelivered: int = 0
    unreadable: int = 0
    """Records that are no events known here; passed over."""
    delay: float = 0.0
    """Seconds between the last event and its folding."""


class KafkaGroup(Generic[F]):
    """Follows a topic together with the other members of ``group``, for ever.

    :param make: a new fold, for a partition.
    :param report: called with what happens: level, name and fields, as for a log.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        make: Callable[[], F],
        report: Callable[..., None],
    ) -> None:
        self.followed: dict[int, Followed[F]] = {}
        """By partition."""
        self.joined = False
        """Whether the group has given this member its partitions, none perhaps."""
        self._settings = settings
        self._group = group
        self._make = make
        self._report = report
        self._foreign = None if settings.schema_registry is None else ForeignSchemas()
        self._news = False
        self._committed: dict[int, int] = {}
        self._commit_at = 0.0
        self._watch = TopicWatch(settings, self._on_trouble)
        self._topic_id = ""
        """Of the topic that the folds are of."""
        self._complaint = ""
        """The reason that was reported last, without numbers; ``""``: Kafka answers."""
        self._faults: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """Everything that this member has is folded up to where it was when it was given."""
        return self.joined and all(one.ready for one in self.followed.values())

    async def run(self) -> None:
        """Follow. Kafka may come and go; what cannot be reached is tried again for ever.

        :raises spnhub.events.kafka.settings.KafkaSettingsError: settings that can't be used.
        """
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            complaints = Complaints()
            longest = _LONGEST_PAUSE
            try:
                # Asking for a topic's records makes some brokers create it, with settings that aren't ours.
                found = await self._watch.begin()
                if found.topic_id != self._topic_id:
                    self._forget()
                self._topic_id = found.topic_id
                self._on_trouble(None)
                pauses.reset()
                await self._session(complaints)
            except TopicChanged as exc:
                self._report("warning", "serve.topic_changed", topic=self._settings.topic, reason=str(exc))
            except (KafkaUnavailable, RegistryUnavailable, KafkaError, OSError, TimeoutError) as exc:
                if isinstance(exc, TopicIsGone):
                    self._forget()
                    longest = _MISSING_PAUSE
                self._on_trouble(exc)
            finally:
                complaints.remove()
            await asyncio.sleep(min(pauses.next(), longest))

    def _forget(self) -> None:
        """What was folded is of a topic that isn't there any more."""
        self.followed.clear()
        self._committed.clear()

    def _on_trouble(self, error: BaseException | None) -> None:
        """Tell why Kafka can't be had, once for each reason, and when it can be again."""
        topic = self._settings.topic
        self._report_faults()
        if error is None:
            if self._complaint:
                self._report("info", "serve.connected", topic=topic)
            self._complaint = ""
            return
        reason = str(error) if isinstance(error, KafkaUnavailable | RegistryUnavailable) else reason_of(error)
        complaint = re.sub(r"\d+", "", reason)
        if complaint != self._complaint:
            lasting = getattr(error, "lasting", False) or is_lasting(error)
            self._report("error" if lasting else "warning", "serve.unavailable", topic=topic, reason=reason)
        self._complaint = complaint

    def _report_faults(self) -> None:
        """Each fault of the topic's settings once, while it is there."""
        faults = tuple(fault.message for fault in self._watch.faults if fault.loses)
        for fault in faults:
            if fault not in self._faults:
                self._report("error", "serve.topic_unfit", topic=self._settings.topic, fault=fault)
        self._faults = faults

    async def _session(self, complaints: Complaints) -> None:
        """As long as one consumer lives, and the topic is the same."""
        consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_WAIT_MS,
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=_HEARTBEAT_MS,
            metadata_max_age_ms=_METADATA_MS,
            partition_assignment_strategy=(StickyPartitionAssignor,),
            **client_arguments(self._settings),
        )
        tasks: list[asyncio.Task[None]] = []
        try:
            try:
                await consumer.start()
            except (KafkaError, OSError, TimeoutError) as exc:
                if complaints.text:
                    raise KafkaUnavailable(complaints.text, lasting=complaints.lasting) from exc
                raise
            consumer.subscribe([self._settings.topic], listener=_Listener(self, consumer))
            tasks = [asyncio.create_task(self._follow(consumer)), asyncio.create_task(self._watch.run())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (TopicIsGone, TopicChanged) as exc:
            if not isinstance(exc, TopicChanged) or exc.anew:
                self._forget()  # before the offset is committed
            raise
        finally:
            self.joined = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(self._commit(consumer), _STOP_TIMEOUT)
            with suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(consumer.stop(), _STOP_TIMEOUT)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._step(consumer)

    async def _step(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=_BATCH)
        if self._news:
            # What has just come was read from where the group had committed, not from where our folds are.
            self._news = False
            with suppress(IllegalStateError):  # given away again already; more news follow
                await self._adopt(consumer)
            return
        for place, records in found.items():
            followed = self.followed.get(place.partition)
            if followed is not None:
                await self._take(followed, records)
        for place in consumer.assignment():
            followed = self.followed.get(place.partition)
            if followed is not None and place in consumer.assignment():
                await self._note_progress(consumer, place, followed)
        if time.monotonic() >= self._commit_at:
            with suppress(KafkaError):  # a rebalance is under way; what isn't committed is folded all the same
                await self._commit(consumer)
        await asyncio.sleep(0)

    async def _take(self, followed: Followed[F], records: Iterable[Any]) -> None:
        recorded: Recorded | None = None
        for record in records:
            if record.offset < followed.position:
                raise TopicChanged(f"partition {followed.number} has begun again", anew=True)
            frame = record.value or b""
            try:
                if self._foreign is not None and self._settings.schema_registry is not None:
                    await learn(self._foreign, self._settings.schema_registry, frame)
                recorded = model.decode(frame, self._foreign)
            except (SchemaError, KeyError) as exc:
                followed.unreadable += 1
                if followed.unreadable <= _UNREADABLE_LIMIT:
                    place = {"partition": followed.number, "offset": record.offset}
                    self._report("warning", "serve.unreadable", **place, reason=str(exc))
            else:
                followed.redelivered += not followed.fold.apply(recorded)
            followed.position = record.offset + 1
        if recorded is not None:
            followed.delay = max(0.0, time.time() - recorded.timestamp / 1_000_000)

    async def _note_progress(self, consumer: AIOKafkaConsumer, place: TopicPartition, followed: Followed[F]) -> None:
        """How far it is."""
        followed.end = max(consumer.highwater(place) or 0, followed.position)
        if not followed.ready:
            # Also moves over what is no record: the marks of transactions, and gaps left by compaction.
            position = await consumer.position(place)
            if position >= followed.target:
                followed.ready = True
                self._report("info", "serve.partition_ready", partition=followed.number, offset=position)

    async def _adopt(self, consumer: AIOKafkaConsumer) -> None:
        """Follow what the group has given us, and nothing else."""
        assigned = sorted(consumer.assignment())
        begins = await consumer.beginning_offsets(assigned)
        ends = await consumer.end_offsets(assigned)
        numbers = {place.partition for place in assigned}
        for number in set(self.followed) - numbers:
            del self.followed[number]
            self._committed.pop(number, None)
        for place in assigned:
            followed = self.followed.get(place.partition)
            if followed is None:
                begin, end = begins[place], ends[place]
                followed = Followed(place.partition, self._make(), position=begin, target=end, end=end)
                self.followed[place.partition] = followed
            consumer.seek(place, followed.position)
        self.joined = True
        self._report("info", "serve.assigned", partitions=sorted(numbers))

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Tell the group how far we are."""
        self._commit_at = time.monotonic() + _COMMIT_INTERVAL
        assigned = {place.partition for place in consumer.assignment()}
        offsets = {
            one.number: one.position
            for one in self.followed.values()
            if one.ready and one.number in assigned and self._committed.get(one.number) != one.position
        }
        if offsets:
            topic = self._settings.topic
            await consumer.commit({TopicPartition(topic, number): offset for number, offset in offsets.items()})
            self._committed |= offsets


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # untyped
    """Only takes note: what has to be done waits for the loop, where nothing else happens at the same time."""

    def __init__(self, group: KafkaGroup[Any], consumer: AIOKafkaConsumer) -> None:
        self._members = group
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        with suppress(KafkaError):
            await self._members._commit(self._consumer)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:  # noqa: ARG002
        self._members._news = True
