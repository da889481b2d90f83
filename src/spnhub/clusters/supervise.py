"""The process between the hub and one service of ``process:``: sees that the service's process group ends.

Run as a script, with nothing but the standard library, so that it starts in a few milliseconds. The hub holds the other
end of its standard input: when that closes, for a stop or because the hub died in whatever way, the group gets SIGTERM
and, after the grace, SIGKILL. Orphans of the group are adopted, so that they are reaped and their end is seen; should
this process be killed itself, the kernel kills the service.

Arguments: the file descriptor for one line of status (``started {pid}`` or ``failed {reason}``), the grace in seconds,
then the command. The exit status is the service's, 128 and the number of the signal that ended it.
Counterpart: :mod:`spnhub.clusters.process`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MEANT_FOR_THE_HUB = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Sent to all of its processes by their name or their control group."""
_CAUGHT_BY_NOBODY = frozenset({signal.SIGKILL, signal.SIGSTOP})


def main(status_fd: int, grace: float, command: list[str]) -> int:
    """Run ``command`` until it ends or standard input does."""
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    # Handlers, which the service doesn't inherit.
    for number in (signal.SIGCHLD, *_MEANT_FOR_THE_HUB):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, stop)
    prctl = _prctl()
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        service = ServiceProcess(command, prctl)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _report(status_fd, f"failed {error}")
        return 127
    _report(status_fd, f"started {service.pid}")

    while not stopping and service.runs():
        readable, _, _ = select.select([0, wake], [], [])
        if 0 in readable and not os.read(0, 512):
            stopping = True
        _drain(wake)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        service.signal(number)
        while service.anything_lives() and (left := deadline - time.monotonic()) > 0:
            # The end of processes that aren't this one's children isn't reported: check again now and then.
            select.select([wake], [], [], min(left, 0.1))
            _drain(wake)
            if number == signal.SIGKILL:
                # Killing a process hands its children over to this one.
                service.signal(number)
        if not service.anything_lives():
            break
    return service.status


class ServiceProcess:
    """The command, its process group, and what of it fled from the group and was adopted here."""

    def __init__(self, command: list[str], prctl: _prctl) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the definition's command is what runs
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # Safe here as this process has no threads.
            preexec_fn=lambda: _prepare(prctl),  # noqa: PLW1509
        )
        self.pid = self._process.pid
        self.status = 128 + signal.SIGKILL
        """Exit status of the command; until it is known, that of one that had to be left."""

    def runs(self) -> bool:
        """Whether the command itself runs."""
        self._reap()
        return self._process.returncode is None

    def anything_lives(self) -> bool:
        """Whether it, one of its group, or an adopted process does."""
        if self.runs() or self._adopted():
            return True
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self._adopted():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _adopted(self) -> list[int]:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:  # noqa: PTH123
                return [pid for pid in map(int, file.read().split()) if pid != self.pid]
        # Not Linux, or a kernel without this list.
        except OSError:
            return []

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self.pid:
                    code = os.waitstatus_to_exitcode(ended[1])
                    self._process.returncode = code
                    self.status = 128 - code if code < 0 else code


def _prepare(prctl: _prctl) -> None:
    """In the service's process, before its program."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # A program inherits what is ignored and what is blocked, from the hub and from whatever started that. With SIGPIPE
    # blocked, for one, `yes | head` never ends in silence.
    for number in signal.valid_signals() - _CAUGHT_BY_NOBODY:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _drain(wake: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(wake, 512):
            pass


def _report(status_fd: int, line: str) -> None:
    # The hub may be gone already.
    with contextlib.suppress(OSError):
        os.write(status_fd, line.replace("\n", " ").encode("utf-8", "replace")[:1000] + b"\n")
        os.close(status_fd)


class _prctl:  # noqa: N801 - named as the call
    """prctl(2), where there is one."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def __call__(self, option: int, value: int) -> None:
        if self._library is not None:
            self._library.prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
