"""Playbooks of sessions: requests and refusals (R-2.2), stale ones (D-28), the choice, the planned stop (R-4.10)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    AcceptSession,
    CloseSession,
    ForgetConnection,
    OpenProviderStream,
    RefuseConnection,
    RefuseSession,
    ReportHubStopped,
)
from spnhub.actors.contract.inputs import (
    HandshakeRefusal,
    Key,
    LimitExceeded,
    LoadInventory,
    ProviderStreamOpened,
    SessionAnswered,
    SessionClosed,
    SessionUnresponsive,
    StopHub,
)
from spnhub.actors.contract.inventory import NO_NAME
from spnhub.actors.realm.actor import RealmActor, RealmMessage
from spnhub.actors.service.messages import SessionsStopped
from spnhub.actors.system import ActorOptions
from spnhub.events.model import LimitReached, ProviderAnswered, ProviderSilent, SessionRefused
from tests.actors.harness import (
    CLOSED,
    CONSUMER,
    ERROR,
    FAILED,
    LEFT,
    LOST,
    NETWORK,
    OTHER_SERVICE,
    PROVIDER,
    SERVICE,
    SHUTDOWN,
    SINGLE_SERVICE,
    TERMINATED,
    Bench,
    cut,
    ended,
    open_request,
    paused,
    refused,
    request,
    session_ended,
    session_refused,
    session_started,
)

STOPPING = "the hub is being stopped"


@pytest.fixture
def bench() -> Bench:
    """No session yet."""
    return Bench()


def refusal(bench: Bench, asked: Any, code: Code, reason: str) -> None:
    """``asked`` is refused like that, and leaves nothing behind."""
    before = bench.system.residents()
    assert bench.hub(asked) == ([session_refused(asked, code, reason)], [RefuseSession(asked.session, code, reason)])
    assert bench.system.residents() == before


def test_accepted_and_closed_by_the_endpoint(bench: Bench) -> None:
    """Both roles; the endpoint closes (R-2.5)."""
    provider, consumer = request(1, PROVIDER), request(2, CONSUMER)
    assert bench.hub(provider) == ([session_started(provider)], [AcceptSession(1, "s1")])
    assert bench.hub(consumer) == ([session_started(consumer)], [AcceptSession(2, "s2")])
    bench.step(2.5)
    assert bench.session(2, LEFT) == ([session_ended(2, CONSUMER, TERMINATED, Code.OK, "bye", elapsed=2.5)], [])
    assert bench.session(1, LOST) == ([session_ended(1, PROVIDER, FAILED, Code.PEER_LOST, "idle", elapsed=2.5)], [])
    bench.assert_empty()


def test_closed_by_the_endpoint_with_an_error(bench: Bench) -> None:
    """An endpoint that closes because of an error hasn't closed in order."""
    bench.provider()
    close = SessionClosed(by_peer=True, code=Code.PROTOCOL, reason="what was that")
    assert bench.session(1, close)[0] == [session_ended(1, PROVIDER, FAILED, Code.PROTOCOL, "what was that")]


def test_clock_that_runs_backwards(bench: Bench) -> None:
    """Times never do (D-11), and no elapsed time is negative."""
    bench.provider()
    bench.system.tell_session(1, LEFT)
    bench.system.run(bench.now, bench.wall_us - 5_000_000)
    assert bench.log[-1].timestamp == bench.log[-2].timestamp
    assert bench.log[-1].event == session_ended(1, PROVIDER, TERMINATED, Code.OK, "bye")


def test_close_in_the_same_batch_as_the_request(bench: Bench) -> None:
    """Inputs are handled one after the other, so a session that is gone at once still ends."""
    bench.system.tell_hub(request(1, PROVIDER))
    bench.system.tell_session(1, LEFT)
    events, _ = bench.step()
    assert events == [session_started(request(1, PROVIDER)), session_ended(1, PROVIDER, TERMINATED, Code.OK, "bye")]
    bench.assert_empty()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"realm": "nobody"}, "no realm nobody"),
        ({"network_urn": "urn:x"}, f"urn:x has no service {SERVICE!r}"),
        ({"service_urn": "urn:y"}, "urn:chip-in:network:acme:main has no service 'urn:y'"),
        ({"service_urn": SERVICE + "\r"}, f"urn:chip-in:network:acme:main has no service '{SERVICE}\\r'"),
    ],
)
def test_unknown_service(bench: Bench, change: dict[str, str], reason: str) -> None:
    """What the inventory doesn't have."""
    refusal(bench, request(1, PROVIDER, **change), Code.UNKNOWN_SERVICE, reason)


@pytest.mark.parametrize(("role", "name"), [(PROVIDER, "client"), (CONSUMER, "server"), (CONSUMER, "")])
def test_not_allowed(bench: Bench, role: Any, name: str) -> None:
    """A consumer's certificate never makes a provider, nor the other way round."""
    bench.provider(9)
    reason = f"{name!r} may not be a {role} of {SERVICE}" if name else NO_NAME
    refusal(bench, request(1, role, common_name=name), Code.NOT_ALLOWED, reason)


def test_no_provider(bench: Bench) -> None:
    """A consumer without any provider is refused, unless it brings connections (D-27); others don't count."""
    bench.provider(7, service_urn=OTHER_SERVICE)
    refusal(bench, request(2), Code.NO_PROVIDER, f"{SERVICE} has no provider now")
    bench.consumer(3, brings_connections=True)
    bench.provider(1)
    bench.consumer(2)
    bench.session(1, LEFT)
    refusal(bench, request(4), Code.NO_PROVIDER, f"{SERVICE} has no provider now")


def test_negative_weight(bench: Bench) -> None:
    """A weight below 0 has no meaning."""
    refusal(bench, request(1, PROVIDER, weight=-1), Code.PROTOCOL, "a weight is at least 0")


def test_session_requested_twice(bench: Bench) -> None:
    """One request for each session."""
    bench.provider()
    refusal(bench, request(1, PROVIDER), Code.PROTOCOL, "the session has been requested before")


def test_singleton(bench: Bench) -> None:
    """A second provider is refused; the same instance takes its stale session's place (D-28)."""
    bench.provider(1, service_urn=SINGLE_SERVICE, instance_id="a")
    other = request(2, PROVIDER, service_urn=SINGLE_SERVICE, instance_id="b")
    refusal(bench, other, Code.SINGLETON, f"{SINGLE_SERVICE} has its one provider")
    bench.provider(3, service_urn=SINGLE_SERVICE, instance_id="a")
    assert bench.system.residents()[0] == {3}
    bench.session(3, LOST)
    bench.provider(4, service_urn=SINGLE_SERVICE, instance_id="b")


@pytest.mark.parametrize(("role", "old"), [(PROVIDER, 1), (CONSUMER, 2)])
def test_stale_session(bench: Bench, role: Any, old: int) -> None:
    """An instance that comes again supersedes its earlier session; the new one is there at once (D-28).

    What the old one carried may go on in the new one.
    """
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    again = request(3, role, instance_id=f"i{old}")
    assert bench.hub(again) == (
        [session_started(again)],
        [AcceptSession(3, "s3"), AbortConnection(key, Code.PEER_LOST)],
    )
    reason = "the same instance has a new session"
    assert bench.connection(key, cut(3, 4)) == (
        [
            paused(Code.PEER_LOST, reason, sent=3, received=4),
            ended(ERROR, Code.PEER_LOST, reason, sent=3, received=4, suspended=True),
            session_ended(old, role, FAILED, Code.SUPERSEDED, reason, legs=1),
        ],
        [ForgetConnection(key), CloseSession(old, Code.SUPERSEDED, reason)],
    )
    bench.hub(request(4, role, instance_id=f"i{old}"))
    assert bench.system.residents()[0] >= {4}
    assert bench.system.residents()[0].isdisjoint({3, old})


def test_no_instance_no_stale_session(bench: Bench) -> None:
    """Without an instance id nobody is anybody's stale session, nor across roles, subjects or services."""
    for session, change in enumerate([{}, {}, {"spn_end_point": "CN=x"}, {"service_urn": OTHER_SERVICE}], start=1):
        bench.provider(session, instance_id="", **change)
    assert bench.system.residents()[0] == {1, 2, 3, 4}


def test_provider_that_opens_a_stream(bench: Bench) -> None:
    """That's for resumes only: its session ends."""
    bench.provider()
    reason = "a provider may open a stream to resume only"
    assert bench.session(1, open_request()) == (
        [session_ended(1, PROVIDER, FAILED, Code.PROTOCOL, reason)],
        [CloseSession(1, Code.PROTOCOL, reason)],
    )
    bench.assert_empty()


def no_provider(stream: int) -> tuple[list[Any], list[Any]]:
    """An opening on session 2 that finds nobody."""
    reason = f"{SERVICE} has no provider now"
    return (
        [refused(Code.NO_PROVIDER, reason, stream=stream)],
        [RefuseConnection(Key(2, stream), Code.NO_PROVIDER, reason)],
    )


def test_opening_without_a_provider(bench: Bench) -> None:
    """The session stays; the opening is refused, until there is a provider again (D-27)."""
    bench.provider()
    bench.consumer()
    bench.session(1, LEFT)
    assert bench.session(2, open_request(0)) == no_provider(0)
    bench.provider(3)
    assert bench.session(2, open_request(4)) == ([], [OpenProviderStream(Key(2, 4), 3, "CN=client")])


def test_suspect_provider(bench: Bench) -> None:
    """Out of the choice until it answers. A consumer's suspicion changes nothing (D-20)."""
    bench.provider()
    bench.consumer()
    assert bench.session(2, SessionUnresponsive()) == ([], [])
    where = {"realm": "acme", "network_urn": NETWORK, "spn_session_id": "s1", "service_urn": SERVICE}
    assert bench.session(1, SessionUnresponsive()) == ([ProviderSilent(**where)], [])
    assert bench.session(2, open_request(4)) == no_provider(4)
    assert bench.session(1, SessionAnswered()) == ([ProviderAnswered(**where)], [])
    assert bench.session(2, open_request(8)) == ([], [OpenProviderStream(Key(2, 8), 1, "CN=client")])


def test_weights(bench: Bench) -> None:
    """Twice the weight gets twice the connections; weight 0 none (D-26)."""
    bench.provider(1, weight=100)
    bench.provider(3, weight=200)
    bench.provider(4, weight=0)
    bench.consumer(2)
    chosen = [bench.session(2, open_request(4 * n))[1][0] for n in range(6)]
    assert [c.provider for c in chosen if isinstance(c, OpenProviderStream)] == [3, 3, 1, 3, 3, 1]


def test_planned_stop(bench: Bench) -> None:
    """Consumers first, then providers, then the hub (R-4.10); meanwhile everything new is refused."""
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    assert bench.hub(StopHub()) == ([], [AbortConnection(key, Code.SHUTDOWN)])
    assert bench.hub(StopHub()) == ([], [])
    refusal(bench, request(5), Code.SHUTDOWN, STOPPING)
    assert bench.session(2, open_request(4))[1] == [RefuseConnection(Key(2, 4), Code.SHUTDOWN, "the session is ending")]
    assert bench.connection(key, cut(3, 4)) == (
        [
            ended(CLOSED, Code.SHUTDOWN, STOPPING, sent=3, received=4),
            session_ended(2, CONSUMER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1),
            session_ended(1, PROVIDER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1),
        ],
        [
            ForgetConnection(key),
            CloseSession(2, Code.SHUTDOWN, STOPPING),
            CloseSession(1, Code.SHUTDOWN, STOPPING),
            ReportHubStopped(),
        ],
    )
    bench.assert_empty()


def test_consumers_of_all_services_stop_first(bench: Bench) -> None:
    """No provider of any service goes before the last consumer of every other."""
    bench.provider(1)
    bench.provider(3, service_urn=OTHER_SERVICE)
    bench.consumer(4, service_urn=OTHER_SERVICE)
    bench.consumer(2)
    bench.joined()
    _, commands = bench.hub(StopHub())
    assert commands == [
        CloseSession(4, Code.SHUTDOWN, STOPPING),
        AbortConnection(Key(2, 0), Code.SHUTDOWN),
    ]
    _, commands = bench.step(2.0)  # the transport never says how many bytes
    assert commands[-4:] == [
        CloseSession(2, Code.SHUTDOWN, STOPPING),
        CloseSession(1, Code.SHUTDOWN, STOPPING),
        CloseSession(3, Code.SHUTDOWN, STOPPING),
        ReportHubStopped(),
    ]
    bench.assert_empty()


def test_stop_of_an_empty_hub(bench: Bench) -> None:
    """Nothing to wait for, with realms and without."""
    assert bench.hub(StopHub()) == ([], [ReportHubStopped()])
    empty = Bench(services=())
    empty.hub(LoadInventory(()))
    assert empty.hub(StopHub()) == ([], [ReportHubStopped()])


def test_stop_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if nobody ever reports, the process may leave."""
    bench.provider(1)
    receive = RealmActor.on_receive

    def deaf(self: RealmActor, message: RealmMessage) -> None:
        if not isinstance(message, SessionsStopped):
            receive(self, message)

    monkeypatch.setattr(RealmActor, "on_receive", deaf)
    assert bench.hub(StopHub()) == ([], [])
    assert bench.step(15.0)[1] == [CloseSession(1, Code.SHUTDOWN, STOPPING)]
    assert bench.step(14.9) == ([], [])
    assert bench.step(0.1) == ([], [ReportHubStopped()])


def test_endpoint_that_leaves_while_it_is_stopped(bench: Bench) -> None:
    """The hub asked first, so it is a shutdown (D-5); there is nothing left to close."""
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    bench.hub(StopHub())
    assert bench.session(2, LEFT) == ([], [])
    events, commands = bench.connection(key, cut(3, 4, lost=True))
    assert events[:2] == [
        ended(CLOSED, Code.SHUTDOWN, STOPPING, sent=3, received=4),
        session_ended(2, CONSUMER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1),
    ]
    assert commands == [ForgetConnection(key), CloseSession(1, Code.SHUTDOWN, STOPPING), ReportHubStopped()]


def test_stop_while_opening(bench: Bench) -> None:
    """An opening that hasn't started is refused by the stop."""
    bench.provider(1)
    bench.consumer(2)
    key = bench.opening()
    events, commands = bench.hub(StopHub())
    assert events[0] == refused(Code.SHUTDOWN, STOPPING)
    assert commands[:2] == [AbortConnection(key, Code.SHUTDOWN), ForgetConnection(key)]
    assert bench.connection(key, ProviderStreamOpened(1)) == ([], [])
    bench.assert_empty()


# Refused handshakes (D-13) --------------------------------------------------------------------------------------------


def shake(host: str = "192.0.2.1", port: int = 1000, reason: str = "no certificate") -> HandshakeRefusal:
    """A handshake without a certificate."""
    return HandshakeRefusal(None, None, "hub.example", f"{host}:{port}", 116, reason, None)


def shaken(count: int, host: str = "192.0.2.1", port: int = 1000, reason: str = "no certificate") -> SessionRefused:
    """Its event."""
    return SessionRefused(
        realm=None,
        network_urn=None,
        server_name="hub.example",
        remote_address=f"{host}:{port}",
        alert=116,
        reason=reason,
        count=count,
    )


def test_refused_handshakes_are_aggregated(bench: Bench) -> None:
    """The first at once, the rest of its second as one; then it begins anew. Ports don't make a difference."""
    assert bench.hub(shake()) == ([shaken(1)], [])
    assert bench.hub(shake(port=2000)) == ([], [])
    assert bench.hub(shake(host="192.0.2.2")) == ([shaken(1, host="192.0.2.2")], [])
    assert bench.hub(shake()) == ([], [])
    assert bench.step(1.0) == ([shaken(2)], [])
    assert bench.system.timer() is None
    assert bench.hub(shake(port=3000)) == ([shaken(1, port=3000)], [])
    assert bench.step(1.0) == ([], [])


def test_flood_of_different_refusals() -> None:
    """What can't be told apart any more shares one event, however long it lasts."""
    bench = Bench(options=ActorOptions(refusal_kinds=3))
    for n in range(100):
        bench.system.tell_hub(shake(host=f"192.0.2.{n}"))
    events, _ = bench.step()
    assert events == [shaken(1, host=f"192.0.2.{n}") for n in range(3)]
    events, _ = bench.step(1.0)
    others = "refusals of other kinds, too many to tell apart"
    assert events == [SessionRefused(realm=None, network_urn=None, reason=others, count=97)]
    bench.assert_empty()


def test_refusals_of_one_realm_displace_no_others() -> None:
    """Each has kinds of its own, and one event for the further ones, which names it; altogether they are bounded."""
    bench = Bench(options=ActorOptions(refusal_kinds=2))
    for n in range(50):
        bench.system.tell_hub(replace(shake(host=f"192.0.2.{n}"), realm="loud"))
    for realm in ("acme", None, *(f"r{n}" for n in range(20))):
        for n in range(2):
            bench.system.tell_hub(replace(shake(host=f"198.51.100.{n}"), realm=realm))
    events, _ = bench.step()
    told = Counter(event.realm for event in events if isinstance(event, SessionRefused))
    assert [told["loud"], told["acme"], told[None]] == [2, 2, 2]
    assert len(told) == 23
    assert sum(told.values()) < 2 * 16 + len(told)
    rest, _ = bench.step(1.0)
    others = {event.realm: event.count for event in rest if isinstance(event, SessionRefused)}
    assert (others.pop("loud"), set(others.values())) == (48, {1})
    assert sum(told.values()) + sum(others.values()) == 2 + 22 * 2
    bench.assert_empty()


def test_dropped_handshakes_are_counted(bench: Bench) -> None:
    """As a limit that is exceeded: the first time at once, then each second as long as it goes on; exactly."""

    def reached(count: int) -> LimitReached:
        return LimitReached(realm=None, network_urn=None, limit="handshakes", count=count)

    assert bench.hub(LimitExceeded("handshakes", None, 3)) == ([reached(3)], [])
    assert bench.hub(LimitExceeded("handshakes", None, 5)) == ([], [])
    assert bench.hub(LimitExceeded("handshakes", None, 1)) == ([], [])
    assert bench.step(1.0) == ([reached(6)], [])
    assert bench.hub(LimitExceeded("handshakes", None, 2)) == ([], [])
    assert bench.step(1.0) == ([reached(2)], [])
    assert bench.step(1.0) == ([], [])
    assert bench.system.timer() is None
    assert bench.hub(LimitExceeded("handshakes", None, 1)) == ([reached(1)], [])
    assert bench.hub(LimitExceeded("handshakes", None, 4)) == ([], [])
    # Each limit for itself.
    other = LimitReached(realm=None, network_urn=None, limit="datagrams", bound=4096, count=7)
    assert bench.hub(LimitExceeded("datagrams", 4096, 7)) == ([other], [])
    assert bench.hub(StopHub()) == ([reached(4)], [ReportHubStopped()])


def test_refusals_are_told_before_the_hub_stops(bench: Bench) -> None:
    """None is lost because its second wasn't over."""
    bench.hub(shake())
    bench.hub(shake())
    bench.hub(shake())
    assert bench.hub(StopHub()) == ([shaken(2)], [ReportHubStopped()])
    bench.assert_empty()
