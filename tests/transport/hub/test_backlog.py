"""What waits for a turn: in order for each session, fair between realms and sessions, bounded for each."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.transport import engine as api
from spnhub.transport.engine import Closed, CloseKind, EngineEvent, Opened, Outcome, OutcomeKind, Spliced
from spnhub.transport.hub.backlog import WAITING_EVENTS, Backlog

_LOST = Outcome(OutcomeKind.LOST)


def backlog(realms: dict[int, str] | None = None, sides: dict[int, tuple[int, ...]] | None = None) -> Backlog:
    """One whose sessions are in these realms, and whose splices join these sessions."""

    def realm_of(event: EngineEvent) -> str:
        return (realms or {}).get(getattr(event, "connection_id", 0), "")

    def session_of(event: Spliced, waiting: Backlog) -> int:
        both = (sides or {})[event.token]
        return next((one for one in both if one in waiting), both[0])

    return Backlog(realm_of, session_of)


def drain(waiting: Backlog) -> list[EngineEvent]:
    """All, in the order in which they are handled."""
    return [waiting.take() for _ in range(waiting.count)]


def test_one_realm_that_floods_costs_another_one_turn() -> None:
    """And within a realm one session the others."""
    waiting = backlog({1: "a", 2: "a", 3: "b"})
    for stream in range(1000):
        waiting.add(Opened(1, stream))
    waiting.add(Opened(2, 0))
    waiting.add(Opened(3, 0))
    waiting.add(Opened(3, 4))
    first = [waiting.take() for _ in range(5)]
    assert first == [Opened(1, 0), Opened(3, 0), Opened(2, 0), Opened(3, 4), Opened(1, 1)]


def test_many_sessions_have_no_more_than_their_realm() -> None:
    """A realm's share doesn't grow with its sessions."""
    waiting = backlog(dict.fromkeys(range(1, 101), "a") | {200: "b"})
    for session in (*range(1, 101), 200, 200, 200):
        waiting.add(Opened(session, 0))
    assert [event.connection_id for event in drain(waiting)[:6] if isinstance(event, Opened)].count(200) == 3


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=60), st.data())
def test_each_sessions_order_stays(arrivals: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whenever they are taken; and nothing is lost or left."""
    waiting = backlog({1: "a", 2: "a", 3: "b"})
    taken: list[EngineEvent] = []
    for session, stream in arrivals:
        waiting.add(Opened(session, stream))
        if data.draw(st.booleans()):
            taken.append(waiting.take())
    taken += drain(waiting)
    for session in range(1, 5):
        mine = [event.stream_id for event in taken if isinstance(event, Opened) and event.connection_id == session]
        assert mine == [stream for one, stream in arrivals if one == session]
    assert waiting.count == 0
    assert all(session not in waiting for session in range(5))


def test_a_splice_ends_after_what_ended_it() -> None:
    """Whichever side was lost: its end was there first, and is handled first."""
    for lost in (1, 2):
        waiting = backlog({1: "a", 2: "b"}, {7: (1, 2)})
        waiting.add(Opened(lost, 0))
        waiting.add(Closed(lost, CloseKind.IDLE, 0, ""))
        waiting.add(Spliced(7, 0, 0, _LOST, _LOST))
        assert [type(event) for event in drain(waiting)] == [Opened, Closed, Spliced]


def test_what_one_may_have_waiting_is_bounded() -> None:
    """Beyond that it is named, and only what others wait for is left of it."""
    waiting = backlog({1: "a", 2: "a"}, {7: (1, 2)})
    waiting.add(Opened(2, 0))
    waiting.add(Spliced(7, 0, 0, _LOST, _LOST))
    for stream in range(WAITING_EVENTS - 1):
        assert waiting.add(Opened(1, stream)) is None
    assert waiting.add(Spliced(7, 0, 0, _LOST, _LOST)) is None
    assert waiting.add(Opened(1, 1)) == 1
    assert {type(event) for event in drain(waiting)} == {Opened, Spliced}


def test_what_was_begun_goes_on_first() -> None:
    """A session's control stream is read before what came after it."""
    waiting = backlog({1: "a"})
    waiting.add(Closed(1, CloseKind.PEER, 0, ""))
    waiting.add_first(api.Readable(1, 0))
    assert [type(event) for event in drain(waiting)] == [api.Readable, Closed]
