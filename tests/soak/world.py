"""What a soak does: two worlds, one whose hub stays and one whose hub is killed, restarted and updated again and again.

In both endpoints churn, real agents carry TCP, some programs don't read, and strangers attack; the steady hub ships to
a broker that goes away now and then, is reloaded, and its HTTP is asked for what it never answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import psutil

from spnhub.actors.contract.packets import SetWeight
from spnhub.events.model import EndPointType
from spnhub.transport import protocol
from tests.soak.samples import Series
from tests.support.churn import Churn
from tests.support.command import Command
from tests.support.flood import Flood
from tests.support.kafka import KafkaBroker, NoBroker, find_broker
from tests.support.raw_peer import raw_peer
from tests.support.world import Consumer, World

__all__ = ["Soak"]

_LOOK: Final = 2.0
"""Seconds between two samples."""
_SERVICES: Final = ("web", "mail", "agents")


class Soak:
    """One run.

    :param folder: an empty one.
    :param seconds: for how long.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.series: dict[tuple[str, str], Series] = {}
        self.marks: list[tuple[float, str]] = []
        """When what was done."""
        self.carried = 0
        """Connections through agents that were echoed."""
        self.failed = 0
        """Those that weren't: the hub was killed, mostly."""
        self.problems: list[str] = []
        self._began = 0.0
        self._random = random.Random(1)

    async def run(self) -> None:
        """To its end."""
        broker = await asyncio.to_thread(_broker)
        try:
            async with _world(self.folder / "steady") as steady, _world(self.folder / "faulty") as faulty:
                await self._run(steady, faulty, broker)
        finally:
            if broker is not None:
                await asyncio.to_thread(broker.close)

    async def _run(self, steady: World, faulty: World, broker: KafkaBroker | None) -> None:
        common = ("--ops", "127.0.0.1:0", "--journal-size", "4M", "--identity-sessions", "4096")
        kafka = () if broker is None else ("--kafka", broker.bootstrap, "--topic", "soak")
        await steady.start_hub(*common, *kafka)
        await faulty.start_hub(*common)
        programs = [await _churn(world, number) for number, world in enumerate((steady, faulty))]
        agents = [await _agents(world) for world in (steady, faulty)]
        watched: dict[str, Callable[[], Command]] = {
            "steady hub": lambda: steady.hub,
            "provider agent": lambda: agents[0][0],
            "consumer agent": lambda: agents[0][1].command,
            "agent, hub killed": lambda: agents[1][1].command,
        }
        self._began = time.monotonic()
        jobs = [
            self._sample(watched, steady),
            self._every(20, lambda: self._fault(faulty, common)),
            self._every(45, lambda: self._attack(steady)),
            self._every(30, lambda: self._reload(steady)),
            self._every(5, lambda: self._strangers(steady)),
        ]
        if broker is not None:
            jobs.append(self._every(90, lambda: self._broker_gone(broker)))
        for _, consumer in agents:
            jobs += [self._carry(consumer), self._slow(consumer)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        done, _ = await asyncio.wait(tasks, timeout=self.seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (fault := task.exception()) is not None:
                self.problems.append(f"the soak itself: {fault!r}")
        for program in programs:
            if await program.stop(timeout=180) != 0:
                self.problems.append(f"{program.name}: {program.transcript(5)}")
        self._read_logs(steady, faulty)

    def _read_logs(self, *worlds: World) -> None:
        for world in worlds:
            for process in world.processes:
                faults = process.said("fault")
                if faults or any("Traceback" in line for line in process.errors):
                    self.problems.append(f"{process.name}: {faults[:1]} {process.errors[:5]}")

    def _mark(self, name: str) -> None:
        self.marks.append((self._say(name), name))

    def _say(self, text: str) -> float:
        """Print it with the seconds since the beginning, which are given back."""
        at = time.monotonic() - self._began
        print(f"{at:7.1f} s  {text}", flush=True)
        return at

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await act()
            except (AssertionError, OSError, TimeoutError) as missed:
                # A program that didn't come up in time, on a machine that is busy with others.
                self._mark(f"missed: {str(missed).splitlines()[0]}")

    # ---- what is measured --------------------------------------------------------------------------------------

    async def _sample(self, watched: dict[str, Callable[[], Command]], steady: World) -> None:
        async with httpx2.AsyncClient(timeout=30) as client:
            url = (await steady.hub.line("ops.ready"))["url"]
            while True:
                at = time.monotonic() - self._began
                for name, command in watched.items():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process = psutil.Process(command().pid)
                        self._note(name, "rss", at, process.memory_info().rss / 2**20)
                        self._note(name, "descriptors", at, process.num_fds())
                        self._note(name, "threads", at, process.num_threads())
                with contextlib.suppress(httpx2.HTTPError):
                    lines = (await client.get(f"{url}/metrics")).text.splitlines()
                    numbers = dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
                    for quantity in ("actors", "tasks"):
                        self._note("steady hub", quantity, at, float(numbers[f"spnhub_{quantity}"]))
                journal = sum(path.stat().st_size for path in steady.journal.glob("*") if path.is_file())
                self._note("steady hub", "journal", at, journal / 2**20)
                await asyncio.sleep(_LOOK)

    def _note(self, process: str, quantity: str, at: float, value: float) -> None:
        self.series.setdefault((process, quantity), Series(process, quantity)).points.append((at, value))

    # ---- what happens ------------------------------------------------------------------------------------------

    async def _fault(self, world: World, options: tuple[str, ...]) -> None:
        kind = self._random.choice(("kill -9", "restart", "update"))
        self._mark(f"hub: {kind}")
        if kind == "kill -9":
            await world.hub.kill()
            await asyncio.sleep(self._random.uniform(0, 3))
        elif kind == "restart":
            await world.hub.stop()
        else:
            world.hub.send_signal(signal.SIGTERM)
            await world.hub.wait(timeout=60)
        await world.start_hub(*options)

    async def _broker_gone(self, broker: KafkaBroker) -> None:
        self._mark("broker gone")
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(self._random.uniform(2, 20))
        await asyncio.to_thread(broker.start)

    async def _reload(self, world: World) -> None:
        world.service("web")["title"] = f"title {self._random.random()}"
        consumers = world.service("mail")["consumers"]
        consumers[:] = ["consumer", f"another {self._random.randrange(1000)}"]
        await world.reload()

    async def _attack(self, world: World) -> None:
        """Ten seconds of handshakes without end, or of a provider that says more than it may."""
        if self._random.random() < 0.5:
            self._mark("flood of handshakes")
            good, bad = world.authority.client("consumer"), world.strangers.client("consumer")
            flood = Flood(
                host=world.host,
                port=world.port,
                fqdn=_name(world),
                service_urn=world.urn(),
                trust=world.authority.certificate.decode(),
                good=(good.certificate.decode(), good.key.decode()),
                bad=(bad.certificate.decode(), bad.key.decode()),
                initials=50,
            )
            program = await world.start_program("flood", *flood.arguments())
            try:
                await program.line("flood.begun")
                await asyncio.sleep(10)
            finally:
                await program.stop()
            return
        self._mark("flood of weights")
        for number in range(5):
            request = EndPointType.PROVIDER, world.urn(), f"flood {number}"
            trust, credentials = world.authority.certificate, world.authority.client("provider")
            async with raw_peer((world.host, world.port), _name(world), trust, credentials, request) as peer:
                with contextlib.suppress(TimeoutError):
                    await peer.send(b"".join(protocol.encode(SetWeight(n % 7 + 1)) for n in range(3000)))
                    await peer.until(lambda peer=peer: peer.closed is not None)  # type: ignore[misc] # bound at once

    async def _strangers(self, world: World) -> None:
        """What HTTP never answers, and what is no QUIC."""
        url = httpx2.URL((await world.hub.line("ops.ready"))["url"])
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(
                self._random.choice((b"GET / HTTP/1.1\r\n", b"\0" * 100, b"POST /x HTTP/1.1\r\nHost: e\r\n\r\nx"))
            )
            await asyncio.sleep(0.1)
            writer.close()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=(world.host, world.port)
        )
        for _ in range(50):
            transport.sendto(self._random.randbytes(self._random.randrange(1, 1400)))
        transport.close()

    async def _carry(self, consumer: Consumer) -> None:
        """Some connections a second, each echoed."""
        while True:
            try:
                async with asyncio.timeout(30):
                    reader, writer = await asyncio.open_connection(*consumer.address)
                    data = self._random.randbytes(self._random.choice((10, 1000, 100_000)))
                    writer.write(data)
                    assert await reader.readexactly(len(data)) == data
                    writer.close()
                    await writer.wait_closed()
                self.carried += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as missed:
                self.failed += 1
                self._say(f"a connection of {consumer.address} failed: {missed!r}")
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.1)

    async def _slow(self, consumer: Consumer) -> None:
        """One after the other writes all it can for ten seconds, and never reads what is echoed."""
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*consumer.address)
                writer.write(bytes(4 << 20))
                await asyncio.sleep(10)
                writer.transport.abort()
            await asyncio.sleep(1)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[World]:
    folder.mkdir()
    async with World(folder, services=_SERVICES, fork=False) as world:
        yield world


async def _agents(world: World) -> tuple[Command, Consumer]:
    """A provider's agent in front of an echo, and a consumer's."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    return (
        await world.start_provider((address[0], address[1]), service="agents"),
        await world.start_consumer(service="agents"),
    )


async def _churn(world: World, seed: int) -> Command:
    """Endpoints that open and end connections until they are told to leave."""
    provider, consumer = world.authority.client("provider"), world.authority.client("consumer")
    churn = Churn(
        host=world.host,
        url=world.url,
        services=(world.urn("web"), world.urn("mail")),
        provider=(provider.certificate.decode(), provider.key.decode()),
        consumer=(consumer.certificate.decode(), consumer.key.decode()),
        trust=world.authority.certificate.decode(),
        providers=6,
        consumers=30,
        connections=1 << 40,
        at_once=10,
        ledger=str(world.folder / "ledger.json"),
        seed=seed,
    )
    program = await world.start_program(f"churn {seed}", *churn.arguments())
    await program.line("churn.ready", timeout=120)
    return program


def _broker() -> KafkaBroker | None:
    try:
        broker = find_broker()
    except NoBroker as missing:
        print(f"without Kafka: {missing}", flush=True)
        return None
    broker.start()
    return broker


def _name(world: World) -> str:
    return str(world.network()["fqdn"])
