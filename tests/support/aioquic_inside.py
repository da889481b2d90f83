"""What tests see of aioquic that it doesn't show; with the two files of its pins the one place that does so.

``tests/transport/test_aioquic_private.py`` pins what the product leans on, ``test_aioquic_tls.py`` bends its handshake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnection, QuicReceiveContext
from aioquic.quic.crypto import CryptoPair
from aioquic.tls import Epoch
from cryptography.x509 import Certificate

from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.engine import Engine

__all__ = [
    "connection_of",
    "count_lost",
    "has_shaken_hands",
    "is_validated",
    "packet_threshold",
    "peer_certificate",
    "probes",
    "room",
    "take_crypto",
    "unparsed",
    "watch_key_updates",
]


def connection_of(engine: Engine) -> EngineConnection:
    """Of the engine's only connection."""
    assert isinstance(engine, AioquicEngine)
    (handle,) = engine.handles.values()
    assert isinstance(handle.quic, EngineConnection)
    return handle.quic


def is_validated(quic: QuicConnection) -> bool:
    """Whether the path in use is (RFC 9000 section 8.2)."""
    return quic._network_paths[0].is_validated


def has_shaken_hands(quic: QuicConnection) -> bool:
    """The handshake is complete."""
    return quic._handshake_complete


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
