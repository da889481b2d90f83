"""The two ends of a connection: the consumer asks for it and leads every resume, the provider is asked.

A role is a part of a :class:`spnhub.transport.endpoint.connection.connection.Connection`: what its end does otherwise
than the other before the connection is established. What differs later is decided in
:mod:`spnhub.transport.endpoint.connection.transitions`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind, Packet
from spnhub.transport.endpoint.connection.happenings import Accepted, Happening, Rejected
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected
from spnhub.transport.protocol import ProtocolError

__all__ = ["HEADER_BOUND", "Consumer", "Leader", "Provider", "Role"]

HEADER_BOUND: Final = 10.0
"""Seconds that the hub has for the Opening on a stream that it opened."""


class Leader(Protocol):
    """What a role needs of its connection."""

    epoch: int
    finished: bool

    def happens(self, what: Happening) -> None:
        """Decide what becomes of the connection, and do it."""

    def on_peer(self, peer: str, instance_id: str) -> None:
        """The hub has said whose the other end is."""

    def on_requested(self, opening: Opening) -> None:
        """The program is to be asked."""

    def send_head(self, packet: Packet) -> None:
        """Send ``packet`` first on the leg's stream."""

    def drop_leg(self, code: int) -> None:
        """Cut the stream, both halves."""

    def reset_unsent(self, code: int) -> None:
        """Cut our half of the stream if its header is not yet with the engine."""

    def call(self, function: Callable[[], None]) -> None:
        """Call it later in this turn."""


class Role(ABC):
    """One of the two ends."""

    consumer: bool

    @abstractmethod
    def on_head(self, connection: Leader, packet: Packet) -> None:
        """The first packet on the first leg's stream.

        :raises ProtocolError: it isn't the one that had to come.
        """

    @abstractmethod
    def on_established(self, connection: Leader) -> None:
        """It is Connected for the first time."""

    @abstractmethod
    def on_rejected(self, connection: Leader, error: ConnectionRejected) -> None:
        """It is over before it was established: end the stream."""

    @abstractmethod
    def on_failed(self, connection: Leader, error: ConnectionAborted | ConnectionRejected) -> None:
        """It is over before it was established."""


class Consumer(Role):
    """The side that asks for the connection (R-4.2). One of the two functions is called, later.

    :param on_connected: it is Connected.
    :param on_failed: it will never be.
    """

    consumer = True

    def __init__(
        self,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRejected], None],
    ) -> None:
        self._on_connected = on_connected
        self._on_failed = on_failed

    def on_head(self, connection: Leader, packet: Packet) -> None:
        """See :meth:`Role.on_head`: the hub's Accept, or its refusal."""
        if (
            not isinstance(packet, Accept)
            or packet.kind is not OpeningKind.OPEN
            or (packet.epoch != connection.epoch and not packet.code)
        ):
            raise ProtocolError("the answer to an Opening is its Accept")
        if packet.code != Code.OK:
            connection.happens(Rejected(packet.code, packet.reason))
        else:
            connection.on_peer(packet.peer, packet.instance_id)
            connection.happens(Accepted())

    def on_established(self, connection: Leader) -> None:
        """See :meth:`Role.on_established`."""
        connection.call(self._on_connected)

    def on_rejected(self, connection: Leader, error: ConnectionRejected) -> None:
        """See :meth:`Role.on_rejected`."""
        connection.drop_leg(error.code)

    def on_failed(self, connection: Leader, error: ConnectionAborted | ConnectionRejected) -> None:
        """See :meth:`Role.on_failed`."""
        connection.call(lambda: self._on_failed(error))


class Provider(Role):
    """The side that is asked: its program says yes or no (:meth:`Connection.accept`, :meth:`Connection.reject`)."""

    consumer = False

    def on_head(self, connection: Leader, packet: Packet) -> None:
        """See :meth:`Role.on_head`: the consumer's Opening, from the hub."""
        if not isinstance(packet, Opening) or packet.kind is not OpeningKind.OPEN:
            raise ProtocolError("a data stream begins with an Opening")
        connection.on_requested(packet)

    def on_established(self, connection: Leader) -> None:
        """See :meth:`Role.on_established`: the consumer hears of it."""
        connection.send_head(Accept(OpeningKind.OPEN, epoch=connection.epoch))

    def on_rejected(self, connection: Leader, error: ConnectionRejected) -> None:
        """See :meth:`Role.on_rejected`: the consumer hears why."""
        connection.finished = True
        connection.send_head(Accept(OpeningKind.OPEN, error.code, error.reason))
        connection.reset_unsent(error.code)
        # No stop: it could overtake the Accept. The hub ends its half when it has read it.

    def on_failed(self, connection: Leader, error: ConnectionAborted | ConnectionRejected) -> None:
        """See :meth:`Role.on_failed`: its program was not told of it, or has said no."""
