"""The HTTP beside traffic: what it takes of the process's descriptors, and what it does without any."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from spnhub import http_server
from spnhub.exposition import text
from spnhub.http_server import HttpServer
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot
from tests.support.tcp import TcpPeer, no_descriptors


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello")


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    """Where one answers."""
    server = HttpServer(Starlette(routes=[Route("/", _hello)]), "--ops")
    url = httpx2.URL(await server.start("127.0.0.1", 0))
    assert url.port is not None
    yield url.host, url.port
    await server.close()


async def _ask(address: tuple[str, int]) -> str:
    async with httpx2.AsyncClient(verify=False) as client:
        return (await client.get(f"http://{address[0]}:{address[1]}/")).text


@pytest.mark.outside
async def test_out_of_descriptors(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting pauses and says so once each time; whoever waited is answered afterwards."""
    monkeypatch.setattr(http_server, "PAUSE", 0.05)
    assert await _ask(address) == "hello"
    client = await TcpPeer.connect(address)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    second = await TcpPeer.connect(address)
    third = await TcpPeer.connect(address)
    with capture_logs() as lines:
        with no_descriptors():
            # Connected by the kernel; accepted when there is a descriptor.
            third.close()
            await asyncio.sleep(0.2)
        await second.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await second.receive(12)) == b"HTTP/1.1 200"
    assert not errors
    assert len([line for line in lines if line["log_level"] == "warning"]) <= 5
    assert await _ask(address) == "hello"
    client.close()
    second.close()


@pytest.mark.outside
async def test_clients_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest makes room."""
    monkeypatch.setattr(http_server, "CONNECTIONS", 5)
    server = HttpServer(Starlette(routes=[Route("/", _hello)]), "--ops")
    url = httpx2.URL(await server.start("127.0.0.1", 0))
    assert url.port is not None
    silent = [await TcpPeer.connect((url.host, url.port)) for _ in range(20)]
    assert await _ask((url.host, url.port)) == "hello"
    data, _ = await silent[0].receive_all()
    assert data == b""
    await silent[19].send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await silent[19].receive(12) == b"HTTP/1.1 200"
    for one in silent:
        one.close()
    await server.close()


async def test_faults_and_a_journal_that_fails_are_seen() -> None:
    """``/readyz`` says why it isn't, ``/metrics`` how often and where."""
    progress = Progress(7, 5, None, "No space left on device")

    def never() -> Snapshot:
        raise AssertionError("the state isn't asked for")

    ops = Ops(lambda: True, never, lambda: progress, HubMetrics(), lambda: 0, lambda: {"HubActor": 3, "journal": 1})
    transport = httpx2.ASGITransport(ops.application())
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    assert (ready.status_code, ready.text) == (503, "the journal can't be written: No space left on device\n")
    lines = metrics.splitlines()
    assert "spnhub_journal_failing 1.0" in lines
    assert 'spnhub_faults_total{where="HubActor"} 3.0' in lines
    assert 'spnhub_faults_total{where="journal"} 1.0' in lines


def test_the_process_is_in_the_metrics() -> None:
    """Memory, processor time and descriptors, by the names that every Prometheus client gives them."""
    shown = text([]).decode()
    numbers = {name: float(value) for name, value in re.findall(r"^(process_\w+) (\S+)$", shown, re.MULTILINE)}
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert numbers["process_resident_memory_bytes"] == pytest.approx(pages * resource.getpagesize(), rel=0.2)
    assert numbers["process_open_fds"] == pytest.approx(len(list(Path("/proc/self/fd").iterdir())), abs=3)
    assert numbers["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < numbers["process_cpu_seconds_total"] <= time.process_time() + 1
