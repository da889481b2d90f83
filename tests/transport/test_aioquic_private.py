"""Each private piece of aioquic that the engine leans on: when one of these fails, read what changed before moving on.

What :mod:`spnhub.transport.aioquic_engine.connection` replaces is pinned by the text of the original; what it uses is
pinned by what it does.
"""

from __future__ import annotations

import hashlib
import inspect

import aioquic
import pytest
from aioquic import tls
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender

from spnhub.transport.engine import Limits, Readable
from tests.support.engine_pair import EnginePair
from tests.transport.test_engine_conformance import _aioquic


def digest(function: object) -> str:
    """A short digest of a function's source."""
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]  # type: ignore[arg-type]


REPLACED = {
    QuicConnection._write_application: "c37bf64378f7",
    QuicConnection._write_connection_limits: "02c42c5455ae",
    QuicConnection._write_stream_limits: "398d4a898f7c",
    QuicConnection._write_stream_frame: "9bc0be962394",
    QuicConnection._write_reset_stream_frame: "72c28abb1c9b",
    QuicConnection._write_stop_sending_frame: "057f50750f9f",
    QuicConnection._initialize: "6a41681e541c",
    QuicConnection._handle_stream_frame: "8c79348a854e",
    QuicConnection._handle_reset_stream_frame: "0a1801842064",
    QuicConnection._handle_stop_sending_frame: "57b0b54a8467",
    QuicConnection._get_or_create_stream: "aee09c84cd0d",
    QuicConnection._get_or_create_stream_for_send: "b68479a29862",
    QuicConnection._stream_is_discarded: "d4812b696802",
    QuicConnection.datagrams_to_send: "f4eb22c8add2",
    QuicConnection.get_timer: "07184a05f894",
    QuicConnection.close: "f24ea1b2912e",
    QuicStreamSender.get_frame: "c9d68a424b94",
    QuicStreamSender.on_data_delivery: "675e1c2812ea",
    QuicStreamSender.reset: "76d86e366e8e",
    QuicStreamReceiver.handle_frame: "c54bce9f11e6",
    QuicPacketBuilder.start_frame: "53af20167bc2",
    tls.Context._server_handle_hello: "ce53cc7baafe",
    tls.Context._server_handle_certificate: "8300245453e1",
    tls.Context._server_handle_certificate_verify: "54a8dfacdbb9",
    tls.pull_client_hello: "cbc3140d2e25",
}
"""Replaced or mirrored by ours; the digest is of the text that ours was written against."""


def test_version_is_the_one_that_was_read() -> None:
    """The pin in pyproject.toml and this file move together."""
    assert aioquic.__version__ == "1.7.2"


@pytest.mark.parametrize("function", list(REPLACED), ids=lambda f: f.__qualname__)
def test_what_is_replaced_or_mirrored_has_not_changed(function: object) -> None:
    """A changed original may hold a fix or a field that ours lacks."""
    assert digest(function) == REPLACED[function]  # type: ignore[index]


def test_reset_after_an_acknowledged_fin_does_nothing() -> None:
    """Why a reset travels as STOP_SENDING then (D-18)."""
    sender = QuicStreamSender(0, writable=True)
    sender.write(b"", end_stream=True)
    frame = sender.get_frame(100)
    assert frame is not None and frame.fin
    sender.on_data_delivery(QuicDeliveryState.ACKED, 0, 0, True)
    sender.reset(7)
    assert (sender.is_finished, sender.reset_pending) == (True, False)


def test_sender_keeps_unsent_bytes_between_highest_offset_and_buffer_stop() -> None:
    """The room on a stream is computed from these two."""
    sender = QuicStreamSender(0, writable=True)
    sender.write(b"x" * 100)
    sender.get_frame(60)
    assert (sender.highest_offset, sender._buffer_stop, len(sender._pending)) == (60, 100, 1)


def test_credit_follows_reading_and_nothing_else() -> None:
    """aioquic alone would double the windows on receipt; ours stay until the bytes are read."""
    pair = EnginePair(_aioquic()).connect()
    s = pair.open()
    size = pair.client.engine.write(pair.client.c, s, b"z" * 100_000)
    pair.run_for(1.0)
    info = pair.server.engine.info(pair.server.c)
    assert info is not None
    assert info.buffered == Limits().stream_window - 1  # one byte was read by open()
    assert size == Limits().send_buffer
    assert Readable(pair.server.c, s) in pair.server.events
    pair.read_all(pair.server, s, size)


def test_unsent_bytes_of_all_streams_are_counted_exactly_and_bounded() -> None:
    """Hundreds of stalled streams get a quarter of their buffer each; resets of either side give theirs back."""
    limits = Limits()
    pair = EnginePair(_aioquic()).connect()
    streams = [pair.open() for _ in range(400)]
    quic = next(iter(pair.client.engine._links.values())).quic  # type: ignore[attr-defined]
    for s in streams:
        for _ in range(3):
            pair.client.engine.write(pair.client.c, s, b"z" * limits.send_buffer)
        pair.run_for(0.01)
    assert quic._unsent_total <= limits.send_budget + len(streams) * limits.send_buffer // 4

    def held() -> int:
        senders = [record.stream.sender for record in quic.records.values()]
        return sum(s._buffer_stop - s.highest_offset for s in senders if s._reset_error_code is None)

    assert quic._unsent_total == held() > limits.send_budget
    for s in streams[::3]:
        pair.client.engine.reset(pair.client.c, s, 7)
    for s in streams[1::3]:
        pair.server.engine.stop(pair.server.c, s, 7)
    pair.run_for(1.0)
    assert quic._unsent_total == held() > 0
    for s in streams[2::3]:
        pair.client.engine.finish(pair.client.c, s)
        while pair.server.engine.read(pair.server.c, s, 65536):
            pair.run_for(0.01)
    pair.run_for(1.0)
    assert quic._unsent_total == held() == 0


def test_work_per_packet_does_not_walk_idle_streams() -> None:
    """Idle streams are in neither of the collections that the writing of a packet looks at."""
    pair = EnginePair(_aioquic()).connect()
    streams = [pair.open() for _ in range(50)]
    pair.run_for(1.0)
    for side in (pair.client, pair.server):
        quic = next(iter(side.engine._links.values())).quic  # type: ignore[attr-defined]
        assert len(quic._streams) == len(quic.records) == len(streams)
        assert (len(quic._ready), len(quic._streams_queue), len(quic._credit_due)) == (0, 0, 0)
