"""Notices that a TCP peer reset a connection, or is there no more, whatever its reader and writer do just then (D-24).

asyncio looks at a socket only while it has a reader or a writer, so a reset goes unnoticed while reading is paused or
after the peer's FIN. Counterpart: :mod:`spnhub.transport.agent.bridge` and the agents register their sockets here.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Final

from spnhub.transport.agent.keep_alive import TCP_KEEP_ALIVE, TcpKeepAlive, Unanswered
from spnhub.transport.faults import report_to_loop

__all__ = ["ResetWatcher"]

_BATCH: Final = 256
"""Sockets looked at per turn of the loop; the others wait for the next turn."""


class ResetWatcher:
    """One epoll object for all sockets of an agent, itself a reader of the event loop: no polling, no delay.

    Sockets are registered for no event at all: the kernel always reports EPOLLERR and EPOLLHUP. Edge-triggered, so
    that a socket which stays in that state is reported once. Linux only.

    :param keep_alive: how peers that don't answer are noticed; None: as the system does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keep_alive: TcpKeepAlive | None = TCP_KEEP_ALIVE) -> None:
        self._loop = loop
        self._unanswered = Unanswered(loop, keep_alive)
        self._epoll = select.epoll()
        self._on_reset: dict[int, Callable[[], object]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_events)

    def __len__(self) -> int:
        return len(self._on_reset)

    def watch(self, sock: socket.socket, on_reset: Callable[[], object]) -> None:
        """Call ``on_reset`` once, from the loop, when the connected socket has an error pending.

        A socket that is watched already gets the new callback. The error itself stays on the socket: the next
        ``recv`` or ``send`` raises it, unless one has done so before.

        :raises OSError: the kernel has no room for it; then the socket isn't watched.
        """
        fd = sock.fileno()
        if fd not in self._on_reset:
            self._unanswered.prepare(sock)
            self._epoll.register(fd, select.EPOLLET)
        else:
            # Modifying arms the edge again, so that an error which is pending now reaches the new callback.
            self._epoll.modify(fd, select.EPOLLET)
        # Only then: a descriptor that could not be registered will be another socket's.
        self._on_reset[fd] = on_reset

    def expect_answer(self, sock: socket.socket, on_dead: Callable[[OSError], object]) -> None:
        """Something was sent: call ``on_dead``, once, if the peer doesn't acknowledge it in time."""
        self._unanswered.expect(sock, on_dead)

    def forget(self, sock: socket.socket) -> None:
        """Stop watching; to be called before the socket is closed, since its descriptor will be used again."""
        self._unanswered.forget(sock.fileno())
        if self._on_reset.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        """Stop watching everything."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        self._on_reset.clear()
        self._unanswered.close()
        self._epoll.close()

    def _on_events(self) -> None:
        for fd, events in self._epoll.poll(0, _BATCH):
            # EPOLLHUP alone is no reset: both directions have ended, or recv has already reported the error.
            on_reset = self._on_reset.get(fd) if events & select.EPOLLERR else None
            if on_reset is None:
                continue
            try:
                on_reset()
            except Exception as fault:
                # The edge of the others is not seen again.
                report_to_loop(self._loop, "the callback of a reset failed", fault)
