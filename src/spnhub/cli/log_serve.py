"""``spnlog serve``: numbers for Prometheus. Counterpart: :mod:`spnhub.analytics.serve`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import typer

from spnhub.cli.log_reading import Json, Sources, run
from spnhub.cli.options import Reader, takes
from spnhub.options import UnusableOption, option, parse_address

__all__ = ["serve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Of one ``spnlog serve``."""

    listen: tuple[str, int] = option(
        ("127.0.0.1", 9700),
        "Where numbers are served over HTTP; port 0: any that is free.",
        group="Serving",
        metavar="HOST:PORT",
        parse=parse_address,
        default_text="127.0.0.1:9700",
    )
    consumer_group: str = option(
        "spnlog",
        "Kafka's consumer group: its members share the partitions.",
        group="Serving",
        flag="group",
    )

    def __post_init__(self) -> None:
        if not self.consumer_group.strip():
            raise UnusableOption("consumer_group", " is empty")


@takes(ServeSettings, "SPNLOG_")
def serve(_: typer.Context, read: Reader[ServeSettings], sources: Sources, as_json: Json = False) -> int:
    """Follow the log and serve its numbers to Prometheus, until interrupted."""
    from spnhub import logging, signals  # noqa: PLC0415 - these take a while to load
    from spnhub.analytics import serve as analytics  # noqa: PLC0415
    from spnhub.transport.faults import Faults  # noqa: PLC0415
    from spnhub.transport.system.descriptors import raise_limit  # noqa: PLC0415

    settings = read()
    logging.configure("info", "json" if as_json else None)
    raise_limit()
    follows = analytics.follower(sources, settings.consumer_group)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
        stop = asyncio.Event()
        with signals.taken(lambda _: stop.set()):
            await analytics.serve(follows, *settings.listen, stop)

    return run(main)
