"""Whatever comes in, nothing is raised, no fault of ours happens, and nobody is kept from what was promised."""

from __future__ import annotations

import random

import pytest

from spnhub.transport.engine import Address, Closed, Engine, Limits
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each, make_real
from tests.support.fake_network import FakeNode, SocketAddress

_HEADS = (b"", b"\xc3\0\0\0\1\x08", b"\xe3\0\0\0\1\x08", b"\xff\0\0\0\2\x04", b"\x40")
"""Of first packets, of another kind, of another version, and of a connection that is up."""


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


class Noise:
    """A pair on a network that sends spoiled copies of datagrams, and nonsense, beside every real one.

    :param spoil: the real ones, too, now and then.
    """

    def __init__(self, kit: Kit, seed: int, *, spoil: bool) -> None:
        self.faults: list[BaseException] = []

        def make(limits: Limits, *, reset_key: bytes | None = None) -> Engine:
            return make_real(kit.name, limits, reset_key=reset_key, on_fault=lambda _, fault: self.faults.append(fault))

        self.pair = EnginePair(
            Kit(kit.name, make, kit.server, kit.client, kit.stranger, kit.client_ca, kit.trust), reset_key=bytes(32)
        )
        self._random = random.Random(seed)
        self._spoil = spoil
        self._send = self.pair.network.send
        self.pair.network.send = self.send  # type: ignore[method-assign]

    def _spoiled(self, data: bytes) -> bytes:
        rng, out = self._random, bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            out[rng.randrange(len(out))] = rng.randrange(256)
        if not rng.randrange(4):
            del out[rng.randrange(len(out)) :]
        return bytes(out)

    def send(
        self, node: FakeNode, source: SocketAddress, target: SocketAddress, data: bytes, segment_size: int
    ) -> None:
        rng = self._random
        pieces = [data[at : at + segment_size] for at in range(0, len(data), segment_size)] if segment_size else [data]
        for piece in pieces:
            copies = [self._spoiled(piece) for _ in range(rng.randrange(3))]
            if not rng.randrange(5):
                copies.append(rng.randbytes(rng.randrange(1, 1400)))
            if not rng.randrange(10):
                # What looks like a first packet, of nobody.
                copies.append(b"\xc3\x00\x00\x00\x01\x08" + rng.randbytes(rng.choice((20, 1200, 1300))))
            for copy in copies:
                if copy:
                    self._send(node, source, target, copy, 0)
            real = piece if not self._spoil or rng.randrange(8) else self._spoiled(piece)
            if real:
                self._send(node, source, target, real, 0)


@pytest.mark.parametrize("seed", range(6))
def test_bytes_arrive_beside_noise(kit: Kit, seed: int) -> None:
    """Spoiled copies are no packets of anybody: the streams are whole, both ways."""
    noise = Noise(kit, seed, spoil=seed % 2 == 1)
    pair = noise.pair.connect()
    stream_id = pair.open()
    data = bytes(range(256)) * 400
    for source, sink in ((pair.client, pair.server), (pair.server, pair.client)):
        more = pair.write_all(source, stream_id, data)
        got = b""
        while len(got) < len(data):
            got += pair.read_all(sink, stream_id, min(8192, len(data) - len(got)), limit=300)[0]
            more()
        assert got == data
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    assert noise.faults == []


def test_nonsense_leaves_nothing_behind(kit: Kit) -> None:
    """A thousand datagrams of nobody: no timer stays, and nothing else."""
    noise = Noise(kit, 0, spoil=False)
    engine, rng, now = noise.pair.server.engine, random.Random(1), 1.0
    for number in range(1000):
        head = rng.choice(
            (b"", b"\xc3\x00\x00\x00\x01\x08", b"\xe3\x00\x00\x00\x01\x08", b"\xff\x00\x00\x00\x02\x04", b"\x40")
        )
        engine.receive(head + rng.randbytes(rng.randrange(1, 1400)), Address(0, ("192.0.2.9", number + 1)), 0, now)
        engine.handle_timer(now)
        engine.events()
        engine.transmit(now)
        now += 0.001
    for _ in range(100):
        now += 1.0
        engine.handle_timer(now)
        while engine.shake_hands(now):
            pass
        engine.events()
        engine.transmit(now)
    assert not any(engine.counts().values())
    assert engine.timer() is None
    assert noise.faults == []
