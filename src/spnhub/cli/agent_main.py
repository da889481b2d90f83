"""Where ``spnagent`` begins: before what takes its time to be imported, signals that ask for nothing yet."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> int:
    """Entry point of ``spnagent``; returns the exit status."""
    # A reload is asked for by who has changed a file; nothing has been read so far. A function, not SIG_IGN, which
    # programs started by this one would inherit.
    signal.signal(signal.SIGHUP, lambda *_: None)
    from spnhub.cli.agent import main as run  # noqa: PLC0415 - that is what takes its time

    return run()
