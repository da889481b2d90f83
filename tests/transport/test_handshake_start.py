"""Handshakes that begin before their server is there: they are no violation, and end or go on as soon as one knows."""

from __future__ import annotations

import itertools

import pytest

from spnhub.transport.engine import Address, Closed, CloseKind, Connected, HandshakeRefused
from tests.support.aioquic_inside import sealed_initial
from tests.support.engine_pair import SERVER, EnginePair, Kit
from tests.support.engines import ENGINES, REAL, each

PING = b"\x01"
ELSEWHERE = Address(0, ("198.51.100.7", 4433))


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


real = pytest.mark.parametrize("kit", each(REAL), indirect=True)


@pytest.mark.parametrize("port_closed", [False, True])
def test_a_closed_port_ends_an_attempt_at_once(kit: Kit, port_closed: bool) -> None:
    """There is nothing to lose, so nothing to probe for; the next attempt is its owner's."""
    pair = EnginePair(kit)
    pair.network.cut(pair.client.node, pair.server.node)
    number = pair.begin()
    pair.client.engine.unreachable(Address(0, SERVER), pair.clock.now(), port_closed=port_closed)
    pair.run_for(0)
    kind = CloseKind.PORT_CLOSED if port_closed else CloseKind.UNREACHABLE
    assert [(one.connection_id, one.kind) for one in pair.client.of(Closed)] == [(number, kind)]
    pair.network.heal(pair.client.node, pair.server.node)
    pair.run_for(30)
    assert pair.server.events == []
    assert len(pair.client.of(Closed)) == 1
    pair.connect()


@pytest.mark.parametrize("port_closed", [False, True])
def test_a_hint_about_somebody_else_ends_nothing(kit: Kit, port_closed: bool) -> None:
    """The address of the attempt counts."""
    pair = EnginePair(kit)
    pair.client.connection_id = pair.begin()
    pair.client.engine.unreachable(ELSEWHERE, pair.clock.now(), port_closed=port_closed)
    pair.run_until(lambda: bool(pair.client.of(Connected)))
    assert pair.client.of(Closed) == []


@real
@pytest.mark.parametrize("absence", [0.05, 0.3, 0.9, 2.5])
def test_a_server_that_comes_up_in_mid_attempt(kit: Kit, absence: float) -> None:
    """Nobody says that it isn't there; what it hears first is a repetition, with which the handshake begins."""
    pair = EnginePair(kit)
    pair.server.node.crash(host_lives=False)
    pair.begin()
    pair.run_for(absence)
    pair.restart_server()
    pair.run_until(lambda: bool(pair.client.of(Connected)) and bool(pair.server.of(Connected)), limit=10)
    assert pair.client.of(Closed) == []
    assert pair.server.of(HandshakeRefused) == []


@real
def test_whoever_is_in_a_hurry_repeats_it(kit: Kit) -> None:
    """Whatever the pauses of loss recovery are by then, which double."""
    pair = EnginePair(kit)
    pair.server.node.crash(host_lives=False)
    number = pair.begin()
    for _ in range(12):
        pair.run_for(0.5)
        pair.client.engine.repeat(number, pair.clock.now())
        pair.client.node.flush()
    pair.run_for(0.1)
    pair.restart_server()
    began = pair.clock.now()
    pair.client.engine.repeat(number, began)
    pair.run_until(lambda: bool(pair.server.of(Connected)))
    assert pair.clock.now() - began < 0.2
    assert pair.client.of(Closed) == []
    assert pair.server.of(HandshakeRefused) == []
    pair.client.engine.repeat(number, pair.clock.now())
    pair.client.engine.repeat(number + 1, pair.clock.now())
    pair.run_for(1)
    assert pair.client.of(Closed) == []


@real
@pytest.mark.parametrize("asked", [1, 2, 5])
def test_a_ping_before_a_hello_is_no_refusal(kit: Kit, asked: int) -> None:
    """As a client probes that has lost its first packets: nothing begins, nothing is answered or refused, and the
    ClientHello that comes then begins it. Other programs' clients do so, too."""
    pair = EnginePair(kit)
    cid = bytes(range(8))
    for number in itertools.chain(range(asked), range(asked)):
        pair.server.engine.receive(sealed_initial(cid, PING, number), ELSEWHERE, 0, pair.clock.now())
        assert pair.server.engine.events() == []
        assert pair.server.engine.transmit(pair.clock.now()) == []
    while pair.server.engine.shake_hands(pair.clock.now()):
        pass
    pair.run_for(60)
    assert pair.server.events == []
    pair.connect()


@real
def test_a_ping_that_overtakes_the_hello(kit: Kit) -> None:
    """Of one and the same connection, in one turn and in several."""
    for together in (False, True):
        pair = EnginePair(kit)
        pair.network.cut(pair.client.node, pair.server.node)
        pair.client.connection_id = pair.begin()
        pair.client.engine.repeat(pair.client.connection_id, pair.clock.now())
        (hello, _, _) = pair.client.engine.transmit(pair.clock.now())[0]
        here = Address(0, ("client", 1))
        for number in (70, 71):
            ping = sealed_initial(hello[6 : 6 + hello[5]], PING, number)
            pair.server.engine.receive(ping, here, 0, pair.clock.now())
            if not together:
                pair.server.node.turn()
        pair.server.engine.receive(hello, here, 0, pair.clock.now())
        pair.server.node.turn()
        pair.run_for(0.1)
        assert pair.server.of(HandshakeRefused) == []
        assert pair.server.engine.counts()["connections"] == 1, "it has taken the hello: its answer is under way"
