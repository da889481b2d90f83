"""``spnlog serve``: numbers for Prometheus. Counterpart: :mod:`spnhub.analytics.serve`."""

from __future__ import annotations

import asyncio
from typing import Final

import typer

from spnhub.cli.log_reading import Sources, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader

__all__ = ["serve"]

_ADDRESS: Final = ("127.0.0.1", 9700)


@takes_log_options("listen", "hosts", "token", "consumer_group")
def serve(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Follow the log and serve its numbers to Prometheus, until interrupted."""
    from spnhub import logging, signals  # noqa: PLC0415 - these take a while to load
    from spnhub.analytics import serve as analytics  # noqa: PLC0415
    from spnhub.transport.faults import Faults  # noqa: PLC0415
    from spnhub.transport.system.descriptors import raise_limit  # noqa: PLC0415

    settings = settings_of()
    logging.configure("info", "json" if settings.as_json else None)
    raise_limit()
    follows = analytics.follower(sources, settings.consumer_group)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
        stop = asyncio.Event()
        with signals.taken(lambda _: stop.set()):
            await analytics.serve(
                follows, *(settings.listen or _ADDRESS), stop, names=settings.hosts, token=settings.token
            )

    return run(main)
