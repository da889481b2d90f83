"""An index of a journal, so that its past can be asked without reading it all.

Each segment has an index of its own (:mod:`spnhub.events.analysis.segment_index`), made from the segment alone, as it
grows (:mod:`spnhub.events.analysis.index_making`), and kept in a folder of the reader's own: the journal's stays as it
is. What is missing, damaged, or of a log that a crash has made another, is noticed and made anew; nothing depends on it
but time.

Counterparts: :mod:`spnhub.events.analysis.point_in_time`, :mod:`spnhub.events.analysis.concerning_source` and ``spnlog
explain``, which ask it; :mod:`spnhub.console`.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import platformdirs

from spnhub.events.analysis import index_making
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.index_making import IndexMaker
from spnhub.events.analysis.segment_index import IndexDamaged, IndexPart, SegmentIndex, load_index
from spnhub.events.journal.files import load_identity, segments
from spnhub.events.journal.reader import JournalPart, Stretches
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["JournalIndex", "default_index_folder"]

_SUFFIX: Final = ".index"


def default_index_folder() -> Path:
    """In the user's cache."""
    return platformdirs.user_cache_path("spnhub", appauthor=False) / "journal-index"


class JournalIndex:
    """The indexes of a journal's segments. Its methods may be called in several threads.

    :param folder: the journal's.
    :param cache: where indexes of all journals are kept.
    :raises JournalError: there is no journal in the folder.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.identity = load_identity(folder)
        self._place = cache / str(self.identity.journal_id)
        self._known: dict[int, SegmentIndex] = {}
        """Replaced, never changed."""
        self._kept: list[int] = []
        """First sequences of the segments that there are."""
        self._asked: dict[int, int] = {}
        """Of segments that grow: the size for which an index was last asked for."""
        self.missing = len(self.load())
        """Segments whose index wasn't there, or not all of it, when this was made."""
        self._asked = {}
        self._clean()

    @property
    def segments(self) -> list[SegmentIndex]:
        """Those that are known, in order; the last may be of the segment that is being written."""
        known = self._known
        return [known[first] for first in sorted(known)]

    @property
    def reaches_last(self) -> bool:
        """Whether all segments but the last one have an index."""
        return all(first in self._known and self._known[first].whole for first in self._kept[:-1])

    def load(self) -> list[tuple[int, int | None]]:
        """Take note of what is there now; the segments whose index is to be made, or to go on.

        :return: first sequence, and the next segment's; None: it is the one that is being written.
        """
        kept = segments(self.folder)
        self._kept = [first for first, _ in kept]
        known: dict[int, SegmentIndex] = {}
        journal_id = str(self.identity.journal_id)
        missing: list[tuple[int, int | None]] = []
        for place, (first, path) in enumerate(kept):
            following = kept[place + 1][0] if place + 1 < len(kept) else None
            found = self._known.get(first)
            if found is None or not found.whole:
                found = load_index(self._path(first), path, journal_id, finished=following is not None)
            if found is not None:
                known[first] = found
            if following is not None:
                if found is None or not found.whole:
                    missing.append((first, following))
            elif self._has_grown(first, path, 0 if found is None else found.until):
                missing.append((first, None))
        there = {first for first, _ in kept}
        gone = [one for first, one in self._known.items() if first not in there]
        self._known = known
        for one in gone:
            with contextlib.suppress(OSError):
                one.path.unlink()
        return missing

    def _has_grown(self, first: int, path: Path, until: int) -> bool:
        """By so much that another part can be made. Asked once: where a state isn't exact there is none."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        if size - max(until, self._asked.get(first, 0)) < index_making.APART:
            return False
        self._asked = {first: size}
        return True

    def make(self, first: int, following: int | None) -> None:
        """Make a segment's index, or go on with it.

        :param following: first sequence of the next; None: it is being written.
        :raises OSError: it can't be written, or the segment has gone.
        :raises JournalCorrupt: the segment is damaged.
        """
        maker = IndexMaker(self.folder, first, following, str(self.identity.journal_id))
        try:
            maker.go_on(self._known.get(first))
        except IndexDamaged:
            maker = IndexMaker(self.folder, first, following, str(self.identity.journal_id))
        if not maker.parts:
            maker.begin_after(next((one for one in reversed(self.segments) if one.first < first), None))
        made = maker.make()
        if not maker.parts:
            return
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(first)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        with open(temporary, "wb", opener=_private) as file:
            file.write(made)
        temporary.replace(path)

    def complete(self) -> None:
        """Make all that is missing; where that isn't possible, it stays missing."""
        self._asked = {}
        with contextlib.suppress(OSError):
            for first, following in self.load():
                self.make(first, following)
                self.load()

    def mark(self, *, time: int | None = None, sequence: int | None = None) -> tuple[SegmentIndex, IndexPart] | None:
        """The last mark at or before a moment: one of the two.

        None, too, where segments that have no index lie between: a snapshot at the beginning of one of them is nearer.
        """
        known, kept = self.segments, self._kept
        if sequence is not None:
            place = bisect.bisect_right(known, sequence, key=lambda one: one.first)
        else:
            assert time is not None
            place = bisect.bisect_right(known, time, key=lambda one: one.begun)
        for one in reversed(known[:place]):
            for mark in reversed(one.marks):
                if (mark.sequence <= sequence) if sequence is not None else (time is not None and mark.time <= time):
                    before = kept[: bisect.bisect_right(kept, sys.maxsize if sequence is None else sequence)]
                    if place < len(known):
                        before = before[: bisect.bisect_left(before, known[place].first)]
                    unknown = set(before[bisect.bisect_right(before, one.first) :]) - self._known.keys()
                    # One at most is read through.
                    return None if len(unknown) > 1 else (one, mark)
        return None

    def flow_until(self, segment: SegmentIndex, mark: IndexPart, since: int) -> Flow | None:
        """What flowed by service between a time and a mark; None: a segment of between has no index.

        :param since: microseconds since 1970.
        :raises IndexDamaged: it has been discarded.
        """
        known = self._known
        flow, kept = Flow(), [first for first, _ in segments(self.folder)]
        for first in reversed(kept[: bisect.bisect_right(kept, segment.first)]):
            one = known.get(first)
            if one is None or not (one.whole or first == segment.first):
                return None
            for part in reversed(one.parts):
                if part.sequence > mark.sequence:
                    continue
                if part.time < since:
                    return flow
                with self._discarding(one):
                    one.add_to(flow, part, since)
        return flow

    def state(self, segment: SegmentIndex, mark: IndexPart) -> HubState:
        """The state at a mark.

        :raises IndexDamaged: it has been discarded.
        """
        with self._discarding(segment):
            return segment.state(mark)

    def concerning(self, segment: SegmentIndex, part: IndexPart) -> list[tuple[bytes, Recorded]]:
        """The events of a part that concern incidents, in order, each with its Confluent frame.

        :raises IndexDamaged: it has been discarded.
        """
        with self._discarding(segment):
            return segment.concerning(part)

    def part(self, *wanted: Search | Story) -> JournalPart:
        """What has to be read of the journal, so that these learn all that they need to."""
        keys = {key for one in wanted for key in one.keys()}  # noqa: SIM118 - not a mapping's
        mentions = {text.encode(errors="surrogateescape") for one in wanted for text in one.mentions()}
        stretches: dict[int, Stretches] = {}
        found = False
        last = max(self._kept, default=0)
        for one in self.segments:
            grows = one.first == last
            if not (one.whole or grows):
                continue
            with contextlib.suppress(IndexDamaged), self._discarding(one):
                naming = one.naming(keys)
                found = found or bool(naming)
                # Where gaps are isn't known: what happened to the log itself meanwhile belongs to a story, too.
                if not (found and one.has_gaps):
                    stretches[one.first] = Stretches(one.until, tuple(one.bytes_of(part) for part in naming), grows)
        return JournalPart(stretches, tuple(mentions))

    @contextlib.contextmanager
    def _discarding(self, segment: SegmentIndex) -> Iterator[None]:
        """An index that turns out to be damaged is discarded, so that it is made anew; the error goes on."""
        try:
            yield
        except IndexDamaged:
            self._discard(segment)
            raise

    def _discard(self, damaged: SegmentIndex) -> None:
        self._known = {first: one for first, one in self._known.items() if one is not damaged}
        self._asked = {}
        with contextlib.suppress(OSError):
            damaged.path.unlink()

    def _clean(self) -> None:
        """Of segments that have gone while nobody looked."""
        there = {self._path(first) for first, _ in segments(self.folder)}
        with contextlib.suppress(OSError):
            for path in self._place.glob(f"*{_SUFFIX}"):
                if path not in there:
                    path.unlink()

    def _path(self, first: int) -> Path:
        return self._place / f"{first:020}{_SUFFIX}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
