"""A hub just large enough to try endpoints on: no actors, no events, one service, the newest provider with a weight.

Its attributes let a test make it misbehave. Runs on any engine and network; several of them know nothing of each other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    Accept,
    Ack,
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    DataAck,
    LocalAddress,
    Opening,
    OpeningKind,
    Packet,
    PauseAck,
    PauseRequest,
    ResumeAck,
    ResumeInvite,
    ResumeRequest,
    SessionAck,
    SessionRefusal,
    SessionRenewal,
    SessionRequest,
    SetWeight,
    ShutdownRequest,
)
from spnhub.events.model import EndPointType
from spnhub.transport.engine import (
    Closed,
    Connected,
    Engine,
    EngineEvent,
    Opened,
    OutcomeKind,
    Readable,
    Reset,
    Spliced,
    Stopped,
    Writable,
)
from spnhub.transport.protocol import PacketReader, encode
from tests.support.fake_network import FakeNetwork, FakeNode

__all__ = ["HUB", "ScriptedHub"]

HUB = ("192.0.2.1", 443)
CONSUMER, PROVIDER = EndPointType.CONSUMER, EndPointType.PROVIDER
Place = tuple[int, int]
"""A QUIC connection and a stream."""


@dataclass(slots=True)
class _Session:
    connection_id: int
    subject: bytes
    reader: PacketReader = field(default_factory=PacketReader)
    request: SessionRequest | None = None
    weight: int = 0
    """Of a provider."""
    stopping: bool = False
    renewing: bool = False
    """It has said that another takes its place."""
    out: bytearray = field(default_factory=bytearray)


@dataclass(slots=True, eq=False)
class _Leg:
    consumer: Place | None = None
    provider: Place | None = None
    readers: dict[Place, PacketReader] = field(default_factory=dict)
    opening: Opening | None = None
    token: int | None = None
    ended: bool = False
    paused: set[int] = field(default_factory=set)
    """Whose PauseAck is there."""

    def other(self, connection_id: int) -> int | None:
        """The other side's QUIC connection."""
        for one, another in ((self.consumer, self.provider), (self.provider, self.consumer)):
            if one is not None and one[0] == connection_id:
                return another[0] if another is not None else None
        return None


@dataclass(slots=True)
class _Resume:
    consumer: int
    provider: int
    request: ResumeRequest
    answer: ResumeRequest | None = None
    streams: dict[int, Place] = field(default_factory=dict)


class ScriptedHub:
    """See the module."""

    def __init__(self, network: FakeNetwork, engine: Engine, address: tuple[str, int] = HUB) -> None:
        self.engine = engine
        self.node = FakeNode(network, engine, self._on_events)
        self.node.bind(address)
        self.refusal: SessionRefusal | None = None
        self.silent = False
        """Never answer a session request."""
        self.says_all_closed = True
        """Whether it keeps to R-5.4's end."""
        self.ack_kinds: dict[int, int] | None = None
        self.refuse_renewals: SessionRefusal | None = None
        """What the next session of an instance that has one is told."""
        self.extra = b""
        """Bytes that go before the session ACK."""
        self.refuse_resumes: list[int] = []
        """Codes with which the next ResumeRequests of consumers are refused."""
        self.refuse_openings: list[int] = []
        """The same for Openings."""
        self.refuse_streams: list[int] = []
        """The same for the streams of consumers that resume."""
        self.deaf_to_resumes = 0
        """So many ResumeRequests of consumers are not answered."""
        self.mute_resumes = False
        """The streams of a resume are taken, and no Accept follows."""
        self.broken: list[tuple[int, int]] = []
        """Session and code of each half of a stream that an endpoint has ended with an error."""
        self.closed: list[tuple[int, int]] = []
        """Session and code of each that has ended."""
        self.hub_id = "hub-1"
        self.sessions: dict[int, _Session] = {}
        self.packets: list[tuple[EndPointType, Packet]] = []
        """Every control packet but the acknowledgements, with the role of who sent it."""
        self.acks: list[tuple[EndPointType, Ack]] = []
        self.openings: list[Opening] = []
        """Of new connections."""
        self.spliced: list[Spliced] = []
        self._legs: dict[Place, _Leg] = {}
        self._resumes: dict[str, _Resume] = {}
        self._ids = itertools.count(1)

    # ------------------------------------------------------------------------------------------------------ for tests

    def session(self, role: EndPointType) -> int:
        """The newest session of that role."""
        return [
            session.connection_id
            for session in self.sessions.values()
            if session.request and session.request.end_point_type is role
        ][-1]

    @property
    def legs(self) -> int:
        """Legs that have not ended."""
        return len(self._open_legs())

    def send(self, connection_id: int, packet: Packet | bytes) -> None:
        """Send on the control stream."""
        session = self.sessions[connection_id]
        session.out += packet if isinstance(packet, bytes) else encode(packet)
        self._write_control(session)

    def close(self, connection_id: int, code: int, reason: str) -> None:
        """End a session."""
        self.engine.close(connection_id, code, reason)
        self.node.flush()

    def control_packets(self, kind: type[Packet]) -> list[tuple[EndPointType, Packet]]:
        """The control packets of one kind, in order."""
        return [(role, packet) for role, packet in self.packets if isinstance(packet, kind)]

    def pause(self) -> None:
        """Pause every leg (R-4.6)."""
        for leg in self._open_legs():
            assert leg.opening is not None
            leg.paused.clear()
            for place in (leg.consumer, leg.provider):
                if leg.token is not None and place is not None and place[0] in self.sessions:
                    self.send(place[0], PauseRequest(leg.opening.connection_uid, leg.opening.epoch))

    def shut_down(self, spread: float = 0.0) -> None:
        """The resumable shutdown (R-4.8)."""
        for session in self.sessions.values():
            if session.request is not None:
                session.stopping = True
                self.send(session.connection_id, ShutdownRequest(True, int(spread * 1000)))
        for leg in self._open_legs():
            if leg.token is None and leg.consumer is not None:
                self._refuse(leg, Code.SHUTDOWN, "stopping")
        self.pause()
        for connection_id in list(self.sessions):
            self._check_all_closed(connection_id)

    def drop_legs(self, code: int) -> None:
        """End every leg with ``code``."""
        for leg in self._open_legs():
            self._end_leg(leg, code)
        self.node.flush()

    # --------------------------------------------------------------------------------------------------------- events

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected(connection_id=connection_id):
                    # Of the fake engine's certificates this is the subject; of others enough to tell them apart.
                    self.sessions[connection_id] = _Session(connection_id, event.certificates[0].rpartition(b"|")[2])
                case Closed(connection_id=connection_id, code=code):
                    self.closed.append((connection_id, code))
                    self._on_closed(connection_id)
                case (
                    Opened(connection_id=connection_id, stream_id=stream_id)
                    | Readable(connection_id=connection_id, stream_id=stream_id)
                ):
                    self._on_readable(connection_id, stream_id)
                case Spliced():
                    self.spliced.append(event)
                    for leg in list(self._legs.values()):
                        kinds = {event.outcome_a_to_b.kind, event.outcome_b_to_a.kind}
                        if leg.token == event.token and kinds != {OutcomeKind.FINISHED}:
                            self._end(leg)
                case (
                    Reset(connection_id=connection_id, stream_id=stream_id, code=code)
                    | Stopped(connection_id=connection_id, stream_id=stream_id, code=code)
                ):
                    self._on_broken(connection_id, stream_id, code)
                case Writable(connection_id=connection_id, stream_id=0):
                    self._write_control(self.sessions[connection_id])
                case _:
                    pass

    def _on_closed(self, connection_id: int) -> None:
        self.sessions.pop(connection_id, None)
        self._resumes = {
            uid: one for uid, one in self._resumes.items() if connection_id not in (one.consumer, one.provider)
        }
        for leg in self._open_legs():
            if connection_id in [place[0] for place in (leg.consumer, leg.provider) if place]:
                self._end_leg(leg, Code.PEER_LOST)

    def _write_control(self, session: _Session) -> None:
        if session.out:
            del session.out[: self.engine.write(session.connection_id, 0, bytes(session.out))]
        self.node.flush()

    def _on_readable(self, connection_id: int, stream_id: int) -> None:
        session = self.sessions.get(connection_id)
        if session is None:
            return
        if stream_id == 0:
            self._on_control(session)
            return
        leg = self._legs.get((connection_id, stream_id))
        if leg is None:
            leg = self._legs[connection_id, stream_id] = _Leg()
        reader = leg.readers.setdefault((connection_id, stream_id), PacketReader())
        while True:
            answer = self.engine.read(connection_id, stream_id, reader.wanted)
            if answer is None or answer == (b"", False):
                return
            for packet in reader.feed(answer[0]):
                self._on_head(leg, (connection_id, stream_id), packet)
                return
            if answer[1]:
                return

    def _on_control(self, session: _Session) -> None:
        while True:
            answer = self.engine.read(session.connection_id, 0, 65536)
            if answer is None or not answer[0]:
                return
            for packet in session.reader.feed(answer[0]):
                if isinstance(packet, SessionRequest):
                    session.request = packet
                    session.weight = packet.weight
                assert session.request is not None
                role = session.request.end_point_type
                if isinstance(packet, LocalAddress):
                    # Each session begins with it, and it changes nothing here.
                    continue
                if isinstance(packet, DataAck):
                    self.acks += [(role, ack) for ack in packet.acks]
                else:
                    self.packets.append((role, packet))
                self._on_packet(session, packet)

    def _on_packet(self, session: _Session, packet: Packet) -> None:
        match packet:
            case SessionRequest():
                stale = self._stale(session)
                if self.refusal is not None:
                    self.send(session.connection_id, self.refusal)
                elif stale and self.refuse_renewals is not None:
                    self.send(session.connection_id, self.refuse_renewals)
                elif not self.silent:
                    ack = SessionAck(f"session-{next(self._ids)}", self.hub_id)
                    if self.ack_kinds is not None:
                        ack = SessionAck("x", self.hub_id, self.ack_kinds)
                    self.send(session.connection_id, self.extra + encode(ack))
                    for old in stale:
                        old.weight = 0
                        if not old.renewing:
                            self.close(old.connection_id, Code.SUPERSEDED, "the same instance has a new session")
            case SetWeight(weight=weight):
                session.weight = weight
                self._check_all_closed(session.connection_id)
            case CloseRequest(connection_uid=uid, epoch=epoch) | CloseAck(connection_uid=uid, epoch=epoch):
                self._pass_on(session.connection_id, uid, epoch, packet)
            case DataAck(acks=acks):
                for one in acks:
                    self._pass_on(session.connection_id, one.connection_uid, one.epoch, DataAck((one,)))
            case PauseAck(connection_uid=uid, epoch=epoch):
                leg = self._leg(session.connection_id, uid, epoch)
                if leg is not None:
                    leg.paused.add(session.connection_id)
                    if len(leg.paused) == 2:
                        self._end_leg(leg, Code.PAUSED)
            case ResumeRequest():
                self._on_resume(session, packet)
            case SessionRenewal():
                session.renewing = True
            case _:
                raise AssertionError(packet)

    def _stale(self, session: _Session) -> list[_Session]:
        """Sessions of the same instance."""
        assert session.request is not None
        return [
            one
            for one in self.sessions.values()
            if one is not session
            and one.request is not None
            and (one.subject, one.request.end_point_type, one.request.instance_id)
            == (session.subject, session.request.end_point_type, session.request.instance_id)
        ]

    def _pass_on(self, connection_id: int, uid: str, epoch: int, packet: Packet) -> None:
        leg = self._leg(connection_id, uid, epoch)
        other = leg.other(connection_id) if leg is not None else None
        if other in self.sessions:
            assert other is not None
            self.send(other, packet)
            if isinstance(packet, CloseAck) and leg is not None:
                self._end_leg(leg, Code.CLOSE_REQUESTED)
        elif leg is None and isinstance(packet, CloseRequest):
            self.send(connection_id, PauseRequest(uid, epoch) if packet.finished else CloseAck(uid, epoch))

    def _leg(self, connection_id: int, uid: str, epoch: int) -> _Leg | None:
        for leg in self._open_legs():
            opening = leg.opening
            if (
                opening
                and (opening.connection_uid, opening.epoch) == (uid, epoch)
                and leg.other(connection_id) is not None
            ):
                return leg
        return None

    def _open_legs(self) -> list[_Leg]:
        return [leg for leg in dict.fromkeys(self._legs.values()) if not leg.ended and leg.opening is not None]

    # -------------------------------------------------------------------------------------------------------- opening

    def _on_head(self, leg: _Leg, place: Place, packet: Packet) -> None:
        if isinstance(packet, Accept):
            self._on_accept(leg, packet)
        else:
            assert isinstance(packet, Opening)
            leg.opening = packet
            if packet.kind is OpeningKind.OPEN:
                leg.consumer = place
                self._on_opening(leg, packet)
            else:
                self._on_resumed_stream(leg, place, packet)

    def _on_opening(self, leg: _Leg, opening: Opening) -> None:
        self.openings.append(opening)
        assert leg.consumer is not None
        provider = [
            session.connection_id
            for session in self.sessions.values()
            if session.request and session.request.end_point_type is PROVIDER and session.weight
        ]
        if self.refuse_openings or self.sessions[leg.consumer[0]].stopping:
            code = self.refuse_openings.pop(0) if self.refuse_openings else Code.SHUTDOWN
            self._refuse(leg, code, "refused by the test")
            return
        stream_id = self.engine.open_bidi(provider[-1]) if provider else None
        if stream_id is None:
            self._refuse(leg, Code.NO_PROVIDER, "no provider")
            return
        leg.provider = (provider[-1], stream_id)
        self._legs[leg.provider] = leg
        out = Opening(OpeningKind.OPEN, opening.connection_uid, opening.resume_secret, peer="CN=consumer")
        self.engine.write(*leg.provider, encode(out))

    def _on_accept(self, leg: _Leg, accept: Accept) -> None:
        assert leg.provider is not None
        if accept.code:
            self.engine.reset(*leg.provider, accept.code)
            self.engine.stop(*leg.provider, accept.code)
            self._refuse(leg, accept.code, accept.reason)
            return
        session = self.sessions[leg.provider[0]]
        assert leg.consumer is not None
        assert session.request is not None
        out = Accept(OpeningKind.OPEN, instance_id=session.request.instance_id, peer="CN=provider")
        self.engine.write(*leg.consumer, encode(out))
        leg.token = self.engine.splice(*leg.consumer, *leg.provider)

    # --------------------------------------------------------------------------------------------------------- resume

    def _on_resume(self, session: _Session, request: ResumeRequest) -> None:
        assert session.request is not None
        uid = request.connection_uid
        if session.request.end_point_type is PROVIDER:
            resume = self._resumes.get(uid)
            if resume is not None and (resume.request.epoch, resume.provider) == (request.epoch, session.connection_id):
                self._on_invited(resume, request)
            return
        for leg in self._open_legs():
            if leg.opening is not None and leg.opening.connection_uid == uid:
                self._end_leg(leg, Code.LEFT)
        if self.deaf_to_resumes:
            self.deaf_to_resumes -= 1
            return
        code = self.refuse_resumes.pop(0) if self.refuse_resumes else Code.SHUTDOWN if session.stopping else Code.OK
        provider = [
            session.connection_id
            for session in self.sessions.values()
            if session.request
            and session.request.end_point_type is PROVIDER
            and session.request.instance_id == request.instance_id
        ]
        if code or not provider:
            self.send(
                session.connection_id, ResumeAck(uid, request.epoch, code or Code.NOT_HERE, "refused", retryable=True)
            )
            return
        self._resumes[uid] = _Resume(session.connection_id, provider[-1], request)
        invite = ResumeInvite(
            uid,
            request.resume_secret,
            request.epoch,
            request.received_offset,
            request.finished,
            request.code,
            "CN=consumer",
        )
        self.send(provider[-1], invite)

    def _on_invited(self, resume: _Resume, answer: ResumeRequest) -> None:
        resume.answer = answer
        request = resume.request
        assert answer.code or (answer.resume_secret, answer.peer) == (request.resume_secret, "CN=consumer")
        for connection_id, mine, theirs in ((resume.consumer, request, answer), (resume.provider, answer, request)):
            if connection_id in self.sessions:
                retryable = theirs.code == Code.STALE
                finished, code = theirs.finished, theirs.code
                ack = ResumeAck(mine.connection_uid, mine.epoch, code, "said the other", retryable, 0, finished)
                if not code and mine.code:
                    ack = replace(ack, code=mine.code)
                self.send(connection_id, replace(ack, received_offset=theirs.received_offset))
        if answer.code or request.code:
            del self._resumes[request.connection_uid]

    def _on_resumed_stream(self, leg: _Leg, place: Place, opening: Opening) -> None:
        resume = self._resumes.get(opening.connection_uid)
        if resume is None or resume.request.epoch != opening.epoch:
            self.engine.reset(*place, Code.STALE)
            self.engine.stop(*place, Code.STALE)
            leg.ended = True
            return
        if self.refuse_streams and place[0] == resume.consumer:
            accept = Accept(OpeningKind.RESUME, self.refuse_streams.pop(0), "refused", epoch=opening.epoch)
            self.engine.write(*place, encode(accept))
            self.engine.finish(*place)
            leg.ended = True
            del self._resumes[opening.connection_uid]
            return
        answer = resume.answer
        assert answer is not None
        expected = (answer.received_offset, resume.request.received_offset)
        assert (opening.sent_offset, opening.receive_offset) == expected
        resume.streams[place[0]] = place
        if len(resume.streams) < 2:
            return
        del self._resumes[opening.connection_uid]
        leg.consumer, leg.provider = resume.streams[resume.consumer], resume.streams[resume.provider]
        self._legs[leg.consumer] = self._legs[leg.provider] = leg
        if self.mute_resumes:
            return
        for each in (leg.consumer, leg.provider):
            self.engine.write(*each, encode(Accept(OpeningKind.RESUME, epoch=opening.epoch)))
        leg.token = self.engine.splice(*leg.consumer, *leg.provider)

    # ------------------------------------------------------------------------------------------------------------ end

    def _end_leg(self, leg: _Leg, code: int) -> None:
        if leg.token is not None:
            self.engine.unsplice(leg.token, code)
        else:
            for place in (leg.consumer, leg.provider):
                if place is not None:
                    self.engine.reset(*place, code)
                    self.engine.stop(*place, code)
        self._end(leg)

    def _end(self, leg: _Leg) -> None:
        leg.ended = True
        for place in (leg.consumer, leg.provider):
            if place is not None:
                self._legs.pop(place, None)
        for place in (leg.consumer, leg.provider):
            if place is not None:
                self._check_all_closed(place[0])

    def _check_all_closed(self, connection_id: int) -> None:
        session = self.sessions.get(connection_id)
        if session is None or session.request is None or not self.says_all_closed:
            return
        if not session.stopping and (session.weight or session.request.end_point_type is CONSUMER):
            return
        if not any(leg.other(connection_id) is not None for leg in self._open_legs()):
            self.send(connection_id, AllConnectionsClosed())

    def _refuse(self, leg: _Leg, code: int, reason: str) -> None:
        assert leg.consumer is not None
        self._end(leg)
        self.engine.write(*leg.consumer, encode(Accept(OpeningKind.OPEN, code, reason)))
        self.engine.finish(*leg.consumer)
        self.engine.stop(*leg.consumer, code)

    def _on_broken(self, connection_id: int, stream_id: int, code: int) -> None:
        leg = self._legs.get((connection_id, stream_id))
        self.broken.append((connection_id, code))
        if leg is not None and leg.token is None:
            self._end_leg(leg, code)
