"""What :mod:`spnhub.transport.engine` promises, tried on every engine.

A new engine is one more kit in :mod:`tests.support.engines`.
"""

from __future__ import annotations

import pytest

from spnhub.transport.engine import (
    LOST_CODE,
    Answered,
    Available,
    Closed,
    CloseKind,
    Connected,
    DatagramReceived,
    Engine,
    HandshakeRefused,
    Limits,
    Opened,
    Outcome,
    OutcomeKind,
    Readable,
    Reset,
    ServerIdentity,
    ServerPolicy,
    Spliced,
    Stopped,
    Unresponsive,
    Writable,
)
from tests.support.engine_pair import SERVER, EnginePair, Kit
from tests.support.engines import ENGINES, each


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


@pytest.fixture
def pair(kit: Kit) -> EnginePair:
    """Client and server with a connection that is up."""
    return EnginePair(kit).connect()


# ------------------------------------------------------------------------------------------------------- handshakes


def test_both_sides_learn_who_the_other_is(pair: EnginePair) -> None:
    """Connected: server name, verified certificates, ALPN and one common connection id on both sides."""
    (here,), (there,) = pair.client.of(Connected), pair.server.of(Connected)
    assert (here.connection_id, here.server_name, here.alpn) == (pair.client.connection_id, "hub.test", "spn/1")
    assert (there.connection_id, there.server_name, there.alpn) == (pair.server.connection_id, "hub.test", "spn/1")
    assert here.cid == there.cid
    assert here.address.remote == SERVER
    assert len(here.certificates) >= 1
    assert len(there.certificates) >= 1


def test_unknown_server_name_is_refused(kit: Kit) -> None:
    """An SNI without identity: unrecognized_name to the client, HandshakeRefused here, no Connected anywhere (D-19)."""
    pair = EnginePair(kit)
    connection_id = pair.begin(server_name="other.test")
    pair.run_until(lambda: bool(pair.client.of(Closed)) and bool(pair.server.of(HandshakeRefused)))
    (closed,), (refused,) = pair.client.of(Closed), pair.server.of(HandshakeRefused)
    assert (closed.connection_id, closed.kind, closed.code) == (connection_id, CloseKind.PEER_TRANSPORT, 0x100 + 112)
    assert (refused.server_name, refused.alert, refused.subject) == ("other.test", 112, None)
    assert (pair.client.of(Connected), pair.server.of(Connected)) == ([], [])


def test_client_certificate_of_another_ca_is_refused(kit: Kit) -> None:
    """The server never says Connected; it names the subject; the client hears the alert, perhaps after Connected."""
    pair = EnginePair(kit)
    pair.begin(credentials=kit.stranger)
    pair.run_until(lambda: bool(pair.client.of(Closed)) and bool(pair.server.of(HandshakeRefused)))
    (closed,), (refused,) = pair.client.of(Closed), pair.server.of(HandshakeRefused)
    assert (closed.kind, closed.code) == (CloseKind.PEER_TRANSPORT, 0x100 + 48)
    assert (refused.alert, refused.subject) == (48, "CN=mallory")
    assert pair.server.of(Connected) == []


def test_untrusted_server_is_refused_by_the_client(kit: Kit) -> None:
    """A server certificate of a CA that the client doesn't trust: Closed without Connected."""
    pair = EnginePair(kit)
    pair.begin(trust=kit.client_ca)
    pair.run_until(lambda: bool(pair.client.of(Closed)) and bool(pair.server.of(HandshakeRefused)))
    assert 0x100 <= pair.client.of(Closed)[0].code < 0x200
    assert (pair.client.of(Connected), pair.server.of(Connected)) == ([], [])


def test_nobody_answers(kit: Kit) -> None:
    """A handshake that meets only silence ends after the handshake timeout."""
    pair = EnginePair(kit)
    pair.network.cut(pair.client.node, pair.server.node)
    connection_id = pair.begin()
    began = pair.clock.now()
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert pair.client.of(Closed)[0].connection_id == connection_id
    assert pair.clock.now() - began <= Limits().handshake_timeout + 1


def test_new_policy_serves_new_connections_only(pair: EnginePair) -> None:
    """Identities are exchanged as a whole; what is up stays up."""
    kit = pair.kit
    identity = ServerIdentity(kit.server.chain, kit.server.key, kit.client_ca, ("spn/1",))
    pair.server.engine.set_policy(ServerPolicy({"new.test": identity}))
    old = pair.begin(server_name="hub.test")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert [closed.connection_id for closed in pair.client.of(Closed)] == [old]
    assert pair.open(b"still here") == 0


def test_names_of_one_socket(kit: Kit) -> None:
    """``by_socket`` replaces the names where it says something about the socket."""
    pair = EnginePair(kit)
    identity = ServerIdentity(kit.server.chain, kit.server.key, kit.client_ca, ("spn/1",))
    pair.server.engine.set_policy(ServerPolicy({"other.test": identity}, {0: {"hub.test": identity}}))
    pair.connect()
    refused = pair.begin(server_name="other.test")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert [closed.connection_id for closed in pair.client.of(Closed)] == [refused]


def test_unusable_identity_is_named(kit: Kit) -> None:
    """A certificate that can't be used is refused with the server's name in the message."""
    engine = kit.make(Limits())
    with pytest.raises(ValueError, match=r"bad\.test"):
        engine.set_policy(ServerPolicy({"bad.test": ServerIdentity(b"", b"", b"", ("spn/1",))}))


# -------------------------------------------------------------------------------------------------- ends of connections


def test_close_carries_code_and_reason(pair: EnginePair) -> None:
    """Closed LOCAL here, PEER with the same code and reason there."""
    pair.client.engine.close(pair.client.connection_id, 18, "because")
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    assert pair.client.of(Closed) == [Closed(pair.client.connection_id, CloseKind.LOCAL, 18, "because")]
    assert pair.server.of(Closed) == [Closed(pair.server.connection_id, CloseKind.PEER, 18, "because")]
    assert pair.client.engine.info(pair.client.connection_id) is None


def test_a_timer_does_not_swallow_a_close(pair: EnginePair) -> None:
    """A timer that is due between close and the next turn leaves it a close, for the peer too."""
    due = pair.client.engine.timer()
    assert due is not None
    pair.client.engine.close(pair.client.connection_id, 18, "because")
    pair.client.engine.handle_timer(due)
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    assert pair.client.of(Closed) == [Closed(pair.client.connection_id, CloseKind.LOCAL, 18, "because")]
    assert pair.server.of(Closed) == [Closed(pair.server.connection_id, CloseKind.PEER, 18, "because")]


def test_calls_on_what_is_gone_do_nothing(pair: EnginePair) -> None:
    """The peer may end anything at any moment, so late calls are harmless."""
    stream_id = pair.open()
    pair.client.engine.close(pair.client.connection_id, 0, "")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    engine, connection_id = pair.client.engine, pair.client.connection_id
    assert (
        engine.read(connection_id, stream_id, 10),
        engine.write(connection_id, stream_id, b"late"),
        engine.open_bidi(connection_id),
    ) == (None, 0, None)
    engine.finish(connection_id, stream_id)
    engine.reset(connection_id, stream_id, 1)
    engine.stop(connection_id, stream_id, 1)
    engine.cork(connection_id)
    engine.release(connection_id)
    engine.close(connection_id, 1, "again")
    engine.send_datagram(connection_id, b"late")
    assert (engine.info(connection_id), engine.splice_progress(99)) == (None, None)
    pair.run_for(1)
    assert len(pair.client.of(Closed)) == 1


def test_silence_ends_a_connection(pair: EnginePair) -> None:
    """Nothing heard for the idle timeout: Closed IDLE on both sides."""
    pair.network.cut(pair.client.node, pair.server.node)
    pair.run_until(lambda: bool(pair.client.of(Closed)) and bool(pair.server.of(Closed)), limit=40)
    assert [closed.kind for closed in pair.client.of(Closed)] == [CloseKind.IDLE]
    assert [closed.kind for closed in pair.server.of(Closed)] == [CloseKind.IDLE]


def test_keep_alive_keeps_an_idle_connection(pair: EnginePair) -> None:
    """Keep-alives bridge any length of silence of the applications."""
    pair.run_for(120)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])


def test_a_stalled_peer_is_suspect_until_it_answers(pair: EnginePair) -> None:
    """Unanswered data: Unresponsive; the next answer: Answered; nothing is lost (D-20)."""
    stream_id = pair.open()
    pair.network.cut(pair.client.node, pair.server.node)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"into the void")
    pair.run_until(lambda: bool(pair.client.of(Unresponsive)), limit=10)
    assert pair.client.of(Answered) == []
    pair.network.heal(pair.client.node, pair.server.node)
    pair.run_until(lambda: bool(pair.client.of(Answered)), limit=15)
    assert pair.read_all(pair.server, stream_id, 13) == (b"into the void", False)
    assert pair.client.of(Closed) == []


@pytest.mark.parametrize(
    ("hints", "kind"),
    [
        ((False,), CloseKind.UNREACHABLE),
        ((True,), CloseKind.PORT_CLOSED),
        ((False, True), CloseKind.PORT_CLOSED),
        ((True, False), CloseKind.PORT_CLOSED),
    ],
)
def test_unreachable_and_silent_is_lost(pair: EnginePair, hints: tuple[bool, ...], kind: CloseKind) -> None:
    """A hint starts a probe; unanswered within the probe timeout: lost, and whether the peer's host had said why."""
    pair.network.cut(pair.server.node, pair.client.node)
    for port_closed in hints:
        address = pair.client.of(Connected)[0].address
        pair.client.engine.unreachable(address, pair.clock.now(), port_closed=port_closed)
    began = pair.clock.now()
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert [closed.kind for closed in pair.client.of(Closed)] == [kind]
    assert pair.clock.now() - began <= Limits().probe_timeout + 0.1


def test_unreachable_but_answering_lives(pair: EnginePair) -> None:
    """A hint alone, forged or stale, ends nothing, and nothing of it stays."""
    address = pair.client.of(Connected)[0].address
    pair.client.engine.unreachable(address, pair.clock.now(), port_closed=True)
    pair.run_for(10)
    assert pair.client.of(Closed) == []
    pair.network.cut(pair.server.node, pair.client.node)
    pair.client.engine.unreachable(address, pair.clock.now())
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert [closed.kind for closed in pair.client.of(Closed)] == [CloseKind.UNREACHABLE]


def test_a_silent_peer_is_looked_after(pair: EnginePair) -> None:
    """With something to lose, and nobody translating: its closed port is known long before a keep-alive would tell."""
    pair.open()
    pair.run_for(1)
    pair.server.engine.set_translated(pair.server.connection_id, False)
    pair.run_for(3)
    assert pair.server.of(Closed) == []
    pair.client.node.crash()
    began = pair.clock.now()
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    assert pair.server.of(Closed)[0].kind is CloseKind.PORT_CLOSED
    assert pair.clock.now() - began <= 1.5 * Limits().port_check + Limits().probe_timeout + 0.2


def test_a_translator_that_answers_for_a_port(pair: EnginePair) -> None:
    """It may have forgotten, and the peer speaks when its keep-alive is due, from another address."""
    pair.open()
    pair.run_for(1)
    pair.server.engine.set_translated(pair.server.connection_id, True)
    pair.client.node.rebind(refused=True)
    pair.server.engine.unreachable(pair.server.of(Connected)[0].address, pair.clock.now(), port_closed=True)
    pair.run_for(10)
    assert (pair.server.of(Closed), pair.client.of(Closed)) == ([], [])
    # Whoever has changed its address once is behind one, whatever it has said.
    pair.server.engine.set_translated(pair.server.connection_id, False)
    pair.client.node.rebind(refused=True)
    pair.run_for(10)
    assert (pair.server.of(Closed), pair.client.of(Closed)) == ([], [])
    began = pair.clock.now()
    pair.client.node.crash()
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    assert pair.server.of(Closed)[0].kind is CloseKind.PORT_CLOSED
    limits = Limits()
    assert limits.keep_alive <= pair.clock.now() - began <= 2 * limits.keep_alive + limits.probe_timeout + 0.2


# ----------------------------------------------------------------------------------------------------------- streams


def test_bytes_arrive_whole_and_in_order_both_ways(pair: EnginePair) -> None:
    """A megabyte each way, through windows and buffers that are much smaller."""
    stream_id = pair.open()
    for source, sink in ((pair.client, pair.server), (pair.server, pair.client)):
        pair.carry(source, sink, stream_id, bytes(range(256)) * 4096)


def test_fin_comes_once_with_the_last_data(pair: EnginePair) -> None:
    """(data, True) once; afterwards never again a fin."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"last words")
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    assert pair.read_all(pair.server, stream_id, 100) == (b"last words", True)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 100) in {None, (b"", False)}


def test_half_close_leaves_the_other_direction(pair: EnginePair) -> None:
    """After a FIN one way the other way still carries everything."""
    stream_id = pair.open()
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    assert pair.read_all(pair.server, stream_id, 1) == (b"", True)
    pair.server.engine.write(pair.server.connection_id, stream_id, b"answer")
    pair.server.engine.finish(pair.server.connection_id, stream_id)
    assert pair.read_all(pair.client, stream_id, 100) == (b"answer", True)


def test_readable_is_told_once_until_drained(pair: EnginePair) -> None:
    """More data on an unread stream is no news; after draining it is."""
    stream_id = pair.open()
    for _ in range(3):
        pair.client.engine.write(pair.client.connection_id, stream_id, b"abc")
        pair.run_for(1)
    assert pair.server.take(Readable) == [Readable(pair.server.connection_id, stream_id)]
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 4) == (b"abca", False)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"def")
    pair.run_for(1)
    assert pair.server.take(Readable) == []
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 100) == (b"bcabcdef", False)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 100) == (b"", False)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"ghi")
    pair.run_for(1)
    assert pair.server.take(Readable) == [Readable(pair.server.connection_id, stream_id)]


def test_unread_bytes_stop_the_writer(kit: Kit) -> None:
    """Credit follows read: an unread stream takes no more than its window and the writer's own buffer."""
    pair = EnginePair(kit, Limits(keep_alive=0, idle_timeout=600)).connect()
    stream_id = pair.open()
    data = b"z" * 1_000_000
    more = pair.write_all(pair.client, stream_id, data)
    for _ in range(200):
        pair.run_for(0.05)
        more()
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    assert 0 < info.buffered <= Limits().stream_window
    assert not more()
    got = b""
    while len(got) < len(data):
        got += pair.read_all(pair.server, stream_id, min(16_384, len(data) - len(got)))[0]
        more()
    assert got == data


def test_writable_follows_a_short_write(pair: EnginePair) -> None:
    """A write that took less is answered by one Writable; then more is taken."""
    stream_id = pair.open()
    data = b"z" * 100_000
    taken = pair.client.engine.write(pair.client.connection_id, stream_id, data)
    assert 0 < taken < len(data)
    pair.run_until(lambda: Writable(pair.client.connection_id, stream_id) in pair.client.events)
    assert pair.client.take(Writable) == [Writable(pair.client.connection_id, stream_id)]
    assert pair.client.engine.write(pair.client.connection_id, stream_id, data[taken:]) > 0


def test_reset_is_a_reset(pair: EnginePair) -> None:
    """The peer hears the code; what never came is gone; its own sending half lives."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"unsent")
    pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
    pair.run_until(lambda: bool(pair.server.of(Reset)))
    assert pair.server.of(Reset) == [Reset(pair.server.connection_id, stream_id, 34)]
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 10) is None
    assert pair.server.engine.write(pair.server.connection_id, stream_id, b"still") == 5
    assert pair.read_all(pair.client, stream_id, 5) == (b"still", False)


@pytest.mark.parametrize("our_half", ["open", "reset", "stopped"])
def test_what_came_before_a_reset_can_be_read(pair: EnginePair, our_half: str) -> None:
    """In pieces, after the reset is known, and whatever becomes of our own half; then nothing more."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"arrived")
    pair.run_until(lambda: bool(pair.server.of(Readable)))
    if our_half == "stopped":
        pair.client.engine.stop(pair.client.connection_id, stream_id, 34)
    pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
    pair.run_until(lambda: bool(pair.server.of(Reset)))
    if our_half == "reset":
        pair.server.engine.reset(pair.server.connection_id, stream_id, 34)
    pair.run_for(1.0)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 4) == (b"arri", False)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 10) == (b"ved", False)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 10) is None
    pair.server.engine.reset(pair.server.connection_id, stream_id, 34)
    pair.run_for(1.0)
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    assert (info.streams, info.buffered) == (0, 0)


def test_what_came_before_a_reset_can_be_dropped(pair: EnginePair) -> None:
    """Nothing is left of the stream then."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"arrived")
    pair.run_until(lambda: bool(pair.server.of(Readable)))
    pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
    pair.run_until(lambda: bool(pair.server.of(Reset)))
    pair.server.engine.reset(pair.server.connection_id, stream_id, 34)
    pair.server.engine.stop(pair.server.connection_id, stream_id, 34)
    assert pair.server.engine.read(pair.server.connection_id, stream_id, 10) is None
    pair.run_for(1.0)
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    assert (info.streams, info.buffered) == (0, 0)


def test_what_came_before_the_end_of_a_connection_can_be_read(pair: EnginePair) -> None:
    """By whoever is told of the end, in that turn."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"arrived")
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    pair.run_until(lambda: bool(pair.server.of(Readable)))
    engine, connection_id = pair.server.engine, pair.server.connection_id
    engine.close(connection_id, 0, "")
    assert any(isinstance(event, Closed) for event in engine.events())
    assert engine.read(connection_id, stream_id, 4) == (b"arri", False)
    assert engine.read(connection_id, stream_id, 10) == (b"ved", True)
    assert engine.write(connection_id, stream_id, b"x") == 0
    engine.events()
    assert engine.read(connection_id, stream_id, 10) in (None, (b"", False))
    pair.run_for(1.0)


def test_stop_is_a_stop(pair: EnginePair) -> None:
    """The peer hears the code and writes no more; our own sending half lives."""
    stream_id = pair.open()
    pair.server.engine.stop(pair.server.connection_id, stream_id, 34)
    pair.run_until(lambda: bool(pair.client.of(Stopped)))
    assert pair.client.of(Stopped) == [Stopped(pair.client.connection_id, stream_id, 34)]
    assert pair.client.engine.write(pair.client.connection_id, stream_id, b"no more") == 0
    assert pair.server.engine.write(pair.server.connection_id, stream_id, b"still") == 5
    assert pair.read_all(pair.client, stream_id, 5) == (b"still", False)


def test_reset_after_an_acknowledged_fin_does_nothing(pair: EnginePair) -> None:
    """What was delivered in order stays so; the error must travel as a stop (D-18)."""
    stream_id = pair.open()
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    assert pair.read_all(pair.server, stream_id, 1) == (b"", True)
    pair.run_for(1)
    pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
    pair.client.engine.stop(pair.client.connection_id, stream_id, 35)
    pair.run_until(lambda: bool(pair.server.of(Stopped)))
    assert (pair.server.of(Reset), pair.server.of(Stopped)) == ([], [Stopped(pair.server.connection_id, stream_id, 35)])


def test_the_server_opens_streams_too(pair: EnginePair) -> None:
    """Opened at the client, with the stream id of RFC 9000 section 2.1."""
    stream_id = pair.server.engine.open_bidi(pair.server.connection_id)
    assert stream_id == 1
    pair.server.engine.write(pair.server.connection_id, stream_id, b"hello")
    pair.run_until(lambda: bool(pair.client.of(Opened)))
    assert pair.client.of(Opened) == [Opened(pair.client.connection_id, 1)]
    assert pair.read_all(pair.client, 1, 5) == (b"hello", False)


def test_stream_limit_and_available(kit: Kit) -> None:
    """open_bidi says None at the peer's limit, Available when a stream that ended made room."""
    pair = EnginePair(kit, Limits(streams=2)).connect()
    engine, connection_id = pair.client.engine, pair.client.connection_id
    assert (engine.open_bidi(connection_id), engine.open_bidi(connection_id), engine.open_bidi(connection_id)) == (
        0,
        4,
        None,
    )
    engine.write(connection_id, 0, b"x")
    engine.finish(connection_id, 0)
    assert pair.read_all(pair.server, 0, 10) == (b"x", True)
    pair.server.engine.finish(pair.server.connection_id, 0)
    assert pair.read_all(pair.client, 0, 1) == (b"", True)
    pair.run_until(lambda: bool(pair.client.of(Available)))
    assert pair.client.of(Available) == [Available(connection_id)]
    assert engine.open_bidi(connection_id) == 8


def test_aborted_streams_give_their_place_back(kit: Kit) -> None:
    """Streams that end with reset and stop count as ended: a thousand of them in a limit of ten."""
    pair = EnginePair(kit, Limits(streams=10)).connect()
    for _ in range(100):
        opened = [pair.client.engine.open_bidi(pair.client.connection_id) for _ in range(10)]
        streams = [stream_id for stream_id in opened if stream_id is not None]
        assert len(streams) == 10
        for stream_id in streams:
            pair.client.engine.write(pair.client.connection_id, stream_id, b"x" * 1000)
        pair.run_until(lambda: len(pair.server.of(Opened)) == 10)
        pair.server.take(Opened)
        assert pair.client.engine.open_bidi(pair.client.connection_id) is None
        for stream_id in streams:
            pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
            pair.client.engine.stop(pair.client.connection_id, stream_id, 34)
        for stream_id in streams:
            pair.server.engine.reset(pair.server.connection_id, stream_id, 34)
            pair.server.engine.stop(pair.server.connection_id, stream_id, 34)
        pair.run_until(lambda: bool(pair.client.take(Available)))
        pair.run_for(1)
        pair.server.take(Reset)


def test_datagrams(pair: EnginePair) -> None:
    """DATAGRAM frames arrive as they are."""
    pair.client.engine.send_datagram(pair.client.connection_id, b"one")
    pair.run_until(lambda: bool(pair.server.of(DatagramReceived)))
    assert pair.server.of(DatagramReceived) == [DatagramReceived(pair.server.connection_id, b"one")]


def test_hold_keeps_everything_back(pair: EnginePair) -> None:
    """Nothing of a held connection leaves, holds count, and release lets it go (D-6)."""
    stream_id = pair.open()
    engine, connection_id = pair.server.engine, pair.server.connection_id
    engine.cork(connection_id)
    engine.cork(connection_id)
    engine.write(connection_id, stream_id, b"secret")
    pair.run_for(1)
    engine.release(connection_id)
    pair.run_for(1)
    assert pair.client.of(Readable) == []
    engine.release(connection_id)
    assert pair.read_all(pair.client, stream_id, 6) == (b"secret", False)


def test_info(pair: EnginePair) -> None:
    """A look at a connection counts its streams and unread bytes."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"12345")
    pair.run_until(lambda: bool(pair.server.of(Readable)))
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    assert (info.streams, info.buffered) == (1, 5)


# ----------------------------------------------------------------------------------------------------------- splices


class Joined:
    """Two clients' connections to one server that splices a stream of the first to one of the second."""

    def __init__(self, kit: Kit, limits: Limits | None = None) -> None:
        self.a = EnginePair(kit, limits).connect()
        self.a_c, self.a_d = self.a.client.connection_id, self.a.server.connection_id
        self.b_c = self.a.begin()
        self.a.run_until(lambda: len(self.a.server.of(Connected)) == 2)
        self.b_d = self.a.server.of(Connected)[-1].connection_id
        self.sa = self.a.open()
        opened = self.engine.open_bidi(self.b_d)
        assert opened is not None
        self.sb = opened
        self.engine.write(self.b_d, self.sb, b"head")
        self.token = self.engine.splice(self.a_d, self.sa, self.b_d, self.sb)
        self.a.run_until(lambda: Opened(self.b_c, self.sb) in self.a.client.events)
        assert self.read(self.b_c, self.sb, 4) == (b"head", False)

    @property
    def engine(self) -> Engine:
        """The server."""
        return self.a.server.engine

    def read(self, connection_id: int, stream_id: int, size: int) -> tuple[bytes, bool]:
        """Read at the client, on either of its connections."""
        self.a.client.connection_id, keep = connection_id, self.a.client.connection_id
        try:
            return self.a.read_all(self.a.client, stream_id, size)
        finally:
            self.a.client.connection_id = keep

    def ended(self) -> Spliced:
        """The splice's only event, when it has come."""
        self.a.run_until(lambda: bool(self.a.server.of(Spliced)))
        (event,) = self.a.server.of(Spliced)
        return event


def test_splice_passes_bytes_and_fins_and_counts_them(kit: Kit) -> None:
    """Both directions whole, FIN one way at a time, exact counts without what was written before the splice."""
    j = Joined(kit)
    client = j.a.client.engine
    client.write(j.a_c, j.sa, b"question")
    client.finish(j.a_c, j.sa)
    assert j.read(j.b_c, j.sb, 100) == (b"question", True)
    assert j.a.server.of(Spliced) == []
    client.write(j.b_c, j.sb, b"the answer")
    j.a.run_for(1)
    assert j.engine.splice_progress(j.token) == (8, 10)
    client.finish(j.b_c, j.sb)
    assert j.read(j.a_c, j.sa, 100) == (b"the answer", True)
    finished = Outcome(OutcomeKind.FINISHED)
    assert j.ended() == Spliced(j.token, 8, 10, finished, finished)
    assert j.engine.splice_progress(j.token) is None


def test_splice_takes_what_arrived_before_it(kit: Kit) -> None:
    """Bytes that were received and not yet read when the streams are joined are passed on as well."""
    pair = EnginePair(kit).connect()
    other = pair.begin()
    pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
    d = pair.server.of(Connected)[-1].connection_id
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"early")
    pair.run_until(lambda: bool(pair.server.of(Readable)))
    sb = pair.server.engine.open_bidi(d)
    assert sb is not None
    pair.server.engine.splice(pair.server.connection_id, stream_id, d, sb)
    pair.run_until(lambda: Opened(other, sb) in pair.client.events)
    pair.client.connection_id = other
    assert pair.read_all(pair.client, sb, 5) == (b"early", False)


def test_splice_after_the_fin_was_read(kit: Kit) -> None:
    """``a_ended``: a FIN that came with the header before the bytes is passed on all the same."""
    pair = EnginePair(kit).connect()
    other = pair.begin()
    pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
    d = pair.server.of(Connected)[-1].connection_id
    stream_id = pair.client.engine.open_bidi(pair.client.connection_id)
    assert stream_id is not None
    pair.client.engine.write(pair.client.connection_id, stream_id, b"header")
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    assert pair.read_all(pair.server, stream_id, 100) == (b"header", True)
    sb = pair.server.engine.open_bidi(d)
    assert sb is not None
    token = pair.server.engine.splice(pair.server.connection_id, stream_id, d, sb, a_ended=True)
    pair.run_until(lambda: Opened(other, sb) in pair.client.events)
    assert pair.client.engine.read(other, sb, 10) == (b"", True)
    pair.client.engine.write(other, sb, b"answer")
    pair.client.engine.finish(other, sb)
    assert pair.read_all(pair.client, stream_id, 100) == (b"answer", True)
    pair.run_until(lambda: bool(pair.server.of(Spliced)))
    finished = Outcome(OutcomeKind.FINISHED)
    assert pair.server.of(Spliced) == [Spliced(token, 0, 6, finished, finished)]


def test_splice_passes_a_reset_on(kit: Kit) -> None:
    """RESET of the source arrives as RESET with the same code; the other direction goes on."""
    j = Joined(kit)
    client = j.a.client.engine
    client.reset(j.a_c, j.sa, 34)
    j.a.run_until(lambda: Reset(j.b_c, j.sb, 34) in j.a.client.events)
    client.write(j.b_c, j.sb, b"still")
    client.finish(j.b_c, j.sb)
    assert j.read(j.a_c, j.sa, 100) == (b"still", True)
    assert j.ended() == Spliced(j.token, 0, 5, Outcome(OutcomeKind.RESET, 34), Outcome(OutcomeKind.FINISHED))


def test_splice_passes_a_stop_on(kit: Kit) -> None:
    """STOP_SENDING of the sink arrives as such at the source."""
    j = Joined(kit)
    client = j.a.client.engine
    client.stop(j.b_c, j.sb, 34)
    j.a.run_until(lambda: Stopped(j.a_c, j.sa, 34) in j.a.client.events)
    client.finish(j.b_c, j.sb)
    assert j.read(j.a_c, j.sa, 100) == (b"", True)
    assert j.ended() == Spliced(j.token, 0, 0, Outcome(OutcomeKind.STOPPED, 34), Outcome(OutcomeKind.FINISHED))


def test_splice_of_a_lost_connection(kit: Kit) -> None:
    """The other side hears reset and stop with LOST_CODE: never a FIN."""
    j = Joined(kit)
    j.a.client.engine.close(j.b_c, 0, "gone")
    j.a.run_until(lambda: Reset(j.a_c, j.sa, LOST_CODE) in j.a.client.events)
    j.a.run_until(lambda: Stopped(j.a_c, j.sa, LOST_CODE) in j.a.client.events)
    lost = Outcome(OutcomeKind.LOST)
    ended = j.ended()
    assert (ended.token, ended.outcome_a_to_b.kind, ended.outcome_b_to_a.kind) == (j.token, lost.kind, lost.kind)


def test_unsplice_ends_both(kit: Kit) -> None:
    """Both peers hear reset and stop with the code."""
    j = Joined(kit)
    j.engine.unsplice(j.token, 21)
    events = [
        Reset(j.a_c, j.sa, 21),
        Stopped(j.a_c, j.sa, 21),
        Reset(j.b_c, j.sb, 21),
        Stopped(j.b_c, j.sb, 21),
    ]
    j.a.run_until(lambda: all(event in j.a.client.events for event in events))
    ended = j.ended()
    assert (ended.outcome_a_to_b.kind, ended.outcome_b_to_a.kind) == (OutcomeKind.ABORTED, OutcomeKind.ABORTED)


def test_splice_holds_little_when_the_sink_stalls(kit: Kit) -> None:
    """Backpressure reaches the source: bytes on their way stay within windows and buffers."""
    j = Joined(kit)
    pair = j.a
    pair.client.connection_id = j.a_c
    taken = 0
    for _ in range(100):
        taken += pair.client.engine.write(j.a_c, j.sa, b"z" * 100_000)
        pair.run_for(0.05)
    info = pair.server.engine.info(j.a_d)
    assert info is not None
    limits = Limits()
    # What the splice took at first may have doubled the window, once or twice.
    assert info.buffered <= 4 * limits.stream_window
    assert taken <= 5 * limits.stream_window + 3 * limits.send_buffer
    passed = j.engine.splice_progress(j.token)
    assert passed is not None
    assert passed[0] <= limits.stream_window + limits.send_buffer


def test_a_burst_of_streams_within_the_limit(kit: Kit) -> None:
    """All that the peer allows can be opened at once, before anything is heard of the first ones."""
    pair = EnginePair(kit).connect()
    pair.run_for(1.0)
    engine, connection_id = pair.client.engine, pair.client.connection_id
    opened = [engine.open_bidi(connection_id) for _ in range(Limits().streams)]
    assert opened == [4 * number for number in range(Limits().streams)]
    assert engine.open_bidi(connection_id) is None
    for stream_id in (opened[0], opened[1000], opened[-1]):
        assert stream_id is not None
        engine.write(connection_id, stream_id, b"x")
    # An engine may also name the streams on which nothing has been sent.
    pair.run_until(lambda: {opened[0], opened[1000], opened[-1]} <= {one.stream_id for one in pair.server.of(Opened)})
