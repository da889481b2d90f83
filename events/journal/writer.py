"""The thread that writes a journal: batches in, files out, and word back of what is written.

Nothing but this thread touches the segment files of an open journal (:mod:`spnhub.events.journal.segment_writer`).
Counterpart: :mod:`spnhub.events.journal.journal`, which lives in the loop's thread and owns everything else.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import UUID

from spnhub.dataclass import dataclass
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.journal import checkpoint as journal_checkpoint
from spnhub.events.journal.checkpoint import Checkpoint
from spnhub.events.journal.files import JournalIdentity
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.retention import AgeClock, Expired, expired, journal_size
from spnhub.events.journal.segment_writer import Descriptor, SegmentWriter
from spnhub.events.journal.sequences import BLOCK, Sequences
from spnhub.events.journal.shares import RealmSizes
from spnhub.events.model import Recorded
from spnhub.events.spare import Spare

__all__ = ["Batch", "WriterThread"]

_JOIN_LIMIT: Final = 1 << 20
"""Waiting batches are written together up to about this many bytes."""
_FIRST_RETRY: Final = 0.05
_LAST_RETRY: Final = 2.0
"""Seconds between attempts to write, doubling from the first to the last."""
_SPARE: Final = 2
"""Descriptors kept for a new segment and the reservation of numbers."""
CHECK: Final = 1.0
"""Seconds between looks whether the segment is still where it was."""
_LOOK: Final = 60.0
"""Seconds between looks at what is to go, beside those at each new segment."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one commit."""

    entries: tuple[Recorded, ...]
    data: bytes
    """Their frames."""
    cost: int
    """What it counts against the memory limit, in bytes."""
    checkpoint: Checkpoint | None = None
    """The state after it, when it is time to save that."""
    fresh: bool = False
    """It begins a segment."""
    completes: int = 0
    """First sequence of the segment whose snapshot ends in this batch; 0: none does."""
    expired: Expired | None = None
    """To be deleted when it is written."""


@dataclass(slots=True)
class _Hand:
    """Batches that are being written, and how far that is: nothing of it is done again after a fault."""

    batches: list[Batch]
    rest: memoryview
    begun: bool = False


class WriterThread:
    """Takes batches from the loop's thread, writes them, and reports them as written.

    The queue has no bound of its own: the journal admits batches within its memory limit. After any exception the
    thread goes on and tries again, since without it nothing would be logged any more.

    :param notify: called in this thread to have ``drain`` called in the loop's; ``RuntimeError`` from it means that
        the loop is gone.
    :param keep_from: first sequence of the last segment with a whole snapshot; 0: there is none.
    :param clock: microseconds since 1970.
    :param on_fault: called in this thread with exceptions other than the disk's.
    """

    def __init__(
        self,
        folder: Path,
        identity: JournalIdentity,
        segments: SegmentWriter,
        sequences: Sequences,
        notify: Callable[[Callable[[], None]], object] | None,
        drain: Callable[[], None],
        *,
        options: JournalOptions,
        keep_from: int,
        clock: Callable[[], int],
        on_fault: OnFault = log_fault,
    ) -> None:
        self.done: deque[Batch] = deque()
        """Batches that are written and not yet reported to the journal; drained in the loop's thread."""
        self.expired: deque[Expired] = deque()
        """To go when that is declared; drained likewise. One at most."""
        self.notified = False
        """``drain`` is on its way."""
        self.progress = threading.Event()
        """Set with each write, for other threads that wait for one."""
        self.error: str | None = None
        """Why writing fails at present."""
        self.last_error: str | None = None
        """Why writing failed the last time it did."""
        self.sync_error: str | None = None
        """Why the last fdatasync failed."""
        self.size = 0
        """Bytes of all segments, at the last look."""
        self._folder = folder
        self._identity = identity
        self._segments = segments
        self._sequences = sequences
        self._notify = notify
        self._drain = drain
        self._sync_interval = options.sync_interval
        self._options = options
        self._keep_from = keep_from
        self._clock = clock
        self._age_clock = AgeClock(clock() / 1_000_000, time.monotonic())
        self._on_fault = on_fault
        self._sizes = RealmSizes(folder, None if segments.position is None else int(segments.position[0].stem))
        self._spare = Spare(_SPARE)
        self._hand: _Hand | None = None
        self._pause = _FIRST_RETRY
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._following: Batch | None = None
        """Taken from the queue, and to be written by itself."""
        self._abandon = threading.Event()
        self._next_check = 0.0
        self._gone = False
        self._last_checkpoint: Checkpoint | None = None
        self._last_sequence = sequences.used
        self._next_look = 0.0
        self._declaring = False
        self._next_sync = 0.0
        # A disk may take its time over a sync; what is written meanwhile must not wait for it (D-6).
        self._syncer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-sync")
        self._syncing: Future[None] | None = None
        self._reserving: Future[None] | None = None
        self._trimming: Future[None] | None = None
        # A thread that is there already can't fail to begin later.
        self._syncer.submit(lambda: None)
        segments.before_end(self.sync)
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Hand over a batch to be written after all earlier ones."""
        self._queue.put(batch)

    def stop(self, timeout: float, checkpoint: Checkpoint | None, last_sequence: int) -> bool:
        """Write what waits, for at most ``timeout`` seconds, and end. False: the thread is stuck inside a write.

        :param checkpoint: the state after the last batch.
        :param last_sequence: the last one given to an event, written or not.
        """
        self._last_checkpoint = checkpoint
        self._last_sequence = last_sequence
        self._queue.put(None)
        self._thread.join(timeout)
        # It may be waiting to try again: then this wakes it, and it gives up. Inside a write nothing reaches it.
        if self._thread.is_alive():
            self._abandon.set()
            self._thread.join(1.0)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while self._step():
                pass
        finally:
            for step in (self._save_last, self._sync_last, self._segments.close, self._syncer.shutdown, self._close):
                try:
                    step()
                except Exception as fault:
                    self._on_fault("journal", fault)
            self.progress.set()

    def _step(self) -> bool:
        """Write what there is, or wait for it. False: it is time to end."""
        try:
            if time.monotonic() >= self._next_check and (gone := self._look_for_segment()) is not None:
                return self._failed(gone)
            # After a fault the same batches are still in hand: they go on where their writing stopped.
            if self._hand is None:
                batches = self.take()
                if batches is None:
                    return False
                if batches:
                    data = batches[0].data if len(batches) == 1 else b"".join(batch.data for batch in batches)
                    self._hand = _Hand(batches, memoryview(data))
            return self._hand is None or self._write(self._hand)
        except Exception as fault:
            self._on_fault("journal", fault)
            return self._failed(f"{type(fault).__name__}: {fault}")

    def _look_for_segment(self) -> str | None:
        """Why the segment isn't there any more. As long as it is not, nothing is written: nobody would ever read it."""
        gone = self._segments.gone
        if gone is None:
            self._next_check = time.monotonic() + CHECK
            if self._gone:
                self.error = None
                self._pause = _FIRST_RETRY
        self._gone = gone is not None
        return gone

    def _failed(self, reason: str) -> bool:
        """Say why writing fails, and wait a little. False: it is given up, because the journal is being closed."""
        self.error = self.last_error = reason
        self.progress.set()
        pause, self._pause = self._pause, min(2 * self._pause, _LAST_RETRY)
        return not self._abandon.wait(pause)

    def _save_last(self) -> None:
        if self._last_checkpoint is not None and self._hand is None:
            self.save(self._last_checkpoint)

    def _sync_last(self) -> None:
        if self._segments.dirty:
            self.sync()

    def _close(self) -> None:
        self._spare.close()
        with contextlib.suppress(OSError):  # then the next start takes it for a power failure: numbers are left out
            self._sequences.close(self._last_sequence)

    def take(self) -> list[Batch] | None:
        """What is to be written next; nothing when it was time to sync; None when it is time to end."""
        wait: float | None = None
        if self._sync_interval is not None and self._segments.dirty:
            wait = self._next_sync - time.monotonic()
            if wait <= 0:
                if self._syncing is None or self._syncing.done():
                    self.sync()
                    wait = None
                else:  # the disk is still busy with the last sync: another would only queue up behind it
                    self._next_sync = time.monotonic() + self._sync_interval
                    wait = self._sync_interval
        wait = CHECK if wait is None else min(wait, CHECK)
        first = self._following
        self._following = None
        if first is None:
            try:
                first = self._queue.get(timeout=wait)
            except queue.Empty:
                return []
        if first is None:
            return None
        # Batches that wait become one write, at most _JOIN_LIMIT bytes: under load that is one system call for hundreds
        # of events. One with a checkpoint ends it, since its state is the one after all that is written.
        batches, size = [first], len(first.data)
        while size < _JOIN_LIMIT and batches[-1].checkpoint is None:
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._queue.put(None)  # the last thing that is ever put, so it stays the last
                break
            if following.fresh:  # it begins a new segment, so it can't be joined with what ends the old one
                self._following = following
                break
            batches.append(following)
            size += len(following.data)
        return batches

    def _write(self, hand: _Hand) -> bool:
        """Write until it is done. False: given up, because the journal is being closed."""
        while hand.rest:
            error: OSError | None = None
            try:
                self._spare.run(functools.partial(self.prepare, hand))
            except OSError as exc:
                error = exc
            else:
                was_dirty = self._segments.dirty
                # A full disk may take a part: what it has taken isn't written again.
                done, error = self._segments.write(hand.rest)
                hand.rest = hand.rest[done:]
                if self._sync_interval is not None and not was_dirty and self._segments.dirty:
                    self._next_sync = time.monotonic() + self._sync_interval
            if error is not None and not self._failed(error.strerror or str(error)):
                return False
        if self._sync_interval == 0:  # synchronous: a batch counts as written when it is on the disk
            self.sync()
            assert self._syncing is not None
            self._syncing.result()
        for batch in hand.batches:
            self._sizes.add(batch.entries, batch.data)
        self.done.extend(hand.batches)
        self._hand = None
        self.error = None
        self._pause = _FIRST_RETRY
        self.progress.set()
        self.call_drain()
        self._spare.refill()
        if (checkpoint := hand.batches[-1].checkpoint) is not None:
            self.save(checkpoint)
        self.retain(hand.batches)
        return True

    def prepare(self, hand: _Hand) -> None:
        """Numbers that are reserved, and a segment to write in.

        :raises OSError: they can't be had.
        """
        first, last = hand.batches[0], hand.batches[-1]
        self._reserve(last.entries[-1].sequence)
        if not hand.begun:
            if self._segments.begin(first.entries[0].sequence, fresh=first.fresh):
                self._sizes.begin(first.entries[0].sequence)
            hand.begun = True

    def _reserve(self, sequence: int) -> None:
        """See that this sequence is reserved; half a block ahead beside the writing.

        :raises OSError: it can't be.
        """
        if sequence > self._sequences.until:
            if self._reserving is not None:
                self._reserving.exception()  # waits; what went wrong shows in the next line
            if sequence > self._sequences.until:
                self._sequences.reserve(sequence)
        elif sequence > self._sequences.until - BLOCK // 2 and (self._reserving is None or self._reserving.done()):
            self._reserving = self._syncer.submit(self._sequences.reserve, self._sequences.until)

    def save(self, checkpoint: Checkpoint) -> None:
        """Save the state after all that is written. Without it the next start takes longer, no more."""
        if (position := self._segments.position) is not None:
            self._syncer.submit(_save_checkpoint, self._folder, self._identity.journal_id, checkpoint, position)

    def retain(self, batches: list[Batch]) -> None:
        """Delete what was declared, and see what else has to go."""
        look = time.monotonic() >= self._next_look
        for batch in batches:
            if batch.completes:
                self._keep_from = batch.completes
                look = True
            if batch.expired is not None:
                batch.expired.delete(self._sizes)
                if batch.expired.cuts:  # beside the writing: that takes its time
                    self._trimming = self._syncer.submit(self._trim, batch.expired)
                else:
                    self._declaring = False
        if not look or (self._declaring and time.monotonic() < self._next_look):
            return
        if self._trimming is not None and not self._trimming.done():
            return
        self._next_look = time.monotonic() + _LOOK
        with contextlib.suppress(OSError):
            self.size = journal_size(self._folder)
            now = self._age_clock(self._clock() / 1_000_000, time.monotonic())
            found = expired(self._folder, self._options, self._keep_from, now, self._sizes)
            if found is None:
                return
            if not found.declared:
                found.delete(self._sizes)
            else:
                self._declaring = True
                self.expired.append(found)
                self.call_drain()

    def _trim(self, found: Expired) -> None:
        """In the syncing thread."""
        try:
            found.trim(self._sizes)
        finally:
            self._declaring = False
            # More may have come to go meanwhile.
            self._next_look = 0.0

    def call_drain(self) -> None:
        if self._notify is not None and not self.notified:
            self.notified = True
            try:
                self._notify(self._drain)
            except RuntimeError:
                self.notified = False  # the loop is closed; close() of the journal drains

    def sync(self) -> None:
        self._syncing = self._syncer.submit(self._sync_descriptor, self._segments.to_sync())

    def _sync_descriptor(self, segment: Descriptor) -> None:
        """In the syncing thread. The kernel forgets pages that a disk didn't take: no use in trying again."""
        try:
            os.fdatasync(segment.fd)
            self.sync_error = None
        except OSError as exc:
            self.sync_error = exc.strerror or str(exc)
        finally:
            segment.release()


def _save_checkpoint(folder: Path, journal_id: UUID, checkpoint: Checkpoint, position: tuple[Path, int]) -> None:
    with contextlib.suppress(OSError):
        journal_checkpoint.save(folder, journal_id, checkpoint, position)
