"""The event loop of our processes: what looks names up, whoever asks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import httpx2
import pytest

from spnhub.transport.system.loop import MOST_LOOK_UPS, run


class Resolver:
    """A resolver in the test's hand, in place of the system's: every name is this host's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Any] = []
        self.under_way = 0
        self.most = 0
        self.seconds = 0.0
        self.release: threading.Event | None = None
        self.failure: Exception | None = None
        self._original = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        if not str(host).endswith(".test"):
            return self._original(host, port, *rest, **options)
        self.asked.append(host)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if self.release is not None:
                self.release.wait(60)
            time.sleep(self.seconds)
            if self.failure is not None:
                raise self.failure
            return self._original("127.0.0.1", port, *rest, **options)
        finally:
            self.under_way -= 1


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


async def _look_up(host: str) -> Any:
    return await asyncio.get_running_loop().getaddrinfo(host, 80, type=socket.SOCK_STREAM)


def test_equal_look_ups_are_one(resolver: Resolver) -> None:
    """Also what a library asks for; and the next one asks anew."""
    resolver.seconds = 0.2

    async def main() -> None:
        found = await asyncio.gather(*(_look_up("one.test") for _ in range(100)), _look_up("two.test"))
        assert {entry[0][4] for entry in found} == {("127.0.0.1", 80)}
        assert sorted(resolver.asked) == ["one.test", "two.test"]
        await _look_up("one.test")

    run(main())
    assert len(resolver.asked) == 3


@pytest.mark.outside
def test_a_library_that_asks(resolver: Resolver) -> None:
    """httpx2, as the inventory's client: sixteen connections, one look-up."""
    resolver.seconds = 0.3

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, httpx2.AsyncClient() as client:
            url = f"http://inventory.test:{server.sockets[0].getsockname()[1]}"
            answers = await asyncio.gather(*(client.get(url) for _ in range(16)))
            assert {one.status_code for one in answers} == {204}

    run(main())
    assert resolver.asked == ["inventory.test"]


def test_a_failure_is_everybodys(resolver: Resolver) -> None:
    """As is whatever else the system says; who has given up isn't missed."""
    resolver.failure = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    resolver.seconds = 0.1

    async def main() -> None:
        asking = [asyncio.ensure_future(_look_up("one.test")) for _ in range(10)]
        await asyncio.sleep(0)
        asking[0].cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in results] == [asyncio.CancelledError] + [socket.gaierror] * 9

    run(main())
    assert resolver.asked == ["one.test"]


@pytest.mark.parametrize("many", [10, 2 * MOST_LOOK_UPS])
def test_a_silent_resolver_keeps_only_those_who_ask(resolver: Resolver, many: int) -> None:
    """Other work for threads goes on, the end is the end, and there are no more threads than the bound."""
    resolver.release = threading.Event()
    began = time.monotonic()

    async def main() -> None:
        asking = [asyncio.ensure_future(_look_up(f"{number}.test")) for number in range(many)]
        await asyncio.sleep(0.1)
        assert await asyncio.to_thread(lambda: 7) == 7
        assert not any(one.done() for one in asking)

    try:
        run(main())
        assert time.monotonic() - began < 20
        assert resolver.most <= MOST_LOOK_UPS
    finally:
        resolver.release.set()


def test_no_thread_is_left(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a failed look-up, and the next one may have one again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(OSError, match="new thread"):
                await _look_up("one.test")
        assert await _look_up("one.test")

    run(main())
