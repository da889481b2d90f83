"""What hubs held at a moment: the fold of each log up to a sequence or a time.

Counterparts: :mod:`spnhub.events.state.hub_state` (the fold), :mod:`spnhub.cli.log_state`.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Sequence
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from spnhub.dataclass import dataclass
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.merge import LogKey, log_key
from spnhub.events.analysis.segment_index import IndexDamaged
from spnhub.events.analysis.serialize import serialize
from spnhub.events.journal.files import load_identity, segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import Recorded, from_datetime
from spnhub.events.state.hub_state import HubState

__all__ = ["NOW", "HubAt", "Moment", "MomentError", "States", "segment_at"]

_LOOK: Final = 4096
"""Bytes read to see when a segment begins."""
_WHERE: Final = ("realm", "network_urn")
"""What an event says of itself; what is defined has its name instead."""


class MomentError(ValueError):
    """A moment that can't be read, or that the log doesn't have; the message says why."""


@dataclass(frozen=True, slots=True)
class Moment:
    """After the event with a sequence, or at a time. One of the two is None."""

    sequence: int | None
    time: int | None
    """Microseconds since 1970: what happened then has happened."""

    @classmethod
    def parse(cls, text: str) -> Moment:
        """A sequence, or a time in ISO 8601 (UTC, unless it says otherwise; the end of a time that is cut short is 0).

        :raises MomentError: it is neither.
        """
        if text.isascii() and text.isdecimal():
            if int(text) < 1:
                raise MomentError("a log's sequences count from 1")
            return cls(int(text), None)
        try:
            moment = datetime.fromisoformat(text)
            time = from_datetime(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
        except (ValueError, OverflowError):
            raise MomentError(
                f"{text!r} is neither a sequence nor a time like 2026-01-02T03:04:05.678Z (ISO 8601)"
            ) from None
        return cls(None, time)


NOW: Final = Moment(None, sys.maxsize)
"""The end of the log, whatever its hub's clock says."""


@dataclass(slots=True)
class HubAt:
    """A hub's log folded up to the moment."""

    hub_id: str
    journal_id: str
    first: int
    """Sequence of the first event of the log that there is."""
    state: HubState = field(default_factory=HubState)
    passed: bool = False
    """The log has reached the moment."""
    known: bool = False
    """What was open and defined has been known: from the log's beginning, or from a snapshot."""
    begins: int = 0
    """Time of the first event that was read of it, microseconds since 1970; 0: none was."""

    def missing(self, moment: Moment) -> str | None:
        """Why the log doesn't tell what the hub held at the moment; None: it does, as far as that can be known.

        A log that is kept from its first event on tells of any time: before it the hub held nothing.
        """
        if self.known or self.first <= 1 or moment is NOW:
            return None
        when = format_time(moment.time) if moment.time is not None else f"sequence {moment.sequence}"
        begins = f"begins at sequence {self.first}, {format_time(self.begins)}"
        return f"the log of hub {self.hub_id} {begins}; what the hub held at {when} is no longer kept"

    def take(self, recorded: Recorded, moment: Moment) -> bool:
        """Take in the next event of the log; False: the moment is passed."""
        self.begins = self.begins or recorded.timestamp
        if self.passed:
            return False
        if moment.sequence is not None:
            self.passed = recorded.sequence >= moment.sequence
            if recorded.sequence > moment.sequence:
                return False
        elif moment.time is not None and recorded.timestamp > moment.time:
            self.passed = True
            return False
        if recorded.sequence > self.state.last_sequence:
            self.state.apply(recorded)
            self.known = self.known or self.state.exact
        return not self.passed

    def to_json(self) -> dict[str, Any]:
        """For programs: field names as everywhere outside, times as text."""
        state, definitions = self.state, self.state.definitions
        return {
            "hubId": self.hub_id,
            "journalId": self.journal_id,
            "sequence": state.last_sequence,
            "timestamp": format_time(state.last_timestamp) if state.last_sequence else None,
            "run": None if state.run is None else serialize(state.run),
            "realms": [{"name": name} | serialize(one, without=_WHERE) for name, one in definitions.realms.items()],
            "networks": [
                {"realm": one.realm, "urn": urn} | serialize(one, without=_WHERE)
                for urn, one in definitions.networks.items()
            ],
            "services": [
                {"realm": one.realm, "networkUrn": one.network_urn, "urn": urn}
                | serialize(one, without=(*_WHERE, "service_urn"))
                for urn, one in definitions.services.items()
            ],
            "sessions": [serialize(one) for one in state.sessions.values()],
            "connections": [serialize(one) for one in state.connections.values()],
            "instances": [serialize(one) for one in definitions.instances.values()],
        }


def segment_at(folder: Path, kept: Sequence[int], moment: Moment) -> int:
    """Which of a journal's segments is the last that begins at or before a moment; else the first.

    :param kept: their first sequences.
    :raises spnhub.events.journal.files.JournalError: it can't be read.
    """
    sequence, time = moment.sequence, moment.time
    if sequence is not None:
        return max(0, bisect.bisect_right(kept, sequence) - 1)
    assert time is not None

    def begun(place: int) -> int:
        # A segment's first event has the latest time of all before it, so these are in order.
        with JournalReader(folder, after=kept[place] - 1) as reader:
            batch = reader.read(_LOOK)
        return batch[0][1].timestamp if batch else sys.maxsize

    return bisect.bisect_right(range(1, len(kept)), time, key=begun)


class States:
    """Folds logs up to ``moment``. Memory: what is open then.

    :param hub: only of this hub id, or journal id.
    """

    def __init__(self, moment: Moment, hub: str | None = None) -> None:
        self._moment = moment
        self._hub = hub
        self._logs: dict[LogKey, HubAt] = {}

    def take(self, recorded: Recorded) -> None:
        """Take in the next event of its log."""
        key = log_key(recorded)
        if self._hub is not None and self._hub not in {key[0], str(key[1])}:
            return
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = HubAt(key[0], str(key[1]), recorded.sequence)
        log.take(recorded, self._moment)

    def read_journal(self, folder: Path, index: JournalIndex | None = None) -> None:
        """Fold a journal from the last segment that is early enough: its snapshot has what there was before.

        :param index: has states on the way, so that little is folded.
        :raises spnhub.events.journal.files.JournalError: it can't be read.
        """
        identity = load_identity(folder)
        key = identity.hub_id, identity.journal_id
        if self._hub is not None and self._hub not in {key[0], str(key[1])}:
            return
        kept = [first for first, _ in segments(folder)]
        if index is not None and kept and (log := self._from_mark(index, kept[0])) is not None:
            self._logs[key] = log
            return
        place, back = segment_at(folder, kept, self._moment), 1
        while kept and key not in self._logs:
            log = HubAt(key[0], str(key[1]), kept[0])
            with JournalReader(folder, after=kept[place] - 1) as reader:
                while (batch := reader.read()) and all(log.take(recorded, self._moment) for _, recorded in batch):
                    pass
            if log.known or place == 0:
                self._logs[key] = log
            # The moment is before the end of the segment's snapshot.
            place, back = max(0, place - back), back * 2

    def _from_mark(self, index: JournalIndex, first: int) -> HubAt | None:
        found = index.mark(time=self._moment.time, sequence=self._moment.sequence)
        if found is None:
            return None
        segment, mark = found
        try:
            state = index.state(segment, mark)
            log = HubAt(index.identity.hub_id, str(index.identity.journal_id), first, state, known=True)
            if mark.sequence == self._moment.sequence:
                log.passed = True
                return log
            position = segment.segment, mark.offset
            with JournalReader(index.folder, after=mark.sequence, position=position) as reader:
                while (batch := reader.read()) and all(log.take(recorded, self._moment) for _, recorded in batch):
                    pass
        except (IndexDamaged, FileNotFoundError):
            return None  # the index is damaged, or the segment has gone: read what there is
        return log

    def finish(self) -> list[HubAt]:
        """The hubs, by id.

        :raises MomentError: a sequence that the log doesn't have, or that more than one log has; a moment of which the
            log no longer tells all that was open; an unknown hub.
        """
        logs = [self._logs[key] for key in sorted(self._logs)]
        if not logs:
            what = "there are no events" if self._hub is None else f"there are no events of hub {self._hub}"
            raise MomentError(what)
        sequence = self._moment.sequence
        if sequence is None:
            if reasons := [reason for log in logs if (reason := log.missing(self._moment)) is not None]:
                raise MomentError("; ".join(reasons))
            return logs
        if len(logs) > 1:
            names = ", ".join(f"{log.hub_id} (journal {log.journal_id})" for log in logs)
            raise MomentError(f"sequence {sequence} of which log? Name one with --hub: {names}")
        (log,) = logs
        name = f"the log of hub {log.hub_id}"
        if sequence < log.first:
            raise MomentError(f"{name} begins at sequence {log.first}; {sequence} is no longer kept")
        if not log.passed:
            raise MomentError(f"{name} ends at sequence {log.state.last_sequence}; there is no {sequence} yet")
        if (reason := log.missing(self._moment)) is not None:
            raise MomentError(reason)
        return logs
