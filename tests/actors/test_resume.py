"""Playbooks of pause and resume (R-4.6 to R-4.9, D-1, D-10, D-26): whole lists of what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.actors.connection.state import LegPhase
from spnhub.actors.contract.codes import Code, is_retryable
from spnhub.actors.contract.commands import (
    AbortConnection,
    CloseSession,
    Command,
    ForgetConnection,
    InviteProvider,
    JoinStreams,
    RefuseConnection,
    ReportHubStopped,
    SendPacket,
)
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import (
    ConsumerAborted,
    Key,
    ProviderRejected,
    ResumeAnswered,
    ResumeOpened,
    ResumeRequested,
    SessionAnswered,
    SessionUnresponsive,
    SpliceEnded,
    StopHub,
)
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    PauseAck,
    PauseRequest,
    ResumeAck,
    SetWeight,
    ShutdownRequest,
)
from spnhub.actors.service.actor import ServiceActor
from spnhub.actors.system import ActorOptions
from spnhub.events.model import (
    ConnectionFinished,
    ConnectionLost,
    ConnectionResumed,
    ConnectionStarted,
    LimitReached,
    ResumeRefused,
)
from tests.actors.harness import (
    BY_PEER,
    CLOSED,
    CONSUMER,
    ERROR,
    LEFT,
    LOST,
    NETWORK,
    PROVIDER,
    REALM,
    SERVICE,
    SHUTDOWN,
    Bench,
    answer,
    ask,
    cut,
    ended,
    fins,
    inventory,
    leg_of,
    open_request,
    paused,
    request,
    sent,
    service,
    session_ended,
    uid,
)

KEY = Key(2, 0)
"""The first leg."""
NEXT = Key(2, -1)
"""The one that resumes it."""
STOPPING = "the hub is being stopped"


def asking(epoch: int = 1, **changes: Any) -> ResumeRequested:
    """A consumer's request."""
    values: dict[str, Any] = {
        "key": Key(2, -epoch),
        "connection_uid": "uid0",
        "epoch": epoch,
        "received_offset": 20,
        "finished": False,
        "code": 0,
        "peer": "CN=server",
        "instance_id": "i1",
    }
    return ResumeRequested(**values | changes)


def coming(epoch: int = 1, **changes: Any) -> ResumeAnswered:
    """A provider's answer."""
    values: dict[str, Any] = {
        "connection_uid": "uid0",
        "epoch": epoch,
        "received_offset": 7,
        "finished": False,
        "code": 0,
        "peer": "CN=client",
        "matches": True,
    }
    return ResumeAnswered(**values | changes)


def resume_refused(code: Code, reason: str, *, epoch: int = 1, session: int = 2, role: Any = CONSUMER) -> ResumeRefused:
    """The trace of a resume that came to nothing."""
    return ResumeRefused(
        realm=REALM,
        network_urn=NETWORK,
        spn_session_id=f"s{session}",
        spn_end_point="CN=client" if role is CONSUMER else "CN=server",
        end_point_type=role,
        service_urn=SERVICE,
        connection_uid="uid0",
        epoch=epoch,
        code=code,
        reason=reason,
    )


def lost(code: Code, reason: str, *, sent: int = 7, received: int = 20, session: int = 2) -> ConnectionLost:
    """A conversation was given up."""
    return ConnectionLost(
        realm=REALM,
        network_urn=NETWORK,
        spn_session_id=f"s{session}",
        service_urn=SERVICE,
        connection_uid="uid0",
        epoch=1,
        sent_offset=sent,
        receive_offset=received,
        code=code,
        reason=reason,
    )


def ack(
    session: int, code: int = 0, reason: str = "", offset: int = 0, *, epoch: int = 1, finished: bool = False
) -> SendPacket:
    """What an endpoint is told."""
    return SendPacket(session, ResumeAck("uid0", epoch, code, reason, is_retryable(code), offset, finished))


@pytest.fixture
def bench() -> Bench:
    """A provider's session 1 and a consumer's session 2."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    return bench


def resuming(bench: Bench, epoch: int = 1) -> Key:
    """A leg whose endpoints have met, and whose streams are still to come."""
    bench.session(2, asking(epoch))
    bench.session(1, coming(epoch))
    return Key(2, -epoch)


def resumed(bench: Bench, epoch: int = 1, streams: tuple[int, int] = (8, 4)) -> Key:
    """A leg that goes on."""
    key = resuming(bench, epoch)
    bench.connection(key, ResumeOpened(*streams))
    return key


# Resume ---------------------------------------------------------------------------------------------------------------


def test_resumes_and_closes(bench: Bench) -> None:
    """The plain life: asked, invited, answered, both told, both streams, and the end as of any other leg (R-4.7)."""
    assert bench.session(2, asking()) == ([], [InviteProvider(NEXT, 1, "CN=client")])
    assert bench.session(1, coming()) == ([], [ack(2, offset=7), ack(1, offset=20)])
    events, commands = bench.connection(NEXT, ResumeOpened(8, 4))
    common: dict[str, Any] = {
        "realm": REALM,
        "network_urn": NETWORK,
        "spn_connection_id": "8-4",
        "consumer_side_spn_session_id": "s2",
        "provider_side_spn_session_id": "s1",
        "service_urn": SERVICE,
        "connection_uid": "uid0",
        "epoch": 1,
    }
    assert events == [
        ConnectionStarted(**common, start_sent_offset=7, start_receive_offset=20),
        ConnectionResumed(**common, sent_offset=7, receive_offset=20),
    ]
    assert commands == [JoinStreams(NEXT, "CN=server", "i1")]
    assert bench.step(1000.0) == ([], [])
    bench.connection(NEXT, fins(3, 4))
    bench.session(2, ask_epoch(1))
    events, _ = bench.session(1, answer_epoch(1))
    assert [(type(e).__name__, e.epoch, e.start_sent_offset, e.total_sent_bytes) for e in events] == [  # type: ignore[attr-defined]
        ("ConnectionEnded", 1, 7, 3)
    ]
    assert not bench.system.residents()[1]


def ask_epoch(epoch: int) -> Any:
    """A Close Request in a later leg."""
    return type(ask())(connection_uid="uid0", epoch=epoch, sent_offset=0, receive_offset=0, finished=True)


def answer_epoch(epoch: int) -> Any:
    """A Close ACK in a later leg."""
    return type(answer())("uid0", epoch)


def test_fins_are_told(bench: Bench) -> None:
    """Each hears of the other's FIN state as well as of its offset."""
    bench.session(2, asking(finished=True))
    _, commands = bench.session(1, coming(finished=True))
    assert commands == [
        SendPacket(2, ResumeAck("uid0", 1, 0, "", False, 7, finished=True)),
        SendPacket(1, ResumeAck("uid0", 1, 0, "", False, 20, finished=True)),
    ]


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"epoch": 0}, Code.PROTOCOL, "a connection that goes on has an epoch above 0"),
        ({"instance_id": "i9"}, Code.NOT_HERE, "CN=server, instance 'i9', has no session here"),
        ({"instance_id": ""}, Code.NOT_HERE, "CN=server, instance '', has no session here"),
        ({"peer": "CN=mallory"}, Code.NOT_HERE, "CN=mallory, instance 'i1', has no session here"),
    ],
)
def test_refused_at_once(bench: Bench, changes: dict[str, Any], code: Code, reason: str) -> None:
    """The consumer tries elsewhere, or ends; the provider hears nothing."""
    message = asking(**changes)
    assert bench.session(2, message) == (
        [resume_refused(code, reason, epoch=message.epoch)],
        [ack(2, code, reason, epoch=message.epoch), ForgetConnection(message.key)],
    )


def test_provider_of_another_service_is_not_here(bench: Bench) -> None:
    """An instance is looked for in the consumer's own service only."""
    bench.provider(5, service_urn="urn:chip-in:service:acme:main:mail", instance_id="i5")
    events, _ = bench.session(2, asking(instance_id="i5"))
    assert [event.code for event in events] == [Code.NOT_HERE]  # type: ignore[attr-defined]


def test_suspect_provider_is_not_here(bench: Bench) -> None:
    """It may answer another hub; when it answers this one it is asked (D-20)."""
    bench.session(1, SessionUnresponsive())
    reason = "CN=server, instance 'i1', has no session here"
    assert bench.session(2, asking()) == (
        [resume_refused(Code.NOT_HERE, reason)],
        [ack(2, Code.NOT_HERE, reason), ForgetConnection(NEXT)],
    )
    bench.session(1, SessionAnswered())
    assert bench.session(2, asking()) == ([], [InviteProvider(NEXT, 1, "CN=client")])


def test_drained_provider_is_asked(bench: Bench) -> None:
    """Only it can go on with what it holds; if that comes to nothing it is told again that nothing is left."""
    bench.session(1, SetWeight(0))
    assert bench.session(2, asking()) == ([], [InviteProvider(NEXT, 1, "CN=client")])
    _, commands = bench.session(1, coming(code=Code.STALE))
    assert commands[-1] == SendPacket(1, AllConnectionsClosed())


def test_limit_counts_resumes() -> None:
    """They are bounded with the connections of the session."""

    bench = Bench(options=ActorOptions(session_connections=1))
    bench.provider()
    bench.consumer()
    bench.joined(stream=4)
    reason = "1 connections are open on this session"
    assert bench.session(2, asking()) == (
        [resume_refused(Code.LIMIT, reason)],
        [ack(2, Code.LIMIT, reason), ForgetConnection(NEXT)],
    )


def test_withdrawn_consumer_does_not_resume(bench: Bench) -> None:
    """Its session is ending."""
    bench.joined(stream=4)
    bench.hub(inventory(service(consumers=frozenset({"guest"}))))
    assert bench.session(2, asking()) == (
        [resume_refused(Code.SHUTDOWN, "the session is ending")],
        [ack(2, Code.SHUTDOWN, "the session is ending"), ForgetConnection(NEXT)],
    )


@pytest.mark.parametrize(
    ("changes", "code", "reason", "is_lost"),
    [
        ({"code": Code.ENDED}, Code.ENDED, "the provider's end can't go on", True),
        ({"code": Code.PEER_RESET}, Code.PEER_RESET, "the provider's end can't go on", True),
        ({"code": 4711}, Code.PEER_RESET, "the provider's end can't go on", True),
        ({"code": Code.CLOSED}, Code.CLOSED, "the provider's end can't go on", False),
        ({"code": Code.STALE}, Code.STALE, "the provider's end can't go on", False),
        ({"code": Code.NOT_ALLOWED}, Code.NOT_ALLOWED, "the provider's end can't go on", False),
        ({"matches": False}, Code.NOT_ALLOWED, "the endpoints don't mean the same connection", False),
        ({"peer": "CN=mallory"}, Code.NOT_ALLOWED, "the endpoints don't mean the same connection", False),
    ],
)
def test_refused_by_the_provider(bench: Bench, changes: dict[str, Any], code: Code, reason: str, is_lost: bool) -> None:
    """Both are told; where an endpoint gives the conversation up, the log says so."""
    bench.session(2, asking())
    message = coming(**changes)
    events, commands = bench.session(1, message)
    expected: list[Any] = [resume_refused(code, reason)]
    if is_lost:
        expected.append(lost(message.code, reason, session=1))  # type: ignore[arg-type]
    assert events == expected
    told = message.code or code
    assert commands == [ack(2, told, reason, 7), ack(1, told, reason, 20), ForgetConnection(NEXT)]
    assert not bench.system.residents()[1]


@pytest.mark.parametrize("code", [Code.PEER_RESET, Code.RESUME_TIMEOUT])
def test_closed_notice(bench: Bench, code: Code) -> None:
    """A consumer whose end can't go on: the provider is told why, the consumer that it was, and the log (D-1)."""
    assert bench.session(2, asking(code=code)) == ([], [InviteProvider(NEXT, 1, "CN=client")])
    assert bench.session(1, coming()) == (
        [lost(code, "")],
        [ack(2, code, "", 7), ack(1, code, "", 20), ForgetConnection(NEXT)],
    )


@pytest.mark.parametrize(
    ("asked", "answered"), [(Code.CLOSED, Code.OK), (Code.CLOSED, Code.CLOSED), (Code.OK, Code.CLOSED)]
)
def test_orderly_closed_notice(bench: Bench, asked: Code, answered: Code) -> None:
    """Both ends had ended in order, and each has all that the other sent: the log tells how much that was (D-10)."""
    bench.session(2, asking(code=asked, finished=True))
    reason = "the provider's end can't go on" if answered else ""
    assert bench.session(1, coming(code=answered, finished=True)) == (
        [
            ConnectionFinished(
                realm=REALM,
                network_urn=NETWORK,
                consumer_side_spn_session_id="s2",
                provider_side_spn_session_id="s1",
                service_urn=SERVICE,
                connection_uid="uid0",
                epoch=1,
                sent_offset=7,
                receive_offset=20,
            )
        ],
        [
            ack(2, Code.CLOSED, reason, 7, finished=True),
            ack(1, Code.CLOSED, reason, 20, finished=True),
            ForgetConnection(NEXT),
        ],
    )


@pytest.mark.parametrize(("asked", "answered"), [(True, False), (False, True)])
def test_closed_notice_of_one_end_alone(bench: Bench, asked: bool, answered: bool) -> None:
    """An end that doesn't have all can't be said to have ended in order; nor is anything known to be lost."""
    bench.session(2, asking(code=Code.CLOSED, finished=asked))
    assert bench.session(1, coming(finished=answered)) == (
        [],
        [
            ack(2, Code.CLOSED, "", 7, finished=answered),
            ack(1, Code.CLOSED, "", 20, finished=asked),
            ForgetConnection(NEXT),
        ],
    )


def test_closed_notice_when_both_ends_have_one(bench: Bench) -> None:
    """Each is told the other's."""
    bench.session(2, asking(code=Code.RESUME_TIMEOUT))
    _, commands = bench.session(1, coming(code=Code.PEER_RESET))
    assert [ack.code for _, ack in sent(commands, ResumeAck)] == [Code.PEER_RESET, Code.RESUME_TIMEOUT]


def test_closed_notice_without_the_provider(bench: Bench) -> None:
    """It is refused as any other, and the log keeps what it said."""
    reason = "CN=server, instance 'i9', has no session here"
    events, commands = bench.session(2, asking(code=Code.RESUME_TIMEOUT, instance_id="i9"))
    assert events == [lost(Code.RESUME_TIMEOUT, reason, sent=0)]
    assert commands == [ack(2, Code.NOT_HERE, reason), ForgetConnection(NEXT)]
    again = asking(2, code=Code.RESUME_TIMEOUT, instance_id="i9")
    assert bench.session(2, again) == ([], [ack(2, Code.NOT_HERE, reason, epoch=2), ForgetConnection(again.key)])


def test_who_waits_for_its_provider_is_logged_once(bench: Bench) -> None:
    """It asks again and again; when the provider has been here in between, the next absence is another."""
    assert len(bench.session(2, asking(1, instance_id="i5"))[0]) == 1
    assert bench.session(2, asking(2, instance_id="i5"))[0] == []
    bench.provider(5)
    bench.session(2, asking(3, instance_id="i5"))
    bench.session(5, LEFT)
    assert len(bench.session(2, asking(4, instance_id="i5"))[0]) == 1


def test_stranger_s_closed_notice_is_not_believed(bench: Bench) -> None:
    """Who doesn't know the secret can't declare a conversation lost."""
    bench.session(2, asking(code=Code.RESUME_TIMEOUT))
    events, _ = bench.session(1, coming(code=Code.NOT_ALLOWED))
    assert events == []


def test_uninvited_provider(bench: Bench) -> None:
    """It goes back to Paused at once."""
    reason = "no such invitation is open"
    assert bench.session(1, coming()) == (
        [resume_refused(Code.TIMEOUT, reason, session=1, role=PROVIDER)],
        [ack(1, Code.TIMEOUT, reason)],
    )


def test_another_provider_answers(bench: Bench) -> None:
    """An invitation is for one session; it stays open for it."""
    bench.provider(5)
    bench.session(2, asking())
    _, commands = bench.session(5, coming())
    assert commands == [ack(5, Code.TIMEOUT, "no such invitation is open")]
    assert bench.session(1, coming())[1] == [ack(2, offset=7), ack(1, offset=20)]


def test_provider_is_silent(bench: Bench) -> None:
    """The consumer hears of it within the step's bound, and a late answer comes to nothing."""
    bench.session(2, asking())
    assert bench.step(4.9) == ([], [])
    reason = "the provider did not answer in time"
    assert bench.step(0.1) == (
        [resume_refused(Code.TIMEOUT, reason)],
        [ack(2, Code.TIMEOUT, reason), ForgetConnection(NEXT)],
    )
    assert bench.session(1, coming())[1] == [ack(1, Code.TIMEOUT, "no such invitation is open")]
    assert bench.system.timer() is None


def test_streams_do_not_come(bench: Bench) -> None:
    """The streams have their own bound; what is there of them is reset so that its endpoint is Paused again."""
    bench.session(2, asking())
    bench.step(4.0)
    bench.session(1, coming())
    assert bench.step(4.9) == ([], [])
    assert bench.step(0.1) == (
        [resume_refused(Code.TIMEOUT, "an endpoint did not answer in time")],
        [AbortConnection(NEXT, Code.PEER_LOST), ForgetConnection(NEXT)],
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (ConsumerAborted(Code.PEER_RESET), "the consumer gave up"),
        (ProviderRejected(Code.PEER_RESET, "reset"), "reset"),
    ],
)
def test_program_resets_while_resuming(bench: Bench, message: Any, reason: str) -> None:
    """The reset reaches the other side."""
    resuming(bench)
    assert bench.connection(NEXT, message) == (
        [resume_refused(Code.PEER_RESET, reason)],
        [AbortConnection(NEXT, Code.PEER_RESET), ForgetConnection(NEXT)],
    )


@pytest.mark.parametrize("phase", [LegPhase.INVITING, LegPhase.RESUMING])
@pytest.mark.parametrize("session", [1, 2])
def test_session_lost_while_resuming(bench: Bench, phase: LegPhase, session: int) -> None:
    """Whoever is left hears of it and tries again; also a consumer whose session is over because it has another."""
    if phase is LegPhase.INVITING:
        bench.session(2, asking())
    else:
        resuming(bench)
    assert leg_of(bench.system.environment.directory.connections[NEXT]).phase is phase
    events, commands = bench.session(session, LOST)
    code = Code.NOT_HERE if session == 1 else Code.PEER_LOST
    assert events[0] == resume_refused(code, "idle")
    let_go = ack(2, Code.NOT_HERE, "idle") if phase is LegPhase.INVITING else AbortConnection(NEXT, Code.PEER_LOST)
    assert commands == [let_go, ForgetConnection(NEXT)]


@pytest.mark.parametrize("phase", [LegPhase.INVITING, LegPhase.RESUMING])
def test_provider_suspected_while_resuming(bench: Bench, phase: LegPhase) -> None:
    """The consumer needn't wait for it: it tries elsewhere, and here again (D-20)."""
    if phase is LegPhase.INVITING:
        bench.session(2, asking())
    else:
        resuming(bench)
    events, commands = bench.session(1, SessionUnresponsive())
    reason = "the provider doesn't answer"
    assert events[1:] == [resume_refused(Code.NOT_HERE, reason)]
    told = ack(2, Code.NOT_HERE, reason) if phase is LegPhase.INVITING else AbortConnection(NEXT, Code.PEER_LOST)
    assert commands == [told, ForgetConnection(NEXT)]


def test_close_request_while_inviting_is_no_end(bench: Bench) -> None:
    """It belongs to the leg that is to come."""
    bench.session(2, asking())
    assert bench.session(2, ask_epoch(1)) == ([], [])
    assert bench.session(1, coming())[1] == [ack(2, offset=7), ack(1, offset=20)]


# Two legs -------------------------------------------------------------------------------------------------------------


def test_older_leg_ends_first(bench: Bench) -> None:
    """When both endpoints have met again, what the hub still holds of the older leg is void."""
    bench.joined()
    bench.session(2, asking())
    # The uid alone ends nothing.
    assert leg_of(bench.system.environment.directory.connections[KEY]).phase is LegPhase.JOINED
    _, commands = bench.session(1, coming())
    assert commands == [AbortConnection(KEY, Code.LEFT), ack(2, offset=7), ack(1, offset=20)]
    reason = "the connection goes on in epoch 1"
    assert bench.connection(KEY, cut(code=Code.LEFT)) == (
        [paused(Code.LEFT, reason), ended(ERROR, Code.LEFT, reason, suspended=True)],
        [ForgetConnection(KEY)],
    )
    bench.connection(NEXT, ResumeOpened(8, 4))


def test_higher_epoch_wins(bench: Bench) -> None:
    """Of two attempts the lower is told so, whichever the provider answers first."""
    bench.session(2, asking(1))
    bench.session(2, asking(2))
    events, commands = bench.session(1, coming(2))
    assert events == [resume_refused(Code.STALE, "the connection goes on in epoch 2")]
    assert ack(2, Code.STALE, "the connection goes on in epoch 2") in commands
    assert bench.session(1, coming(1))[1] == [ack(1, Code.TIMEOUT, "no such invitation is open")]


def test_lower_epoch_after_a_higher_one(bench: Bench) -> None:
    """Even if the provider wants it."""
    bench.session(2, asking(1))
    bench.session(2, asking(3))
    key = Key(2, -3)
    bench.session(1, coming(3))
    bench.connection(key, ResumeOpened(8, 4))
    bench.session(2, asking(2))
    events, commands = bench.session(1, coming(2))
    assert events == [resume_refused(Code.STALE, "a later leg is known", epoch=2)]
    assert [ack.code for _, ack in sent(commands, ResumeAck)] == [Code.STALE, Code.STALE]
    assert leg_of(bench.system.environment.directory.connections[key]).phase is LegPhase.JOINED


def test_same_epoch_twice(bench: Bench) -> None:
    """Each attempt takes a new one."""
    bench.session(2, asking())
    again = asking(key=Key(2, -9))
    _, commands = bench.session(2, again)
    assert commands == [ack(2, Code.STALE, "epoch 1 was there before"), ForgetConnection(again.key)]


@pytest.mark.parametrize(("code", "why"), [(Code.MOVED, BY_PEER), (Code.LEFT, ERROR)])
@pytest.mark.parametrize("by_consumer", [True, False])
def test_endpoint_leaves_the_leg(bench: Bench, code: Code, why: Any, *, by_consumer: bool) -> None:
    """In order or not, the conversation may go on (D-1)."""
    bench.joined()
    message = SpliceEnded(3, 4, finished=False, lost=False, code=code, by_consumer=by_consumer)
    events, commands = bench.connection(KEY, message)
    reason = "an endpoint moved to another hub" if code is Code.MOVED else "an endpoint left for another hub"
    assert events == [
        paused(code, reason, sent=3, received=4),
        ended(why, code, reason, sent=3, received=4, suspended=True),
    ]
    assert commands == [ForgetConnection(KEY)]
    assert load(bench) == (1 if by_consumer else 0)


# What a provider holds (D-26) -----------------------------------------------------------------------------------------


def load(bench: Bench, provider: int = 1) -> int:
    """The legs that count for a provider."""

    for actor in bench.system.environment.dispatcher.actors:
        if isinstance(actor, ServiceActor) and provider in actor.registry.sessions:
            return actor.registry.choice.legs(provider)
    return 0


def test_held_connections_count_until_they_resume(bench: Bench) -> None:
    """Lost with its consumer, it counts; back, it counts once."""
    bench.joined()
    bench.session(2, LOST)
    bench.connection(KEY, cut(lost=True))
    assert load(bench) == 1
    bench.consumer(2, instance_id="back")
    assert load(bench) == 1
    bench.session(2, asking())
    assert load(bench) == 2
    bench.session(1, coming())
    assert load(bench) == 1


def test_held_connections_count_no_longer_than_they_may_resume(bench: Bench) -> None:
    """The time for a resume bounds it."""
    bench.joined()
    bench.session(2, LOST)
    bench.connection(KEY, cut(lost=True))
    bench.step(59.9)
    assert load(bench) == 1
    bench.step(0.1)
    assert load(bench) == 0
    assert bench.system.timer() is None


def test_held_connections_go_with_their_provider(bench: Bench) -> None:
    """Its session ends: what it holds may be asked for elsewhere."""
    bench.joined()
    bench.session(2, LOST)
    bench.connection(KEY, cut(lost=True))
    bench.session(1, LEFT)
    bench.assert_empty()


def test_a_lost_provider_holds_nothing_here(bench: Bench) -> None:
    """Only the consumer's loss leaves something with a provider that is here."""
    bench.joined()
    bench.session(1, LOST)
    bench.connection(KEY, cut(lost=True))
    bench.session(2, LEFT)
    bench.assert_empty()


def test_held_connections_are_bounded() -> None:
    """Beyond the bound the oldest don't count any more."""

    bench = Bench(options=ActorOptions(suspended_connections=2))
    bench.provider()
    bench.consumer()
    keys = [bench.joined(stream=stream) for stream in (0, 4, 8)]
    bench.session(2, LOST)
    limits = []
    for key in keys:
        events, _ = bench.connection(key, cut(lost=True))
        limits += [event for event in events if isinstance(event, LimitReached)]
    assert load(bench) == 2
    reached = LimitReached(realm="acme", network_urn=NETWORK, service_urn=SERVICE, limit="heldConnections", bound=2)
    assert limits == [reached]


# Resumable shutdown (R-4.8) -------------------------------------------------------------------------------------------


def pause(session: int, offset: int) -> PauseAck:
    """A Pause ACK."""
    return PauseAck("uid0", 0, offset)


def test_resumable_shutdown(bench: Bench) -> None:
    """Every endpoint is told, the legs are paused where both say, the sessions closed by their endpoints."""
    bench.joined()
    assert bench.hub(StopHub(resumable=True, spread=2.0)) == (
        [],
        [
            SendPacket(1, ShutdownRequest(True, 2000)),
            SendPacket(2, ShutdownRequest(True, 2000)),
            SendPacket(2, PauseRequest("uid0", 0)),
            SendPacket(1, PauseRequest("uid0", 0)),
        ],
    )
    assert bench.session(2, pause(2, 18)) == ([], [])
    assert bench.session(1, pause(1, 9)) == ([], [AbortConnection(KEY, Code.PAUSED)])
    assert bench.connection(KEY, cut(10, 20, code=Code.PAUSED)) == (
        [
            paused(Code.PAUSED, STOPPING, sent=9, received=18, planned=True),
            ended(CLOSED, Code.PAUSED, STOPPING, sent=9, received=18, suspended=True),
        ],
        [ForgetConnection(KEY), SendPacket(2, AllConnectionsClosed()), SendPacket(1, AllConnectionsClosed())],
    )
    assert bench.session(2, LEFT) == ([session_ended(2, CONSUMER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1)], [])
    events, commands = bench.session(1, LEFT)
    assert events == [session_ended(1, PROVIDER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1)]
    assert commands == [ReportHubStopped()]
    bench.assert_empty()


def test_pause_never_tells_more_than_was_passed_on(bench: Bench) -> None:
    """What an endpoint says is bounded by what the splice has counted (D-10)."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    bench.session(2, pause(2, 999))
    bench.session(1, pause(1, -5))
    events, _ = bench.connection(KEY, cut(10, 20, code=Code.PAUSED))
    assert events[1] == ended(CLOSED, Code.PAUSED, STOPPING, sent=0, received=20, suspended=True)


@pytest.mark.parametrize("acked", [None, 1, 2])
def test_pause_without_an_answer(bench: Bench, acked: int | None) -> None:
    """It is paused all the same, and the next leg tells where it begins."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    if acked:
        bench.session(acked, pause(acked, 5))
    assert bench.step(4.9) == ([], [])
    assert bench.step(0.1) == ([], [AbortConnection(KEY, Code.PAUSED)])
    events, _ = bench.connection(KEY, cut(10, 20, code=Code.PAUSED))
    assert events == [
        paused(Code.PAUSED, STOPPING),
        ended(CLOSED, Code.PAUSED, STOPPING, suspended=True, elapsed=5.0),
    ]


def test_both_fins_while_pausing(bench: Bench) -> None:
    """The endpoints have stopped to read: the end is made in the next leg."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    assert bench.connection(KEY, fins(10, 20)) == ([], [])
    assert bench.session(2, ask()) == ([], [])
    bench.session(2, pause(2, 18))
    events, commands = bench.session(1, pause(1, 10))
    assert events[1] == ended(CLOSED, Code.PAUSED, STOPPING, sent=10, received=18, suspended=True)
    assert commands[:2] == [AbortConnection(KEY, Code.PAUSED), ForgetConnection(KEY)]


@pytest.mark.parametrize(("code", "suspended"), [(Code.PEER_RESET, False), (Code.LEFT, True)])
def test_reset_while_pausing(bench: Bench, code: Code, *, suspended: bool) -> None:
    """A program's reset ends the conversation, an endpoint that leaves does not."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    events, _ = bench.connection(KEY, cut(1, 2, code=code))
    assert [getattr(event, "suspended", None) for event in events] == ([None, True] if suspended else [False])


def test_session_lost_while_pausing(bench: Bench) -> None:
    """The hub asked first: the session ends with shutdown, the leg as what happened to it (D-5)."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    bench.session(2, LOST)
    events, _ = bench.connection(KEY, cut(3, 4, lost=True))
    assert events == [
        paused(Code.PEER_LOST, "idle", sent=3, received=4),
        ended(ERROR, Code.PEER_LOST, "idle", sent=3, received=4, suspended=True),
        session_ended(2, CONSUMER, SHUTDOWN, Code.SHUTDOWN, STOPPING, legs=1),
    ]


@pytest.mark.parametrize("phase", ["opening", "connecting"])
def test_what_is_not_established_is_refused(bench: Bench, phase: str) -> None:
    """The consumer has exposed no byte, and tries another session."""
    getattr(bench, phase)()
    _, commands = bench.hub(StopHub(resumable=True))
    assert RefuseConnection(KEY, Code.SHUTDOWN, STOPPING) in commands
    assert not bench.system.residents()[1]


@pytest.mark.parametrize("phase", [LegPhase.INVITING, LegPhase.RESUMING])
def test_shutdown_while_resuming(bench: Bench, phase: LegPhase) -> None:
    """It is resumed elsewhere."""
    if phase is LegPhase.INVITING:
        bench.session(2, asking())
    else:
        resuming(bench)
    events, commands = bench.hub(StopHub(resumable=True))
    assert events == [resume_refused(Code.SHUTDOWN, STOPPING)]
    let_go = ack(2, Code.SHUTDOWN, STOPPING) if phase is LegPhase.INVITING else AbortConnection(NEXT, Code.PAUSED)
    assert let_go in commands


def test_closing_leg_is_paused_too(bench: Bench) -> None:
    """Both FINs were passed on, but one side may still be reading; the close is asked for again in the next leg."""
    bench.finished()
    _, commands = bench.hub(StopHub(resumable=True))
    asked = [session for session, _ in sent(commands, PauseRequest)]
    assert sorted(asked) == [1, 2]


def test_nothing_new_while_shutting_down(bench: Bench) -> None:
    """Sessions, connections and resumes are refused, retryably."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    assert [event.code for event in bench.hub(request(3))[0]] == [Code.SHUTDOWN]  # type: ignore[attr-defined]
    assert [event.code for event in bench.session(2, open_request(4))[0]] == [Code.SHUTDOWN]  # type: ignore[attr-defined]
    assert bench.session(2, asking())[1][0] == ack(2, Code.SHUTDOWN, "the session is ending")


def test_endpoint_does_not_close_its_session(bench: Bench) -> None:
    """Then the hub does."""
    _, commands = bench.hub(StopHub(resumable=True))
    assert [session for session, _ in sent(commands, AllConnectionsClosed)] == [1, 2]
    assert bench.step(4.9) == ([], [])
    events, commands = bench.step(0.1)
    assert [type(event).__name__ for event in events] == ["SessionEnded", "SessionEnded"]
    assert commands == [
        CloseSession(1, Code.SHUTDOWN, STOPPING),
        CloseSession(2, Code.SHUTDOWN, STOPPING),
        ReportHubStopped(),
    ]
    bench.assert_empty()


def test_planned_stop_takes_its_place(bench: Bench) -> None:
    """The operator can't wait: consumers, then providers, at once."""
    bench.joined()
    bench.hub(StopHub(resumable=True))
    _, commands = bench.hub(StopHub())
    assert commands == [AbortConnection(KEY, Code.SHUTDOWN)]
    events, commands = bench.connection(KEY, cut(code=Code.SHUTDOWN))
    assert events[0] == ended(CLOSED, Code.SHUTDOWN, STOPPING)
    assert commands[-1] == ReportHubStopped()
    assert bench.hub(StopHub(resumable=True)) == ([], [])
    assert bench.hub(StopHub()) == ([], [])
    bench.assert_empty()


def asked_to_pause(commands: list[Command]) -> list[str]:
    """The connections, each of which two endpoints are asked for."""
    uids = [packet.connection_uid for _, packet in sent(commands, PauseRequest)]
    assert uids[::2] == uids[1::2]
    return uids[::2]


def test_connections_are_paused_a_few_at_a_time() -> None:
    """One that is paused doesn't wait until all are: the next one's turn comes when one has left."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    keys = {uid(stream): bench.joined(stream=stream, provider_stream=stream + 1) for stream in range(0, 800, 4)}
    _, commands = bench.hub(StopHub(resumable=True))
    asked = asked_to_pause(commands)
    assert len(asked) == 4
    for name, key in keys.items():
        assert name in asked
        bench.session(1, PauseAck(name, 0, 10))
        bench.session(2, PauseAck(name, 0, 20))
        _, commands = bench.connection(key, cut(code=Code.PAUSED))
        asked += asked_to_pause(commands)
        assert len(asked) <= 200
    assert sorted(asked) == sorted(keys)
    assert len(bench.system.environment.pauses) == 0


def test_shutdown_of_an_empty_hub() -> None:
    """Nobody is there to wait for."""
    bench = Bench()
    assert bench.hub(StopHub(resumable=True)) == ([], [ReportHubStopped()])


def test_shutdown_while_a_reload_is_under_way() -> None:
    """What is left of the reload comes first: nothing is defined, and started, behind the stop."""
    bench = Bench(options=ActorOptions(slice_size=1))
    manager = Availability("docker:", "web", start_on_load=True)
    bench.hub(inventory(*(service(f"{SERVICE}{number}", availability=manager) for number in range(5))))
    assert len(bench.system.environment.work_queue) > 0
    _, commands = bench.hub(StopHub(resumable=True))
    assert commands[-1] == ReportHubStopped()
    assert len(bench.system.environment.work_queue) == 0
    assert bench.step(1.0) == ([], [])
