"""Joins one TCP socket and one SPN connection: bytes, FIN and RST of each side become those of the other.

Works with plain non-blocking calls and the loop's readers and writers, because an asyncio transport hides what is
needed here: when to stop reading, whether FIN or RST is sent, how much is buffered. Memory per bridge: at most one
chunk (:data:`CHUNK`) per direction. Counterparts: :mod:`spnhub.transport.endpoint.stream` is the other side;
:mod:`spnhub.transport.agent.consumer` and :mod:`spnhub.transport.agent.provider` make the sockets and the streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec

from spnhub.actors.codes import Code
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.endpoint.stream import Stream
from spnhub.transport.faults import report_to_loop

__all__ = ["CHUNK", "Bridge", "BridgeResult", "arm_reset", "disarm_reset", "prepare_socket", "reset_socket"]

CHUNK: Final = 64 * 1024
"""Bytes moved at once, and the most that one direction of a bridge holds."""

_FAULT: Final = "a fault in the agent"
"""The reason of an end that is nobody's but ours."""
_SILENT: Final = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})
"""With which the kernel gives a peer up that doesn't answer."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_FIN_ON_CLOSE: Final = struct.pack("ii", 0, 0)


def arm_reset(sock: socket.socket) -> None:
    """Make every close of the socket send RST, also the kernel's close of a process that was killed (D-23)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def disarm_reset(sock: socket.socket) -> None:
    """Undo :func:`arm_reset`: the kernel delivers what it still holds, then FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FIN_ON_CLOSE)


def prepare_socket(sock: socket.socket) -> None:
    """What every bridged TCP socket gets at accept or connect: non-blocking, armed, without Nagle's delay.

    Keep-alive is on with the system's times: the programs' own keep-alive probes reach the agents only, so the agents
    have to ask the programs.
    """
    sock.setblocking(False)
    arm_reset(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset_socket(sock: socket.socket) -> None:
    """Close with RST."""
    arm_reset(sock)
    sock.close()


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
    """One TCP conversation. Listens to its stream (:class:`spnhub.transport.endpoint.stream.StreamListener`).

    Each wake-up moves at most one chunk per direction, so that a busy bridge leaves the loop to the others.
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
        :param on_done: told once, when the socket is closed and the stream has had its last call.
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

        self._writing = False
        self._to_tcp = memoryview(b"")
        self._stream_fin_seen = False
        self._tcp_fin_sent = False
        self._pull_scheduled = False

        self._stream_over = False
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
    def abort(self, code: int, reason: str) -> None:
        """End both sides with an error: RST to TCP, ``code`` to the stream."""
        if not self._done:
            if not self._stream_over:
                self._stream.abort(code)
            self._close_with_reset(code, reason)

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
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._on_tcp_error(exc)
            return
        if not data:
            self._tcp_fin_seen = True
            self._pause_reading()
            self._stream.finish()
            self._close_if_ended()
            return
        self._give_to_stream(data)

    def _give_to_stream(self, data: bytes) -> None:
        taken = self._stream.write(data)
        self.bytes_to_stream += taken
        self._to_stream = data[taken:]
        if self._to_stream:
            self._pause_reading()
        else:
            self._resume_reading()

    @_guarded
    def on_writable(self) -> None:
        """The stream takes more: what was left of the last chunk, then read on."""
        if self._sock is not None and self._to_stream:
            self._give_to_stream(self._to_stream)

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
        if self._sock is None or self._to_tcp or self._stream_fin_seen:
            return
        piece = self._stream.read(CHUNK)
        if piece is None:
            self._stream_over = True
            self._close_with_reset(Code.PEER_LOST, "the stream was aborted")
            return
        data, self._stream_fin_seen = piece
        if not data and not self._stream_fin_seen:
            return
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
        if not self._stream_fin_seen:
            # Not at once: a fast stream would otherwise keep the loop to itself.
            self._schedule_pull()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            self._on_tcp_error(exc)
            return
        self._tcp_fin_sent = True
        self._watcher.expect_answer(self._sock, self._on_tcp_error)
        self._close_if_ended()

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

    # ---- the end ----

    @_guarded
    def _on_tcp_error(self, exc: OSError | None = None) -> None:
        if exc is None and self._sock is not None:
            # It was noticed before a call had to tell.
            pending = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            exc = OSError(pending, os.strerror(pending)) if pending in _SILENT else None
        silent = exc is not None and exc.errno in _SILENT
        reason = "TCP connection reset" if exc is None else f"TCP: {exc.strerror or exc}"
        self.abort(Code.PEER_SILENT if silent else Code.PEER_RESET, reason)

    @_guarded
    def on_aborted(self, code: int, reason: str) -> None:
        """The SPN connection ended with an error: RST, never FIN (D-17)."""
        self._stream_over = True
        self._close_with_reset(code, reason)

    @_guarded
    def on_closed(self) -> None:
        """The SPN connection ended in order; TCP may still be taking the last bytes."""
        self._stream_over = True
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
        steps.append(lambda: self._finish(Code.INTERNAL, _FAULT))
        for step in steps:
            with contextlib.suppress(Exception):  # the fault that counts is told
                step()
        self._to_stream, self._to_tcp = b"", memoryview(b"")

    def _close_if_ended(self) -> None:
        if self._sock is not None and self._tcp_fin_seen and self._tcp_fin_sent:
            disarm_reset(self._sock)
            self._close_socket()
            self._finish_if_over()

    def _close_with_reset(self, code: int, reason: str) -> None:
        if self._sock is not None:
            arm_reset(self._sock)
            self._close_socket()
        self._finish(code, reason)

    def _close_socket(self) -> None:
        assert self._sock is not None
        self._pause_reading()
        self._pause_writing()
        self._watcher.forget(self._sock)
        self._sock.close()
        self._sock = None
        self._to_stream = b""
        self._to_tcp = memoryview(b"")

    def _finish_if_over(self) -> None:
        if self._sock is None and self._stream_over:
            self._finish(Code.OK, "")

    def _finish(self, code: int, reason: str) -> None:
        if not self._done:
            self._done = True
            self._on_done(BridgeResult(self.bytes_to_stream, self.bytes_to_tcp, code, reason))
