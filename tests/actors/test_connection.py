"""Playbooks of a connection: every way it can open and end (R-4.2 to R-4.5, D-17), whole lists of what comes out."""

from __future__ import annotations

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    ForgetConnection,
    JoinStreams,
    OpenProviderStream,
    RefuseConnection,
    SendPacket,
)
from spnhub.actors.contract.inputs import (
    ConnectionRequested,
    ConsumerAborted,
    Key,
    LoadInventory,
    ProviderAccepted,
    ProviderRejected,
    ProviderStreamOpened,
    SessionUnresponsive,
)
from spnhub.actors.contract.packets import CloseAck, CloseRequest, PauseRequest
from spnhub.actors.system import ActorOptions
from tests.actors.harness import (
    BY_PEER,
    CONSUMER,
    ERROR,
    FAILED,
    LEFT,
    LOST,
    OTHER_SERVICE,
    PROVIDER,
    TERMINATED,
    Bench,
    answer,
    ask,
    cut,
    ended,
    failed,
    fins,
    inventory,
    open_request,
    paused,
    realm,
    refused,
    service,
    session_ended,
    started,
    uid,
)

KEY = Key(2, 0)
FORGET = ForgetConnection(KEY)
HASTY = "closed before both directions ended"


@pytest.fixture
def bench() -> Bench:
    """A provider's session 1 and a consumer's session 2."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    return bench


def passed_on(session: int, *, finished: bool = True) -> SendPacket:
    """A Close Request as the hub passes it on."""
    return SendPacket(session, CloseRequest("uid0", 0, 10, 20, finished))


def ack(session: int) -> SendPacket:
    """A Close ACK of the hub."""
    return SendPacket(session, CloseAck("uid0", 0))


def test_opens_and_closes(bench: Bench) -> None:
    """The plain life: opened, accepted, both FINs, the consumer asks, the provider acknowledges (R-4.5)."""
    assert bench.session(2, open_request()) == ([], [OpenProviderStream(KEY, 1, "CN=client")])
    assert bench.connection(KEY, ProviderStreamOpened(1)) == ([started()], [])
    assert bench.connection(KEY, ProviderAccepted()) == ([], [JoinStreams(KEY, "CN=server", "i1")])
    bench.step(1.5)
    assert bench.connection(KEY, fins()) == ([], [])
    assert bench.session(2, ask()) == ([], [passed_on(1)])
    assert bench.session(1, answer()) == ([ended(BY_PEER, Code.OK, elapsed=1.5)], [ack(2), FORGET])
    assert bench.system.timer() is None


def test_provider_asks(bench: Bench) -> None:
    """The other way round, and the request comes before the splice is known to have ended."""
    bench.joined()
    assert bench.session(1, ask()) == ([], [passed_on(2)])
    assert bench.session(2, answer()) == ([], [])
    assert bench.step(1000.0) == ([], [])  # slow last bytes are waited for
    assert bench.connection(KEY, fins()) == ([ended(BY_PEER, Code.OK, elapsed=1000.0)], [ack(1), FORGET])


def test_crossing_requests(bench: Bench) -> None:
    """Both ask before either has heard of the other: each is answered, the leg ends once."""
    bench.finished()
    assert bench.session(2, ask()) == ([], [passed_on(1)])
    assert bench.session(1, ask()) == ([ended(BY_PEER, Code.OK)], [ack(2), ack(1), FORGET])
    assert bench.session(1, answer()) == ([], [])


def test_crossing_requests_before_the_splice_has_ended(bench: Bench) -> None:
    """The same while the last bytes are on their way."""
    bench.joined()
    bench.session(1, ask())
    assert bench.session(2, ask()) == ([], [])
    assert bench.connection(KEY, fins()) == ([ended(BY_PEER, Code.OK)], [ack(1), ack(2), FORGET])


def test_repeated_request_is_passed_on_once(bench: Bench) -> None:
    """An endpoint that repeats itself changes nothing."""
    bench.finished()
    bench.session(2, ask())
    assert bench.session(2, ask()) == ([], [])
    assert bench.session(1, answer()) == ([ended(BY_PEER, Code.OK)], [ack(2), FORGET])


def test_ack_without_a_request(bench: Bench) -> None:
    """Nobody asked, so an answer says nothing; the asker's own answer neither."""
    bench.finished()
    assert bench.session(1, answer()) == ([], [])
    bench.session(2, ask())
    assert bench.session(2, answer()) == ([], [])


def test_close_request_for_what_has_ended(bench: Bench) -> None:
    """The asker comes to its end by asking the other end, which alone knows whether it has everything."""
    assert bench.session(2, ask()) == ([], [SendPacket(2, PauseRequest("uid0", 0))])
    assert bench.session(2, answer()) == ([], [])


def test_nobody_asks(bench: Bench) -> None:
    """Both FINs and then silence: whoever still reads may take as long as it likes."""
    bench.finished()
    assert bench.step(3600.0) == ([], [])
    bench.session(2, ask())
    assert bench.session(1, answer()) == ([ended(BY_PEER, Code.OK, elapsed=3600.0)], [ack(2), FORGET])


def test_nobody_answers(bench: Bench) -> None:
    """Nobody answers in the name of a side that hasn't: it may lack the last bytes, which its next leg brings."""
    bench.finished()
    bench.session(2, ask())
    assert bench.step(3600.0) == ([], [])


def test_hasty_close(bench: Bench) -> None:
    """Closed before both FINs: passed on, then cut; TCP sees a reset, the log an orderly end with its code (D-17)."""
    bench.joined()
    assert bench.session(2, ask(finished=False)) == ([], [passed_on(1, finished=False)])
    assert bench.session(1, answer()) == ([], [AbortConnection(KEY, Code.CLOSE_REQUESTED)])
    assert bench.connection(KEY, cut(5, 6)) == (
        [ended(BY_PEER, Code.CLOSE_REQUESTED, HASTY, sent=5, received=6)],
        [ack(2), FORGET],
    )


def test_hasty_close_without_an_answer(bench: Bench) -> None:
    """It is cut anyway when the timeout has passed."""
    bench.joined()
    bench.session(1, ask(finished=False))
    assert bench.step(10.0) == ([], [AbortConnection(KEY, Code.CLOSE_REQUESTED)])
    assert bench.session(2, ask()) == ([], [])
    assert bench.connection(KEY, cut()) == (
        [ended(BY_PEER, Code.CLOSE_REQUESTED, HASTY, elapsed=10.0)],
        [ack(1), ack(2), FORGET],
    )


def test_hasty_close_after_a_patient_one(bench: Bench) -> None:
    """Who asked patiently may lose patience; that it was agreed to already suffices."""
    bench.joined()
    bench.session(2, ask())
    bench.session(1, answer())
    assert bench.session(2, ask(finished=False)) == ([], [AbortConnection(KEY, Code.CLOSE_REQUESTED)])


@pytest.mark.parametrize("splice", [cut(), cut(lost=True)], ids=["reset", "lost"])
def test_hasty_close_then_reset(bench: Bench, splice: object) -> None:
    """Who asked first decides the reason, not the reset that came after it (D-5)."""
    bench.joined()
    bench.session(2, ask(finished=False))
    expected = [ended(BY_PEER, Code.CLOSE_REQUESTED, HASTY)], [ack(2), FORGET]
    assert bench.connection(KEY, splice) == expected  # type: ignore[arg-type]


def test_hasty_close_then_fins(bench: Bench) -> None:
    """Both FINs pass while the immediate request is under way: then nothing was cut."""
    bench.joined()
    bench.session(2, ask(finished=False))
    assert bench.connection(KEY, fins()) == ([], [])
    assert bench.session(1, answer()) == ([ended(BY_PEER, Code.OK)], [ack(2), FORGET])


def test_reset(bench: Bench) -> None:
    """An application resets: error, with its code and the bytes until then."""
    bench.joined()
    reason = "reset before both directions ended"
    assert bench.connection(KEY, cut(7, 8)) == ([ended(ERROR, Code.PEER_RESET, reason, sent=7, received=8)], [FORGET])
    assert bench.system.timer() is None


@pytest.mark.parametrize("code", [0, 999, 2**62 - 1])
def test_reset_with_any_code(bench: Bench, code: int) -> None:
    """An endpoint may send any code; the log keeps it."""
    bench.joined()
    reason = "reset before both directions ended"
    assert bench.connection(KEY, cut(code=code)) == ([ended(ERROR, code, reason)], [FORGET])


def test_rejected(bench: Bench) -> None:
    """The provider can't reach its server: the consumer hears why."""
    bench.connecting()
    assert bench.connection(KEY, ProviderRejected(Code.CONNECT_FAILED, "refused")) == (
        [
            failed(Code.CONNECT_FAILED, "refused"),
            ended(ERROR, Code.CONNECT_FAILED, "refused", sent=0, received=0, rejected=True),
        ],
        [RefuseConnection(KEY, Code.CONNECT_FAILED, "refused")],
    )


@pytest.mark.parametrize("code", [0, 4711])
def test_rejected_with_a_code_that_says_nothing(bench: Bench, code: int) -> None:
    """The consumer gets a code of the table. Without any it is the provider's fault, another is the application's."""
    bench.connecting()
    events, commands = bench.connection(KEY, ProviderRejected(code, ""))
    assert events[-1] == ended(ERROR, Code.CONNECT_FAILED, sent=0, received=0, rejected=True)
    assert events[:-1] == ([] if code else [failed(Code.CONNECT_FAILED, "")])
    assert commands == [RefuseConnection(KEY, Code.CONNECT_FAILED, "")]


def test_provider_is_silent(bench: Bench) -> None:
    """No accept in time."""
    bench.connecting()
    assert bench.step(14.9) == ([], [])
    reason = "the provider did not answer in time"
    assert bench.step(0.1) == (
        [
            failed(Code.CONNECT_TIMEOUT, reason, wall_us=bench.wall_us),
            ended(ERROR, Code.CONNECT_TIMEOUT, reason, sent=0, received=0, elapsed=15.0, rejected=True),
        ],
        [RefuseConnection(KEY, Code.CONNECT_TIMEOUT, reason)],
    )


def test_no_stream_to_the_provider(bench: Bench) -> None:
    """The provider never allows another stream: the leg hasn't started, so its trace is a refusal."""
    bench.opening()
    reason = "the provider did not answer in time"
    assert bench.step(15.0) == (
        [failed(Code.CONNECT_TIMEOUT, reason, wall_us=bench.wall_us), refused(Code.CONNECT_TIMEOUT, reason)],
        [RefuseConnection(KEY, Code.CONNECT_TIMEOUT, reason)],
    )


def test_consumer_gives_up(bench: Bench) -> None:
    """Before the streams were joined, whether the leg has started or not."""
    bench.connecting()
    assert bench.connection(KEY, ConsumerAborted(Code.PEER_RESET)) == (
        [ended(ERROR, Code.PEER_RESET, "the consumer gave up", sent=0, received=0)],
        [AbortConnection(KEY, Code.PEER_RESET), FORGET],
    )
    other = bench.opening(stream=4)
    assert bench.connection(other, ConsumerAborted(0)) == (
        [refused(Code.PEER_RESET, "the consumer gave up", stream=4)],
        [AbortConnection(other, Code.PEER_RESET), ForgetConnection(other)],
    )


@pytest.mark.parametrize("side", [1, 2])
def test_close_request_while_connecting(bench: Bench, side: int) -> None:
    """It is orderly, and there is nothing to wait for."""
    bench.connecting()
    assert bench.session(side, ask(finished=False)) == (
        [ended(BY_PEER, Code.CLOSE_REQUESTED, HASTY, sent=0, received=0)],
        [AbortConnection(KEY, Code.CLOSE_REQUESTED), ack(side), FORGET],
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": 1}, "a new connection begins with epoch and offsets 0"),
        ({"sent_offset": 1}, "a new connection begins with epoch and offsets 0"),
        ({"receive_offset": 1}, "a new connection begins with epoch and offsets 0"),
    ],
)
def test_opening_that_does_not_begin_at_0(bench: Bench, change: dict[str, int], reason: str) -> None:
    """A new connection has no past."""
    events, commands = bench.session(2, open_request(**change))
    assert [type(event).__name__ for event in events] == ["ConnectionRefused"]
    assert commands == [RefuseConnection(KEY, Code.PROTOCOL, reason)]


def test_uid_in_use(bench: Bench) -> None:
    """Two open legs can't share uid and epoch: Close Requests would name both."""
    bench.joined()
    reason = "a connection with this uid is open"
    events, commands = bench.session(2, ConnectionRequested(4, "uid0", 0, 0, 0))
    assert events == [refused(Code.PROTOCOL, reason)]
    assert commands == [RefuseConnection(Key(2, 4), Code.PROTOCOL, reason)]


def test_limit() -> None:
    """A bound on open connections of a session; one that ends makes room."""
    bench = Bench(options=ActorOptions(session_connections=2))
    bench.provider()
    bench.consumer()
    bench.opening(stream=0)
    bench.joined(stream=4)
    reason = "2 connections are open on this session"
    assert bench.session(2, open_request(8)) == (
        [refused(Code.LIMIT, reason, stream=8)],
        [RefuseConnection(Key(2, 8), Code.LIMIT, reason)],
    )
    bench.connection(Key(2, 4), cut())
    bench.opening(stream=8)


def test_limit_of_an_identity() -> None:
    """A bound on open connections of all sessions of one subject."""
    bench = Bench(options=ActorOptions(identity_connections=2))
    bench.provider()
    bench.consumer()
    bench.consumer(3, instance_id="i3")
    bench.opening(stream=0)
    bench.joined(stream=4)
    reason = "its subject has 2 connections, as many as it may"
    assert bench.session(3, open_request(8))[1] == [RefuseConnection(Key(3, 8), Code.LIMIT, reason)]
    bench.connection(Key(2, 4), cut())
    assert not isinstance(bench.session(3, open_request(8))[1][0], RefuseConnection)


def test_limit_of_a_realm() -> None:
    """A bound on open connections of all sessions and services of one realm; another realm's don't count."""
    bench = Bench(services=())
    other = "urn:chip-in:service:beta:main:web"
    beta = realm(service(other), name="beta")
    bench.hub(LoadInventory((realm(service(), max_connections=2), beta)))
    bench.provider()
    bench.consumer()
    bench.consumer(3, instance_id="i3")
    bench.opening(stream=0)
    bench.joined(stream=4)
    reason = "realm acme has 2 connections, as many as it may"
    assert bench.session(3, open_request(8)) == (
        [refused(Code.LIMIT, reason, stream=8, consumer=3)],
        [RefuseConnection(Key(3, 8), Code.LIMIT, reason)],
    )
    bench.provider(5, realm="beta", network_urn=beta.networks[0].urn, service_urn=other)
    bench.consumer(6, realm="beta", network_urn=beta.networks[0].urn, service_urn=other)
    assert not isinstance(bench.session(6, open_request(8))[1][0], RefuseConnection)
    bench.connection(Key(2, 4), cut())
    assert not isinstance(bench.session(3, open_request(12))[1][0], RefuseConnection)


def test_limit_of_a_service() -> None:
    """A bound on open connections of one service; the others of the realm don't count, and a reload changes it."""
    few = service(max_connections=1)
    bench = Bench(services=(few, service(OTHER_SERVICE)))
    bench.provider()
    bench.consumer()
    bench.opening(stream=0)
    reason = f"{few.urn} has 1 connections, as many as it may"
    assert bench.session(2, open_request(8))[1] == [RefuseConnection(Key(2, 8), Code.LIMIT, reason)]
    bench.provider(5, service_urn=OTHER_SERVICE)
    bench.consumer(6, service_urn=OTHER_SERVICE)
    assert not isinstance(bench.session(6, open_request(8))[1][0], RefuseConnection)
    bench.hub(inventory(service(max_connections=2), service(OTHER_SERVICE)))
    assert not isinstance(bench.session(2, open_request(12))[1][0], RefuseConnection)


ROLES = {1: PROVIDER, 2: CONSUMER}
CUT = [AbortConnection(KEY, Code.PEER_LOST)]


@pytest.mark.parametrize("session", [1, 2])
def test_endpoint_lost(bench: Bench, session: int) -> None:
    """The session's legs end first, with exact bytes, then the session (R-4.4)."""
    bench.joined()
    assert bench.session(session, LOST) == ([], CUT)
    events, commands = bench.connection(KEY, cut(3, 4, lost=True))
    assert events == [
        paused(Code.PEER_LOST, "idle", sent=3, received=4),
        ended(ERROR, Code.PEER_LOST, "idle", sent=3, received=4, suspended=True),
        session_ended(session, ROLES[session], FAILED, Code.PEER_LOST, "idle", legs=1),
    ]
    assert commands == [FORGET]


def test_provider_suspected(bench: Bench) -> None:
    """What it carries is suspended, to go on elsewhere or, later, here; its session stays (D-20)."""
    bench.joined()
    assert bench.session(2, SessionUnresponsive()) == ([], [])
    events, commands = bench.session(1, SessionUnresponsive())
    assert ([event.event_type for event in events], commands) == (["providerSilent"], CUT)
    reason = "the provider doesn't answer"
    assert bench.connection(KEY, cut(3, 4)) == (
        [
            paused(Code.PEER_LOST, reason, sent=3, received=4),
            ended(ERROR, Code.PEER_LOST, reason, sent=3, received=4, suspended=True),
        ],
        [FORGET],
    )
    assert bench.system.residents() == ({1, 2}, set())


@pytest.mark.parametrize("phase", ["opening", "connecting"])
def test_provider_suspected_before_it_accepts(bench: Bench, phase: str) -> None:
    """It couldn't go on elsewhere, so it waits as long as for any provider (D-20)."""
    getattr(bench, phase)()
    assert bench.session(1, SessionUnresponsive())[1] == []


@pytest.mark.parametrize("session", [1, 2])
def test_endpoint_leaves_in_order(bench: Bench, session: int) -> None:
    """A leg that an endpoint leaves in order ends with closedByPeer (D-1), and still as a cut towards TCP."""
    bench.joined()
    assert bench.session(session, LEFT) == ([], CUT)
    events, commands = bench.connection(KEY, cut(3, 4, lost=True))
    assert events == [
        paused(Code.OK, "the endpoint closed its session", sent=3, received=4),
        ended(BY_PEER, Code.OK, "the endpoint closed its session", sent=3, received=4, suspended=True),
        session_ended(session, ROLES[session], TERMINATED, Code.OK, "bye", legs=1),
    ]
    assert commands == [FORGET]


@pytest.mark.parametrize("session", [1, 2])
def test_splice_reports_the_loss_first(bench: Bench, session: int) -> None:
    """The reason is the session's, so the leg waits for it."""
    bench.joined()
    assert bench.connection(KEY, cut(3, 4, lost=True)) == ([], [])
    events, commands = bench.session(session, LEFT)
    assert events == [
        paused(Code.OK, "the endpoint closed its session", sent=3, received=4),
        ended(BY_PEER, Code.OK, "the endpoint closed its session", sent=3, received=4, suspended=True),
        session_ended(session, ROLES[session], TERMINATED, Code.OK, "bye", legs=1),
    ]
    assert commands == [FORGET]


def test_splice_reports_a_loss_that_nobody_confirms(bench: Bench) -> None:
    """It doesn't wait for ever."""
    bench.joined()
    bench.connection(KEY, cut(3, 4, lost=True))
    reason = "an endpoint was lost"
    expected = ended(ERROR, Code.PEER_LOST, reason, sent=3, received=4, elapsed=2.0, suspended=True)
    assert bench.step(2.0) == ([paused(Code.PEER_LOST, reason, sent=3, received=4), expected], [FORGET])


def test_transport_never_tells_the_bytes(bench: Bench) -> None:
    """The end says that its counts are lower bounds."""
    bench.joined()
    bench.session(2, LOST)
    events, commands = bench.step(2.0)
    reason = "idle; the byte counts are lower bounds"
    assert events[1] == ended(ERROR, Code.PEER_LOST, reason, sent=0, received=0, elapsed=2.0, suspended=True)
    assert commands == [FORGET]


@pytest.mark.parametrize("session", [1, 2])
def test_endpoint_lost_while_connecting(bench: Bench, session: int) -> None:
    """Nothing was joined, so nothing is waited for."""
    bench.connecting()
    events, commands = bench.session(session, LOST)
    assert events == [
        ended(ERROR, Code.PEER_LOST, "idle", sent=0, received=0, rejected=session == 1),
        session_ended(session, ROLES[session], FAILED, Code.PEER_LOST, "idle", legs=1),
    ]
    if session == 1:
        assert commands == [RefuseConnection(KEY, Code.PEER_LOST, "idle")]
    else:  # a provider that has accepted already holds nothing that the consumer could come back for
        assert commands == [AbortConnection(KEY, Code.PEER_RESET), FORGET]


def test_endpoint_leaves_while_opening(bench: Bench) -> None:
    """A leg that hasn't started is not counted; its trace is a refusal."""
    bench.opening()
    events, _ = bench.session(1, LEFT)
    assert events == [
        refused(Code.PEER_LOST, "the endpoint closed its session"),
        session_ended(1, PROVIDER, TERMINATED, Code.OK, "bye"),
    ]


@pytest.mark.parametrize(
    ("asker", "lost", "whole"),
    [(None, 1, False), (None, 2, False), (1, 1, True), (2, 2, True), (1, 2, False), (2, 1, False)],
)
def test_endpoint_lost_after_both_fins(bench: Bench, asker: int | None, lost: int, *, whole: bool) -> None:
    """Whole if the lost side had said that it was through; else its last bytes may be missing."""
    bench.finished()
    if asker is not None:
        bench.session(asker, ask())
    events, commands = bench.session(lost, LOST)
    lacking = [paused(Code.PEER_LOST, "idle"), ended(ERROR, Code.PEER_LOST, "idle", suspended=True)]
    assert events[:-1] == ([ended(BY_PEER, Code.OK)] if whole else lacking)
    # The other goes on in another leg, and asks again there if it has asked.
    assert commands == [ack(lost) if whole else SendPacket(3 - lost, PauseRequest(uid(0), 0)), FORGET]


def test_late_inputs_do_nothing(bench: Bench) -> None:
    """What comes for a connection or session that has gone does nothing."""
    bench.joined()
    bench.connection(KEY, cut())
    assert bench.connection(KEY, cut()) == ([], [])
    assert bench.session(77, ask()) == ([], [])
