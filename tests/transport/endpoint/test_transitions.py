""":mod:`spnhub.transport.endpoint.connection.transitions`: every state, every fact and everything that can happen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, get_args

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, CloseAck, CloseRequest, Opening, OpeningKind, PauseRequest
from spnhub.transport.endpoint.connection import happenings as on
from spnhub.transport.endpoint.connection.leg import LEG_CODES
from spnhub.transport.endpoint.connection.states import CONNECTION_TABLE, ConnectionState
from spnhub.transport.endpoint.connection.transitions import NOTHING, Facts, Transition, decide
from spnhub.transport.errors import LocalProtocolError

_S = ConnectionState
CODES: Final = (Code.INTERNAL, Code.PAUSED, Code.CLOSED, Code.GONE)
BOOLS: Final = (False, True)
HAPPENINGS: Final[tuple[on.Happening, ...]] = (
    on.SessionFound(),
    on.Accepted(),
    on.Rejected(Code.INTERNAL, ""),
    Opening(OpeningKind.OPEN, "", b""),
    *(Accept(OpeningKind.OPEN, code) for code in (Code.OK, *CODES)),
    *(on.LegRefused(code, "", retryable) for code in CODES for retryable in BOOLS),
    *(on.EndedElsewhere(code, "") for code in CODES),
    on.PeerProcessGone(),
    *(CloseRequest("", 0, 0, 0, finished) for finished in BOOLS),
    CloseAck("", 0),
    PauseRequest("", 0),
    *(on.LegLeft(code, "") for code in (Code.MOVED, Code.LEFT)),
    on.LegSessionLost(""),
    *(on.PeerReset(code) for code in CODES),
    *(on.PeerStopped(code) for code in CODES),
    on.FinPassed(),
    on.WritesTaken(),
    *(on.Failed(code) for code in (Code.INTERNAL, Code.CLOSE_REQUESTED)),
    on.Aborted(Code.INTERNAL, ""),
    *(on.DeadlinePassed(over, 60.0, moved) for over in BOOLS for moved in BOOLS),
)


def situations(state: ConnectionState) -> Iterator[Facts]:
    """All facts that there can be in a state."""
    flags = itertools.product(BOOLS, repeat=8)
    failings: tuple[int | None, ...] = (None, Code.INTERNAL, Code.CLOSE_REQUESTED)
    requests: tuple[bool | None, ...] = (None, False, True)
    stops: tuple[int | None, ...] = (None, Code.INTERNAL)
    for bools, failing, request, stopped in itertools.product(flags, failings, requests, stops):
        consumer, ours, theirs, second, passed, waits, requested, closed = bools
        has_leg = state not in (_S.PAUSED, _S.DISCONNECTED, _S.LOOKING_UP_SESSION)
        asked = request is not None or requested
        if (second and not (ours and theirs)) or (passed and not ours) or (closed and not (ours and theirs)):
            continue
        if (state is _S.DISCONNECTING and not asked) or (asked and state not in (_S.DISCONNECTING, _S.PAUSING)):
            continue
        if (not has_leg and passed) or (request and not (ours and theirs)) or (requested and not ours):
            continue
        if state in (_S.CONNECTING, _S.LOOKING_UP_SESSION) and (ours or theirs or failing is not None):
            continue
        yield Facts(state, consumer, ours, theirs, second, passed, waits, failing, request, requested, stopped, closed)


def follow(at: Facts, decision: Transition) -> ConnectionState:
    """Where the way leads; each step of it is an arrow of the table."""
    state = at.state
    for event in decision.way:
        state = CONNECTION_TABLE[state, event].to
    return state


def test_all_that_can_happen_is_tried() -> None:
    """Nothing is left out below."""
    assert {type(one) for one in HAPPENINGS} == set(get_args(on.Happening))


@pytest.mark.parametrize("state", _S)
def test_every_decision(state: ConnectionState) -> None:
    """Each goes along the table, and does what belongs to where it leads."""
    seen = set()
    for at, what in itertools.product(situations(state), HAPPENINGS):
        try:
            decision = decide(at, what)
        except LocalProtocolError:
            # What only our own side can do at the wrong time.
            assert isinstance(what, on.SessionFound | on.Accepted | on.Rejected)
            continue
        to = follow(at, decision)
        kinds = [type(action) for action in decision.actions]
        seen.add(to)
        ends = [one for one in kinds if one in (on.Close, on.Abort, on.Refuse)]
        assert len(ends) == (to is _S.DISCONNECTED and state is not _S.DISCONNECTED), (at, what)
        assert (on.EndLeg in kinds) == (to is _S.PAUSED and bool(decision.way)), (at, what)
        assert (on.PassBytes in kinds) == (to is _S.CONNECTED and bool(decision.way)), (at, what)
        for action in decision.actions:
            check(at, what, to, action)
    assert (state in seen) or state is _S.LOOKING_UP_SESSION
    if state is _S.DISCONNECTED:
        assert seen == {state}


def check(at: Facts, what: on.Happening, to: ConnectionState, action: on.Action) -> None:
    """One action of a decision."""
    match action:
        case on.SendCloseRequest() | on.SendCloseAck() | on.SendPauseAck() | on.TakeRest():
            assert at.state.passes_bytes, (at, what)
        case on.EndLeg(code):
            assert code in LEG_CODES, (at, what)
        case on.Close():
            # A clean end is never said of a connection that has not ended in order, nor of one that has failed, but for
            # one whose other side has asked for it with all that was written.
            assert at.both_finished, (at, what)
            assert at.failing is None or at.request or at.requested or not isinstance(what, on.FinPassed), (at, what)
        case on.Abort(on_stream=on_stream):
            assert to is _S.DISCONNECTED
            assert on_stream == (at.state.passes_bytes and not isinstance(what, PauseRequest)), (at, what)
        case on.Arm(seconds):
            assert seconds > 0
        case _:
            pass


@pytest.mark.parametrize("state", [_S.LOOKING_UP_SESSION, _S.CONNECTING, _S.PAUSED, _S.RESUMING])
def test_no_control_packet_where_no_byte_passes(state: ConnectionState) -> None:
    """A packet that has overtaken the Accept is kept for later; any other is late, and ignored."""
    packets: tuple[CloseRequest | PauseRequest, ...] = (CloseRequest("", 0, 0, 0, True), PauseRequest("", 0))
    for at, what in itertools.product(situations(state), packets):
        early = state in (_S.CONNECTING, _S.RESUMING)
        assert decide(at, what) == (Transition((), (on.KeepEarly(what),)) if early else NOTHING)


def test_what_cannot_be_resumed_never_waits_for_it() -> None:
    """With an endpoint that has one leg only, the end of a leg is an end, and nothing leaves what still works."""
    for state in _S:
        for at, what in itertools.product(situations(state), HAPPENINGS):
            try:
                decision = decide(at._replace(resumable=False), what)
            except LocalProtocolError:
                continue
            assert on.EndLeg not in map(type, decision.actions), (at, what)
            assert follow(at, decision) is not _S.PAUSED or state is _S.PAUSED, (at, what)
            if isinstance(what, on.LegLeft):
                assert decision == NOTHING


def test_who_asks_for_the_end() -> None:
    """D-17: the side whose FIN came second; where they crossed, the consumer, later."""
    for consumer in BOOLS:
        at = Facts(_S.CONNECTED, consumer, finished=True, peer_finished=True)
        (asks,) = (
            one for one in decide(at._replace(second=True), on.FinPassed()).actions if not isinstance(one, on.Arm)
        )
        assert asks == on.SendCloseRequest(finished=True)
        assert [type(one) for one in decide(at, on.FinPassed()).actions] == [on.Arm]
        later = decide(at, on.DeadlinePassed(False, 60.0, False))
        assert (on.SendCloseRequest(finished=True) in later.actions) == consumer


def test_a_failure_waits_for_what_was_written() -> None:
    """D-34: in whichever leg it is acknowledged."""
    at = Facts(_S.CONNECTED, True, unacknowledged=True)
    assert follow(at, decide(at, on.Failed(Code.INTERNAL))) is _S.CONNECTED
    at = at._replace(failing=Code.INTERNAL)
    assert follow(at, decide(at, on.WritesTaken())) is _S.CONNECTED
    at = at._replace(unacknowledged=False)
    assert follow(at, decide(at, on.WritesTaken())) is _S.DISCONNECTED
