"""Joins one TCP socket and one SPN connection: bytes, FIN and RST of each side become those of the other.

Works with plain non-blocking calls and the loop's readers and writers, because an asyncio transport hides what is
needed here: when to stop reading, whether FIN or RST is sent, how much is buffered. Memory per bridge: at most one
chunk (:data:`CHUNK`) per direction.

An error on one side reaches the other after the bytes, and the FIN, that came before it (D-34). Linux keeps what it has
received readable after a RST: all of that goes to the stream, which then fails. What the stream has brought goes to TCP
until the program's kernel has it, and then the RST. Both are bounded by :data:`STALL`.

Counterparts: :mod:`spnhub.transport.endpoint.connection.stream` is the other side,
:mod:`spnhub.transport.agent.bridges` has all of an agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from spnhub.actors.contract.codes import Code
from spnhub.dataclass import dataclass
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.sockets import arm_reset, disarm_reset, fin_came, silent_for, unsent, waiting
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.faults import report_to_loop

__all__ = ["CHUNK", "STALL", "Bridge", "BridgeResult"]

CHUNK: Final = 64 * 1024
"""Bytes moved at once, and the most that one direction of a bridge holds."""

_FAULT: Final = "a fault in the agent"
"""The reason of an end that this agent causes itself."""
_SILENT: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""With which the kernel gives a peer up that doesn't answer."""
STALL: Final = 10.0
"""Seconds for which what came before an error is kept for a side that takes nothing of it (``close_timeout``)."""
_GRACE: Final = 1.0
"""Seconds of the former that are left to a side that has taken nothing before the error either."""
_DRAIN_FIRST: Final = 0.001
_DRAIN_CAP: Final = 0.25
"""Seconds between two looks at what is left, doubled each time."""

_RESETS: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN})
_RESET: Final = (Code.PEER_RESET, "TCP connection reset")


@dataclass(frozen=True, slots=True)
class BridgeResult:
    """How a bridge ended."""

    to_stream: int
    """Bytes taken from TCP and given to the stream."""
    to_tcp: int
    """Bytes taken from the stream and given to TCP."""
    code: int
    """A :class:`Code`, as far as the other side keeps to the table; ``Code.OK`` when both directions ended in order."""
    reason: str


_P = ParamSpec("_P")


def _guarded(step: Callable[Concatenate[Bridge, _P], None]) -> Callable[Concatenate[Bridge, _P], None]:
    """What the loop, the watcher or the stream calls: whatever is raised in it ends this bridge, and nothing else."""

    @functools.wraps(step)
    def entry(self: Bridge, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            step(self, *args, **kwargs)
        except Exception as fault:
            self._fail(fault)

    return entry


class Bridge:
    """One TCP conversation. A :class:`~spnhub.transport.endpoint.connection.stream.StreamListener` of its SPN stream.

    Each wake-up moves at most one chunk per direction, and to the stream what was left of the one before, so that a
    busy bridge leaves the loop to the others.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        stream: Stream,
        watcher: ResetWatcher,
        on_done: Callable[[BridgeResult], None],
    ) -> None:
        """:param sock: connected and prepared (:func:`prepare_socket`); the bridge closes it.
        :param on_done: called once, when the socket is closed and the stream has had its last call.
        """
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._stream = stream
        self._watcher = watcher
        self._on_done = on_done
        self._done = False

        self._reading = False
        self._to_stream = b""
        self._tcp_fin_seen = False
        self._unread = 0
        """Bytes that had come before it was stopped, and are still to be read."""
        self._all_read = False
        """Of those the stream has everything."""
        self._tcp_dead = False
        """The program's RST was noticed: what it has sent is still to be read, and nothing reaches it any more."""
        self._empty_is_fin = True
        """Nothing to read means that the program's FIN came; not once its error was raised elsewhere."""

        self._writing = False
        self._to_tcp = memoryview(b"")
        self._stream_fin_seen = False
        self._tcp_fin_sent = False
        self._pull_scheduled = False

        self._stream_over = False
        self._error: tuple[int, str] | None = None
        """The error that it ends with: the first there was."""
        self._drain_timer: asyncio.TimerHandle | None = None
        self._drain_delay = _DRAIN_FIRST
        self._left: tuple[int, ...] = ()
        """What was left when it was less than before, and when that was."""
        self._left_since = 0.0
        self.bytes_to_stream = 0
        """Bytes that the stream has taken so far."""
        self.bytes_to_tcp = 0
        """Bytes that TCP has taken so far."""

    @_guarded
    def start(self) -> None:
        """Begin to move bytes."""
        assert self._sock is not None
        self._watcher.watch(self._sock, self._on_tcp_error)
        self._stream.set_listener(self)
        self._resume_reading()

    @_guarded
    def stop(self, code: int, reason: str) -> None:
        """End both sides with an error, after what this host has taken: RST to TCP, ``code`` to the stream."""
        if self._error is None and not self._tcp_dead:
            self._error = (code, reason)
            if self._sock is not None and not self._tcp_fin_seen:
                self._unread = waiting(self._sock)
            if not self._stream_over and not self._to_stream:
                self._read_on()
            self._send_rest()

    @_guarded
    def abort(self, code: int, reason: str) -> None:
        """End both sides with an error, now."""
        if not self._done:
            self._error = self._error or (code, reason)
            if not self._stream_over:
                self._stream_over = True
                self._stream.abort(code)
            self._close_socket()
            self._finish_if_over()

    # ---- TCP to stream ----

    def _resume_reading(self) -> None:
        if self._sock is not None and not self._reading and not self._tcp_fin_seen:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._on_tcp_readable)

    def _pause_reading(self) -> None:
        if self._sock is not None and self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    @_guarded
    def _on_tcp_readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(min(CHUNK, self._unread) or CHUNK)
        except (BlockingIOError, InterruptedError):
            if self._tcp_dead:
                self._fail_stream()
            else:
                self._resume_reading()
            return
        except OSError as exc:
            # There is nothing before it any more.
            self._lose_tcp(exc)
            self._fail_stream()
            return
        if data:
            self._unread = max(0, self._unread - len(data))
            if self._give_to_stream(data):
                self._read_on()
            else:
                self._pause_reading()
        elif not self._tcp_dead or self._empty_is_fin:
            self._tcp_fin_seen = True
            self._pause_reading()
            self._stream.finish()
            if self._tcp_dead:
                self._fail_stream()
            elif self._error is not None:
                self._read_on()
            else:
                self._close_if_ended()
        else:
            self._fail_stream()

    def _give_to_stream(self, data: bytes) -> bool:
        """Whether it has taken all of it; else the rest is kept."""
        taken = self._stream.write(data)
        self.bytes_to_stream += taken
        self._to_stream = data[taken:]
        return not self._to_stream

    def _read_on(self, *, at_once: bool = False) -> None:
        """:param at_once: rather than when the loop finds that something has come."""
        if self._error is None or self._tcp_dead or (self._unread and not self._tcp_fin_seen):
            if at_once:
                self._on_tcp_readable()
            else:
                self._resume_reading()
            return
        # Stopped: no more than what had come.
        self._pause_reading()
        self._unread = 0
        if self._sock is not None and not self._tcp_fin_seen and fin_came(self._sock):
            self._stream.finish()
        self._all_read = True
        self._stream.fail(self._error[0])
        self._drain()

    @_guarded
    def on_writable(self) -> None:
        """The stream takes more: what was left of the last chunk, then read on.

        A stream that is slower than the program has always something left: the loop isn't asked to look at the socket
        each time, and not to look any more.
        """
        if self._to_stream and self._give_to_stream(self._to_stream):
            self._read_on(at_once=True)

    # ---- stream to TCP ----

    @_guarded
    def on_readable(self) -> None:
        """The stream has bytes or its FIN."""
        self._pull()

    def _schedule_pull(self) -> None:
        if not self._pull_scheduled:
            self._pull_scheduled = True
            self._loop.call_soon(self._scheduled_pull)

    @_guarded
    def _scheduled_pull(self) -> None:
        self._pull_scheduled = False
        self._pull()

    def _pull(self) -> None:
        if self._sock is None or self._to_tcp or self._stream_fin_seen or (self._error and not self._tcp_dead):
            return
        piece = self._stream.read(CHUNK)
        if piece is None:
            # Aborted: the stream's last call is on its way.
            return
        data, self._stream_fin_seen = piece
        if self._tcp_dead:
            # These bytes have no reader any more; but their sender must not be blocked by that.
            if data:
                self._schedule_pull()
        elif data or self._stream_fin_seen:
            self._to_tcp = memoryview(data)
            self._send()

    def _send(self) -> None:
        assert self._sock is not None
        if self._to_tcp:
            try:
                sent = self._sock.send(self._to_tcp)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as exc:
                self._on_tcp_error(exc)
                return
            self.bytes_to_tcp += sent
            self._watcher.expect_answer(self._sock, self._on_tcp_error)
            self._to_tcp = self._to_tcp[sent:]
        if self._to_tcp:
            self._resume_writing()
            return
        self._pause_writing()
        self._to_tcp = memoryview(b"")
        if self._stream_fin_seen and not self._tcp_fin_sent:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as exc:
                self._on_tcp_error(exc)
                return
            self._tcp_fin_sent = True
            self._watcher.expect_answer(self._sock, self._on_tcp_error)
        if self._error is not None:
            self._drain()
        elif self._stream_fin_seen:
            self._close_if_ended()
        else:
            # Not at once: a fast stream would otherwise keep the loop to itself.
            self._schedule_pull()

    @_guarded
    def _on_tcp_writable(self) -> None:
        if self._sock is not None:
            self._send()

    def _resume_writing(self) -> None:
        if self._sock is not None and not self._writing:
            self._writing = True
            self._loop.add_writer(self._sock.fileno(), self._on_tcp_writable)

    def _pause_writing(self) -> None:
        if self._sock is not None and self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    # ---- errors of TCP ----

    @_guarded
    def _on_tcp_error(self, exc: OSError | None = None) -> None:
        """The program has reset, or doesn't answer; None: the error is still pending on the socket."""
        if self._sock is None or self._tcp_dead:
            return
        if exc is None and self._tcp_fin_seen:
            # Nothing is read any more that would raise it.
            pending = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            exc = OSError(pending, os.strerror(pending)) if pending else None
        self._lose_tcp(exc)
        if self._stream_over:
            self._close_socket()
            self._finish_if_over()
        elif self._tcp_fin_seen:
            self._fail_stream()
        else:
            if not self._to_stream:
                self._resume_reading()
                self._on_tcp_readable()
            self._pull()
            self._drain()

    def _lose_tcp(self, exc: OSError | None) -> None:
        self._tcp_dead = True
        self._pause_writing()
        self._to_tcp = memoryview(b"")
        if exc is not None:
            # EPIPE says that the FIN was there before the RST, ENOTCONN leaves the error where it is.
            self._empty_is_fin = exc.errno in (errno.EPIPE, errno.ENOTCONN)
            if exc.errno not in _RESETS:
                code = Code.PEER_SILENT if exc.errno in _SILENT else Code.PEER_RESET
                self._error = self._error or (code, f"TCP: {exc.strerror or exc}")

    def _fail_stream(self) -> None:
        """All that the program has sent is with the stream."""
        self._close_socket()
        if self._stream_over:
            self._finish_if_over()
        else:
            self._stream.fail((self._error or _RESET)[0])

    # ---- the end ----

    @_guarded
    def on_aborted(self, code: int, reason: str) -> None:
        """The SPN connection ended with an error: RST, never FIN (D-17)."""
        self._stream_over = True
        if self._tcp_dead:
            self._close_socket()
        else:
            self._error = self._error or (code, reason)
        self._send_rest()

    @_guarded
    def on_closed(self) -> None:
        """The SPN connection ended in order; TCP may still be taking the last bytes."""
        self._stream_over = True
        if self._tcp_dead:
            self._close_socket()
        self._finish_if_over()

    def _fail(self, fault: BaseException) -> None:
        """A fault of ours: RST to TCP, INTERNAL to the stream. Nothing is kept, whatever else is wrong."""
        report_to_loop(self._loop, "a bridge failed", fault)
        sock, self._sock = self._sock, None
        # Each for itself: it is not known how far the step got that failed.
        steps: list[Callable[[], object]] = []
        if sock is not None:
            steps += [
                lambda: self._loop.remove_reader(sock.fileno()),
                lambda: self._loop.remove_writer(sock.fileno()),
                lambda: self._watcher.forget(sock),
                lambda: arm_reset(sock),
                sock.close,
            ]
        if not self._stream_over:
            self._stream_over = True
            steps.append(lambda: self._stream.abort(Code.INTERNAL))
        if self._drain_timer is not None:
            steps.append(self._drain_timer.cancel)
        self._error = (Code.INTERNAL, _FAULT)
        steps.append(self._finish_if_over)
        for step in steps:
            with contextlib.suppress(Exception):  # the first fault is reported
                step()
        self._to_stream, self._to_tcp = b"", memoryview(b"")

    def _send_rest(self) -> None:
        """RST to TCP when the program's kernel has what was there for it."""
        if self._sock is None:
            self._finish_if_over()
            return
        if self._stream_over:
            self._pause_reading()
            self._to_stream, self._unread = b"", 0
        self._send()
        self._drain()

    @_guarded
    def _drain(self) -> None:
        """See what is left to move after an error; end it if there is nothing, or if none of it moves."""
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if self._sock is None:
            return
        left = (len(self._to_tcp) + unsent(self._sock), self.bytes_to_stream)
        if not self._tcp_dead and not left[0] and (self._all_read or self._stream_over):
            self._close_socket()
            self._finish_if_over()
            return
        now = self._loop.time()
        if not self._left and not self._tcp_dead:
            # A program that has taken nothing for that long doesn't get the same time again.
            self._left, self._left_since = left, now - min(silent_for(self._sock), STALL - _GRACE)
        elif left != self._left or (self._tcp_dead and self._stream.paused):
            self._left, self._left_since = left, now
        if now - self._left_since < STALL:
            self._drain_timer = self._loop.call_later(self._drain_delay, self._drain)
            self._drain_delay = min(2 * self._drain_delay, _DRAIN_CAP)
        elif self._tcp_dead:
            self.abort(*(self._error or _RESET))
        else:
            self._close_socket()
            self._finish_if_over()

    def _close_if_ended(self) -> None:
        if self._sock is not None and self._tcp_fin_seen and self._tcp_fin_sent:
            disarm_reset(self._sock)
            self._close_socket()
            self._finish_if_over()

    def _close_socket(self) -> None:
        """RST, unless that was disarmed."""
        if self._sock is None:
            return
        self._pause_reading()
        self._pause_writing()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        self._watcher.forget(self._sock)
        self._sock.close()
        self._sock = None
        self._to_tcp = memoryview(b"")

    def _finish_if_over(self) -> None:
        if self._sock is None and self._stream_over and not self._done:
            self._done = True
            code, reason = self._error or (_RESET if self._tcp_dead else (Code.OK, ""))
            self._on_done(BridgeResult(self.bytes_to_stream, self.bytes_to_tcp, code, reason))
