"""The hub between the engine and the actors: engine events become inputs, commands become engine calls.

Counterparts: :mod:`spnhub.actors.system` (decides), :mod:`spnhub.transport.udp` (drives it), ``PROTOCOL.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, ParamSpec, assert_never

from spnhub.actors.contract import commands, inputs, packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.system import ActorSystem
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.foreign_text import NAME_LIMIT, clipped, clipped_subject
from spnhub.transport import engine as api
from spnhub.transport.hub.backlog import WAITING_EVENTS, Backlog
from spnhub.transport.hub.bandwidth import Bandwidth
from spnhub.transport.hub.certificates import Certificates, Judge
from spnhub.transport.hub.connections import Connections
from spnhub.transport.hub.gate import Gate
from spnhub.transport.hub.memory import Memory, MemoryLimits
from spnhub.transport.hub.rates import Rates, RealmRates, SessionRates
from spnhub.transport.hub.relays import RelayHalf
from spnhub.transport.hub.sessions import CONTROL_STREAM, HubSession, Network, Sessions, TransportPacket
from spnhub.transport.protocol import ProtocolError
from spnhub.transport.system.ip import host_port, plain_host

__all__ = ["EVENTS_PER_TURN", "HubServer"]

_P = ParamSpec("_P")

_FAULT: Final = "a fault in the hub"
_OF_STREAMS: Final = (api.Opened, api.Readable, api.Writable, api.Reset, api.Stopped)

_ANY_MEMORY: Final = MemoryLimits().of(1 << 50, api.Limits())

EVENTS_PER_TURN: Final = 128
"""Engine events, and control packets, that one turn handles; an opening costs about a quarter of a millisecond."""


class HubServer:
    """One hub process's turn: time and engine events in, engine calls out.

    :param engine: the QUIC endpoint.
    :param system: the actors.
    :param gate: corks connections until the journal has written the turn's events (D-6).
    :param hub_id: sent in each SessionAck.
    :param on_stopped: called when every session has ended after StopHub (R-4.10).
    :param on_service: carries out what concerns cluster managers, later; results come back as inputs.
    :param judge: verifies again what sessions have presented (D-30).
    :param on_fault: called with each exception of a turn, which ends its connection or session and nothing else.
    :param rates: of each session.
    :param memory: what sessions may have the hub hold (:meth:`MemoryLimits.of`); None: as much as they like.
    :param resident: bytes of memory that the process has now.
    :param logged: how many events each realm has caused, and how many bytes they are; None: they aren't bounded.
    """

    def __init__(
        self,
        engine: api.Engine,
        system: ActorSystem,
        gate: Gate,
        hub_id: str,
        *,
        on_stopped: Callable[[], None],
        on_service: Callable[[commands.StartService | commands.StopService], None],
        judge: Judge,
        on_fault: OnFault = log_fault,
        rates: SessionRates | None = None,
        memory: MemoryLimits | None = None,
        resident: Callable[[], int] = lambda: 0,
        logged: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self._engine = engine
        self._system = system
        self._gate = gate
        self._on_fault = on_fault
        self._gated: set[int] = set()
        self._backlog = Backlog(self._realm_of, self._waits_with)
        """Engine events that no turn has handled yet."""
        self._rates = Rates(rates, logged)
        self._memory = Memory(engine, memory or _ANY_MEMORY, resident, self._rates)
        self._now = 0.0
        self.certificates = Certificates(judge, self._invalidate, self._fail_session)
        """What the sessions have presented."""
        self._sessions = Sessions(
            engine,
            system,
            hub_id,
            self._gated,
            self.certificates,
            self._on_packet,
            self._fail_session,
            self._rates,
            lambda connection_id: self._backlog.add_first(api.Readable(connection_id, CONTROL_STREAM)),
            self._memory,
        )
        self._bandwidth = Bandwidth[RelayHalf](engine)
        self._connections = Connections(engine, system, self._sessions, self._gated, self._bandwidth)
        self._timed = (system, gate, self._sessions, self.certificates, self._connections.relays)
        """What wants turns at times of its own."""
        self._on_stopped = on_stopped
        self._on_service = on_service

    def set_networks(
        self,
        networks: Mapping[tuple[int, str], Network],
        authorities: Mapping[str, api.ClientTrust],
        rates: Mapping[str, RealmRates] | None = None,
        realms: Sequence[RealmDefinition] = (),
    ) -> None:
        """Which network a socket (:attr:`Address.local`) and a server name stand for; each network's client CAs, PEM;
        and the rates of each realm. ``realms``: with their memory, and their bandwidth and that of their services.

        Live sessions whose CA is another are judged again, in slices.
        """
        self._sessions.set_networks(networks)
        self.certificates.set_authorities(authorities)
        self._rates.set_realms(rates or {})
        self._memory.set_realms({realm.name: realm.max_memory for realm in realms if realm.max_memory is not None})
        self._bandwidth.set_realms(realms)

    @property
    def sessions(self) -> Sessions:
        """The QUIC connections that are up."""
        return self._sessions

    def datagram_size(self, connection_id: int) -> int | None:
        """Bytes of the largest UDP payload that is sent on a connection at the moment; None: it is gone."""
        info = self._engine.info(connection_id)
        return None if info is None else info.datagram_size

    def turn(self, events: list[api.EngineEvent], now: float, wall_us: int) -> None:
        """Pass ``events`` and the time to the actors, and carry out their commands.

        ``now`` is monotonic seconds, ``wall_us`` microseconds since 1970: the time of every event of this turn. A burst
        is handled over several turns (:data:`EVENTS_PER_TURN`), so that other traffic goes on.
        """
        self._now = now
        self._guard(self._sessions.pass_time, now)
        self._guard(self._connections.relays.pass_time, now)
        self._guard(self.certificates.pass_time, now, wall_us)
        if events or self._backlog.count:
            self._handle_all(events)
        for (realm, limit, bound), count in self._rates.take_exceeded().items():
            self._system.tell_hub(inputs.LimitExceeded(limit, bound, count, realm or None))
        while True:
            self._guard(self._system.run, now, wall_us)
            todo = self._system.take_commands()
            if not todo:
                break
            for command in todo:
                try:
                    self.carry_out(command)
                except Exception as fault:
                    self._fail(command, fault)
        for connection_id in self._connections.acks.queued():
            try:
                self._connections.acks.flush(connection_id)
            except Exception as fault:
                self._fail_session(connection_id, fault)
        try:
            self._gate.close_turn(self._gated, now)
        finally:
            self._gated.clear()

    def _handle_all(self, events: list[api.EngineEvent]) -> None:
        """Handle what one turn may cost: first of these, if none wait, then of those that wait, fairly."""
        backlog, sessions, left = self._backlog, self._sessions, EVENTS_PER_TURN
        sessions.packets = 0
        direct = len(events) <= left
        for event in events:
            if direct and left > sessions.packets and not backlog.count:
                self._handle_one(event)
                left -= 1
            else:
                self._let_wait(event)
        while left > sessions.packets and backlog.count:
            self._handle_one(backlog.take())
            left -= 1

    def _handle_one(self, event: api.EngineEvent) -> None:
        try:
            self.handle(event)
        except Exception as fault:
            self._fail(event, fault)

    def _let_wait(self, event: api.EngineEvent) -> None:
        if isinstance(event, api.Closed):
            self._sessions.keep_unread(event.connection_id)
        too_many = self._backlog.add(event)
        if too_many is None:
            return
        session = self._sessions.get(too_many)
        if session is not None:
            self._rates.exceed_limit(session.network.realm, "waitingEvents", WAITING_EVENTS)
        self._engine.close(too_many, Code.LIMIT, f"more than {WAITING_EVENTS} things to do wait")

    def _realm_of(self, event: api.EngineEvent) -> str:
        """The realm in whose turn an event is handled."""
        if isinstance(event, api.Connected | api.HandshakeRefused):
            network = self._sessions.network(event.address.local, event.server_name)
            return network.realm if network is not None else ""
        if isinstance(event, api.Spliced):
            key = self._connections.splice_sides(event.token)
            session = self._sessions.get(key[0]) if key else None
        else:
            session = self._sessions.get(getattr(event, "connection_id", 0))
        return "" if session is None else session.network.realm

    def _waits_with(self, event: api.Spliced, backlog: Backlog) -> int:
        """A splice's end comes after what ended it: behind the events of whichever side's session has some."""
        sides = self._connections.splice_sides(event.token)
        return next((session for session in sides if session in backlog), sides[0] if sides else 0)

    def _guard(self, step: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Run a part of the turn that concerns no single session; if it raises, the other parts follow all the same."""
        try:
            step(*args, **kwargs)
        except Exception as fault:
            self._on_fault("turn", fault)

    def _fail(self, cause: api.EngineEvent | Command, fault: BaseException) -> None:
        """A fault of ours in an event or a command: its connection ends with INTERNAL, or else its session.

        Endpoints go on with what a session that ends like that has carried, in another one.
        """
        self._on_fault("turn", fault)
        try:
            if isinstance(cause, api.Closed):
                # There is no session any more that could be closed; the actors must hear of it all the same.
                self._system.tell_session(cause.connection_id, inputs.SessionClosed(False, Code.INTERNAL, _FAULT))
            elif isinstance(cause, _OF_STREAMS) and self._connections.fail(cause.connection_id, cause.stream_id):
                return
            else:
                for connection_id in self._concerned(cause):
                    self._sessions.close(connection_id, Code.INTERNAL, _FAULT)
        except Exception as another:
            self._on_fault("turn", another)

    def _fail_session(self, connection_id: int, fault: BaseException) -> None:
        """A fault of ours in something that concerns one session: it ends with INTERNAL."""
        self._on_fault("turn", fault)
        try:
            self._sessions.close(connection_id, Code.INTERNAL, _FAULT)
        except Exception as another:
            self._on_fault("turn", another)

    def _concerned(self, cause: object) -> set[int]:
        """The sessions that an event or a command is about. Of a connection's two the one that asked for it."""
        if isinstance(cause, api.Spliced):
            key = self._connections.fail_splice(cause.token)
            return set() if key is None else {key.session}
        key = getattr(cause, "connection", None)
        named = (getattr(cause, "connection_id", None), getattr(cause, "session", None), getattr(key, "session", None))
        return {connection_id for connection_id in named if isinstance(connection_id, int)}

    def counts(self) -> dict[str, int]:
        """How many it keeps of what belongs to connections."""
        return self._connections.counts()

    def timer(self) -> float | None:
        """When a turn is wanted at the latest."""
        if self._backlog.count:
            return self._now
        return min([at for part in self._timed if (at := part.timer()) is not None], default=None)

    # ---- engine events -----------------------------------------------------------------------------------------

    def handle(self, event: api.EngineEvent) -> None:
        """The most frequent ones first."""
        match event:
            case api.Readable():
                self._readable(event)
            case api.Opened():
                self._opened(event)
            case api.Spliced():
                self._connections.spliced(event)
            case api.Writable():
                self._writable(event)
            case api.Connected():
                self._sessions.begin(event)
            case api.Closed():
                self._closed(event)
            case api.Reset() | api.Stopped():
                self._aborted(event)
            case api.Available():
                self._available(event)
            case api.Unresponsive():
                self._system.tell_session(event.connection_id, inputs.SessionUnresponsive())
            case api.Answered():
                self._system.tell_session(event.connection_id, inputs.SessionAnswered())
            case api.HandshakeRefused():
                self._handshake_refused(event)
            case api.WindowLow():
                self._memory.low(event.connection_id, self._now)
            case api.SendWindowLow():
                self._memory.low(event.connection_id, self._now, sending=True)
            case api.Throttled():
                if (exceeded := self._bandwidth.exceeded(event)) is not None:
                    self._system.tell_hub(exceeded)
            case api.HandshakesDropped():
                self._handshakes_bounded("handshakes", event)
            case api.RetriesSent():
                self._handshakes_bounded("retries", event)
            case api.DatagramsDropped():
                self._system.tell_hub(inputs.LimitExceeded("datagrams", event.bound, event.count))
            case api.PathNarrowed():
                self._path_narrowed(event)
            case api.DatagramReceived():
                self._datagram(event)
            case _:
                assert_never(event)

    def _handshake_refused(self, event: api.HandshakeRefused) -> None:
        network = self._sessions.network(event.address.local, event.server_name)
        self._system.tell_hub(
            inputs.HandshakeRefusal(
                realm=network.realm if network else None,
                network_urn=network.urn if network else None,
                server_name=None if event.server_name is None else clipped(event.server_name, NAME_LIMIT),
                remote_address=host_port(*event.address.remote[:2]),
                alert=event.alert,
                reason=clipped(event.reason),
                subject=None if event.subject is None else clipped_subject(event.subject),
            )
        )

    def _handshakes_bounded(self, limit: str, event: api.HandshakesDropped | api.RetriesSent) -> None:
        network = self._sessions.network(event.local, event.server_name)
        self._system.tell_hub(inputs.LimitExceeded(limit, None, event.count, network.realm if network else None))

    def _path_narrowed(self, event: api.PathNarrowed) -> None:
        session = self._sessions.get(event.connection_id)
        realm = None if session is None else session.network.realm or None
        self._system.tell_hub(inputs.LimitExceeded("pathMtu", None, 1, realm))

    def _closed(self, event: api.Closed) -> None:
        session = self._sessions.end(event.connection_id)
        self._connections.relays.lost(event.connection_id)
        self._connections.resumes.forget_session(event.connection_id)
        if session is not None and session.requested:
            by_peer, gone = event.kind is api.CloseKind.PEER, event.kind is api.CloseKind.PORT_CLOSED
            # No number of sc01's but 0 means what it does in spn/1.
            code = Code.INTERNAL if session.sc01 is not None and by_peer and event.code else event.code
            self._system.tell_session(
                event.connection_id, inputs.SessionClosed(by_peer, code, clipped(event.reason), gone)
            )

    def _opened(self, event: api.Opened) -> None:
        session = self._sessions.get(event.connection_id)
        if session is None:
            return
        if event.stream_id == session.control_stream:
            self._sessions.read(session)
        else:
            self._connections.opened(session, event.stream_id)

    def _readable(self, event: api.Readable) -> None:
        session = self._sessions.get(event.connection_id)
        if session is None:
            return
        if event.stream_id == session.control_stream:
            self._sessions.read(session)
        else:
            self._connections.readable(session, event.stream_id)

    def _writable(self, event: api.Writable) -> None:
        session = self._sessions.get(event.connection_id)
        if session is not None and event.stream_id == session.control_stream:
            self._sessions.flush(session)
        else:
            self._connections.relays.writable((event.connection_id, event.stream_id))

    def _aborted(self, event: api.Reset | api.Stopped) -> None:
        session = self._sessions.get(event.connection_id)
        if session is None:
            return
        if event.stream_id == session.control_stream:
            self._sessions.fail(session, ProtocolError("the control stream was reset"))
        elif (event.connection_id, event.stream_id) in self._connections.relays:
            self._connections.relays.aborted(event)
        else:
            self._connections.aborted(session, event.stream_id, event.code)

    def _available(self, event: api.Available) -> None:
        session = self._sessions.get(event.connection_id)
        if session is not None:
            self._connections.available(session)

    def _datagram(self, event: api.DatagramReceived) -> None:
        session = self._sessions.get(event.connection_id)
        # spn/1 has no use for them; for sc01 they are what control packets are.
        if session is not None and session.sc01 is not None and self._sessions.admit(session, "control_packets"):
            self._sessions.sc01.received(session.sc01, event.data, self._now)

    def _provider_stopped(self, connection_id: int) -> None:
        session = self._sessions.get(connection_id)
        if session is not None and session.sc01 is not None:
            self._sessions.sc01.provider_stopped(session.sc01)

    def _local_address(self, session: HubSession, packet: packets.LocalAddress) -> None:
        info = self._engine.info(session.connection_id)
        if info is not None:
            seen = plain_host(str(info.address.remote[0])), info.address.remote[1]
            self._engine.set_translated(session.connection_id, seen != (plain_host(packet.host), packet.port))

    def _invalidate(self, connection_id: int, fault: api.ChainFault) -> None:
        session = self._sessions.get(connection_id)
        if session is None:
            return
        if session.requested:
            self._system.tell_session(connection_id, inputs.SessionInvalidated(fault.reason, fault.about_time))
        else:
            self._engine.close(connection_id, Code.EXPIRED if fault.about_time else Code.NOT_ALLOWED, fault.reason)

    def _on_packet(self, session: HubSession, packet: TransportPacket) -> None:
        match packet:
            case packets.DataAck():
                self._connections.acks.take(session, packet)
            case packets.ResumeRequest():
                self._connections.resumes.requested(session, packet)
            case packets.LocalAddress():
                self._local_address(session, packet)
            case _:
                assert_never(packet)

    # ---- commands ----------------------------------------------------------------------------------------------

    def carry_out(self, command: Command) -> None:
        """The most frequent ones first."""
        sessions, connections = self._sessions, self._connections
        match command:
            case commands.OpenProviderStream():
                connections.open(command)
            case commands.JoinStreams():
                connections.join(command)
            case commands.SendPacket(session, packet):
                sessions.send(session, packet)
            case commands.ForgetConnection(connection):
                connections.forget(connection)
            case commands.ReportProgress():
                connections.report(command)
            case commands.AbortConnection():
                connections.abort(command)
            case commands.RefuseConnection():
                connections.refuse(command)
            case commands.InviteProvider():
                connections.resumes.invite(command)
            case commands.AcceptSession():
                self._accept_session(command)
            case commands.RefuseSession(session, code, reason):
                sessions.refuse(session, code, reason)
            case commands.CloseSession(session, code, reason):
                sessions.close(session, code, reason)
            case commands.StartService() | commands.StopService():
                self._on_service(command)
            case commands.ReportProviderStopped(session):
                self._provider_stopped(session)
            case commands.ReportHubStopped():
                self._on_stopped()
            case _:
                assert_never(command)

    def _accept_session(self, command: commands.AcceptSession) -> None:
        early = self._sessions.accept(command.session, command.spn_session_id)
        session = self._sessions.get(command.session)
        for stream_id in early:
            assert session is not None, "early streams are a session's"
            self._connections.opened(session, stream_id)
