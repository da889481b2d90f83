"""Joined streams of which one end speaks spn/1 and the other sc01: passed on here, not by a splice of the engine.

An endpoint of spn/1 keeps what it has written until the other end has acknowledged it, and waits for another leg when
the stream ends with a code that ends legs only. An endpoint of sc01 acknowledges nothing and has one leg only. So this
side acknowledges in its place what it has passed on, and gives ends the codes that each side understands. Otherwise as
a splice: FIN, RESET and STOP_SENDING pass through, and a slow sink holds its source back. Sans-I/O.

Memory: none beside what the engine holds; no more is read than the other side takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import field
from typing import Final, NamedTuple

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import LimitExceeded
from spnhub.actors.contract.packets import Ack
from spnhub.dataclass import dataclass
from spnhub.transport.engine import LOST_CODE, Engine, Outcome, OutcomeKind, Reset, Spliced, Stopped
from spnhub.transport.hub.bandwidth import Bandwidth
from spnhub.transport.sc01.words import code_of_stream, stream_code

__all__ = ["ACK_BYTES", "ACK_DELAY", "CHUNK", "RelayEnd", "RelayHalf", "Relays"]

CHUNK: Final = 16 * 1024
"""The most bytes that are read at a time."""
ACK_BYTES: Final = 32 * 1024
"""Bytes passed on from which on they are acknowledged at once."""
ACK_DELAY: Final = 0.025
"""Seconds after which less than that is acknowledged."""


class RelayEnd(NamedTuple):
    """A stream that is joined."""

    connection_id: int
    stream_id: int
    sc01: bool
    ended: bool = False
    """Its FIN was already read."""
    broken: int | None = None
    """It was reset or stopped already, with this code."""

    @property
    def place(self) -> tuple[int, int]:
        """Its connection and stream."""
        return self.connection_id, self.stream_id

    def told(self, code: int) -> int:
        """The code with which this end hears of an end that the other one calls ``code``."""
        return stream_code(code) if self.sc01 else code_of_stream(code)


@dataclass(slots=True)
class RelayHalf:
    """One of the two of a relay."""

    token: int
    source: RelayEnd
    sink: RelayEnd
    meters: tuple[int, ...]
    fin: bool = False
    """The source's FIN was read."""
    passed: int = 0
    acknowledged: int = 0
    waits: bool = False
    """At a meter."""
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Relay:
    token: int
    uid: str
    a_to_b: RelayHalf
    b_to_a: RelayHalf
    ends: tuple[RelayEnd, RelayEnd] = field(init=False)

    def __post_init__(self) -> None:
        self.ends = (self.a_to_b.source, self.b_to_a.source)

    def from_(self, place: tuple[int, int]) -> RelayHalf:
        """The direction whose source is this stream."""
        return self.a_to_b if self.a_to_b.source.place == place else self.b_to_a

    def to(self, place: tuple[int, int]) -> RelayHalf:
        """The direction whose sink is this stream."""
        return self.b_to_a if self.a_to_b.source.place == place else self.a_to_b


class Relays:
    """The relays of one hub process.

    :param acknowledge: sends an acknowledgement on a session, at the end of the turn.
    :param ended: called when both directions of a relay have ended, as with the engine's event.
    :param bandwidth: what their bytes pass.
    :param exceeded: told what had to wait for it.
    """

    def __init__(
        self,
        engine: Engine,
        acknowledge: Callable[[int, Ack], None],
        ended: Callable[[Spliced], None],
        bandwidth: Bandwidth[RelayHalf],
        exceeded: Callable[[LimitExceeded], None],
    ) -> None:
        self._engine = engine
        self._bandwidth = bandwidth
        self._exceeded = exceeded
        self._acknowledge = acknowledge
        self._ended = ended
        self._relays: dict[int, _Relay] = {}
        self._places: dict[tuple[int, int], _Relay] = {}
        self._by_connection: dict[int, dict[int, None]] = {}
        self._tokens = itertools.count(-1, -1)
        self._later: dict[int, None] = {}
        """Relays with bytes that are to be acknowledged at :attr:`_later_at`."""
        self._later_at = 0.0
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._relays)

    def __contains__(self, place: tuple[int, int]) -> bool:
        """Whether this stream of a connection is joined here."""
        return place in self._places

    # ---- time --------------------------------------------------------------------------------------------------

    def timer(self) -> float | None:
        """When :meth:`pass_time` wants to be called."""
        return self._due() if self._relays else None

    def _due(self) -> float | None:
        later = self._later_at if self._later else None
        due = self._bandwidth.timer() if self._bandwidth.any else None
        return min([at for at in (later, due) if at is not None], default=None)

    def pass_time(self, now: float) -> None:
        """Acknowledge what has waited long enough, and pass on what may pass a meter now."""
        self._now = now
        if self._relays:
            self._do_due(now)

    def _do_due(self, now: float) -> None:
        if self._bandwidth.any:
            self._pass_meters(now)
        if self._later and self._later_at <= now:
            later, self._later = self._later, {}
            for token in later:
                relay = self._relays.get(token)
                if relay is not None:
                    for direction in (relay.a_to_b, relay.b_to_a):
                        self._send_ack(relay, direction)

    def _pass_meters(self, now: float) -> None:
        bandwidth = self._bandwidth
        for direction in bandwidth.pass_time(now):
            direction.waits = False
            self._pump_of(direction, None)
        for direction, share in bandwidth.relayed.turns(now):
            direction.waits = False
            self._pump_of(direction, share)
        for told in bandwidth.take_exceeded():
            self._exceeded(told)

    def _pump_of(self, direction: RelayHalf, share: int | None) -> None:
        relay = self._relays.get(direction.token)
        if relay is not None:
            self._pump(relay, direction, share)

    # ---- beginning and end -------------------------------------------------------------------------------------

    def new_token(self) -> int:
        """A token for :meth:`join`; below 0, since those of the engine's splices are above."""
        return next(self._tokens)

    def join(self, token: int, uid: str, a: RelayEnd, b: RelayEnd, meters: tuple[int, ...] = ()) -> None:
        """Join two streams both ways. It may have ended when this returns.

        :param meters: what its bytes pass (:meth:`Bandwidth.meters`).
        """
        there, back = RelayHalf(token, a, b, meters, fin=a.ended), RelayHalf(token, b, a, meters, fin=b.ended)
        relay = _Relay(token, uid, there, back)
        self._relays[relay.token] = relay
        self._bandwidth.begin_relay(meters, self._now)
        for end in relay.ends:
            self._places[end.place] = relay
            self._by_connection.setdefault(end.connection_id, {})[relay.token] = None
        for end in relay.ends:
            if end.broken is not None:
                self._source_reset(relay, relay.from_(end.place), end.broken)
                self._sink_stopped(relay, relay.to(end.place), end.broken)
        for direction in (relay.a_to_b, relay.b_to_a):
            if not self._pump(relay, direction):
                self._source_reset(relay, direction, Code.PEER_RESET)

    def splice_progress(self, token: int) -> tuple[int, int] | None:
        """Bytes passed on so far, a to b and b to a; None when it is over."""
        relay = self._relays.get(token)
        return None if relay is None else (relay.a_to_b.passed, relay.b_to_a.passed)

    def unsplice(self, token: int, code: int) -> None:
        """End it from our side: both streams are reset and stopped with ``code``."""
        relay = self._relays.get(token)
        if relay is None:
            return
        for direction in (relay.a_to_b, relay.b_to_a):
            sink, source = direction.sink, direction.source
            self._engine.reset(*sink.place, _ours(sink, code))
            self._engine.stop(*source.place, _ours(source, code))
            self._end(relay, direction, Outcome(OutcomeKind.ABORTED, code))

    def lost(self, connection_id: int) -> None:
        """A connection is gone: what it had joined ends, the other sides with an error that ends more than a leg.

        What it had said to the end before goes to them all the same.
        """
        for token in list(self._by_connection.get(connection_id, ())):
            relay = self._relays[token]
            for direction in (relay.a_to_b, relay.b_to_a):
                if direction.source.connection_id == connection_id and direction.outcome is None:
                    self._pass_rest(relay, direction)
            if token not in self._relays:
                continue
            for end in relay.ends:
                if end.connection_id != connection_id:
                    self._engine.reset(*end.place, _ours(end, Code.PEER_RESET))
                    self._engine.stop(*end.place, _ours(end, Code.PEER_RESET))
            for direction in (relay.a_to_b, relay.b_to_a):
                self._end(relay, direction, Outcome(OutcomeKind.LOST, LOST_CODE))

    # ---- what happens to the streams ---------------------------------------------------------------------------

    def readable(self, place: tuple[int, int]) -> None:
        """There is something to read on a joined stream."""
        relay = self._places.get(place)
        if relay is not None:
            self._pump(relay, relay.from_(place))

    def writable(self, place: tuple[int, int]) -> None:
        """A joined stream takes more."""
        relay = self._places.get(place)
        if relay is not None:
            self._pump(relay, relay.to(place))

    def aborted(self, event: Reset | Stopped) -> None:
        """A joined stream was reset or stopped by its endpoint."""
        place = event.connection_id, event.stream_id
        relay = self._places.get(place)
        if relay is None:
            return
        if isinstance(event, Reset):
            self._engine.stop(*place, event.code)  # what had come is dropped
            self._source_reset(relay, relay.from_(place), event.code)
        else:
            self._sink_stopped(relay, relay.to(place), event.code)

    def _allowed(self, direction: RelayHalf, share: int | None) -> int | None:
        """How many bytes may pass its meters now; None: any number."""
        meters = self._bandwidth.relayed
        if not meters.any:
            return None
        if direction.waits:
            return 0
        most = meters.allowed(direction.meters, self._now, in_turn=share is not None)
        return most if most is None or share is None else min(most, share)

    def _pump(self, relay: _Relay, direction: RelayHalf, share: int | None = None) -> bool:
        """Pass on what can be passed on; False: the source was reset, and that was said before.

        :param share: how many bytes may pass meters at which others wait.
        """
        if direction.outcome is not None:
            return True
        engine, source, sink = self._engine, direction.source.place, direction.sink.place
        before = direction.passed
        while not direction.fin:
            # Without room, to see whether there is only an end.
            room = min(engine.room(*sink), CHUNK)
            allowed = self._allowed(direction, share)
            got = engine.read(*source, room if allowed is None else min(room, allowed))
            if got is None:
                self._count(relay, direction, before)
                return False
            data, direction.fin = got
            if data:
                direction.passed += engine.write(*sink, data)
                if allowed is not None:
                    self._bandwidth.relayed.spend(direction.meters, len(data))
                    share = None if share is None else share - len(data)
            elif not direction.fin:
                if room and allowed == 0 and not direction.waits:
                    direction.waits = self._bandwidth.relayed.wait(direction, direction.meters)
                break
        if direction.fin:
            engine.finish(*sink)
            self._count(relay, direction, before)
            self._end(relay, direction, Outcome(OutcomeKind.FINISHED))
            return True
        self._count(relay, direction, before)
        return True

    def _pass_rest(self, relay: _Relay, direction: RelayHalf) -> None:
        """Pass on what a source that is gone has sent, if that is all of it."""
        engine, source, sink = self._engine, direction.source.place, direction.sink.place
        rest, fin = bytearray(), direction.fin
        while not fin and (got := engine.read(*source, CHUNK)) is not None:
            data, fin = got
            rest += data
            if not data:
                break
        if fin and engine.write_rest(*sink, bytes(rest)):
            direction.passed += len(rest)
            self._bandwidth.relayed.spend(direction.meters, len(rest))
            self._end(relay, direction, Outcome(OutcomeKind.FINISHED))

    def _count(self, relay: _Relay, direction: RelayHalf, before: int) -> None:
        """Acknowledge what was passed on, now or a little later."""
        if direction.passed == before or direction.source.sc01:
            return
        if direction.passed - direction.acknowledged >= ACK_BYTES or direction.fin:
            self._send_ack(relay, direction)
        else:
            if not self._later:
                self._later_at = self._now + ACK_DELAY
            self._later[relay.token] = None

    def _send_ack(self, relay: _Relay, direction: RelayHalf) -> None:
        if not direction.source.sc01 and direction.passed > direction.acknowledged:
            direction.acknowledged = direction.passed
            self._acknowledge(direction.source.connection_id, Ack(relay.uid, 0, direction.passed))

    def _source_reset(self, relay: _Relay, direction: RelayHalf, code: int) -> None:
        if direction.outcome is None:
            self._engine.reset(*direction.sink.place, direction.sink.told(code))
            self._end(relay, direction, Outcome(OutcomeKind.RESET, _meant(direction.source, code)))

    def _sink_stopped(self, relay: _Relay, direction: RelayHalf, code: int) -> None:
        # After our FIN, this is how a failure of the whole connection travels (D-18).
        self._engine.stop(*direction.source.place, direction.source.told(code))
        self._end(relay, direction, Outcome(OutcomeKind.STOPPED, _meant(direction.sink, code)))

    def _end(self, relay: _Relay, direction: RelayHalf, outcome: Outcome) -> None:
        if direction.outcome is not None:
            return
        direction.outcome = outcome
        there, back = relay.a_to_b.outcome, relay.b_to_a.outcome
        if there is None or back is None:
            return
        for one in (relay.a_to_b, relay.b_to_a):
            self._send_ack(relay, one)
        del self._relays[relay.token]
        self._bandwidth.end_relay(relay.a_to_b.meters)
        self._later.pop(relay.token, None)
        for end in relay.ends:
            del self._places[end.place]
            tokens = self._by_connection[end.connection_id]
            del tokens[relay.token]
            if not tokens:
                del self._by_connection[end.connection_id]
        self._ended(Spliced(relay.token, relay.a_to_b.passed, relay.b_to_a.passed, there, back))


def _ours(end: RelayEnd, code: int) -> int:
    """The code of spn/1 that this hub says to an end."""
    return stream_code(code) if end.sc01 else code


def _meant(end: RelayEnd, code: int) -> int:
    """What an end has said, as spn/1 has it."""
    return code_of_stream(code) if end.sc01 else code
