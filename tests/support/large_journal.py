"""Journals as large as wanted, quickly and in bounded memory.

``python -m tests.support.large_journal FOLDER [EVENTS]`` makes one and says how long it took. The journal that hubs
write with begins it; then each frame is put together of parts that were encoded once, on every core; and the journal of
hubs opens what has come of it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final

from spnhub.events import model
from spnhub.events.journal import checkpoint
from spnhub.events.journal.files import (
    JournalIdentity,
    SegmentHeader,
    load_identity,
    open_private,
    pack_frame,
    segments,
)
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.reader import JournalReader
from spnhub.events.journal.segments import SEGMENT_SIZE, SLICE
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionRefused,
    ConnectionSnapshot,
    ConnectionStarted,
    DisconnectReason,
    EndPointEvent,
    EndPointType,
    Event,
    HubStarted,
    InventoryLoaded,
    NetworkAdded,
    RealmAdded,
    Recorded,
    ServiceEvent,
    SessionEnded,
    SessionSnapshot,
    SessionStarted,
    SnapshotEnded,
    SnapshotStarted,
    TerminateReason,
    shared,
)
from spnhub.events.model.record import event_id_text
from spnhub.events.state.entities import session_started
from spnhub.events.state.hub_state import HubState
from spnhub.schemas.writing import field_writers
from tests.console.worlds import a, defined, service

__all__ = ["Size", "write_large_journal"]

_HUB: Final = "hub-1"
_TURN: Final = 256
"""Events of one commit: a slice of the snapshot comes with each."""
_FRAME: Final = 263
"""Bytes of an event, about."""
_ENTRIES: Final = 4096
"""Open things that a segment of the usual size is for."""
_UID: Final = "0" * 32
_LEG: Final = "leg-id"
_COUNT: Final = 0x01234567
_TIME: Final = 0x0BA987654321
"""Stand in a shape where a frame has its own."""
_string, _long = (
    write for _, write in field_writers({"fields": [{"name": one, "type": one} for one in ("string", "long")]})
)
_LOWEST: Final = tuple(bytes((low & 127 | 128, low >> 7 | 128)) for low in range(1 << 14))


def _number(value: int) -> bytes:
    """As :data:`_long`, of one that is close to the one before."""
    doubled = value << 1
    return _long(value) if doubled < 1 << 14 else _LOWEST[doubled & 0x3FFF] + _higher(doubled >> 14)


@lru_cache(maxsize=256)
def _higher(value: int) -> bytes:
    # Zigzag doubles what isn't negative: an even number is written as twice its half.
    return _long(value >> 1) if not value & 1 else _long(-(value >> 1) - 1)


@dataclass(frozen=True)
class Size:
    """How much is in it."""

    events: int
    """At least so many, snapshots included."""
    services: int = 1_000
    sessions: int = 10_000
    """Open at any time: a provider for each service, and consumers."""
    open: int = 2_000
    """Connections at any time."""
    apart: int = 1_000
    """Microseconds between two events."""


def write_large_journal(
    folder: Path, size: Size, *, start: int, segment_size: int = SEGMENT_SIZE, workers: int = 1
) -> int:
    """Make a journal; how many events are in it, snapshots included.

    :param start: time of the first event, microseconds since 1970.
    :param workers: processes that write segments.
    """
    options = JournalOptions(sync_interval=None)
    with Journal.open(folder, _HUB, options=options) as journal:
        for place, event in enumerate(_beginning(size)):
            journal.append(event, start + place * size.apart)
            if place % _TURN == 0:
                assert journal.flush(60)
        assert journal.flush(60)
    work = partial(_write, folder, size, segment_size, workers)
    if workers == 1:
        work(0)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            pool.map(work, range(workers))
    _leave_checkpoint(folder)
    with Journal.open(folder, _HUB, options=options) as journal:
        assert journal.appended >= size.events and journal.state.exact and not journal.lost
        return journal.appended


def _beginning(size: Size) -> Iterator[Event]:
    """What is defined, and the sessions."""
    realms = [f"realm-{number}" for number in range(min(10, size.services))]
    yield a(HubStarted)
    yield a(InventoryLoaded)
    for realm in realms:
        yield a(RealmAdded, realm=realm, network_urn=None)
        yield a(NetworkAdded, realm=realm, network_urn=f"urn:net:{realm}:main")
    for number in range(size.services):
        yield defined(realms[number % len(realms)], f"service-{number}")[-1]
    for serial in range(size.sessions):
        number = serial % size.services
        realm = realms[number % len(realms)]
        role = EndPointType.PROVIDER if serial < size.services else EndPointType.CONSUMER
        yield SessionStarted(
            realm=realm,
            network_urn=f"urn:net:{realm}:main",
            service_urn=service(realm, f"service-{number}"),
            **_of_session(serial, realm, role),
        )


def _of_session(serial: int, realm: str, role: EndPointType = EndPointType.CONSUMER) -> dict[str, Any]:
    return {
        "spn_session_id": f"{serial:08x}",
        "spn_end_point": f"CN={role.value} {serial},O={realm}",
        "end_point_type": role,
        "instance_id": f"instance-{serial}",
        "protocol": "spn/1",
        "remote_address": f"192.0.2.{serial % 250}:{1024 + serial % 60_000}",
    }


class _Shape:
    """An event's frame in parts, between values that are put in; encoded when it is first needed."""

    def __init__(self, event: Event, *values: bytes) -> None:
        """:param values: what the event has where others come, in the order of its schema, as Avro."""
        self._event = event
        self._values = values

    def parts(self, identity: JournalIdentity) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        """What is before the event's id, what is between that and sequence and time, and the parts behind these."""
        if (found := self.__dict__.get("found")) is None:
            frame = model.encode(Recorded(identity.hub_id, identity.journal_id, 0, 0, self._event))
            journal_id = str(identity.journal_id).encode()
            head, begun = frame[:6], 6 + len(journal_id)
            end = frame.index(journal_id, begun) + len(journal_id)
            assert frame[end : end + 2] == b"\0\0"
            rest, parts = frame[end + 2 :], []
            for value in self._values:
                assert rest.count(value) == 1
                part, _, rest = rest.partition(value)
                parts.append(part)
            found = self.__dict__["found"] = head, frame[begun:end], (*parts, rest)
        return found


class _Session:
    """A session that is open, and what frames about it look like."""

    def __init__(self, known: SessionSnapshot) -> None:
        self.known = known
        self.had = known.total_connection_count
        self.busy = 0

    @cached_property
    def snapshot(self) -> _Shape:
        values = shared(SessionSnapshot, self.known) | {"total_connection_count": _COUNT}
        return _Shape(SessionSnapshot(**values), _long(_COUNT))

    def ended(self) -> _Shape:
        return _Shape(
            SessionEnded(
                **shared(EndPointEvent, self.known),
                total_connection_count=self.had,
                elapsed_time=60.0,
                terminate_reason=TerminateReason.TERMINATED_BY_PEER,
                code=0,
            )
        )

    def refused(self, uid: str) -> _Shape:
        return _Shape(
            ConnectionRefused(
                **shared(ServiceEvent, self.known),
                consumer_side_spn_session_id=self.known.spn_session_id,
                connection_uid=uid,
                code=4,
                reason="no provider",
            )
        )


class _Ways:
    """Frames about legs between a consumer and its provider."""

    def __init__(self, consumer: _Session, provider: _Session) -> None:
        self._started = ConnectionStarted(
            **shared(ServiceEvent, consumer.known),
            consumer_side_spn_session_id=consumer.known.spn_session_id,
            provider_side_spn_session_id=provider.known.spn_session_id,
            spn_connection_id=_LEG,
            connection_uid=_UID,
        )
        self.consumer = consumer
        self.provider = provider
        self.started = _Shape(self._started, _string(_LEG), _string(_UID))

    @cached_property
    def snapshot(self) -> _Shape:
        snapshot = ConnectionSnapshot(**shared(model.LegStartEvent, self._started), start_at=_TIME)
        return _Shape(snapshot, _string(_LEG), _string(_UID), _long(_TIME))

    @cached_property
    def ended(self) -> _Shape:
        return _Shape(
            ConnectionEnded(
                **shared(model.LegStartEvent, self._started),
                total_sent_bytes=1_000,
                total_receive_bytes=20_000,
                delta_sent_bytes=1_000,
                delta_receive_bytes=20_000,
                elapsed_time=4.0,
                disconnect_reason=DisconnectReason.CLOSED_BY_PEER,
            ),
            _string(_LEG),
            _string(_UID),
        )


class _Leg:
    __slots__ = ("id", "open", "since", "uid", "ways")

    def __init__(self, ways: _Ways, uid: bytes, leg_id: bytes, since: int) -> None:
        self.ways, self.uid, self.id, self.since = ways, uid, leg_id, since
        self.open = True


class _Segments:
    """Counts all events, and writes each of the segments that are this process's at once."""

    def __init__(self, folder: Path, last: int, workers: int, worker: int) -> None:
        self._folder = folder
        self._identity = load_identity(folder)
        self._workers = workers
        self._place = -worker - 1
        self._frames: list[bytes] | None = None
        self._first = 0
        self.sequence = last

    def begin(self) -> None:
        """Another segment."""
        self.end()
        self._place += 1
        self._first = self.sequence + 1
        self._frames = [] if self._place % self._workers == 0 else None

    def end(self) -> None:
        """Nothing more comes in this one."""
        if self._frames is None:
            return
        header = SegmentHeader(self._identity, self._first).pack()
        with open_private(self._folder / f"{self._first:020}.segment") as file:
            file.write(b"".join((header, *self._frames)))
        self._frames = None

    def put(self, shape: _Shape, time: int, *values: bytes) -> None:
        """An event.

        :param time: microseconds since 1970.
        :param values: for the shape.
        """
        self.sequence += 1
        if self._frames is None:
            return
        identity, sequence = self._identity, self.sequence
        head, middle, parts = shape.parts(identity)
        event_id = event_id_text(identity.hub_id, identity.journal_id, sequence).encode()
        found = [head, event_id, middle, _number(sequence), _number(time), parts[0]]
        for value, part in zip(values, parts[1:], strict=True):
            found += (value, part)
        self._frames.append(pack_frame(b"".join(found)))


class _World:
    """Connections come and go, a session in a hundred events, a refusal in a thousand. The same in every process."""

    def __init__(self, out: _Segments, known: Iterable[SessionSnapshot], time: int, size: Size) -> None:
        self.sessions = {one.spn_session_id: _Session(one) for one in known}
        self.legs: deque[_Leg] = deque()
        self.time = time
        self._out = out
        self._size = size
        every = list(self.sessions.values())
        self._ways = [_Ways(one, every[n % size.services]) for n, one in enumerate(every[size.services :])]

    def snapshot(self, definitions: Iterable[_Shape], head: SnapshotStarted) -> Iterator[None]:
        """Each step is an event of it."""
        put, sessions, legs, entries = self._out.put, list(self.sessions), list(self.legs), 0
        put(_Shape(replace(head, sessions=len(sessions), connections=len(legs))), self.time)
        yield
        for shape in definitions:
            put(shape, self.time)
            entries += 1
            yield
        for session_id in sessions:
            if (session := self.sessions.get(session_id)) is not None:
                put(session.snapshot, self.time, _long(session.had))
                entries += 1
                yield
        for leg in legs:
            if leg.open:
                put(leg.ways.snapshot, self.time, leg.id, leg.uid, _long(leg.since))
                entries += 1
                yield
        put(_Shape(SnapshotEnded(realm=None, network_urn=None, entries=entries)), self.time)
        yield

    def events(self) -> Iterator[None]:
        """Each step is an event; without end."""
        chance, put, serial = random.Random(1), self._put, len(self.sessions)
        for number in itertools.count():
            place = chance.randrange(len(self._ways))
            ways = self._ways[place]
            consumer = ways.consumer
            if number % 100 == 99 and not consumer.busy:
                known = consumer.known
                del self.sessions[known.spn_session_id]
                put(consumer.ended())
                yield
                begun = SessionStarted(**shared(ServiceEvent, known), **_of_session(serial, known.realm or ""))
                serial += 1
                put(_Shape(begun))
                session = _Session(session_started(begun, self.time))
                self.sessions[begun.spn_session_id] = session
                self._ways[place] = _Ways(session, ways.provider)
                yield
                continue
            uid = f"{chance.getrandbits(128):032x}"
            if number % 1_000 == 500:
                put(consumer.refused(uid))
                yield
                continue
            leg = _Leg(ways, _string(uid), _string(f"{4 * number}-{4 * number + 1}"), self.time + self._size.apart)
            put(ways.started, leg.id, leg.uid)
            self.legs.append(leg)
            consumer.had += 1
            consumer.busy += 1
            ways.provider.had += 1
            yield
            if len(self.legs) > self._size.open:
                leg = self.legs.popleft()
                leg.open = False
                leg.ways.consumer.busy -= 1
                put(leg.ways.ended, leg.id, leg.uid)
                yield

    def _put(self, shape: _Shape, *values: bytes) -> None:
        self.time += self._size.apart
        self._out.put(shape, self.time, *values)


def _write(folder: Path, size: Size, segment_size: int, workers: int, worker: int) -> None:
    """All that follows the beginning; of the segments one in so many."""
    state, _ = checkpoint.fold(folder, load_identity(folder))
    out = _Segments(folder, state.last_sequence, workers, worker)
    world = _World(out, state.sessions.values(), state.last_timestamp, size)
    definitions = [_Shape(one) for name in sorted(state.definitions.names()) if (one := state.definitions.get(name))]
    entries = size.sessions + size.open + size.services
    room = int(segment_size * min(16.0, max(1.0, entries / _ENTRIES))) // _FRAME
    events, taken = world.events(), room
    slices: Iterator[None] | None = None
    while out.sequence < size.events or slices is not None:
        if slices is None and taken >= room:
            out.begin()
            taken = 0
            slices = world.snapshot(definitions, state.snapshot_head())
        if slices is not None and sum(1 for _ in itertools.islice(slices, SLICE)) < SLICE:
            slices = None
        taken += sum(1 for _ in itertools.islice(events, _TURN))
    out.end()


def _leave_checkpoint(folder: Path) -> None:
    """Of the last segment alone, so that a start needn't read all."""
    identity, state = load_identity(folder), HubState()
    with JournalReader(folder, after=segments(folder)[-1][0] - 1) as reader:
        while batch := reader.read():
            state.apply_all(recorded for _, recorded in batch)
        assert state.exact and reader.position is not None
        checkpoint.save(folder, identity.journal_id, checkpoint.Checkpoint.take(state), reader.position)


def _main(arguments: list[str]) -> None:
    folder, size = Path(arguments[0]), Size(int(arguments[1]) if arguments[1:] else 10_000_000)
    begun = time.monotonic()
    written = write_large_journal(
        folder, size, start=time.time_ns() // 1000 - size.events * size.apart, workers=len(os.sched_getaffinity(0))
    )
    held = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{written:,} events, {held / (1 << 20):,.0f} MiB, {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    _main(sys.argv[1:])
