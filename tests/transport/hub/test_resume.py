"""Pause and resume over the hub's whole transport, with endpoints written by hand: every packet and every refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spnhub.actors.contract import packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import StopHub
from spnhub.actors.contract.packets import (
    ACK_LIMIT,
    Accept,
    Ack,
    AllConnectionsClosed,
    DataAck,
    Opening,
    OpeningKind,
    PauseAck,
    PauseRequest,
    ResumeAck,
    ResumeInvite,
    ResumeRequest,
    ShutdownRequest,
)
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionResumed,
    ConnectionStarted,
    EndPointType,
    ResumeRefused,
    SessionEnded,
    SessionRefused,
    TerminateReason,
)
from spnhub.transport import protocol
from spnhub.transport.engine import Closed
from tests.transport.hub.bench import SECRET, UID, Bench, Leg, Peer

ASK = ResumeRequest(UID, SECRET, 1, 20, False, 0, "CN=server", "p1")
ANSWER = ResumeRequest(UID, SECRET, 1, 7, False, 0, "CN=client", "p1")
OPEN = Opening(OpeningKind.RESUME, UID, SECRET, 1, 7, 20)


@pytest.fixture
def bench() -> Bench:
    """A hub."""
    return Bench()


@pytest.fixture
def provider(bench: Bench) -> Peer:
    """With a session."""
    return bench.provider()


@pytest.fixture
def consumer(bench: Bench, provider: Peer) -> Peer:
    """With a session."""
    return bench.consumer()


def meet(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Asked, invited, answered, both told."""
    consumer.send(ASK)
    provider.take(ResumeInvite)
    provider.send(ANSWER)
    assert consumer.take(ResumeAck) == ResumeAck(UID, 1, received_offset=7)
    assert provider.take(ResumeAck) == ResumeAck(UID, 1, received_offset=20)


def resumed(bench: Bench, consumer: Peer, provider: Peer) -> Leg:
    """A leg that goes on."""
    meet(bench, consumer, provider)
    cs, ps = consumer.open(OPEN), provider.open(OPEN)
    bench.settle()
    consumer.header(cs, Accept)
    provider.header(ps, Accept)
    return Leg(consumer, cs, provider, ps)


# Resume ---------------------------------------------------------------------------------------------------------------


def test_resume(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Each is told the other's state; bytes that came with the streams pass, in order, with their FIN (R-4.7)."""
    consumer.send(replace(ASK, finished=True))
    assert provider.take(ResumeInvite) == ResumeInvite(UID, SECRET, 1, 20, True, 0, "CN=client")
    provider.send(ANSWER)
    assert consumer.take(ResumeAck) == ResumeAck(UID, 1, received_offset=7)
    assert provider.take(ResumeAck) == ResumeAck(UID, 1, received_offset=20, finished=True)
    cs = consumer.open(OPEN, b"question")
    bench.settle()
    assert consumer.streams[cs].data == b""
    ps = provider.open(OPEN, fin=True)
    bench.settle()
    accept = Accept(OpeningKind.RESUME, 0, "", 1, 7, 20)
    assert consumer.header(cs, Accept) == (replace(accept, instance_id="p1", peer="CN=server"), b"")
    assert provider.header(ps, Accept) == (accept, b"question")
    assert consumer.streams[cs].fin
    (started,), (again,) = bench.events(ConnectionStarted), bench.events(ConnectionResumed)
    assert (started.epoch, started.start_sent_offset, started.start_receive_offset) == (1, 7, 20)
    assert started.spn_connection_id == again.spn_connection_id == f"{cs}-{ps}"
    consumer.write(cs, b"", fin=True)
    bench.settle()
    consumer.send(packets.CloseRequest(UID, 1, 15, 20, True))
    assert provider.take(packets.CloseRequest).epoch == 1
    provider.send(packets.CloseAck(UID, 1))
    assert consumer.take(packets.CloseAck) == packets.CloseAck(UID, 1)
    (ended,) = bench.events(ConnectionEnded)
    assert (ended.total_sent_bytes, ended.total_receive_bytes, ended.start_sent_offset) == (8, 0, 7)
    assert not ended.suspended


@pytest.mark.parametrize(
    ("change", "code", "retryable"),
    [
        ({"instance_id": "p9"}, Code.NOT_HERE, True),
        ({"peer": "CN=other"}, Code.NOT_HERE, True),
        ({"epoch": 0}, Code.PROTOCOL, False),
    ],
)
def test_refused_by_the_hub(
    bench: Bench, consumer: Peer, provider: Peer, change: dict[str, object], code: Code, *, retryable: bool
) -> None:
    """The provider hears nothing, the log says why, and nothing is left."""
    consumer.send(replace(ASK, **change))  # type: ignore[arg-type]
    ack = consumer.take(ResumeAck)
    assert (ack.code, ack.retryable) == (code, retryable)
    assert not provider.control
    assert [event.code for event in bench.events(ResumeRefused)] == [code]
    assert not bench.server.counts()["resumes"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"code": Code.ENDED}, Code.ENDED),
        ({"code": Code.CLOSED}, Code.CLOSED),
        ({"code": Code.STALE}, Code.STALE),
        ({"resume_secret": bytes(16)}, Code.NOT_ALLOWED),
        ({"peer": "CN=other"}, Code.NOT_ALLOWED),
    ],
)
def test_refused_by_the_provider(
    bench: Bench, consumer: Peer, provider: Peer, change: dict[str, object], code: Code
) -> None:
    """Both are told; the secret is in no event."""
    consumer.send(ASK)
    provider.take(ResumeInvite)
    provider.send(replace(ANSWER, **change))  # type: ignore[arg-type]
    assert consumer.take(ResumeAck).code == code
    assert provider.take(ResumeAck).code == code
    assert [event.code for event in bench.events(ResumeRefused)] == [code]
    assert not bench.server.counts()["resumes"]
    log = repr([recorded.event for recorded in bench.journal.records])
    assert SECRET.hex() not in log
    assert repr(SECRET) not in log


def test_closed_notice(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Passed on, and answered with what it said."""
    consumer.send(replace(ASK, code=Code.PEER_RESET))
    assert provider.take(ResumeInvite).code == Code.PEER_RESET
    provider.send(ANSWER)
    assert provider.take(ResumeAck).code == Code.PEER_RESET
    assert consumer.take(ResumeAck).code == Code.PEER_RESET


def test_two_attempts(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """The higher epoch wins, whichever was first."""
    consumer.send(ASK, replace(ASK, epoch=2))
    bench.settle()
    assert [packet.epoch for packet in provider.control if isinstance(packet, ResumeInvite)] == [1, 2]
    provider.send(replace(ANSWER, epoch=2))
    bench.settle()
    assert {(a.epoch, a.code) for a in consumer.control if isinstance(a, ResumeAck)} == {(1, Code.STALE), (2, 0)}


def test_a_provider_that_is_silent_and_then_late(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Five seconds, and no longer."""
    consumer.send(ASK)
    provider.take(ResumeInvite)
    bench.settle(5.0)
    assert consumer.take(ResumeAck).code == Code.TIMEOUT
    provider.send(ANSWER)
    assert provider.take(ResumeAck).code == Code.TIMEOUT


def test_streams_that_do_not_come(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """The one that is there is reset so that its endpoint is Paused; the other is refused when it comes."""
    meet(bench, consumer, provider)
    cs = consumer.open(OPEN)
    bench.settle(5.1)
    assert consumer.streams[cs].reset == Code.PEER_LOST
    ps = provider.open(OPEN)
    bench.settle()
    accept, _ = provider.header(ps, Accept)
    assert accept.code == Code.TIMEOUT
    assert not any(bench.server.counts().values())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"resume_secret": bytes(16)}, Code.NOT_ALLOWED),
        ({"sent_offset": 8}, Code.PROTOCOL),
        ({"receive_offset": 0}, Code.PROTOCOL),
        ({"epoch": 2}, Code.TIMEOUT),
        ({"connection_uid": bytes(16).hex()}, Code.TIMEOUT),
    ],
)
@pytest.mark.parametrize("side", ["consumer", "provider"])
def test_streams_that_are_wrong(
    bench: Bench, consumer: Peer, provider: Peer, side: str, change: dict[str, object], code: Code
) -> None:
    """Refused on the stream; a fault of who has the right to open it ends the resume on the other side, too."""
    meet(bench, consumer, provider)
    wrong, right = (consumer, provider) if side == "consumer" else (provider, consumer)
    good = right.open(OPEN)
    bench.settle()
    bad = wrong.open(replace(OPEN, **change))  # type: ignore[arg-type]
    bench.settle()
    accept, _ = wrong.header(bad, Accept)
    assert accept.code == code
    assert right.streams[good].reset == (None if code is Code.TIMEOUT else code)


def test_a_stream_that_comes_twice(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Is a fault."""
    meet(bench, consumer, provider)
    first, second = consumer.open(OPEN), consumer.open(OPEN)
    bench.settle()
    assert consumer.header(second, Accept)[0].code == Code.PROTOCOL
    assert consumer.streams[first].reset == Code.PROTOCOL


def test_reset_before_the_other_stream_is_there(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """A program's reset in between reaches the other side."""
    meet(bench, consumer, provider)
    cs = consumer.open(OPEN)
    bench.settle()
    consumer.abort(cs, Code.PEER_RESET)
    bench.settle()
    assert [event.code for event in bench.events(ResumeRefused)] == [Code.PEER_RESET]


@pytest.mark.parametrize("who", ["consumer", "provider"])
def test_session_lost_in_between(bench: Bench, consumer: Peer, provider: Peer, who: str) -> None:
    """The other goes back to Paused."""
    meet(bench, consumer, provider)
    gone, left = (consumer, provider) if who == "consumer" else (provider, consumer)
    stream_id = left.open(OPEN)
    bench.settle()
    gone.close()
    bench.settle()
    assert left.streams[stream_id].reset == Code.PEER_LOST
    assert not bench.server.counts()["resumes"]


def test_a_stranger_gets_nothing(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Another consumer that knows uid, provider and epoch, and not the secret: the connection goes on."""
    leg = bench.leg(consumer, provider)
    stranger = bench.consumer("other", "c2")
    stranger.send(replace(ASK, resume_secret=bytes(16)))
    invite = provider.take(ResumeInvite)
    assert (invite.resume_secret, invite.peer) == (bytes(16), "CN=other")
    provider.send(ANSWER)  # even if the provider did not compare
    assert stranger.take(ResumeAck).code == Code.NOT_ALLOWED
    consumer.write(leg.cs, b"still here")
    bench.settle()
    assert provider.streams[leg.ps].data.endswith(b"still here")


def test_resume_while_the_older_leg_is_open(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """A consumer that left a leg which the hub still holds: it ends, suspended, before the next starts."""
    leg = bench.leg(consumer, provider)
    again = resumed(bench, consumer, provider)
    assert consumer.streams[leg.cs].reset == provider.streams[leg.ps].reset == Code.LEFT
    again.consumer.write(again.cs, b"more")
    bench.settle()
    assert provider.streams[again.ps].data.endswith(b"more")
    kinds = [type(r.event).__name__ for r in bench.journal.records if type(r.event).__name__.startswith("Connection")]
    assert kinds == [
        "ConnectionStarted",
        "ConnectionPaused",
        "ConnectionEnded",
        "ConnectionStarted",
        "ConnectionResumed",
    ]


def test_request_before_the_session(bench: Bench) -> None:
    """Nobody asks before it is accepted."""
    peer = Peer(bench, EndPointType.CONSUMER, "client", "c1")
    peer.connected = lambda: peer.send(  # type: ignore[method-assign]
        packets.SessionRequest(EndPointType.CONSUMER, "urn:x", "c1"), ASK
    )
    bench.settle(2.0)
    assert peer.closed is not None
    assert peer.closed.code == Code.PROTOCOL


def test_required_kinds_are_mandatory(bench: Bench) -> None:
    """An endpoint that doesn't read a required kind of spn/1 is refused, for good (D-37)."""
    peer = Peer(bench, EndPointType.PROVIDER, "server", "p1")
    kinds = packets.own_kinds()
    del kinds[8]
    request = packets.SessionRequest(EndPointType.PROVIDER, "urn:chip-in:service:acme:main:web", "p1", kinds=kinds)
    peer.connected = lambda: peer.send(request)  # type: ignore[method-assign]
    refusal = peer.take(packets.SessionRefusal)
    assert (refusal.code, refusal.retryable) == (Code.VERSION, False)
    assert refusal.reason == "an endpoint of spn/1 reads PauseRequest, too"
    assert [event.code for event in bench.events(SessionRefused)] == [Code.VERSION]


# Acknowledgements -----------------------------------------------------------------------------------------------------


def test_acks_are_passed_on(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """One packet a session and turn with the newest of each connection, both ways, and no event."""
    other = bytes(range(16, 32)).hex()
    bench.leg(consumer, provider)
    bench.leg(consumer, provider, other)
    count = len(bench.journal.records)
    consumer.send(DataAck((Ack(UID, 0, 1), Ack(other, 0, 2))), DataAck((Ack(UID, 0, 3),)))
    provider.send(DataAck((Ack(UID, 0, 9),)))
    assert provider.take(DataAck) == DataAck((Ack(UID, 0, 3), Ack(other, 0, 2)))
    assert consumer.take(DataAck) == DataAck((Ack(UID, 0, 9),))
    assert len(bench.journal.records) == count


def test_acks_that_nobody_waits_for(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Of another epoch, an unknown connection, one that has ended."""
    leg = bench.leg(consumer, provider)
    consumer.send(DataAck((Ack(UID, 1, 1), Ack(bytes(16).hex(), 0, 2))))
    bench.settle()
    consumer.abort(leg.cs, Code.PEER_RESET)
    bench.settle()
    consumer.send(DataAck((Ack(UID, 0, 1),)))
    bench.settle()
    assert not provider.control
    assert not bench.server.counts()["ack_ends"]


def test_acks_of_a_later_leg(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """The end of the older leg takes nothing away from the new one."""
    bench.leg(consumer, provider)
    resumed(bench, consumer, provider)
    consumer.control.clear()
    provider.control.clear()
    consumer.send(DataAck((Ack(UID, 1, 30), Ack(UID, 0, 20))))
    assert provider.take(DataAck) == DataAck((Ack(UID, 1, 30),))


def test_too_many_acks(bench: Bench, consumer: Peer) -> None:
    """The bound is the protocol's."""
    consumer.send(DataAck(tuple(Ack(UID, 0, n) for n in range(ACK_LIMIT + 1))))
    bench.settle()
    assert consumer.closed is not None
    assert consumer.closed.code == Code.PROTOCOL


def test_acks_wait_for_a_reader(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """A full control stream gets the newest when there is room again; what waits is bounded by the legs."""
    bench.leg(consumer, provider)
    session = next(one for one in bench.server.sessions if one.common_name == "server")
    session.outgoing += protocol.encode(AllConnectionsClosed())
    for offset in (1, 2, 3):
        consumer.send(DataAck((Ack(UID, 0, offset),)))
        bench.settle()
    assert bench.server.counts()["acks"] == 1
    bench.server.sessions.flush(session)
    bench.node.flush()
    bench.settle()
    assert provider.control == [AllConnectionsClosed(), DataAck((Ack(UID, 0, 3),))]


# Resumable shutdown ---------------------------------------------------------------------------------------------------


def test_shutdown(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """The sequence of R-4.8, packet by packet."""
    leg = bench.leg(consumer, provider)
    consumer.write(leg.cs, b"0123456789")
    bench.settle()
    bench.tell(StopHub(resumable=True, spread=2.0))
    for peer in (consumer, provider):
        assert peer.control == [ShutdownRequest(True, 2000), PauseRequest(UID, 0)]
        peer.control.clear()
    consumer.send(PauseAck(UID, 0, 0))
    provider.send(PauseAck(UID, 0, 8))
    for peer, stream_id in ((consumer, leg.cs), (provider, leg.ps)):
        assert peer.take(AllConnectionsClosed) == AllConnectionsClosed()
        assert (peer.streams[stream_id].reset, peer.streams[stream_id].stopped) == (Code.PAUSED, Code.PAUSED)
        peer.close()
    bench.settle()
    assert bench.stopped
    (paused,), (ended,) = bench.events(ConnectionPaused), bench.events(ConnectionEnded)
    assert (paused.planned, paused.sent_offset, ended.total_sent_bytes, ended.suspended) == (True, 8, 8, True)
    assert {event.terminate_reason for event in bench.events(SessionEnded)} == {TerminateReason.SHUTDOWN}


def test_silent_endpoints_do_not_stop_a_shutdown(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Five seconds for the pause, five for the session."""
    leg = bench.leg(consumer, provider)
    bench.tell(StopHub(resumable=True))
    bench.settle(5.0)
    assert consumer.streams[leg.cs].reset == Code.PAUSED
    assert not bench.events(SessionEnded)
    bench.settle(5.1)
    assert bench.stopped
    assert isinstance(consumer.closed, Closed)
    assert consumer.closed.code == Code.SHUTDOWN


def test_an_opening_under_way_is_refused(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Its consumer has exposed no byte and tries another session; the provider's stream is let go."""
    cs = consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    (ps,) = provider.streams
    bench.tell(StopHub(resumable=True))
    assert consumer.header(cs, Accept)[0].code == Code.SHUTDOWN
    assert consumer.streams[cs].fin
    assert provider.streams[ps].reset == Code.SHUTDOWN


def test_nothing_new(bench: Bench, consumer: Peer, provider: Peer) -> None:
    """Sessions, connections and resumes are refused, all retryably."""
    bench.leg(consumer, provider)
    bench.tell(StopHub(resumable=True))
    consumer.control.clear()
    late = Peer(bench, EndPointType.CONSUMER, "client", "c7")
    refusal = late.take(packets.SessionRefusal)
    assert (refusal.code, refusal.retryable) == (Code.SHUTDOWN, True)
    stream_id = consumer.open(Opening(OpeningKind.OPEN, "0" * 32, SECRET))
    bench.settle()
    assert consumer.header(stream_id, Accept)[0].code == Code.SHUTDOWN
    consumer.send(replace(ASK, connection_uid=bytes(16).hex()))
    ack = consumer.take(ResumeAck)
    assert (ack.code, ack.retryable) == (Code.SHUTDOWN, True)


@pytest.mark.parametrize("code", [Code.MOVED, Code.LEFT])
def test_an_endpoint_leaves(bench: Bench, consumer: Peer, provider: Peer, code: Code) -> None:
    """The other sees why; the leg is suspended."""
    leg = bench.leg(consumer, provider)
    consumer.abort(leg.cs, code)
    bench.settle()
    assert provider.streams[leg.ps].reset == code
    (ended,) = bench.events(ConnectionEnded)
    assert (ended.suspended, ended.code) == (True, code)


def test_pause_at_one_hub_and_resume_at_another() -> None:
    """What the first hub's log ends with, the second's begins with."""
    first, second = Bench(), Bench()
    holder = first.provider()
    a = first.leg(first.consumer(), holder)
    a.consumer.write(a.cs, b"0123456789")
    first.settle()
    first.tell(StopHub(resumable=True))
    a.consumer.send(PauseAck(UID, 0, 0))
    a.provider.send(PauseAck(UID, 0, 7))
    first.settle()
    provider, consumer = second.provider(), second.consumer()
    consumer.send(replace(ASK, received_offset=0))
    provider.take(ResumeInvite)
    provider.send(ANSWER)
    second.settle()
    opening = replace(OPEN, receive_offset=0)
    consumer.open(opening, b"789")
    ps = provider.open(opening)
    second.settle()
    assert provider.header(ps, Accept)[1] == b"789"
    (ended,), (started,) = first.events(ConnectionEnded), second.events(ConnectionStarted)
    assert ended.start_sent_offset + ended.total_sent_bytes == started.start_sent_offset == 7
