"""1-RTT keys are replaced in time, again and again, and nobody notices (RFC 9001 section 6)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.tls import CipherSuite

from spnhub.transport.aioquic_engine import keys
from spnhub.transport.aioquic_engine.keys import OneRttKeys
from spnhub.transport.engine import Closed, Limits
from spnhub.transport.native_engine import why_not
from tests.support.aioquic_inside import watch_key_updates
from tests.support.engine_pair import EnginePair, Side
from tests.support.engines import new_aioquic, new_native


class Watch:
    """What happened to the keys of both sides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates: Counter[str] = Counter()
        """By who began: ``local_update`` or ``remote_update``."""
        self.most = 0
        """Packets that one key has protected, at most."""
        self.unreadable = 0
        decrypt = OneRttKeys.decrypt_packet

        def updated(trigger: str, sent: int) -> None:
            self.updates[trigger] += 1
            self.most = max(self.most, sent)

        def decrypt_packet(pair: Any, *arguments: Any) -> Any:
            try:
                return decrypt(pair, *arguments)
            except CryptoError:
                self.unreadable += 1
                raise

        watch_key_updates(monkeypatch, updated)
        monkeypatch.setattr(OneRttKeys, "decrypt_packet", decrypt_packet)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Keys hold for few packets."""
    monkeypatch.setattr(keys, "KEY_PACKETS", 200)
    monkeypatch.setattr(keys, "LATE", 50)
    return Watch(monkeypatch)


def exchange(pair: EnginePair, from_client: int, from_server: int) -> None:
    """Both sides send so many bytes, at once."""
    stream = pair.open()
    sides = (pair.client, pair.server)
    data = {pair.client: bytes([1]) * from_client, pair.server: bytes([2]) * from_server}
    got: dict[Side, bytearray] = {side: bytearray() for side in sides}
    writing = [pair.write_all(side, stream, data[side]) for side in sides]

    def done() -> bool:
        for side in sides:
            while (answer := side.engine.read(side.connection_id, stream, 1 << 20)) and answer[0]:
                got[side] += answer[0]
                side.node.flush()
        taken = [more() for more in writing]
        return all(taken) and sum(map(len, got.values())) == from_client + from_server

    pair.run_until(done, limit=600.0)
    assert (bytes(got[pair.server]), bytes(got[pair.client])) == (data[pair.client], data[pair.server])
    assert not pair.client.of(Closed) and not pair.server.of(Closed)


@pytest.mark.parametrize("sizes", [(800_000, 0), (0, 800_000), (800_000, 400_000), (600_000, 600_000)])
def test_keys_are_replaced_in_time(watch: Watch, sizes: tuple[int, int]) -> None:
    """By who sends most, and the other follows, or by both at once; what is under way meanwhile can be read."""
    pair = EnginePair(new_aioquic()).connect()
    exchange(pair, *sizes)
    assert watch.updates["local_update"] >= 2
    assert watch.updates["remote_update"] >= 2 or sizes[0] == sizes[1]
    # One burst more than it should.
    assert watch.most < 200 + 600
    assert watch.unreadable == 0


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_disorder_do_not_matter(watch: Watch, seed: int) -> None:
    """A packet with the keys before that comes late, one with the next that comes early."""
    pair = EnginePair(new_aioquic())
    pair.network.random.seed(seed)
    pair.network.jitter, pair.network.reorder = 0.02, True
    pair.connect()
    pair.network.loss = 0.05
    exchange(pair, 200_000, 200_000)
    assert sum(watch.updates.values()) >= 2


def test_one_update_at_a_time(watch: Watch) -> None:
    """The next one waits until the peer has acknowledged something of the last (section 6.1)."""
    pair = OneRttKeys.adopt(CryptoPair())
    for half in (pair.recv, pair.send):
        half.setup(cipher_suite=CipherSuite.AES_128_GCM_SHA256, secret=bytes(32), version=1)
    for number in range(200):
        assert not pair.is_spent(number)
        pair.encrypt_packet(bytes(20), bytes(20), number)
    assert pair.is_spent(0)
    pair.update_key()
    for number in range(200, 400):
        pair.encrypt_packet(bytes(20), bytes(20), number)
    assert watch.updates == {"local_update": 1}
    assert [pair.is_spent(acknowledged) for acknowledged in (199, 200)] == [False, True]


def test_a_key_holds_for_millions_of_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what AES-GCM allows, and not sooner: an update costs, too."""
    watch = Watch(monkeypatch)
    exchange(EnginePair(new_aioquic()).connect(), 300_000, 300_000)
    assert (watch.updates, keys.KEY_PACKETS) == ({}, 1 << 22)


# ------------------------------------------------------------------------------------------------- the native engine


SMALL = Limits(datagram_size_max=1200)
"""Keys are replaced after so many packets: small ones, so that it takes few bytes."""


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("sizes", [(3_000_000, 0), (0, 3_000_000), (2_000_000, 2_000_000)])
def test_native_keys_are_replaced(sizes: tuple[int, int]) -> None:
    """quinn replaces the first ones within a thousand packets, so that all peers can be trusted to follow it."""
    pair = EnginePair(new_native(), SMALL, SMALL).connect()
    exchange(pair, *sizes)
    updates = [_native(side).key_updates(side.connection_id) for side in (pair.client, pair.server)]
    assert updates[0] == updates[1] in {1, 2}


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize("seed", range(3))
def test_native_keys_beside_loss_and_disorder(seed: int) -> None:
    """What comes late with the keys before, or early with the next, is read."""
    pair = EnginePair(new_native(), SMALL, SMALL)
    pair.network.random.seed(seed)
    pair.network.jitter, pair.network.reorder = 0.02, True
    pair.connect()
    pair.network.loss = 0.05
    exchange(pair, 1_500_000, 1_500_000)
    assert all(_native(side).key_updates(side.connection_id) for side in (pair.client, pair.server))


def _native(side: Side) -> Any:
    return side.engine
