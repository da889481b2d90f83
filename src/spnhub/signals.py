"""How our processes handle signals: none of them ends a service silently if it may have been sent for another purpose.

Signals wait until a program knows which command it runs (:func:`hold`). A filter then has the system's own behaviour
(:func:`release`); a service handles them all (:func:`taken`):

- SIGTERM, SIGQUIT and SIGINT stop it, each in a way that the service defines.
- SIGHUP and SIGUSR1 make it read again what it was started with, if it reads anything.
- Any other that would end it by default is named in a warning, and does nothing.
- SIGTTOU and SIGTTIN don't stop it when it runs in the background of a terminal. SIGPIPE is left to Python.

SIGHUP stays ignored where it was at the start (``nohup``), and SIGQUIT (a background job of a shell without job
control). Counterparts: :mod:`spnhub.cli.start`, and the services.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Final

__all__ = ["hold", "name_of", "release", "taken"]

_STOP: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)
_RELOAD: Final = (signal.SIGHUP, signal.SIGUSR1)
_HELD: Final = frozenset({*_STOP, *_RELOAD, signal.SIGUSR2})
_TERMINAL: Final = (signal.SIGTTOU, signal.SIGTTIN)
_STAYS_IGNORED: Final = (signal.SIGHUP, signal.SIGQUIT)
_LEFT: Final = frozenset(
    {
        # They can't be caught, don't end a process, or are Python's affair; faults of the process; what was limited.
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGTSTP, signal.SIGCHLD, signal.SIGURG),
        *(*_TERMINAL, signal.SIGWINCH, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGXCPU),
        *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP, signal.SIGABRT),
    }
)
"""Those that a service does nothing about (but that its terminal doesn't stop it)."""


def hold() -> None:
    """Let those signals wait that may be sent to a service on purpose. Only at the very start: there is one thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Let them come, with what they do by default: this is a filter, as any."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def name_of(number: int) -> str:
    """``SIGUSR2``; a signal without a name by its distance from SIGRTMIN."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


@contextmanager
def taken(stop: Callable[[signal.Signals], object], reload: Callable[[], object] | None = None) -> Iterator[None]:
    """Take all signals in the running loop. Afterwards only SIGINT ends the process: it is ending anyway.

    :param stop: called in the loop with SIGTERM, SIGQUIT or SIGINT.
    :param reload: called in the loop for SIGHUP and SIGUSR1; None: there is nothing to be read again.
    """
    # Imported here, since it takes a while to load, and signals have to wait before that.
    import structlog  # noqa: PLC0415

    log = structlog.get_logger("spnhub.signals")

    def ignore(number: int) -> None:
        log.warning("signal.ignored", signal=name_of(number))

    loop = asyncio.get_running_loop()
    calls: dict[int, Callable[[], object]] = {}
    for number in sorted(signal.valid_signals() - _LEFT):
        if number in _STAYS_IGNORED and signal.getsignal(number) == signal.SIG_IGN:
            continue
        calls[number] = partial(ignore, number)
        if number in _STOP:
            calls[number] = partial(stop, signal.Signals(number))
        elif number in _RELOAD and reload is not None:
            calls[number] = reload
    # Its bytes don't say which signals came: a storm of signals fills the pipe.
    wakeup, written = _pipe()
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    loop.add_reader(wakeup, partial(_drain, wakeup))
    for caught, call in calls.items():
        signal.signal(caught, _Caught(loop, call))
        signal.siginterrupt(caught, False)
    for unwanted in _TERMINAL:
        signal.signal(unwanted, signal.SIG_IGN)
    release()
    try:
        yield
    finally:
        for caught in calls:
            signal.signal(caught, signal.SIG_IGN)
        loop.remove_reader(wakeup)
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@cache
def _pipe() -> tuple[int, int]:
    """Python writes into it at every signal, so that the loop wakes.

    It is there for the rest of the process, unlike the one that the loop would have. The kernel gives a signal to any
    thread, and that thread may be about to write when the main thread ends the handling: it would find the pipe closed,
    or full with nobody left who accepts that, and Python would print a fault.
    """
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def _drain(wakeup: int) -> None:
    with suppress(BlockingIOError):
        os.read(wakeup, 65_536)


class _Caught:
    """Calls in the loop for a signal; once for all that came before the loop came to it, as the kernel has it.

    Signals that come in a storm interrupt the handler itself: each time it does more than this, its calls would lie one
    upon the other until there is no room for them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
        self._loop = loop
        self._call = call
        self._waiting = False

    def __call__(self, _number: int, _frame: object) -> None:
        if not self._waiting:
            self._waiting = True
            self._loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._waiting = False
        self._call()
