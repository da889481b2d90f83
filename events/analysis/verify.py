"""Whether a log is complete and consistent: exactly D-9's faults, and beside them remarks that are no faults.

Memory: eight bytes for each event (its digest, to tell a redelivery from another event with the same sequence), and
what is open. Counterparts: :mod:`spnhub.events.analysis.merge` (the order), :mod:`spnhub.events.state.hub_state` (the
fold).
"""

from __future__ import annotations

import bisect
import hashlib
import sys
from array import array
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import field
from typing import Any, Final
from uuid import UUID

from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.merge import Entry, LogKey, Missing, log_key, merge
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionStarted,
    EventsLost,
    EventsTrimmed,
    HubStarted,
    Recorded,
    SessionEnded,
    SnapshotEnded,
    Unknown,
)
from spnhub.events.source import Source
from spnhub.events.state.hub_state import FaultKind, HubState, LogFault

__all__ = ["Gap", "LogReport", "Verifier", "VerifyFault", "VerifyResult", "verify"]

_FAULT_LIMIT: Final = 1000
"""Faults that are kept; all are counted."""
_CONVERSATION_LIMIT: Final = 100_000
"""The most conversations whose last leg is remembered; those idle longest are forgotten first."""
_CHUNK: Final = 4096
_SLACK: Final = 1_000_000
"""Microseconds by which a start computed from elapsedTime may be wrong."""
_EXCUSED: Final = frozenset(
    {
        FaultKind.END_WITHOUT_START,
        FaultKind.UNKNOWN_SESSION,
        FaultKind.UNKNOWN_LEG,
        FaultKind.WRONG_COUNT,
        FaultKind.WRONG_BYTES,
    }
)
"""What a missing head or a gap explains."""


@dataclass(frozen=True, slots=True)
class VerifyFault:
    """Something that must not be."""

    kind: str
    message: str
    hub_id: str | None = None
    journal_id: UUID | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequences that are not in the log."""

    first: int
    last: int
    declared: bool


@dataclass(frozen=True, slots=True)
class LogReport:
    """What was found of one hub's journal, over all sources."""

    hub_id: str
    journal_id: UUID
    first_sequence: int
    last_sequence: int
    events: int
    redelivered: int
    excused: int
    """Events about a session or leg whose start is in a missing head or in a gap."""
    unknown: tuple[str, ...]
    """Kinds of events that only a newer version knows: what they changed isn't seen here."""
    gaps: tuple[Gap, ...]
    trimmed: int
    """Events that are no longer kept, since their realms had more than their share."""
    last_timestamp: int
    open_sessions: tuple[str, ...]
    open_connections: tuple[str, ...]

    @property
    def missing_head(self) -> bool:
        """Whether retention has taken the beginning."""
        return self.first_sequence > 1


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The verdict. ``faults`` holds the first 1,000 of ``fault_count``."""

    logs: tuple[LogReport, ...]
    faults: tuple[VerifyFault, ...]
    fault_count: int
    warnings: tuple[str, ...] = ()
    """What may do harm to the log, and hasn't."""

    @property
    def clean(self) -> bool:
        """No fault."""
        return self.fault_count == 0

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "clean": self.clean,
            "faultCount": self.fault_count,
            "faults": [
                {
                    "kind": fault.kind,
                    "hubId": fault.hub_id,
                    "journalId": None if fault.journal_id is None else str(fault.journal_id),
                    "sequence": fault.sequence,
                    "message": fault.message,
                }
                for fault in self.faults
            ],
            "warnings": list(self.warnings),
            "logs": [
                {
                    "hubId": log.hub_id,
                    "journalId": str(log.journal_id),
                    "firstSequence": log.first_sequence,
                    "lastSequence": log.last_sequence,
                    "events": log.events,
                    "redelivered": log.redelivered,
                    "excused": log.excused,
                    "unknown": list(log.unknown),
                    "missingHead": log.missing_head,
                    "trimmed": log.trimmed,
                    "gaps": [{"first": gap.first, "last": gap.last, "declared": gap.declared} for gap in log.gaps],
                    "lastTimestamp": format_time(log.last_timestamp),
                    "openSessions": list(log.open_sessions),
                    "openConnections": list(log.open_connections),
                }
                for log in self.logs
            ],
        }

    def render(self) -> list[str]:
        """For people, a line each."""
        lines = []
        for log in self.logs:
            lines.append(
                f"hub {log.hub_id}, journal {log.journal_id}: {log.events} events,"
                f" {log.first_sequence} to {log.last_sequence}, the last at {format_time(log.last_timestamp)}"
            )
            if log.missing_head:
                lines.append(f"  the first {log.first_sequence - 1} are no longer kept")
            if log.trimmed:
                lines.append(f"  {log.trimmed} of realms with more than their share are no longer kept")
            if log.redelivered:
                lines.append(f"  {log.redelivered} redelivered")
            if log.excused:
                lines.append(f"  {log.excused} about something that began where the log is missing")
            if log.unknown:
                lines.append(f"  of a newer version, and not looked into: {', '.join(log.unknown)}")
            lines += [f"  {_span(gap.first, gap.last)} lost, and declared as lost" for gap in log.gaps if gap.declared]
            if log.open_sessions or log.open_connections:
                sessions, connections = len(log.open_sessions), len(log.open_connections)
                lines.append(f"  open at the end: {sessions} sessions, {connections} connections")
            lines += [f"    connection {name}" for name in log.open_connections[:20]]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault.message}" for fault in self.faults]
        if self.fault_count > len(self.faults):
            lines.append(f"and {self.fault_count - len(self.faults)} more faults")
        lines.append("clean" if self.clean else f"{self.fault_count} faults")
        return lines


@dataclass(slots=True)
class _Log:
    """What is known of one hub's journal so far."""

    hub_id: str
    journal_id: UUID
    state: HubState = field(default_factory=HubState)
    missing: Missing = field(default_factory=Missing)
    digests: dict[int, array[int]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    trimmed: list[tuple[int, int]] = field(default_factory=list)
    first: int = 0
    events: int = 0
    redelivered: int = 0
    excused: int = 0
    unknown: set[str] = field(default_factory=set)
    blind_until: int | None = None
    """Something may have begun unseen up to this time; None when all was seen."""


@dataclass(frozen=True, slots=True)
class _Leg:
    """The last leg of a conversation."""

    epoch: int
    rejected: bool = False
    """Its provider didn't take it, so another may have been asked in the same epoch (D-35)."""
    paused: tuple[int, int] | None = None
    """The offsets at which both endpoints paused it, where the next leg begins; None: it ended otherwise (D-10)."""


class Verifier:
    """Takes events in D-11's order, repeated ones included, and judges them."""

    def __init__(self) -> None:
        self._logs: dict[LogKey, _Log] = {}
        self._conversations: OrderedDict[tuple[str | None, str], _Leg] = OrderedDict()
        self._faults: list[VerifyFault] = []
        self._fault_count = 0
        self._warnings: list[str] = []

    def add(self, frame: bytes, recorded: Recorded) -> None:
        """Take the next event with its Confluent frame."""
        key = log_key(recorded)
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = _Log(*key, first=recorded.sequence)
        log.first = min(log.first, recorded.sequence)
        if not self._is_new(log, frame, recorded):
            return
        log.events += 1
        if recorded.sequence > log.missing.last + 1:
            log.blind_until = max(recorded.timestamp, log.state.last_timestamp)
        log.missing.see(recorded.sequence)
        event = recorded.event
        if isinstance(event, EventsLost):
            log.lost.append((event.first_sequence, event.last_sequence))
        elif isinstance(event, EventsTrimmed):
            log.trimmed.append((event.first_sequence, event.last_sequence))
        elif isinstance(event, Unknown):
            log.unknown.add(event.event_type)
        for fault in log.state.apply(recorded):
            self._judge(log, fault, recorded)
        if isinstance(event, SnapshotEnded) and log.state.exact:
            log.blind_until = None  # what is open is known again
        if isinstance(event, ConnectionStarted):
            self._leg_started(log, event, recorded)
        elif isinstance(event, ConnectionPaused):
            self._leg_paused(event)
        elif isinstance(event, ConnectionEnded) and event.rejected:
            self._leg_rejected(event)

    def fault(self, kind: str, message: str, log: _Log | None = None, sequence: int | None = None) -> None:
        """Note a fault."""
        self._fault_count += 1
        if len(self._faults) < _FAULT_LIMIT:
            hub_id, journal_id = (None, None) if log is None else (log.hub_id, log.journal_id)
            self._faults.append(VerifyFault(kind, message, hub_id, journal_id, sequence))

    def warn(self, message: str) -> None:
        """Note what is no fault, and may become one."""
        self._warnings.append(message)

    def finish(self) -> VerifyResult:
        """The verdict on all that was added."""
        reports = [self._report(log) for _, log in sorted(self._logs.items(), key=lambda item: item[0])]
        return VerifyResult(tuple(reports), tuple(self._faults), self._fault_count, tuple(self._warnings))

    def _is_new(self, log: _Log, frame: bytes, recorded: Recorded) -> bool:
        # The schema's id is a registry's affair: the datum behind it is what was said.
        digest = int.from_bytes(hashlib.blake2b(frame[5:], digest_size=8).digest(), "big") or 1
        number, place = divmod(recorded.sequence, _CHUNK)
        chunk = log.digests.get(number)
        if chunk is None:
            chunk = log.digests[number] = array("Q", bytes(8 * _CHUNK))
        known = chunk[place]
        if known == 0:
            chunk[place] = digest
            return True
        if known == digest:
            # A hub's start stands in every partition of its topic: that is no redelivery.
            log.redelivered += not isinstance(recorded.event, HubStarted)
        else:
            message = f"{_name(log)} has two different events with sequence {recorded.sequence}"
            self.fault("otherContent", message, log, recorded.sequence)
        return False

    def _judge(self, log: _Log, fault: LogFault, recorded: Recorded) -> None:
        event = recorded.event
        if fault.kind in _EXCUSED and log.blind_until is not None:
            began = recorded.timestamp
            if fault.kind is FaultKind.END_WITHOUT_START and isinstance(event, SessionEnded | ConnectionEnded):
                began -= round(event.elapsed_time * 1_000_000)
            if fault.kind is not FaultKind.END_WITHOUT_START or began <= log.blind_until + _SLACK:
                log.excused += 1
                return
        self.fault(fault.kind.value, f"{_name(log)}, sequence {fault.sequence}: {fault.message}", log, fault.sequence)

    def _leg_started(self, log: _Log, event: ConnectionStarted, recorded: Recorded) -> None:
        name = (event.realm, event.connection_uid)
        before = self._conversations.get(name)
        if before is not None:
            where = f"{_name(log)}, sequence {recorded.sequence}: connection {event.connection_uid}"
            start = (event.start_sent_offset, event.start_receive_offset)
            if event.epoch <= before.epoch and not (before.rejected and event.epoch == before.epoch):
                message = f"{where} starts epoch {event.epoch} after epoch {before.epoch}"
                self.fault("epochOrder", message, log, recorded.sequence)
            elif before.paused is not None and start != before.paused:
                message = f"{where} goes on at offsets {start}; it was paused at {before.paused}"
                self.fault("offsets", message, log, recorded.sequence)
        self._remember(name, _Leg(event.epoch))

    def _leg_paused(self, event: ConnectionPaused) -> None:
        name = (event.realm, event.connection_uid)
        before = self._conversations.get(name)
        if event.planned and (before is None or before.epoch <= event.epoch):
            self._remember(name, _Leg(event.epoch, paused=(event.sent_offset, event.receive_offset)))

    def _leg_rejected(self, event: ConnectionEnded) -> None:
        name = (event.realm, event.connection_uid)
        before = self._conversations.get(name)
        if before is None or before.epoch == event.epoch:
            self._remember(name, _Leg(event.epoch, rejected=True))

    def _remember(self, name: tuple[str | None, str], leg: _Leg) -> None:
        self._conversations[name] = leg
        self._conversations.move_to_end(name)
        if len(self._conversations) > _CONVERSATION_LIMIT:
            self._conversations.popitem(last=False)

    def _report(self, log: _Log) -> LogReport:
        gaps: list[Gap] = []
        trimmed = 0
        spans = _joined(log.trimmed)
        for first, last in log.missing.ranges:
            if first == 1:
                continue  # retention took the head; the first sequence says so
            if _is_within(first, last, spans):
                trimmed += last - first + 1
            else:
                gaps += _split(first, last, log.lost + log.trimmed)
        for gap in gaps:
            if not gap.declared:
                message = f"{_name(log)}: {_span(gap.first, gap.last)} missing, and nothing declares it"
                self.fault("gap", message, log, gap.first)
        for leg in log.state.connections.values():
            sides = (leg.consumer_side_spn_session_id, leg.provider_side_spn_session_id)
            over = [side for side in sides if side not in log.state.sessions]
            excused = log.blind_until is not None and leg.start_at <= log.blind_until + _SLACK
            if over and not excused:
                message = f"{_name(log)}: connection {' '.join(leg.key)} has no end; session {over[0]} is not open"
                self.fault("startWithoutEnd", message, log)
        return LogReport(
            hub_id=log.hub_id,
            journal_id=log.journal_id,
            first_sequence=log.first,
            last_sequence=log.missing.last,
            events=log.events,
            redelivered=log.redelivered,
            excused=log.excused,
            unknown=tuple(sorted(log.unknown)),
            gaps=tuple(gaps),
            trimmed=trimmed,
            last_timestamp=log.state.last_timestamp,
            open_sessions=tuple(log.state.sessions),
            open_connections=tuple(" ".join(key) for key in log.state.connections),
        )


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in as few spans as can be, in order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


def _is_within(first: int, last: int, spans: Sequence[tuple[int, int]]) -> bool:
    place = bisect.bisect_right(spans, (first, sys.maxsize)) - 1
    return place >= 0 and spans[place][0] <= first and last <= spans[place][1]


def _split(first: int, last: int, lost: Sequence[tuple[int, int]]) -> list[Gap]:
    """A gap, cut into what is declared as lost and what isn't."""
    parts: list[Gap] = []
    at = first
    for begin, end in sorted(lost):
        if end < at or begin > last:
            continue
        if begin > at:
            parts.append(Gap(at, begin - 1, declared=False))
            at = begin
        parts.append(Gap(at, min(end, last), declared=True))
        at = min(end, last) + 1
    if at <= last:
        parts.append(Gap(at, last, declared=False))
    return parts


def _name(log: _Log) -> str:
    return f"hub {log.hub_id}, journal {log.journal_id}"


def _span(first: int, last: int) -> str:
    return f"sequence {first} is" if first == last else f"sequences {first} to {last} are"


async def verify(
    sources: Sequence[Source], watch: Callable[[AsyncIterator[Entry]], AsyncIterator[Entry]] = lambda read: read
) -> VerifyResult:
    """Judge all that the sources (entered already) hold now. Damage ends its source and is a fault.

    :param watch: passes the events on, and shows how far it is.
    """
    verifier = Verifier()

    def damaged(error: Exception) -> None:
        verifier.fault("damaged", str(error))

    async for frame, recorded in watch(merge(sources, repeated=True, on_damage=damaged)):
        verifier.add(frame, recorded)
    for source in sources:
        for fault in getattr(source, "topic_faults", ()):
            text = f"{source.name}: {fault.message}"
            verifier.fault("topic", text) if fault.loses else verifier.warn(text)
        for place in getattr(source, "unreadable", ()):
            verifier.fault("unreadable", f"{source.name}: what is at {place[:-1]} is not an event: {place[-1]}")
    return verifier.finish()
