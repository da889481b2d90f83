"""One of the hubs of ``spnhub --workers``: its settings come from the process that watches over it.

They are on standard input, pickled, and the end of standard input is the end of that process: then the worker stops, as
with SIGTERM. The argument is the descriptor for what is told to a service manager. Counterpart:
:mod:`spnhub.hub_workers`.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading

from spnhub import hub_process, logging, streams
from spnhub.plain_text import remember_secret
from spnhub.service_manager import service_manager

__all__ = ["main"]


def main() -> int:
    """Run it; returns the exit status."""
    streams.prepare()
    # From our own process, over a pipe that nobody else has.
    settings, secrets = pickle.load(sys.stdin.buffer)  # noqa: S301
    for secret in secrets:
        remember_secret(secret)
    service_manager.speak_to(socket.socket(fileno=int(sys.argv[1])))
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    logging.configure(settings.log_level, settings.log_format)
    try:
        return hub_process.run(settings)
    finally:
        logging.close()


def _end_with_parent() -> None:
    # Not by the buffer: a thread that waits in it keeps the interpreter from ending.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
