"""What :mod:`spnhub.transport.engine` promises when networks and processes fail, tried on every engine.

Crashes with and without their host, restarts with and without the reset key, cuts one way and both ways, loss and
reordering, processes that are stopped for a while. All in virtual time, so bounds are exact.
"""

from __future__ import annotations

import pytest

from spnhub.transport.endpoint.options import ENDPOINT_LIMITS
from spnhub.transport.engine import Answered, Closed, CloseKind, Connected, Limits, Readable, Unresponsive
from tests.support.engine_pair import EnginePair, Kit, Side
from tests.support.engines import ENGINES, each

KEY = bytes(range(32))
ENDPOINT = ENDPOINT_LIMITS
"""As endpoints have them."""
SLACK = 0.06
"""Seconds of round trips, delayed acknowledgements and pacing on this network."""


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


@pytest.fixture
def pair(kit: Kit) -> EnginePair:
    """A connection between an endpoint and a hub that has a reset key."""
    return EnginePair(kit, client_limits=ENDPOINT, reset_key=KEY).connect()


def until_closed(pair: EnginePair, side: Side, limit: float = 60.0) -> tuple[CloseKind, float]:
    """How the side's only connection ends, and after how many seconds."""
    began = pair.clock.now()
    pair.run_until(lambda: bool(side.of(Closed)), limit)
    (closed,) = side.of(Closed)
    assert closed.connection_id == side.connection_id
    return closed.kind, pair.clock.now() - began


# ------------------------------------------------------------------------------------------------- stateless resets


def test_a_server_that_starts_again_resets_at_once(pair: EnginePair) -> None:
    """The first packet after the restart is answered: the round trip, and the connection is over."""
    stream_id = pair.open()
    pair.server.node.crash()
    pair.restart_server()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    kind, after = until_closed(pair, pair.client)
    assert (kind, pair.client.of(Closed)[0].reason) == (CloseKind.RESET, "stateless reset")
    assert after <= 2 * pair.network.latency + SLACK
    assert pair.client.engine.info(pair.client.connection_id) is None
    assert pair.server.events == []


def test_an_idle_connection_is_reset_at_its_next_keep_alive(pair: EnginePair) -> None:
    """Nothing but the keep-alive is needed."""
    pair.server.node.crash()
    pair.restart_server()
    kind, after = until_closed(pair, pair.client)
    assert kind is CloseKind.RESET
    assert after <= ENDPOINT.keep_alive + SLACK


def test_a_new_connection_to_the_server_that_started_again(pair: EnginePair) -> None:
    """Old and new connections don't disturb each other."""
    old = pair.client.connection_id
    pair.server.node.crash()
    pair.restart_server()
    pair.connect()
    assert pair.client.connection_id != old
    stream_id = pair.open(b"hello")
    pair.run_for(10)
    assert [closed.connection_id for closed in pair.client.of(Closed)] == [old]
    pair.client.engine.write(pair.client.connection_id, stream_id, b"still")
    assert pair.read_all(pair.server, stream_id, 5) == (b"still", False)


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["no key", "another key"])
def test_without_the_key_nothing_is_reset(kit: Kit, key: bytes | None) -> None:
    """Tokens of another key are noise; without a key there are none."""
    pair = EnginePair(kit, client_limits=ENDPOINT, reset_key=KEY).connect()
    stream_id = pair.open()
    pair.server.node.crash()
    pair.reset_key = key
    pair.restart_server()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.run_for(10)
    assert pair.client.of(Closed) == []


def test_two_servers_that_know_nothing_do_not_loop(kit: Kit) -> None:
    """Both sides have a key and have lost everything: what is under way dies out."""
    pair = EnginePair(kit, reset_key=KEY)
    pair.client.engine = pair.client.node.engine = kit.make(Limits(keep_alive=0), reset_key=bytes(32))
    pair.connect()
    stream_id = pair.open()
    pair.server.node.crash()
    pair.restart_server()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.client.node.turn()
    pair.client.engine = pair.client.node.engine = kit.make(Limits(keep_alive=0), reset_key=bytes(32))
    sent = 0
    original = pair.network.send

    def count(*arguments: object) -> None:
        nonlocal sent
        sent += 1
        original(*arguments)  # type: ignore[arg-type]

    pair.network.send = count  # type: ignore[method-assign, assignment]
    pair.run_for(30)
    # The longest first answer has 45 bytes, each is shorter than what it answers, and one of 21 gets none.
    assert sent <= 2 + 45 - 21 + 10


# --------------------------------------------------------------------------------------------- a peer that is gone


def test_a_closed_port_is_noticed_within_the_probe_timeout(pair: EnginePair) -> None:
    """The process is gone, its host lives: the hint, then exactly the probe timeout."""
    stream_id = pair.open()
    pair.server.node.crash()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    kind, after = until_closed(pair, pair.client)
    assert kind is CloseKind.PORT_CLOSED
    assert after == pytest.approx(2 * pair.network.latency + ENDPOINT.probe_timeout, abs=0.001)


def test_an_idle_connection_notices_a_closed_port_at_its_next_keep_alive(pair: EnginePair) -> None:
    """No other traffic is needed; the server's side has its own, longer probe timeout."""
    pair.client.node.crash()
    kind, after = until_closed(pair, pair.server)
    assert kind is CloseKind.PORT_CLOSED
    assert after <= Limits().keep_alive + Limits().probe_timeout + SLACK


def test_one_lost_probe_ends_nothing(pair: EnginePair) -> None:
    """The probe goes again after half of its time."""
    pair.network.repeat_after = 0.01
    pair.network.cut(pair.client.node, pair.server.node, seconds=ENDPOINT.probe_timeout / 2 - 0.001)
    pair.client.engine.unreachable(pair.client.of(Connected)[0].address, pair.clock.now())
    pair.run_for(10)
    assert pair.client.of(Closed) == []


def test_what_was_under_way_is_no_answer_to_a_probe(pair: EnginePair) -> None:
    """Packets of before the crash arrive after the hint, and don't prolong the wait."""
    stream_id = pair.open()
    pair.run_for(1)
    pair.server.engine.write(pair.server.connection_id, stream_id, b"last words")
    pair.server.node.turn()
    pair.client.engine.unreachable(pair.client.of(Connected)[0].address, pair.clock.now())
    pair.server.node.crash(host_lives=False)
    kind, after = until_closed(pair, pair.client)
    assert kind is CloseKind.UNREACHABLE
    assert after == pytest.approx(ENDPOINT.probe_timeout, abs=0.001)


def test_a_dead_host_is_suspect_then_lost(pair: EnginePair) -> None:
    """Only silence: suspect after ``suspect_after`` whatever the back-off of probes, then the idle timeout."""
    stream_id = pair.open()
    pair.run_for(1)
    pair.server.node.crash(host_lives=False)
    began = pair.clock.now()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"into the void")
    pair.run_until(lambda: bool(pair.client.of(Unresponsive)))
    assert pair.clock.now() - began == pytest.approx(ENDPOINT.suspect_after, abs=0.001)
    assert until_closed(pair, pair.client)[0] is CloseKind.IDLE
    assert pair.clock.now() - began <= ENDPOINT.idle_timeout + SLACK
    assert (len(pair.client.of(Unresponsive)), pair.client.of(Answered)) == (1, [])


@pytest.mark.parametrize("idle_for", [0.1, 3.3, 61.7])
def test_an_idle_connection_suspects_after_keep_alive_and_suspect_after(kit: Kit, idle_for: float) -> None:
    """Either side, with no traffic but the keep-alive."""
    for dying in ("server", "client"):
        pair = EnginePair(kit, ENDPOINT, ENDPOINT).connect()
        here, there = (pair.client, pair.server) if dying == "server" else (pair.server, pair.client)
        pair.run_for(idle_for)
        there.node.crash(host_lives=False)
        began = pair.clock.now()
        pair.run_until(lambda here=here: bool(here.of(Unresponsive)))  # type: ignore[misc]
        assert pair.clock.now() - began <= ENDPOINT.keep_alive + ENDPOINT.suspect_after + 0.001
        assert until_closed(pair, here)[0] is CloseKind.IDLE
        assert pair.clock.now() - began <= ENDPOINT.keep_alive + ENDPOINT.idle_timeout + SLACK


def test_many_small_writes_do_not_put_off_the_suspicion(pair: EnginePair) -> None:
    """The oldest unanswered byte counts, not the newest."""
    stream_id = pair.open()
    pair.server.node.crash(host_lives=False)
    began = pair.clock.now()
    while not pair.client.of(Unresponsive):
        pair.client.engine.write(pair.client.connection_id, stream_id, b"x")
        pair.run_for(0.1)
        assert pair.clock.now() - began < ENDPOINT.suspect_after + 0.11


def test_a_quiet_moment_is_no_silence(pair: EnginePair) -> None:
    """What was answered long ago doesn't make the next write suspect at once."""
    stream_id = pair.open()
    for _ in range(20):
        pair.client.engine.write(pair.client.connection_id, stream_id, b"x")
        pair.run_for(1.45)
    assert (pair.client.of(Unresponsive), pair.server.of(Unresponsive)) == ([], [])


# ------------------------------------------------------------------------------------------------ cuts, loss, disorder


def test_a_short_cut_loses_nothing(pair: EnginePair) -> None:
    """Shorter than the idle timeout: the bytes of before, during and after arrive whole, on both sides."""
    stream_id = pair.open()
    pair.network.cut(pair.client.node, pair.server.node, seconds=8)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"one ")
    pair.server.engine.write(pair.server.connection_id, stream_id, b"three ")
    pair.run_for(4)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"two")
    pair.client.engine.finish(pair.client.connection_id, stream_id)
    assert pair.read_all(pair.server, stream_id, 100) == (b"one two", True)
    assert pair.read_all(pair.client, stream_id, 6) == (b"three ", False)
    pair.run_for(1)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    assert (len(pair.client.of(Unresponsive)), len(pair.client.of(Answered))) == (1, 1)


def test_a_long_cut_ends_the_connection_on_both_sides(pair: EnginePair) -> None:
    """Each by its own clock; what was under way in it never arrives."""
    stream_id = pair.open()
    pair.network.cut(pair.client.node, pair.server.node, seconds=40)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"too late")
    pair.run_for(60)
    assert [closed.kind for closed in pair.client.of(Closed)] == [CloseKind.IDLE]
    assert [closed.kind for closed in pair.server.of(Closed)] == [CloseKind.IDLE]
    assert Readable(pair.server.connection_id, stream_id) not in pair.server.events


def test_a_one_way_cut_makes_both_suspect(pair: EnginePair) -> None:
    """Who is still heard but acknowledges nothing has not answered."""
    stream_id = pair.open()
    pair.network.cut(pair.client.node, pair.server.node, one_way=True)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"into the void")
    for _ in range(60):
        pair.server.engine.write(pair.server.connection_id, stream_id, b"x")
        pair.run_for(0.1)
    assert [event.connection_id for event in pair.client.of(Unresponsive)] == [pair.client.connection_id]
    assert [event.connection_id for event in pair.server.of(Unresponsive)] == [pair.server.connection_id]
    assert pair.client.of(Readable) != []
    pair.run_until(lambda: bool(pair.server.of(Closed)) and bool(pair.client.of(Closed)), limit=60)
    assert pair.server.of(Closed)[0].kind is CloseKind.IDLE


@pytest.mark.parametrize("seed", range(8))
def test_loss_and_disorder_cost_time_only(kit: Kit, seed: int) -> None:
    """A fifth lost, the rest overtaking each other: each stream whole and in order, FIN last, nothing suspect."""
    pair = EnginePair(kit)
    pair.network.random.seed(seed)
    pair.network.jitter, pair.network.reorder = 0.05, True
    pair.connect()
    pair.network.loss = 0.2
    streams = [pair.open(bytes([48 + i])) for i in range(5)]
    data = {stream_id: bytes((stream_id + i) % 251 for i in range(40_000)) for stream_id in streams}
    more = {stream_id: pair.write_all(pair.client, stream_id, data[stream_id]) for stream_id in streams}
    got = dict.fromkeys(streams, b"")
    finished: set[int] = set()

    def go_on() -> bool:
        for stream_id in streams:
            if more[stream_id]() and stream_id not in finished:
                finished.add(stream_id)
                pair.client.engine.finish(pair.client.connection_id, stream_id)
                pair.client.node.flush()
            while answer := pair.server.engine.read(pair.server.connection_id, stream_id, 10_000):
                if answer == (b"", False):
                    break
                got[stream_id] += answer[0]
                pair.server.node.flush()
                if answer[1]:
                    del more[stream_id]
                    streams.remove(stream_id)
                    break
        return not streams

    pair.run_until(go_on, limit=300)
    assert got == data
    assert pair.client.of(Closed) == []


# ------------------------------------------------------------------------------------------ processes that are stopped


def test_a_peer_that_was_stopped_answers_in_the_end(pair: EnginePair) -> None:
    """Ten seconds of SIGSTOP make it suspect, cut nothing, and it suspects nobody itself."""
    stream_id = pair.open()
    pair.server.engine.write(pair.server.connection_id, stream_id, b"before")
    pair.server.node.turn()
    pair.server.node.freeze()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.run_for(10)
    assert len(pair.client.of(Unresponsive)) == 1
    pair.server.node.thaw()
    pair.run_until(lambda: bool(pair.client.of(Answered)), limit=1)
    assert pair.read_all(pair.server, stream_id, 14) == (b"are you there?", False)
    assert (pair.server.of(Unresponsive), pair.server.of(Closed), pair.client.of(Closed)) == ([], [], [])


def test_its_own_absence_makes_nobody_suspect(pair: EnginePair) -> None:
    """The answer waits in the socket while the deadline passes: it is taken first."""
    stream_id = pair.open()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.client.node.turn()
    pair.client.node.freeze()
    pair.run_for(18)
    pair.client.node.thaw()
    pair.run_for(5)
    assert (pair.client.of(Unresponsive), pair.client.of(Closed), pair.server.of(Closed)) == ([], [], [])


def test_its_own_absence_ends_no_probe(pair: EnginePair) -> None:
    """Nor does the probe timeout count what has come meanwhile as missing."""
    pair.client.engine.unreachable(pair.client.of(Connected)[0].address, pair.clock.now())
    pair.client.node.turn()
    pair.client.node.freeze()
    pair.run_for(5)
    pair.client.node.thaw()
    pair.run_for(5)
    assert pair.client.of(Closed) == []


def test_who_was_stopped_for_too_long_is_reset(pair: EnginePair) -> None:
    """The other side has given up meanwhile, and says so at the first word."""
    pair.client.node.freeze()
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    pair.client.node.thaw()
    kind, after = until_closed(pair, pair.client)
    assert kind in {CloseKind.RESET, CloseKind.IDLE}
    assert after <= SLACK
