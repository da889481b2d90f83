"""Numbers folded from events: what is live, what there was, bytes, reasons, refusals, durations, pauses.

Each number has labels; the hub is always the first of them, and the others are those of the hub's own ``/metrics``, so
that the two can be compared. A pure fold of bounded memory: what is open, the kinds of labels, a few hundred bytes for
each journal, and :class:`spnhub.events.analysis.resumption.Resumptions`. ``spnlog metrics`` shows those of the whole
log, ``spnlog serve`` those of each hub since its start, as the hub itself does. Counterparts: :mod:`spnhub.ops.metrics`
(the hub's own), :mod:`spnhub.events.analysis.report` (for people and programs).
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Final, NamedTuple

from spnhub.dataclass import dataclass
from spnhub.events.analysis.merge import LogKey, log_key
from spnhub.events.analysis.resumption import Resumptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionSnapshot,
    ConnectionStarted,
    Event,
    HubStarted,
    InventoryLoaded,
    InventoryRejected,
    LimitReached,
    ProviderFailed,
    ProviderSilent,
    Recorded,
    ResumeRefused,
    ServiceStarted,
    ServiceStartFailed,
    SessionEnded,
    SessionRefused,
    SessionSnapshot,
    SessionStarted,
)
from spnhub.events.state.entities import connection_key
from spnhub.events.state.hub_state import HubState

__all__ = [
    "BOUNDS",
    "CORRECTIONS",
    "COUNTERS",
    "GAUGES",
    "HISTOGRAMS",
    "HOUR",
    "Family",
    "Histogram",
    "HubFacts",
    "Labels",
    "LogMetrics",
    "increments",
    "refused_service",
]

Labels = tuple[str, ...]

HOUR: Final = 3_600_000_000
"""Microseconds."""

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
"""Upper bounds of a histogram's buckets, in seconds: from a pause too short to be noticed to a day."""


class Family(NamedTuple):
    """A kind of number."""

    help: str
    labels: Labels


_SERVICE: Final = ("hub", "realm", "service")

_OF_A_SERVICE: Final = 16
"""Codes below are the protocol's or the hub's (:mod:`spnhub.actors.contract.codes`, transport/PROTOCOL.md)."""
_UNKNOWN_SERVICE: Final = 17
_CODE_LIMIT: Final = 64
"""Codes from here on aren't defined, but an endpoint may send them; all of them share one label."""

GAUGES: Final[dict[str, Family]] = {
    "sessions": Family("Sessions that are open.", (*_SERVICE, "type")),
    "connections": Family("Connections that are open.", _SERVICE),
}
COUNTERS: Final[dict[str, Family]] = {
    "sessions_started": Family("Sessions that were opened.", (*_SERVICE, "type")),
    "sessions_ended": Family("Sessions that have ended.", (*_SERVICE, "type", "reason")),
    "sessions_refused": Family("Session requests that were refused.", (*_SERVICE, "code")),
    "handshakes_refused": Family("TLS handshakes that were refused.", ("hub", "realm", "alert")),
    "connections_started": Family("Legs of connections that were opened.", _SERVICE),
    "connections_ended": Family("Legs of connections that have ended.", (*_SERVICE, "reason")),
    "connections_refused": Family(
        "Connections that were refused before a provider accepted them.", (*_SERVICE, "code")
    ),
    "connections_rejected": Family("Times that a provider did not accept a pending connection.", (*_SERVICE, "code")),
    "connections_paused": Family("Legs that were suspended.", (*_SERVICE, "planned")),
    "connections_resumed": Family("Legs in which a suspended connection goes on.", _SERVICE),
    "connections_lost": Family("Connections that were given up while they were suspended.", (*_SERVICE, "code")),
    "connections_finished": Family(
        "Connections whose orderly end their endpoints reported later, because no hub was there then.", _SERVICE
    ),
    "resumes_refused": Family("Resumes that were refused.", (*_SERVICE, "code")),
    "bytes": Family("Bytes that legs have reported, as the hub counted them.", (*_SERVICE, "direction")),
    "service_starts": Family("Starts of services, by outcome.", (*_SERVICE, "outcome")),
    "provider_silences": Family("Times that a provider became unresponsive.", _SERVICE),
    "provider_failures": Family(
        "Times that a provider did not accept a connection and was passed over from then on.", (*_SERVICE, "code")
    ),
    "limits_reached": Family("Times that a limit of the hub was exceeded without a refusal.", ("hub", "limit")),
    "reloads": Family("Reloads of the inventory, by outcome.", ("hub", "outcome")),
}
CORRECTIONS: Final[dict[str, Family]] = {
    "bytes_replayed": Family("Bytes that were counted twice because they were replayed.", (*_SERVICE, "direction")),
    "bytes_unreported": Family(
        "Bytes that arrived before a crash and that no leg has reported.", (*_SERVICE, "direction")
    ),
}
"""Counters, too: of what later legs report of earlier ones, so a hub by itself doesn't know it."""
HISTOGRAMS: Final[dict[str, Family]] = {
    "session_duration_seconds": Family("How long ended sessions were open.", (*_SERVICE, "type")),
    "connection_duration_seconds": Family("How long ended legs of connections were open.", _SERVICE),
    "pause_duration_seconds": Family("From the end of one leg to the resumption in the next.", _SERVICE),
    "service_start_seconds": Family("How long services took to start.", _SERVICE),
}


@dataclass(slots=True)
class Histogram:
    """How many values there were up to each of :data:`BOUNDS`."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    """Of each bucket alone; the last is for what is above all bounds."""
    total: float = 0.0
    lowest: float = math.inf
    highest: float = 0.0

    @property
    def count(self) -> int:
        """Of values."""
        return sum(self.buckets)

    def add(self, value: float) -> None:
        """Take a value in."""
        self.buckets[bisect.bisect_left(BOUNDS, value)] += 1
        self.total += value
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def merge(self, other: Histogram) -> None:
        """Take all of another's values in."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.total += other.total
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)


@dataclass(slots=True)
class HubFacts:
    """What there is to know of a hub's log as such."""

    events: int = 0
    """That were counted; of a fold that begins anew, those behind the hub's start."""
    lost: int = 0
    """Events that it declares lost (D-8)."""
    last_sequence: int = 0
    last_timestamp: int = 0
    """Microseconds since 1970."""

    def merge(self, other: HubFacts) -> None:
        """Add what was counted in another part of the log."""
        self.events += other.events
        self.lost += other.lost
        self.last_sequence = max(self.last_sequence, other.last_sequence)
        self.last_timestamp = max(self.last_timestamp, other.last_timestamp)


@dataclass(slots=True)
class _Log:
    """What is open according to one hub's journal."""

    state: HubState = field(default_factory=HubState)
    events: int = 0
    sessions: Counter[Labels] = field(default_factory=Counter)
    connections: Counter[Labels] = field(default_factory=Counter)


class LogMetrics:
    """The numbers of one log, or of one partition of it.

    :param hours: keep bytes by hour, too; that costs memory for each hour and service.
    :param since_start: a hub's numbers begin anew when it does, as its own and those of every process do.
    """

    def __init__(self, *, hours: bool = False, since_start: bool = False) -> None:
        self.counters: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS | CORRECTIONS}
        self.histograms: dict[str, dict[Labels, Histogram]] = {name: {} for name in HISTOGRAMS}
        self.hours: Counter[tuple[int, str, str, str]] | None = Counter() if hours else None
        """Bytes by hour (microseconds since 1970), realm, service and direction: the deltas of the events of that hour,
        each byte once. An end that turns out wrong is replaced in its own hour, even after that is over (D-10)."""
        self._since_start = since_start
        self._logs: dict[LogKey, _Log] = {}
        self._resumptions = Resumptions()

    def apply(self, recorded: Recorded, *, counted: bool = True) -> bool:
        """Count the next event of its hub; False: a redelivery, which changes nothing.

        :param counted: False: it isn't asked about, and only changes what is open.

        Within a partition, and within a merged log, a hub's events appear for the first time in the order of their
        sequence. So an event that isn't after all others of its log so far is a redelivery.
        """
        key = log_key(recorded)
        log = self._logs.get(key)
        if log is None:
            log = self._new_log(key)
        if recorded.sequence <= log.state.last_sequence:
            return False
        if counted:
            log.events += 1
            self._count(recorded)
        else:
            self._resumptions.take(recorded)
        _fold(log, recorded)
        if isinstance(recorded.event, HubStarted):
            self._begin(recorded.hub_id)
        return True

    def apply_all(self, events: Iterable[Recorded]) -> None:
        """Take in events."""
        for recorded in events:
            self.apply(recorded)

    def live(self, name: str) -> Counter[Labels]:
        """One of :data:`GAUGES`."""
        found: Counter[Labels] = Counter()
        for (hub_id, _), log in self._logs.items():
            for labels, number in (log.sessions if name == "sessions" else log.connections).items():
                found[hub_id, *labels] += number
        return found

    def hubs(self) -> dict[str, HubFacts]:
        """By hub id."""
        found: dict[str, HubFacts] = {}
        for (hub_id, _), log in self._logs.items():
            state = log.state
            facts = HubFacts(log.events, state.lost, state.last_sequence, state.last_timestamp)
            if hub_id in found:
                # A journal that came later counts from 1 again.
                facts.events += found[hub_id].events
                facts.lost += found[hub_id].lost
            found[hub_id] = facts
        return found

    def _new_log(self, key: LogKey) -> _Log:
        # A hub with another journal has forgotten what the one before left open.
        self._begin(key[0])
        log = self._logs[key] = _Log()
        return log

    def _begin(self, hub: str) -> None:
        """A new run of a hub: nothing of the one before is open, whatever the log lacks."""
        for (name, _), log in self._logs.items():
            if name == hub:
                for kept in (log.sessions, log.connections, log.state.sessions, log.state.connections):
                    kept.clear()
                if self._since_start:
                    log.events = 0
        if self._since_start:
            for counter in self.counters.values():
                _forget(counter, hub)
            for histograms in self.histograms.values():
                _forget(histograms, hub)

    def _count(self, recorded: Recorded) -> None:
        event, hub = recorded.event, recorded.hub_id
        for name, labels, number in increments(event):
            self.counters[name][hub, *labels] += number
            if name == "bytes":
                self._hour(recorded.timestamp, labels, number)
        service: Labels = (hub, event.realm or "", getattr(event, "service_urn", None) or "")
        match event:
            case SessionEnded():
                self._observe("session_duration_seconds", (*service, str(event.end_point_type)), event.elapsed_time)
            case ConnectionEnded():
                self._observe("connection_duration_seconds", service, event.elapsed_time)
            case ServiceStarted():
                self._observe("service_start_seconds", service, event.latency)
        self._correct(recorded, service)

    def _observe(self, name: str, labels: Labels, seconds: float) -> None:
        histograms = self.histograms[name]
        histogram = histograms.get(labels)
        if histogram is None:
            histogram = histograms[labels] = Histogram()
        histogram.add(seconds)

    def _correct(self, recorded: Recorded, service: Labels) -> None:
        correction = self._resumptions.take(recorded)
        if correction is None:
            return
        for place, direction in ((1, "sent"), (2, "received")):
            if number := sum(part[place] for part in correction.parts):
                name = "bytes_replayed" if number < 0 else "bytes_unreported"
                self.counters[name][*service, direction] += abs(number)
            for part in correction.parts:
                self._hour(part[0], (*service[1:], direction), part[place])
        for seconds in correction.pauses:
            self._observe("pause_duration_seconds", service, seconds)

    def _hour(self, timestamp: int, labels: Labels, number: int) -> None:
        if self.hours is not None and number:
            realm, service, direction = labels
            self.hours[timestamp // HOUR * HOUR, realm, service, direction] += number


Increment = tuple[str, Labels, int]
"""Name of a counter, its labels but for the hub, and what it grows by."""


def increments(event: Event) -> tuple[Increment, ...]:
    """What a single event adds to :data:`COUNTERS`: the same in the hub and in a reader of its log."""
    realm = event.realm or ""
    match event:
        case SessionStarted():
            return (("sessions_started", (realm, event.service_urn, str(event.end_point_type)), 1),)
        case SessionEnded():
            labels: Labels = (realm, event.service_urn, str(event.end_point_type), str(event.terminate_reason))
            return (("sessions_ended", labels, 1),)
        case SessionRefused() if event.service_urn is None:
            alert = "" if event.alert is None else str(event.alert)
            return (("handshakes_refused", (realm, alert), event.count),)
        case SessionRefused():
            return (("sessions_refused", (realm, refused_service(event), _code(event.code)), event.count),)
        case ConnectionStarted():
            return (("connections_started", (realm, event.service_urn), 1),)
        case ConnectionProgress():
            return _carried(event)
        case ConnectionEnded():
            labels = (realm, event.service_urn, str(event.disconnect_reason))
            found = (("connections_ended", labels, 1), *_carried(event))
            if not event.rejected:
                return found
            return (*found, ("connections_rejected", (realm, event.service_urn, _code(event.code)), 1))
        case ConnectionRefused():
            return (("connections_refused", (realm, event.service_urn, _code(event.code)), 1),)
        case ConnectionPaused():
            planned = "true" if event.planned else "false"
            return (("connections_paused", (realm, event.service_urn, planned), 1),)
        case ConnectionResumed():
            return (("connections_resumed", (realm, event.service_urn), 1),)
        case ConnectionLost():
            return (("connections_lost", (realm, event.service_urn, _code(event.code)), 1),)
        case ConnectionFinished():
            return (("connections_finished", (realm, event.service_urn), 1),)
        case ResumeRefused():
            return (("resumes_refused", (realm, event.service_urn, _code(event.code)), 1),)
        case ServiceStarted():
            return (("service_starts", (realm, event.service_urn, "started"), 1),)
        case ServiceStartFailed():
            return (("service_starts", (realm, event.service_urn, "failed"), 1),)
        case ProviderSilent():
            return (("provider_silences", (realm, event.service_urn), 1),)
        case ProviderFailed():
            return (("provider_failures", (realm, event.service_urn, _code(event.code)), 1),)
        case LimitReached():
            return (("limits_reached", (event.limit,), event.count),)
        case InventoryLoaded() if not event.initial:
            return (("reloads", ("applied",), 1),)
        case InventoryRejected():
            return (("reloads", ("rejected",), 1),)
    return ()


def _carried(event: ConnectionProgress | ConnectionEnded) -> tuple[Increment, ...]:
    realm, service = event.realm or "", event.service_urn
    return (
        ("bytes", (realm, service, "sent"), event.delta_sent_bytes),
        ("bytes", (realm, service, "received"), event.delta_receive_bytes),
    )


def _code(code: int | None) -> str:
    return str(code) if code is None or 0 <= code < _CODE_LIMIT else "other"


def refused_service(event: SessionRefused) -> str:
    """The label of a refused session's service: empty unless the service itself refused.

    Before, it is what an endpoint has written, and labels that anybody may make up would have no bound.
    """
    code = event.code or 0
    return (event.service_urn or "") if code >= _OF_A_SERVICE and code != _UNKNOWN_SERVICE else ""


def _fold(log: _Log, recorded: Recorded) -> None:
    """Take an event into the state, and keep the counts of what is open in step with it."""
    state, event = log.state, recorded.event
    sessions, connections = len(state.sessions), len(state.connections)
    match event:
        case SessionStarted() | SessionSnapshot():
            known = state.sessions.get(event.spn_session_id)
            if known is None:
                sessions += 1
                log.sessions[event.realm or "", event.service_urn, str(event.end_point_type)] += 1
        case SessionEnded():
            known = state.sessions.get(event.spn_session_id)
            if known is not None:
                sessions -= 1
                _less(log.sessions, (known.realm or "", known.service_urn, str(known.end_point_type)))
        case ConnectionStarted() | ConnectionSnapshot():
            if connection_key(event) not in state.connections:
                connections += 1
                log.connections[event.realm or "", event.service_urn] += 1
        case ConnectionEnded():
            leg = state.connections.get(connection_key(event))
            if leg is not None:
                connections -= 1
                _less(log.connections, (leg.realm or "", leg.service_urn))
    state.apply(recorded)
    if (len(state.sessions), len(state.connections)) != (sessions, connections):
        # Where a part of the log is gone, ends may be missing: what a snapshot doesn't contain isn't open any more.
        log.sessions = Counter(
            (one.realm or "", one.service_urn, str(one.end_point_type)) for one in state.sessions.values()
        )
        log.connections = Counter((one.realm or "", one.service_urn) for one in state.connections.values())


def _forget(numbers: dict[Labels, Any], hub: str) -> None:
    for labels in [labels for labels in numbers if labels[0] == hub]:
        del numbers[labels]


def _less(counter: Counter[Labels], labels: Labels) -> None:
    counter[labels] -= 1
    if counter[labels] <= 0:
        # A label for every service that ever was would grow for ever.
        del counter[labels]
