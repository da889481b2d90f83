"""Stateless resets (RFC 9000 section 10.3): their form, their rate, and what is none."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.aioquic_engine.resets import SMALLEST_RESET, ResetSender, reset_token
from spnhub.transport.engine import Address, Closed, CloseKind, Limits
from tests.support.engine_pair import EnginePair
from tests.transport.test_engine_conformance import new_aioquic

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


def test_one_answer_per_address_and_turn() -> None:
    """A burst of joined datagrams of a dead connection gets one reset; the next turn may answer again."""
    engine = AioquicEngine(reset_key=KEY)
    engine.receive(b"".join(_short(1200) for _ in range(40)), SOMEBODY, 1200, 1.0)
    engine.receive(_short(1200), Address(0, ("192.0.2.8", 1)), 0, 1.0)
    assert [sent.address.remote[0] for sent in engine.transmit(1.0)] == ["192.0.2.9", "192.0.2.8"]
    engine.receive(_short(1200), SOMEBODY, 0, 1.0)
    assert len(engine.transmit(1.0)) == 1


def test_what_gets_no_answer() -> None:
    """Long headers, packets without the fixed bit, tiny ones; and nothing at all without a key."""
    engine = AioquicEngine(reset_key=KEY)
    for packet in (b"\xc0" + os.urandom(1199), b"\x00" + os.urandom(1199), _short(21), b"", b"\x40"):
        engine.receive(packet, SOMEBODY, 0, 1.0)
        assert engine.transmit(1.0) == []
    other = AioquicEngine()
    other.receive(_short(1200), SOMEBODY, 0, 1.0)
    assert other.transmit(1.0) == []


def test_only_the_token_from_the_right_address_ends_a_connection() -> None:
    """Noise, the token cut short, and the token from elsewhere end nothing."""
    pair = EnginePair(new_aioquic(), reset_key=KEY).connect()
    pair.run_for(1.0)
    engine = pair.client.engine
    link = engine.handles[pair.client.connection_id]  # type: ignore[attr-defined]
    token = link.quic.peer_reset_token
    now = pair.clock.now()
    engine.receive(_short(40), link.address, 0, now)
    engine.receive(_short(40) + token[:15], link.address, 0, now)
    engine.receive(_short(4) + token, link.address, 0, now)
    engine.receive(_short(40) + token, Address(link.address.local, ("192.0.2.66", 443)), 0, now)
    engine.receive(_short(40) + token, Address(link.address.local + 1, link.address.remote), 0, now)
    pair.run_for(1.0)
    assert pair.client.of(Closed) == []
    engine.receive(_short(5) + token, link.address, 0, pair.clock.now())
    pair.run_for(1.0)
    assert pair.client.of(Closed) == [Closed(pair.client.connection_id, CloseKind.RESET, 0, "stateless reset")]


def test_a_reset_hub_has_its_streams_and_splices_ended() -> None:
    """RESET ends a connection as every other loss does: nothing of it is left in the engine."""
    pair = EnginePair(new_aioquic(), client_limits=Limits(keep_alive=1.0), reset_key=KEY).connect()
    for _ in range(10):
        pair.open()
    pair.server.node.crash()
    pair.restart_server()
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    engine = pair.client.engine
    assert isinstance(engine, AioquicEngine)
    assert not any(engine.counts().values())
    assert engine.timer() is None
