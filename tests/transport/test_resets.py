"""Stateless resets (RFC 9000 section 10.3): their form, their rate, and what is none."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.transport.aioquic_engine.resets import SMALLEST_RESET, ResetSender, reset_token
from spnhub.transport.engine import Address, Closed, CloseKind, Connected, Limits
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each

KEY = bytes(range(32))
SOMEBODY = Address(0, ("192.0.2.9", 999))


def _short(size: int) -> bytes:
    """A packet with a short header."""
    return bytes((0x40 | os.urandom(1)[0] & 0x3F,)) + os.urandom(size - 1)


@given(st.integers(1, 1500))
def test_a_reset_is_smaller_than_what_caused_it_and_looks_like_a_packet(size: int) -> None:
    """Short header, fixed bit, at least 21 bytes, the token last; nothing for what leaves no room for that."""
    packet = _short(size)
    answer = ResetSender(KEY, 8).answer(packet, 0.0)
    if size <= SMALLEST_RESET:
        assert answer is None
        return
    assert answer is not None
    assert SMALLEST_RESET <= len(answer) < size
    assert len(answer) <= 45
    assert answer[0] & 0xC0 == 0x40
    assert answer[-16:] == reset_token(KEY, packet[1:9])


def test_resets_are_unpredictable_save_for_the_token() -> None:
    """Two answers to the same packet differ in noise and length."""
    packet = _short(1200)
    sender = ResetSender(KEY, 8)
    answers = [sender.answer(packet, 0.0) or b"" for _ in range(100)]
    assert len(set(answers)) == 100
    assert len({len(answer) for answer in answers}) > 5
    assert len({answer[-16:] for answer in answers}) == 1


def test_the_rate_is_bounded() -> None:
    """1,000 at once, then 1,000 a second, however many ask."""
    sender = ResetSender(KEY, 8)
    assert sum(sender.answer(_short(50), 7.0) is not None for _ in range(5000)) == 1000
    assert sum(sender.answer(_short(50), 7.5) is not None for _ in range(5000)) == 500
    assert sum(sender.answer(_short(50), 99.0) is not None for _ in range(5000)) == 1000


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


def test_one_answer_per_address_and_turn(kit: Kit) -> None:
    """A burst of joined datagrams of a dead connection gets one reset; the next turn may answer again."""
    engine = kit.make(Limits(), reset_key=KEY)
    engine.receive(b"".join(_short(1200) for _ in range(40)), SOMEBODY, 1200, 1.0)
    engine.receive(_short(1200), Address(0, ("192.0.2.8", 1)), 0, 1.0)
    assert [sent.address.remote[0] for sent in engine.transmit(1.0)] == ["192.0.2.9", "192.0.2.8"]
    engine.receive(_short(1200), SOMEBODY, 0, 1.0)
    assert len(engine.transmit(1.0)) == 1


def test_what_gets_no_answer(kit: Kit) -> None:
    """Long headers, packets without the fixed bit, tiny ones; and nothing at all without a key."""
    engine = kit.make(Limits(), reset_key=KEY)
    for packet in (b"\xc0" + os.urandom(1199), b"\x00" + os.urandom(1199), _short(21), b"", b"\x40"):
        engine.receive(packet, SOMEBODY, 0, 1.0)
        assert engine.transmit(1.0) == []
    other = kit.make(Limits())
    other.receive(_short(1200), SOMEBODY, 0, 1.0)
    assert other.transmit(1.0) == []


def test_only_the_token_from_the_right_address_ends_a_connection(kit: Kit) -> None:
    """Noise, the token cut short, and the token from elsewhere end nothing."""
    pair = EnginePair(kit, reset_key=KEY).connect()
    pair.run_for(1.0)
    engine = pair.client.engine
    info, address = engine.info(pair.client.connection_id), pair.client.of(Connected)[0].address
    assert info is not None
    # The hub's connection id is known, and what its tokens follow from.
    token = reset_token(KEY, pair.client.of(Connected)[0].cid)
    now = pair.clock.now()
    engine.receive(_short(40), address, 0, now)
    engine.receive(_short(40) + token[:15], address, 0, now)
    engine.receive(_short(4) + token, address, 0, now)
    engine.receive(_short(40) + token, Address(address.local, ("192.0.2.66", 443)), 0, now)
    engine.receive(_short(40) + token, Address(address.local + 1, address.remote), 0, now)
    pair.run_for(1.0)
    assert pair.client.of(Closed) == []
    engine.receive(_short(5) + token, address, 0, pair.clock.now())
    pair.run_for(1.0)
    assert pair.client.of(Closed) == [Closed(pair.client.connection_id, CloseKind.RESET, 0, "stateless reset")]


def test_a_reset_hub_has_its_streams_and_splices_ended(kit: Kit) -> None:
    """RESET ends a connection as every other loss does: nothing of it is left in the engine."""
    pair = EnginePair(kit, client_limits=Limits(keep_alive=1.0), reset_key=KEY).connect()
    for _ in range(10):
        pair.open()
    pair.server.node.crash()
    pair.restart_server()
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    engine = pair.client.engine
    assert not any(engine.counts().values())
    assert engine.timer() is None


def test_the_first_packet_to_a_hub_that_started_again_is_answered(kit: Kit) -> None:
    """Whatever its bits are, of which some are random: no connection waits for its next probe."""
    for _ in range(20):
        pair = EnginePair(kit, reset_key=KEY).connect()
        stream_id = pair.open()
        pair.run_for(1.0)
        pair.server.node.crash()
        pair.restart_server()
        pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
        began = pair.clock.now()
        pair.run_until(lambda pair=pair: bool(pair.client.of(Closed)))  # type: ignore[misc]
        assert pair.clock.now() - began <= 0.06
