"""Where the three commands begin: signals wait until the program can take them, and PID 1 does what init does.

A container's first process gets every orphan of the container, and has to reap them; and signals do nothing to it by
default. So there the program runs as a child of the first process. The program has no children but its own, and gets
their exit statuses; the first process passes signals on, reaps orphans, and ends with the program's status.

Nothing is imported here that takes time: a signal that comes before :func:`spnhub.signals.hold` ends the process.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from spnhub.signals import hold

__all__ = ["agent", "hub", "importing", "load", "log", "worker"]


def hub() -> int:
    """Entry point of ``spnhub``; returns the exit status."""
    return _run("spnhub.cli.hub")


def agent() -> int:
    """Entry point of ``spnagent``; returns the exit status."""
    return _run("spnhub.cli.agent")


def log() -> int:
    """Entry point of ``spnlog``; returns the exit status."""
    return _run("spnhub.cli.log")


def worker() -> int:
    """Entry point of one of the hubs of ``spnhub --workers``; returns the exit status."""
    return _run("spnhub.cli.worker")


def _run(module: str) -> int:
    hold()
    if os.getpid() == 1:
        _leave_init_behind()
    with importing():
        load()
        main: Callable[[], int] = import_module(module).main
    return main()


@contextmanager
def importing() -> Iterator[None]:
    """Within it much is imported: nothing is collected, and what is there afterwards isn't looked through again.

    Nearly all of it stays. To look through it every few hundred classes takes a fifth of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load() -> None:
    """Import two libraries without what they would load beside them and we don't use."""
    # rich is for coloured tracebacks, which we don't print: half of structlog's time.
    _load("structlog", without="rich")
    # cramjam is for compressed Avro files, of which we read and write none: 1.6 MiB.
    _load("spnhub.schemas.codec", without="cramjam")


def _load(name: str, *, without: str) -> None:
    """Import a module without a library that something in it imports where it finds it.

    Only in processes of our own: a program that uses the library may want it.
    """
    if without in sys.modules:
        return
    # So Python says that a module isn't there.
    sys.modules[without] = None  # type: ignore[assignment]
    try:
        import_module(name)
    finally:
        del sys.modules[without]


def _leave_init_behind() -> None:
    """Go on in a child of this process, which is its init."""
    # All signals: each is passed on, or reports a child's end.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = os.fork()
    except OSError:
        # No room for a second process: this one goes on as the program, without an init.
        child = 0
    if child:
        os._exit(_be_init(child))
    # A group of its own, in the terminal's foreground: Ctrl-C reaches it once, not by its parent, too. Nobody could
    # continue it after a Ctrl-Z.
    with suppress(OSError):
        foreground = os.tcgetpgrp(0) == os.getpgrp()
        os.setpgid(0, 0)
        if foreground:
            os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_init(child: int) -> int:
    """Pass signals on to ``child`` and reap whatever ends, until it does; its exit status, as a shell has it."""
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return 128 - code if code < 0 else code
