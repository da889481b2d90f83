"""Incidents: what went wrong according to the log, one for each real fault, however many events tell of it.

A fold over the merged log (D-11): events that say the same of the same (a server that is down, an endpoint that may
not, a hub that was killed) are one incident with a count; what ends it (a session again, a connection accepted, a
hub's next start) is noted with who did it. Legs that fail because a session or a hub was lost count to that, not for
themselves. Memory is bounded: :data:`KEPT` incidents, and as many sessions, connections and legs. Counterpart:
:mod:`spnhub.cli.log_incidents`, which shows them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import failed, format_time
from spnhub.events.codes import Code, alert_name, code_name
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionLost,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    EndPointType,
    EventsLost,
    HubAlive,
    HubStarted,
    HubStopped,
    InventoryLoaded,
    InventoryRejected,
    JournalStalled,
    LimitReached,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    Recorded,
    ResumeRefused,
    ServiceStarted,
    ServiceStartFailed,
    ServiceStopFailed,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    from_datetime,
)

__all__ = ["Incident", "Incidents"]

KEPT: Final = 10_000
"""The most incidents, and of each kind of thing that is followed."""
QUIET: Final = 600_000_000
"""Microseconds after which the same fault is another incident, where nothing says that it is over."""
_TOGETHER: Final = 5_000_000
"""Microseconds within which legs and their session fail for one reason."""
_CODES: Final = 64
"""Of incidents that are alike but for the code."""
_LEGS: Final = 1_000
"""Legs of a session that are looked at when it is lost."""
_NAMED: Final = 3
"""Connections that an incident names."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """The last :data:`KEPT`."""

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > KEPT:
            self.popitem(last=False)


@dataclass(slots=True)
class Incident:
    """One fault. Times are microseconds since 1970."""

    kind: str
    """What went wrong, in a word or two."""
    who: str
    """Whom or what it is about."""
    realm: str | None
    service_urn: str | None
    code: str
    """The code's name, or a TLS alert's words; empty where there is none."""
    reason: str
    """The latest."""
    since: int
    last: int
    hubs: list[str] = field(default_factory=list)
    """Whose logs tell of it."""
    count: int = 0
    """Events, or what they count, that are alike."""
    connections: int = 0
    """Connections that failed with it."""
    uids: list[str] = field(default_factory=list)
    """The first of these connections."""
    over: int | None = None
    """When it was over; None: as far as the log knows, it goes on, or had no duration."""
    recovered: str = ""
    """Who, or what, ended it."""
    lasting: bool = True
    """It goes on until something says otherwise."""

    @property
    def state(self) -> str:
        """``open``, ``over``, or ``past``: it was a matter of moments."""
        if self.over is not None:
            return "over"
        return "open" if self.lasting else "past"

    @property
    def why(self) -> str:
        """Code and reason, as far as they are known."""
        return ": ".join(filter(None, (self.code, self.reason)))

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "state": self.state,
            "kind": self.kind,
            "who": self.who,
            "realm": self.realm,
            "serviceUrn": self.service_urn,
            "code": self.code or None,
            "reason": self.reason,
            "since": format_time(self.since),
            "last": format_time(self.last),
            "over": None if self.over is None else format_time(self.over),
            "seconds": round(((self.over or self.last) - self.since) / 1_000_000, 6),
            "recovered": self.recovered or None,
            "count": self.count,
            "connections": self.connections,
            "connectionUids": self.uids,
            "hubs": self.hubs,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Incident:
        """Of what :meth:`to_json` said, in another process.

        :raises KeyError, TypeError, ValueError: it wasn't that.
        """

        def time(name: str) -> int:
            return from_datetime(datetime.fromisoformat(found[name]))

        return cls(
            kind=str(found["kind"]),
            who=str(found["who"]),
            realm=found["realm"],
            service_urn=found["serviceUrn"],
            code=found["code"] or "",
            reason=str(found["reason"]),
            since=time("since"),
            last=time("last"),
            hubs=[str(one) for one in found["hubs"]],
            count=int(found["count"]),
            connections=int(found["connections"]),
            uids=[str(one) for one in found["connectionUids"]],
            over=None if found["over"] is None else time("over"),
            recovered=found["recovered"] or "",
            lasting=found["state"] != "past",
        )


def _nothing(_: Incident) -> None:
    """Nobody is told."""


class Incidents:
    """The fold."""

    def __init__(self) -> None:
        self._open: _Recent[Hashable, Incident] = _Recent()
        """The latest of each key."""
        self._all: list[Incident] = []
        self.omitted = 0
        """Older incidents that there is no room for."""
        self._endpoints: _Recent[tuple[str, str], tuple[str, str]] = _Recent()
        """Endpoint and service of sessions, by hub and id."""
        self._legs: _Recent[tuple[str, str], deque[tuple[Incident, int, str]]] = _Recent()
        """By hub and session: the incidents that its last legs have been counted to, when, and which legs."""
        self._codes: _Recent[tuple[Hashable, ...], deque[int | None]] = _Recent()
        """By the key of incidents but for their last part, the code: the codes that there were."""
        self._lost: _Recent[tuple[str, str], Incident] = _Recent()
        """Of sessions that were lost, by hub and id."""
        self._paused: _Recent[str, Incident] = _Recent()
        """By connectionUid."""
        self._heard: dict[str, tuple[int, int]] = {}
        """Of running hubs: the last heartbeat, and the interval to the one before (0: not known)."""
        self.on_change: Callable[[Incident], None] = _nothing
        """Told of each incident that the event at hand changes; it may change further until :meth:`take` returns."""
        self.on_drop: Callable[[Incident], None] = _nothing
        """Told of an incident that was none by itself: all of it belongs to another one."""

    def take(self, recorded: Recorded) -> None:
        """Look at the next event."""
        event, hub = recorded.event, recorded.hub_id
        self._note(recorded)
        match event:
            case SessionStarted() | SessionEnded() | SessionRefused() | ProviderSilent() | ProviderAnswered():
                self._session(recorded, event)
            case ProviderRecovered():
                who = self._who(hub, event.spn_session_id)
                self._provider_over(recorded, event.spn_session_id, f"{who} takes connections again")
            case ConnectionEnded() if failed(event) and not event.suspended:
                self._failed_leg(recorded, event)
            case ConnectionPaused() if not event.planned:
                self._paused_leg(recorded, event)
            case ConnectionResumed():
                self._resumed(recorded, event)
            case ConnectionRefused() | ResumeRefused() | ConnectionLost() | ProviderFailed():
                self._refused(recorded, event)
            case ConnectionStarted():
                for code in _UNSERVED:
                    refused = self._open.get(("refused", event.service_urn, code))
                    # Another hub may have a provider for it all the while.
                    if refused is not None and hub in refused.hubs:
                        key = "refused", event.service_urn, code
                        self._over(key, recorded, "a connection was offered to a provider")
            case _:
                self._of_hub(recorded)

    def finish(self, now: int | None = None) -> list[Incident]:
        """All, in the order of their beginning.

        :param now: microseconds since 1970, where the log is one that is being written: a hub whose heartbeats are
            missing is an incident, too.
        """
        silent = [
            Incident("hub is silent", hub, None, None, "", "no heartbeat is in its log", last, last, [hub], 1)
            for hub, (last, interval) in self._heard.items()
            if now is not None and interval and now - last > 3 * interval
        ]
        return sorted([*self._all, *silent], key=lambda one: one.since)

    # ---- by kind -----------------------------------------------------------------------------------------------

    def _session(
        self,
        recorded: Recorded,
        event: SessionStarted | SessionEnded | SessionRefused | ProviderSilent | ProviderAnswered,
    ) -> None:
        hub = recorded.hub_id
        match event:
            case SessionStarted():
                self._endpoints[hub, event.spn_session_id] = event.spn_end_point, event.service_urn
                again = f"session {event.spn_session_id} of {event.spn_end_point} on {hub}"
                self._over(("session", event.spn_end_point, event.service_urn), recorded, again)
                for role in (event.end_point_type, None):
                    refused = "session refused", event.spn_end_point, event.service_urn, role
                    self._over_whatever_code(refused, recorded, again)
                if event.end_point_type is EndPointType.PROVIDER:
                    for code in _UNSERVED:
                        self._over(("refused", event.service_urn, code), recorded, again)
            case SessionEnded():
                self._provider_over(recorded, event.spn_session_id, "its session ended")
                self._over(("silent", hub, event.spn_session_id), recorded, "its session ended")
                if failed(event) and event.recovered:
                    self._dead_hub(recorded)
                elif failed(event):
                    key = ("session", event.spn_end_point, event.service_urn)
                    lost = self._add(recorded, key, "session lost", event.spn_end_point, event.code, event.reason)
                    self._lost[hub, event.spn_session_id] = lost
                    self._absorb(recorded, event.spn_session_id, lost)
            case SessionRefused():
                who = event.spn_end_point or event.remote_address.rpartition(":")[0] or event.remote_address
                refused_key: Hashable = ("handshake refused", who, event.alert)
                if event.service_urn is not None:
                    # Who may not be a provider, and is none, may be a consumer that waits for one.
                    base = "session refused", who, event.service_urn, event.end_point_type
                    refused_key = self._with_code(base, event.code)
                found = self._add(
                    recorded,
                    refused_key,
                    "handshake refused" if event.service_urn is None else "session refused",
                    who or "an unknown endpoint",
                    event.code,
                    event.reason,
                    number=event.count,
                    alert=event.alert,
                )
                if event.service_urn is None:
                    found.lasting = False
            case ProviderSilent():
                silent = ("silent", hub, event.spn_session_id)
                who = self._who(hub, event.spn_session_id)
                self._add(recorded, silent, "provider is unresponsive", who, None, "")
            case ProviderAnswered():
                self._over(("silent", hub, event.spn_session_id), recorded, "it has answered")

    def _failed_leg(self, recorded: Recorded, event: ConnectionEnded) -> None:
        uid = event.connection_uid
        if event.recovered:
            self._count_leg(self._dead_hub(recorded), uid)
            return
        if event.rejected:
            session = event.provider_side_spn_session_id
            self._count_leg(self._provider_failed(recorded, session, event.code, event.reason, number=1), uid)
            return
        self._of_sessions(recorded, event, "connections failed")

    def _paused_leg(self, recorded: Recorded, event: ConnectionPaused) -> None:
        self._paused[event.connection_uid] = self._of_sessions(recorded, event, "connections interrupted")

    def _of_sessions(self, recorded: Recorded, event: ConnectionEnded | ConnectionPaused, kind: str) -> Incident:
        """A leg that failed: for itself, or because one of its sessions did."""
        hub = recorded.hub_id
        sessions = [(hub, one) for one in (event.consumer_side_spn_session_id, event.provider_side_spn_session_id)]
        for name in sessions:
            lost = self._lost.get(name)
            if lost is not None:
                self._count_leg(lost, event.connection_uid)
                lost.last = max(lost.last, recorded.timestamp)
                return lost
        who = event.service_urn
        found = self._add(recorded, (kind, event.service_urn, event.code), kind, who, event.code, event.reason)
        found.lasting = False
        self._count_leg(found, event.connection_uid)
        for name in sessions:
            legs = self._legs.get(name)
            if legs is None:
                legs = self._legs[name] = deque(maxlen=_LEGS)
            legs.append((found, recorded.timestamp, event.connection_uid))
        return found

    def _absorb(self, recorded: Recorded, session: str, lost: Incident) -> None:
        """Legs that failed just before their session was lost failed with it."""
        for incident, when, uid in self._legs.pop((recorded.hub_id, session), ()):
            if recorded.timestamp - when > _TOGETHER or incident.count <= 0:
                continue
            self.on_change(incident)
            incident.count -= 1
            incident.connections -= 1
            if uid in incident.uids:
                incident.uids.remove(uid)
            self._count_leg(lost, uid)
            if self._paused.get(uid) is incident:
                self._paused[uid] = lost
            if not incident.count:
                self._drop(incident)

    def _resumed(self, recorded: Recorded, event: ConnectionResumed) -> None:
        interrupted = self._paused.pop(event.connection_uid, None)
        if interrupted is not None and not interrupted.recovered:
            interrupted.recovered = f"connections go on at {recorded.hub_id}"
            self.on_change(interrupted)

    def _refused(
        self, recorded: Recorded, event: ConnectionRefused | ResumeRefused | ConnectionLost | ProviderFailed
    ) -> None:
        match event:
            case ConnectionRefused():
                key: Hashable = ("refused", event.service_urn, event.code)
                found = self._add(recorded, key, "connections refused", event.service_urn, event.code, event.reason)
                found.lasting = event.code in _UNSERVED
                self._count_leg(found, event.connection_uid)
            case ResumeRefused():
                key = ("resume", event.spn_end_point, event.service_urn, event.code)
                found = self._add(recorded, key, "resumes refused", event.spn_end_point, event.code, event.reason)
                found.lasting = False
                self._count_leg(found, event.connection_uid)
            case ConnectionLost():
                key = ("lost", event.service_urn, event.code)
                found = self._add(recorded, key, "connections given up", event.service_urn, event.code, event.reason)
                found.lasting = False
                self._count_leg(found, event.connection_uid)
            case ProviderFailed():
                # The end of the leg that it didn't accept counts; it follows, or is just before.
                self._provider_failed(recorded, event.spn_session_id, event.code, event.reason, number=0)

    def _of_hub(self, recorded: Recorded) -> None:
        event, hub = recorded.event, recorded.hub_id
        key: Hashable
        match event:
            case HubStarted():
                if ("dead", hub) in self._open:
                    self._over(("dead", hub), recorded, "its next start")
            case HubStopped():
                self._heard.pop(hub, None)
            case InventoryRejected():
                count = "1 fault" if event.fault_count == 1 else f"{event.fault_count} faults"
                faults = f"{count}: {event.faults[0]}" if event.faults else ""
                self._add(recorded, ("inventory", hub), "inventory rejected", hub, None, faults)
            case InventoryLoaded():
                self._over(("inventory", hub), recorded, "a later inventory was applied")
            case ServiceStartFailed():
                key = ("start", event.service_urn)
                self._add(recorded, key, "service not started", event.service_urn, Code.START_FAILED, event.reason)
            case ServiceStarted():
                self._over(("start", event.service_urn), recorded, "it was started")
            case ServiceStopFailed():
                key = ("stop", event.service_urn)
                self._add(recorded, key, "service not stopped", event.service_urn, None, event.reason).lasting = False
            case LimitReached():
                most = "" if event.bound is None else f" of {event.bound}"
                text = f"the limit{most} for {event.limit} was reached"
                key = ("limit", hub, event.limit)
                found = self._add(recorded, key, "limit reached", hub, Code.LIMIT, text, number=event.count)
                found.lasting = False
            case JournalStalled():
                text = f"{event.stalled_seconds:.3g} s: {event.reason}"
                self._add(recorded, ("stalled", hub), "journal stalled", hub, None, text).lasting = False
            case EventsLost():
                found = self._add(recorded, ("events", hub), "events lost", hub, None, event.reason, number=event.count)
                found.lasting = False

    # ---- what is known -----------------------------------------------------------------------------------------

    def _note(self, recorded: Recorded) -> None:
        """A hub that writes is alive."""
        event, hub = recorded.event, recorded.hub_id
        if isinstance(event, HubStarted):
            self._heard[hub] = recorded.timestamp, 0
        elif isinstance(event, HubAlive):
            last, _ = self._heard.get(hub, (0, 0))
            self._heard[hub] = recorded.timestamp, recorded.timestamp - last if last else 0

    def _who(self, hub: str, session: str) -> str:
        known = self._endpoints.get((hub, session))
        return f"session {session}" if known is None else f"{known[0]} of {known[1]}"

    def _dead_hub(self, recorded: Recorded) -> Incident:
        """The hub was killed, or crashed: its next start has ended what was open, at the time of its last event."""
        hub = recorded.hub_id
        known = self._open.get(("dead", hub))
        if known is None or known.over is not None:
            known = self._add(recorded, ("dead", hub), "hub died", hub, None, "it has not stopped in order")
            known.realm = None
            known.service_urn = None
        return known

    def _add(
        self,
        recorded: Recorded,
        key: Hashable,
        kind: str,
        who: str,
        code: int | None,
        reason: str,
        *,
        number: int = 1,
        alert: int | None = None,
    ) -> Incident:
        event, now = recorded.event, recorded.timestamp
        name = alert_name(alert) if alert is not None else code_name(code) if code is not None else ""
        known = self._open.get(key)
        if known is None or known.over is not None or (not known.lasting and now - known.last > QUIET):
            service: str | None = getattr(event, "service_urn", None)
            known = Incident(kind, who, event.realm, service, name, reason, now, now)
            self._open[key] = known
            self._all.append(known)
            if len(self._all) > KEPT:
                self._all.pop(0)
                self.omitted += 1
        self.on_change(known)
        known.count += number
        known.last = max(known.last, now)
        known.code = name or known.code
        known.reason = reason or known.reason
        if recorded.hub_id not in known.hubs:
            known.hubs.append(recorded.hub_id)
        return known

    def _over(self, key: Hashable, recorded: Recorded, how: str) -> None:
        known = self._open.get(key)
        if known is not None and known.over is None and known.lasting:
            known.over, known.recovered = recorded.timestamp, how
            self.on_change(known)

    def _provider_failed(
        self, recorded: Recorded, session: str, code: int | None, reason: str, *, number: int
    ) -> Incident:
        key = self._with_code(("provider", recorded.hub_id, session), code)
        who = self._who(recorded.hub_id, session)
        return self._add(recorded, key, "provider failed", who, code, reason, number=number)

    def _provider_over(self, recorded: Recorded, session: str, how: str) -> None:
        self._over_whatever_code(("provider", recorded.hub_id, session), recorded, how)

    def _with_code(self, base: tuple[Hashable, ...], code: int | None) -> Hashable:
        """The key of an incident that there is once for each code."""
        codes = self._codes.get(base)
        if codes is None:
            codes = self._codes[base] = deque(maxlen=_CODES)
        if code not in codes:
            codes.append(code)
        return (*base, code)

    def _over_whatever_code(self, base: tuple[Hashable, ...], recorded: Recorded, how: str) -> None:
        for code in self._codes.pop(base, ()):
            self._over((*base, code), recorded, how)

    def _drop(self, incident: Incident) -> None:
        self.on_drop(incident)
        self._all = [one for one in self._all if one is not incident]
        for key in [key for key, one in self._open.items() if one is incident]:
            del self._open[key]

    def _count_leg(self, incident: Incident, uid: str) -> None:
        self.on_change(incident)
        incident.connections += 1
        if len(incident.uids) < _NAMED and uid not in incident.uids:
            incident.uids.append(uid)


_UNSERVED: Final = frozenset({Code.NO_PROVIDER, Code.START_FAILED, Code.CONNECT_FAILED, Code.CONNECT_TIMEOUT})
"""Refusals that are over when a connection is taken again."""
