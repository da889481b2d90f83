"""A hub just large enough to try endpoints on: no actors, no events, one service, the newest provider with a weight.

``ScriptedHub.on_packet`` and the attributes let a test make it misbehave. Runs on any engine and network.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from spnhub.actors.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.engine import (
    Closed,
    Connected,
    Engine,
    EngineEvent,
    Opened,
    Readable,
    Reset,
    Spliced,
    Stopped,
)
from spnhub.transport.protocol import (
    Accept,
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    Opening,
    OpeningKind,
    Packet,
    PacketReader,
    SessionAck,
    SessionRefusal,
    SessionRequest,
    SetWeight,
    encode,
)
from tests.support.fake_network import FakeNetwork, FakeNode

__all__ = ["HUB", "ScriptedHub"]

HUB = ("192.0.2.1", 443)


@dataclass(slots=True)
class _Session:
    c: int
    reader: PacketReader = field(default_factory=PacketReader)
    request: SessionRequest | None = None
    weight: int = 0
    """Of a provider."""


@dataclass(slots=True)
class _Leg:
    consumer: tuple[int, int]
    reader: PacketReader = field(default_factory=PacketReader)
    opening: Opening | None = None
    provider: tuple[int, int] | None = None
    answer: PacketReader = field(default_factory=PacketReader)
    token: int | None = None
    ended: bool = False


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
        self.extra = b""
        """Bytes that go before the session ACK."""
        self.sessions: dict[int, _Session] = {}
        self.packets: list[tuple[EndPointType, Packet]] = []
        """Every control packet, with the role of who sent it."""
        self.openings: list[Opening] = []
        self.spliced: list[Spliced] = []
        self._legs: dict[tuple[int, int], _Leg] = {}
        self._ids = itertools.count(1)

    def session(self, role: EndPointType) -> int:
        """The newest session of that role."""
        return [s.c for s in self.sessions.values() if s.request and s.request.end_point_type is role][-1]

    def send(self, c: int, packet: Packet | bytes) -> None:
        """Send on the control stream."""
        data = packet if isinstance(packet, bytes) else encode(packet)
        assert self.engine.write(c, 0, data) == len(data)
        self.node.flush()

    def close(self, c: int, code: int, reason: str) -> None:
        """End a session."""
        self.engine.close(c, code, reason)
        self.node.flush()

    def control_packets(self, kind: type[Packet]) -> list[tuple[EndPointType, Packet]]:
        """The control packets of one kind, in order."""
        return [(role, packet) for role, packet in self.packets if isinstance(packet, kind)]

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected(c=c):
                    self.sessions[c] = _Session(c)
                case Closed(c=c):
                    self.sessions.pop(c, None)
                case Opened(c=c, s=s) | Readable(c=c, s=s):
                    self._on_readable(c, s)
                case Spliced():
                    self.spliced.append(event)
                    for leg in self._legs.values():
                        if leg.token == event.token:
                            self._end(leg)
                            break
                case Reset(c=c, s=s, code=code) | Stopped(c=c, s=s, code=code):
                    self._on_broken(c, s, code)
                case _:
                    pass

    def _on_readable(self, c: int, s: int) -> None:
        session = self.sessions[c]
        if s == 0:
            self._on_control(session)
            return
        leg = self._legs.get((c, s))
        if leg is None:
            leg = self._legs[c, s] = _Leg((c, s))
        reader = leg.reader if leg.consumer == (c, s) else leg.answer
        while True:
            answer = self.engine.read(c, s, reader.wanted)
            if answer is None or answer == (b"", False):
                return
            for packet in reader.feed(answer[0]):
                if isinstance(packet, Opening):
                    self._on_opening(leg, packet)
                else:
                    assert isinstance(packet, Accept)
                    self._on_accept(leg, packet)
                return
            if answer[1]:
                return

    def _on_control(self, session: _Session) -> None:
        while True:
            answer = self.engine.read(session.c, 0, 65536)
            if answer is None or not answer[0]:
                return
            for packet in session.reader.feed(answer[0]):
                if isinstance(packet, SessionRequest):
                    session.request = packet
                    session.weight = packet.weight
                assert session.request is not None
                self.packets.append((session.request.end_point_type, packet))
                self._on_packet(session, packet)

    def _on_packet(self, session: _Session, packet: Packet) -> None:
        match packet:
            case SessionRequest():
                if self.refusal is not None:
                    self.send(session.c, self.refusal)
                elif not self.silent:
                    ack = SessionAck(f"session-{next(self._ids)}", "hub-1")
                    if self.ack_kinds is not None:
                        ack = SessionAck("x", "hub-1", self.ack_kinds)
                    self.send(session.c, self.extra + encode(ack))
            case SetWeight(weight=weight):
                session.weight = weight
                self._check_all_closed(session.c)
            case CloseRequest(connection_uid=uid) | CloseAck(connection_uid=uid):
                for leg in self._legs.values():
                    if leg.opening is not None and leg.opening.connection_uid == uid and leg.provider is not None:
                        other = leg.provider[0] if leg.consumer[0] == session.c else leg.consumer[0]
                        if other in self.sessions:
                            self.send(other, packet)
                        return
            case _:
                raise AssertionError(packet)

    def _on_opening(self, leg: _Leg, opening: Opening) -> None:
        self.openings.append(opening)
        leg.opening = opening
        provider = [
            s.c
            for s in self.sessions.values()
            if s.request and s.request.end_point_type is EndPointType.PROVIDER and s.weight
        ]
        s = self.engine.open_bidi(provider[-1]) if provider else None
        if s is None:
            self._refuse(leg, Code.NO_PROVIDER, "no provider")
            return
        leg.provider = (provider[-1], s)
        self._legs[leg.provider] = leg
        out = Opening(OpeningKind.OPEN, opening.connection_uid, opening.resume_secret, peer="CN=consumer")
        self.engine.write(*leg.provider, encode(out))

    def _on_accept(self, leg: _Leg, accept: Accept) -> None:
        if accept.code:
            assert leg.provider is not None
            self.engine.reset(*leg.provider, accept.code)
            self.engine.stop(*leg.provider, accept.code)
            self._refuse(leg, accept.code, accept.reason)
            return
        assert leg.provider is not None
        out = Accept(OpeningKind.OPEN, instance_id="instance", peer="CN=provider")
        self.engine.write(*leg.consumer, encode(out))
        leg.token = self.engine.splice(*leg.consumer, *leg.provider)

    def _end(self, leg: _Leg) -> None:
        leg.ended = True
        if leg.provider is not None:
            self._check_all_closed(leg.provider[0])

    def _check_all_closed(self, c: int) -> None:
        session = self.sessions.get(c)
        if session is None or session.weight or not self.says_all_closed:
            return
        if not any(leg.provider and leg.provider[0] == c and not leg.ended for leg in self._legs.values()):
            self.send(c, AllConnectionsClosed())

    def _refuse(self, leg: _Leg, code: int, reason: str) -> None:
        self._end(leg)
        self.engine.write(*leg.consumer, encode(Accept(OpeningKind.OPEN, code, reason)))
        self.engine.finish(*leg.consumer)
        self.engine.stop(*leg.consumer, code)

    def _on_broken(self, c: int, s: int, code: int) -> None:
        leg = self._legs.get((c, s))
        if leg is not None and leg.token is None:
            other = leg.provider if leg.consumer == (c, s) else leg.consumer
            if other is not None:
                self.engine.reset(*other, code)
                self.engine.stop(*other, code)
            self._end(leg)
