"""What a person or a database client has open lives through hub updates without noticing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spnhub.demo.site import free_port
from tests.support.tcp import TcpPeer, serve
from tests.support.world import World
from tests.system.test_hub_update import BOTH, sessions, start_hub

_UPDATES = 3


async def update(world: World, number: int) -> None:
    """A new hub up, the old one stopped in order."""
    old = world.hub
    await start_hub(world, (number + 1) % 2)
    await sessions([process for process in world.processes if "agent" in process.name], number + 2)
    assert await old.stop(signal.SIGTERM) == 0


async def shell(peer: TcpPeer) -> None:
    """One login: a shell on a terminal of its own, as a terminal server would give it."""
    loop = asyncio.get_running_loop()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-i"])
    os.set_blocking(terminal, False)
    typed = asyncio.ensure_future(_type(peer, terminal))
    try:
        while True:
            ready = asyncio.Event()
            loop.add_reader(terminal, ready.set)
            await ready.wait()
            loop.remove_reader(terminal)
            await peer.send(os.read(terminal, 4096))
    except OSError:
        peer.finish()  # the shell has ended
    finally:
        typed.cancel()
        loop.remove_reader(terminal)
        os.close(terminal)
        os.waitpid(pid, 0)


async def _type(peer: TcpPeer, terminal: int) -> None:
    while data := await asyncio.get_running_loop().sock_recv(peer.sock, 4096):
        os.write(terminal, data)


async def _see(peer: TcpPeer, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        piece = await asyncio.get_running_loop().sock_recv(peer.sock, 4096)
        assert piece, f"the terminal has ended after {seen!r}"
        seen += piece
    return seen


async def test_terminal(world: World) -> None:
    """A shell keeps its variables, and shows each answer once, over three hub updates."""
    await start_hub(world, 0)
    async with serve(shell) as address:
        _, consumer = await asyncio.gather(world.start_provider(address, env=BOTH), world.start_consumer(env=BOTH))
        client = await world.connect(consumer)
        await client.send(b"N=1; stty -echo; echo ready-$((N+1))\n")
        await _see(client, b"ready-2")
        for number in range(_UPDATES):
            await client.send(b"N=$((N*2)); echo before-$N-\n")
            await update(world, number)
            await _see(client, b"before-%d-" % 2 ** (number + 1))
            await client.send(b"echo after-$N-\n")
            await _see(client, b"after-%d-" % 2 ** (number + 1))
        await client.send(b"exit\n")
        await client.receive_all()
        client.close()
    await world.end()


@contextlib.contextmanager
def postgres() -> Iterator[int]:
    """A PostgreSQL server of our own; its port."""
    with tempfile.TemporaryDirectory(prefix="spn-pg-") as folder:
        yield from _postgres(Path(folder))


def _postgres(folder: Path) -> Iterator[int]:
    found = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None or shutil.which("psql") is None:
        pytest.skip("no PostgreSQL here (Debian: postgresql)")
    programs = Path(found).resolve().parent
    as_user: list[str] = []
    if os.geteuid() == 0:
        # It refuses to run as root.
        shutil.chown(folder, "nobody", "nogroup")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    data = folder / "data"
    port = free_port(socket.SOCK_STREAM)
    made = subprocess.run(
        [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "--no-sync"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert made.returncode == 0, made.stderr
    control = [*as_user, str(programs / "pg_ctl"), "-D", str(data), "-w"]
    options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
    with (folder / "log").open("wb") as log:
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=log, stderr=log, cwd=folder)
    try:
        yield port
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder)


@contextlib.asynccontextmanager
async def psql(address: tuple[str, int]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The database's own client, as a program that is typed to."""
    host, port = address
    process = await asyncio.create_subprocess_exec(
        *("psql", "-h", host, "-p", str(port), "-U", "tester", "-d", "postgres", "-X", "-q", "-A", "-t"),
        *("-v", "ON_ERROR_STOP=1"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_database_transaction(world: World) -> None:
    """A transaction with a temporary table stays open over three hub updates, and commits."""
    with postgres() as port:
        await start_hub(world, 0)
        _, consumer = await asyncio.gather(
            world.start_provider(("127.0.0.1", port), env=BOTH), world.start_consumer(env=BOTH)
        )
        async with psql(consumer.address) as client:
            assert client.stdin is not None and client.stdout is not None

            async def ask(statement: str) -> str:
                assert client.stdin is not None and client.stdout is not None
                client.stdin.write(f"{statement};\n".encode())
                return (await asyncio.wait_for(client.stdout.readline(), 60)).decode().strip()

            assert await ask("begin; create temporary table t (n int); select pg_backend_pid() > 0") == "t"
            process = await ask("select pg_backend_pid()")
            for number in range(_UPDATES):
                # The answer is on its way while the hub goes.
                slow = asyncio.ensure_future(
                    ask(f"insert into t values ({number}); select pg_sleep(1); select count(*) from t where n >= 0")
                )
                await update(world, number)
                assert await slow == ""  # pg_sleep's
                assert (await asyncio.wait_for(client.stdout.readline(), 60)).decode().strip() == str(number + 1)
            assert await ask("select pg_backend_pid()") == process
            assert await ask("commit; select sum(n) from t") == "3"
            client.stdin.write(b"\\q\n")
            assert await client.wait() == 0
    await world.end()
