"""What tests see of aioquic that it doesn't show; with the two files of its pins the one place that does so.

``tests/transport/test_aioquic_private.py`` pins what the product leans on, ``test_aioquic_tls.py`` bends its handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aioquic import tls
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicReceiveContext
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.events import StopSendingReceived, StreamReset
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.tls import Epoch
from cryptography.x509 import Certificate

from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.engine import Engine

__all__ = [
    "OptionalProtocols",
    "acknowledged_ahead",
    "client_hello",
    "connection_of",
    "count_lost",
    "has_shaken_hands",
    "hear_again",
    "is_validated",
    "open_flight",
    "packet_threshold",
    "peer_certificate",
    "probes",
    "room",
    "sealed",
    "sealed_initial",
    "show_certificate",
    "take_crypto",
    "unparsed",
    "watch_key_updates",
]


class OptionalProtocols(AioquicEngine):
    """A client that may leave ALPN out, which an endpoint of ours never does."""

    def __init__(self, *arguments: Any, offers_protocols: bool, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._offers_protocols = offers_protocols

    def _configuration(self, **values: object) -> QuicConfiguration:
        configuration = super()._configuration(**values)
        if not self._offers_protocols:
            configuration.alpn_protocols = None
        return configuration


def connection_of(engine: Engine, connection_id: int | None = None) -> EngineConnection:
    """Of the engine's only connection, or of this one."""
    assert isinstance(engine, AioquicEngine)
    (handle,) = engine.handles.values() if connection_id is None else (engine.handles[connection_id],)
    assert isinstance(handle.quic, EngineConnection)
    return handle.quic


def is_validated(quic: QuicConnection) -> bool:
    """Whether the path in use is (RFC 9000 section 8.2)."""
    return quic._network_paths[0].is_validated


def has_shaken_hands(quic: QuicConnection) -> bool:
    """The handshake is complete."""
    return quic._handshake_complete


def hear_again(quic: EngineConnection, stream_id: int) -> None:
    """As aioquic tells of a STOP_SENDING or a RESET_STREAM that the peer repeats: of each."""
    quic._events.append(StopSendingReceived(8, stream_id))
    quic._events.append(StreamReset(7, stream_id))


def room(quic: QuicConnection, stream_id: int) -> int:
    """Bytes that wait on a stream that this side has opened."""
    sender = quic._streams[stream_id].sender
    return sender._buffer_stop - sender.highest_offset


def peer_certificate(protocol: QuicConnectionProtocol) -> Certificate | None:
    """What the server has shown so far."""
    return protocol._quic.tls._peer_certificate


# ---- loss recovery -------------------------------------------------------------------------------------------------


def probes(quic: QuicConnection) -> int:
    """Probe timeouts in a row."""
    return quic._loss._pto_count


def packet_threshold(quic: EngineConnection) -> int:
    """Packets by which one may be late before it counts as lost."""
    return quic._recovery._packet_threshold


def count_lost(quic: EngineConnection, heard: Callable[[int], None]) -> None:
    """Have ``heard`` called with each number of packets that are given up."""
    recovery = quic._recovery
    original = recovery._on_packets_lost

    def count(*, packets: list[object], **rest: object) -> None:
        heard(len(packets))
        original(packets=packets, **rest)  # type: ignore[arg-type]

    recovery._on_packets_lost = count  # type: ignore[method-assign, assignment]


# ---- keys and TLS --------------------------------------------------------------------------------------------------


def watch_key_updates(monkeypatch: pytest.MonkeyPatch, heard: Callable[[str, int], None]) -> None:
    """Have ``heard`` called at each update with who began it, and the packets that the old key has protected."""
    original = CryptoPair._update_key

    def update_key(pair: Any, trigger: str) -> None:
        heard(trigger, pair._sent)
        original(pair, trigger)

    monkeypatch.setattr(CryptoPair, "_update_key", update_key)


def unparsed(quic: QuicConnection, data: bytes) -> None:
    """Let TLS have this of a message that isn't complete."""
    quic.tls._receive_buffer = data


def take_crypto(quic: QuicConnection, epoch: Epoch, end: int) -> None:
    """Ten bytes of a CRYPTO frame come in, which end so far behind what was taken."""
    taken = quic._crypto_streams[epoch].receiver.starting_offset()
    frame = Buffer(capacity=64)
    frame.push_uint_var(taken + end - 10)
    frame.push_uint_var(10)
    frame.push_bytes(bytes(10))
    context = QuicReceiveContext(epoch, b"", quic._network_paths[0], None, 0.0, 1)
    quic._handle_crypto_frame(context, 6, Buffer(data=frame.data))


def sealed(quic: QuicConnection, frames: bytes) -> bytes:
    """A 1-RTT packet to the peer with these frames, whatever they are; the connection knows nothing of it."""
    number = quic._packet_number
    quic._packet_number += 1
    header = b"\x41" + quic._peer_cid.cid + (number & 0xFFFF).to_bytes(2)
    return quic._cryptos[Epoch.ONE_RTT].encrypt_packet(header, frames, number)


def sealed_initial(cid: bytes, frames: bytes, number: int, *, token: bytes = b"") -> bytes:
    """A client's Initial packet of 1,200 bytes with these frames and PADDING."""
    crypto = CryptoPair()
    crypto.setup_initial(cid=cid, is_client=True, version=QuicProtocolVersion.VERSION_1)
    header = Buffer(capacity=600)
    header.push_bytes(b"\xc1" + QuicProtocolVersion.VERSION_1.to_bytes(4))
    header.push_bytes(bytes([len(cid)]) + cid + bytes([len(cid)]) + cid)
    header.push_uint_var(len(token))
    header.push_bytes(token)
    rest = 1200 - header.tell() - 2
    header.push_uint16(0x4000 | rest)
    header.push_uint16(number)
    payload = frames.ljust(rest - 2 - 16, b"\0")
    assert len(payload) == rest - 2 - 16, "too many frames for a packet"
    return crypto.encrypt_packet(header.data, payload, number)


def client_hello(server_name: str) -> bytes:
    """A ClientHello for a name of any length, as a TLS message."""
    hello = tls.ClientHello(
        bytes(32),
        b"",
        [tls.CipherSuite.AES_128_GCM_SHA256],
        [0],
        alpn_protocols=["spn/1"],
        key_share=[(tls.Group.X25519, bytes(range(32)))],
        server_name=server_name,
        signature_algorithms=[tls.SignatureAlgorithm.ECDSA_SECP256R1_SHA256],
        supported_groups=[tls.Group.X25519],
        supported_versions=[tls.TLS_VERSION_1_3],
    )
    buffer = Buffer(capacity=len(server_name) + 1024)
    tls.push_client_hello(buffer, hello)
    return buffer.data


class _Shown:
    """What TLS asks of a certificate that it shows."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, _: object) -> bytes:
        return self._der


def show_certificate(quic: QuicConnection, der: bytes) -> None:
    """Let a client that is about to shake hands show this, which no library here reads."""
    quic.tls.certificate = _Shown(der)  # type: ignore[assignment] # all that is asked of it is its bytes
    quic.tls.certificate_chain = []
    quic._crypto_buffers[Epoch.HANDSHAKE] = Buffer(capacity=len(der) + 8192)


def open_flight(quic: QuicConnection) -> None:
    """Let a connection send a megabyte before anything is acknowledged."""
    quic._loss._cc.congestion_window = 1 << 20


def acknowledged_ahead(quic: QuicConnection) -> int:
    """Bytes of TLS messages that the peer has acknowledged of a handshake while some before them are missing."""
    return sum(len(one) for one in quic._crypto_streams[Epoch.HANDSHAKE].sender._acked)
