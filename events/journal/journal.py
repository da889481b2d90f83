"""The local event log: what happened is written here before anyone outside can see it (D-4, D-6, D-8).

:class:`Journal` belongs to the loop's thread: :meth:`~Journal.append` gives an event its sequence, in memory;
:meth:`~Journal.commit` hands what was appended to a thread that writes it, one write for each batch; then
:attr:`~Journal.written` moves and ``on_written`` is called, in the loop's thread again. Written means in the page
cache: that survives the death of the process by any signal. It reaches the disk with the next fdatasync, so a power
failure may take the last :attr:`JournalOptions.sync_interval` seconds.

A segment begins with a snapshot of what is open (D-8): SnapshotStarted is its first event, the rest comes in slices,
among what else happens. A loss is declared by an event, and then a new segment begins, so that readers know again.

Counterparts: :mod:`spnhub.events.journal.files` (layout), :mod:`spnhub.events.journal.reader`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, Self
from uuid import UUID

from spnhub.events import model
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.journal import checkpoint as journal_checkpoint
from spnhub.events.journal import schemas as journal_schemas
from spnhub.events.journal.checkpoint import Checkpoint
from spnhub.events.journal.files import (
    FolderLock,
    JournalCorrupt,
    JournalError,
    JournalIdentity,
    JournalLocked,
    open_identity,
    pack_frame,
)
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.retention import Expired
from spnhub.events.journal.segment_writer import SegmentWriter
from spnhub.events.journal.segments import SEGMENT_SIZE, Segments
from spnhub.events.journal.sequences import Sequences
from spnhub.events.journal.writer import Batch, WriterThread
from spnhub.events.model import (
    Event,
    EventsLost,
    Recorded,
)
from spnhub.events.state.hub_state import HubState

__all__ = [
    "EVENT_COST",
    "MEMORY_LIMIT",
    "SEGMENT_SIZE",
    "EventJournal",
    "Journal",
    "JournalCorrupt",
    "JournalError",
    "JournalLocked",
]

MEMORY_LIMIT: Final = 64 << 20
"""Bytes of events that may wait for a disk that doesn't take them, objects included; about 50,000 events."""
CHECKPOINT_EVERY: Final = 50_000
"""Events after which what is open is saved: a start reads at most so many, about a second's worth."""
EVENT_COST: Final = 1024
"""What an event counts against the memory limit beside its frame: its objects, generously."""


_LEAST_MEMORY: Final = 8192
"""Half of it holds an EventsLost, so that the declaration of a loss is never itself what doesn't fit."""


class EventJournal(Protocol):
    """An event log for its writer, with files or without."""

    @property
    def hub_id(self) -> str: ...
    @property
    def journal_id(self) -> UUID: ...
    @property
    def state(self) -> HubState: ...
    @property
    def appended(self) -> int: ...
    @property
    def written(self) -> int: ...
    @property
    def logged(self) -> Mapping[str, Sequence[int]]: ...
    def append(self, event: Event, timestamp: int) -> Recorded: ...
    def commit(self) -> int: ...
    def close(self, timeout: float = ...) -> bool: ...


_DEAD: Final = "the thread that writes it has ended"


class Journal:
    """The writer of a journal folder. All methods belong to the thread that ``notify`` leads to."""

    def __init__(
        self,
        folder: Path,
        identity: JournalIdentity,
        lock: FolderLock,
        state: HubState,
        position: tuple[Path, int] | None,
        *,
        segment_size: int,
        options: JournalOptions,
        on_written: Callable[[Sequence[Recorded]], None] | None,
        notify: Callable[[Callable[[], None]], object] | None,
        memory_limit: int,
        clock: Callable[[], int],
        on_fault: OnFault,
    ) -> None:
        self.folder = folder
        self.lost = 0
        """Events dropped because the disk took none and memory was used up; each is declared by an EventsLost."""
        self.logged: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        """By realm: events that were appended for it, and their bytes."""
        self._identity = identity
        self._lock = lock
        self._state = state
        self._on_written = on_written
        self._memory_limit = max(memory_limit, _LEAST_MEMORY)
        self._clock = clock
        sequences = Sequences(folder, identity.journal_id, state.last_sequence)
        sequences.reserve(sequences.used)
        self._appended = self._written = sequences.used
        self._entries: list[Recorded] = []
        self._frames: list[bytes] = []
        self._pending = 0
        self._since_checkpoint = 0
        self._gap: EventsLost | None = None
        self._declared = False
        self._closed = False
        self._segments = Segments(state, position, size=segment_size, options=options, clock=clock)
        self._fresh = False
        self._expired: Expired | None = None
        self._thread = WriterThread(
            folder,
            identity,
            SegmentWriter(folder, identity, position),
            sequences,
            notify,
            self._drain,
            options=options,
            keep_from=0 if state.in_snapshot else self._segments.first,
            clock=clock,
            on_fault=on_fault,
        )
        if sequences.used > state.last_sequence:
            self._declare_loss_at_start(state)

    @classmethod
    def open(
        cls,
        folder: Path,
        hub_id: str,
        options: JournalOptions | None = None,
        *,
        segment_size: int = SEGMENT_SIZE,
        on_written: Callable[[Sequence[Recorded]], None] | None = None,
        notify: Callable[[Callable[[], None]], object] | None = None,
        memory_limit: int = MEMORY_LIMIT,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        on_fault: OnFault = log_fault,
    ) -> Journal:
        """Open or make the journal in ``folder``, drop an unfinished tail, and fold what it holds.

        :param options: None: nothing is ever deleted.
        :param on_written: called with each batch when it is written, in order.
        :param notify: brings a call into this thread from another, like ``loop.call_soon_threadsafe``; without it
            only :meth:`flush` and :meth:`close` learn of what is written.
        :param memory_limit: bytes of events that wait for the disk, beyond which the newest are dropped and declared.
        :param clock: microseconds since 1970, for the one event that the journal writes of itself (EventsLost).
        :param on_fault: called in the writing thread with faults there; the thread goes on.
        :raises JournalLocked: another process writes it.
        :raises JournalCorrupt: it is damaged in the middle.
        :raises JournalError: it belongs to another hub, or the folder can't be used.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FolderLock.acquire(folder, hub_id)
        except OSError as exc:
            raise JournalError(f"cannot use journal folder {folder}: {exc.strerror}") from exc
        try:
            identity = open_identity(folder, hub_id)
            journal_schemas.learn(folder)
            journal_schemas.leave(folder)
            state, position = journal_checkpoint.fold(folder, identity)
            return cls(
                folder,
                identity,
                lock,
                state,
                position,
                segment_size=segment_size,
                options=options or JournalOptions(),
                on_written=on_written,
                notify=notify,
                memory_limit=memory_limit,
                clock=clock,
                on_fault=on_fault,
            )
        except OSError as exc:
            lock.release()
            raise JournalError(f"cannot use journal folder {folder}: {exc.strerror}") from exc
        except BaseException:  # also on a KeyboardInterrupt: the folder must not stay locked
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def hub_id(self) -> str:
        """The hub that the journal belongs to."""
        return self._identity.hub_id

    @property
    def journal_id(self) -> UUID:
        """Minted with the folder (D-4)."""
        return self._identity.journal_id

    @property
    def state(self) -> HubState:
        """What is open: folded from what was on disk when the journal was opened, and from what is appended since."""
        return self._state

    @property
    def appended(self) -> int:
        """The last sequence given."""
        return self._appended

    @property
    def written(self) -> int:
        """The highest sequence known to be written. Lost ones count when the EventsLost that declares them is."""
        return self._written

    @property
    def pending(self) -> int:
        """Bytes of events that wait for the disk."""
        return self._pending

    @property
    def size(self) -> int:
        """Bytes of all segments, when that was looked at last."""
        return self._thread.size

    @property
    def error(self) -> str | None:
        """Why the log can't be written at present; None when it can."""
        return _DEAD if self.is_dead else self._thread.error

    @property
    def is_dead(self) -> bool:
        """Whether nothing will be written any more: the writer's thread has ended by a fault. The hub has to stop."""
        return not self._closed and not self._thread.is_alive

    @property
    def sync_error(self) -> str | None:
        """Why the last fdatasync failed; None when it didn't."""
        return self._thread.sync_error

    def append(self, event: Event, timestamp: int) -> Recorded:
        """Give an event its place in the log, in memory. It costs some 20 µs and no I/O.

        :param timestamp: when it happened, microseconds since 1970.
        :raises JournalError: the journal is closed, or the event is too long.
        """
        if self._closed:
            raise JournalError(f"journal {self.folder} is closed")
        if not self._declare() and not self._entries and self._gap is None and self._segments.is_full:
            self._begin_segment()
        recorded = self._add(event, timestamp)
        size = len(self._frames[-1])
        self._segments.fill(size)
        if event.realm is not None:
            logged = self.logged[event.realm]
            logged[0] += 1
            logged[1] += size
        return recorded

    def commit(self) -> int:
        """Hand what was appended to the writer as one batch. The last sequence of it: wait for :attr:`written`."""
        if not self._entries:
            return self._appended
        data = b"".join(self._frames)
        self._since_checkpoint += len(self._entries)
        checkpoint = None
        if self._since_checkpoint >= CHECKPOINT_EVERY and not self._state.in_snapshot:
            checkpoint = Checkpoint.take(self._state)
            self._since_checkpoint = 0
        batch = Batch(
            tuple(self._entries),
            data,
            len(data) + EVENT_COST * len(self._entries),
            checkpoint,
            self._fresh,
            self._segments.completes,
            self._expired,
        )
        self._fresh, self._segments.completes, self._expired = False, 0, None
        fits = self._pending == 0 or self._pending + batch.cost <= self._memory_limit
        if fits and (self._gap is None or self._declared):
            if self._gap is not None:
                self.lost += self._gap.count
                self._gap = None
            self._pending += batch.cost
            self._thread.put(batch)
        else:
            self._drop(batch)
        self._declared = False
        self._entries.clear()
        self._frames.clear()
        if self._declare():
            self.commit()
        return self._appended

    def flush(self, timeout: float) -> bool:
        """Commit, and block until all of it is written, at most ``timeout`` seconds. For starts and tests."""
        self.commit()
        end = time.monotonic() + timeout
        while self._written < self._appended:
            self._thread.progress.clear()
            self._drain()
            if self._written >= self._appended:
                break
            if not self._thread.progress.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                return False
        return True

    def close(self, timeout: float = 5.0) -> bool:
        """Write what waits, for at most ``timeout`` seconds, sync, and release the folder.

        :returns: whether all events are in the log.
        """
        if self._closed:
            return self._written == self._appended
        self.commit()
        self._closed = True
        checkpoint = None if self._state.in_snapshot else Checkpoint.take(self._state)
        if self._thread.stop(timeout, checkpoint, self._appended):
            self._lock.release()  # else it goes with the process: a thread stuck in the kernel may still write
        self._drain()
        return self._written == self._appended

    def _add(self, event: Event, timestamp: int) -> Recorded:
        recorded = Recorded(self.hub_id, self.journal_id, self._appended + 1, timestamp, event)
        frame = pack_frame(model.encode(recorded))
        self._appended += 1
        self._entries.append(recorded)
        self._frames.append(frame)
        self._state.take(recorded)
        return recorded

    def _begin_segment(self) -> None:
        """The batch at hand, empty yet, begins a segment, and that begins with a snapshot."""
        self._fresh = True
        self._segments.begin(self._appended + 1)
        self._go_on_with_snapshot()

    def _go_on_with_snapshot(self) -> None:
        for event in self._segments.next_slice():
            self._add(event, self._state.last_timestamp)

    def _declare_loss_at_start(self, state: HubState) -> None:
        """The machine failed, and took events that may have been seen: none of their numbers is given again."""
        first, last = state.last_sequence + 1, self._appended
        moment = state.last_timestamp
        event = EventsLost(
            realm=None,
            network_urn=None,
            first_sequence=first,
            last_sequence=last,
            count=last - first + 1,
            first_timestamp=moment,
            last_timestamp=moment,
            reason="a power failure took the end of the journal: these numbers may have been used, and are left out",
        )
        self.lost += event.count
        self._add(event, moment)
        self._segments.break_off()
        self.commit()

    def _drop(self, batch: Batch) -> None:
        """Remember what the log will miss. Until that is declared, everything later is dropped too: one gap."""
        self._segments.break_off()
        first, last = batch.entries[0], batch.entries[-1]
        gap = self._gap
        times = [recorded.timestamp for recorded in batch.entries]
        if gap is not None:
            times += (gap.first_timestamp, gap.last_timestamp)
        first_sequence = first.sequence if gap is None else gap.first_sequence
        self._gap = EventsLost(
            realm=None,
            network_urn=None,
            first_sequence=first_sequence,
            last_sequence=last.sequence,
            count=last.sequence - first_sequence + 1,
            first_timestamp=min(times),
            last_timestamp=max(times),
        )

    def _declare(self) -> bool:
        """Begin a batch with the event that declares the gap, if there is one and room to go on."""
        if self._gap is None or self._entries or self._closed or self._pending > self._memory_limit // 2:
            return False
        self._declared = True
        event = replace(self._gap, reason=self._thread.last_error or "the disk is too slow")
        self._add(event, max(self._clock(), event.last_timestamp))
        return True

    def _drain(self) -> None:
        self._thread.notified = False
        done = self._thread.done
        while done:
            batch = done.popleft()
            self._pending -= batch.cost
            self._written = batch.entries[-1].sequence
            if self._on_written is not None:
                self._on_written(batch.entries)
        if self._closed:
            return
        if self._declare():
            self.commit()
        if not self._entries and self._gap is None:
            # One slice for each batch that is written: a slow disk makes it slower, and nothing waits for it.
            self._go_on_with_snapshot()
            while self._thread.expired:
                self._expired = self._thread.expired.popleft()
                for event in self._expired.declared:
                    self._add(event, max(self._clock(), self._state.last_timestamp))
            self.commit()
