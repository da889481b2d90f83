"""Endpoints of sc01 at a hub: sessions, both kinds of mixed pairs, datagrams, refusals; in virtual time (SC01.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import StartService, StopService
from spnhub.actors.contract.definitions import Availability, ServiceDefinition
from spnhub.actors.contract.inputs import StartSucceeded, StopHub, StopSucceeded
from spnhub.actors.contract.packets import (
    Accept,
    CloseAck,
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    PauseRequest,
    ResumeAck,
    ResumeRequest,
    SetWeight,
    ShutdownRequest,
)
from spnhub.actors.system import ActorOptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    LimitReached,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    TerminateReason,
    WeightChanged,
)
from spnhub.transport import protocol
from tests.transport.hub.bench import SECRET, SERVICE, UID, Bench, Peer
from tests.transport.hub.old_peer import OldPeer

PROVIDER, CONSUMER = EndPointType.PROVIDER, EndPointType.CONSUMER
OPEN = Opening(OpeningKind.OPEN, UID, SECRET)
YES = protocol.encode(Accept(OpeningKind.OPEN, instance_id="p1"))


@pytest.fixture
def bench() -> Bench:
    """A hub."""
    return Bench()


def old_provider(bench: Bench) -> OldPeer:
    """An sc01 provider with its session."""
    peer = OldPeer(bench, PROVIDER, "server")
    assert peer.heard() == [b"notify_active"]
    return peer


def old_consumer(bench: Bench, subject: str = "client") -> OldPeer:
    """An sc01 consumer with its session."""
    peer = OldPeer(bench, CONSUMER, subject)
    assert (peer.connected, peer.closed, peer.heard()) == (True, None, [])
    return peer


def idle(bench: Bench) -> None:
    """Nothing of a connection is left at the hub."""
    bench.settle()
    assert set(bench.server.counts().values()) == {0}


def code(peer: OldPeer) -> int | None:
    """With which code its connection was closed, if it was."""
    return None if peer.closed is None else peer.closed[0]


def ended(bench: Bench) -> ConnectionEnded:
    """The one end that the log has."""
    (event,) = bench.events(ConnectionEnded)
    return event


def test_both_old(bench: Bench) -> None:
    """The session exists after the handshake, the first stream has id 0, and both FINs are an orderly end."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    started = bench.events(SessionStarted)
    assert [(one.end_point_type, one.service_urn, one.protocol, one.spn_end_point) for one in started] == [
        (PROVIDER, SERVICE, "sc01", "CN=server"),
        (CONSUMER, SERVICE, "sc01", "CN=client"),
    ]
    stream = consumer.open(b"hello")
    assert stream == 0
    theirs = provider.only()
    assert provider.streams[theirs].data == b"hello"
    provider.write(theirs, b"welcome")
    consumer.write(stream, b", world", fin=True)
    assert (provider.streams[theirs].data, provider.streams[theirs].fin) == (b"hello, world", True)
    assert not bench.events(ConnectionEnded)
    provider.write(theirs, b" back", fin=True)
    assert (consumer.streams[stream].data, consumer.streams[stream].fin) == (b"welcome back", True)
    (begun,) = bench.events(ConnectionStarted)
    assert begun.spn_connection_id == f"0-{theirs}"
    end = ended(bench)
    assert (end.total_sent_bytes, end.total_receive_bytes, end.disconnect_reason) == (
        12,
        12,
        DisconnectReason.CLOSED_BY_PEER,
    )
    idle(bench)
    consumer.close()
    provider.close()
    reasons = [(one.terminate_reason, one.total_connection_count) for one in bench.events(SessionEnded)]
    assert reasons == [(TerminateReason.TERMINATED_BY_PEER, 1)] * 2


def test_a_fin_alone(bench: Bench) -> None:
    """A stream that is nothing but its end reaches the provider as that."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    stream = consumer.open(b"", fin=True)
    theirs = provider.only()
    assert (provider.streams[theirs].data, provider.streams[theirs].fin) == (b"", True)
    provider.write(theirs, b"late", fin=True)
    assert (consumer.streams[stream].data, consumer.streams[stream].fin) == (b"late", True)
    idle(bench)


@pytest.mark.parametrize("first", ["consumer", "provider"])
def test_old_consumer_new_provider(bench: Bench, first: str) -> None:
    """The provider gets an Opening with the consumer's verified Subject, acknowledgements, and the close exchange."""
    provider, consumer = bench.provider("p1"), old_consumer(bench)
    stream = consumer.open(b"hello")
    (theirs,) = set(provider.streams) - {0}
    opening, rest = provider.header(theirs, Opening)
    assert (opening.peer, opening.kind, opening.epoch, rest) == ("CN=client", OpeningKind.OPEN, 0, b"")
    provider.write(theirs, YES + b"welcome")
    bench.settle()
    assert consumer.streams[stream].data == b"welcome"
    assert provider.header(theirs, Opening)[1] == b"hello"
    assert provider.take(DataAck).acks == ((opening.connection_uid, 0, 7),)
    if first == "provider":
        provider.write(theirs, b"", fin=True)
        bench.settle()
    consumer.write(stream, b"!", fin=True)
    if first == "consumer":
        provider.write(theirs, b"", fin=True)
    bench.settle()
    assert consumer.streams[stream].fin and provider.streams[theirs].fin
    assert provider.header(theirs, Opening)[1] == b"hello!"
    assert not bench.events(ConnectionEnded)
    uid = opening.connection_uid
    assert provider.take(CloseRequest) == CloseRequest(uid, 0, 6, 7, True)
    provider.send(CloseAck(uid, 0))
    bench.settle()
    assert (ended(bench).disconnect_reason, ended(bench).code) == (DisconnectReason.CLOSED_BY_PEER, Code.OK)
    idle(bench)


@pytest.mark.parametrize("crossing", [False, True])
def test_new_consumer_old_provider(bench: Bench, crossing: bool) -> None:
    """The consumer gets its Accept without the provider's word, acknowledgements, and the close exchange."""
    provider, consumer = old_provider(bench), bench.consumer()
    stream = consumer.open(OPEN)
    bench.settle()
    accept, _ = consumer.header(stream, Accept)
    assert (accept.code, accept.peer) == (Code.OK, "CN=server")
    assert not provider.streams  # no byte, and so no sign of it
    consumer.write(stream, b"hello")
    bench.settle()
    theirs = provider.only()
    assert provider.streams[theirs].data == b"hello"
    assert consumer.take(DataAck).acks == ((UID, 0, 5),)
    provider.write(theirs, b"welcome", fin=True)
    assert consumer.header(stream, Accept)[1] == b"welcome"
    assert consumer.streams[stream].fin
    consumer.write(stream, b"", fin=True)
    if crossing:
        consumer.send(CloseRequest(UID, 0, 5, 7, True))
    bench.settle()
    assert provider.streams[theirs].fin
    if crossing:
        kinds = [type(packet) for packet in consumer.control]
        assert CloseAck in kinds
    else:
        assert consumer.take(CloseRequest) == CloseRequest(UID, 0, 5, 7, True)
        consumer.send(CloseAck(UID, 0))
    bench.settle()
    assert ended(bench).disconnect_reason is DisconnectReason.CLOSED_BY_PEER
    idle(bench)


@pytest.mark.parametrize("slow", [False, True], ids=["", "slow reader"])
@pytest.mark.parametrize("old", [True, False], ids=["both old", "new consumer"])
def test_a_provider_leaves_with_its_last_word(bench: Bench, old: bool, slow: bool) -> None:
    """It closes its connection with its last FIN, as after notify_shutdown: the consumer gets every byte, no error."""
    provider = old_provider(bench)
    consumer = old_consumer(bench) if old else bench.consumer()
    opening = b"" if old else protocol.encode(OPEN)
    stream = consumer.engine.open_bidi(consumer.connection_id)
    assert stream is not None
    consumer.write(stream, opening + b"hello", fin=True)
    bench.settle()
    theirs, pieces = provider.only(), 14 if slow else 1
    assert provider.streams[theirs].fin
    if slow:
        consumer.node.freeze()
    for _ in range(pieces - 1):
        provider.write(theirs, bytes(4096))
    provider.engine.write(provider.connection_id, theirs, bytes(4096))
    provider.engine.finish(provider.connection_id, theirs)
    provider.node.turn()
    provider.close()
    consumer.node.thaw()
    bench.settle(1.0)
    got = consumer.streams[stream]
    data = consumer.header(stream, Accept)[1] if isinstance(consumer, Peer) else got.data
    assert (len(data), got.fin, got.reset, got.stopped) == (pieces * 4096, True, None, None)
    end = ended(bench)
    assert (end.disconnect_reason, end.code, end.total_sent_bytes, end.total_receive_bytes) == (
        DisconnectReason.CLOSED_BY_PEER,
        Code.OK,
        5,
        pieces * 4096,
    )
    idle(bench)


def test_acknowledgements_follow_what_is_passed_on(bench: Bench) -> None:
    """A reader that stands still holds the writer back, and nothing is acknowledged that it hasn't been given."""
    provider, consumer = old_provider(bench), bench.consumer()
    stream = consumer.open(OPEN)
    bench.settle()
    provider.deaf = True
    data = bytes(range(256)) * 2048
    at, acked = 0, 0
    for _ in range(400):
        at += consumer.engine.write(consumer.connection_id, stream, data[at:])
        if at == len(data):
            break
        consumer.node.flush()
        bench.settle(0.01)
    held = at
    bench.settle()
    acked = max(ack.received_offset for packet in consumer.control for ack in packet.acks)  # type: ignore[attr-defined]
    assert held < len(data)
    assert 0 < acked < held
    provider.deaf = False
    provider.read(provider_stream := 1)
    for _ in range(400):
        at += consumer.engine.write(consumer.connection_id, stream, data[at:])
        consumer.node.flush()
        bench.settle(0.01)
        if at == len(data) and len(provider.streams[provider_stream].data) == at:
            break
    assert provider.streams[provider_stream].data == data
    bench.settle()
    last = consumer.control[-1]
    assert isinstance(last, DataAck) and last.acks[-1].received_offset == len(data)


def test_unreachable_server(bench: Bench) -> None:
    """A provider that can't reach its TCP server resets with 1: to our consumers that is CONNECT_FAILED."""
    provider, consumer, another = old_provider(bench), bench.consumer(), old_consumer(bench, "other")
    stream = consumer.open(OPEN, b"hello")
    bench.settle()
    provider.reset(provider.only(), 1)
    bench.settle()
    assert consumer.streams[stream].reset == Code.CONNECT_FAILED
    provider.stop(provider.only(), 0)
    assert (ended(bench).code, ended(bench).disconnect_reason) == (Code.CONNECT_FAILED, DisconnectReason.ERROR)
    idle(bench)
    stream = another.open(b"hello")
    theirs = max(provider.streams)
    provider.reset(theirs, 1)
    assert another.streams[stream].reset == 1
    provider.stop(theirs, 0)
    assert bench.events(ConnectionEnded)[1].code == Code.CONNECT_FAILED
    idle(bench)


@pytest.mark.parametrize("code", [0, Code.MOVED, Code.PAUSED, 7])
def test_a_reset_of_an_old_end_is_final(bench: Bench, code: int) -> None:
    """Whatever number it has: none of sc01's codes means that the connection goes on elsewhere."""
    provider, consumer = bench.provider("p1"), old_consumer(bench)
    stream = consumer.open(b"hello")
    (theirs,) = set(provider.streams) - {0}
    provider.write(theirs, YES)
    bench.settle()
    consumer.reset(stream, code)
    consumer.stop(stream, code)
    bench.settle()
    assert (provider.streams[theirs].reset, provider.streams[theirs].stopped) == (Code.PEER_RESET, Code.PEER_RESET)
    assert not bench.events(ConnectionPaused)
    assert (ended(bench).code, ended(bench).suspended) == (Code.PEER_RESET, False)
    idle(bench)


@pytest.mark.parametrize("orderly", [True, False])
@pytest.mark.parametrize("lost", ["old", "new"])
def test_lost_ends(bench: Bench, lost: str, orderly: bool) -> None:
    """Neither end waits for a leg that can't come, whichever is lost."""
    provider, consumer = old_provider(bench), bench.consumer()
    stream = consumer.open(OPEN, b"hello")
    bench.settle()
    theirs = provider.only()
    peer = provider if lost == "old" else consumer
    if orderly:
        peer.close()
    else:
        peer.node.crash(host_lives=False)
    bench.settle(40.0)
    if lost == "old":
        assert consumer.streams[stream].reset == Code.PEER_RESET
    else:
        assert provider.streams[theirs].reset == Code.PEER_RESET
    assert not bench.events(ConnectionPaused)
    assert not ended(bench).suspended
    idle(bench)


def test_a_mixed_connection_cannot_be_resumed(bench: Bench) -> None:
    """A consumer that asks gets an answer that ends it, whether the provider is there or not."""
    provider, consumer = old_provider(bench), bench.consumer()
    stream = consumer.open(OPEN, b"hello")
    bench.settle()
    accept, _ = consumer.header(stream, Accept)
    consumer.abort(stream, Code.LEFT)
    bench.settle()
    assert provider.streams[provider.only()].reset == Code.LEFT
    ask = ResumeRequest(UID, SECRET, 1, 0, peer=accept.peer, instance_id=accept.instance_id)
    for epoch in (1, 2):
        consumer.control.clear()
        consumer.send(replace(ask, epoch=epoch))
        ack = consumer.take(ResumeAck)
        assert (ack.code, ack.retryable) == (Code.ENDED, False)
        provider.close()
    idle(bench)


def test_a_consumer_waits_for_its_provider(bench: Bench) -> None:
    """There is a session without a provider, and what was opened goes through when one has come."""
    consumer = old_consumer(bench)
    stream = consumer.open(b"hello")
    bench.settle(300.0)
    assert (consumer.closed, consumer.streams[stream].reset) == (None, None)
    provider = old_provider(bench)
    theirs = provider.only()
    assert provider.streams[theirs].data == b"hello"
    provider.write(theirs, b"welcome", fin=True)
    consumer.write(stream, b"", fin=True)
    assert consumer.streams[stream].data == b"welcome"
    idle(bench)


def test_a_consumer_waits_for_ten_minutes(bench: Bench) -> None:
    """Then its stream is reset, and without any its session ends with 100."""
    consumer = old_consumer(bench)
    stream = consumer.open(b"hello")
    bench.settle(599.0)
    assert (consumer.closed, consumer.streams[stream].reset) == (None, None)
    bench.settle(2.0)
    assert consumer.streams[stream].reset == Code.NO_PROVIDER
    (refused,) = bench.events(ConnectionRefused)
    assert refused.code == Code.NO_PROVIDER
    bench.settle(601.0)
    assert consumer.closed == (100, "no provider has come within 600 s")
    (end,) = bench.events(SessionEnded)
    assert (end.code, end.terminate_reason) == (Code.NO_PROVIDER, TerminateReason.SHUTDOWN)
    idle(bench)


def test_the_time_without_a_provider_counts(bench: Bench) -> None:
    """From when the last one has left; while there is one, a session has no bound."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    bench.settle(1000.0)
    assert code(consumer) is None
    provider.close()
    bench.settle(599.0)
    assert code(consumer) is None
    again = old_provider(bench)
    bench.settle(1000.0)
    assert code(consumer) is None
    again.close()
    bench.settle(601.0)
    assert code(consumer) == 100


def test_balancing(bench: Bench) -> None:
    """Providers of both protocols share the connections of consumers of both (R-5.3)."""
    new, old = bench.provider("p1"), old_provider(bench)
    consumers = [old_consumer(bench), old_consumer(bench, "other")]
    for number in range(8):
        consumers[number % 2].open(b"x")
        for stream in set(new.streams) - {0}:
            if len(new.streams[stream].data) and not new.streams[stream].fin:
                new.streams[stream].fin = True  # accepted already, as far as this test goes
                new.write(stream, YES)
        bench.settle()
    assert (len(set(new.streams) - {0}), len(old.streams)) == (4, 4)


def test_notify_shutdown_of_a_provider(bench: Bench) -> None:
    """It gets no new connections, and keeps those that it has."""
    leaving, consumer = old_provider(bench), old_consumer(bench)
    stream = consumer.open(b"hello")
    theirs = leaving.only()
    leaving.say(b"notify_shutdown")
    (changed,) = bench.events(WeightChanged)
    assert (changed.new_weight, changed.reason) == (0, "notify_shutdown")
    staying = old_provider(bench)
    consumer.open(b"second")
    assert list(leaving.streams) == [theirs]
    assert staying.streams[staying.only()].data == b"second"
    leaving.write(theirs, b"bye", fin=True)
    consumer.write(stream, b"", fin=True)
    assert consumer.streams[stream].data == b"bye"
    leaving.close()
    assert bench.events(SessionEnded)[0].terminate_reason is TerminateReason.TERMINATED_BY_PEER


def test_words_that_say_nothing(bench: Bench) -> None:
    """A word of the other role, of a hub, or none at all changes nothing."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    for word in (b"", b"notify_shutdow", b"\xff" * 1000, b"notify_active", b"notify_standby", b"NOTIFY_SHUTDOWN"):
        provider.say(word)
        consumer.say(word)
    provider.say(b"request_provider_start")
    consumer.say(b"notify_shutdown")
    assert (bench.events(WeightChanged), bench.events(LimitReached), bench.services) == ([], [], [])
    consumer.open(b"hello")
    assert provider.streams[provider.only()].data == b"hello"


def on_demand(**changes: object) -> ServiceDefinition:
    """A service that is started at the first payload, and stopped after 60 s without a connection."""
    availability = Availability("urn:cluster", "web", start_on_payload=True, idle_timeout=60.0)
    return ServiceDefinition(SERVICE, "web", "server", frozenset({"client"}), availability=availability)


def test_first_byte_starts_the_service() -> None:
    """A payload is a stream with its first byte (D-29)."""
    bench = Bench(service=on_demand())
    consumer = old_consumer(bench)
    bench.settle(5.0)
    assert not bench.services
    stream = consumer.open(b"hello")
    (asked,) = bench.services
    assert isinstance(asked, StartService) and asked.reason == "payload"
    bench.tell(StartSucceeded(SERVICE))
    provider = old_provider(bench)
    assert provider.streams[provider.only()].data == b"hello"
    provider.write(provider.only(), b"", fin=True)
    consumer.write(stream, b"", fin=True)
    assert consumer.heard() == []
    bench.settle(61.0)
    assert isinstance(bench.services[-1], StopService)
    assert consumer.heard() == []
    bench.tell(StopSucceeded(SERVICE))
    assert consumer.heard() == [b"notify_provider_stopped"]
    assert consumer.closed is None


def test_request_provider_start() -> None:
    """It starts the service without a stream; once in 10 s per consumer."""
    bench = Bench(service=on_demand())
    consumer = old_consumer(bench)
    for _ in range(5):
        consumer.say(b"request_provider_start")
    (asked,) = bench.services
    assert isinstance(asked, StartService) and asked.reason == "payload"
    bench.settle(2.0)
    limits = bench.events(LimitReached)
    assert {one.limit for one in limits} == {"providerRequests"}
    assert sum(one.count for one in limits) == 4
    bench.settle(10.0)
    consumer.say(b"request_provider_start")
    bench.settle(2.0)
    assert sum(one.count for one in bench.events(LimitReached)) == 4


@pytest.mark.parametrize(
    ("role", "subject", "closed"),
    [
        (PROVIDER, "client", 2),  # a consumer's certificate is no provider's
        (CONSUMER, "server", 2),
        (CONSUMER, "stranger", 2),
        (PROVIDER, "stranger", 2),
    ],
)
def test_refusals(bench: Bench, role: EndPointType, subject: str, closed: int) -> None:
    """By the certificate's common name, with an event and sc01's code."""
    peer = OldPeer(bench, role, subject)
    assert peer.closed is not None
    assert (peer.closed[0], subject in peer.closed[1]) == (closed, True)
    (event,) = bench.events(SessionRefused)
    assert (event.code, event.spn_end_point, event.service_urn) == (Code.NOT_ALLOWED, f"CN={subject}", None)
    assert not bench.events(SessionStarted)


def test_a_singleton_has_one_provider() -> None:
    """The second one is refused with a number that sc01 gives no other meaning."""
    bench = Bench(service=ServiceDefinition(SERVICE, "web", "server", frozenset({"client"}), singleton=True))
    first, second = old_provider(bench), OldPeer(bench, PROVIDER, "server")
    assert code(second) == Code.SINGLETON
    first.close()
    old_provider(bench)


def test_same_certificate_many_sessions(bench: Bench) -> None:
    """Agents that share a certificate are many: none takes another's place."""
    providers = [old_provider(bench) for _ in range(3)]
    consumers = [old_consumer(bench) for _ in range(3)]
    assert not bench.events(SessionEnded)
    for consumer in consumers:
        consumer.open(b"x")
    assert [len(provider.streams) for provider in providers] == [1, 1, 1]


def test_planned_stop(bench: Bench) -> None:
    """Streams are cut with an error, and each connection is closed, consumers first."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    stream = consumer.open(b"hello")
    bench.tell(StopHub())
    assert consumer.streams[stream].reset == Code.SHUTDOWN
    assert (consumer.closed, provider.closed) == ((0, "the hub is being stopped"),) * 2
    assert bench.stopped
    assert ended(bench).disconnect_reason is DisconnectReason.CLOSED
    idle(bench)


@pytest.mark.parametrize("mixed", [False, True])
def test_resumable_stop_drains(bench: Bench, mixed: bool) -> None:
    """notify_shutdown; what is open goes on until it ends by itself, and nothing new is taken."""
    provider = old_provider(bench)
    consumer = bench.consumer() if mixed else old_consumer(bench)
    if isinstance(consumer, Peer):
        stream = consumer.open(OPEN, b"hello")
        bench.settle()
        consumer.control.clear()
    else:
        stream = consumer.open(b"hello")
    bench.tell(StopHub(resumable=True))
    assert provider.heard() == [b"notify_shutdown"]
    if isinstance(consumer, Peer):
        assert [type(packet) for packet in consumer.control] == [ShutdownRequest]
        assert PauseRequest not in map(type, consumer.control)
    else:
        assert consumer.heard() == [b"notify_shutdown"]
    bench.settle(12.0)
    theirs = provider.only()
    provider.write(theirs, b"still here", fin=True)
    consumer.write(stream, b"", fin=True)
    bench.settle()
    assert consumer.streams[stream].data.endswith(b"still here")
    if isinstance(consumer, Peer):
        consumer.send(CloseAck(UID, 0))
        bench.settle()
    assert ended(bench).disconnect_reason is DisconnectReason.CLOSED_BY_PEER
    consumer.close()
    provider.close()
    bench.settle()
    assert bench.stopped


def test_resumable_stop_has_a_bound(bench: Bench) -> None:
    """A connection that doesn't end is cut after the shutdown's time, as by a planned stop."""
    provider, consumer = old_provider(bench), old_consumer(bench)
    stream = consumer.open(b"hello")
    bench.tell(StopHub(resumable=True))
    bench.settle(19.0)
    assert (consumer.streams[stream].reset, consumer.closed) == (None, None)
    bench.settle(2.0)
    assert consumer.streams[stream].reset == Code.SHUTDOWN
    assert provider.closed == (0, "the hub is being stopped")
    assert bench.stopped


def test_a_silent_provider_keeps_its_connections(bench: Bench) -> None:
    """Suspicion suspends what can go on elsewhere; this can't, and a stall is survived (D-20)."""
    provider, consumer = old_provider(bench), bench.consumer()
    stream = consumer.open(OPEN, b"hello")
    bench.settle()
    theirs = provider.only()
    provider.node.freeze()
    consumer.write(stream, b", are you there?")
    bench.settle(8.0)
    assert not bench.events(ConnectionEnded)
    provider.node.thaw()
    bench.settle(1.0)
    assert provider.streams[theirs].data == b"hello, are you there?"


def test_a_refused_opening_is_a_reset(bench: Bench) -> None:
    """A new provider's no reaches an old consumer as a reset: never as a clean end."""
    provider, consumer = bench.provider("p1"), old_consumer(bench)
    stream = consumer.open(b"hello")
    (theirs,) = set(provider.streams) - {0}
    provider.write(theirs, protocol.encode(Accept(OpeningKind.OPEN, Code.CONNECT_FAILED, "refused")), fin=True)
    bench.settle()
    assert (consumer.streams[stream].reset, consumer.streams[stream].fin) == (1, False)
    idle(bench)


def test_weight_zero_of_a_new_provider(bench: Bench) -> None:
    """Old consumers heed it like all others, and wait when no provider is left (R-5.4)."""
    provider, consumer = bench.provider("p1"), old_consumer(bench)
    provider.send(SetWeight(0))
    bench.settle()
    stream = consumer.open(b"hello")
    assert consumer.streams[stream].reset is None
    provider.control.clear()
    provider.send(SetWeight(50))
    bench.settle()
    (theirs,) = set(provider.streams) - {0}
    assert provider.header(theirs, Opening)[0].peer == "CN=client"


def test_bounds_hold(bench: Bench) -> None:
    """Openings that wait are bounded as they are for services that start on demand."""
    bench = Bench(options=ActorOptions(waiting_openings=2))
    consumer = old_consumer(bench)
    streams = [consumer.open(b"x") for _ in range(3)]
    assert [consumer.streams[stream].reset for stream in streams] == [None, None, Code.LIMIT]
