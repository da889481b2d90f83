"""Acknowledgements of what a session's connections have read, collected (PROTOCOL.md section 5).

Due at :data:`ACK_BYTES` or more of one connection, else within :data:`ACK_DELAY`. One timer for the whole session,
nothing for a connection that is idle, and one DataAck per turn for all that are due. Counterpart:
:mod:`spnhub.transport.endpoint.connection.replay` at the other endpoint drops what is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Protocol

from spnhub.actors.contract.packets import ACK_LIMIT, Ack, DataAck, Packet
from spnhub.transport.endpoint.kernel.deadlines import DeadlineOwner

__all__ = ["ACK_BYTES", "ACK_BYTES_MAX", "ACK_DELAY", "ACK_PACE", "AckBook", "Acknowledged"]

ACK_BYTES: Final = 32 * 1024
"""Unacknowledged bytes of one connection from which on an acknowledgement is due at once."""
ACK_BYTES_MAX: Final = 512 * 1024
"""What that may grow to for a connection that is fast."""
ACK_DELAY: Final = 0.025
"""Seconds that less than that waits."""
ACK_PACE: Final = 0.005
"""A connection whose acknowledgements come in shorter intervals (seconds) than this gets a doubled threshold. Far below
:data:`ACK_DELAY`, so that a writer is never kept waiting for the timer because its reader is fast."""


class Acknowledged(Protocol):
    """What the book needs of a connection, and keeps there."""

    connection_uid: str
    epoch: int
    read_offset: int
    """Bytes that the program has taken."""
    reported_offset: int
    """Bytes that the other endpoint has an acknowledgement of."""
    ack_bytes: int
    ack_time: float


class AckBook:
    """What one session still has to acknowledge. A :class:`DeadlineOwner`: it has one deadline.

    :param send: on the session's control stream.
    :param arm: sets the one deadline.
    :param wake: something is due in this turn: have :meth:`flush` called at its end.
    """

    def __init__(
        self,
        send: Callable[[Packet], None],
        now: Callable[[], float],
        arm: Callable[[DeadlineOwner, float | None], None],
        wake: Callable[[AckBook], None],
    ) -> None:
        self._send = send
        self._now = now
        self._arm = arm
        self._wake = wake
        self._due: dict[Acknowledged, None] = {}
        self._later: dict[Acknowledged, None] = {}

    def took(self, connection: Acknowledged) -> None:
        """Its program has taken bytes."""
        if connection.read_offset - connection.reported_offset >= connection.ack_bytes:
            if connection not in self._due:
                self._later.pop(connection, None)
                self._due[connection] = None
                self._wake(self)
        elif connection not in self._later:
            if not self._later:
                self._arm(self, self._now() + ACK_DELAY)
            self._later[connection] = None

    def forget(self, connection: Acknowledged) -> None:
        """It has left this session."""
        self._due.pop(connection, None)
        self._later.pop(connection, None)

    def flush(self) -> None:
        """Send what is due."""
        if not self._due:
            return
        due, self._due = self._due, {}
        now = self._now()
        for connection in due:
            if now - connection.ack_time < ACK_PACE:
                connection.ack_bytes = min(2 * connection.ack_bytes, ACK_BYTES_MAX)
            connection.ack_time = now
        self._send_ack(due)

    def on_deadline(self) -> None:
        """Those that were too little to be due have waited long enough."""
        later, self._later = self._later, {}
        for connection in later:
            connection.ack_bytes = ACK_BYTES
        self._send_ack(later)

    def _send_ack(self, connections: Iterable[Acknowledged]) -> None:
        rest = iter(connections)
        while batch := tuple(islice(rest, ACK_LIMIT)):
            for one in batch:
                one.reported_offset = one.read_offset
            self._send(DataAck(tuple(Ack(one.connection_uid, one.epoch, one.read_offset) for one in batch)))
