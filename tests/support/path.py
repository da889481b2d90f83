"""A network path in user space: a UDP relay in front of one hub that loses, delays, reorders and cuts.

It needs no privileges and no kernel modules, and is the same everywhere. The hub sees one socket of the relay for each
client, so that :meth:`Path.rebind` is what a NAT does that forgets, or a laptop that changes its network.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Self

__all__ = ["Path"]

_BUFFER = 4 * 1024 * 1024
_READS = 64


class Path:
    """Use as an async context manager. Everything may be changed at any time.

    :param hub: where the datagrams go.
    :param seed: of what is lost and reordered.
    """

    def __init__(self, hub: tuple[str, int], *, seed: int = 1) -> None:
        self.hub = hub
        self.loss = 0.0
        """Probability that a datagram is lost, each way."""
        self.delay = 0.0
        """Seconds, each way."""
        self.reorder = 0.0
        """Probability that a datagram comes :attr:`late` seconds later than its successors."""
        self.late = 0.02
        self.cut_up = False
        """Nothing reaches the hub."""
        self.cut_down = False
        """Nothing comes from the hub."""
        self.passed = 0
        """Datagrams that were passed on, both ways."""
        self.lost = 0
        """Datagrams that were not."""
        self._random = random.Random(seed)
        self._upstream: dict[tuple[str, int], socket.socket] = {}
        self._front = _socket()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._front.bind(("127.0.0.1", 0))
        self._loop.add_reader(self._front, self._from_client)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._front)
        self._front.close()
        for sock in self._upstream.values():
            self._loop.remove_reader(sock)
            sock.close()

    @property
    def address(self) -> str:
        """What agents are told (SPN_HUB_ADDRESSES)."""
        host, port = self._front.getsockname()
        return f"{host}:{port}"

    def cut(self) -> None:
        """Nothing passes, either way."""
        self.cut_up = self.cut_down = True

    def heal(self) -> None:
        """All passes again."""
        self.cut_up = self.cut_down = False

    def rebind(self) -> None:
        """From now on the hub sees other addresses; what was on its way to the old ones is lost."""
        for client, old in list(self._upstream.items()):
            self._loop.remove_reader(old)
            old.close()
            self._open(client)

    def _open(self, client: tuple[str, int]) -> socket.socket:
        sock = self._upstream[client] = _socket()
        sock.bind(("127.0.0.1", 0))
        self._loop.add_reader(sock, self._from_hub, client, sock)
        return sock

    def _from_client(self) -> None:
        for _ in range(_READS):
            try:
                data, client = self._front.recvfrom(65_535)
            except (BlockingIOError, ConnectionRefusedError):
                return
            sock = self._upstream.get(client) or self._open(client)
            self._pass(self.cut_up, sock, data, self.hub)

    def _from_hub(self, client: tuple[str, int], sock: socket.socket) -> None:
        for _ in range(_READS):
            try:
                data, hub = sock.recvfrom(65_535)
            except (BlockingIOError, ConnectionRefusedError, OSError):
                return
            # A NAT lets in only what comes from where it has sent something to.
            self._pass(hub != self.hub or self.cut_down, self._front, data, client)

    def _pass(self, cut: bool, sock: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        if cut or self._random.random() < self.loss:
            self.lost += 1
            return
        delay = self.delay + (self.late if self._random.random() < self.reorder else 0.0)
        if delay:
            self._loop.call_later(delay, self._send, sock, data, to)
        else:
            self._send(sock, data, to)

    def _send(self, sock: socket.socket, data: bytes, to: tuple[str, int]) -> None:
        if sock.fileno() < 0:
            return
        self.passed += 1
        try:
            sock.sendto(data, to)
        except (BlockingIOError, ConnectionRefusedError):
            self.lost += 1


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
    return sock
