"""Reloads (R-6.2, D-31): what is different is told, who isn't allowed any more is cut, nobody else notices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code, is_retryable
from spnhub.actors.contract.commands import (
    AbortConnection,
    CloseSession,
    ForgetConnection,
    OpenProviderStream,
    RefuseConnection,
    RefuseSession,
    ReportHubStopped,
    ReportProgress,
)
from spnhub.actors.contract.definitions import Availability, NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inputs import ClockStepped, Key, LoadInventory, RejectInventory, SessionInvalidated, StopHub
from spnhub.actors.contract.inventory import DefinitionChange, LiveSession, Table, plan
from spnhub.actors.system import ActorOptions
from spnhub.events.model import (
    EndPointType,
    Event,
    InventoryLoaded,
    InventoryRejected,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    SessionEnded,
)
from spnhub.events.state.definitions import Definitions
from tests.actors.harness import (
    CLOSED,
    CONSUMER,
    NETWORK,
    OTHER_SERVICE,
    PROVIDER,
    REALM,
    SERVICE,
    SHUTDOWN,
    WALL,
    Bench,
    cut,
    ended,
    inventory,
    open_request,
    realm,
    refused,
    request,
    service,
    session_ended,
    session_refused,
)

WHERE: dict[str, Any] = {"realm": REALM, "network_urn": NETWORK}
GONE = "the service is no longer defined"
OVER = f"realm {REALM} has expired"


def loaded(*, initial: bool = False, **counts: int) -> InventoryLoaded:
    return InventoryLoaded(realm=None, network_urn=None, initial=initial, **counts)


def added(definition: ServiceDefinition) -> ServiceAdded:
    return ServiceAdded(
        **WHERE,
        service_urn=definition.urn,
        provider=definition.provider,
        consumers=tuple(sorted(definition.consumers)),
        singleton=definition.singleton,
    )


@pytest.fixture
def bench() -> Bench:
    """Two services."""
    return Bench(services=(service(), service(OTHER_SERVICE)))


def actors(bench: Bench) -> list[str]:
    return sorted(type(actor).__name__ for actor in bench.system.environment.dispatcher.actors)


def test_first_load() -> None:
    """Everything is new."""
    bench = Bench(services=(service(), service(OTHER_SERVICE, singleton=True)))
    assert [recorded.event for recorded in bench.log] == [
        loaded(initial=True, realms_added=1, networks_added=1, services_added=2),
        RealmAdded(realm=REALM, network_urn=None),
        NetworkAdded(**WHERE, fqdn="hub.example"),
        added(service()),
        added(service(OTHER_SERVICE, singleton=True)),
    ]


def test_nothing_is_different(bench: Bench) -> None:
    """Then nobody notices anything, but the log says that it was read."""
    bench.provider()
    bench.consumer()
    bench.joined()
    assert bench.hub(inventory(service(), service(OTHER_SERVICE))) == ([loaded()], [])


def test_plan_that_was_made_before(bench: Bench) -> None:
    """It counts if it begins with the table of now; an old one is made anew. Realms that have expired since, go."""
    table = bench.system.table
    after = (realm(service(), expired_at=WALL + 1),)
    made = plan(table, Table.of(after, WALL, table))
    assert bench.hub(LoadInventory(after, made))[0][0] == loaded(realms_changed=1, services_removed=1)
    assert bench.system.table is made.after
    assert bench.hub(LoadInventory(after, made)) == ([loaded()], [])
    late = (realm(service(OTHER_SERVICE), expired_at=WALL),)
    table = bench.system.table
    made = plan(table, Table.of(late, WALL - 1, table))
    events, _ = bench.hub(LoadInventory(late, made))
    assert events[-1] == ServiceRemoved(**WHERE, service_urn=SERVICE, reason="expired")


def test_rejected(bench: Bench) -> None:
    """Nothing changes; each fault is named, up to a bound."""
    faults = tuple(f"realm acme: fault {number}" for number in range(1001))
    rejected = InventoryRejected(realm=None, network_urn=None, fault_count=1001, faults=faults[:1000])
    assert bench.hub(RejectInventory(faults)) == ([rejected], [])
    bench.provider()


def test_fields_that_actors_only_tell(bench: Bench) -> None:
    """A new certificate, address or CA is a difference that cuts nobody."""
    bench.provider()
    before = realm(service(), service(OTHER_SERVICE))
    network = replace(before.networks[0], address="[::]:443", certificate="cd")
    after = replace(before, networks=(network,), client_ca="ef", max_handshakes=64)
    assert bench.hub(LoadInventory((after,))) == (
        [
            loaded(realms_changed=1, networks_changed=1),
            RealmChanged(
                realm=REALM, network_urn=None, client_ca="ef", max_handshakes=64, changed=("clientCa", "maxHandshakes")
            ),
            NetworkChanged(
                **WHERE, fqdn="hub.example", address="[::]:443", certificate="cd", changed=("address", "certificate")
            ),
        ],
        [],
    )


def test_service_removed(bench: Bench) -> None:
    """Its sessions are withdrawn with their connections; the other service's go on, and its own actor goes."""
    bench.provider(1)
    bench.consumer(2)
    bench.provider(3, service_urn=OTHER_SERVICE)
    key = bench.joined()
    events, commands = bench.hub(inventory(service(OTHER_SERVICE)))
    removed = ServiceRemoved(**WHERE, service_urn=SERVICE, reason="removed")
    assert (events, commands) == (
        [loaded(services_removed=1), removed],
        [AbortConnection(key, Code.WITHDRAWN)],
    )
    asked = request(9)
    reason = f"{NETWORK} has no service {SERVICE!r}"
    assert bench.hub(asked)[0] == [session_refused(asked, Code.UNKNOWN_SERVICE, reason)]
    assert bench.connection(key, cut(3, 4)) == (
        [
            ended(CLOSED, Code.WITHDRAWN, GONE, sent=3, received=4),
            session_ended(2, CONSUMER, SHUTDOWN, Code.WITHDRAWN, GONE, legs=1),
            session_ended(1, PROVIDER, SHUTDOWN, Code.WITHDRAWN, GONE, legs=1),
        ],
        [
            ForgetConnection(key),
            CloseSession(2, Code.WITHDRAWN, GONE),
            CloseSession(1, Code.WITHDRAWN, GONE),
        ],
    )
    assert bench.system.residents() == ({3}, set())
    assert actors(bench) == ["HubActor", "RealmActor", "ServiceActor", "SessionActor"]
    assert list(bench.fold.definitions.services) == [OTHER_SERVICE]


def test_service_comes_back_while_it_goes(bench: Bench) -> None:
    """New sessions are taken at once, the old ones still end."""
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    bench.hub(inventory(service(OTHER_SERVICE)))
    assert bench.hub(inventory(service(), service(OTHER_SERVICE)))[0] == [loaded(services_added=1), added(service())]
    bench.provider(3)
    bench.connection(key, cut())
    assert bench.system.residents() == ({3}, set())
    bench.hub(StopHub())
    bench.assert_empty()


def test_consumer_withdrawn(bench: Bench) -> None:
    """Just its session ends, with its connections; another consumer's connection isn't touched."""
    both = service(consumers=frozenset({"client", "guest"}))
    bench.hub(inventory(both, service(OTHER_SERVICE)))
    bench.provider(1)
    bench.consumer(2)
    bench.consumer(3, common_name="guest")
    mine, other = bench.joined(2, 0, 1), bench.joined(3, 4, 5)
    events, commands = bench.hub(inventory(service(), service(OTHER_SERVICE)))
    changed = ServiceChanged(
        **WHERE, service_urn=SERVICE, provider="server", consumers=("client",), changed=("consumers",)
    )
    assert events == [loaded(services_changed=1), changed]
    assert commands == [AbortConnection(other, Code.WITHDRAWN)]
    assert bench.session(3, open_request(8))[1] == [RefuseConnection(Key(3, 8), Code.SHUTDOWN, "the session is ending")]
    events, commands = bench.connection(other, cut())
    reason = f"'guest' may not be a serviceConsumer of {SERVICE}"
    assert events[1] == replace(
        session_ended(3, CONSUMER, SHUTDOWN, Code.WITHDRAWN, reason, legs=1), spn_end_point="CN=client"
    )
    assert bench.system.residents() == ({1, 2}, {mine})
    assert bench.session(2, open_request(12))[1] == [OpenProviderStream(Key(2, 12), 1, "CN=client")]


def test_provider_changed(bench: Bench) -> None:
    """Who provided it is withdrawn; who may now is accepted at once; consumers stay."""
    bench.provider(1)
    bench.consumer(2)
    events, commands = bench.hub(inventory(service(provider="other"), service(OTHER_SERVICE)))
    reason = f"'server' may not be a serviceProvider of {SERVICE}"
    assert events[2:] == [session_ended(1, PROVIDER, SHUTDOWN, Code.WITHDRAWN, reason)]
    assert commands == [CloseSession(1, Code.WITHDRAWN, reason)]
    bench.provider(3, common_name="other")
    assert bench.session(2, open_request())[1] == [OpenProviderStream(Key(2, 0), 3, "CN=client")]


def test_singleton_from_now_on(bench: Bench) -> None:
    """The oldest provider stays; the others end."""
    for session in (4, 3, 5):
        bench.provider(session)
    events, _ = bench.hub(inventory(service(singleton=True), service(OTHER_SERVICE)))
    reason = f"{SERVICE} is a singleton, and an older session provides it"
    assert events[2:] == [session_ended(session, PROVIDER, SHUTDOWN, Code.WITHDRAWN, reason) for session in (3, 5)]
    assert bench.system.residents()[0] == {4}


def test_realm_removed(bench: Bench) -> None:
    """All of it goes, its actor too; it can come back."""
    bench.provider(1)
    events, commands = bench.hub(LoadInventory(()))
    assert events == [
        loaded(realms_removed=1, networks_removed=1, services_removed=2),
        RealmRemoved(realm=REALM, network_urn=None, reason="removed"),
        NetworkRemoved(**WHERE, reason="removed"),
        ServiceRemoved(**WHERE, service_urn=SERVICE, reason="removed"),
        ServiceRemoved(**WHERE, service_urn=OTHER_SERVICE, reason="removed"),
        session_ended(1, PROVIDER, SHUTDOWN, Code.WITHDRAWN, GONE),
    ]
    assert commands == [CloseSession(1, Code.WITHDRAWN, GONE)]
    assert actors(bench) == ["HubActor"]
    assert bench.fold.definitions == Definitions()
    asked = request(2)
    assert bench.hub(asked)[1] == [RefuseSession(2, Code.UNKNOWN_SERVICE, "no realm acme")]
    bench.hub(inventory(service()))
    bench.provider(3)


def test_realm_expires(bench: Bench) -> None:
    """When its time comes, without a reload; another realm stays. The wall clock says when."""
    other = realm(service("urn:chip-in:service:beta:main:web"), name="beta")
    bench.hub(LoadInventory((realm(service(), expired_at=WALL + 90_000_000), other)))
    bench.provider(1)
    bench.provider(2, realm="beta", network_urn=other.networks[0].urn, service_urn="urn:chip-in:service:beta:main:web")
    assert bench.step(89.9) == ([], [])
    events, commands = bench.step(0.2)
    assert events == [
        RealmRemoved(realm=REALM, network_urn=None, reason="expired"),
        NetworkRemoved(**WHERE, reason="expired"),
        ServiceRemoved(**WHERE, service_urn=SERVICE, reason="expired"),
        session_ended(1, PROVIDER, SHUTDOWN, Code.EXPIRED, OVER, elapsed=90.1),
    ]
    assert commands == [CloseSession(1, Code.EXPIRED, OVER)]
    assert bench.system.residents()[0] == {2}
    assert bench.system.timer() is None
    again = (realm(service(), expired_at=WALL + 90_000_000), other)
    assert bench.hub(LoadInventory(again)) == ([loaded()], [])


def test_wall_clock_that_is_set(bench: Bench) -> None:
    """A realm expires by the wall clock, even when that jumps."""
    bench.hub(LoadInventory((realm(service(), expired_at=WALL + 3_600_000_000),)))
    bench.provider(1)
    bench.system.run(bench.now + 60, WALL + 3_600_000_000)
    assert bench.system.residents() == (set(), set())


def test_clock_that_is_wrong_for_a_while(bench: Bench) -> None:
    """Set 20 days ahead, a realm is over, but nobody's end is for good; set right, it is there without a reload."""
    bench.hub(LoadInventory((realm(service(), expired_at=WALL + 10 * 86_400_000_000),)))
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    bench.days_ahead = 20
    events, commands = bench.hub(ClockStepped())
    assert names(events)[:3] == ["RealmRemoved", "NetworkRemoved", "ServiceRemoved"]
    assert commands == [AbortConnection(key, Code.PEER_LOST)]
    events, commands = bench.connection(key, cut())
    assert names(events) == ["ConnectionPaused", "ConnectionEnded", "SessionEnded", "SessionEnded"]
    assert {one.code for one in commands if isinstance(one, CloseSession)} == {Code.EXPIRED}
    asked = request(3, PROVIDER)
    assert bench.hub(asked) == ([session_refused(asked, Code.EXPIRED, OVER)], [RefuseSession(3, Code.EXPIRED, OVER)])
    assert is_retryable(Code.EXPIRED)
    bench.days_ahead = 0
    assert names(bench.hub(ClockStepped())[0]) == ["RealmAdded", "NetworkAdded", "ServiceAdded"]
    bench.provider(4)
    times = [one.timestamp for one in bench.log]
    assert times == sorted(times)
    bench.days_ahead = 20
    assert names(bench.step(60.0)[0])[:1] == ["RealmRemoved"]


@pytest.mark.parametrize("days", [-20, 20])
def test_steps_of_the_clock_end_nothing(bench: Bench, days: int) -> None:
    """Sessions, connections and pauses of providers go by the time that has passed, not by what the clock says."""
    bench.provider(1)
    bench.consumer(2)
    bench.joined()
    before = bench.system.residents()
    for seconds, ahead in ((1, 0), (1, days), (90, days), (1, 0), (1, -days), (90, 0)):
        bench.days_ahead = ahead
        bench.system.tell_hub(ClockStepped())
        events, commands = bench.step(seconds)
        assert set(names(events)) <= {"HubAlive", "ConnectionProgress"}
        assert {type(one) for one in commands} <= {ReportProgress}
        assert bench.system.residents() == before
        due = bench.system.timer()
        assert due is None or due <= bench.now + 60


def names(events: list[Event]) -> list[str]:
    """Of their classes."""
    return [type(one).__name__ for one in events]


def test_stop_before_an_expiry(bench: Bench) -> None:
    """Nothing is left that would wake a stopped hub; an inventory that comes too late is not applied."""
    bench.hub(LoadInventory((realm(service(), expired_at=WALL + 90_000_000),)))
    assert bench.hub(StopHub())[1] == [ReportHubStopped()]
    assert bench.hub(LoadInventory(())) == ([], [])
    bench.assert_empty()


def test_invalidated(bench: Bench) -> None:
    """A certificate that doesn't count any more ends its session, and just that (D-30)."""
    bench.provider(1)
    bench.consumer(2)
    reason = "the certificate has expired"
    assert bench.session(2, SessionInvalidated(reason)) == (
        [session_ended(2, CONSUMER, SHUTDOWN, Code.WITHDRAWN, reason)],
        [CloseSession(2, Code.WITHDRAWN, reason)],
    )
    assert bench.system.residents()[0] == {1}


def test_expired(bench: Bench) -> None:
    """What is a matter of time lets its endpoint come again, and its connection go on then (D-36)."""
    bench.provider(1)
    bench.consumer(2)
    key = bench.joined()
    reason = "the certificate has expired"
    assert bench.session(2, SessionInvalidated(reason, expired=True))[1] == [AbortConnection(key, Code.PEER_LOST)]
    events, commands = bench.connection(key, cut())
    assert [type(one).__name__ for one in events] == ["ConnectionPaused", "ConnectionEnded", "SessionEnded"]
    assert CloseSession(2, Code.EXPIRED, reason) in commands
    assert bench.system.residents()[0] == {1}


def test_cuts_come_in_slices() -> None:
    """Whoever is no longer allowed gets nothing any more at once, and is closed a slice at a time."""
    bench = Bench(
        ActorOptions(slice_size=10, slice_pause=0.5), services=(service(consumers=frozenset({"client", "x"})),)
    )
    bench.provider(1)
    for session in range(2, 102):
        bench.consumer(session)
    _, commands = bench.step(1.0)
    _, commands = bench.hub(inventory(service(consumers=frozenset({"x"}))))
    closed = len(commands)
    assert closed < 10
    reason = f"'client' may not be a serviceConsumer of {SERVICE}"
    last = 101
    assert bench.session(last, open_request()) == (
        [refused(Code.WITHDRAWN, reason, consumer=last)],
        [RefuseConnection(Key(last, 0), Code.WITHDRAWN, reason)],
    )
    steps = 0
    while bench.system.timer() is not None:
        _, commands = bench.step(0.5)
        assert 0 < len(commands) <= 10
        closed += len(commands)
        steps += 1
    assert (closed, bench.system.residents()[0]) == (100, {1})
    assert steps >= 10


def test_many_services_come_in_slices() -> None:
    """A service is there at once, whether its slice has come or not."""
    bench = Bench(ActorOptions(slice_size=10, slice_pause=0.5), services=())
    bench.step(1.0)
    urns = [f"urn:chip-in:service:acme:main:s{number}" for number in range(100)]
    events, _ = bench.hub(inventory(*map(service, urns)))
    assert len(events) == 1 + 10
    bench.provider(1, service_urn=urns[-1])
    assert bench.log[-2].event == added(service(urns[-1]))
    more = 0
    while bench.system.timer() is not None:
        events, _ = bench.step(0.5)
        more += len(events)
    assert more == 100 - 10 - 1
    assert sorted(bench.fold.definitions.services) == sorted(urns)


def test_stop_doesnt_wait_for_slices() -> None:
    """A planned stop ends everything that was still to follow."""
    bench = Bench(ActorOptions(slice_size=2, slice_pause=0.5))
    bench.step(1.0)
    for session in range(1, 20):
        bench.provider(session)
    bench.step(1.0)
    bench.hub(LoadInventory(()))
    _, commands = bench.hub(StopHub())
    assert commands[-1] == ReportHubStopped()
    bench.assert_empty()


def test_realm_limit() -> None:
    """A realm has only so many sessions; another realm's don't count, and a stale session's place is its own."""
    bench = Bench(services=())
    other = "urn:chip-in:service:beta:main:web"
    beta = realm(service(other), name="beta")
    bench.hub(LoadInventory((realm(service(), max_sessions=2), beta)))
    for session in (1, 2):
        bench.provider(session)
    bench.provider(3, realm="beta", network_urn=beta.networks[0].urn, service_urn=other)
    asked = request(4, PROVIDER)
    reason = "realm acme has 2 sessions, as many as it may"
    assert bench.hub(asked)[0] == [session_refused(asked, Code.LIMIT, reason)]
    bench.provider(5, instance_id="i2")
    bench.session(1, SessionInvalidated("x"))
    bench.provider(6)


def test_realm_limit_of_all_realms() -> None:
    """Without a limit of its own a realm has the hub's."""
    bench = Bench(ActorOptions(realm_sessions=1))
    bench.provider(1)
    reason = "realm acme has 1 sessions, as many as it may"
    assert bench.hub(request(2))[1] == [RefuseSession(2, Code.LIMIT, reason)]


def test_limit_of_an_identity() -> None:
    """A certificate's subject has only so many sessions in a realm; others' don't count, nor does one it supersedes."""
    bench = Bench(ActorOptions(identity_sessions=2))
    for session, instance in ((1, "i1"), (2, "i2")):
        bench.provider(session, instance_id=instance)
    reason = "its subject has 2 sessions, as many as it may"
    asked = request(3, PROVIDER, instance_id="i3")
    assert bench.hub(asked)[0] == [session_refused(asked, Code.LIMIT, reason)]
    bench.provider(4, instance_id="i2")
    bench.consumer(5)
    bench.session(1, SessionInvalidated("x"))
    bench.provider(6, instance_id="i3")


# The plan against what the actors do ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
SERVICES = st.builds(
    lambda provider, consumers, singleton, availability: (provider, consumers, singleton, availability),
    NAMES,
    st.frozensets(NAMES),
    st.booleans(),
    st.sampled_from([None, Availability("docker:", "x"), Availability("docker:", "x", start_on_payload=True)]),
)
INVENTORIES = st.dictionaries(
    st.sampled_from(["r", "s"]),
    st.tuples(
        st.sampled_from(["", "ca"]),
        st.dictionaries(st.sampled_from(["m", "n"]), st.dictionaries(st.sampled_from(["v", "w"]), SERVICES)),
    ),
)


def build(drawn: dict[str, Any]) -> tuple[RealmDefinition, ...]:
    realms = []
    for name, (client_ca, hubs) in drawn.items():
        networks = []
        for hub, services in hubs.items():
            definitions = tuple(
                ServiceDefinition(f"urn:chip-in:service:{name}:{hub}:{one}", one, *values)
                for one, values in services.items()
            )
            networks.append(NetworkDefinition(f"urn:chip-in:network:{name}:{hub}", hub, f"{hub}.{name}", definitions))
        realms.append(RealmDefinition(name, tuple(networks), client_ca=client_ca))
    return tuple(realms)


WISHES = st.lists(
    st.tuples(
        st.sampled_from(["r", "s"]), st.sampled_from(["m", "n"]), st.sampled_from(["v", "w"]),
        st.sampled_from([PROVIDER, CONSUMER]), NAMES,
    ),
    max_size=12,
)  # fmt: skip


@given(INVENTORIES, INVENTORIES, WISHES)
@settings(max_examples=150, deadline=None)
def test_the_plan_is_what_happens(before: dict[str, Any], after: dict[str, Any], wishes: list[Any]) -> None:
    """The sessions that it says are cut, and no others; an event for each difference; the log has the new table."""
    old, new = build(before), build(after)
    bench = Bench(services=())
    bench.hub(LoadInventory(old))
    for session, (name, hub, one, role, common_name) in enumerate(wishes, 1):
        bench.hub(
            request(
                session,
                role,
                realm=name,
                network_urn=f"urn:chip-in:network:{name}:{hub}",
                service_urn=f"urn:chip-in:service:{name}:{hub}:{one}",
                common_name=common_name,
                brings_connections=True,
            )
        )
    first = Table.of(old, 0)
    made = plan(first, Table.of(new, 0, first))
    there = bench.system.residents()[0]
    live = [
        (session, LiveSession(f"urn:chip-in:network:{n}:{h}", f"urn:chip-in:service:{n}:{h}:{o}", role, common_name))
        for session, (n, h, o, role, common_name) in enumerate(wishes, 1)
        if session in there
    ]
    events, _ = bench.hub(LoadInventory(new))
    assert there - bench.system.residents()[0] == set(made.cuts(live))
    ends = [event for event in events if isinstance(event, SessionEnded)]
    assert {event.reason for event in ends} == set(made.cuts(live).values())
    assert all((event.terminate_reason, event.code) == (SHUTDOWN, Code.WITHDRAWN) for event in ends)
    told = [kind for kind in map(kind_of, events) if kind]
    assert sorted(told) == sorted((one.kind, one.change.value) for one in made.differences)
    assert events[0] == made.loaded(initial=False)
    assert plan(made.after, Table.of(new, 0, made.after)).differences == ()
    definitions = bench.fold.definitions
    assert set(definitions.realms) == set(made.after.realms)
    assert set(definitions.networks) == set(made.after.networks)
    assert {state.service_urn: state.consumers for state in definitions.services.values()} == {
        one.urn: tuple(sorted(one.consumers)) for one in made.after.services.values()
    }
    bench.hub(StopHub())
    bench.assert_empty()


def kind_of(event: Event) -> tuple[str, str] | None:
    name = type(event).__name__
    for kind in ("Realm", "Network", "Service"):
        for change in DefinitionChange:
            if name == f"{kind}{change.value.capitalize()}":
                return kind.lower(), change.value
    return None


def test_roles_are_apart() -> None:
    """What a name may be as a consumer says nothing about it as a provider."""
    table = Table.of((realm(service(provider="client", consumers=frozenset())),), 0)
    made = plan(Table.of((realm(service()),), 0), table)
    sessions = [(role, LiveSession(NETWORK, SERVICE, role, "client")) for role in EndPointType]
    assert made.cuts(sessions) == {CONSUMER: f"'client' may not be a serviceConsumer of {SERVICE}"}
