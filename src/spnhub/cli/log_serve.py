"""``spnlog serve``: numbers for Prometheus. Counterpart: :mod:`spnhub.analytics.serve`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from spnhub.cli.log_reading import Json, Sources, run
from spnhub.settings import ConfigurationError, split_address

__all__ = ["serve"]


def serve(
    sources: Sources,
    listen: Annotated[
        str, typer.Option("--listen", envvar="SPNLOG_LISTEN", help="HOST:PORT of HTTP; port 0: any that is free.")
    ] = "127.0.0.1:9700",
    group: Annotated[
        str, typer.Option("--group", envvar="SPNLOG_GROUP", help="Consumer group: its members share the partitions.")
    ] = "spnlog",
    as_json: Json = False,
) -> int:
    """Follow the log and serve its numbers to Prometheus, until interrupted."""
    from spnhub import logging, signals  # noqa: PLC0415 - these take a while to load
    from spnhub.analytics import serve as analytics  # noqa: PLC0415
    from spnhub.transport.faults import Faults  # noqa: PLC0415
    from spnhub.transport.system.descriptors import raise_limit  # noqa: PLC0415

    host, port = split_address(listen, "--listen")
    if not group.strip():
        raise ConfigurationError("--group is empty")
    logging.configure("info", "json" if as_json else None)
    raise_limit()
    follows = analytics.follower(sources, group)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
        stop = asyncio.Event()
        with signals.taken(lambda _: stop.set()):
            await analytics.serve(follows, host, port, stop)

    return run(main)
