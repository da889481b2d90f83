"""Follows the event log and answers over HTTP: ``/metrics``, ``/healthz`` and ``/readyz``.

A Kafka topic is followed as a member of a consumer group; journals are followed together, as one log, by one process.
Counterparts: :mod:`spnhub.cli.log_serve` (the command), :mod:`spnhub.analytics.totals`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spnhub.analytics.totals import Place, Total
from spnhub.events.analysis.merge import LogKey, Missing, follow, merge
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.analysis.source import open_source
from spnhub.events.kafka.settings import KafkaSettings, KafkaSettingsError, parse_kafka_url
from spnhub.exposition import CONTENT_TYPE, text
from spnhub.extras import MissingExtra, check_extra
from spnhub.http_server import HttpServer
from spnhub.settings import SettingsError

__all__ = ["Follower", "follower", "serve"]

_log = structlog.get_logger("spnhub.serve")


def _report(level: str, event: str, **facts: object) -> None:
    getattr(_log, level)(event, **facts)


class Follower(Protocol):
    """Folds what comes, for ever."""

    @property
    def ready(self) -> bool:
        """Whether what was there at the start is taken in."""
        ...

    def total(self) -> Total:
        """The numbers now."""
        ...

    async def run(self) -> None:
        """Follow; ends with an error, or never."""
        ...


class _Group:
    """Of a topic."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        from spnhub.events.kafka.group import KafkaGroup  # noqa: PLC0415 - who follows journals may not have aiokafka

        self._group = KafkaGroup(settings, group, partial(LogMetrics, since_start=True), _report)

    @property
    def ready(self) -> bool:
        return self._group.ready

    def total(self) -> Total:
        followed = sorted(self._group.followed.values(), key=lambda one: one.number)
        places = [
            Place(
                str(one.number),
                one.ready,
                one.position,
                max(0, one.end - one.position),
                one.delay,
                one.redelivered,
                one.unreadable,
            )
            for one in followed
        ]
        return Total((one.fold for one in followed if one.ready), places)

    async def run(self) -> None:
        await self._group.run()


class _Journals:
    """Of journals, read together: a connection may have legs in several."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._fold = LogMetrics(since_start=True)
        self._events = 0
        self._redelivered = 0
        self._delay = 0.0
        self.ready = False

    def total(self) -> Total:
        place = Place("journal", self.ready, self._events, 0, self._delay, self._redelivered, 0)
        return Total([self._fold] if self.ready else [], [place])

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            sources = [await stack.enter_async_context(open_source(name)) for name in self._names]
            seen: dict[LogKey, Missing] = {}
            async for _, recorded in merge(sources, seen=seen):
                self._fold.apply(recorded)
                self._events += 1
                if self._events % 1000 == 0:
                    await asyncio.sleep(0)
            self.ready = True
            _log.info("serve.caught_up", events=self._events)
            async for _, recorded in follow(sources, seen):
                self._redelivered += not self._fold.apply(recorded)
                self._events += 1
                self._delay = max(0.0, time.time() - recorded.timestamp / 1_000_000)


def follower(names: Sequence[str], group: str) -> Follower:
    """What follows these sources.

    :raises SettingsError: they can't be followed together.
    """
    topics = [name for name in names if name.startswith("kafka://")]
    if not topics:
        return _Journals(names)
    if len(names) > 1:
        raise SettingsError("serve follows one Kafka topic, or journals: not both, since events would count twice")
    try:
        check_extra("kafka")
        return _Group(parse_kafka_url(topics[0], **KafkaSettings.security_from(os.environ)), group)
    except (KafkaSettingsError, MissingExtra) as exc:
        raise SettingsError(f"source {topics[0]}: {exc}") from exc


async def serve(
    follows: Follower,
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    names: Iterable[str] = (),
    token: str | None = None,
) -> None:
    """Follow and answer until ``stop``.

    :param names: by which it may be called, beside the host's.
    :param token: that requests for the numbers must bring.

    :raises SettingsError: the address can't be had.
    """
    server = HttpServer(_application(follows), "--listen", names=names, names_option="--host", token=token)
    await server.answer_while(host, port, follows.run, stop, lambda url: _log.info("serve.ready", url=f"{url}/metrics"))
    _log.info("serve.stopped")


def _application(follows: Follower) -> Starlette:
    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        if follows.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("still reading what is there\n", 503)

    async def metrics(_request: Request) -> Response:
        return Response(await asyncio.to_thread(text, follows.total().metrics()), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])
