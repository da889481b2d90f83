"""An SPN connection as asyncio has connections: a transport under asyncio's own StreamReader and StreamWriter.

Listens to a :class:`~spnhub.transport.endpoint.connection.connection.Connection`. Reading pauses by not reading from
the engine, so that backpressure reaches the sender; ``drain()`` waits while more than the high-water mark is not yet
taken.

``close()`` ends our direction after all that was written, and then discards what still comes. When the other side has
ended its direction already, ``wait_closed()`` returns once the hub has closed the connection, or raises if that went
wrong. When it hasn't, ``wait_closed()`` returns as soon as our end is passed on; the connection then lives on in the
background until the other side ends, too. If that goes on sending instead (:data:`DISCARD_LIMIT`), or does nothing for
:data:`LINGER`, it gets a Close Request (R-4.5) and sees an error, as with bytes that reach a closed TCP socket.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.constants import _SendfileMode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.errors import ConnectionAborted

__all__ = ["DISCARD_LIMIT", "LINGER", "StreamSocket", "StreamTransport", "open_pair", "open_protocol"]

Name = tuple[str, int]
"""Where sockets have host and port."""
DISCARD_LIMIT: Final = 256 * 1024
"""Bytes that a closed connection still takes and throws away."""
LINGER: Final = 300.0
"""Seconds that a closed connection waits for the other side to end its direction. Long, because the other side may
still be reading what was written before the close."""

_CHUNK: Final = 64 * 1024


class StreamSocket:
    """Stands for the socket that servers ask a transport for: has names, takes every option, and is no descriptor."""

    family: Final = socket.AF_INET
    type: Final = socket.SOCK_STREAM
    proto: Final = socket.IPPROTO_TCP

    def __init__(self, peername: Name, sockname: Name) -> None:
        self._peername = peername
        self._sockname = sockname

    def getpeername(self) -> Name:
        """The peer's verified Subject, and 0."""
        return self._peername

    def getsockname(self) -> Name:
        """The service, and 0."""
        return self._sockname

    def fileno(self) -> int:
        """As of a socket that is closed."""
        return -1

    def getsockopt(self, *_: Any) -> int:
        """None is set."""
        return 0

    def setsockopt(self, *_: Any) -> None:
        """Options of TCP are the agents' and kernels' affair."""


# The mixin has the rules of pausing that asyncio's own transports follow; its sendfile asks for it by name.
class StreamTransport(asyncio.transports._FlowControlMixin, asyncio.Transport):
    """See the module. A :class:`~spnhub.transport.endpoint.connection.stream.StreamListener`."""

    if TYPE_CHECKING:  # what typeshed leaves out of the mixin
        _loop: asyncio.AbstractEventLoop
        _protocol_paused: bool

        def _maybe_pause_protocol(self) -> None: ...

        def _maybe_resume_protocol(self) -> None: ...

    # So that TLS can be begun on it, and files are sent by reading them.
    _start_tls_compatible = True
    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Connection,
        protocol: asyncio.BaseProtocol,
        service_urn: str,
    ) -> None:
        peername, sockname = (connection.peer, 0), (service_urn, 0)
        super().__init__(
            {
                "connection_uid": connection.connection_uid,
                "peer": connection.peer,
                "peername": peername,
                "sockname": sockname,
                "socket": StreamSocket(peername, sockname),
                "spn_connection": connection,
            },
            loop,
        )
        self._connection = connection
        self._protocol: asyncio.BaseProtocol = protocol
        self._buffer = bytearray()
        self._reading_paused = False
        self._eof_asked = False
        self._eof_read = False
        self._closing = False
        self._lost = False
        self._discarded = 0
        self._linger: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------------ asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            # From the loop: the caller of resume_reading doesn't expect data_received inside the call.
            self._loop.call_soon(self.on_readable)

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or not data:
            return
        if self._eof_asked:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not self._buffer:
            taken = self._connection.write(bytes(data[:_CHUNK]))
            data = data[taken:]
        self._buffer += data
        self._maybe_pause_protocol()

    def write_eof(self) -> None:
        if not self._eof_asked:
            self._eof_asked = True
            self._flush()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._eof_asked = True
        self._linger = self._loop.call_later(LINGER, self._give_up)
        self._flush()
        self._loop.call_soon(self.on_readable)

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self._connection.abort(Code.PEER_RESET)
            # An error, so that the reader doesn't take it for a clean end.
            self._lose(ConnectionAborted(Code.PEER_RESET, "aborted here", self._connection.connection_uid))

    # --------------------------------------------------------------------------------------------------- StreamListener

    def on_readable(self) -> None:
        """See :class:`StreamListener`."""
        while not self._eof_read and (self._closing or not self._reading_paused):
            answer = self._connection.read(_CHUNK)
            if answer is None or answer == (b"", False):
                return
            data, self._eof_read = answer
            if self._closing:
                self._discarded += len(data)
                if self._discarded > DISCARD_LIMIT:
                    self._give_up()
                    return
            else:
                self._give_to_protocol(data)

    def on_writable(self) -> None:
        """See :class:`StreamListener`."""
        self._flush()

    def on_aborted(self, code: int, reason: str) -> None:
        """See :class:`StreamListener`."""
        self._lose(ConnectionAborted(code, reason, self._connection.connection_uid))

    def on_closed(self) -> None:
        """See :class:`StreamListener`."""
        self._lose(None)

    # ----------------------------------------------------------------------------------------------------------- inside

    def _give_to_protocol(self, data: bytes) -> None:
        protocol = self._protocol
        if data and isinstance(protocol, asyncio.BufferedProtocol):
            _fill(protocol, data)
        elif data and isinstance(protocol, asyncio.Protocol):
            protocol.data_received(data)
        # Data may have made another the protocol.
        protocol = self._protocol
        if not self._eof_read or not isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
            return
        # asyncio's rule: whoever doesn't ask to go on is closed.
        if not protocol.eof_received():
            self.close()

    def _force_close(self, _error: BaseException | None) -> None:
        """As TLS on it calls it."""
        self.abort()

    def _flush(self) -> None:
        if self._lost:
            return
        while self._buffer:
            taken = self._connection.write(bytes(self._buffer[:_CHUNK]))
            del self._buffer[:taken]
            if not taken:
                break
        self._maybe_resume_protocol()
        if self._eof_asked and not self._buffer:
            self._connection.finish()
            if self._closing and not self._eof_read:
                self._loop.call_soon(self._report_lost, None)

    def _give_up(self) -> None:
        """Closed here, and the other side doesn't end: ask for it."""
        if self._buffer:
            self._connection.abort(Code.CLOSE_REQUESTED)
        else:
            self._connection.request_close()
        self._lose(None)

    def _lose(self, error: ConnectionAborted | None) -> None:
        """The connection is over, or of no more interest."""
        self._lost = self._closing = True
        self._buffer.clear()
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._loop.call_soon(self._report_lost, error)

    def _report_lost(self, error: ConnectionAborted | None) -> None:
        protocol, self._protocol = self._protocol, _NOBODY
        if protocol is not _NOBODY:
            self._protocol_paused = False
            protocol.connection_lost(error)


_NOBODY: Final = asyncio.BaseProtocol()
"""The protocol of a transport whose own protocol has had its last call."""


def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give it all, in as many pieces as its buffers take."""
    rest = memoryview(data)
    while rest:
        buffer = memoryview(protocol.get_buffer(len(rest))).cast("B")
        if not buffer:
            raise RuntimeError("get_buffer() returned an empty buffer")
        piece = rest[: len(buffer)]
        buffer[: len(piece)] = piece
        protocol.buffer_updated(len(piece))
        rest = rest[len(piece) :]


class _Reader(asyncio.StreamReader):
    """As asyncio's, but an error is raised after the bytes that came before it, as a socket does (D-34).

    asyncio's raises it at once, and what it had buffered is never seen. Every one of its methods looks into the buffer
    before it waits.
    """

    _error: BaseException | None = None

    def exception(self) -> Exception | None:
        """What there is to raise, now or later; :meth:`asyncio.StreamWriter.drain` raises it."""
        return self._error if isinstance(self._error, Exception) else None

    def set_exception(self, exc: Exception) -> None:
        """Fail a reader that waits, since its bytes won't come; a later reader first gets the bytes that there are."""
        self._error = exc
        super().set_exception(exc)
        self._exception = None

    async def _wait_for_data(self, func_name: str) -> None:
        if self._error is not None:
            raise self._error
        await _wait_for_data(self, func_name)


_wait_for_data: Final[Callable[[asyncio.StreamReader, str], Awaitable[None]]] = vars(asyncio.StreamReader)[
    "_wait_for_data"
]


class _Writer(asyncio.StreamWriter):
    """As asyncio's, but one that is thrown away closes no transport that has another protocol by then."""

    def __init__(
        self,
        transport: StreamTransport,
        protocol: asyncio.StreamReaderProtocol,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._mine = protocol

    def __del__(self) -> None:
        # Python's own has none before 3.11.4, as in Debian 12.
        warn = getattr(super(), "__del__", None)
        if warn is not None and self.transport.get_protocol() is self._mine:
            warn()


def open_pair(
    loop: asyncio.AbstractEventLoop, connection: Connection, limit: int, service_urn: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Reader and writer of a Connected connection. ``limit``: see :class:`asyncio.StreamReader`."""
    reader = _Reader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = open_protocol(loop, connection, protocol, service_urn)
    return reader, _Writer(transport, protocol, reader, loop)


def open_protocol(
    loop: asyncio.AbstractEventLoop, connection: Connection, protocol: asyncio.BaseProtocol, service_urn: str
) -> StreamTransport:
    """The transport of a Connected connection, under a protocol of the program's own."""
    transport = StreamTransport(loop, connection, protocol, service_urn)
    protocol.connection_made(transport)
    connection.set_listener(transport)
    return transport
