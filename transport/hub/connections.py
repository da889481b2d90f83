"""The transport's part of connections: a consumer's stream, a provider's, their headers, and the splice (R-4.1).

The consumer's resume secret passes through here from one header to the other and goes nowhere else (D-16).
"""

from __future__ import annotations

from spnhub.actors.contract import commands, inputs, packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import Key
from spnhub.actors.contract.packets import OpeningKind
from spnhub.actors.system import ActorSystem
from spnhub.dataclass import dataclass
from spnhub.transport import protocol
from spnhub.transport.engine import Engine, Outcome, OutcomeKind, Spliced
from spnhub.transport.hub.acks import AckRelay
from spnhub.transport.hub.bandwidth import Bandwidth
from spnhub.transport.hub.relays import RelayEnd, RelayHalf, Relays
from spnhub.transport.hub.resumes import HubStream, Resumes
from spnhub.transport.hub.sessions import HubSession, Sessions
from spnhub.transport.protocol import PacketReader, ProtocolError
from spnhub.transport.sc01.hub import Sc01Session
from spnhub.transport.sc01.words import code_of_stream, stream_code

__all__ = ["Connections"]


@dataclass(slots=True)
class _Connection:
    """A consumer's stream and a provider's, as far as they are open."""

    key: Key
    opening: packets.Opening
    consumer: HubStream | None = None
    asked: int | None = None
    """The provider's session that has the opening, or gets it when it allows a stream."""
    provider: HubStream | None = None
    peer: str = ""
    reader: PacketReader | None = None
    """Reads the provider's Accept; None when that has been read."""
    token: int | None = None
    sc01: bool = False
    """An endpoint speaks sc01."""
    broken: dict[int, int] | None = None
    """Codes with which its streams were reset or stopped before they were joined, by the session. None: none was."""


class Connections:
    """The connections of a hub process, from the first byte of a header on.

    :param bandwidth: which meters the bytes of each pass.
    """

    def __init__(
        self, engine: Engine, system: ActorSystem, sessions: Sessions, gated: set[int], bandwidth: Bandwidth[RelayHalf]
    ) -> None:
        self._bandwidth = bandwidth
        self._engine = engine
        self._system = system
        self._sessions = sessions
        self._gated = gated
        self._connections: dict[Key, _Connection] = {}
        self._streams: dict[tuple[int, int], _Connection] = {}
        self._splices: dict[int, Key] = {}
        self.resumes = Resumes(system, sessions, self.has, self.attach)
        """The resumes that are under way."""
        self.acks = AckRelay(sessions)
        """Passes DataAcks on."""
        self.relays = Relays(engine, self.acks.put, self.spliced, bandwidth, system.tell_hub)
        """The joined streams whose ends speak different protocols."""

    def counts(self) -> dict[str, int]:
        """How many of each are kept; all are 0 when no connection is there."""
        return {
            "connections": len(self._connections),
            "streams": len(self._streams),
            "splices": len(self._splices),
            "relays": len(self.relays),
            "resumes": len(self.resumes),
            **self.acks.counts(),
        }

    # ---- what came in ------------------------------------------------------------------------------------------

    def opened(self, session: HubSession, stream_id: int) -> None:
        """An endpoint opened a data stream: its header comes first."""
        if not session.accepted:
            session.early.append(stream_id)
            return
        if self._sessions.admit_more(session, "openings") is not None:
            # Nothing is read, nor logged one by one: a few bytes of the consumer's are all that it has cost.
            self._gated.add(session.connection_id)
            self._abort_streams(session.connection_id, stream_id, Code.LIMIT)
            return
        if session.sc01 is not None:
            self._begin(session, HubStream(session.connection_id, stream_id), self._sessions.sc01.opening())
            return
        session.headers[stream_id] = PacketReader()
        self._sessions.after_request_timeout(session, lambda: self._check_header(session, stream_id))
        self._read_header(session, stream_id)

    def readable(self, session: HubSession, stream_id: int) -> None:
        """There is something to read on a data stream that isn't spliced."""
        if stream_id in session.headers:
            self._read_header(session, stream_id)
        elif (connection := self._streams.get((session.connection_id, stream_id))) is not None:
            if connection.token is None:
                self._read_accept(connection)
            else:
                self.relays.readable((session.connection_id, stream_id))

    def aborted(self, session: HubSession, stream_id: int, code: int) -> None:
        """A data stream that isn't spliced was reset or stopped by its endpoint."""
        if not self._sessions.admit(session, "resets"):
            return
        connection = self._streams.get((session.connection_id, stream_id))
        if connection is not None and connection.token is not None:
            return  # it came before they were joined, and the splice has passed it on
        self._engine.stop(session.connection_id, stream_id, code)  # nobody reads what it still holds
        if connection is not None:
            connection.broken = {session.connection_id: code} | (connection.broken or {})
        if session.sc01 is not None:
            code = code_of_stream(code)
        if connection is None:
            if session.headers.pop(stream_id, None) is not None:
                self._abort_streams(session.connection_id, stream_id, code)
        elif session.connection_id == connection.key.session:
            self._system.tell_connection(connection.key, inputs.ConsumerAborted(code))
        else:
            self._abort_streams(session.connection_id, stream_id, code)
            connection.reader = None
            rejected = inputs.ProviderRejected(code, "the provider reset the stream", session.connection_id)
            self._system.tell_connection(connection.key, rejected)

    def available(self, session: HubSession) -> None:
        """The provider allows more streams: open those that wait."""
        while session.waiting:
            connection = self._connections.get(session.waiting[0])
            wanted = (
                connection is not None and connection.asked == session.connection_id and connection.provider is None
            )
            if connection is not None and wanted and not self._open(connection, session.connection_id):
                return
            session.waiting.popleft()

    def spliced(self, event: Spliced) -> None:
        """Joined streams have ended."""
        key = self._splices.get(event.token)
        if key is None:
            return
        connection = self._connections.get(key)
        consumer, provider = self._sc01_ends(connection)
        outcomes = (event.outcome_a_to_b, event.outcome_b_to_a)
        if consumer is not None and provider is not None:  # a relay, which joins one of each, has done so itself
            outcomes = _in_our_codes(outcomes[0]), _in_our_codes(outcomes[1])
        kinds = outcomes[0].kind, outcomes[1].kind
        place = int(kinds[0] is OutcomeKind.FINISHED)
        if provider is not None and outcomes[1] == (OutcomeKind.RESET, Code.CONNECT_FAILED):
            place = 1  # what it does to the other direction then says less
        finished = kinds == (OutcomeKind.FINISHED, OutcomeKind.FINISHED)
        # A sender resets, a receiver stops; the consumer is the sender of the first direction.
        by_consumer = kinds[place] is (OutcomeKind.STOPPED if place else OutcomeKind.RESET)
        self._system.tell_connection(
            key,
            inputs.SpliceEnded(
                sent_bytes=event.a_to_b,
                receive_bytes=event.b_to_a,
                finished=finished,
                lost=OutcomeKind.LOST in kinds,
                code=outcomes[place].code,
                by_consumer=by_consumer,
            ),
        )
        del self._splices[event.token]
        if connection is not None and connection.sc01 and finished:
            for session in (consumer, provider):
                if session is not None:
                    self._sessions.sc01.finished(session, connection.opening, event.a_to_b, event.b_to_a)

    # ---- faults of ours ----------------------------------------------------------------------------------------

    def fail(self, connection_id: int, stream_id: int) -> bool:
        """End the connection of a stream with INTERNAL. False: there is none."""
        connection = self._streams.get((connection_id, stream_id))
        if connection is None:
            session = self._sessions.get(connection_id)
            if session is None or session.headers.pop(stream_id, None) is None:
                return False
            self._gated.add(connection_id)
            self._abort_streams(connection_id, stream_id, Code.INTERNAL)
            return True
        self.abort(commands.AbortConnection(connection.key, Code.INTERNAL))
        if connection.token is None:
            connection.reader = None
            # No fault of its provider's, and nobody else's to take: the consumer's stream is gone as well.
            aborted = inputs.ConsumerAborted(Code.INTERNAL, "a fault in the hub")
            self._system.tell_connection(connection.key, aborted)
        return True

    def splice_sides(self, token: int) -> tuple[int, ...]:
        """The sessions of joined streams, the consumer's first; none: their end was reported."""
        key = self._splices.get(token)
        connection = None if key is None else self._connections.get(key)
        if connection is None or connection.provider is None:
            return ()
        return connection.key.session, connection.provider.connection_id

    def fail_splice(self, token: int) -> Key | None:
        """Forget joined streams whose end could not be reported; the connection that they belong to."""
        return self._splices.pop(token, None)

    # ---- headers -----------------------------------------------------------------------------------------------

    def _check_header(self, session: HubSession, stream_id: int) -> None:
        if self._sessions.get(session.connection_id) is session and session.headers.pop(stream_id, None) is not None:
            self._abort_streams(session.connection_id, stream_id, Code.TIMEOUT)

    def _read_header(self, session: HubSession, stream_id: int) -> None:
        try:
            got = self._read_packet(session.connection_id, stream_id, session.headers[stream_id])
            if got is None:
                return
            packet, ended = got
            if not isinstance(packet, packets.Opening):
                raise ProtocolError(f"a data stream begins with an Opening, not a {type(packet).__name__}")
        except ProtocolError as exc:
            del session.headers[stream_id]
            self._abort_streams(session.connection_id, stream_id, exc.code)
            return
        del session.headers[stream_id]
        stream = HubStream(session.connection_id, stream_id, ended)
        if packet.kind is OpeningKind.RESUME:
            code = self.resumes.opened(session, stream, packet)
            if code is not None:
                self._refuse(stream, packet, code, "this resume is not under way here")
            return
        self._begin(session, stream, packet)

    def _begin(self, session: HubSession, stream: HubStream, opening: packets.Opening) -> None:
        key = Key(stream.connection_id, stream.stream_id)
        connection = _Connection(key, opening, stream, sc01=session.sc01 is not None)
        self._connections[key] = self._streams[key] = connection
        requested = inputs.ConnectionRequested(
            stream.stream_id, opening.connection_uid, opening.epoch, opening.sent_offset, opening.receive_offset
        )
        self._system.tell_session(stream.connection_id, requested)

    def _read_accept(self, connection: _Connection) -> None:
        if connection.reader is None or connection.provider is None:
            return
        try:
            connection_id, stream_id, _ = connection.provider
            got = self._read_packet(connection_id, stream_id, connection.reader)
            if got is None:
                return
            packet, ended = got
            connection.provider = HubStream(connection_id, stream_id, ended)
            if not isinstance(packet, packets.Accept):
                raise ProtocolError(f"the answer begins with an Accept, not a {type(packet).__name__}")
        except ProtocolError as exc:
            self._reject(connection, exc.code, str(exc))
            return
        if packet.code == Code.OK:
            connection.reader = None
            self._system.tell_connection(connection.key, inputs.ProviderAccepted(connection_id))
        else:
            self._reject(connection, packet.code, packet.reason)

    def _reject(self, connection: _Connection, code: int, reason: str) -> None:
        assert connection.provider is not None
        connection.reader = None
        self._abort(connection.provider, code)
        rejected = inputs.ProviderRejected(code, reason, connection.provider.connection_id)
        self._system.tell_connection(connection.key, rejected)

    def _read_packet(
        self, connection_id: int, stream_id: int, reader: PacketReader
    ) -> tuple[packets.Packet, bool] | None:
        """One packet of a data stream, and whether its FIN follows at once; not a byte of anything else.

        None: not all of the packet is there yet.
        """
        while True:
            got = self._engine.read(connection_id, stream_id, reader.wanted)
            if got is None:
                return None
            data, fin = got
            complete = reader.feed(data)
            if complete:
                return complete[0], fin
            if fin:
                raise ProtocolError("the stream ended within its header")
            if not data:
                return None

    # ---- what the actors want ----------------------------------------------------------------------------------

    def open(self, command: commands.OpenProviderStream) -> None:
        """Open a stream on the provider's session, or wait for one; a stream at another provider is given up (D-35)."""
        connection = self._connections.get(command.connection)
        session = self._sessions.get(command.provider)
        if connection is None:
            return
        if connection.provider is not None:
            self._streams.pop((connection.provider.connection_id, connection.provider.stream_id), None)
            self._abort(connection.provider, Code.CONNECT_TIMEOUT)
            connection.provider, connection.reader = None, None
        if session is None:
            return
        connection.asked = command.provider
        connection.peer = command.peer
        if session.waiting or not self._open(connection, command.provider):
            session.waiting.append(command.connection)
            self._system.tell_connection(command.connection, inputs.ProviderBusy(command.provider))

    def _open(self, connection: _Connection, provider: int) -> bool:
        stream_id = self._engine.open_bidi(provider)
        if stream_id is None:
            return False
        opening = connection.opening
        connection.provider = HubStream(provider, stream_id)
        self._streams[provider, stream_id] = connection
        self._gated.add(provider)
        consumer, session = self._sessions.get(connection.key.session), self._sessions.get(provider)
        if session is not None and session.sc01 is not None:
            connection.sc01 = True
            # It says neither yes nor no before the first byte: for all that is known here, it takes the connection.
            self._system.tell_connection(connection.key, inputs.ProviderStreamOpened(stream_id, provider))
            self._system.tell_connection(connection.key, inputs.ProviderAccepted(provider))
            return True
        connection.reader = PacketReader()
        header = packets.Opening(
            kind=opening.kind,
            connection_uid=opening.connection_uid,
            resume_secret=opening.resume_secret,
            epoch=opening.epoch,
            sent_offset=opening.sent_offset,
            receive_offset=opening.receive_offset,
            peer=connection.peer,
            instance_id="" if consumer is None else consumer.instance_id,
        )
        kinds = protocol.REQUIRED_KINDS if session is None else session.kinds
        self._engine.write(provider, stream_id, protocol.encode(header, kinds))
        self._system.tell_connection(connection.key, inputs.ProviderStreamOpened(stream_id, provider))
        return True

    def join(self, command: commands.JoinStreams) -> None:
        """Send the consumer its Accept, in a resume also the provider, and splice the streams."""
        connection = self._connections.get(command.connection)
        if connection is None or connection.consumer is None or connection.provider is None:
            return
        opening, (connection_id, stream_id, c_ended), (p, ps, p_ended) = (
            connection.opening,
            connection.consumer,
            connection.provider,
        )
        self._gated.add(connection_id)
        consumer, provider = self._sc01_ends(connection)
        if consumer is None:
            self._engine.write(
                connection_id, stream_id, _accept(opening, instance_id=command.instance_id, peer=command.peer)
            )
        if (consumer is None) is not (provider is None):
            broken = connection.broken or {}
            connection.token = self.relays.new_token()
            self._splices[connection.token] = command.connection
            self.relays.join(
                connection.token,
                opening.connection_uid,
                RelayEnd(connection_id, stream_id, consumer is not None, c_ended, broken.get(connection_id)),
                RelayEnd(p, ps, provider is not None, p_ended, broken.get(p)),
                self._meters_of_mixed(connection_id, p),
            )
            return
        if opening.kind is OpeningKind.RESUME:
            self._gated.add(p)
            self._engine.write(p, ps, _accept(opening))
        session = self._sessions.get(p)
        meters = () if session is None else session.meters or self._meters_of(session)
        connection.token = self._engine.splice(
            connection_id, stream_id, p, ps, a_ended=c_ended, b_ended=p_ended, meters=meters
        )
        self._splices[connection.token] = command.connection
        if consumer is None:
            self.acks.add(opening.connection_uid, opening.epoch, connection_id, p)

    def _meters_of(self, provider: HubSession) -> tuple[int, ...]:
        provider.meters = self._bandwidth.meters(provider.network.realm, provider.service_urn)
        return provider.meters

    def _meters_of_mixed(self, consumer: int, provider: int) -> tuple[int, ...]:
        """Only the one of the two that speaks spn/1 has said which service it is."""
        ends = [end for end in map(self._sessions.get, (provider, consumer)) if end is not None]
        service = next((end.service_urn for end in ends if end.service_urn is not None), None)
        return self._bandwidth.meters(ends[0].network.realm, service) if ends else ()

    def refuse(self, command: commands.RefuseConnection) -> None:
        """Send the consumer an Accept with a code and a reason, and forget the connection."""
        connection = self._connections.get(command.connection)
        if connection is not None and connection.consumer is not None:
            self._refuse(connection.consumer, connection.opening, command.code, command.reason)
            if connection.provider is not None:
                self._abort(connection.provider, command.code)
            self.forget(command.connection)

    def _refuse(self, stream: HubStream, opening: packets.Opening, code: Code, reason: str) -> None:
        connection_id, stream_id, _ = stream
        self._gated.add(connection_id)
        if self._sc01(connection_id) is not None:
            self._abort_streams(connection_id, stream_id, code)
            return
        self._engine.write(connection_id, stream_id, _accept(opening, code, reason))
        self._engine.finish(connection_id, stream_id)
        self._engine.stop(connection_id, stream_id, code)

    def report(self, command: commands.ReportProgress) -> None:
        """Report how many bytes have been passed on, if the actors have other counts."""
        connection = self._connections.get(command.connection)
        if connection is None or connection.token is None:
            return
        carried = self._joining(connection.token).splice_progress(connection.token)
        if carried is not None and carried != (command.sent_bytes, command.receive_bytes):
            self._system.tell_connection(command.connection, inputs.BytesCarried(*carried))

    def abort(self, command: commands.AbortConnection) -> None:
        """Reset and stop both streams, as far as they are there."""
        connection = self._connections.get(command.connection)
        if connection is None:
            return
        if connection.token is not None:
            self._joining(connection.token).unsplice(connection.token, command.code)
        # Also when the splice is over: one half may still be on its way.
        for stream in (connection.consumer, connection.provider):
            if stream is not None:
                self._abort(stream, command.code)

    def forget(self, key: Key) -> None:
        """The connection has ended: nothing of it is kept."""
        self.resumes.forget(key)
        connection = self._connections.pop(key, None)
        if connection is None:
            return
        for stream in (connection.consumer, connection.provider):
            if stream is not None:
                self._streams.pop((stream.connection_id, stream.stream_id), None)
        if connection.token is not None and connection.provider is not None:
            opening = connection.opening
            self.acks.remove(opening.connection_uid, opening.epoch, key.session, connection.provider.connection_id)

    def has(self, key: Key, connection_id: int) -> bool:
        """Whether the connection has its stream on this session."""
        connection = self._connections.get(key)
        return connection is not None and connection_id in {
            x.connection_id for x in (connection.consumer, connection.provider) if x
        }

    def attach(self, key: Key, opening: packets.Opening, stream: HubStream) -> tuple[int, int] | None:
        """Add an endpoint's stream of a leg that resumes; both stream ids, the consumer's first, if it has both now."""
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = _Connection(key, opening)
        if stream.connection_id == key.session:
            connection.consumer = stream
        else:
            connection.provider = stream
        self._streams[stream.connection_id, stream.stream_id] = connection
        if connection.consumer is None or connection.provider is None:
            return None
        self.resumes.forget(key)
        return connection.consumer.stream_id, connection.provider.stream_id

    def _abort(self, stream: HubStream, code: int) -> None:
        self._gated.add(stream.connection_id)
        self._abort_streams(stream.connection_id, stream.stream_id, code)

    def _joining(self, token: int) -> Relays | Engine:
        """What passes on the bytes of joined streams."""
        return self.relays if token < 0 else self._engine

    def _sc01_ends(self, connection: _Connection | None) -> tuple[Sc01Session | None, Sc01Session | None]:
        """The sessions of the consumer and of the provider, those of them that speak sc01."""
        if connection is None or not connection.sc01:
            return None, None
        ends = connection.consumer, connection.provider
        consumer, provider = (None if end is None else self._sc01(end.connection_id) for end in ends)
        return consumer, provider

    def _sc01(self, connection_id: int) -> Sc01Session | None:
        session = self._sessions.get(connection_id)
        return None if session is None else session.sc01

    def _abort_streams(self, connection_id: int, stream_id: int, code: int) -> None:
        if self._sc01(connection_id) is not None:
            code = stream_code(code)
        self._engine.reset(connection_id, stream_id, code)
        self._engine.stop(connection_id, stream_id, code)


def _in_our_codes(outcome: Outcome) -> Outcome:
    """What an endpoint of sc01 has done to a direction, with the code that it means by it."""
    if outcome.kind in {OutcomeKind.RESET, OutcomeKind.STOPPED}:
        return outcome._replace(code=code_of_stream(outcome.code))
    return outcome


def _accept(opening: packets.Opening, code: int = 0, reason: str = "", instance_id: str = "", peer: str = "") -> bytes:
    return protocol.encode(
        packets.Accept(
            kind=opening.kind,
            code=code,
            reason=reason,
            epoch=opening.epoch,
            sent_offset=opening.sent_offset,
            receive_offset=opening.receive_offset,
            instance_id=instance_id,
            peer=peer,
        )
    )
