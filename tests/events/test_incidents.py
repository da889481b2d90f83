"""Each real fault is one incident, however many events tell of it, and what ended it is named."""

from __future__ import annotations

import dataclasses
from typing import Any

from spnhub.events.analysis.incidents import Incident, Incidents
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionResumed,
    DisconnectReason,
    EndPointType,
    Event,
    HubAlive,
    HubStarted,
    InventoryLoaded,
    InventoryRejected,
    ProviderFailed,
    ProviderRecovered,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    TerminateReason,
)
from tests.events import samples

SAMPLES = {type(event): event for event in (*samples.EACH, *samples.RUNS, *samples.LATER)}
SERVICE = samples.SERVICE


def a(kind: type[Event], **fields: Any) -> Event:
    """The sample of that kind, with other fields."""
    return dataclasses.replace(SAMPLES[kind], **fields)


def folded(*events: Event) -> list[Incident]:
    """The incidents of a log of these, a second apart."""
    fold = Incidents()
    for place, recorded in enumerate(samples.record(list(events))):
        fold.take(dataclasses.replace(recorded, timestamp=recorded.timestamp + place * 1_000_000))
    return fold.finish()


def session(name: str, role: EndPointType = EndPointType.PROVIDER, who: str = "CN=p1") -> Event:
    return a(SessionStarted, spn_session_id=name, spn_end_point=who, end_point_type=role, service_urn=SERVICE)


def leg(uid: str, **fields: Any) -> Event:
    """A leg between c1 and p1 that ended by an error."""
    facts: dict[str, Any] = {
        "connection_uid": uid,
        "service_urn": SERVICE,
        "consumer_side_spn_session_id": "c1",
        "provider_side_spn_session_id": "p1",
        "disconnect_reason": DisconnectReason.ERROR,
        "rejected": False,
        "suspended": False,
        "recovered": False,
        "code": 34,
    }
    return a(ConnectionEnded, **facts | fields)


def test_a_dead_server() -> None:
    """A hundred clients are refused: one line with who, where, why, how often, and who recovered."""
    failed = a(ProviderFailed, spn_session_id="p1", service_urn=SERVICE, code=32, reason="10.0.0.1 port 80: refused")
    ends = [leg(f"{n:032x}", rejected=True, code=32, reason="10.0.0.1 port 80: refused") for n in range(100)]
    (one,) = folded(session("p1"), failed, *ends, a(ProviderRecovered, spn_session_id="p1", service_urn=SERVICE))
    assert (one.kind, one.who, one.code) == ("provider failed", f"CN=p1 of {SERVICE}", "CONNECT_FAILED")
    assert (one.reason, one.count, one.connections, len(one.uids)) == ("10.0.0.1 port 80: refused", 100, 100, 3)
    assert (one.state, one.recovered) == ("over", f"CN=p1 of {SERVICE} takes connections again")
    assert one.over is not None
    assert 101_000_000 <= one.over - one.since <= 102_000_000
    (still,) = folded(session("p1"), failed, *ends)
    assert still.state == "open"
    # Of a newer peer.
    unknown = a(ProviderFailed, spn_session_id="p1", service_urn=SERVICE, code=999, reason="")
    recovered = a(ProviderRecovered, spn_session_id="p1", service_urn=SERVICE)
    assert [one.state for one in folded(session("p1"), failed, unknown, recovered)] == ["over", "over"]


def test_refusals_for_different_reasons_are_different_faults() -> None:
    """Of one endpoint, too; each is over with a session of the role that was refused."""
    facts = {"service_urn": SERVICE, "spn_end_point": "CN=c", "alert": None, "count": 1}
    consumer, provider = EndPointType.CONSUMER, EndPointType.PROVIDER
    forbidden = a(SessionRefused, end_point_type=provider, code=21, reason="may not be a provider", **facts)
    waiting = a(SessionRefused, end_point_type=consumer, code=18, reason="no provider", **facts)
    full = a(SessionRefused, end_point_type=consumer, code=19, reason="full", **facts)
    found = folded(forbidden, waiting, full, waiting, session("c1", consumer, "CN=c"))
    assert [(one.reason, one.count, one.state) for one in found] == [
        ("may not be a provider", 1, "open"),
        ("no provider", 2, "over"),
        ("full", 1, "over"),
    ]


def test_a_killed_provider_is_one_fault_with_its_connections() -> None:
    """Legs that fail before or after the end of the session count to it; its next session ends the incident."""
    end = a(
        SessionEnded,
        spn_session_id="p1",
        spn_end_point="CN=p1",
        service_urn=SERVICE,
        terminate_reason=TerminateReason.ERROR,
        code=4,
        reason="no answer",
        recovered=False,
    )
    paused = a(
        ConnectionPaused,
        connection_uid="aa" * 16,
        service_urn=SERVICE,
        consumer_side_spn_session_id="c1",
        provider_side_spn_session_id="p1",
        planned=False,
    )
    resumed = a(ConnectionResumed, connection_uid="aa" * 16, service_urn=SERVICE)
    (one,) = folded(session("p1"), paused, leg("bb" * 16), end, leg("cc" * 16), session("p2"), resumed)
    assert (one.kind, one.who, one.code, one.reason) == ("session lost", "CN=p1", "TIMEOUT", "no answer")
    assert (one.count, one.connections) == (1, 3)
    assert one.state == "over"
    assert "session p2 of CN=p1" in one.recovered


def test_a_killed_hub() -> None:
    """Everything that its next start ended is one incident, from the last that was heard of it."""
    end = a(
        SessionEnded,
        spn_session_id="p1",
        spn_end_point="CN=p1",
        terminate_reason=TerminateReason.ERROR,
        recovered=True,
    )
    (one,) = folded(
        session("p1"), a(HubAlive), leg("aa" * 16, recovered=True), end, a(HubStarted, orderly=False), session("p2")
    )
    assert (one.kind, one.who, one.connections, one.recovered) == ("hub died", "hub-1", 1, "its next start")
    assert one.state == "over"


def test_refusals_are_told_apart_by_whom_and_why() -> None:
    """TLS's codes and ours are named; what counts many is counted; NO_PROVIDER is over when one comes."""
    handshake = a(
        SessionRefused, service_urn=None, spn_end_point=None, code=None, alert=42, count=7, remote_address="10.0.0.9:1"
    )
    forbidden = a(SessionRefused, service_urn=SERVICE, spn_end_point="CN=x", code=16, alert=None, count=2)
    nobody = a(ConnectionRefused, service_urn=SERVICE, code=18)
    first, second, third = folded(handshake, handshake, forbidden, nobody, nobody, session("p1"))
    assert (first.kind, first.who, first.code, first.count) == ("handshake refused", "10.0.0.9", "bad certificate", 14)
    assert (second.who, second.code, second.count, second.state) == ("CN=x", "NOT_ALLOWED", 2, "open")
    assert (third.code, third.count, third.state) == ("NO_PROVIDER", 2, "over")
    assert "session p1 of CN=p1" in third.recovered


def test_a_broken_inventory() -> None:
    """Until one is applied; routine events are no incidents."""
    rejected = a(InventoryRejected, fault_count=2, faults=("realm r: name is missing", "x"))
    (one,) = folded(rejected, rejected, a(InventoryLoaded, initial=False))
    assert (one.kind, one.count, one.state) == ("inventory rejected", 2, "over")
    assert one.reason == "2 faults: realm r: name is missing"
    assert (
        folded(session("p1"), a(HubAlive), a(InventoryLoaded), leg("aa", disconnect_reason=DisconnectReason.CLOSED))
        == []
    )


def test_a_hub_that_is_silent() -> None:
    """No heartbeat for three intervals, at the end of a log that is being written."""
    fold = Incidents()
    start = samples.record([a(HubStarted)])[0]
    fold.take(start)
    for beat in (60, 120):
        (alive,) = samples.record([a(HubAlive)])
        fold.take(dataclasses.replace(alive, timestamp=start.timestamp + beat * 1_000_000))
    last = start.timestamp + 120_000_000
    assert fold.finish(last + 170_000_000) == []
    (one,) = fold.finish(last + 190_000_000)
    assert (one.kind, one.who, one.since) == ("hub is silent", "hub-1", last)
