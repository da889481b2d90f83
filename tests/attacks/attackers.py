"""What attackers send, as a program whose one argument is a file with :class:`Target` as JSON.

Says when it begins (``attacker.begun``), and at its end how often it did what it does (``attacker.ended``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from spnhub.actors.contract.packets import (
    Accept,
    Ack,
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    ResumeRequest,
    SetWeight,
)
from spnhub.events.model import EndPointType
from spnhub.pki import IssuedCredentials
from spnhub.schemas import codec
from spnhub.transport import protocol
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import Address, ClientPolicy, Limits, Transmit
from tests.support.aioquic_inside import client_hello, connection_of, sealed, sealed_initial
from tests.support.attack import crypto_frame, packed, stream_frame
from tests.support.raw_peer import RawPeer, raw_peer

__all__ = ["ATTACKS", "Target"]

_PROVIDER, _CONSUMER = EndPointType.PROVIDER, EndPointType.CONSUMER
_SECRET: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom, by what, for how long."""

    attack: str
    seconds: float
    host: str
    port: int
    fqdn: str
    urn: str
    trust: str
    certificates: dict[str, tuple[str, str]]
    """Certificate and key (PEM): ``provider``, ``consumer``, and odd ones."""

    def arguments(self, file: Path) -> list[str]:
        """The command line behind the interpreter; ``file`` is written for it."""
        file.write_text(json.dumps(asdict(self)))
        return ["-m", "tests.attacks.attackers", str(file)]


class Attacker:
    """At work until its time is over."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.end = time.monotonic() + target.seconds
        self.sent = 0
        """Of the row's unit: datagrams, packets, openings, sessions."""
        self._numbers = itertools.count()
        self._providers = 0
        """Sessions of providers: a consumer's is refused while there is none."""

    @property
    def on(self) -> bool:
        """Whether it goes on."""
        return time.monotonic() < self.end

    async def paced(self, per_second: float, burst: int = 1) -> AsyncIterator[int]:
        """Numbers at a rate."""
        began = time.monotonic()
        for number in itertools.count():
            if not self.on:
                return
            if number % burst == 0:
                await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            yield number
            self.sent += 1

    @contextlib.asynccontextmanager
    async def inside(self, role: EndPointType, certificate: str = "") -> AsyncIterator[RawPeer]:
        """A session of its own, or one that was refused; a consumer's has a provider's beside it."""
        if role is not _PROVIDER and not self._providers:
            async with self.inside(_PROVIDER), self.inside(role, certificate) as peer:
                yield peer
            return
        target = self.target
        chain, key = target.certificates[certificate or ("provider" if role is _PROVIDER else "consumer")]
        request = role, target.urn, f"attacker {next(self._numbers)}"
        mine = IssuedCredentials(chain.encode(), key.encode())
        try:
            async with raw_peer((target.host, target.port), target.fqdn, target.trust.encode(), mine, request) as peer:
                self._providers += role is _PROVIDER
                try:
                    yield peer
                finally:
                    self._providers -= role is _PROVIDER
        except TimeoutError:
            print(json.dumps({"event": "attacker.unanswered"}), flush=True)

    async def frames(self, peer: RawPeer, payloads: Iterator[bytes], per_second: float) -> None:
        """Packets with any frames, among the session's own."""
        waiting: list[bytes] = []
        transmit = peer.engine.transmit

        def more(now: float) -> list[Transmit]:
            found = transmit(now)
            if waiting and peer.closed is None:
                info = peer.engine.info(peer.connection_id)
                if info is not None:
                    found += [Transmit(data, info.address, 0) for data in waiting]
            waiting.clear()
            return found

        peer.engine.transmit = more  # type: ignore[method-assign] # of this one only
        async for number in self.paced(per_second, burst=10):
            payload = next(payloads, None)
            if payload is None or peer.closed is not None:
                return
            waiting.append(sealed(connection_of(peer.engine), payload))
            if number % 10 == 9:
                peer.udp.flush()


def _sockets(count: int) -> list[socket.socket]:
    found = []
    for _ in range(count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        found.append(sock)
    return found


async def _initials(attacker: Attacker, per_second: float, make: Callable[[int], bytes]) -> None:
    """First packets from many ports."""
    sockets = _sockets(200)
    target = attacker.target
    async for number in attacker.paced(per_second, burst=10):
        try:
            sockets[number % len(sockets)].sendto(make(number), (target.host, target.port))
        except (BlockingIOError, ConnectionRefusedError):
            attacker.sent -= 1


async def hello_in_pieces(attacker: Attacker) -> None:
    """1: a ClientHello as one-byte pieces at odd offsets, of a few handshakes."""

    def make(number: int) -> bytes:
        # Offsets beyond 2^14 would take more bytes than a packet has: then it is the next handshakes' turn.
        rounds, part = divmod(number // 8, 40)
        pieces = b"".join(crypto_frame(1 + 2 * (n + 200 * part), b"x") for n in range(200))
        return sealed_initial((number % 8 + 8 * rounds).to_bytes(8), pieces, number)

    await _initials(attacker, 100, make)


async def stream_in_pieces(attacker: Attacker) -> None:
    """1: a stream's bytes at odd offsets."""
    while attacker.on:
        async with attacker.inside(_CONSUMER) as peer:
            pieces = (stream_frame(4, 1 + 2 * n, b"x") for n in range(8_000))
            await attacker.frames(peer, iter(packed(pieces)), 500)


async def byte_at_the_end_of_hellos(attacker: Attacker) -> None:
    """2: one byte at the end of what a crypto stream may have waiting, in handshakes without end."""
    await _initials(attacker, 300, lambda number: sealed_initial(number.to_bytes(8), crypto_frame(16_000, b"x"), 0))


async def byte_at_the_end_of_windows(attacker: Attacker) -> None:
    """2: the same of every stream of thirteen sessions."""

    async def one() -> None:
        async with attacker.inside(_CONSUMER) as peer:
            pieces = (stream_frame(4 * n, 16_000, b"x") for n in range(1, 4096))
            await attacker.frames(peer, iter(packed(pieces)), 500)
            while attacker.on and peer.closed is None:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(13)))


async def codes(attacker: Attacker) -> None:
    """3: accepts with codes that QUIC can't send."""
    async with attacker.inside(_PROVIDER) as asked, attacker.inside(_CONSUMER) as asking:
        async for number in attacker.paced(20):
            if asked.closed or asking.closed:
                return
            known = set(asked.received)
            asking.open(protocol.encode(Opening(OpeningKind.OPEN, f"{number:032x}", _SECRET)))
            await asyncio.sleep(0.01)
            for stream_id in set(asked.received) - known:
                asked.write(stream_id, protocol.encode(Accept(OpeningKind.OPEN, (-1, 1 << 62)[number % 2])))


async def certificates(attacker: Attacker) -> None:
    """4, 5: subjects that are too long, or that libraries read differently; one that never expires."""
    odd = [name for name in attacker.target.certificates if name not in {"provider", "consumer"}]
    for name in itertools.cycle(odd):
        if not attacker.on:
            return
        async with attacker.inside(_CONSUMER, name):
            attacker.sent += 1


async def offsets(attacker: Attacker) -> None:
    """6: resumes with offsets beyond what there is."""
    await _packets(
        attacker, 20, lambda n: ResumeRequest(f"{n:032x}", _SECRET, 1, (1 << 63) - 1, False, 0, "CN=provider", "p")
    )


async def opened_and_reset(attacker: Attacker) -> None:
    """8: openings that are given up at once."""
    while attacker.on:
        async with attacker.inside(_CONSUMER) as peer:
            async for number in attacker.paced(14_000, burst=100):
                if peer.closed is not None:
                    break
                stream_id = peer.engine.open_bidi(peer.connection_id)
                if stream_id is not None:
                    data = protocol.encode(Opening(OpeningKind.OPEN, f"{number:032x}", _SECRET))
                    peer.engine.write(peer.connection_id, stream_id, data)
                    peer.engine.reset(peer.connection_id, stream_id, 40)
                if number % 100 == 99:
                    peer.udp.flush()


async def stops(attacker: Attacker) -> None:
    """8: STOP_SENDING again and again."""
    while attacker.on:
        async with attacker.inside(_CONSUMER) as peer:
            if peer.closed is not None:
                continue
            peer.open(protocol.encode(Opening(OpeningKind.OPEN, "11" * 16, _SECRET)))
            stop = b"".join(b"\x05\x04\x05" for _ in range(300))
            await attacker.frames(peer, itertools.repeat(stop), 500)


async def _packets(attacker: Attacker, per_second: float, make: Callable[[int], Any]) -> None:
    while attacker.on:
        async with attacker.inside(_PROVIDER) as peer:
            async for number in attacker.paced(per_second, burst=max(1, round(per_second / 50))):
                if peer.closed is not None:
                    break
                made = make(number)
                data = made if isinstance(made, bytes) else protocol.encode(made)
                peer.engine.write(peer.connection_id, 0, data)
                peer.udp.flush()


async def weights(attacker: Attacker) -> None:
    """9: SetWeight 10,000 times a second."""
    await _packets(attacker, 10_000, lambda n: SetWeight(n % 7 + 1))


async def resumes(attacker: Attacker) -> None:
    """9: ResumeRequest 3,000 times a second."""
    await _packets(attacker, 3_000, lambda n: ResumeRequest(f"{n:032x}", _SECRET, 1, 7, False, 0, "CN=provider", "p"))


async def other_packets(attacker: Attacker) -> None:
    """9: packets of unknown kinds, CloseRequest, DataAck, 15,000 times a second."""
    unknown = bytes([250, 1, 0, 3]) + b"abc"
    kinds = (unknown, CloseRequest("22" * 16, 1, 0, 0, False), DataAck((Ack("33" * 16, 1, 5),)))
    await _packets(attacker, 15_000, lambda n: kinds[n % 3])


async def long_names(attacker: Attacker) -> None:
    """10: server names of 55 kB, and refused resumes with long texts."""
    target = attacker.target
    (sock,) = _sockets(1)
    async for number in attacker.paced(60):
        hello = client_hello(f"{number}." + "x" * 55_000)
        for packet, start in enumerate(range(0, len(hello), 1000)):
            data = sealed_initial(number.to_bytes(8), crypto_frame(start, hello[start : start + 1000]), packet)
            with contextlib.suppress(BlockingIOError):
                sock.sendto(data, (target.host, target.port))


async def long_texts(attacker: Attacker) -> None:
    """10: a subject of 60 kB (TLS sends no more than 64); refused resumes of 13 kB by one whose subject is long."""
    async with attacker.inside(_CONSUMER, "very long"):
        pass
    text = "x" * 13_000
    while attacker.on:
        async with attacker.inside(_PROVIDER, "long enough") as peer:
            async for number in attacker.paced(500, burst=10):
                if peer.closed is not None:
                    break
                request = ResumeRequest(f"{number:032x}", _SECRET, 1, 7, False, 0, f"CN={text}", text)
                peer.engine.write(peer.connection_id, 0, protocol.encode(request))
                peer.udp.flush()


async def half_open(attacker: Attacker) -> None:
    """11: beginnings of handshakes, 280 a second, from many ports."""
    await _half_open(attacker, 280)


async def half_open_fast(attacker: Attacker) -> None:
    """11: 2,000 a second."""
    await _half_open(attacker, 2_000)


async def _half_open(attacker: Attacker, per_second: float) -> None:
    target = attacker.target
    chain, key = target.certificates["consumer"]
    engine = AioquicEngine(Limits())
    policy = ClientPolicy(target.fqdn, (protocol.ALPN,), chain.encode(), key.encode(), target.trust.encode())
    for _ in range(400):
        engine.connect(Address(0, (target.host, target.port)), policy, 0.0)
    hellos = []
    for data, _, size in engine.transmit(0.0):
        step = size or len(data)
        hellos += [bytes(data[start : start + step]) for start in range(0, len(data), step)]
    await _initials(attacker, per_second, lambda number: hellos[number % len(hellos)])


async def escapes(attacker: Attacker) -> None:
    """13: escape sequences and line ends in all texts that an endpoint may choose."""
    text = "\x1b[31mred\x1b]0;title\x07\n{}\r\x9b2J"
    raw = codec.encode_packet("SetWeight", {"weight": 5, "reason": text}, 2 if 2 in _versions("SetWeight") else 1)
    while attacker.on:
        async with attacker.inside(_PROVIDER) as peer:
            await peer.send(raw)
            await asyncio.sleep(0.05)
            peer.engine.close(peer.connection_id, 7, text)
            peer.udp.flush()
            await asyncio.sleep(0.05)
            attacker.sent += 1
        if "escape" in attacker.target.certificates:
            async with attacker.inside(_CONSUMER, "escape"):
                pass


def _versions(name: str) -> set[int]:
    kind = codec.PACKET_KINDS[name]
    return set(range(1, codec.packet_versions()[kind] + 1))


ATTACKS: Final[dict[str, Callable[[Attacker], Awaitable[None]]]] = {
    one.__name__: one
    for one in (
        hello_in_pieces,
        stream_in_pieces,
        byte_at_the_end_of_hellos,
        byte_at_the_end_of_windows,
        codes,
        certificates,
        offsets,
        opened_and_reset,
        stops,
        weights,
        resumes,
        other_packets,
        long_names,
        long_texts,
        half_open,
        half_open_fast,
        escapes,
    )
}


async def _main(target: Target) -> None:
    # Another machine's CPU in life.
    os.nice(15)
    logging.disable(logging.CRITICAL)
    print(json.dumps({"event": "attacker.begun"}), flush=True)
    attacker = Attacker(target)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(target.seconds + 5):
            await ATTACKS[target.attack](attacker)
    took = target.seconds + time.monotonic() - attacker.end
    print(json.dumps({"event": "attacker.ended", "perSecond": round(attacker.sent / took, 1)}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Target(**json.loads(Path(sys.argv[1]).read_text()))))
