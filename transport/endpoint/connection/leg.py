"""One leg of a connection at its endpoint: the stream with its header, what is sent again, and the FIN. Sans-I/O.

A leg knows bytes and offsets and decides nothing: whether it goes on, ends or leads to another is the affair of
:mod:`spnhub.transport.endpoint.connection.connection`.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, CloseRequest, Opening, OpeningKind, Packet, PauseRequest
from spnhub.transport.endpoint.connection.context import SessionStreams
from spnhub.transport.endpoint.connection.replay import ReplayBuffer
from spnhub.transport.engine import LOST_CODE, Engine
from spnhub.transport.protocol import PacketReader, ProtocolError, encode

__all__ = ["LEG_CODES", "EndpointLeg", "check_head"]

LEG_CODES: Final = frozenset({Code.PAUSED, Code.MOVED, Code.LEFT, Code.PEER_LOST, LOST_CODE})
"""With these a stream ends and the conversation doesn't."""
_EARLY: Final = 4
"""Control packets kept that came before the Accept that they follow."""


C = TypeVar("C")


class EndpointLeg(Generic[C]):
    """A leg at ``session``. ``replay`` has what was written in this leg and before it, until it is acknowledged."""

    asks_first = False
    """Who asks for the end isn't settled with the other side: nobody there asks."""

    def __init__(self, engine: Engine, session: SessionStreams[C], replay: ReplayBuffer) -> None:
        self.session = session
        self.stream_id: int | None = None
        """The stream; None: it isn't there yet, or no longer."""
        self.granted = False
        """The hub has agreed to the resume."""
        self.requested = False
        """The other endpoint has asked for the end."""
        self.request: CloseRequest | None = None
        """What we have asked with."""
        self.early: list[CloseRequest | PauseRequest] = []
        self.fin_passed = False
        """Our FIN is with the engine."""
        self._engine = engine
        self._c = session.connection_id
        self._replay = replay
        self._reader: PacketReader | None = PacketReader()
        self._head = b""
        self._early_fin = False
        self._resending: int | None = None
        """Offset up to which the leg was given what was written before it; None: all."""

    @property
    def awaits_head(self) -> bool:
        """The peer's header isn't read yet."""
        return self._reader is not None

    @property
    def sends_head(self) -> bool:
        """Our header is not yet with the engine."""
        return bool(self._head)

    @property
    def busy(self) -> bool:
        """Something has to leave before the program's next bytes."""
        return bool(self._head) or self._resending is not None

    def begin(self, stream_id: int, packet: Packet, again_from: int | None = None) -> None:
        """Send ``packet`` first on this stream; after it, what was written from ``again_from`` on is sent again."""
        self.stream_id = stream_id
        self._resending = again_from
        self.put_head(packet)

    def put_head(self, packet: Packet) -> None:
        """The header is sent before anything else; :meth:`push` does it."""
        self._head = encode(packet)

    def keep_early(self, packet: CloseRequest | PauseRequest) -> None:
        """It has overtaken the Accept, which comes on another stream."""
        if len(self.early) < _EARLY:
            self.early.append(packet)

    def read_head(self) -> Packet | None:
        """The peer's header, and not a byte of what follows it; None: it isn't there yet.

        :raises ProtocolError: it is none.
        """
        while self._reader is not None and self.stream_id is not None:
            answer = self._engine.read(self._c, self.stream_id, self._reader.wanted)
            if answer is None or answer == (b"", False):
                return None
            data, fin = answer
            if packets := self._reader.feed(data):
                self._reader = None
                self._early_fin = fin
                return packets[0]
            if fin:
                raise ProtocolError("the stream ended before its header")
        return None

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """Application bytes, and whether the FIN is behind them; None: the event that says why is on its way."""
        if self._early_fin:
            return b"", True
        assert self.stream_id is not None
        return self._engine.read(self._c, self.stream_id, limit)

    def is_silent_after_fin(self) -> bool:
        """A FIN that was taken comes once more in a later leg; there is nothing before it."""
        if self.stream_id is None or self._early_fin:
            return True
        return self._engine.read(self._c, self.stream_id, 1) in (None, (b"", False), (b"", True))

    def write(self, data: bytes) -> int:
        """Bytes taken: what both the engine and the replay buffer have room for. Not while it is :attr:`busy`."""
        assert self.stream_id is not None
        replay = self._replay
        size = len(data)
        room = replay.room
        if size <= room:
            taken = self._engine.write(self._c, self.stream_id, data)
        else:
            replay.full()
            taken = self._engine.write(self._c, self.stream_id, data[:room]) if room else 0
        replay.append(data if taken == size else data[:taken])
        return taken

    def push(self, *, finished: bool) -> None:
        """Give the engine what is due before the program's next bytes: header, what is sent again, FIN."""
        stream_id = self.stream_id
        if stream_id is None:
            return
        if self._head:
            self._head = self._head[self._engine.write(self._c, stream_id, self._head) :]
        if not self._head and self._resending is not None:
            self._resend(stream_id, self._resending)
        if finished and not self.busy and not self.fin_passed:
            self.fin_passed = True
            self._engine.finish(self._c, stream_id)

    def _resend(self, stream_id: int, offset: int) -> None:
        while piece := self._replay.piece(offset):
            taken = self._engine.write(self._c, stream_id, piece)
            offset += taken
            if taken < len(piece):
                self._resending = offset
                return
        self._resending = None

    def on_acknowledged(self, offset: int) -> None:
        """The peer has taken everything up to ``offset``: it needn't be sent again."""
        if self._resending is not None and self._resending < offset:
            self._resending = offset

    def reset(self, code: int) -> None:
        """End our half with an error; the peer's is left as it is."""
        if self.stream_id is not None:
            self._engine.reset(self._c, self.stream_id, code)

    def drop(self, code: int, *, keep_fin: bool = False) -> None:
        """End both halves of the stream with an error.

        :param keep_fin: our half has its FIN with the engine, which still brings it: the stop alone is a sign (D-18).
        """
        if self.stream_id is not None:
            if not keep_fin:
                self._engine.reset(self._c, self.stream_id, code)
            self._engine.stop(self._c, self.stream_id, code)


def check_head(packet: Packet, epoch: int, *, consumer: bool, resuming: bool) -> Opening | Accept:
    """The first packet on a leg's stream, if it is the one that has to come: a provider's first leg begins with its
    Opening, every other with the Accept that answers ours.

    :raises ProtocolError: it is another.
    """
    if not consumer and not resuming:
        if isinstance(packet, Opening) and packet.kind is OpeningKind.OPEN:
            return packet
        raise ProtocolError("a data stream begins with an Opening")
    kind = OpeningKind.RESUME if resuming else OpeningKind.OPEN
    # Whatever epoch a refusal names, there is no leg.
    refusal = consumer and isinstance(packet, Accept) and packet.code != Code.OK
    if isinstance(packet, Accept) and packet.kind is kind and (packet.epoch == epoch or refusal):
        return packet
    raise ProtocolError("the answer to an Opening is its Accept")
