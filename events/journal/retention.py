"""Which segments of a journal may go, by size and age (D-8).

Without a topic both bounds delete. With one, events that aren't shipped yet stay until the size bound; what then must
go is declared first. Where realms share a journal, those go first that have most
(:mod:`spnhub.events.journal.shares`). What is left always ends with a whole snapshot. Counterpart:
:mod:`spnhub.events.journal.writer` asks, :mod:`spnhub.events.journal.journal` declares.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events import model
from spnhub.events.journal.files import HEADER_READ, JournalError, SegmentHeader, next_frame, segments
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.shares import RealmSizes, SegmentCut, equal_part, trim
from spnhub.events.journal.shipped_position import shipped_sequence
from spnhub.events.model import EventsLost, EventsTrimmed
from spnhub.schemas.codec import SchemaError

__all__ = ["AgeClock", "Expired", "expired", "journal_size"]

_STEP: Final = 3600.0
"""Seconds by which a clock may be ahead of what has passed, at once; in small parts it is followed."""
_BELIEVED: Final = 86_400.0
"""Seconds after which a clock that was set ahead by more is believed."""
_FIRST_FRAME: Final = 64 * 1024
"""Bytes in which a segment's first event is looked for."""


class AgeClock:
    """The time by which segments grow old: a clock that was set ahead is believed when it has stayed so for a day.

    What is deleted doesn't come back with the right time. A clock that was set back counts at once.

    :param wall: seconds since 1970.
    :param monotonic: monotonic seconds at the same moment.
    """

    def __init__(self, wall: float, monotonic: float) -> None:
        self._anchor = wall - monotonic
        self._ahead_since: float | None = None

    def __call__(self, wall: float, monotonic: float) -> float:
        """Seconds since 1970, for :func:`expired`."""
        offset = wall - monotonic
        if offset - self._anchor <= _STEP:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = monotonic
        if self._ahead_since is None or monotonic - self._ahead_since >= _BELIEVED:
            self._anchor, self._ahead_since = offset, None
        return self._anchor + monotonic


@dataclass(frozen=True, slots=True)
class Expired:
    """What is to go."""

    paths: tuple[Path, ...] = ()
    """Whole segments."""
    cuts: tuple[SegmentCut, ...] = ()
    """Segments that lose some realms."""
    declared: tuple[EventsLost | EventsTrimmed, ...] = ()
    """What must be in the log before anything goes: events that weren't shipped, and gaps."""

    def delete(self, sizes: RealmSizes) -> None:
        """Remove the whole segments; what can't be removed is tried again later."""
        for path in self.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                return
            sizes.forget((path,))

    def trim(self, sizes: RealmSizes) -> None:
        """Take the realms out of the others; that takes about 0.1 s for each."""
        joined: dict[Path, Path] = {}
        for cut in self.cuts:
            try:
                before = None if cut.before is None else joined.get(cut.before, cut.before)
                now_in = trim(cut.path, cut.realms, before)
            except (OSError, JournalError):
                return
            sizes.forget({cut.path, now_in})
            joined[cut.path] = now_in


def expired(folder: Path, options: JournalOptions, keep_from: int, now: float, sizes: RealmSizes) -> Expired | None:
    """What has to go now; None: nothing.

    :param keep_from: first sequence of the last segment with a whole snapshot: it and what follows stay.
    :param now: seconds since 1970.
    :raises OSError: the folder can't be read.
    """
    known = _segments(folder, None if options.topic is None else shipped_sequence(folder, options.topic) or 0)
    total = sum(one.size for one in known)
    may_go = [one for one in known if one.first < keep_from and one is not known[-1]]
    whole: list[_Segment] = []
    for one in may_go:
        if not (options.age is not None and one.written < now - options.age and one.unshipped == 0):
            break
        whole.append(one)
        total -= one.size
    cuts: list[tuple[_Segment, frozenset[str], _Segment | None]] = []
    if options.size is not None and total > options.size:
        more, cuts = _beyond_shares(known[len(whole) :], may_go[len(whole) :], options.size, sizes)
        whole += more
    if not whole and not cuts:
        return None
    return Expired(
        tuple(one.path for one in whole),
        tuple(SegmentCut(one.path, realms, None if before is None else before.path) for one, realms, before in cuts),
        _declared(known, whole, cuts, options.topic, sizes),
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    first: int
    following: int
    """First sequence of the next segment."""
    path: Path
    size: int
    written: float
    """When it was written last, seconds since 1970."""
    unshipped: int
    """How many of its last sequences weren't shipped."""


def _segments(folder: Path, shipped: int | None) -> list[_Segment]:
    known = segments(folder)
    found = []
    for place, (first, path) in enumerate(known):
        stat = path.stat()
        following = known[place + 1][0] if place + 1 < len(known) else first
        unshipped = 0 if shipped is None else min(following - first, max(0, following - 1 - shipped))
        found.append(_Segment(first, following, path, stat.st_size, stat.st_mtime, unshipped))
    return found


_Cuts = list[tuple[_Segment, frozenset[str], _Segment | None]]


def _beyond_shares(
    known: list[_Segment], may_go: list[_Segment], room: int, sizes: RealmSizes
) -> tuple[list[_Segment], _Cuts]:
    """The oldest events of realms that have more than their equal part: whole segments, and realms of segments."""
    of = {one.first: sizes.of(one.first, one.path) for one in known}
    totals: Counter[str] = Counter()
    for kept in of.values():
        totals.update({realm: size for realm, (size, _) in kept.items()})
    # Headers, snapshots and what can't be read are nobody's, and go with the first of the others.
    rest = {one.first: one.size - sum(size for size, _ in of[one.first].values()) for one in known}
    stays = sum(rest[one.first] for one in known) - sum(rest[one.first] for one in may_go)
    part = equal_part(totals.values(), max(0, room - stays))
    excess = {realm: size - part for realm, size in totals.items() if size > part}
    over = sum(one.size for one in known) - room
    gone: dict[int, frozenset[str]] = {}
    alone = len(totals.keys() - {""}) < 2
    for one in may_go:
        if over <= 0:
            break
        kept = of[one.first]
        if alone:
            gone[one.first] = frozenset(kept)
            over -= one.size
            continue
        realms = frozenset(realm for realm in kept if excess.get(realm, 0) > 0)
        if kept.keys() - {""} <= realms:
            realms |= kept.keys()
        elif not realms:
            continue
        gone[one.first] = realms
        over -= rest[one.first] + sum(kept[realm].size for realm in realms)
        for realm in realms & excess.keys():
            excess[realm] -= kept[realm].size
    for one in may_go:
        if over <= 0:
            break
        if one.first not in gone:
            gone[one.first] = frozenset()
            over -= rest[one.first]
    whole: list[_Segment] = []
    cuts: _Cuts = []
    before: _Segment | None = None
    for one in may_go:
        if before is None and gone.get(one.first) == of[one.first].keys():
            whole.append(one)
            continue
        if one.first in gone:
            cuts.append((one, gone[one.first], before))
        before = one
    return whole, cuts


def _declared(
    known: list[_Segment], whole: list[_Segment], cuts: _Cuts, topic: str | None, sizes: RealmSizes
) -> tuple[EventsLost | EventsTrimmed, ...]:
    found: list[EventsLost | EventsTrimmed] = []
    of = {one.first: sizes.of(one.first, one.path) for one in (*whole, *(one for one, _, _ in cuts))}
    unshipped = []
    for one, gone in [*((one, of[one.first].keys()) for one in whole), *((one, gone) for one, gone, _ in cuts)]:
        if one.unshipped:
            # A segment may have been trimmed before; of one that can't be counted each number counts.
            events = sum(kept.events for realm, kept in of[one.first].items() if realm in gone)
            unshipped.append((one, min(events, one.unshipped) if of[one.first] else one.unshipped))
    if unshipped:
        unshipped.sort(key=lambda pair: pair[0].first)
        first, last = unshipped[0][0], unshipped[-1][0]
        begun = _first_timestamp(first.path)
        ended = _first_timestamp(next(one.path for one in known if one.first == last.following))
        found.append(
            EventsLost(
                realm=None,
                network_urn=None,
                first_sequence=first.following - first.unshipped,
                last_sequence=last.following - 1,
                count=sum(count for _, count in unshipped),
                first_timestamp=begun,
                last_timestamp=max(begun, ended),
                reason=f"the journal is full and they are not shipped to {topic}",
            )
        )
    if cuts:  # what goes at the head needs no word: the first sequence says so
        found.append(
            EventsTrimmed(
                realm=None,
                network_urn=None,
                first_sequence=cuts[0][0].first,
                last_sequence=cuts[-1][0].following - 1,
                trimmed_realms=tuple(sorted({realm for _, gone, _ in cuts for realm in gone} - {""})),
            )
        )
    return tuple(found)


def journal_size(folder: Path) -> int:
    """Bytes of all segments.

    :raises OSError: the folder can't be read.
    """
    size = 0
    for _, path in segments(folder):
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            size += path.stat().st_size
    return size


def _first_timestamp(path: Path) -> int:
    """Of a segment's first event; the file's own time where it can't be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_FIRST_FRAME)
            frame = next_frame(data, SegmentHeader.read(path, data[:HEADER_READ]).size)
            if frame is not None:
                return model.decode(frame[0]).timestamp
            return os.fstat(file.fileno()).st_mtime_ns // 1000
    except (OSError, JournalError, SchemaError):
        return 0
