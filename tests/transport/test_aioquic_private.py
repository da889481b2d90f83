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
from aioquic.quic.recovery import QuicPacketRecovery
from aioquic.quic.stream import QuicStreamReceiver, QuicStreamSender

from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.aioquic_engine.reassembly import Receiver
from spnhub.transport.aioquic_engine.recovery import Recovery
from spnhub.transport.aioquic_engine.resets import reset_token
from spnhub.transport.engine import Closed, CloseKind, Limits, Readable
from tests.support.aioquic_inside import sealed
from tests.support.attack import stream_frame
from tests.support.engine_pair import EnginePair
from tests.support.engines import new_aioquic


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
    QuicConnection._replenish_connection_ids: "73b127efb89c",
    QuicConnection._write_new_connection_id_frame: "8e58e506ea36",
    QuicConnection._serialize_transport_parameters: "be651f3ddfcd",
    QuicConnection._send_probe: "4578820ab6bb",
    QuicPacketRecovery.reschedule_data: "a012ca1263fb",
    QuicPacketRecovery._detect_loss: "56e5a246bb22",
    QuicPacketRecovery.on_ack_received: "1a7c69347908",
    QuicPacketRecovery.on_loss_detection_timeout: "50d7fd652fe6",
    QuicPacketRecovery.get_loss_detection_time: "de155cb9bef9",
    QuicConnection.handle_timer: "8ebd76a179bf",
    QuicConnection._abandon_path_validation: "bd71c1680e70",
    QuicConnection._on_path_challenge_delivery: "c3f244b8037e",
    QuicConnection._write_path_challenge_frame: "71e5ebefcc60",
    QuicConnection._path_validation_deadline: "9fefee30b80f",
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
    QuicStreamReceiver.__init__: "d7dd149186a6",
    QuicStreamReceiver.starting_offset: "5499cbac7273",
    QuicStreamReceiver.handle_reset: "3a2b7a53512a",
    QuicStreamReceiver.stop: "8c48d058420a",
    QuicStreamReceiver.get_stop_frame: "affcdd65f5e9",
    QuicStreamReceiver.on_stop_sending_delivery: "25979d1ce34a",
    QuicConnection._handle_crypto_frame: "e77f8695d9ac",
    QuicConnection._payload_received: "612b67759a96",
    QuicConnection.receive_datagram: "3c7f29826050",
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
    pair = EnginePair(new_aioquic()).connect()
    stream_id = pair.open()
    size = pair.client.engine.write(pair.client.connection_id, stream_id, b"z" * 100_000)
    pair.run_for(1.0)
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    assert info.buffered == Limits().stream_window - 1  # one byte was read by open()
    assert size == Limits().send_buffer
    assert Readable(pair.server.connection_id, stream_id) in pair.server.events
    pair.read_all(pair.server, stream_id, size)


def test_unsent_bytes_of_all_streams_are_counted_exactly_and_bounded() -> None:
    """Hundreds of stalled streams get a quarter of their buffer each; resets of either side give theirs back."""
    limits = Limits()
    pair = EnginePair(new_aioquic()).connect()
    streams = [pair.open() for _ in range(400)]
    quic = next(iter(pair.client.engine.handles.values())).quic  # type: ignore[attr-defined]
    for stream_id in streams:
        for _ in range(3):
            pair.client.engine.write(pair.client.connection_id, stream_id, b"z" * limits.send_buffer)
        pair.run_for(0.01)
    assert quic._unsent_total <= limits.send_budget + len(streams) * limits.send_buffer // 4

    def held() -> int:
        senders = [record.stream.sender for record in quic.records.values()]
        return sum(
            stream_id._buffer_stop - stream_id.highest_offset
            for stream_id in senders
            if stream_id._reset_error_code is None
        )

    assert quic._unsent_total == held() > limits.send_budget
    for stream_id in streams[::3]:
        pair.client.engine.reset(pair.client.connection_id, stream_id, 7)
    for stream_id in streams[1::3]:
        pair.server.engine.stop(pair.server.connection_id, stream_id, 7)
    pair.run_for(1.0)
    assert quic._unsent_total == held() > 0
    for stream_id in streams[2::3]:
        pair.client.engine.finish(pair.client.connection_id, stream_id)
        while pair.server.engine.read(pair.server.connection_id, stream_id, 65536):
            pair.run_for(0.01)
    pair.run_for(1.0)
    assert quic._unsent_total == held() == 0


def test_work_per_packet_does_not_walk_idle_streams() -> None:
    """Idle streams are in neither of the collections that the writing of a packet looks at."""
    pair = EnginePair(new_aioquic()).connect()
    streams = [pair.open() for _ in range(50)]
    pair.run_for(1.0)
    for side in (pair.client, pair.server):
        quic = next(iter(side.engine.handles.values())).quic  # type: ignore[attr-defined]
        assert len(quic._streams) == len(quic.records) == len(streams)
        assert not any((quic._ahead, quic._turns, quic._streams_queue, quic._credit_due))


def test_what_comes_out_of_order_is_ours_from_the_first_frame() -> None:
    """On streams of either side, and on those of TLS messages; aioquic makes its own beside each sender."""
    pair = EnginePair(new_aioquic()).connect()
    pair.open()
    for quic in _only(pair):
        streams = [*quic._streams.values(), *quic._crypto_streams.values()]
        assert len(streams) == 4
        assert all(type(stream.receiver) is Receiver for stream in streams)


def test_a_packet_without_room_is_not_acknowledged() -> None:
    """What is raised in a frame's handler leaves the connection as if the packet had been lost."""
    limits = Limits(reassembly_session=1500, reassembly=0)
    pair = EnginePair(new_aioquic(), limits).connect()
    pair.run_for(1.0)
    client, server = _only(pair)
    space = server._spaces[tls.Epoch.ONE_RTT]
    for offset, taken in ((1000, True), (3000, False), (0, True)):
        number = client._packet_number
        packet = sealed(client, stream_frame(0, offset, bytes(1000)))
        server.receive_datagram(packet, server._network_paths[0].addr, pair.clock.now())
        assert (number in space.received_packets) is taken
    assert server.close_event is None


KEY = bytes(range(32))


def _only(pair: EnginePair) -> tuple[EngineConnection, EngineConnection]:
    """aioquic's connections of the client and of the server."""
    client, server = (next(iter(side.engine.handles.values())).quic for side in (pair.client, pair.server))  # type: ignore[attr-defined]
    return client, server


def test_reset_tokens_follow_from_the_key() -> None:
    """Those in the transport parameters and in NEW_CONNECTION_ID; aioquic alone would make random ones."""
    pair = EnginePair(new_aioquic(), reset_key=KEY).connect()
    pair.run_for(1.0)
    client, server = _only(pair)
    known = [client._peer_cid, *client._peer_cid_available]
    assert len(known) == len(server._host_cids) == 8
    assert [one.stateless_reset_token for one in known] == [reset_token(KEY, one.cid) for one in known]
    assert [one.sequence_number for one in known] == list(range(8))
    # The client has no key; its first id has no token at all (RFC 9000 section 18.2).
    assert client._host_cids[0].stateless_reset_token is None


def test_every_id_that_the_peer_was_told_of_is_routed() -> None:
    """A packet to an id that is ours must never be answered with a reset."""
    pair = EnginePair(new_aioquic(), reset_key=KEY).connect()
    pair.run_for(1.0)
    client, server = _only(pair)
    for side, quic in ((pair.client, client), (pair.server, server)):
        assert {one.cid for one in quic._host_cids} <= set(side.engine._cids)  # type: ignore[attr-defined]


def test_another_connection_id_has_another_token() -> None:
    """A client that has changed its peer's id still knows the reset of a hub that started again."""
    pair = EnginePair(new_aioquic(), reset_key=KEY).connect()
    stream_id = pair.open()
    client, _ = _only(pair)
    before = client.peer_reset_token
    client.change_connection_id()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"x")
    assert pair.read_all(pair.server, stream_id, 1) == (b"x", False)
    pair.run_for(1.0)
    assert client.peer_reset_token != before
    assert pair.client.of(Closed) == []
    pair.server.node.crash()
    pair.restart_server()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"x")
    pair.run_until(lambda: bool(pair.client.of(Closed)), limit=1)
    assert pair.client.of(Closed)[0].kind is CloseKind.RESET


def test_a_probe_waits_for_no_congestion_window() -> None:
    """A full window must not keep back what asks whether the peer still lives."""
    pair = EnginePair(new_aioquic()).connect()
    stream_id = pair.open()
    client, _ = _only(pair)
    pair.server.node.crash(host_lives=False)
    client._loss._cc.congestion_window = 2400
    pair.client.engine.write(pair.client.connection_id, stream_id, b"z" * 20_000)
    pair.client.node.turn()
    assert client._loss.bytes_in_flight + 1200 > client._loss.congestion_window
    before = client._packet_number
    pair.client.engine.unreachable(pair.client.engine.handles[pair.client.connection_id].address, pair.clock.now())  # type: ignore[attr-defined]
    pair.client.node.turn()
    assert client._packet_number == before + 1


def test_an_acknowledgement_moves_the_count_of_acknowledgements() -> None:
    """Whether a peer has answered is seen by it, and by nothing else that comes in."""
    pair = EnginePair(new_aioquic()).connect()
    stream_id = pair.open()
    pair.run_for(1.0)
    client, _ = _only(pair)
    before = client.acknowledged
    pair.server.engine.write(pair.server.connection_id, stream_id, b"data alone")
    pair.run_for(1.0)
    assert client.acknowledged == before
    pair.client.engine.write(pair.client.connection_id, stream_id, b"wants an answer")
    pair.client.node.turn()
    assert client.unanswered
    pair.run_for(1.0)
    assert client.acknowledged > before
    assert not client.unanswered


def test_recovery_is_ours_from_the_first_packet() -> None:
    """aioquic makes its own in the constructor; ours takes its place before anything was sent."""
    pair = EnginePair(new_aioquic()).connect()
    for quic in _only(pair):
        assert type(quic._loss) is Recovery
        assert quic._loss is quic._recovery


def test_a_challenge_is_answered_once_and_sent_again_by_us() -> None:
    """aioquic takes a challenge whose packet was acknowledged for done, whether or not the answer came."""
    pair = EnginePair(new_aioquic()).connect()
    stream_id = pair.open()
    pair.run_for(1.0)
    client, server = _only(pair)
    client._write_path_response_frame = lambda builder, challenge: None  # type: ignore[method-assign]
    pair.client.node.rebind()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"from elsewhere")
    assert pair.read_all(pair.server, stream_id, 14) == (b"from elsewhere", False)
    pair.run_until(lambda: len(server._network_paths[0].local_challenges) == 2, limit=0.3)
    assert not server._network_paths[0].is_validated
    del client._write_path_response_frame
    pair.run_until(lambda: server._network_paths[0].is_validated, limit=0.3)


def test_a_challenge_waits_for_no_congestion_window() -> None:
    """What was under way to the old address fills the window, and must not keep back what asks at the new one."""
    pair = EnginePair(new_aioquic()).connect()
    stream_id = pair.open()
    _, server = _only(pair)
    pair.run_for(1.0)
    pair.client.node.rebind()
    server._loss._cc.congestion_window = 2400
    pair.server.engine.write(pair.server.connection_id, stream_id, b"z" * 20_000)
    pair.server.node.turn()
    assert server._loss.bytes_in_flight + 1200 > server._loss.congestion_window
    pair.client.engine.write(pair.client.connection_id, stream_id, b"from elsewhere")
    pair.run_until(lambda: len(server._network_paths) == 2 and server._network_paths[0].is_validated, limit=0.025)
