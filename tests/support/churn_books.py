"""What the endpoints of a churn were told, held against the log; and what a hub's ``/state`` says, against the fold.

Counterpart: :mod:`tests.support.churn`, whose ledgers these are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from spnhub.events.analysis.log_lines import event_line
from spnhub.events.analysis.merge import merge
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.analysis.point_in_time import HubAt
from spnhub.events.analysis.report import hours_of, report
from spnhub.events.analysis.source import open_source
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionStarted,
    DisconnectReason,
    Recorded,
    SessionEnded,
    SessionStarted,
    TerminateReason,
)
from spnhub.events.state.hub_state import HubState
from tests.support.churn import Ledger

__all__ = ["Books", "Log", "Reading", "held", "shown"]

Leg = tuple[str, int]
"""connectionUid and epoch."""


@dataclass(frozen=True)
class Reading:
    """A source as ``spnlog replay --all`` and ``spnlog metrics`` show it."""

    events: int
    lines: str
    """Digest of all lines."""
    numbers: dict[str, Any]
    hours: list[dict[str, Any]]


@dataclass
class Log:
    """What a log tells of sessions and legs, by what names them."""

    session_starts: Counter[str] = field(default_factory=Counter)
    session_ends: dict[str, SessionEnded] = field(default_factory=dict)
    leg_starts: Counter[Leg] = field(default_factory=Counter)
    leg_ends: dict[Leg, ConnectionEnded] = field(default_factory=dict)
    last_epoch: dict[str, int] = field(default_factory=dict)
    """Of each conversation."""
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes of conversations that had ended in order when no hub was there."""

    @property
    def recovered(self) -> int:
        """Sessions and legs that the next start had to end."""
        ends: list[SessionEnded | ConnectionEnded] = [*self.session_ends.values(), *self.leg_ends.values()]
        return sum(end.recovered for end in ends)

    def take(self, recorded: Recorded) -> None:
        """The next event."""
        match recorded.event:
            case SessionStarted() as event:
                self.session_starts[event.spn_session_id] += 1
            case SessionEnded() as event:
                assert event.spn_session_id not in self.session_ends
                self.session_ends[event.spn_session_id] = event
            case ConnectionStarted() as event:
                before = self.leg_ends.get((event.connection_uid, event.epoch))
                if before is not None and before.rejected:  # another provider is asked (D-35)
                    del self.leg_ends[event.connection_uid, event.epoch]
                else:
                    self.leg_starts[event.connection_uid, event.epoch] += 1
                self.last_epoch[event.connection_uid] = event.epoch
            case ConnectionEnded() as event:
                assert (event.connection_uid, event.epoch) not in self.leg_ends
                self.leg_ends[event.connection_uid, event.epoch] = event
            case ConnectionFinished() as event:
                told = (event.sent_offset, event.receive_offset)
                assert self.finished.setdefault(event.connection_uid, told) == told

    async def read(self, name: str) -> Reading:
        """Take in a whole source, in the order of ``spnlog``, without redeliveries."""
        digest, metrics, events = hashlib.sha256(), LogMetrics(hours=True), 0
        async with open_source(name) as source:
            async for _, recorded in merge([source]):
                self.take(recorded)
                metrics.apply(recorded)
                digest.update(json.dumps(event_line(recorded)).encode())
                events += 1
        return Reading(events, digest.hexdigest(), report(metrics), hours_of(metrics))


@dataclass
class Books:
    """The ledgers of all programs together, and the log."""

    ledgers: Sequence[Ledger]
    log: Log

    def check(self) -> None:
        """D-7: all that was acknowledged is in the log once; what the log has more is a kill's doing.

        :raises AssertionError: with some of what is wrong.
        """
        log = self.log
        sessions = {name for ledger in self.ledgers for name in ledger.sessions}
        legs = {leg for ledger in self.ledgers for leg in (*ledger.legs, *ledger.served)}
        _none("acknowledged sessions that the log doesn't have", sessions - set(log.session_starts))
        _none("acknowledged legs that the log doesn't have", legs - set(log.leg_starts))
        _none("sessions that start more than once", _several(log.session_starts))
        _none("legs that start more than once", _several(log.leg_starts))
        _none("sessions with a start or an end alone", set(log.session_starts) ^ set(log.session_ends))
        _none("legs with a start or an end alone", set(log.leg_starts) ^ set(log.leg_ends))
        more = set(log.session_starts) - sessions
        _none(
            "sessions that nobody was told of, and no kill explains",
            (name for name in more if log.session_ends[name].terminate_reason is not TerminateReason.ERROR),
        )
        _none(
            "legs that nobody was told of, and no kill explains",
            (
                leg
                for leg in set(log.leg_starts) - legs
                if log.leg_ends[leg].disconnect_reason is not DisconnectReason.ERROR
            ),
        )
        self._check_bytes()

    def _check_bytes(self) -> None:
        """Who ended in order finds the end in the log, with just the bytes that both sides have moved.

        Those whose hub was gone, or took an endpoint for gone, when the endpoints told each other that all had arrived
        are suspended, to the log, until the consumer has told it of the end. If that couldn't be said in time, because
        the provider had no session when the consumer had one, the log's bytes are a lower bound (D-10).
        """
        log, answered = self.log, self._all("answered")
        wrong = []
        for uid, moved in self._all("closed").items():
            if answered.get(uid, moved) != moved:
                wrong.append((uid, f"the provider has moved {answered[uid]}, the consumer {moved}"))
            end = log.leg_ends[uid, log.last_epoch[uid]]
            told = log.finished.get(uid, _moved(end))
            if uid in log.finished:
                right = told == moved
            elif end.suspended:
                right = told[0] <= moved[0] and told[1] <= moved[1]
            else:
                right = told == moved and end.disconnect_reason is DisconnectReason.CLOSED_BY_PEER
            if not right:
                wrong.append((uid, f"has moved {moved}; the log says {told}: {end}"))
        _none("connections that ended in order, and not so in the log", wrong)

    @property
    def unseen_ends(self) -> int:
        """Connections that ended in order, and no hub has heard of it."""
        log = self.log
        ended = self._all("closed").keys() - log.finished.keys()
        return sum(log.leg_ends[uid, log.last_epoch[uid]].suspended for uid in ended)

    def _all(self, name: str) -> dict[str, Any]:
        return {uid: one for ledger in self.ledgers for uid, one in getattr(ledger, name).items()}

    def figures(self) -> dict[str, Any]:
        """For people."""
        reasons: Counter[str] = Counter()
        for ledger in self.ledgers:
            reasons.update(ledger.refused)
            reasons.update(f"lost: {reason}" for reason in ledger.lost.values())
        return {
            "sessions": len(self.log.session_starts),
            "legs": len(self.log.leg_starts),
            "resumed": sum(epoch > 0 for _, epoch in self.log.leg_starts),
            "closed": sum(len(ledger.closed) for ledger in self.ledgers),
            "aborted": sum(len(ledger.aborted) for ledger in self.ledgers),
            "lost": sum(len(ledger.lost) for ledger in self.ledgers),
            "recovered": self.log.recovered,
            "ends told later": len(self.log.finished),
            "unseen ends": self.unseen_ends,
            "unacknowledged sessions": len(self.log.session_starts)
            - len({name for ledger in self.ledgers for name in ledger.sessions}),
            "unacknowledged legs": len(self.log.leg_starts)
            - len({leg for ledger in self.ledgers for leg in (*ledger.legs, *ledger.served)}),
            "reasons": dict(reasons.most_common(8)),
        }


def _moved(end: ConnectionEnded) -> tuple[int, int]:
    return end.start_sent_offset + end.total_sent_bytes, end.start_receive_offset + end.total_receive_bytes


def _several(counts: Counter[Any]) -> set[Any]:
    return {name for name, count in counts.items() if count > 1}


def _none(what: str, found: Iterable[Any]) -> None:
    some = list(found)
    assert not some, f"{len(some)} {what}: {some[:5]}"


# ---- the state ---------------------------------------------------------------------------------------------------


def shown(state: dict[str, Any]) -> dict[str, Any]:
    """A ``/state`` answer in the form of :func:`held`: what is folded from the log, without the process's own facts."""
    sessions = [
        _without(one, "commonName", "remoteAddress", "certificateExpiry", "datagramSize") for one in state["sessions"]
    ]
    lists = {name: state[name] for name in ("connections", "instances")}
    realms = {one["name"]: one for one in state["realms"]}
    networks = {one["urn"]: _without(one, "name") for one in state["networks"]}
    services = {one["urn"]: _service(one) for one in state["services"]}
    return {
        "hubId": state["hubId"],
        "sequence": state["sequence"],
        "run": state["run"],
        "sessions": sessions,
        **lists,
        "realms": realms,
        "networks": networks,
        "services": services,
    }


def held(state: HubState, hub_id: str, journal_id: str) -> dict[str, Any]:
    """The fold as ``spnlog state --json`` shows it, definitions by name."""
    found = json.loads(json.dumps(HubAt(hub_id, journal_id, 1, state).to_json()))
    for name, key in (("realms", "name"), ("networks", "urn"), ("services", "urn")):
        found[name] = {one[key]: one for one in found[name]}
    return _without(found, "journalId", "timestamp")


def _service(one: dict[str, Any]) -> dict[str, Any]:
    """Of a service without availability management, as events tell it."""
    assert one["availability"] is None
    unmanaged = {
        "clusterManagerUrn": None,
        "serviceId": None,
        "startOnLoad": False,
        "startOnConsumer": False,
        "startOnPayload": False,
        "idleTimeout": None,
        "startAt": None,
        "stopAt": None,
    }
    return _without(one, "name", "availability") | unmanaged


def _without(one: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in one.items() if name not in names}
