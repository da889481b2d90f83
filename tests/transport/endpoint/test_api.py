"""The library against a scripted hub: sessions, connections, and every way they end."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

import spnhub
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    CloseAck,
    CloseRequest,
    Opening,
    OpeningKind,
    SessionAck,
    SessionRefusal,
    SessionRequest,
)
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.engine import Limits
from spnhub.transport.errors import (
    ConnectionAborted,
    ConnectionRejected,
    EndpointClosed,
    HandshakeRejected,
    HubUnreachable,
    SessionLost,
    SessionRejected,
)
from spnhub.transport.protocol import encode
from tests.support.fake_engine import fake_certificate
from tests.transport.endpoint.conftest import URN, World

CONSUMER, PROVIDER = EndPointType.CONSUMER, EndPointType.PROVIDER


async def _both(world: World) -> tuple[ConsumerEndpoint, ProviderEndpoint, Pair, Pair]:
    """A consumer and a provider with one connection: (consumer, provider, consumer's pair, provider's pair)."""
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    request = await provider.listen()
    theirs = await request.accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    return consumer, provider, ours, theirs


async def test_session_request_says_who_we_are(world: World) -> None:
    """The first thing on the control stream; the create function returns with the ACK's session id (R-2.1)."""
    consumer = await world.consumer()
    ((role, request),) = world.hub.packets
    assert isinstance(request, SessionRequest)
    assert (role, request.service_urn, request.weight, request.brings_connections) == (CONSUMER, URN, 100, False)
    assert request.instance_id
    assert (consumer.session_id, consumer.hub_id, consumer.state) == ("session-1", "hub-1", SessionState.ESTABLISHED)


async def test_create_returns_only_after_the_ack(world: World) -> None:
    """A hub that completes the handshake and then says nothing is no session (D-19)."""
    world.hub.silent = True
    began = asyncio.get_running_loop().time()
    with pytest.raises(HubUnreachable, match="session ACK"):
        await world.consumer()
    assert 10 <= asyncio.get_running_loop().time() - began < 11


@pytest.mark.parametrize("gone", [False, True])
async def test_a_connection_that_overtakes_the_ack(world: World, gone: bool) -> None:
    """QUIC orders nothing between streams: the first connection may come before the ACK, and may be gone by then."""
    hub = world.hub
    hub.silent = True
    creating = asyncio.ensure_future(world.provider())
    while not hub.packets:
        await asyncio.sleep(0.001)
    session = hub.session(PROVIDER)
    openings = [Opening(OpeningKind.OPEN, uid * 32, bytes(16), peer="CN=consumer") for uid in ("a", "b")]
    for opening in openings:
        stream_id = hub.engine.open_bidi(session)
        assert stream_id is not None
        hub.engine.write(session, stream_id, encode(opening))
        hub.node.flush()
        await asyncio.sleep(0.1)
        if gone and opening is openings[0]:
            hub.engine.reset(session, stream_id, Code.OK)
            hub.engine.stop(session, stream_id, Code.OK)
            hub.node.flush()
            await asyncio.sleep(0.1)
    hub.send(session, SessionAck("s", "hub-1"))
    hub.node.flush()
    provider = await creating
    requests = [await provider.listen() for _ in openings[gone:]]
    assert [request.connection_uid for request in requests] == [one.connection_uid for one in openings[gone:]]
    assert not [code for _, code in hub.broken if code == Code.PROTOCOL]


async def test_refusal_has_code_and_reason(world: World) -> None:
    """What the hub says reaches the program, as an error of its own kind."""
    world.hub.refusal = SessionRefusal(Code.NOT_ALLOWED, "not you", retryable=False)
    with pytest.raises(SessionRejected) as caught:
        await world.consumer()
    assert (caught.value.code, caught.value.reason, caught.value.retryable) == (Code.NOT_ALLOWED, "not you", False)


async def test_close_without_a_refusal_packet_is_a_refusal(world: World) -> None:
    """A refusal that got lost beside the CONNECTION_CLOSE is known by its code."""
    world.hub.silent = True
    creating = asyncio.ensure_future(world.consumer())
    while not world.hub.packets:
        await asyncio.sleep(0.001)
    world.hub.close(world.hub.session(CONSUMER), Code.SINGLETON, "taken")
    with pytest.raises(SessionRejected) as caught:
        await creating
    assert (caught.value.code, caught.value.reason, caught.value.retryable) == (Code.SINGLETON, "taken", True)


async def test_wrong_certificate(world: World) -> None:
    """The client's handshake completes first; the alert comes out of the create function all the same (D-19)."""
    with pytest.raises(HandshakeRejected) as caught:
        await world.consumer(certificate=fake_certificate("CN=mallory", "others"))
    assert (caught.value.alert, caught.value.by_hub, caught.value.retryable) == (48, True, False)


async def test_wrong_name(world: World) -> None:
    """There is no default hub."""
    with pytest.raises(HandshakeRejected) as caught:
        await world.consumer(url="https://other.test")
    assert (caught.value.alert, caught.value.by_hub) == (112, True)


async def test_nobody_there(world: World) -> None:
    """Port unreachable is known at once, not after the handshake timeout."""
    world.hub.node.crash()
    began = asyncio.get_running_loop().time()
    with pytest.raises(HubUnreachable):
        await world.consumer()
    assert asyncio.get_running_loop().time() - began < 2


async def test_addresses_are_tried_in_order(world: World) -> None:
    """A dead address first doesn't matter."""
    world.addresses.insert(0, ("192.0.2.99", 443))
    consumer = await world.consumer()
    assert consumer.session_id == "session-1"


async def test_unknown_packets_are_skipped_and_wrong_ones_are_not(world: World) -> None:
    """An unknown kind before the ACK is no fault (D-15); a hub that can't read what is needed is (VERSION)."""
    world.hub.extra = bytes([200, 1, 0, 3]) + b"???"
    await world.consumer()
    world.hub.ack_kinds = {1: 1, 2: 1}
    with pytest.raises(SessionLost, match=r"a hub of spn/1 reads SessionRefusal, CloseRequest, .*, too"):
        await world.consumer()


async def test_conversation_with_half_close_and_close_request(world: World) -> None:
    """Both directions, half-close, EOF, then CloseRequest by whose FIN came second, and its ACK (D-17)."""
    consumer, provider, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    assert writer.get_extra_info("peer") == "CN=provider"
    assert theirs_out.get_extra_info("peer") == "CN=consumer"
    assert writer.get_extra_info("connection_uid") == world.hub.openings[0].connection_uid
    writer.write(b"question")
    writer.write_eof()
    assert await theirs_in.read() == b"question"
    theirs_out.write(b"the answer")
    theirs_out.close()
    assert await reader.read() == b"the answer"
    await theirs_out.wait_closed()
    writer.close()
    await writer.wait_closed()
    uid = world.hub.openings[0].connection_uid
    assert world.hub.control_packets(CloseRequest) == [(PROVIDER, CloseRequest(uid, 0, 8, 10, finished=True))]
    assert world.hub.control_packets(CloseAck) == [(CONSUMER, CloseAck(uid, 0))]
    assert [(one.a_to_b, one.b_to_a) for one in world.hub.spliced] == [(8, 10)]
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_the_consumer_asks_when_its_fin_came_second(world: World) -> None:
    """The mirror image: the provider finishes first."""
    _, _, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    theirs_out.write(b"220 hello")
    theirs_out.write_eof()
    assert await reader.read() == b"220 hello"
    writer.write(b"bye")
    writer.close()
    await writer.wait_closed()
    assert await theirs_in.read() == b"bye"
    uid = world.hub.openings[0].connection_uid
    assert world.hub.control_packets(CloseRequest) == [(CONSUMER, CloseRequest(uid, 0, 3, 9, finished=True))]


async def test_the_consumer_asks_when_the_fins_crossed(world: World) -> None:
    """A tie is the consumer's, after a second without a request from the provider."""
    consumer, provider, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    writer.write_eof()
    theirs_out.write_eof()
    assert (await reader.read(), await theirs_in.read()) == (b"", b"")
    writer.close()
    theirs_out.close()
    await writer.wait_closed()
    await theirs_out.wait_closed()
    uid = world.hub.openings[0].connection_uid
    assert world.hub.control_packets(CloseRequest) == [(CONSUMER, CloseRequest(uid, 0, 0, 0, finished=True))]
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_a_lost_close_ack_does_not_keep_anybody_waiting(world: World) -> None:
    """Both FINs are through: after the bound it counts as closed."""
    _, provider, (_, writer), (theirs_in, theirs_out) = await _both(world)
    writer.write_eof()
    await theirs_in.read()
    world.hub.engine.cork(world.hub.session(CONSUMER))
    began = asyncio.get_running_loop().time()
    theirs_out.close()
    await theirs_out.wait_closed()
    assert 10 <= asyncio.get_running_loop().time() - began < 11
    assert provider.connections == 1
    await asyncio.sleep(60)
    assert provider.connections == 0


async def test_server_speaks_first(world: World) -> None:
    """The Opening leaves at once, not with the client's first byte (D-29)."""
    _, _, (reader, _), (_, theirs_out) = await _both(world)
    theirs_out.write(b"220 ready\r\n")
    assert await reader.readline() == b"220 ready\r\n"


async def test_much_data_both_ways(world: World) -> None:
    """Four MiB each way at once arrive exactly."""
    _, _, ours, theirs = await _both(world)
    data = bytes(range(256)) * 16384

    async def send(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), 50_000):
            writer.write(data[start : start + 50_000])
            await writer.drain()
        writer.write_eof()

    got = await asyncio.gather(send(ours[1]), send(theirs[1]), ours[0].read(), theirs[0].read())
    assert [hashlib.sha256(part).digest() for part in got[2:]] == [hashlib.sha256(data).digest()] * 2


async def test_drain_waits_for_a_reader_that_does_not_read(world: World) -> None:
    """Backpressure reaches the writer: what is under way is bounded, and drain() really waits."""
    _, _, (_, writer), (theirs_in, _) = await _both(world)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < 8_000_000:
            writer.write(b"z" * 10_000)
            sent += 10_000
            await writer.drain()
        writer.write_eof()

    sending = asyncio.ensure_future(send())
    await asyncio.sleep(5)
    assert not sending.done()
    assert sent < 500_000
    assert len(await theirs_in.read()) == 8_000_000
    await sending


async def test_abort_is_an_error_at_the_other_side_never_an_eof(world: World) -> None:
    """RST arrives as RST: a cut download must not look whole (D-17)."""
    _, _, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    theirs_out.write(b"half of it")
    assert await reader.read(100) == b"half of it"
    theirs_out.transport.abort()
    with pytest.raises(ConnectionResetError) as caught:
        await reader.read()
    assert isinstance(caught.value, ConnectionAborted)
    # What the hub's log has it by.
    uid = world.hub.openings[0].connection_uid
    assert caught.value.connection_uid == uid and uid in str(caught.value)
    assert caught.value.code == Code.PEER_RESET
    with pytest.raises(ConnectionResetError):
        writer.write(b"more")
        await writer.drain()
    with pytest.raises(ConnectionResetError):
        await theirs_in.read()


async def test_a_failure_is_an_error_after_the_bytes_before_it(world: World) -> None:
    """As a socket has it: what was read is given first, by every method, and then the error, again and again (D-34)."""
    _, _, (reader, writer), (_, theirs_out) = await _both(world)
    theirs_out.write(b"a line\nexactly1and the rest")
    theirs_out.get_extra_info("spn_connection").fail(Code.PEER_RESET)
    while reader.exception() is None:
        await asyncio.sleep(0.01)
    assert await reader.readline() == b"a line\n"
    assert await reader.readexactly(8) == b"exactly1"
    for reading in (reader.readexactly(100), reader.readuntil(b"!")):
        with pytest.raises(ConnectionAborted):
            await reading
    assert await reader.read(7) == b"and the"
    assert await reader.read(100) == b" rest"
    for _ in range(2):
        with pytest.raises(ConnectionAborted) as caught:
            await reader.read(1)
        assert caught.value.code == Code.PEER_RESET
    with pytest.raises(ConnectionResetError):
        writer.write(b"more")
        await writer.drain()


async def test_a_failure_wakes_who_waits(world: World) -> None:
    """Who waits for more than there will be is told."""
    _, _, (reader, _), (_, theirs_out) = await _both(world)
    reading = asyncio.ensure_future(reader.readexactly(100))
    theirs_out.write(b"half of it")
    await asyncio.sleep(1)
    theirs_out.get_extra_info("spn_connection").fail(Code.PEER_RESET)
    with pytest.raises(ConnectionAborted):
        await reading
    assert await reader.read(100) == b"half of it"


async def test_lost_endpoint_is_an_error(world: World) -> None:
    """The other endpoint vanishes: an error, once the time in which it might have come back is over."""
    _, _, (reader, _), (_, theirs_out) = await _both(world)
    theirs_out.write(b"half")
    assert await reader.read(100) == b"half"
    began = asyncio.get_running_loop().time()
    world.nodes[0].crash()
    with pytest.raises(ConnectionAborted) as caught:
        await reader.read()
    assert caught.value.code == Code.RESUME_TIMEOUT
    assert 60 <= asyncio.get_running_loop().time() - began < 90


async def test_connections_outlive_their_hub(world: World) -> None:
    """The hub crashes and restarts: the endpoints have new sessions by themselves, and the connection goes on."""
    consumer, provider, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    theirs_out.write(b"one ")
    assert await reader.readexactly(4) == b"one "
    world.hub.node.crash()
    writer.write(b"question")
    theirs_out.write(b"two ")
    assert isinstance(await consumer.wait_ended(), SessionLost)
    assert isinstance(await provider.wait_ended(), SessionLost)
    theirs_out.write(b"three")
    theirs_out.write_eof()
    assert (consumer.paused, consumer.connections) == (1, 1)
    world.hub = world.new_hub()
    assert await reader.read() == b"two three"
    assert await theirs_in.readexactly(8) == b"question"
    writer.close()
    await writer.wait_closed()
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_rejected_connection_has_code_and_reason(world: World) -> None:
    """The provider's words reach the consumer."""
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    await (await provider.listen()).reject(Code.CONNECT_FAILED, "port closed")
    with pytest.raises(ConnectionRejected) as caught:
        await connecting
    assert (caught.value.code, caught.value.reason, caught.value.retryable) == (
        Code.CONNECT_FAILED,
        "port closed",
        False,
    )
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_no_provider(world: World) -> None:
    """The hub's refusal of an opening can be retried."""
    consumer = await world.consumer()
    with pytest.raises(ConnectionRejected) as caught:
        await consumer.connect_stream()
    assert (caught.value.code, caught.value.retryable) == (Code.NO_PROVIDER, True)


async def test_cancelled_connect_is_aborted_at_the_provider(world: World) -> None:
    """Nobody waits for it any more: the provider's accept fails, nothing is left over."""
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    request = await provider.listen()
    connecting.cancel()
    await asyncio.sleep(1)
    with pytest.raises(ConnectionAborted):
        await request.accept()
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_connect_times_out(world: World) -> None:
    """A provider that never answers costs no more than the timeout."""
    await world.provider()
    consumer = await world.consumer()
    with pytest.raises(ConnectionAborted) as caught:
        await consumer.connect(timeout=3)
    assert caught.value.code == Code.TIMEOUT
    assert consumer.connections == 0


async def test_close_while_the_other_side_sends_on(world: World) -> None:
    """Whoever closes and leaves data unread makes the sender see an error soon, by a Close Request."""
    consumer, _, (reader, writer), (_, theirs_out) = await _both(world)

    async def send() -> None:
        while True:
            theirs_out.write(b"z" * 10_000)
            await theirs_out.drain()

    sending = asyncio.ensure_future(send())
    await reader.readexactly(1000)
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ConnectionResetError):
        await sending
    assert [packet.finished for _, packet in world.hub.packets if isinstance(packet, CloseRequest)] == [False]
    await asyncio.sleep(1)
    assert consumer.connections == 0


async def test_close_lets_the_other_side_read_everything(world: World) -> None:
    """Write, close: a slow reader gets all of it and a clean end."""
    _, provider, (reader, writer), (_, theirs_out) = await _both(world)
    theirs_out.write(b"z" * 1_000_000)
    theirs_out.close()
    got = 0
    while data := await reader.read(20_000):
        got += len(data)
        await asyncio.sleep(0.5)
    assert got == 1_000_000
    writer.close()
    await writer.wait_closed()
    assert provider.connections == 0


async def test_write_after_write_eof_is_the_callers_fault(world: World) -> None:
    """As asyncio's own transports have it."""
    _, _, (_, writer), _ = await _both(world)
    assert writer.can_write_eof()
    writer.write_eof()
    with pytest.raises(RuntimeError):
        writer.write(b"x")


async def test_aclose_waits_for_what_is_ending(world: World) -> None:
    """An orderly close takes no new connection, and lets the open one end."""
    consumer, provider, (reader, writer), (theirs_in, theirs_out) = await _both(world)
    closing = asyncio.ensure_future(consumer.aclose())
    await asyncio.sleep(0.1)
    with pytest.raises(EndpointClosed):
        await consumer.connect()
    writer.write(b"last")
    writer.write_eof()
    assert await theirs_in.read() == b"last"
    theirs_out.close()
    assert await reader.read() == b""
    await closing
    assert consumer.state is SessionState.CLOSED
    await consumer.wait_closed()
    assert await consumer.wait_ended() is None
    assert asyncio.get_running_loop().time() < 5
    assert provider.connections == 0


async def test_aclose_ends_with_the_last_connection(world: World) -> None:
    """The drain timeout is a bound, not a pause: also when the end comes as a packet, with nobody to tell."""
    consumer, _, (reader, writer), (_, theirs_out) = await _both(world)
    theirs_out.write(b"z" * 1_000_000)
    await reader.readexactly(1000)
    writer.close()
    await consumer.aclose(drain_timeout=60)
    assert asyncio.get_running_loop().time() < 5


async def test_aclose_aborts_what_does_not_end(world: World) -> None:
    """After the drain timeout the rest sees an error."""
    _, provider, (reader, _), _ = await _both(world)
    await provider.aclose(drain_timeout=2)
    with pytest.raises(ConnectionAborted):
        await reader.read()
    with pytest.raises(EndpointClosed):
        await provider.listen()


async def test_context_manager(world: World) -> None:
    """Leaving the block closes the session in order."""
    async with await world.consumer() as consumer:
        assert consumer.session_id == "session-1"
    assert consumer.state is SessionState.CLOSED
    await asyncio.sleep(0.1)
    assert world.hub.sessions == {}


async def test_retries_exceeded(world: World) -> None:
    """With a bound, the endpoint has Failed after it, and says why."""
    consumer = await world.consumer(retries=3)
    world.hub.node.crash()
    with pytest.raises(HubUnreachable):
        await consumer.wait_closed()
    assert consumer.state is SessionState.FAILED
    with pytest.raises(EndpointClosed):
        await consumer.connect()


async def test_withdrawn_permission_is_for_good(world: World) -> None:
    """An end that a retry can't change isn't retried."""
    consumer = await world.consumer()
    world.hub.close(world.hub.session(CONSUMER), Code.WITHDRAWN, "no longer allowed")
    with pytest.raises(SessionRejected) as caught:
        await consumer.wait_closed()
    assert (caught.value.code, consumer.state) == (Code.WITHDRAWN, SessionState.FAILED)


async def test_planned_stop_of_the_hub_is_retried(world: World) -> None:
    """SHUTDOWN: the endpoint waits for the hub's return."""
    consumer = await world.consumer()
    world.hub.close(world.hub.session(CONSUMER), Code.SHUTDOWN, "maintenance")
    while consumer.session_id != "session-2":
        await asyncio.sleep(1)
    assert consumer.state is SessionState.ESTABLISHED


async def test_wait_for_hub(world: World) -> None:
    """Asked to, the create function itself waits for a hub that isn't there yet, and for a provider."""
    world.hub.node.crash()
    creating = asyncio.ensure_future(world.consumer(wait_for_hub=True))
    await asyncio.sleep(20)
    world.hub = world.new_hub()
    world.hub.refusal = SessionRefusal(Code.NO_PROVIDER, "none yet", retryable=True)
    await asyncio.sleep(60)
    assert not creating.done()
    world.hub.refusal = None
    consumer = await creating
    assert consumer.state is SessionState.ESTABLISHED


async def test_many_connections_at_once(world: World) -> None:
    """A thousand connections on one session pair, each with its own bytes; nothing is left over."""
    provider = await world.provider()
    consumer = await world.consumer()

    async def serve() -> None:
        while True:
            reader, writer = await (await provider.listen()).accept()
            echoing.add(asyncio.ensure_future(echo(reader, writer)))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def ask(number: int) -> bool:
        reader, writer = await consumer.connect()
        data = number.to_bytes(4, "big") * 300
        writer.write(data)
        writer.write_eof()
        same = await reader.read() == data
        writer.close()
        await writer.wait_closed()
        return same

    echoing: set[asyncio.Future[None]] = set()
    serving = asyncio.ensure_future(serve())
    assert all(await asyncio.gather(*(ask(number) for number in range(1000))))
    await asyncio.gather(*echoing)
    serving.cancel()
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_streams_run_out_and_come_back(world: World) -> None:
    """More connections than the hub allows streams: they queue for Available, and all are served."""
    provider = await world.provider()
    consumer = await world.consumer()
    count = Limits().streams + 500

    async def serve() -> None:
        while True:
            await (await provider.listen()).reject(Code.CONNECT_FAILED, "no")

    serving = asyncio.ensure_future(serve())
    answers = await asyncio.gather(*(consumer.connect() for _ in range(count)), return_exceptions=True)
    serving.cancel()
    assert {type(answer) for answer in answers} == {ConnectionRejected}
    assert (consumer.connections, provider.connections) == (0, 0)


def test_errors_share_one_base() -> None:
    """Whatever the library raises is an SpnError."""
    names = [name for name in spnhub.__all__ if isinstance(getattr(spnhub, name), type)]
    errors = [getattr(spnhub, name) for name in names if issubclass(getattr(spnhub, name), Exception)]
    assert len(errors) == 10
    assert all(issubclass(error, spnhub.SpnError) for error in errors)
