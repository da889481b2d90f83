"""What a peer sends: packets and headers of spn/1, words of sc01, datagrams of QUIC, certificates."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.actors.contract.packets import Opening, OpeningKind, SessionRequest, own_kinds
from spnhub.events.model import EndPointType
from spnhub.pki import Authority
from spnhub.transport import protocol
from spnhub.transport.certificates import (
    CertificateRefused,
    check_chain,
    expiry_of,
    identify,
    verify_client,
    verify_server,
)
from spnhub.transport.engine import Address, ClientTrust, Opened, Readable
from spnhub.transport.native_engine import why_not
from spnhub.transport.pem import load_certificate, subject_of
from spnhub.transport.sc01.words import Word
from tests.fuzz.harness import Harness
from tests.schemas.samples import PACKETS, SECRET, UID, frames
from tests.support.attack import Insider, Site, Stranger, crypto_frame, stream_frame
from tests.support.engine_pair import Kit
from tests.support.engines import new_aioquic, new_native
from tests.support.odd_certificates import BIT_STRING, T61_STRING, odd_subject
from tests.transport.hub.bench import Bench, Peer
from tests.transport.hub.old_peer import OldPeer

__all__ = ["PEERS"]

_LONG: Final = (b"\xff\xff", b"\x7f\xff\xff\xff", b"\x80" * 9 + b"\x01", b"\xff" * 9 + b"\x01")


# ---- packets of spn/1 ----------------------------------------------------------------------------------------------


def _packets() -> list[bytes]:
    return [frame for name, frame in frames().items() if name in {type(one).__name__ for one in PACKETS}]


def _read_packets(data: bytes) -> None:
    """However the bytes are cut the packets are the same, and what was read can be sent on."""
    whole = protocol.PacketReader().feed(data)
    reader = protocol.PacketReader()
    place, found = 0, []
    while place < len(data):
        step = reader.wanted
        assert 1 <= step <= 0xFFFF + 4
        found += reader.feed(data[place : place + step])
        place += step
    assert found == whole
    for packet in whole:
        (again,) = protocol.PacketReader().feed(protocol.encode(packet, own_kinds()))
        assert again == packet


# ---- a hub, its engine and its actors ------------------------------------------------------------------------------


class _Hub:
    """A bench that many inputs go through, each as a session of its own; anew after some hundred."""

    bench: Bench | None = None
    used = 0

    @classmethod
    def anew(cls) -> Bench:
        """The bench, for one more input."""
        if cls.bench is None or cls.used % 200 == 0:
            cls.bench = Bench(on_fault=_on_fault)
            cls.bench.provider("honest")
        cls.used += 1
        return cls.bench

    @classmethod
    def peer(cls, role: EndPointType) -> Peer:
        """A peer with its QUIC connection and no session yet."""
        bench = cls.anew()
        peer = _Silent(bench, role, "server" if role is EndPointType.PROVIDER else "client", f"i{cls.used}")
        bench.settle(0.01)
        return peer


class _Silent(Peer):
    def connected(self) -> None:
        pass


def _on_fault(where: str, fault: BaseException) -> None:
    raise AssertionError(f"a fault in {where}") from fault


def _say(peer: Peer, stream_id: int, data: bytes) -> None:
    if peer.closed is None and data:
        peer.engine.write(peer.connection_id, stream_id, data)
        peer.node.flush()
    peer.bench.settle(0.01)


def _talk(data: bytes) -> None:
    """The first byte says who speaks and where; the rest is a session's control stream, or a data stream."""
    first, rest = data[:1] or b"\0", data[1:]
    role = EndPointType.PROVIDER if first[0] & 1 else EndPointType.CONSUMER
    peer = _Hub.peer(role)
    if first[0] & 2:
        request = SessionRequest(role, "urn:chip-in:service:acme:main:web", peer.instance_id)
        _say(peer, 0, protocol.encode(request))
    if first[0] & 4:
        stream_id = peer.engine.open_bidi(peer.connection_id)
        if stream_id is not None:
            _say(peer, stream_id, rest)
    else:
        _say(peer, 0, rest)
    if peer.closed is None:
        peer.close()
    peer.bench.settle(0.01)


def _talks() -> list[bytes]:
    opening = protocol.encode(Opening(OpeningKind.OPEN, UID, SECRET))
    whole = _packets()
    return [bytes([head]) + one for head in (0, 2, 3) for one in whole] + [
        bytes([head]) + opening + b"payload" for head in (6, 7)
    ]


def _sc01_session(data: bytes) -> None:
    """A datagram to the hub in a session of spn/1 or before it: no word of it is a fault."""
    provider = data[:1] == b"\1"
    peer = OldPeer(
        _Hub.anew(),
        EndPointType.PROVIDER if provider else EndPointType.CONSUMER,
        "server" if provider else "client",
    )
    peer.engine.send_datagram(peer.connection_id, data[1:1000])
    peer.node.flush()
    peer.bench.settle(0.01)
    if peer.closed is None:
        peer.close()
    peer.bench.settle(0.01)


# ---- QUIC ----------------------------------------------------------------------------------------------------------


class _Quic:
    """A server engine that many inputs go through."""

    def __init__(self, make: Callable[[], Kit]) -> None:
        self._make = make
        self._used = 0
        self._site: Site | None = None

    @property
    def site(self) -> Site:
        """An engine; anew after some hundred."""
        if self._site is None or self._used % 300 == 0:
            self._site = Site(self._make())
        self._used += 1
        return self._site

    def datagram(self, data: bytes) -> None:
        """As it is, from anybody."""
        site = self.site
        address = Address(0, ("198.51.100.1", 1024 + self._used % 60_000))
        site.engine.receive(data, address, 0, site.now)
        _end(site)

    def initial(self, data: bytes) -> None:
        """Frames in Initial packets that anybody can seal, as many as they take."""
        site = self.site
        stranger = Stranger(site, Address(0, ("198.51.100.2", 1024 + self._used % 60_000)))
        for begin in range(0, min(len(data), 4000), 1000):
            stranger.send(data[begin : begin + 1000])
        _end(site)

    def frames(self, data: bytes) -> None:
        """Frames of a peer that has shaken hands."""
        insider = Insider(self.site)
        insider.connect()
        for begin in range(0, min(len(data), 4400), 1100):
            # What a header's protection is taken from.
            insider.send(data[begin : begin + 1100].ljust(4, b"\0"))
        insider.carry()
        for event in insider.site.events:
            if isinstance(event, Opened | Readable):
                insider.site.engine.read(event.connection_id, event.stream_id, 65_536)
        _end(insider.site)


def _end(site: Site) -> None:
    site.step(0.01)
    site.events.clear()
    site.sent.clear()
    # What is left of the connection goes, so that inputs don't pile up.
    site.step(30.0)
    site.step(30.0)
    site.events.clear()
    site.sent.clear()


@functools.cache
def _handshake() -> tuple[bytes, ...]:
    """The datagrams of a client."""
    site = Site(new_aioquic())
    insider = Insider(site)
    sent: list[bytes] = []
    receive = site.engine.receive

    def tapped(data: bytes | bytearray | memoryview, *rest: object) -> object:
        sent.append(bytes(data))
        return receive(data, *rest)  # type: ignore[arg-type] # as it was called

    site.engine.receive = tapped  # type: ignore[method-assign, assignment] # only here
    insider.connect()
    return tuple(sent[:8])


_VERSIONS: Final = (bytes(4), bytes.fromhex("00000001"), bytes.fromhex("6b3343cf"), bytes.fromhex("1a2a3a4a"))
_FRAMES: Final = (
    stream_frame(
        0, 0, protocol.encode(SessionRequest(EndPointType.CONSUMER, "urn:chip-in:service:acme:main:web", "i"))
    ),
    stream_frame(4, 1000, b"later"),
    stream_frame(0, (1 << 62) - 2, b"x", fin=True),
    crypto_frame(0, b"\1\0\0\4abcd"),
    b"\x02\x00\x00\x00\x00",  # ACK
    b"\x03\x05\x00\x01\x00\x00\x00\x00\x00\x00",  # ACK_ECN
    b"\x04\x00\x05\x00",  # RESET_STREAM
    b"\x05\x00\x05",  # STOP_SENDING
    b"\x07\x04tokn",
    b"\x10\x40\x64",  # MAX_DATA
    b"\x11\x00\x40\x64",
    b"\x12\x40\x64",
    b"\x13\x40\x64",
    b"\x14\x05",
    b"\x15\x00\x05",
    b"\x16\x05",
    b"\x18\x01\x00\x08" + bytes(range(8)) + bytes(16),  # NEW_CONNECTION_ID
    b"\x19\x00",
    b"\x1a" + bytes(8),  # PATH_CHALLENGE
    b"\x1b" + bytes(8),
    b"\x1c\x01\x06\x03bad",
    b"\x1d\x01\x03bad",
    b"\x1e",
    b"\x31\x05hello",
    b"\x01",
)


def _quic(name: str, make: Callable[[], Kit]) -> tuple[Harness, ...]:
    engine = _Quic(make)
    return (
        Harness(
            f"datagram_{name}", f"UDP datagrams from anybody, in the {name} engine",
            engine.datagram, lambda: list(_handshake()), words=_VERSIONS,
        ),
        Harness(
            f"initial_{name}", f"frames of Initial packets from anybody, in the {name} engine",
            engine.initial, lambda: [*_FRAMES, b"".join(_FRAMES)], words=_FRAMES,
        ),
        Harness(
            f"frames_{name}", f"frames of a peer that has shaken hands, in the {name} engine",
            engine.frames, lambda: [*_FRAMES, b"".join(_FRAMES)], words=_FRAMES, slice=25,
        ),
    )  # fmt: skip


# ---- certificates --------------------------------------------------------------------------------------------------


@functools.cache
def _authority() -> Authority:
    return Authority.create("fuzzed")


@functools.cache
def _chains() -> tuple[bytes, ...]:
    mine = _authority()
    whole = [
        mine.client("alice").certificate,
        mine.client("alice", organization="x" * 200).certificate,
        mine.server("hub.test").certificate,
        mine.certificate,
        odd_subject(mine, T61_STRING, b"cli\xe9nt").certificate,
        odd_subject(mine, BIT_STRING, b"\0clien").certificate,
    ]
    return tuple(x509.load_pem_x509_certificate(one).public_bytes(Encoding.DER) for one in whole)


_MOMENT: Final = datetime(2026, 6, 1, tzinfo=UTC)


def _certificate(data: bytes) -> None:
    """One that TLS has taken off the wire: whoever has to judge it says no, and raises nothing."""
    identify(data)
    expiry_of(data)
    check_chain([data], ClientTrust(_authority().certificate), _MOMENT)
    try:
        certificate = load_certificate(data)
    except ValueError:
        return
    subject_of(certificate)
    with contextlib.suppress(CertificateRefused):
        verify_client((data,), ClientTrust(_authority().certificate), _MOMENT)
    with contextlib.suppress(CertificateRefused):
        verify_server((data,), _authority().certificate, "hub.test", _MOMENT)


PEERS: Final = (
    Harness(
        "packets", "packets of spn/1 on a stream", _read_packets, _packets, (protocol.ProtocolError,), words=_LONG,
    ),
    Harness("session", "what an endpoint says to a hub on its streams", _talk, _talks, words=_LONG),
    Harness(
        "sc01", "datagrams of sc01 to a hub", _sc01_session,
        lambda: [head + word.value for head in (b"\0", b"\1") for word in Word],
    ),
    *_quic("aioquic", new_aioquic),
    *(_quic("native", new_native) if why_not() is None else ()),
    Harness("certificate", "a certificate that a peer shows, DER", _certificate, lambda: list(_chains())),
)  # fmt: skip
