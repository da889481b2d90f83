"""What trips a QUIC library, or our engine on it, costs the one connection that it is about."""

from __future__ import annotations

import dataclasses
import functools
from base64 import b64decode
from typing import Any

import pytest

from spnhub.transport.aioquic_engine.splice import Direction
from spnhub.transport.engine import (
    Closed,
    Connected,
    Engine,
    HandshakeRefused,
    Limits,
    OutcomeKind,
    Readable,
    Reset,
    Spliced,
    Stopped,
)
from tests.support.aioquic_inside import connection_of, hear_again, show_certificate
from tests.support.attack import Insider, Site, everybody
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each, make_real
from tests.support.odd_certificates import odd_version


class Injected(Exception):
    """A fault of ours."""


class Faulty:
    """Two connections to one server, the first of which fails."""

    def __init__(self, kit: Kit) -> None:
        self.raised: list[type[BaseException]] = []

        def make(limits: Limits, *, reset_key: bytes | None = None) -> Engine:
            return make_real(
                kit.name, limits, reset_key=reset_key, on_fault=lambda where, fault: self.raised.append(type(fault))
            )

        self.pair = EnginePair(dataclasses.replace(kit, make=make))
        self.pair.connect()
        self.faulty = self.pair.server.connection_id, self.pair.client.connection_id
        self.pair.server.take(Connected)
        self.pair.client.take(Connected)
        self.pair.connect()
        self.other = self.pair.server.connection_id, self.pair.client.connection_id
        self.engine: Any = self.pair.server.engine
        self.injected = Injected if kit.name == "aioquic" else RuntimeError
        """What is told."""

    def trip(self, monkeypatch: pytest.MonkeyPatch, where: str, *, for_ever: bool) -> None:
        """Have the first connection fail where it receives or sends: once, or whatever is done with it."""
        if self.pair.kit.name == "native":
            self.engine.set_trap(self.faulty[0], "always" if for_ever else where)
            return
        quic = self.engine.handles[self.faulty[0]].quic
        name = {"receive": "receive_datagram", "collect": "next_event", "transmit": "datagrams_to_send"}[where]
        original = getattr(quic, name)

        def fail(*args: Any, **kwargs: Any) -> Any:
            if not for_ever:
                monkeypatch.setattr(quic, name, original)
            raise Injected

        monkeypatch.setattr(quic, name, fail)
        if for_ever:
            monkeypatch.setattr(quic, "close", _fail)

    def trip_splice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have it fail once when what it has received is passed on."""
        if self.pair.kit.name == "native":
            self.engine.set_trap(self.faulty[0], "splice")
            return
        original = Direction.pump

        def fail(self: Any, *_: Any) -> Any:
            monkeypatch.setattr(Direction, "pump", original)
            raise Injected

        monkeypatch.setattr(Direction, "pump", fail)

    def untouched(self) -> None:
        """The other connection carries bytes."""
        pair, (connection_id, mine) = self.pair, self.other
        stream_id = pair.client.engine.open_bidi(mine)
        assert stream_id is not None
        pair.client.engine.write(mine, stream_id, b"alive")
        pair.run_until(functools.partial(_has_come, pair, connection_id, stream_id))
        assert pair.server.engine.read(connection_id, stream_id, 100) == (b"alive", False)


@pytest.fixture(params=each(REAL))
def faulty(request: pytest.FixtureRequest) -> Faulty:
    """On each real engine in turn."""
    return Faulty(request.param())


def _has_come(pair: EnginePair, connection_id: int, stream_id: int) -> bool:
    return any(
        event.connection_id == connection_id and event.stream_id == stream_id for event in pair.server.of(Readable)
    )


def _fail(*_: object, **__: object) -> Any:
    raise Injected


@pytest.mark.parametrize("where", ["receive", "collect", "transmit"])
@pytest.mark.parametrize("for_ever", [False, True])
def test_a_connection_fails(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, where: str, for_ever: bool) -> None:
    """It is closed, and its peer told, if that works; else it is gone. Either way it is said to be over, once."""
    pair = faulty.pair
    faulty.trip(monkeypatch, where, for_ever=for_ever)
    stream_id = pair.client.engine.open_bidi(faulty.faulty[1])
    assert stream_id is not None
    pair.client.engine.write(faulty.faulty[1], stream_id, b"x")
    pair.run_until(lambda: bool(pair.server.of(Closed)), 120.0)
    (closed,) = pair.server.of(Closed)
    assert (closed.connection_id, closed.reason) == (faulty.faulty[0], "internal error")
    assert set(faulty.raised) == {faulty.injected}
    faulty.untouched()
    pair.run_until(lambda: bool(pair.client.of(Closed)), 120.0)
    pair.run_for(120.0)
    assert faulty.engine.counts()["connections"] == 1
    assert len(pair.server.of(Closed)) <= 2


def test_a_splice_fails(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its halves end with an error; both connections stay."""
    pair = faulty.pair
    streams = []
    for connection_id, mine in (faulty.faulty, faulty.other):
        stream_id = pair.client.engine.open_bidi(mine)
        assert stream_id is not None
        pair.client.engine.write(mine, stream_id, b"head")
        pair.run_until(functools.partial(_has_come, pair, connection_id, stream_id))
        assert pair.server.engine.read(connection_id, stream_id, 4) == (b"head", False)
        streams.append((connection_id, stream_id))
    (ca, sa), (cb, sb) = streams
    pair.server.engine.splice(ca, sa, cb, sb)
    pair.run_for(0.1)
    faulty.trip_splice(monkeypatch)
    pair.client.engine.write(faulty.faulty[1], sa, b"y")
    pair.run_until(lambda: bool(pair.server.of(Spliced)), 10.0)
    (spliced,) = pair.server.of(Spliced)
    assert {spliced.outcome_a_to_b.kind, spliced.outcome_b_to_a.kind} == {OutcomeKind.ABORTED}
    assert faulty.raised == [faulty.injected]
    assert not pair.server.of(Closed)
    faulty.untouched()


def test_a_reset_and_a_stop_are_said_once() -> None:
    """However often a peer repeats their frames (aioquic's matter: quinn tells of each once)."""
    pair = EnginePair(REAL["aioquic"]())
    pair.connect()
    stream_id = pair.open()
    for _ in range(20):
        hear_again(connection_of(pair.server.engine), stream_id)
        pair.client.engine.send_datagram(pair.client.connection_id, b"look")
        pair.client.node.flush()
        pair.run_for(0.05)
    assert [event.code for event in pair.server.of(Reset)] == [7]
    assert [event.code for event in pair.server.of(Stopped)] == [8]


@pytest.mark.parametrize("new_kit", each(REAL))
def test_a_certificate_of_no_version(new_kit: Any) -> None:
    """What the library raises about it is no ValueError: it is refused all the same, and no fault of ours."""
    kit, raised = new_kit(), []

    def make(limits: Limits, *, reset_key: bytes | None = None) -> Engine:
        return make_real(kit.name, limits, reset_key=reset_key, on_fault=lambda where, fault: raised.append(fault))

    site = Site(dataclasses.replace(kit, make=make))
    insider = Insider(site)
    quic = connection_of(insider.engine)
    show_certificate(quic, b64decode(b"".join(odd_version(everybody(), 17).certificate.splitlines()[1:-1])))
    for _ in range(20):
        insider.carry()
    (refused,) = (event for event in site.events if isinstance(event, HandshakeRefused))
    assert (refused.alert, "can't be read" in refused.reason) == (42, True)
    assert raised == []
