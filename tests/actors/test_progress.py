"""What open connections tell of their bytes while they pass (D-10)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.commands import Command, ReportProgress
from spnhub.actors.contract.inputs import BytesCarried, Key, StartHub, StopHub
from spnhub.actors.contract.packets import PauseAck
from spnhub.actors.system import ActorOptions
from spnhub.events.model import ConnectionEnded, ConnectionPaused, ConnectionProgress
from tests.actors.harness import LOST, NETWORK, REALM, SERVICE, Bench, cut, fins, uid

KEY = Key(2, 0)


@pytest.fixture
def bench() -> Bench:
    """A hub that runs, with a provider's session 1 and a consumer's session 2."""
    return running(Bench(ActorOptions(accept_timeout=1000.0)))


def running(bench: Bench) -> Bench:
    bench.hub(StartHub("1.0", (), orderly=True))
    bench.provider()
    bench.consumer()
    return bench


def asked(commands: list[Command]) -> list[ReportProgress]:
    return [command for command in commands if isinstance(command, ReportProgress)]


def progress(total: tuple[int, int], delta: tuple[int, int], elapsed: float) -> ConnectionProgress:
    return ConnectionProgress(
        realm=REALM,
        network_urn=NETWORK,
        spn_connection_id="0-1",
        consumer_side_spn_session_id="s2",
        provider_side_spn_session_id="s1",
        service_urn=SERVICE,
        connection_uid=uid(0),
        total_sent_bytes=total[0],
        total_receive_bytes=total[1],
        delta_sent_bytes=delta[0],
        delta_receive_bytes=delta[1],
        elapsed_time=elapsed,
    )


def test_at_intervals(bench: Bench) -> None:
    """Asked with what is known, told with what is new; the end tells the rest."""
    bench.joined()
    assert asked(bench.step(60.0)[1]) == [ReportProgress(KEY, 0, 0)]
    assert bench.connection(KEY, BytesCarried(5, 7)) == ([progress((5, 7), (5, 7), 60.0)], [])
    assert asked(bench.step(60.0)[1]) == [ReportProgress(KEY, 5, 7)]
    assert bench.connection(KEY, BytesCarried(5, 9)) == ([progress((5, 9), (0, 2), 120.0)], [])
    (ended,), _ = bench.connection(KEY, cut(10, 20))
    assert isinstance(ended, ConnectionEnded)
    assert (ended.total_sent_bytes, ended.total_receive_bytes) == (10, 20)
    assert (ended.delta_sent_bytes, ended.delta_receive_bytes) == (5, 11)


def test_nothing_new(bench: Bench) -> None:
    """What has been told isn't told again."""
    bench.joined()
    assert bench.connection(KEY, BytesCarried(0, 0)) == ([], [])
    bench.connection(KEY, BytesCarried(5, 7))
    assert bench.connection(KEY, BytesCarried(5, 7)) == ([], [])


def test_only_while_bytes_pass(bench: Bench) -> None:
    """An opening isn't asked, nor what has ended; an answer that comes late says nothing."""
    bench.opening()
    bench.connecting(stream=4, provider_stream=5)
    bench.finished(stream=8, provider_stream=9)
    assert bench.connection(Key(2, 8), BytesCarried(3, 3)) == ([], [])
    bench.joined(stream=12, provider_stream=13)
    commands = bench.step(60.0)[1]
    assert asked(commands) == [ReportProgress(Key(2, 12), 0, 0)]


def test_slices() -> None:
    """Many connections are asked a few at a time, each once in a round, and the next round comes after the interval."""
    bench = running(Bench(ActorOptions(slice_size=2, slice_pause=0.5, accept_timeout=1000.0)))
    for number in range(4):
        bench.joined(stream=4 * number, provider_stream=4 * number + 1)
    seen = [[command.connection.stream for command in asked(bench.step(s)[1])] for s in (60.0, 0.5, 0.5, 59.5, 0.5)]
    assert seen == [[0, 4], [8, 12], [], [], [0, 4]]


def test_bytes_of_a_leg_that_has_lost_its_splice(bench: Bench) -> None:
    """The transport doesn't answer an abort in time: what was told last is what is known."""
    bench.joined()
    bench.connection(KEY, BytesCarried(5, 7))
    bench.session(2, LOST)
    events = [event for event in bench.step(2.0)[0] if isinstance(event, ConnectionEnded | ConnectionPaused)]
    paused, ended = events
    assert isinstance(paused, ConnectionPaused)
    assert isinstance(ended, ConnectionEnded)
    assert (paused.sent_offset, paused.receive_offset) == (5, 7)
    assert (ended.total_sent_bytes, ended.total_receive_bytes) == (5, 7)
    assert (ended.delta_sent_bytes, ended.delta_receive_bytes) == (0, 0)
    assert "lower bounds" in ended.reason


def test_a_pause_before_what_was_told(bench: Bench) -> None:
    """The endpoints took less than was passed on: the next leg begins there, the total never goes back."""
    bench.joined()
    bench.connection(KEY, BytesCarried(100, 200))
    bench.hub(StopHub(resumable=True))
    bench.session(2, PauseAck(uid(0), 0, 150))
    bench.session(1, PauseAck(uid(0), 0, 60))
    (paused, ended, *_), _ = bench.connection(KEY, cut(110, 200))
    assert isinstance(paused, ConnectionPaused)
    assert isinstance(ended, ConnectionEnded)
    assert (paused.planned, paused.sent_offset, paused.receive_offset) == (True, 60, 150)
    assert (ended.total_sent_bytes, ended.total_receive_bytes) == (100, 200)
    assert (ended.delta_sent_bytes, ended.delta_receive_bytes) == (0, 0)


BYTES = st.integers(0, 1 << 40)


@given(moves=st.lists(st.tuples(BYTES, BYTES, st.booleans())), last=st.tuples(BYTES, BYTES), clean=st.booleans())
@settings(max_examples=50, deadline=None)
def test_deltas_add_up(moves: list[tuple[int, int, bool]], last: tuple[int, int], *, clean: bool) -> None:
    """Whenever progress is told, the deltas of a leg are its totals, and none is negative."""
    bench = running(Bench())
    key = bench.joined()
    sent = received = 0
    for more_sent, more_received, told in moves:
        sent, received = sent + more_sent, received + more_received
        if told:
            bench.connection(key, BytesCarried(sent, received))
    sent, received = sent + last[0], received + last[1]
    bench.connection(key, (fins if clean else cut)(sent, received))
    bench.session(2, LOST)
    events = [one.event for one in bench.log if isinstance(one.event, ConnectionProgress | ConnectionEnded)]
    assert isinstance(events[-1], ConnectionEnded)
    assert (events[-1].total_sent_bytes, events[-1].total_receive_bytes) == (sent, received)
    assert sum(event.delta_sent_bytes for event in events) == sent
    assert sum(event.delta_receive_bytes for event in events) == received
    assert all(event.delta_sent_bytes >= 0 and event.delta_receive_bytes >= 0 for event in events)
