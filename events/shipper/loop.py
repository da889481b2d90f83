"""The shipper's work: from the journal into the window, through one producer after another, and the position on disk.

What holds: an event is never passed over unless the log declares it as lost. The position moves only over what Kafka
has acknowledged; after any failure everything behind it is sent again, so an event can be in the topic more than once,
with the same event id and bytes. Within a key, first appearances are in the journal's order. A hub's start goes to all
partitions, so that each shows by itself to which run its events belong. A record that the broker refuses blocks its own
partition and the position until an EventsLost in the journal declares it (the hub writes one when the shipper reports
the refusal, so what the topic lacks is declared in the topic); the others go on until
:data:`~spnhub.events.shipper.window.SPAN_LIMIT` records are acknowledged beyond it. A topic that lost what it had
acknowledged gets all that the journal still has.

Nothing is shipped into a topic that compacts (``held``): an acknowledgement there is no promise, and with it the
journal might let the event go. The journal is the place to wait: it is bounded, and declares what it must drop. When
the topic's setting is right, all that the journal still has goes out, since it isn't known what was removed.
Readers see a delay, which ends; a loss would not.

Counterparts: :mod:`spnhub.events.shipper.shipper` (the process around it), :mod:`spnhub.events.shipper.lane` (one
partition), :mod:`spnhub.events.journal.shipped_position`.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from spnhub.backoff import Backoff, backoff
from spnhub.events import model
from spnhub.events.journal.envelope import Envelope
from spnhub.events.journal.files import JournalError, segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.journal.shipped_position import Position, PositionFile
from spnhub.events.kafka.reasons import Complaints, is_lasting, reason_of
from spnhub.events.kafka.registry import RegistryUnavailable, register
from spnhub.events.kafka.settings import ShipperSettings, ShipperStatus
from spnhub.events.kafka.topic import (
    KafkaUnavailable,
    TopicState,
    client_arguments,
    ensure_topic,
)
from spnhub.events.model import EventsLost
from spnhub.events.shipper.lane import BATCH_BYTES, Lane, LaneBroken, RecordsRefused, TopicShrank
from spnhub.events.shipper.status import Voice
from spnhub.events.shipper.topic import ShippedTo, TopicLoses
from spnhub.events.shipper.window import Entry, Window
from spnhub.schemas.codec import event_schema_id, with_schema_id

__all__ = ["Shipper"]

_POLL: Final = 0.05
"""Seconds between looks at a journal that has nothing new."""
_TICK: Final = 0.25
_STOP_TIMEOUT: Final = 2.0
"""A producer with records pending and its broker gone would never stop."""
_REQUEST_TIMEOUT_MS: Final = 15_000
_ENVELOPE: Final = 512
"""Bytes kept free in a batch for its header and for what compression may add."""
_FIRST_PAUSE: Final = 0.1
"""Seconds after the first attempt that failed; each further one doubles it."""
_LAST_PAUSE: Final = 1.0
"""Seconds between attempts of a shipper that is to leave."""
_NO_LIMIT: Final = 1 << 30
_LOST_LIMIT: Final = 1000
"""Declarations of losses that are remembered; of more, the oldest refused records would be tried again."""


class Shipper:
    """Ships one journal to one topic.

    :param left: set when there will be nothing more in the journal than there is now.
    :param report: gets each status.
    """

    def __init__(self, settings: ShipperSettings, left: asyncio.Event, report: Callable[[ShipperStatus], None]) -> None:
        self._settings = settings
        self._left = left
        self._voice = Voice(report, lambda: (self._window.position, self._window.behind))
        self._file = PositionFile(settings.journal, settings.kafka.topic)
        self._reader: JournalReader | None = None
        self._journal_id = ""
        self._topic = ShippedTo(settings.kafka)
        self._ahead: list[tuple[bytes, Envelope]] = []
        """Read from the journal, and not yet in the window."""
        self._window = Window()
        self._limits: dict[int, int] = {}
        self._lost: deque[tuple[int, int]] = deque(maxlen=_LOST_LIMIT)
        """First and last sequence of what the journal declares as lost, where that may be behind the position."""
        self._ids: dict[int, int] | None = None
        """The registry's schema ids by ours; None while they aren't known."""
        self._saved: Position | None = None
        self._save_failed = False
        self._refused: tuple[int, str] | None = None
        self._complaints = Complaints()
        self._remaining = ""
        """Why something is left to ship though it leaves in order."""

    async def run(self) -> None:
        """Ship until everything is shipped after ``left``, or the time for that is over."""
        work = asyncio.create_task(self._work())
        limit = asyncio.create_task(self._time_is_over())
        try:
            await asyncio.wait({work, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, limit):
                task.cancel()
            results = await asyncio.gather(work, limit, return_exceptions=True)
            self._close_reader()
            self._file.unlock()
            self._complaints.remove()
        if isinstance(results[0], Exception):
            raise results[0]
        complete = work.done() and not work.cancelled()
        self._voice.say("left", reason=self._remaining if complete else "the time to drain was over")

    async def _time_is_over(self) -> None:
        await self._left.wait()
        await asyncio.sleep(self._settings.drain)

    async def _work(self) -> None:
        await self._lock()
        pauses = Backoff(_FIRST_PAUSE, self._settings.backoff)
        while True:
            before = self._window.position
            pause: float | None = None
            try:
                self._open_reader()
                await self._learn_ids()
                state = await ensure_topic(self._settings.kafka)
                self._judge(state)
                reason = self._topic.recognise(state)
                if reason is not None:
                    self._rewind(reason)
                await self._session(state)
                return
            except RecordsRefused as exc:
                self._refuse(exc)
                pause = 0.0
            except TopicShrank as exc:
                self._rewind(str(exc))
                pauses.reset()
            except TopicLoses as exc:
                self._hold(str(exc))
                if self._left.is_set():
                    self._remaining = str(exc)
                    return
                pause = self._settings.look
            except (KafkaUnavailable, RegistryUnavailable, LaneBroken) as exc:
                self._voice.set_link("unreachable", str(exc), lasting=getattr(exc, "lasting", False))
            except (JournalError, OSError) as exc:
                self._close_reader()
                self._voice.set_link("unreadable", str(exc))
            if self._window.position > before or pause is not None:
                pauses.reset()
            if await self._nothing_left():
                return
            await self._pause(pauses.next() if pause is None else pause)

    async def _pause(self, seconds: float) -> None:
        """Wait between attempts; a shipper that is asked to end meanwhile makes one more attempt at once."""
        if self._left.is_set():
            await asyncio.sleep(min(seconds, _LAST_PAUSE))
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._left.wait(), seconds)

    async def _learn_ids(self) -> None:
        """Nothing is shipped before the registry's ids are known (D-12).

        :raises RegistryUnavailable: they can't be had.
        """
        if self._ids is None and self._settings.kafka.schema_registry is not None:
            self._ids = await register(self._settings.kafka.schema_registry)

    def _outgoing(self, frame: bytes) -> bytes:
        if self._ids is None:
            return frame
        number = self._ids.get(event_schema_id(frame))
        if number is None:
            # A newer hub has taken over the journal: its schemas have come with what it wrote.
            self._ids = None
            raise LaneBroken("the registry hasn't been asked for a schema of a newer version")
        return with_schema_id(frame, number)

    async def _lock(self) -> None:
        while True:
            try:
                if self._file.try_lock():
                    return
                self._voice.set_link("waiting", "another shipper holds the journal")
            except OSError as exc:
                self._voice.set_link("unreadable", f"{self._settings.journal}: {exc.strerror}")
            await asyncio.sleep(0.1)

    # The journal --------------------------------------------------------------------------------------------------

    def _open_reader(self) -> None:
        """At the saved position, or where the window ends.

        :raises JournalError: the journal can't be read.
        """
        if self._reader is not None:
            return
        folder = self._settings.journal
        if self._journal_id:
            self._reader = JournalReader(folder, after=self._window.read)
            return
        with JournalReader(folder) as reader:
            journal_id = str(reader.identity.journal_id)
        saved = self._file.load()
        if saved is None or saved.journal_id != journal_id or not saved.sequence:
            self._begin(0, 0)
            self._journal_id = journal_id
            return
        self._topic.cluster_id = saved.cluster_id
        self._topic.topic_id = saved.topic_id
        self._topic.offsets = dict(saved.offsets)
        self._saved = saved
        if not self._resume(saved):
            # What the segment still has was shipped before, so nothing is missed and little is doubled.
            first = max((number for number, _ in segments(folder) if number <= saved.sequence), default=1)
            self._begin(first - 1, 0)
            self._voice.say("rewound", reason=f"the journal no longer has the event {saved.sequence} that was shipped")
        self._journal_id = journal_id

    def _resume(self, saved: Position) -> bool:
        """Begin behind the position, unless the event there is not the one that was shipped: a power failure may have
        taken the journal's tail, and its numbers are used again then; to go on would pass events over."""
        self._begin(saved.sequence - 1, 0)
        assert self._reader is not None
        found = self._reader.read_envelopes()
        if not found:
            # Nothing there is right only if no segment should have it: retention took the one that had.
            known = all(number > saved.sequence for number, _ in segments(self._settings.journal))
        else:
            frame, envelope = found[0]
            known = envelope.sequence != saved.sequence or saved.checksum in {0, zlib.crc32(frame)}
        self._window = Window(position=saved.sequence, checksum=saved.checksum, read=saved.sequence)
        self._ahead = [item for item in found if item[1].sequence > saved.sequence]
        return known

    def _begin(self, position: int, checksum: int) -> None:
        self._close_reader()
        self._ahead = []
        self._window = Window(position=position, checksum=checksum, read=position)
        self._reader = JournalReader(self._settings.journal, after=position)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _rewind(self, reason: str) -> None:
        self._topic.offsets = {}
        self._limits = {}
        self._begin(0, 0)
        self._save()
        self._voice.say("rewound", reason=reason)

    def _read(self) -> list[Entry]:
        assert self._reader is not None
        found, self._ahead = self._ahead or self._reader.read_envelopes(), []
        entries = [Entry.of(frame, envelope) for frame, envelope in found]
        for entry in entries:
            self._window.add(entry)
        for frame, envelope in found:
            if envelope.event_type == EventsLost.event_type:
                event = model.decode(frame).event
                assert isinstance(event, EventsLost)
                self._lost.append((event.first_sequence, event.last_sequence))
        return entries

    def _declared(self) -> list[Entry]:
        """Records that the broker refuses and the journal declares as lost."""
        while self._lost and self._lost[0][1] <= self._window.position:
            self._lost.popleft()
        if not self._lost:
            return []
        refused = (entry for entry in self._window.waiting() if entry.refusals)
        return [entry for entry in refused if any(first <= entry.sequence <= last for first, last in self._lost)]

    def _pass_over(self, entry: Entry) -> None:
        self._window.acknowledge(entry)
        if self._refused is not None and self._refused[0] == entry.sequence:
            self._refused = None
            self._voice.say("connected", reason=f"the event {entry.sequence} is declared as lost")

    async def _nothing_left(self) -> bool:
        """Whether it may leave without Kafka."""
        if not self._left.is_set():
            return False
        with suppress(JournalError, OSError):
            self._open_reader()
            if not self._window.behind:
                self._read()
            return not self._window.behind
        return False

    # The topic ---------------------------------------------------------------------------------------------------

    def _judge(self, state: TopicState) -> None:
        try:
            self._topic.judge(state)
        finally:
            self._voice.topic_faults = self._topic.faults

    def _hold(self, reason: str) -> None:
        """Whatever was acknowledged may be gone, so all of it is shipped again when that is of use."""
        if self._window.position:
            self._begin(0, 0)
            self._save()
        self._voice.set_link("held", reason, lasting=True)

    async def _watch(self) -> None:
        """Look at the topic from time to time.

        :raises LaneBroken: it is another, or none.
        :raises TopicLoses: it doesn't keep what it gets any more.
        """
        while True:
            await asyncio.sleep(self._settings.look)
            with suppress(KafkaUnavailable):  # the lanes notice, if it matters
                try:
                    await self._topic.look()
                finally:
                    before, self._voice.topic_faults = self._voice.topic_faults, self._topic.faults
            if self._voice.topic_faults != before:
                self._voice.say(self._voice.link)

    # A producer's life ---------------------------------------------------------------------------------------------

    async def _session(self, state: TopicState) -> None:
        """Ship with one producer until nothing is left after ``left``.

        :raises LaneBroken: another producer is needed.
        :raises KafkaUnavailable: there is no producer to be had.
        """
        byte_limit = max(1, min(BATCH_BYTES, state.max_message_bytes - _ENVELOPE))
        producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            compression_type="zstd",
            max_batch_size=byte_limit,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            **client_arguments(self._settings.kafka),
        )
        tasks: list[asyncio.Task[None]] = []
        lanes: dict[int, Lane] = {}
        try:
            try:
                await asyncio.wait_for(producer.start(), self._settings.give_up)
            except (KafkaError, OSError, TimeoutError) as exc:
                text = self._complaints.text or reason_of(exc)
                raise KafkaUnavailable(text, lasting=self._complaints.lasting or is_lasting(exc)) from exc
            for partition in state.partitions:
                lanes[partition] = Lane(
                    producer,
                    self._settings.kafka.topic,
                    partition,
                    limit=self._limits.get(partition, _NO_LIMIT),
                    byte_limit=byte_limit,
                    linger=self._settings.linger,
                    last_offset=self._topic.offsets.get(partition, -1),
                    delivered=self._delivered,
                    outgoing=self._outgoing,
                )
            self._complaints.forget()
            self._voice.set_link("connected", "")
            runs = [asyncio.create_task(lane.run()) for lane in lanes.values()]
            feed = asyncio.create_task(self._feed(state.partitions, lanes))
            watch = asyncio.create_task(self._watch())
            tasks = [*runs, feed, asyncio.create_task(self._tick(lanes)), watch]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # A refusal in one partition must not double what the others have under way.
            for lane in lanes.values():
                lane.close()
            await asyncio.wait(runs, timeout=_STOP_TIMEOUT)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._save()
            await _stop(producer)
        failures = [result for result in results if isinstance(result, Exception)]
        if failures:
            raise min(failures, key=lambda exc: not isinstance(exc, RecordsRefused | TopicShrank))

    async def _feed(self, partitions: tuple[int, ...], lanes: dict[int, Lane]) -> None:
        def lanes_of(entry: Entry) -> list[Lane]:
            return [*lanes.values()] if entry.everywhere else [lanes[_partition(entry.key, partitions)]]

        def put(entry: Entry) -> None:
            to = lanes_of(entry)
            entry.owed = len(to)
            for lane in to:
                lane.put(entry)

        for entry in self._window.waiting():
            put(entry)
        while True:
            # Asked before reading: what was written until then is seen.
            last = self._left.is_set()
            entries = [] if self._window.full else self._read()
            for entry in entries:
                put(entry)
            if self._refused is not None:
                for entry in self._declared():
                    entry.owed -= sum(lane.drop(entry) for lane in lanes_of(entry))
                    if not entry.owed:
                        self._pass_over(entry)
            if last and not entries and not self._window.behind:
                return
            await asyncio.sleep(0 if entries else _POLL)

    def _delivered(self, partition: int, entries: list[Entry], offset: int) -> None:
        for entry in entries:
            entry.owed -= 1
            if not entry.owed:
                self._window.acknowledge(entry)
        self._topic.offsets[partition] = offset
        limit = self._limits.pop(partition, _NO_LIMIT)
        if limit * 2 < _NO_LIMIT and not entries[0].refusals:
            self._limits[partition] = limit * 2
        if self._refused is not None and any(entry.sequence == self._refused[0] for entry in entries):
            self._refused = None
            self._voice.say("connected")

    async def _tick(self, lanes: dict[int, Lane]) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._save()
            now = time.monotonic()
            self._voice.numbers()
            waited = max((now - lane.sent_at for lane in lanes.values() if lane.sent_at), default=0.0)
            if waited > self._settings.give_up:
                raise LaneBroken(f"no acknowledgement for {waited:.0f} s")
            if waited > self._settings.stall:
                reason = self._complaints.text or f"no acknowledgement for {waited:.0f} s"
                self._voice.set_link("unreachable", reason, lasting=self._complaints.lasting)
            elif self._voice.link == "unreachable" and waited < 1.0:
                self._complaints.forget()
                self._voice.set_link("connected", "")

    def _refuse(self, refusal: RecordsRefused) -> None:
        """Look for the culprit by halves; alone, it waits, and its partition with it."""
        if len(refusal.entries) > 1:
            self._limits[refusal.partition] = len(refusal.entries) // 2
            return
        self._limits.pop(refusal.partition, None)
        (entry,) = refusal.entries
        entry.refusals += 1
        longest = self._settings.backoff
        entry.retry_at = time.monotonic() + backoff(longest / 4, 6 * longest, entry.refusals - 1)
        self._refused = (entry.sequence, refusal.reason)
        if entry in self._declared():
            self._pass_over(entry)
            return
        reason = f"{refusal.reason} ({len(entry.frame)} bytes, partition {refusal.partition})"
        self._voice.say("refused", sequence=entry.sequence, attempts=entry.refusals, reason=reason)

    def _save(self) -> None:
        if not self._journal_id:
            return
        window = self._window
        position = Position(
            self._journal_id,
            self._topic.cluster_id,
            window.position,
            window.checksum,
            dict(self._topic.offsets),
            self._topic.topic_id,
        )
        if position == self._saved:
            return
        try:
            self._file.save(position)
        except OSError as exc:
            # Shipping goes on; a position that stays behind costs redeliveries only.
            if not self._save_failed:
                self._voice.say("unreadable", reason=f"{self._file.path}: {exc.strerror}")
            self._save_failed = True
        else:
            self._saved = position
            self._save_failed = False


@lru_cache(maxsize=10_000)
def _partition(key: bytes, partitions: tuple[int, ...]) -> int:
    """As every Kafka client does it, so that others find a key's partition. Remembered: it is slow, keys are few."""
    place: int = (murmur2(key) & 0x7FFFFFFF) % len(partitions)
    return partitions[place]


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        await asyncio.wait_for(producer.stop(), _STOP_TIMEOUT)
    except (TimeoutError, KafkaError, OSError):
        # It still waits for records that this shipper sends again; closing what it holds is all that is needed.
        with suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(producer.client.close(), _STOP_TIMEOUT)
