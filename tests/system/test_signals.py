"""Signals to real processes: what reloads, what ends in order, and that nothing ends one without a word."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings, ShipperStatus
from spnhub.events.shipper.process import ShipperProcess
from tests.events.samples import day, write_journal
from tests.support.command import BIN, Command, environment
from tests.support.tcp import Ending, TcpServer
from tests.support.world import Consumer, World, service_document

_STRAY = (
    *(signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPWR, signal.SIGIO),
    *(signal.SIGTTOU, signal.SIGTTIN, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD),
    signal.SIGRTMIN + 3,
)
_SAID = {"SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPWR", "SIGIO", "SIGRTMIN+3"}
"""Those of them that would have ended a process: it names them."""


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Ends what a test starts beside its world."""
    async with AsyncExitStack() as one:
        yield one


async def talk(world: World, consumer: Consumer, server: TcpServer) -> None:
    """One connection, there and back."""
    client, peer = await world.join(consumer, server)
    await client.send(b"ping")
    assert await peer.receive(4) == b"ping"
    peer.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    client.finish()
    assert await peer.receive_all() == (b"", Ending.FIN)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what another process does without a word."""
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


def mask(pid: int, name: str) -> int:
    """Of signals, from the kernel: ``SigBlk``, ``SigIgn`` or ``SigCgt``."""
    found = re.search(rf"^{name}:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1], 16)


def bit(number: int) -> int:
    """A signal in such a mask."""
    return 1 << (number - 1)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
async def test_the_hub_reloads(world: World, number: signal.Signals) -> None:
    """On SIGHUP as on SIGUSR1."""
    hub = await world.start_hub()
    world.network()["services"].append(service_document("more"))
    world.write_inventory()
    hub.send_signal(number)
    await hub.line("reload.applied")
    await world.end()


async def test_stray_signals(world: World, stack: AsyncExitStack) -> None:
    """Sent to hub, agents, ``spnlog serve`` and ``spnhub inventory``: traffic goes on, and each was named."""
    with TcpServer() as server:
        hub, provider, consumer = await world.start(server.address)
        serve = await Command.start("serve", "spnlog", "serve", str(world.journal), "--listen", "127.0.0.1:0", "--json")
        stack.push_async_callback(serve.close)
        await serve.line("serve.ready")
        inventory = await Command.start(
            "inventory", "spnhub", "inventory", str(world.inventory_file), "--listen", "127.0.0.1:0"
        )
        stack.push_async_callback(inventory.close)
        await inventory.line("inventory.ready")
        programs = [hub, provider, consumer.command, serve, inventory]
        for program in programs:
            for number in _STRAY:
                os.kill(program.pid, number)
        for program in programs:
            for name in _SAID:
                await program.line("signal.ignored", signal=name, level="warning")
            assert {line["signal"] for line in program.said("signal.ignored")} == _SAID
        for program in (serve, inventory):
            os.kill(program.pid, signal.SIGHUP)
            await program.line("signal.ignored", signal="SIGHUP")
        await talk(world, consumer, server)
        for program in (serve, inventory):
            assert await program.stop(signal.SIGQUIT) == 0
            assert program.errors == []
        await world.end()


async def test_sigquit_ends_in_order(world: World) -> None:
    """As SIGTERM does, of hub and agents; an open connection has its time."""
    number = signal.SIGQUIT
    with TcpServer() as server:
        hub, provider, consumer = await world.start(server.address)
        client, peer = await world.join(consumer, server)
        os.kill(consumer.command.pid, number)
        await consumer.command.line("agent.stopping", connections=1, atOnce=False)
        client.finish()
        assert await peer.receive_all() == (b"", Ending.FIN)
        peer.finish()
        assert await client.receive_all() == (b"", Ending.FIN)
        assert await consumer.command.wait() == 0
        assert await provider.stop(number) == 0
        assert await hub.stop(number) == 0
        assert [line["signal"] for line in hub.said("hub.stopping")] == [number.name]
        await world.end()


async def test_signals_that_come_early(world: World) -> None:
    """While a program is still being loaded they wait for who takes them."""
    hub = await Command.start("hub", "spnhub", *world_options(world))
    world.processes.append(hub)
    try:
        await until(lambda: bool(mask(hub.pid, "SigBlk") & bit(signal.SIGHUP)), "held signals")
        os.kill(hub.pid, signal.SIGHUP)
        os.kill(hub.pid, signal.SIGUSR2)
        await hub.line("signal.ignored", signal="SIGUSR2")
        await hub.line("hub.ready")
        await hub.line("reload.applied")
        assert await hub.stop() == 0
        early = await Command.start("hub", "spnhub", *world_options(world))
        await until(lambda: bool(mask(early.pid, "SigBlk") & bit(signal.SIGTERM)), "held signals")
        assert await early.stop(signal.SIGTERM) == 0
        assert early.errors == []
    finally:
        await hub.close()


async def test_signals_that_come_late(world: World) -> None:
    """Until the very end of a stop they change nothing."""
    with TcpServer() as server:
        hub, provider, consumer = await world.start(server.address)
        for program in (consumer.command, provider, hub):
            os.kill(program.pid, signal.SIGTERM)
            while program.running:
                for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                    with suppress(ProcessLookupError):
                        os.kill(program.pid, number)
                await asyncio.sleep(0)
            assert await program.wait() == 0, program.transcript()
            assert program.errors == []


_ENDED = """
import asyncio, os, signal
from spnhub import signals

def wakeup():
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    return descriptor

async def main():
    with signals.taken(lambda _: None):
        during = wakeup()
    return during

during = asyncio.run(main())
assert wakeup() == during
os.write(during, bytes(1))
"""


def test_a_thread_handles_a_signal_while_the_handling_ends() -> None:
    """What it is about to write goes where it would have gone, not to a descriptor that is closed or another's."""
    done = subprocess.run([sys.executable, "-c", _ENDED], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_nohup(world: World) -> None:
    """Who starts a hub with SIGHUP ignored gets that; SIGUSR1 reloads."""
    hub = await Command.start("hub", "spnhub", *world_options(world), within=("nohup",))
    world.processes.append(hub)
    try:
        await hub.line("hub.ready")
        assert mask(hub.pid, "SigIgn") & bit(signal.SIGHUP)
        os.kill(hub.pid, signal.SIGHUP)
        os.kill(hub.pid, signal.SIGUSR1)
        await hub.line("reload.applied")
        assert len(hub.said("reload.started")) == 1
        assert await hub.stop() == 0
    finally:
        await hub.close()


async def test_the_shipper_is_deaf(tmp_path: Path) -> None:
    """What is sent to all processes of the hub by name, or to its terminal, cuts no end of the log off."""
    write_journal(tmp_path, day())
    came: list[ShipperStatus] = []
    heard = asyncio.Event()

    def hear(status: ShipperStatus) -> None:
        came.append(status)
        heard.set()

    settings = ShipperSettings(journal=tmp_path, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1", topic="t"))
    shipper = ShipperProcess(settings, hear)
    shipper.start()
    async with asyncio.timeout(60):
        while not any(status.state == "unreachable" for status in came):
            heard.clear()
            await heard.wait()
    process = psutil.Process(shipper.pid)
    try:
        for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM):
            assert mask(process.pid, "SigIgn") & bit(number)
            process.send_signal(number)
        assert process.status() != psutil.STATUS_ZOMBIE
        assert os.getsid(process.pid) == process.pid
        assert not any(status.state == "died" for status in came)
    finally:
        stopping = asyncio.create_task(shipper.stop())
        await asyncio.sleep(0)
        process.kill()
        await stopping


# ---- terminals -----------------------------------------------------------------------------------------------------


class Terminal:
    """A pseudo terminal, of which a program's session has the other end."""

    def __init__(self) -> None:
        self.master, self._slave = pty.openpty()
        self._unread = b""

    async def run(self, *arguments: str, env: dict[str, str], leader: bool = True) -> asyncio.subprocess.Process:
        """Start a program whose terminal this is. ``leader``: its session is its own."""

        def take() -> None:
            os.setsid()
            fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

        return await asyncio.create_subprocess_exec(
            *arguments,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment(env),
            preexec_fn=take,
        )

    async def until(self, text: bytes) -> None:
        """Read until that is on the screen; what follows it is for the next call."""
        os.set_blocking(self.master, False)

        def read() -> bool:
            with suppress(BlockingIOError, OSError):
                self._unread += os.read(self.master, 65_536)
            return text in self._unread

        await until(read, f"{text!r} on the terminal")
        self._unread = self._unread.partition(text)[2]

    def write(self, text: bytes) -> None:
        """Press keys."""
        os.write(self.master, text)

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._slave)
        os.close(self.master)
        self.master = -1


async def in_terminal(
    stack: AsyncExitStack, arguments: Sequence[str], env: dict[str, str] | None = None
) -> tuple[Terminal, asyncio.subprocess.Process]:
    """A program that runs in one."""
    terminal = Terminal()
    process = await terminal.run(*arguments, env=env or {})

    async def end() -> None:
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            for one in [*first.children(recursive=True), first]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        await process.wait()

    stack.push_async_callback(end)
    return terminal, process


async def test_a_terminal_that_is_closed(world: World, stack: AsyncExitStack) -> None:
    """SIGHUP, and every write fails from then on: hub and agent read their files again, and traffic goes on."""
    at_hub, hub = await in_terminal(stack, (str(BIN / "spnhub"), *world_options(world)))
    await at_hub.until(b"hub.ready")
    with TcpServer() as server:
        mine = world.authority.client("provider")
        env = {
            "SPN_HUB_URL": world.url,
            "SPN_SERVICE_URN": world.urn(),
            "SPN_CERTIFICATE": mine.certificate.decode(),
            "SPN_CERTIFICATE_KEY": mine.key.decode(),
            "SPN_TRUST": str(world.folder / "ca.pem"),
            "FORWARD_ADDRESS": "{}:{}".format(*server.address),
        }
        at_provider, provider = await in_terminal(stack, (str(BIN / "spnagent"), "provider"), env)
        await at_provider.until(b"session.established")
        consumer = await world.start_consumer()
        at_hub.hang_up()
        at_provider.hang_up()
        for _ in range(3):
            await talk(world, consumer, server)
        assert (hub.returncode, provider.returncode) == (None, None)
        for program in (provider, hub):
            program.send_signal(signal.SIGINT)
            async with asyncio.timeout(60):
                assert await program.wait() == 0
    # The one at the start, and that of the SIGHUP.
    loaded = [event["initial"] for event in await world.events() if event["eventType"] == "inventoryLoaded"]
    assert loaded == [True, False]


async def test_a_hub_in_the_background_of_a_terminal(world: World, stack: AsyncExitStack) -> None:
    """Where ``stty tostop`` would stop it at its first line."""
    script = 'stty tostop; set -m; "$@" & wait'
    shell = ("bash", "-c", script, "bash", str(BIN / "spnhub"), *world_options(world))
    terminal, process = await in_terminal(stack, shell)
    await terminal.until(b"hub.ready")
    (hub,) = (one for one in psutil.Process(process.pid).children() if "spnhub" in " ".join(one.cmdline()[:2]))
    with TcpServer() as server:
        _, consumer = await asyncio.gather(world.start_provider(server.address), world.start_consumer())
        await talk(world, consumer, server)
        assert hub.status() != psutil.STATUS_STOPPED
        hub.send_signal(signal.SIGINT)
        await terminal.until(b"hub.stopped")


# ---- the first process of a container ------------------------------------------------------------------------------


def within_container() -> tuple[str, ...]:
    """What runs a command as PID 1 of a namespace; skips where there is none."""
    program = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if (
        shutil.which("nsenter") is None
        or subprocess.run([*program, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no PID namespaces here")
    return program


def first_of(container: int) -> psutil.Process:
    """The namespace's PID 1, seen from outside."""
    (first,) = psutil.Process(container).children()
    return first


def _names_within(container: psutil.Process) -> set[str]:
    """Of all processes of the namespace whose PID 1 this is.

    Not of its children: an orphan whose parent ends while the list is read is nobody's child in it.
    """
    namespace = os.readlink(f"/proc/{container.pid}/ns/pid")  # noqa: PTH115
    names = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            if os.readlink(f"/proc/{process.pid}/ns/pid") == namespace:  # noqa: PTH115
                names.add(process.name())
    return names


async def test_pid_1(world: World, stack: AsyncExitStack) -> None:
    """It passes signals on, reaps every orphan, leaves the program its own children, and ends as that does."""
    world.network()["services"].append(
        service_document(
            "three",
            availabilityManagement={
                "clusterManagerUrn": "process:",
                "serviceId": "three",
                "command": ["sh", "-c", "sleep 0.3; exit 3"],
            },
        )
    )
    world.write_inventory()
    hub = await Command.start("hub", "spnhub", *world_options(world), "--allow-process", within=within_container())
    world.processes.append(hub)
    stack.push_async_callback(hub.close)
    await hub.line("hub.ready")
    first = first_of(hub.pid)
    # Orphans, as a shell in the container leaves them.
    enter = ("nsenter", "--target", str(first.pid), "--pid")
    orphans = "for _ in 1 2 3 4 5; do (sleep 4 & sleep 5 & exec sleep 3) & done; exit"
    subprocess.run([*enter, "sh", "-c", orphans], check=True, timeout=30)
    assert "sleep" in _names_within(first)
    await hub.line("service.process_ended", status=3)
    await until(lambda: not {"sleep", "sh"} & _names_within(first), "reaped orphans")
    first.send_signal(signal.SIGHUP)
    await hub.line("reload.applied")
    first.send_signal(signal.SIGTERM)
    assert await hub.wait() == 0
    assert [line["signal"] for line in hub.said("hub.stopping")] == ["SIGTERM"]
    assert hub.errors == []


async def test_pid_1_from_its_beginning(world: World) -> None:
    """SIGTERM isn't lost that comes before the program takes it."""
    hub = await Command.start("hub", "spnhub", *world_options(world), within=within_container())
    try:
        await until(lambda: bool(psutil.Process(hub.pid).children()), "PID 1")
        first = first_of(hub.pid)
        # They show as not held while PID 1 waits for them.
        await until(lambda: bool(mask(first.pid, "SigBlk") & bit(signal.SIGTERM) or first.children()), "held signals")
        first.send_signal(signal.SIGTERM)
        assert await hub.wait() == 0
        assert hub.errors == []
    finally:
        await hub.close()


async def test_ctrl_c_at_pid_1(world: World, stack: AsyncExitStack) -> None:
    """As with ``docker run -it``: it reaches the program once, and ends it in order."""
    arguments = (*within_container(), str(BIN / "spnhub"), *world_options(world))
    terminal, process = await in_terminal(stack, arguments)
    await terminal.until(b"hub.ready")
    terminal.write(b"\x03")
    await terminal.until(b"SIGINT")
    await terminal.until(b"hub.stopped")
    async with asyncio.timeout(60):
        await process.wait()
    assert [event["eventType"] for event in await world.events()][-1] == "hubStopped"


async def test_a_filter_as_pid_1(tmp_path: Path) -> None:
    """It ends by what would end it elsewhere, with the status that a shell would see."""
    write_journal(tmp_path, day())
    tail = await Command.start("tail", "spnlog", "tail", "--all", str(tmp_path), within=within_container())
    try:
        await tail.until(lambda: bool(tail.lines), "a line")
        first_of(tail.pid).send_signal(signal.SIGTERM)
        assert await tail.wait() == 128 + signal.SIGTERM
    finally:
        await tail.close()


def world_options(world: World) -> tuple[str, ...]:
    """The world's hub's, for one that is started in another way."""
    return (
        *("--inventory", world.inventory_file.as_uri(), "--bind", world.host),
        *("--hub-id", "hub-1", "--journal", str(world.journal)),
    )
