"""A connection's leg, and a session's streams, at a hub that speaks sc01 (``transport/SC01.md``). Sans-I/O.

sc01 has no headers, no control stream and no acknowledgements. What spn/1 says there is known here, or is said here in
the hub's place, so that a connection is one like any other; only that it can't go on in another leg.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, CloseAck, CloseRequest, Opening, OpeningKind, Packet
from spnhub.actors.contract.protocols import one_leg_instance
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.leg import EndpointLeg
from spnhub.transport.endpoint.connection.replay import ReplayBuffer
from spnhub.transport.endpoint.kernel.acks import AckBook, Acknowledged
from spnhub.transport.sc01.words import stream_code

__all__ = ["Sc01Leg", "Sc01Streams"]

C = TypeVar("C")

FIRST_BYTE_BOUND: Final = 600.0
"""Seconds that a stream which the hub has opened may be without a byte: as long as a hub lets a consumer wait."""


class _NoAcks(AckBook):
    """Nothing is acknowledged."""

    def took(self, connection: Acknowledged) -> None:
        """See :meth:`AckBook.took`."""


class Sc01Streams(SessionStreams[C]):
    """See :class:`SessionStreams`.

    :param consumer: which end of its connections is here.
    :param answer: takes what a hub of spn/1 would have answered.
    :param on_left: a connection has left.
    :param on_unheard: something was written while nothing shows that there is a provider.
    """

    header_bound = FIRST_BYTE_BOUND

    def __init__(
        self,
        endpoint: EndpointContext,
        connection_id: int,
        *,
        consumer: bool,
        answer: Callable[[CloseAck], None],
        on_left: Callable[[], None],
        on_unheard: Callable[[], None],
    ) -> None:
        super().__init__(endpoint, connection_id)
        self.acks = _NoAcks(self.send, endpoint.now, endpoint.arm, endpoint.turns.flush)
        self.consumer = consumer
        self.heard = not consumer
        """A provider has sent something since the hub said that there is none, or since the beginning."""
        self.on_unheard = on_unheard
        self._answer = answer
        self._on_left = on_left

    def first_packet(self) -> Packet:
        """What a leg's stream would begin with in spn/1. The hub says neither who the peer is, nor an id."""
        instance_id = one_leg_instance("")
        if self.consumer:
            return Accept(OpeningKind.OPEN, instance_id=instance_id)
        random_bytes = self._endpoint.random_bytes
        return Opening(OpeningKind.OPEN, random_bytes(16).hex(), random_bytes(16), instance_id=instance_id)

    def send(self, packet: Packet) -> None:
        """Nothing of it has a word; who asks for a connection's end has its answer at once."""
        if isinstance(packet, CloseRequest):
            self._endpoint.call(lambda: self._answer(CloseAck(packet.connection_uid, packet.epoch)))

    def detach(self, connection: C, stream_id: int | None) -> None:
        """See :meth:`SessionStreams.detach`."""
        super().detach(connection, stream_id)
        self._on_left()

    def refuse(self, stream_id: int, code: int) -> None:
        """See :meth:`SessionStreams.refuse`."""
        super().refuse(stream_id, stream_code(code))


class Sc01Leg(EndpointLeg[C], Generic[C]):
    """The only leg of a connection."""

    asks_first = True

    def __init__(self, endpoint: EndpointContext, session: Sc01Streams[C], replay: ReplayBuffer) -> None:
        super().__init__(endpoint.engine, session, replay)
        self._endpoint = endpoint
        self._streams = session
        self._awaits_head = True
        self._first = b""
        """The provider has read this to see that there is something."""

    @property
    def awaits_head(self) -> bool:
        """See :attr:`EndpointLeg.awaits_head`: a provider's stream has no byte yet."""
        return self._awaits_head

    def begin(self, stream_id: int, packet: Packet, again_from: int | None = None) -> None:  # noqa: ARG002
        """See :meth:`EndpointLeg.begin`: the hub sees the stream with its first byte."""
        self.stream_id = stream_id

    def put_head(self, packet: Packet) -> None:
        """See :meth:`EndpointLeg.put_head`: a refusal is a reset, and nothing else is said."""
        if isinstance(packet, Accept) and packet.code != Code.OK:
            self.fin_passed = True
            self.drop(packet.code)

    def read_head(self) -> Packet | None:
        """See :meth:`EndpointLeg.read_head`."""
        if not self._streams.consumer:
            assert self.stream_id is not None
            answer = self._engine.read(self._c, self.stream_id, 1)
            if answer is None or answer == (b"", False):
                return None
            self._first, self._early_fin = answer
        self._awaits_head = False
        return self._streams.first_packet()

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`EndpointLeg.read`."""
        first = self._first
        if first:
            self._first = b""
            if self._early_fin or limit == len(first):
                return first, self._early_fin
            more = super().read(limit - len(first))
            return (first, False) if more is None else (first + more[0], more[1])
        answer = super().read(limit)
        if answer is not None and answer[0]:
            self._streams.heard = True
        return answer

    def write(self, data: bytes) -> int:
        """See :meth:`EndpointLeg.write`: what the engine has taken is never sent again."""
        assert self.stream_id is not None
        taken = self._engine.write(self._c, self.stream_id, data)
        self._replay.append(data[:taken])
        self._replay.acknowledge(self._replay.end, self._endpoint.now())
        if not self._streams.heard:
            self._streams.on_unheard()
        return taken

    def reset(self, code: int) -> None:
        """See :meth:`EndpointLeg.reset`."""
        super().reset(stream_code(code))

    def drop(self, code: int, *, keep_fin: bool = False) -> None:
        """See :meth:`EndpointLeg.drop`."""
        super().drop(stream_code(code), keep_fin=keep_fin)
