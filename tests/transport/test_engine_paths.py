"""What a new address, a cut, loss and disorder cost a connection on real engines: virtual seconds, for many seeds.

Bounds are those of one connection at a load far below what congestion control leaves of such a path: with 5 % loss and
a round trip of 0.1 s about 1.22 * 1200 / (0.1 * sqrt(0.05)), 65 KB/s (Mathis et al., 1997), which all streams share.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise

import pytest

from spnhub.transport.aioquic_engine.recovery import LONGEST_PROBE_INTERVAL, MOST_REORDERING
from spnhub.transport.endpoint.options import ENDPOINT_LIMITS
from spnhub.transport.engine import Closed, EngineEvent, Limits, Readable, Unresponsive
from tests.support.aioquic_inside import connection_of, count_lost, is_validated, packet_threshold, probes
from tests.support.engine_pair import EnginePair, Kit, Side
from tests.support.engines import REAL, each, new_aioquic

ENDPOINT = ENDPOINT_LIMITS
"""As endpoints have them."""
LATENCY = 0.05
"""Seconds, each way."""
INTERVAL = 0.1
BLOCK = 64
PADDED = 1200
"""Bytes of a datagram with a challenge, where the anti-amplification limit has room for it (RFC 9000 section 8.2.1)."""


def seeds(few: int, many: int, *also: int) -> pytest.MarkDecorator:
    """A few each time, and those that once failed; many with ``make prove``."""
    always = [*range(few), *also]
    rest = [pytest.param(seed, marks=pytest.mark.prove) for seed in range(few, many) if seed not in always]
    return pytest.mark.parametrize("seed", [*always, *rest])


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


@pytest.fixture
def aioquic() -> Kit:
    """For what only a look into aioquic shows."""
    return new_aioquic()


class Flows:
    """Streams on which one side or both write a block every tenth of a second, for ever."""

    def __init__(self, pair: EnginePair, senders: tuple[Side, ...], streams: int = 4) -> None:
        self._pair = pair
        self._streams = [pair.open() for _ in range(streams)]
        self._unsent: dict[tuple[int, int], int] = {}
        self.arrived: dict[tuple[int, int], int] = {}
        """Bytes of each flow: a number of the sender, a stream."""
        pair.client.node.on_events = lambda events: self._on_events(0, events)
        pair.server.node.on_events = lambda events: self._on_events(1, events)
        for n, side in enumerate((pair.client, pair.server)):
            if side in senders:
                for i, stream_id in enumerate(self._streams):
                    self._unsent[n, stream_id] = self.arrived[n, stream_id] = 0
                    pair.clock.call_at(pair.clock.now() + INTERVAL * i / streams, partial(self._tick, n, stream_id))

    def _side(self, n: int) -> Side:
        return (self._pair.client, self._pair.server)[n]

    def _tick(self, n: int, stream_id: int) -> None:
        side = self._side(n)
        self._unsent[n, stream_id] += BLOCK
        self._unsent[n, stream_id] -= side.engine.write(
            side.connection_id, stream_id, bytes(self._unsent[n, stream_id])
        )
        side.node.flush()
        self._pair.clock.call_at(self._pair.clock.now() + INTERVAL, lambda: self._tick(n, stream_id))

    def _on_events(self, n: int, events: list[EngineEvent]) -> None:
        side = self._side(n)
        for event in events:
            if isinstance(event, Readable) and (1 - n, event.stream_id) in self.arrived:
                answer = side.engine.read(side.connection_id, event.stream_id, 1 << 20)
                assert answer is not None
                self.arrived[1 - n, event.stream_id] += len(answer[0])
                side.node.flush()
            else:
                side.events.append(event)

    def go_on(self, limit: float) -> float:
        """Seconds until something has arrived on every flow.

        :raises TimeoutError: not within ``limit``.
        """
        began, before = self._pair.clock.now(), dict(self.arrived)
        self._pair.run_until(lambda: all(self.arrived[flow] > before[flow] for flow in before), limit)
        return self._pair.clock.now() - began


def lossy(pair: EnginePair, seed: int) -> None:
    """5 % loss, 50 to 70 ms each way, datagrams that overtake each other."""
    network = pair.network
    network.random = random.Random(seed)
    network.latency, network.jitter, network.reorder, network.loss = LATENCY, 0.02, True, 0.05


def sendings(pair: EnginePair) -> list[float]:
    """When the client sends something from now on: it grows."""
    times: list[float] = []
    original = pair.network.send

    def note(node: object, *rest: object) -> None:
        if node is pair.client.node:
            times.append(pair.clock.now())
        original(node, *rest)  # type: ignore[arg-type]

    pair.network.send = note  # type: ignore[method-assign, assignment]
    return times


def has_moved(pair: EnginePair) -> bool:
    """Whether the server knows the client's new address; of aioquic it shows that it has made sure of it."""
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    if pair.kit.name == "aioquic" and not is_validated(connection_of(pair.server.engine)):
        return False
    return info.address.remote not in pair.network.gone()


DIRECTIONS = ("both", "up", "down")


def senders(pair: EnginePair, direction: str) -> tuple[Side, ...]:
    """Who sends."""
    return {"both": (pair.client, pair.server), "up": (pair.client,), "down": (pair.server,)}[direction]


# ----------------------------------------------------------------------------------------------------- new addresses


@pytest.mark.parametrize("refused", [False, True], ids=["silent", "refused"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@seeds(1, 40)
def test_a_new_address_costs_no_three_seconds(kit: Kit, seed: int, direction: str, refused: bool) -> None:
    """Also where an endpoint only receives, and so had no reason to send; the connection stays."""
    pair = EnginePair(kit, client_limits=ENDPOINT, reset_key=bytes(32)).connect()
    lossy(pair, seed)
    flows = Flows(pair, senders(pair, direction))
    pair.run_for(3)
    pair.client.node.rebind(refused=refused)
    assert flows.go_on(10) <= 3.0
    pair.run_for(3)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    assert has_moved(pair)


@pytest.mark.parametrize("direction", ["both", "down"])
@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("nth", range(4))
def test_no_single_datagram_of_a_move_is_needed(kit: Kit, nth: int, who: str, direction: str) -> None:
    """Whichever of the first ones after it is lost (the question, the challenge, its answer): a second is enough."""
    pair = EnginePair(kit, client_limits=ENDPOINT, reset_key=bytes(32)).connect()
    pair.network.latency = LATENCY
    flows = Flows(pair, senders(pair, direction))
    pair.run_for(3)
    pair.client.node.rebind()
    node = getattr(pair, who).node
    old = pair.network.gone()
    original, count = pair.network.send, 0

    def drop(sender: object, source: object, target: object, *rest: object) -> None:
        nonlocal count
        if sender is node and target not in old:
            count += 1
            if count == nth + 1:
                return
        original(sender, source, target, *rest)  # type: ignore[arg-type]

    pair.network.send = drop  # type: ignore[method-assign, assignment]
    assert flows.go_on(10) <= (1.0 if direction == "both" else 1.6)
    pair.run_for(1)
    assert count > nth
    assert has_moved(pair)


@pytest.mark.parametrize("direction", DIRECTIONS)
@seeds(0, 40, 6, 20, 31)
def test_a_move_with_a_congestion_window_of_nothing(kit: Kit, seed: int, direction: str) -> None:
    """After cuts next to nothing may be in flight; who loses its padded challenges then still goes on.

    They fill such a window: nothing but probes gets them out of it, and those are sent only for what asks for an
    acknowledgement.
    """
    pair = EnginePair(kit, client_limits=ENDPOINT, reset_key=bytes(32)).connect()
    lossy(pair, seed)
    flows = Flows(pair, senders(pair, direction))
    pair.run_for(3)
    original, dropped = pair.network.send, 0

    def drop(sender: object, source: object, target: object, data: bytes, *rest: object) -> None:
        nonlocal dropped
        if sender is pair.server.node and len(data) >= PADDED and dropped < 2:
            dropped += 1
            return
        original(sender, source, target, data, *rest)  # type: ignore[arg-type]

    pair.network.send = drop  # type: ignore[method-assign, assignment]
    for _ in range(6):
        pair.network.cut(pair.client.node, pair.server.node, seconds=0.5)
        pair.run_for(0.5)
        flows.go_on(15)
        dropped = 0
        pair.client.node.rebind()
        flows.go_on(5)
    pair.run_for(1)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    assert has_moved(pair)


def test_an_endpoint_asks_in_the_middle_of_what_it_receives(kit: Kit) -> None:
    """0.6 s after the last that came; then a round trip until it comes again."""
    pair = EnginePair(kit, client_limits=ENDPOINT).connect()
    pair.network.latency = LATENCY
    flows = Flows(pair, (pair.server,))
    pair.run_for(3)
    pair.client.node.rebind()
    assert flows.go_on(10) <= 0.6 + 4 * LATENCY + INTERVAL


@pytest.mark.parametrize("gap", [0.9, 2.0, 7.0])
def test_an_endpoint_asks_nothing_where_bytes_come_at_intervals(kit: Kit, gap: float) -> None:
    """Two gaps of silence are a reason to ask; one is not. What is idle costs its keep-alives only."""
    pair = EnginePair(kit, client_limits=ENDPOINT).connect()
    stream_id = pair.open()
    pair.run_for(10)
    sent = sendings(pair)
    for _ in range(10):
        pair.server.engine.write(pair.server.connection_id, stream_id, b"tick")
        pair.run_for(gap)
    # One acknowledgement a tick; and where keep-alives are due, one each, or its acknowledgement.
    assert len(sent) <= 10 * (1 + 2 * (gap > ENDPOINT.keep_alive)) + 1


# -------------------------------------------------------------------------------------------------------------- cuts


@pytest.mark.parametrize("direction", DIRECTIONS)
@seeds(1, 40)
def test_after_a_cut_bytes_move_within_three_seconds(kit: Kit, seed: int, direction: str) -> None:
    """Ten seconds of silence, on a path that also loses: no back-off keeps the connection still when it is over."""
    pair = EnginePair(kit, client_limits=ENDPOINT).connect()
    lossy(pair, seed)
    flows = Flows(pair, senders(pair, direction))
    pair.run_for(3)
    pair.network.cut(pair.client.node, pair.server.node, seconds=10)
    pair.run_for(10)
    assert flows.go_on(20) <= 3.0
    pair.run_for(10)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])


def test_a_silent_peer_is_asked_at_bounded_intervals(kit: Kit) -> None:
    """At most one second apart, so at most about 20 times until the idle timeout; first quicker than that."""
    pair = EnginePair(kit).connect()
    stream_id = pair.open()
    pair.run_for(1)
    pair.server.node.crash(host_lives=False)
    times = sendings(pair)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"into the void")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    gaps = [late - early for early, late in pairwise(times)]
    assert max(gaps) <= LONGEST_PROBE_INTERVAL
    assert 15 <= len(times) <= 60
    assert gaps[0] < gaps[2] < LONGEST_PROBE_INTERVAL / 2


def test_an_unanswered_handshake_backs_off_without_bound(kit: Kit) -> None:
    """A herd that comes back to a hub that can't answer yet must not repeat itself every second."""
    pair = EnginePair(kit)
    pair.network.cut(pair.client.node, pair.server.node)
    times = sendings(pair)
    pair.begin()
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert max(late - early for early, late in pairwise(times)) > 2 * LONGEST_PROBE_INTERVAL


def test_who_hears_its_peer_asks_again_at_once(aioquic: Kit) -> None:
    """What comes after a cut from the one side spares the other its back-off."""
    pair = EnginePair(aioquic, Limits(keep_alive=0), Limits(keep_alive=0)).connect()
    stream_id = pair.open()
    pair.run_for(1)
    pair.network.cut(pair.client.node, pair.server.node, seconds=10)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"late")
    pair.run_for(10)
    quic = connection_of(pair.client.engine)
    assert probes(quic) > 2
    pair.client.take(Unresponsive)
    due = quic.get_timer()
    assert due is not None
    pair.server.engine.write(pair.server.connection_id, stream_id, b"sign of life")
    pair.server.node.turn()
    pair.run_until(lambda: pair.client.of(Readable) != [], limit=1)
    pair.client.node.turn()
    assert probes(quic) <= 1
    assert pair.read_all(pair.server, stream_id, 4, limit=2 * pair.network.latency + 0.05) == (b"late", False)


def test_acknowledgements_wait_for_no_congestion_window(kit: Kit) -> None:
    """Who may send nothing else acknowledges what comes (RFC 9002 section 7)."""
    pair = EnginePair(kit)
    pair.network.latency = latency = 0.5
    pair.connect()
    stream_id = pair.open()
    pair.run_for(3)
    pair.server.engine.write(pair.server.connection_id, stream_id, bytes(1 << 20))
    pair.server.node.turn()
    # The server's window is on its way for a round trip, and this is in the middle of it.
    pair.run_for(latency / 5)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"meanwhile")
    pair.client.node.turn()
    pair.run_until(lambda: unacknowledged(pair) == 0, limit=2 * latency + 0.05)


# ------------------------------------------------------------------------------------------------- long round trips


def unacknowledged(pair: EnginePair) -> int:
    """Bytes of the client's."""
    info = pair.client.engine.info(pair.client.connection_id)
    assert info is not None
    return info.unacknowledged


@pytest.mark.parametrize("latency", [0.2, 0.3, 0.5, 0.8, 1.2])
def test_a_long_round_trip_is_learned(kit: Kit, latency: float) -> None:
    """Also where probes are sent before the first answer can be there: by satellite, or behind a full modem."""
    pair = EnginePair(kit)
    pair.network.latency = latency
    pair.connect()
    pair.open()
    pair.run_until(lambda: unacknowledged(pair) == 0, limit=4 * latency + 0.1)
    info = pair.client.engine.info(pair.client.connection_id)
    assert info is not None
    assert info.rtt == pytest.approx(2 * latency, rel=0.1)


def test_a_long_round_trip_is_no_silence(kit: Kit) -> None:
    """Who hears an answer later than it suspects others, or asks them, has known since the handshake that it does."""
    pair = EnginePair(kit, client_limits=ENDPOINT)
    pair.network.latency = 1.2
    pair.connect()
    stream_id = pair.open()
    pair.run_for(5)
    pair.client.events.clear()
    for _ in range(3):
        pair.client.engine.write(pair.client.connection_id, stream_id, b"tick")
        pair.run_for(4)
    info = pair.client.engine.info(pair.client.connection_id)
    assert info is not None
    # A router's word, which may be wrong.
    pair.client.engine.unreachable(info.address, pair.clock.now())
    pair.run_for(4)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    assert pair.client.of(Unresponsive) == []


@pytest.mark.parametrize("gap", [0.05, 5.0])
@pytest.mark.parametrize("latency", [0.3, 1.5])
def test_a_round_trip_that_becomes_long_is_learned(kit: Kit, latency: float, gap: float) -> None:
    """Whether bytes are on their way all the time, or come one after the other."""
    pair = EnginePair(kit, Limits(keep_alive=0), Limits(keep_alive=0)).connect()
    stream_id = pair.open()
    pair.run_for(1)
    pair.network.latency = latency
    for _ in range(int(20 / gap)):
        pair.client.engine.write(pair.client.connection_id, stream_id, b"tick")
        pair.client.node.turn()
        pair.run_for(gap)
    pair.run_until(lambda: unacknowledged(pair) == 0, limit=2 * latency + 0.1)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])
    sent = sendings(pair)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"one more")
    pair.client.node.turn()
    pair.run_for(2 * latency + 1)
    assert unacknowledged(pair) == 0
    # The packet, an acknowledgement, and where a peer says nothing for a second, a probe and its acknowledgement.
    assert len(sent) <= 2 + 2 * int(2 * latency)


# -------------------------------------------------------------------------------------------------- loss and disorder


@seeds(1, 10)
def test_a_path_that_reorders_is_learned(aioquic: Kit, seed: int) -> None:
    """Nothing is lost, many come late: at first some are sent twice, then hardly any."""
    pair = EnginePair(aioquic).connect()
    network = pair.network
    network.random = random.Random(seed)
    flows = Flows(pair, (pair.client,), streams=40)
    network.latency, network.jitter, network.reorder = LATENCY, 0.02, True
    quic = connection_of(pair.client.engine)
    given_up = 0

    def count(packets: int) -> None:
        nonlocal given_up
        given_up += packets

    count_lost(quic, count)
    pair.run_for(2)
    first, given_up = given_up, 0
    pair.run_for(2)
    assert flows.go_on(1) < 1
    assert first > 0
    assert 3 < packet_threshold(quic) <= MOST_REORDERING
    assert given_up <= 10, (first, given_up)


def test_the_probe_timeout_follows_the_path_as_it_is(aioquic: Kit) -> None:
    """Not the shortest round trip that it ever had: RFC 9002 section 5.3, where aioquic keeps that distance."""
    pair = EnginePair(aioquic, client_limits=ENDPOINT).connect()
    flows = Flows(pair, (pair.client, pair.server))
    pair.run_for(2)
    pair.network.latency = LATENCY
    pair.run_for(10)
    assert flows.go_on(1) < 1
    rtt, _, _ = connection_of(pair.client.engine).measurements()
    assert rtt == pytest.approx(2 * LATENCY, rel=0.1)
    assert connection_of(pair.client.engine).probe_timeout() < 2 * LATENCY + 0.025 + 0.03
