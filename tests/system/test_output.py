"""Nothing that standard output is connected to stops the traffic, of hub or agents, and nothing of it ends them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from tests.support.command import BIN, Line, environment
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import LIFECYCLE, World

_STEP = 60.0


class Mute:
    """One of the commands whose standard output and error are the test's own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        async with asyncio.timeout(_STEP):
            return await self.process.wait()


class MuteWorld(World):
    """Starts them."""

    consumer_address: tuple[str, int]
    ops: str

    async def begin(self, stack: AsyncExitStack, shell: str, server: TcpServer, hub_options: tuple[str, ...]) -> None:
        """Hub and agents, run by ``exec "$@" {shell}``; standard error goes to a file unless that says otherwise."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            self.consumer_address = one.getsockname()[:2]
            self.ops = "{}:{}".format(*other.getsockname()[:2])
        journal = ("--hub-id", "hub-1", "--journal", str(self.journal), "--ops", self.ops)
        inventory = ("--inventory", self.inventory_file.as_uri(), "--bind", self.host)
        self.mute = [await self._begin(stack, shell, "spnhub", {}, *inventory, *journal, *hub_options)]
        for role, address in (("provider", server.address), ("consumer", self.consumer_address)):
            mine = self.authority.client(role)
            (self.folder / f"{role}.pem").write_bytes(mine.certificate)
            (self.folder / f"{role}.key").write_bytes(mine.key)
            env = {
                "SPN_HUB_URL": self.url,
                "SPN_SERVICE_URN": self.urn(),
                "SPN_CERTIFICATE": str(self.folder / f"{role}.pem"),
                "SPN_CERTIFICATE_KEY": str(self.folder / f"{role}.key"),
                "SPN_TRUST": str(self.folder / "ca.pem"),
                "SPN_LOG_LEVEL": "debug",
                "FORWARD_ADDRESS" if role == "provider" else "BIND_ADDRESS": "{}:{}".format(*address),
            }
            self.mute.append(await self._begin(stack, shell, "spnagent", env, role))
        async with asyncio.timeout(_STEP):
            await self._established()

    async def _established(self) -> None:
        """Until both agents have their session: who comes much earlier is refused by the consumer's (D-27)."""
        async with httpx2.AsyncClient(verify=False) as client:
            while True:
                with suppress(httpx2.TransportError):
                    text = (await client.get(f"http://{self.ops}/metrics")).text
                    if len(re.findall(r"^spnhub_sessions\{.*\} 1\.0$", text, re.MULTILINE)) == 2:
                        return
                await asyncio.sleep(0.05)

    async def _begin(
        self, stack: AsyncExitStack, shell: str, program: str, env: Mapping[str, str], *arguments: str
    ) -> Mute:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'exec "$@" 2>>"$ERRORS" {shell}', "sh", str(BIN / program), *arguments),
            env=environment(env) | {"ERRORS": str(self.folder / "errors")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self.output,
        )

        async def end() -> None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

        stack.push_async_callback(end)
        return Mute(process)

    output: int | None = None
    """Their standard output, where the shell doesn't say otherwise."""

    async def talk(self, server: TcpServer, times: int) -> None:
        """So many connections, one after the other, each with a few bytes there and back, and a FIN each way."""
        for _ in range(times):
            async with asyncio.timeout(_STEP):
                client = await self._reach()
                peer = await server.accept()
                await client.send(b"ping")
                assert await peer.receive(4) == b"ping"
                await peer.send(b"pong")
                peer.finish()
                assert await client.receive_all() == (b"pong", Ending.FIN)
                client.finish()
                assert await peer.receive_all() == (b"", Ending.FIN)
            client.close()
            peer.close()

    async def _reach(self) -> TcpPeer:
        while True:  # until the agent listens
            try:
                return await TcpPeer.connect(self.consumer_address)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)

    async def metric(self, name: str) -> float:
        """A number of the hub's /metrics."""
        async with httpx2.AsyncClient(verify=False) as client:
            text = (await client.get(f"http://{self.ops}/metrics")).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    async def stop_all(self) -> list[int]:
        """Agents, then the hub; the exit statuses."""
        hub, *agents = self.mute
        statuses = [await agent.stop(signal.SIGTERM) for agent in reversed(agents)]
        return [*statuses, await hub.stop(signal.SIGINT)]

    @property
    def errors(self) -> str:
        """What all of them wrote to standard error."""
        return (self.folder / "errors").read_text()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[MuteWorld]:
    """With the service ``web``."""
    async with MuteWorld(tmp_path) as one:
        yield one


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends processes, closes descriptors."""
    async with AsyncExitStack() as one:
        yield one


def unread_pipe(stack: AsyncExitStack, *, blocking: bool = True) -> tuple[int, int]:
    """A pipe of one page that is full."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"{}" + b" " * 93 + b"\n")
    os.set_blocking(writer, blocking)
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return reader, writer


async def check(world: MuteWorld, stack: AsyncExitStack, shell: str) -> None:
    """Traffic goes on, all end in order and in time, without a word on standard error; the journal is whole."""
    with TcpServer() as server:
        await world.begin(stack, shell, server, ())
        await world.talk(server, 100)
        began = time.monotonic()
        assert await world.stop_all() == [0, 0, 0]
        assert time.monotonic() - began < 30
    assert world.errors == ""
    assert (await world.verify())["faults"] == []
    ended = [line for line in await world.replayed() if line["eventType"] == "endSpnConnection"]
    assert len(ended) == 100


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("> /dev/full", id="disk full"),
        pytest.param(">&-", id="closed", marks=pytest.mark.prove),
        pytest.param("<&- >&- 2>&-", id="all closed"),
    ],
)
async def test_outputs_that_fail(world: MuteWorld, stack: AsyncExitStack, shell: str) -> None:
    """No room on the disk, or no output at all; what is closed is nobody else's file then."""
    await check(world, stack, shell)


@pytest.mark.parametrize("blocking", [True, pytest.param(False, marks=pytest.mark.prove)])
async def test_a_pipe_that_nobody_reads(world: MuteWorld, stack: AsyncExitStack, blocking: bool) -> None:
    """Standard error, too."""
    _, writer = unread_pipe(stack, blocking=blocking)
    world.output = writer
    await check(world, stack, "2>&1")


async def test_a_pipe_whose_reader_left(world: MuteWorld, stack: AsyncExitStack) -> None:
    """EPIPE, and no signal."""
    reader, writer = os.pipe()
    os.close(reader)
    stack.callback(os.close, writer)
    world.output = writer
    await check(world, stack, "")


async def test_what_does_not_fit_is_dropped_and_declared(world: MuteWorld, stack: AsyncExitStack) -> None:
    """A service of the hub's says more than anybody reads: counted, an event, and a line in its place."""
    reader, writer = unread_pipe(stack)
    world.output = writer
    often, count = 4, 1200
    flood = f"for _ in $(seq {often}); do yes {'x' * 3000} | head -n {count}; sleep 1; done; exec sleep 1000"
    world.service()["availabilityManagement"] = {
        "clusterManagerUrn": "process:",
        "serviceId": "web",
        "command": ["sh", "-c", flood],
    }
    world.write_inventory()
    dropped = "spnhub_output_dropped_lines_total"
    read: list[Line] = []
    with TcpServer() as server:
        await world.begin(stack, "", server, ("--allow-process", "--log-format", "json"))
        await world.talk(server, 1)
        async with asyncio.timeout(_STEP):
            while not await world.metric(dropped):
                await world.talk(server, 1)
        await world.talk(server, 30)
        assert await world.metric('spnhub_limits_reached_total{limit="outputLines"}') > 0

        found = threading.Event()
        reading = threading.Thread(target=_read, args=(reader, read, found.set))
        reading.start()
        assert await asyncio.to_thread(found.wait, _STEP)
        told = sum(line["lines"] for line in list(read) if line.get("event") == "output.dropped")
        assert 0 < told <= await world.metric(dropped)
        await world.talk(server, 3)
        assert await world.stop_all() == [0, 0, 0]
    # All the writing ends but ours are closed; a last line ends the reading.
    os.write(writer, b'{"event": "over"}\n')
    await asyncio.to_thread(reading.join, _STEP)
    assert [line["event"] for line in read if line.get("event") == "hub.stopped"] == ["hub.stopped"]
    # A warning that repeats itself comes later than what has happened since.
    sequences = [
        line["sequence"] for line in read if line.get("eventType") in LIFECYCLE and line.get("hubId") == "hub-1"
    ]
    assert sequences == sorted(sequences)
    limits = [event for event in await world.events() if event.get("limit") == "outputLines"]
    outputs = sum(line.get("event") == "service.output" for line in read)
    assert 0 < outputs < often * count
    assert limits and sum(event["count"] for event in limits) <= sum(
        line["lines"] for line in read if line.get("event") == "output.dropped"
    )


def _read(reader: int, lines: list[Line], found: Callable[[], None]) -> None:
    with os.fdopen(os.dup(reader), "r", encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            lines.append(line)
            if line.get("event") == "output.dropped":
                found()
            if line.get("event") == "over":
                return
