"""A peer that keeps QUIC's rules where it has to and no others: packets of any frames, against any engine.

It shakes hands as a client on aioquic does; then :meth:`Insider.send` sends whatever it is given.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import replace

from aioquic.buffer import encode_uint_var

from spnhub.pki import Authority
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import Address, ClientPolicy, Connected, EngineEvent, Limits, ServerIdentity, ServerPolicy
from tests.support.aioquic_inside import connection_of, sealed, sealed_initial
from tests.support.engine_pair import Kit

__all__ = ["Insider", "Site", "Stranger", "crypto_frame", "everybody", "packed", "stream_frame"]

HERE = Address(0, ("192.0.2.1", 443))


def crypto_frame(offset: int, data: bytes) -> bytes:
    """RFC 9000 section 19.6."""
    return b"\x06" + encode_uint_var(offset) + encode_uint_var(len(data)) + data


def stream_frame(stream_id: int, offset: int, data: bytes, *, fin: bool = False) -> bytes:
    """RFC 9000 section 19.8."""
    return bytes([0x0E | fin]) + b"".join(map(encode_uint_var, (stream_id, offset, len(data)))) + data


def packed(frames: Iterable[bytes], size: int = 1100) -> list[bytes]:
    """Frames in as few payloads as they fit in."""
    payloads, payload = [], b""
    for frame in frames:
        if payload and len(payload) + len(frame) > size:
            payloads.append(payload)
            payload = b""
        payload += frame
    return [*payloads, payload]


@functools.cache
def everybody() -> Authority:
    """What issues the certificates of a site, and of all who are let in."""
    return Authority.create("everybody")


class Site:
    """A server engine under the names hub.test and other.test, fed by hand."""

    def __init__(self, kit: Kit, limits: Limits | None = None, reset_key: bytes | None = None) -> None:
        self.engine = kit.make(limits or Limits(), reset_key=reset_key)
        authority = everybody()
        self._identities: dict[str, ServerIdentity] = {}
        for name in ("hub.test", "other.test"):
            server = authority.server(name)
            identity = ServerIdentity(server.certificate, server.key, authority.certificate, ("spn/1",))
            self._identities[name] = identity
        self.engine.set_policy(ServerPolicy(self._identities))
        self.now = 0.0
        self.events: list[EngineEvent] = []
        self.sent: dict[Address, list[bytes]] = {}
        """What the engine sends to whom; who reads it takes it out."""

    def reload(self, max_handshakes: int | None, *, by_socket: bool = False) -> None:
        """Give hub.test so many handshakes at once; ``by_socket``: on the one socket, as a hub does."""
        self._identities["hub.test"] = replace(self._identities["hub.test"], max_handshakes=max_handshakes)
        policy = ServerPolicy({}, {0: self._identities}) if by_socket else ServerPolicy(self._identities)
        self.engine.set_policy(policy)

    def step(self, seconds: float = 0.0) -> None:
        """Let the engine do what it can, handshakes included, after so much time."""
        self.now += seconds
        self.engine.handle_timer(self.now)
        while self.engine.counts().get("late"):
            self.engine.handle_timer(self.now)
        while self.engine.shake_hands(self.now):
            pass
        self.events += self.engine.events()
        for data, to, size in self.engine.transmit(self.now):
            pieces = [data[start : start + size] for start in range(0, len(data), size)] if size else [data]
            self.sent.setdefault(to, []).extend(pieces)

    def take(self, address: Address) -> list[bytes]:
        """Datagrams that have been sent there."""
        return self.sent.pop(address, [])


class Stranger:
    """Sends Initial packets from any address."""

    _numbers = itertools.count(1)

    def __init__(self, site: Site, address: Address) -> None:
        self.site = site
        self.address = address
        self.cid = next(self._numbers).to_bytes(8)
        self._packets = itertools.count()

    def send(self, frames: bytes) -> None:
        """One datagram."""
        packet = sealed_initial(self.cid, frames, next(self._packets))
        self.site.engine.receive(packet, self.address, 0, self.site.now)


class Insider:
    """A client with a certificate, and a connection that is up (or about to be, with ``hold``)."""

    _ports = itertools.count(10_000)

    def __init__(self, site: Site, name: str = "hub.test", host: str = "198.51.100.7", limits: Limits | None = None):
        self.site = site
        self.address = Address(0, (host, next(self._ports)))
        self.engine = AioquicEngine(limits or Limits())
        mine = everybody().client("insider")
        policy = ClientPolicy(name, ("spn/1",), mine.certificate, mine.key, everybody().certificate)
        self.engine.connect(HERE, policy, site.now)
        self.events: list[EngineEvent] = []
        self.datagrams = 0
        """That it has sent."""

    def carry(self, seconds: float = 0.001) -> None:
        """One exchange with the site."""
        for data, _, size in self.engine.transmit(self.site.now):
            self.datagrams += -(-len(data) // size) if size else 1
            self.site.engine.receive(data, self.address, size, self.site.now)
        self.site.step(seconds)
        for data in self.site.take(self.address):
            self.engine.receive(data, HERE, 0, self.site.now)
        self.engine.handle_timer(self.site.now)
        self.events += self.engine.events()

    def connect(self, exchanges: int = 50) -> int:
        """Be let in; how many exchanges that took."""
        for count in range(1, exchanges):
            self.carry()
            if any(isinstance(event, Connected) for event in self.events):
                self.carry()
                return count
        raise TimeoutError(self.events)

    def send(self, *payloads: bytes) -> None:
        """A packet for each."""
        for payload in payloads:
            packet = sealed(connection_of(self.engine), payload)
            self.site.engine.receive(packet, self.address, 0, self.site.now)
        self.site.step()
