"""What a connection at its endpoint needs of others: of the session that has its leg, and of the endpoint.

Counterparts: :mod:`spnhub.transport.endpoint.session.session` is the home,
:mod:`spnhub.transport.endpoint.core.endpoint` the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from spnhub.transport.endpoint.connection.replay import ReplayBuffer
from spnhub.transport.endpoint.kernel.acks import AckBook
from spnhub.transport.endpoint.kernel.deadlines import DeadlineOwner
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.engine import Engine
from spnhub.transport.protocol import Packet

if TYPE_CHECKING:
    from spnhub.transport.endpoint.connection.connection import Connection

__all__ = ["EndpointContext", "SessionContext"]


class SessionContext(Protocol):
    """What a connection needs of the session that has its leg."""

    connection_id: int
    acks: AckBook

    def send(self, packet: Packet) -> None:
        """Send on the control stream, if the hub reads that kind of packet."""

    def attach(self, connection: Connection) -> None:
        """It has a leg here, or will have."""

    def detach(self, connection: Connection) -> None:
        """Its leg here is over; nothing will be brought to it any more."""

    def want_stream(self, connection: Connection) -> None:
        """Call :meth:`Connection.begin` with a stream as soon as there is one."""


class EndpointContext(Protocol):
    """What a connection needs of its endpoint."""

    engine: Engine
    options: EndpointOptions

    def now(self) -> float:
        """Monotonic seconds."""

    def touch(self) -> None:
        """The engine was used: have it flushed."""

    def call(self, function: Callable[[], None]) -> None:
        """Call later in this turn, after everything that was asked for before."""

    def arm(self, owner: DeadlineOwner, when: float | None) -> None:
        """One deadline per owner; None: none."""

    def new_replay(self) -> ReplayBuffer:
        """For one direction."""

    def on_paused(self, connection: Connection, reason: str) -> None:
        """It is Paused, for the first time or again after an attempt."""

    def on_resumed(self, connection: Connection) -> None:
        """It is Connected again."""

    def on_disconnected(
        self, connection: Connection, closed_notice: int | None, session: SessionContext | None
    ) -> None:
        """It is over.

        ``closed_notice``: how, where the other end doesn't know it but from us. ``session``: where it was told so on
        the stream; None: it was not.
        """
