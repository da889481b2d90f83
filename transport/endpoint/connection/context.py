"""What everything of an endpoint stands on (:class:`EndpointContext`), and what a session has for its connections
(:class:`SessionStreams`).

Both are concrete and know nobody above them: what happens to a connection, a session or a hub target is reported to
whoever made it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from spnhub.actors.contract.packets import Packet
from spnhub.transport.endpoint.connection.replay import PROCESS_BUDGET, ReplayBudget, ReplayBuffer
from spnhub.transport.endpoint.kernel.acks import AckBook
from spnhub.transport.endpoint.kernel.turns import Turns
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.engine import Engine
from spnhub.transport.protocol import REQUIRED_KINDS, encode, kind_of

__all__ = ["HEADER_BOUND", "EndpointContext", "SessionStreams"]

C = TypeVar("C")

HEADER_BOUND: Final = 10.0
"""Seconds that the hub has for the Opening on a stream that it opened."""


class EndpointContext:
    """Engine, clock, randomness, what is to be done at once and when, and the program's options.

    :param now: monotonic seconds.
    :param random: in [0, 1).
    :param random_bytes: for identities and secrets.
    :param wake: let the endpoint have a turn soon.
    :param on_fault: takes what was raised that nothing raises, and what it was about: a connection, a session, …
    """

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], float],
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        wake: Callable[[], None],
        on_fault: Callable[[object, BaseException], None],
        options: EndpointOptions,
    ) -> None:
        self.engine = engine
        self.now = now
        self.random = random
        self.random_bytes = random_bytes
        self.on_fault = on_fault
        self.options = options
        self.turns = turns = Turns(wake, on_fault)
        # Bound once, since they are called for every chunk:
        self.touch = turns.touch
        self.call = turns.call
        self.arm = turns.arm
        budget = options.replay_budget
        self._replay_budget = PROCESS_BUDGET if budget is None else ReplayBudget(budget)

    def new_replay(self) -> ReplayBuffer:
        """For what one connection writes."""
        return ReplayBuffer(self._replay_budget, self.options.replay_buffer)


class SessionStreams(Generic[C]):
    """A session's streams as its connections see them: each its own, and the control stream for packets.

    ``C`` is a connection; nothing of it is known here but that it is one.
    """

    header_bound = HEADER_BOUND

    def __init__(self, endpoint: EndpointContext, connection_id: int) -> None:
        self.connection_id = connection_id
        """The QUIC connection."""
        self.acks = AckBook(self.send, endpoint.now, endpoint.arm, endpoint.turns.flush)
        self.kinds: Mapping[int, int] = REQUIRED_KINDS
        """Kinds of packets that the hub reads, and their versions."""
        self.control: int | None = None
        """The control stream; None: not yet."""
        self.attached: dict[C, None] = {}
        """The connections that have a leg here, or are about to."""
        self.by_stream: dict[int, C] = {}
        self._endpoint = endpoint
        self._engine = endpoint.engine
        self._unsent = bytearray()
        self._waiting: dict[C, Callable[[int], None]] = {}

    @property
    def waiting(self) -> int:
        """Connections that wait for a stream."""
        return len(self._waiting)

    # ---------------------------------------------------------------------------------------------- the control stream

    def send(self, packet: Packet) -> None:
        """Send on the control stream, if the hub reads that kind of packet."""
        if kind_of(packet) not in self.kinds:
            return
        self._unsent += encode(packet, self.kinds)
        self.push()
        self._endpoint.touch()

    def push(self) -> None:
        """Give the engine what it takes of the packets."""
        if self._unsent and self.control is not None:
            del self._unsent[: self._engine.write(self.connection_id, self.control, bytes(self._unsent))]

    # -------------------------------------------------------------------------------------------- connections' streams

    def attach(self, connection: C) -> None:
        """It has a leg here, or will have."""
        self.attached[connection] = None

    def detach(self, connection: C, stream_id: int | None) -> None:
        """Its leg here is over; nothing will be brought to it any more.

        :param stream_id: its stream; None: it has none yet, or no longer.
        """
        self.attached.pop(connection, None)
        if stream_id is not None:
            self.by_stream.pop(stream_id, None)
        else:
            self._waiting.pop(connection, None)

    def want_stream(self, connection: C, begin: Callable[[int], None]) -> None:
        """Call ``begin`` with a stream as soon as there is one."""
        self._waiting[connection] = begin
        self.open_waiting()

    def open_waiting(self) -> None:
        """Give streams to those that wait, in order, as far as the hub allows."""
        while self._waiting:
            stream_id = self._engine.open_bidi(self.connection_id)
            if stream_id is None:
                return
            connection = next(iter(self._waiting))
            begin = self._waiting.pop(connection)
            self.by_stream[stream_id] = connection
            begin(stream_id)

    def refuse(self, stream_id: int, code: int) -> None:
        """End both halves of a stream that nobody has."""
        self._engine.reset(self.connection_id, stream_id, code)
        self._engine.stop(self.connection_id, stream_id, code)
        self._endpoint.touch()
