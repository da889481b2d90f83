"""``process:`` for real: commands of this host, their groups, their output and their end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import structlog

from spnhub.clusters.process import ProcessManager
from spnhub.clusters.task import ClusterError, ServiceTask

pytestmark = pytest.mark.outside

URN = "urn:chip-in:service:acme:east:web"


def task(*command: str, urn: str = URN, **env: str) -> ServiceTask:
    return ServiceTask(urn, "process:", "web", command=command, env=env)


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code, *arguments)


class Exits:
    """Collects what the manager says about ends, and lets a test wait for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._event = asyncio.Event()

    def __call__(self, urn: str, reason: str) -> None:
        self.seen.append((urn, reason))
        self._event.set()

    async def wait(self) -> list[tuple[str, str]]:
        async with asyncio.timeout(20):
            await self._event.wait()
        return self.seen


@pytest.fixture
async def exits() -> Exits:
    return Exits()


@pytest.fixture
async def manager(exits: Exits) -> AsyncIterator[ProcessManager]:
    manager = ProcessManager(on_exit=exits, grace=5)
    yield manager
    await manager.close()


async def lines(path: Path, count: int) -> list[str]:
    """The first lines of a file, once they are there."""
    async with asyncio.timeout(20):
        while len(found := path.read_text().splitlines() if path.exists() else []) < count:
            await asyncio.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(20):
        while not all(gone(pid) for pid in pids):
            await asyncio.sleep(0.01)


async def test_start_and_stop(manager: ProcessManager, exits: Exits) -> None:
    """A command runs once, however often it is started; a stop ends it, and a second stop is no error."""
    await manager.start(task("sleep", "60"))
    pid = manager.pid(URN)
    await manager.start(task("sleep", "60"))
    assert pid is not None
    assert manager.pid(URN) == pid
    assert psutil.Process(pid).cmdline() == ["sleep", "60"]
    await manager.stop(task("sleep", "60"))
    assert (gone(pid), manager.pid(URN)) == (True, None)
    await manager.stop(task("sleep", "60"))
    assert exits.seen == []


async def test_starts_again_after_a_stop(manager: ProcessManager) -> None:
    """After a stop the service can be started again, as another process."""
    await manager.start(task("sleep", "60"))
    first = manager.pid(URN)
    await manager.stop(task("sleep", "60"))
    await manager.start(task("sleep", "60"))
    assert manager.pid(URN) not in {None, first}


async def test_simultaneous_starts_make_one_process(manager: ProcessManager) -> None:
    """Starts that cross make one process."""
    await asyncio.gather(*(manager.start(task("sleep", "61.25")) for _ in range(5)))
    mine = [child for child in psutil.Process().children(recursive=True) if child.cmdline() == ["sleep", "61.25"]]
    assert [child.pid for child in mine] == [manager.pid(URN)]


async def test_environment(manager: ProcessManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command gets the definition's env and the usual variables, but none of the hub's secrets."""
    monkeypatch.setenv("SPNHUB_INVENTORY_TOKEN", "secret")
    out = tmp_path / "out"
    code = "import os, sys; open(sys.argv[1], 'w').write('\\n'.join(sorted(os.environ)) + '\\n' + os.environ['COLOUR'])"
    await manager.start(task(*python(code, str(out)), COLOUR="blue"))
    names = await lines(out, 2)
    assert "SPNHUB_INVENTORY_TOKEN" not in names
    assert {"COLOUR", "PATH", "blue"} <= set(names)


async def test_output_is_logged(manager: ProcessManager, exits: Exits) -> None:
    """What a command writes to either stream is logged line by line, a last line without an end and all."""
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); print('x' * 5000, end='')"
    with structlog.testing.capture_logs() as logs:
        await manager.start(task(*python(code)))
        await exits.wait()
    said = [entry["line"] for entry in logs if entry["event"] == "service.output"]
    assert said == ["one", "two", "x" * 4096]


async def test_a_flood_of_output_is_bounded_and_counted(manager: ProcessManager, exits: Exits) -> None:
    """Nobody is held up by a service that says more than anybody reads, and what is missing is said."""
    with structlog.testing.capture_logs() as logs:
        await manager.start(task("sh", "-c", "yes | head -n 300000"))
        await exits.wait()
    said = [entry for entry in logs if entry["event"] == "service.output"]
    missing = sum(entry["lines"] for entry in logs if entry["event"] == "service.output_dropped")
    assert len(said) + missing == 300_000
    assert 1000 <= len(said) < 100_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", "exited with status 3"),
        ("raise SystemExit(0)", "exited with status 0"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
async def test_an_end_by_itself_is_told(manager: ProcessManager, exits: Exits, code: str, reason: str) -> None:
    """A service that ends without a stop is reported with how it ended, and can be started again."""
    await manager.start(task(*python(code)))
    assert await exits.wait() == [(URN, reason)]
    assert manager.pid(URN) is None


async def test_a_deaf_command_is_killed(exits: Exits, tmp_path: Path) -> None:
    """A command that ignores SIGTERM gets SIGKILL after the grace, its children too."""
    manager = ProcessManager(on_exit=exits, grace=0.3)
    out = tmp_path / "pids"
    code = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); child = os.fork()\n"
        "if child: open(sys.argv[1], 'w').write(f'{os.getpid()}\\n{child}\\n')\n"
        "time.sleep(60)"
    )
    await manager.start(task(*python(code, str(out))))
    pids = [int(line) for line in await lines(out, 2)]
    await manager.stop(task("unused"))
    assert all(gone(pid) for pid in pids)
    await manager.close()


async def test_a_detached_child_ends_too(manager: ProcessManager, tmp_path: Path) -> None:
    """What a service puts into a session of its own ends with it, after the service has ended by itself as well."""
    out = tmp_path / "pids"
    code = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()}\\n')\n"
        "time.sleep(60)"
    )
    await manager.start(task("sh", "-c", '"$@"; sleep 60', "sh", *python(code, str(out))))
    pid = int((await lines(out, 1))[0])
    await manager.stop(task("unused"))
    assert gone(pid)


@pytest.mark.parametrize(
    ("command", "retryable"),
    [((), False), (("/nowhere/at-all",), False), (("/etc/passwd",), False), (("sleep", "a\0b"), False)],
)
async def test_what_cannot_be_executed(manager: ProcessManager, command: tuple[str, ...], retryable: bool) -> None:
    """A command that can't be executed is an error that says so."""
    with pytest.raises(ClusterError) as caught:
        await manager.start(task(*command))
    assert caught.value.retryable == retryable
    assert (command[0] if command else "command") in caught.value.message
    assert manager.pid(URN) is None


async def test_close_ends_all(exits: Exits) -> None:
    """Closing ends every service."""
    manager = ProcessManager(on_exit=exits)
    urns = [f"{URN}{number}" for number in range(3)]
    await asyncio.gather(*(manager.start(task("sleep", "60", urn=urn)) for urn in urns))
    pids = [pid for urn in urns if (pid := manager.pid(urn)) is not None]
    await manager.close()
    assert (len(pids), [gone(pid) for pid in pids]) == (3, [True] * 3)


HUB = """
import asyncio, sys
from spnhub.clusters.process import ProcessManager
from spnhub.clusters.task import ServiceTask

async def main():
    manager = ProcessManager(grace=5)
    await manager.start(ServiceTask("urn:x", "process:", "x", command=("sh", "-c", "sleep 60 & sleep 60")))
    print(manager.pid("urn:x"), file=sys.stderr, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("victim", ["hub", "supervisor"])
async def test_dies_with_the_hub(victim: str) -> None:
    """A hub that is killed outright takes its services along; a supervisor that is killed at least the command."""
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HUB, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert hub.stderr is not None
    pid = int(await hub.stderr.readline())
    service = psutil.Process(pid)
    supervisor = service.parent()
    assert supervisor is not None
    async with asyncio.timeout(10):
        while not (children := service.children()):
            await asyncio.sleep(0.01)
    os.kill(hub.pid if victim == "hub" else supervisor.pid, signal.SIGKILL)
    await until_gone(pid)
    if victim == "hub":
        await until_gone(*(child.pid for child in children), supervisor.pid)
    else:
        hub.kill()
        for child in children:
            child.kill()
    await hub.communicate()


async def test_signals_to_the_hub_by_name_are_not_the_services(manager: ProcessManager, tmp_path: Path) -> None:
    """Its supervisor lets SIGHUP and the like pass; and the service itself begins with the system's dispositions."""
    out = tmp_path / "out"
    ours = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTOU, signal.SIGTTIN, 50)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE, signal.SIGUSR2))
    try:
        code = "import sys; open(sys.argv[1], 'w').write(open('/proc/self/status').read()); sys.stdin.read()"
        await manager.start(task("sh", "-c", '"$@"; exec sleep 60', "sh", *python(code, str(out))))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, before in ours.items():
            signal.signal(number, before)
    found = dict(line.split(":\t", 1) for line in await lines(out, 40))
    ignored, blocked_there = (
        {number for number in signal.valid_signals() if int(found[key], 16) >> number - 1 & 1}
        for key in ("SigIgn", "SigBlk")
    )
    # Python ignores these two itself. Signals of the C library's own, which nobody can set, aren't looked at.
    assert ignored <= {signal.SIGPIPE, signal.SIGXFSZ}
    assert not blocked_there
    pid = manager.pid(URN)
    assert pid is not None
    supervisor = psutil.Process(pid).parent()
    assert supervisor is not None
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        supervisor.send_signal(number)
    supervisor.send_signal(signal.SIGTERM)  # told apart from those before: this one ends it in order
    await until_gone(pid)
