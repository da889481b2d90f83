"""DataAcks on their way from one endpoint of a leg to the other; actors don't see them.

Within a turn the newest of each connection counts, and each session gets one packet with all of its own (as many as it
takes). A session whose control stream is full gets the newest when it has room again. Memory: an entry for each leg.
"""

from __future__ import annotations

from typing import NamedTuple

from spnhub.actors.contract.packets import ACK_LIMIT, Ack, DataAck
from spnhub.transport.hub.sessions import HubSession, Sessions
from spnhub.transport.protocol import ProtocolError

__all__ = ["AckRelay"]


class _Leg(NamedTuple):
    epoch: int
    other: int
    """The session of the other endpoint."""


class AckRelay:
    """The acknowledgements of one hub process."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._legs: dict[int, dict[str, _Leg]] = {}
        """Of each session, by connectionUid."""
        self._queues: dict[int, dict[str, Ack]] = {}

    def counts(self) -> dict[str, int]:
        """Ends of legs that may acknowledge, and acknowledgements that wait to be sent."""
        return {
            "ack_ends": sum(map(len, self._legs.values())),
            "acks": sum(map(len, self._queues.values())),
        }

    def add(self, uid: str, epoch: int, consumer: int, provider: int) -> None:
        """A leg's streams are joined."""
        self._legs.setdefault(consumer, {})[uid] = _Leg(epoch, provider)
        self._legs.setdefault(provider, {})[uid] = _Leg(epoch, consumer)

    def remove(self, uid: str, epoch: int, consumer: int, provider: int) -> None:
        """A leg has ended."""
        for session in (consumer, provider):
            legs = self._legs.get(session, {})
            leg = legs.get(uid)
            if leg is not None and leg.epoch == epoch:
                del legs[uid]
                if not legs:
                    del self._legs[session]

    def take(self, session: HubSession, packet: DataAck) -> None:
        """Queue the entries for the other endpoints; those of connections or epochs that aren't here are dropped.

        :raises ProtocolError: too many entries.
        """
        if len(packet.acks) > ACK_LIMIT:
            raise ProtocolError(f"a DataAck with more than {ACK_LIMIT} entries")
        legs, queues = self._legs.get(session.connection_id), self._queues
        if legs is None:
            return
        for ack in packet.acks:
            uid, epoch, _ = ack
            leg = legs.get(uid)
            if leg is None or leg.epoch != epoch:
                continue
            queue = queues.get(leg.other)
            if queue is None:
                queue = queues[leg.other] = {}
            queue[uid] = ack

    def put(self, connection_id: int, ack: Ack) -> None:
        """Queue an entry for this session: its other end acknowledges nothing itself."""
        self._queues.setdefault(connection_id, {})[ack.connection_uid] = ack

    def queued(self) -> tuple[int, ...]:
        """The sessions for which acknowledgements are queued."""
        return tuple(self._queues)

    def flush(self, connection_id: int) -> None:
        """Send what is queued for one session."""
        session = self._sessions.get(connection_id)
        if session is not None and session.outgoing:
            return
        acks = tuple(self._queues.pop(connection_id).values())
        if session is None:
            return
        for at in range(0, len(acks), ACK_LIMIT):
            self._sessions.send(connection_id, DataAck(acks[at : at + ACK_LIMIT]))
