"""Journal to Kafka, as a process of its own: ``python -m spnhub.events.shipper.shipper``.

It reads :class:`~spnhub.events.kafka.settings.ShipperSettings` as one JSON line from standard input, says what it does
as :class:`~spnhub.events.kafka.settings.ShipperStatus` lines on standard output, and when standard input ends (its
parent is gone, or wants it to go) it ships what is there for a bounded time and leaves. Signals don't end it, so that
one meant for the hub doesn't cut the end of the log off.

Counterparts: :mod:`spnhub.events.shipper.process` (the hub's side), :mod:`spnhub.events.shipper.loop` (the work).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress

from spnhub.events.kafka.settings import KafkaSettingsError, ShipperSettings, ShipperStatus
from spnhub.events.kafka.topic import client_arguments
from spnhub.events.shipper.loop import Shipper

__all__ = ["main"]

_DEAF_TO = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
)
"""Meant for the hub, and sent to all of its processes by their name, their control group or their terminal."""


def _print(status: ShipperStatus) -> None:
    with suppress(BrokenPipeError):  # the hub is gone; the rest is shipped all the same
        sys.stdout.write(status.to_json() + "\n")
        sys.stdout.flush()


async def _main(settings: ShipperSettings) -> None:
    loop = asyncio.get_running_loop()
    # Futures of an abandoned producer fail while nothing awaits them.
    loop.set_exception_handler(lambda _loop, _context: None)
    left = asyncio.Event()

    def watch() -> None:
        # Not through sys.stdin: a thread inside its lock is fatal when the interpreter ends by an exception.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(left.set)

    threading.Thread(target=watch, daemon=True).start()
    await Shipper(settings, left, _print).run()


def main() -> int:
    """The process. Exit status 0 after it left in order, 2 for unusable settings, 1 for a failure."""
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    try:
        settings = ShipperSettings.from_json(sys.stdin.buffer.readline().decode())
        client_arguments(settings.kafka)
    except KafkaSettingsError as exc:
        sys.stderr.write(f"shipper: {exc}\n")
        return 2
    asyncio.new_event_loop().run_until_complete(_main(settings))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Not sys.exit: aiokafka's left-over tasks and the thread at standard input would be waited for.
    os._exit(status)
