"""A hub's actors on a bench: inputs by hand, time by hand, and everything that comes out as plain lists.

:class:`Bench` checks after every step that what the actors hold is the fold of the log and that both agree on who is
there. The expected objects of the playbooks are built here, so that a test names only what it is about.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from spnhub.actors.connection.actor import ConnectionActor
from spnhub.actors.connection.state import Leg
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import Command, OpenProviderStream, SendPacket
from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inputs import (
    ConnectionInput,
    ConnectionRequested,
    Key,
    LoadInventory,
    ProviderAccepted,
    ProviderStreamOpened,
    SessionClosed,
    SessionInput,
    SessionRequested,
    SpliceEnded,
)
from spnhub.actors.contract.packets import CloseAck, CloseRequest, Packet
from spnhub.actors.kernel.environment import ConnectionEntry
from spnhub.actors.kernel.runtime import actor_of
from spnhub.actors.service.actor import ServiceActor
from spnhub.actors.system import ActorOptions, ActorSystem
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    ProviderFailed,
    ProviderRecovered,
    Recorded,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    TerminateReason,
)
from spnhub.events.state.hub_state import HubState
from tests.actors.holding import folded, suspended

REALM = "acme"
NETWORK = "urn:chip-in:network:acme:main"
SERVICE = "urn:chip-in:service:acme:main:web"
OTHER_SERVICE = "urn:chip-in:service:acme:main:mail"
SINGLE_SERVICE = "urn:chip-in:service:acme:main:single"
JOURNAL = uuid.UUID(int=1)
WALL = 1_700_000_000_000_000

PROVIDER, CONSUMER = EndPointType.PROVIDER, EndPointType.CONSUMER
BY_PEER, CLOSED, ERROR = DisconnectReason.CLOSED_BY_PEER, DisconnectReason.CLOSED, DisconnectReason.ERROR


def service(urn: str = SERVICE, **changes: Any) -> ServiceDefinition:
    """A service that "server" may provide and "client" may use."""
    definition = ServiceDefinition(urn, urn.rpartition(":")[2], "server", frozenset({"client"}))
    return replace(definition, **changes)


def realm(*services: ServiceDefinition, name: str = REALM, **changes: Any) -> RealmDefinition:
    """A realm with one network."""
    network = NetworkDefinition(f"urn:chip-in:network:{name}:main", "main", "hub.example", services)
    return RealmDefinition(name, (network,), **changes)


def inventory(*services: ServiceDefinition) -> LoadInventory:
    """One realm with one network."""
    return LoadInventory((realm(*services),))


def request(session: int, role: EndPointType = CONSUMER, **changes: Any) -> SessionRequested:
    """A session request of the right endpoint."""
    name = "server" if role is PROVIDER else "client"
    values: dict[str, Any] = {
        "session": session,
        "realm": REALM,
        "network_urn": NETWORK,
        "spn_session_id": f"s{session}",
        "spn_end_point": f"CN={name}",
        "common_name": name,
        "end_point_type": role,
        "service_urn": SERVICE,
        "instance_id": f"i{session}",
        "weight": 100,
        "brings_connections": False,
        "protocol": "spn/1",
        "remote_address": "192.0.2.1:4433",
    }
    return SessionRequested(**values | changes)


def uid(stream: int) -> str:
    """The connectionUid that the bench gives to the connection on this stream."""
    return f"uid{stream}"


_P = TypeVar("_P", bound=Packet)


def sent(commands: Iterable[Command], kind: type[_P]) -> list[tuple[int, _P]]:
    """The packets of one kind among the commands, each with the session that it goes to."""
    found = ((one.session, one.packet) for one in commands if isinstance(one, SendPacket))
    return [(session, packet) for session, packet in found if isinstance(packet, kind)]


def leg_of(entry: ConnectionEntry) -> Leg:
    """What a live connection's actor holds."""
    actor = actor_of(entry.ref)
    assert isinstance(actor, ConnectionActor)
    return actor.leg


@dataclass
class Bench:
    """The actors and their surroundings. ``now`` in seconds; the wall clock follows it, so many days ahead."""

    options: ActorOptions = field(default_factory=ActorOptions)
    services: tuple[ServiceDefinition, ...] = (
        service(),
        service(OTHER_SERVICE),
        service(SINGLE_SERVICE, singleton=True),
    )
    now: float = 100.0
    days_ahead: int = 0

    def __post_init__(self) -> None:
        self.log: list[Recorded] = []
        self.fold = HubState()
        self.faults: list[object] = []
        self.raised: list[tuple[str, BaseException]] = []
        """What the actors' handlers have raised, by the actor's class."""
        self.system = ActorSystem(
            self._record, "hub-1", self.options, lambda where, fault: self.raised.append((where, fault))
        )
        self.seen = 0
        self.system.tell_hub(inventory(*self.services))
        self.step()

    def _record(self, event: Event, timestamp: int) -> Recorded:
        recorded = Recorded("hub-1", JOURNAL, len(self.log) + 1, timestamp, event)
        # By this the actors have decided; raised here, it would be one actor's failure only.
        if self.system.environment.state != self.fold:
            self.faults.append(f"before sequence {recorded.sequence} the actors' state is not the fold of the log")
        self.log.append(recorded)
        self.faults += self.fold.apply(recorded)
        return recorded

    @property
    def wall_us(self) -> int:
        """Microseconds since 1970."""
        return WALL + round((self.now - 100.0) * 1_000_000) + self.days_ahead * 86_400_000_000

    def step(self, seconds: float = 0.0) -> tuple[list[Event], list[Command]]:
        """Let time pass and the actors run; what they have recorded and commanded."""
        self.now += seconds
        self.system.run(self.now, self.wall_us)
        new, self.seen = self.log[self.seen :], len(self.log)
        self.check()
        return [recorded.event for recorded in new], self.system.take_commands()

    def check(self) -> None:
        """What the actors hold is the fold of the log, and an actor is there for just what is open."""
        state = self.system.state()
        assert not self.faults
        assert state == self.fold
        mine = suspended(self.system)
        logged = folded(self.fold, mine)
        for kind, one in mine.items():
            assert one == logged[kind], (kind, one, logged[kind])
        env = self.system.environment
        entries = env.directory.sessions.values()
        assert sorted(entry.spn_session_id for entry in entries) == sorted(state.sessions)
        started = {leg_of(entry).log_key for entry in env.directory.connections.values()}  # None: still an opening
        assert started - {None} == set(state.connections)

    def hub(self, message: Any) -> tuple[list[Event], list[Command]]:
        """An input to the hub, and what comes of it."""
        self.system.tell_hub(message)
        return self.step()

    def session(self, session: int, message: SessionInput) -> tuple[list[Event], list[Command]]:
        """An input to a session, and what comes of it."""
        self.system.tell_session(session, message)
        return self.step()

    def connection(self, key: Key, message: ConnectionInput) -> tuple[list[Event], list[Command]]:
        """An input to a connection, and what comes of it."""
        self.system.tell_connection(key, message)
        return self.step()

    # Ways into the state that a test is about

    def provider(self, session: int = 1, **changes: Any) -> int:
        """A provider's session."""
        self.hub(request(session, PROVIDER, **changes))
        assert session in self.system.residents()[0]
        return session

    def consumer(self, session: int = 2, **changes: Any) -> int:
        """A consumer's session."""
        self.hub(request(session, CONSUMER, **changes))
        assert session in self.system.residents()[0]
        return session

    def opening(self, consumer: int = 2, stream: int = 0) -> Key:
        """A connection whose provider's stream isn't open yet."""
        _, commands = self.session(consumer, open_request(stream))
        assert isinstance(commands[0], OpenProviderStream)
        return commands[0].connection

    def connecting(self, consumer: int = 2, stream: int = 0, provider_stream: int = 1) -> Key:
        """A connection that has started and waits for the provider's accept."""
        key = self.opening(consumer, stream)
        events, _ = self.connection(key, ProviderStreamOpened(provider_stream))
        assert isinstance(events[0], ConnectionStarted)
        return key

    def joined(self, consumer: int = 2, stream: int = 0, provider_stream: int = 1) -> Key:
        """A connection whose bytes pass."""
        key = self.connecting(consumer, stream, provider_stream)
        self.connection(key, ProviderAccepted())
        return key

    def finished(self, consumer: int = 2, stream: int = 0, provider_stream: int = 1) -> Key:
        """A connection whose FINs have both been passed on."""
        key = self.joined(consumer, stream, provider_stream)
        self.connection(key, fins())
        return key

    def assert_empty(self) -> None:
        """No session, connection, timer or forgotten actor is left."""
        env = self.system.environment
        assert self.system.residents() == (set(), set())
        assert (self.fold.sessions, self.fold.connections) == ({}, {})
        assert self.system.timer() is None
        actors = {type(actor).__name__ for actor in env.dispatcher.actors}
        assert actors <= {"HubActor", "RealmActor", "ServiceActor"}
        assert env.dispatcher.quiescent
        for actor in env.dispatcher.actors:
            if isinstance(actor, ServiceActor):
                registry = actor.registry
                assert (registry.sessions, registry.identities, registry.retired, len(registry.choice)) == (
                    {},
                    {},
                    set(),
                    0,
                )
                counts = actor.counts()
                assert [name for name in ("names", "confirmed", "pending", "suspended", "failed") if counts[name]] == []
        assert +env.directory.realm_sessions == {}
        assert (env.directory.identity_sessions, env.directory.identity_connections) == ({}, {})
        assert env.directory.realm_connections == {}


def open_request(stream: int = 0, **changes: Any) -> ConnectionRequested:
    """A consumer's opening."""
    values: dict[str, Any] = {"stream": stream, "connection_uid": uid(stream), "epoch": 0}
    return ConnectionRequested(**{"sent_offset": 0, "receive_offset": 0} | values | changes)


def fins(sent: int = 10, received: int = 20) -> SpliceEnded:
    """Both FINs have been passed on."""
    return SpliceEnded(sent, received, finished=True, lost=False, code=0)


def cut(sent: int = 10, received: int = 20, *, lost: bool = False, code: int = Code.PEER_RESET) -> SpliceEnded:
    """The streams were reset, or a side was lost."""
    return SpliceEnded(sent, received, finished=False, lost=lost, code=code)


def ask(stream: int = 0, *, finished: bool = True) -> CloseRequest:
    """A Close Request."""
    return CloseRequest(uid(stream), 0, 10, 20, finished)


def answer(stream: int = 0) -> CloseAck:
    """A Close ACK."""
    return CloseAck(uid(stream), 0)


SHUTDOWN, TERMINATED, FAILED = TerminateReason.SHUTDOWN, TerminateReason.TERMINATED_BY_PEER, TerminateReason.ERROR
LOST = SessionClosed(by_peer=False, code=Code.PEER_LOST, reason="idle")
LEFT = SessionClosed(by_peer=True, code=Code.OK, reason="bye")


# Expected events ------------------------------------------------------------------------------------------------------


def session_started(asked: SessionRequested) -> SessionStarted:
    """The start of a session as it was requested."""
    return SessionStarted(
        realm=asked.realm,
        network_urn=asked.network_urn,
        spn_session_id=asked.spn_session_id,
        spn_end_point=asked.spn_end_point,
        end_point_type=asked.end_point_type,
        service_urn=asked.service_urn,
        instance_id=asked.instance_id,
        weight=asked.weight,
        protocol=asked.protocol,
        remote_address=asked.remote_address,
    )


def session_refused(asked: SessionRequested, code: Code, reason: str) -> SessionRefused:
    """The refusal of a session as it was requested."""
    return SessionRefused(
        realm=asked.realm,
        network_urn=asked.network_urn,
        spn_end_point=asked.spn_end_point,
        end_point_type=asked.end_point_type,
        service_urn=asked.service_urn,
        remote_address=asked.remote_address,
        code=code,
        reason=reason,
    )


def session_ended(
    session: int,
    role: EndPointType,
    why: TerminateReason,
    code: int,
    reason: str,
    *,
    legs: int = 0,
    elapsed: float = 0.0,
) -> SessionEnded:
    """The end of one of the bench's sessions."""
    return SessionEnded(
        realm=REALM,
        network_urn=NETWORK,
        spn_session_id=f"s{session}",
        spn_end_point="CN=server" if role is PROVIDER else "CN=client",
        end_point_type=role,
        service_urn=SERVICE,
        total_connection_count=legs,
        elapsed_time=elapsed,
        terminate_reason=why,
        code=code,
        reason=reason,
    )


def started(stream: int = 0, provider_stream: int = 1, *, consumer: int = 2, provider: int = 1) -> ConnectionStarted:
    """The start of a leg."""
    return ConnectionStarted(
        realm=REALM,
        network_urn=NETWORK,
        spn_connection_id=f"{stream}-{provider_stream}",
        consumer_side_spn_session_id=f"s{consumer}",
        provider_side_spn_session_id=f"s{provider}",
        service_urn=SERVICE,
        connection_uid=uid(stream),
    )


def ended(
    why: DisconnectReason,
    code: int,
    reason: str = "",
    *,
    sent: int = 10,
    received: int = 20,
    elapsed: float = 0.0,
    stream: int = 0,
    provider_stream: int = 1,
    consumer: int = 2,
    provider: int = 1,
    suspended: bool = False,
    rejected: bool = False,
) -> ConnectionEnded:
    """The end of a leg."""
    return ConnectionEnded(
        realm=REALM,
        network_urn=NETWORK,
        spn_connection_id=f"{stream}-{provider_stream}",
        consumer_side_spn_session_id=f"s{consumer}",
        provider_side_spn_session_id=f"s{provider}",
        service_urn=SERVICE,
        connection_uid=uid(stream),
        total_sent_bytes=sent,
        total_receive_bytes=received,
        delta_sent_bytes=sent,
        delta_receive_bytes=received,
        elapsed_time=elapsed,
        disconnect_reason=why,
        code=code,
        reason=reason,
        suspended=suspended,
        rejected=rejected,
    )


def paused(
    code: int,
    reason: str = "",
    *,
    sent: int = 10,
    received: int = 20,
    stream: int = 0,
    provider_stream: int = 1,
    planned: bool = False,
    epoch: int = 0,
) -> ConnectionPaused:
    """The bytes of a leg have stopped."""
    return ConnectionPaused(
        realm=REALM,
        network_urn=NETWORK,
        spn_connection_id=f"{stream}-{provider_stream}",
        consumer_side_spn_session_id="s2",
        provider_side_spn_session_id="s1",
        service_urn=SERVICE,
        connection_uid=uid(stream),
        epoch=epoch,
        sent_offset=sent,
        receive_offset=received,
        planned=planned,
        code=code,
        reason=reason,
    )


def failed(
    code: Code, reason: str, *, provider: int = 1, failures: int = 1, seconds: float = 1.0, wall_us: int = WALL
) -> ProviderFailed:
    """A provider didn't take an opening at ``wall_us``, and is passed over."""
    return ProviderFailed(
        realm=REALM,
        network_urn=NETWORK,
        spn_session_id=f"s{provider}",
        service_urn=SERVICE,
        failures=failures,
        passed_over_until=wall_us + round(seconds * 1_000_000),
        code=code,
        reason=reason,
    )


def recovered(provider: int = 1) -> ProviderRecovered:
    """A provider that had failed has taken an opening."""
    return ProviderRecovered(realm=REALM, network_urn=NETWORK, spn_session_id=f"s{provider}", service_urn=SERVICE)


def refused(code: Code, reason: str, *, stream: int = 0, consumer: int = 2) -> ConnectionRefused:
    """An opening that led to no leg."""
    return ConnectionRefused(
        realm=REALM,
        network_urn=NETWORK,
        consumer_side_spn_session_id=f"s{consumer}",
        service_urn=SERVICE,
        connection_uid=uid(stream),
        code=code,
        reason=reason,
    )
