"""Two ends of an SPN connection in memory: each a ``Stream`` of the endpoint, without any network."""

from __future__ import annotations

import asyncio

from spnhub.transport.endpoint.connection.stream import StreamListener

__all__ = ["PipeStream"]


class _Direction:
    """Bytes on their way from one end to the other, at most ``capacity`` of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.fin = False
        self.fin_read = False
        self.writer_waits = False
        self.reader_told = False
        self.most = 0


class PipeStream:
    """One end. Keeps to the contract's letter: callbacks come from the loop, readable and writable are told once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outgoing: _Direction, incoming: _Direction, name: str) -> None:
        self._loop = loop
        self.out = outgoing
        self._in = incoming
        self.other: PipeStream | None = None
        self._listener: StreamListener | None = None
        self.ended = False
        self.closed = False
        self.failing: int | None = None
        self.own_name = name
        self.aborted_with: int | None = None
        """Code of our own :meth:`abort`."""

    @classmethod
    def pair(cls, capacity: int = 32 * 1024) -> tuple[PipeStream, PipeStream]:
        """Two joined ends; ``capacity`` is in bytes per direction."""
        loop = asyncio.get_running_loop()
        there, back = _Direction(capacity), _Direction(capacity)
        one = cls(loop, there, back, "CN=one")
        other = cls(loop, back, there, "CN=other")
        one.other, other.other = other, one
        return one, other

    @property
    def connection_uid(self) -> str:
        return "0" * 32

    @property
    def peer(self) -> str:
        return self.other.own_name if self.other else ""

    @property
    def most_buffered(self) -> int:
        """The most bytes that ever waited in our sending direction."""
        return self.out.most

    @property
    def bytes_unread(self) -> int:
        """Bytes that wait for our :meth:`read`."""
        return len(self._in.data)

    @property
    def paused(self) -> bool:
        return False

    def set_listener(self, listener: StreamListener) -> None:
        self._listener = listener
        self._in.reader_told = False
        self.tell_readable()

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        if self.ended and not self.closed:
            return None
        direction = self._in
        data = bytes(direction.data[:limit])
        del direction.data[:limit]
        if not direction.data:
            direction.reader_told = False
        fin = direction.fin and not direction.data and not direction.fin_read
        if fin:
            direction.fin_read = True
            self._close_if_ended()
        self.check_failed()
        if direction.writer_waits and len(direction.data) < direction.capacity and self.other:
            direction.writer_waits = False
            self._loop.call_soon(self.other.call_writable)
        return data, fin

    def write(self, data: bytes) -> int:
        if self.ended or self.failing is not None:
            return 0
        direction = self.out
        taken = min(len(data), direction.capacity - len(direction.data))
        direction.data += data[:taken]
        direction.most = max(direction.most, len(direction.data))
        direction.writer_waits = taken < len(data)
        if taken and self.other:
            self.other.tell_readable()
        return taken

    def finish(self) -> None:
        if not self.ended:
            self.out.fin = True
            if self.other:
                self.other.tell_readable()

    def fail(self, code: int) -> None:
        """End with an error when the peer has read everything; both are told."""
        if not self.ended and self.failing is None:
            self.failing = code
            self._loop.call_soon(self._call_readable)
            self.check_failed()

    def check_failed(self) -> None:
        for end, other in ((self, self.other), (self.other, self)):
            if end and end.failing is not None and not end.out.data and end.out.fin == end.out.fin_read:
                assert other
                end.lose(end.failing)

    def abort(self, code: int) -> None:
        """End with an error: the peer is told, we are not."""
        if self.ended:
            return
        self.aborted_with = code
        self.ended = True
        if self.other and not self.other.ended:
            self.other.ended = True
            self._loop.call_soon(self.other.call_aborted, code)

    def lose(self, code: int) -> None:
        """End with an error from outside: both ends are told."""
        for end in (self, self.other):
            if end and not end.ended:
                end.ended = True
                self._loop.call_soon(end.call_aborted, code)

    def tell_readable(self) -> None:
        if self._listener and not self._in.reader_told and (self._in.data or (self._in.fin and not self._in.fin_read)):
            self._in.reader_told = True
            self._loop.call_soon(self._call_readable)

    def _call_readable(self) -> None:
        if self.failing is not None:
            while not self.ended and self.read(65536) not in (None, (b"", False)):
                pass
        elif self._listener and not self.ended:
            self._listener.on_readable()

    def call_writable(self) -> None:
        if self._listener and not self.ended:
            self._listener.on_writable()

    def call_aborted(self, code: int) -> None:
        if self._listener:
            self._listener.on_aborted(code, "aborted")

    def _close_if_ended(self) -> None:
        if self._in.fin_read and self.out.fin_read and self.other:
            for end in (self, self.other):
                if not end.ended:
                    end.ended = end.closed = True
                    self._loop.call_soon(end.call_closed)

    def call_closed(self) -> None:
        if self._listener:
            self._listener.on_closed()
