"""What a second worker brings: hubs that may each use a part of a core, one and then two (``spnhub --workers``).

On a machine whose cores agents and clients need themselves, no hub is ever what limits. Here each worker gets so
little of a core, from the kernel, that it is; so what two carry over what one does is what a second core would bring.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

from tests.bench.harness import Result
from tests.bench.tunnel import load, stop, target
from tests.support.world import World

__all__ = ["workers"]

_SHARE: Final = 0.12
"""Of a core, each worker."""
_PERIOD: Final = 10_000
"""Microseconds in which each gets its share: short, so that it isn't away for long."""
_HOSTS: Final = ("127.0.0.1", "127.0.0.2")
_LOADS: Final = {
    "20 transfers": ("bulk", {"count": 20}, "MB_s", "MB/s"),
    "open, echo, close, 50 at once": ("opens", {"at_once": 50}, "per_s", "1/s"),
}


async def workers(quick: bool) -> AsyncIterator[Result]:
    """Each load through one worker and through two, in turns; nothing where the kernel gives no shares."""
    folder = _groups()
    if folder is None:
        return
    rounds = 1 if quick else 3
    seen: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in (1, 2):
            for name, rate in (await _rates(folder, count, 1.0 if quick else 5.0)).items():
                seen.setdefault((name, count), []).append(rate)
    for name, (*_, unit) in _LOADS.items():
        one, two = (statistics.median(seen[name, count]) for count in (1, 2))
        yield Result(f"{name}, a worker with {_SHARE:.0%} of a core", one, unit)
        yield Result(f"{name}, two of them", two, unit, detail=f"{two / one:.2f} times one")


async def _rates(groups: Path, count: int, seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with target() as server, World(Path(folder), fork=False) as world:
            hub = await world.start_hub("--workers", str(count), host=",".join(_HOSTS[:count]))
            pids = [hub.pid]
            if count > 1:
                await hub.line("workers.ready")
                pids = [line["pid"] for line in hub.said("worker.started")]
            env = {"SPN_HUB_ADDRESSES": ",".join(_HOSTS[:count])}
            provider = await world.start_provider(server, env=env)
            consumer = await world.start_consumer(env=env)
            for agent in (provider, consumer.command):
                await agent.wait_lines("session.established", count)
            with ExitStack() as stack:
                for pid in pids:
                    stack.enter_context(_limited(pid, groups))
                found = {}
                for name, (kind, options, figure, _) in _LOADS.items():
                    await load(consumer.address, kind, seconds=0.5, **options)
                    found[name] = (await load(consumer.address, kind, seconds=seconds, **options))[figure]
            await stop(world, consumer, provider)
            return found


@cache
def _groups() -> Path | None:
    """Where groups of processes are made to which the kernel gives a share of CPU time; None: not by us."""
    for folder in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")):
        with subprocess.Popen(["sleep", "60"]) as process:
            try:
                with _limited(process.pid, folder):
                    return folder
            except OSError:  # none of this kind, or not for us
                continue
            finally:
                process.kill()
    return None


@contextlib.contextmanager
def _limited(pid: int, folder: Path) -> Iterator[None]:
    """Let a process have its share of a core.

    :raises OSError: the kernel won't.
    """
    group, quota = folder / f"spnhub-bench-{pid}", round(_SHARE * _PERIOD)
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            raise FileNotFoundError(group / "cpu.max")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(OSError):  # it has ended
            (folder / "cgroup.procs").write_text(str(pid))
        group.rmdir()
