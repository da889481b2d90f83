"""CPU time of processes and of their threads, as the scheduler counts it (Linux)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import psutil

__all__ = ["Waits", "children", "cpu", "main_thread_cpu", "process_cpu", "waits"]


def cpu(pid: int) -> float:
    """CPU seconds so far of the threads that a process has now."""
    return sum(_ran(thread) for thread in Path(f"/proc/{pid}/task").iterdir())


def process_cpu(pid: int) -> float:
    """CPU seconds so far of a process with the threads that it had and has; 0.0 if it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives
    except OSError:
        return 0.0


class Waits(NamedTuple):
    """For how long a thread that had something to do has waited for a core, and how often it was given one."""

    seconds: float
    times: int

    def mean_since(self, before: Waits) -> float:
        """Seconds each time."""
        return (self.seconds - before.seconds) / max(self.times - before.times, 1)


def waits(pid: int) -> Waits:
    """Of its main thread so far."""
    _, waited, times = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return Waits(int(waited) / 1e9, int(times))


def main_thread_cpu(pid: int) -> float:
    """CPU seconds of its main thread so far."""
    return _ran(Path(f"/proc/{pid}/task/{pid}"))


def _ran(thread: Path) -> float:
    # Nanoseconds; those of /proc/PID/stat are in hundredths of a second.
    return int((thread / "schedstat").read_text().split()[0]) / 1e9


def children(pid: int) -> list[int]:
    """Processes that it has started and that run."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
