"""The HTTP of a running hub: ``/``, ``/healthz``, ``/readyz``, ``/metrics``, ``/state``, ``/incidents`` and schemas.

It runs in the hub's own loop, so every answer is bounded work: counts are kept, text is made in a thread, the state is
streamed in pieces. Counterparts: :mod:`spnhub.hub_process.process`, :mod:`spnhub.ops.state`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from spnhub.exposition import CONTENT_TYPE, text
from spnhub.ops.expiry import CertificateEnd, RevocationAge
from spnhub.ops.front import FRONT_HEADERS, front_page
from spnhub.ops.incidents import HubIncidents
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.registry import registry_routes
from spnhub.ops.state import Progress, Snapshot, stream

__all__ = ["Ops"]


_AT_ONCE: Final = 4
"""Answers that cost time or memory in proportion to what the hub holds: further ones are refused meanwhile."""


class Ops:
    """The answers.

    :param ready: whether packets are taken.
    :param snapshot: what the hub holds now; costs time in proportion to it.
    :param progress: how far its events have come; costs none.
    :param metrics: kept by the hub.
    :param dropped: log lines that whoever reads them was too slow for.
    :param faults: exceptions in the hub's own code so far, by where they were caught.
    :param ends: when certificates expire.
    :param lists: revocation lists.
    :param incidents: since the hub's start.
    :param console: URL of a console that shows this hub, to be linked to; None: there is none.
    :param actors: how many there are, of sessions and connections.
    :param sessions: when the first certificate of a network's live sessions expires, by its URN.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        snapshot: Callable[[], Snapshot],
        progress: Callable[[], Progress],
        metrics: HubMetrics,
        dropped: Callable[[], int],
        faults: Callable[[], Mapping[str, int]] = dict,
        ends: Callable[[], tuple[CertificateEnd, ...]] = tuple,
        lists: Callable[[], tuple[RevocationAge, ...]] = tuple,
        incidents: Callable[[], HubIncidents] = HubIncidents,
        console: str | None = None,
        actors: Callable[[], int] = int,
        sessions: Callable[[], Mapping[str, datetime]] = dict,
    ) -> None:
        self._ready = ready
        self._snapshot = snapshot
        self._progress = progress
        self._metrics = metrics
        self._dropped = dropped
        self._faults = faults
        self._ends = ends
        self._lists = lists
        self._incidents = incidents
        self._front = front_page(console)
        self._actors = actors
        self._sessions = sessions
        self._dear = 0
        """Dear answers that are being given."""

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._get_front),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._bounded(self._get_metrics)),
                Route("/state", self._bounded(self._state)),
                Route("/incidents", self._bounded(self._get_incidents)),
                *registry_routes(),
            ]
        )

    def _bounded(self, make: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The same answers, so many at a time; one counts until its client has read it, or has gone."""

        async def answer(request: Request) -> Response:
            if self._dear >= _AT_ONCE:
                return PlainTextResponse("busy with others\n", 503, {"Retry-After": "1"})
            return _Counted(make, request, self._count)

        return answer

    def _count(self, change: int) -> None:
        self._dear += change

    async def _get_front(self, _request: Request) -> Response:
        return HTMLResponse(self._front, headers=FRONT_HEADERS)

    async def _get_incidents(self, request: Request) -> Response:
        of_log = request.query_params.get("of") != "hub"
        return StreamingResponse(self._incidents().stream(of_log=of_log), media_type="application/json")

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        if not self._ready():
            return PlainTextResponse("packets are not taken\n", 503)
        if (error := self._progress().error) is not None:
            return PlainTextResponse(f"the journal can't be written: {error}\n", 503)
        return PlainTextResponse("ready\n")

    async def _get_metrics(self, _request: Request) -> Response:
        progress = self._progress()
        facts: dict[str, tuple[str, float]] = {
            "spnhub_ready": ("Whether the hub takes packets.", float(self._ready())),
            "spnhub_journal_sequence": ("Sequence number of the last event.", progress.appended),
            "spnhub_journal_lag_events": (
                "Events that the journal has not written yet.",
                progress.appended - progress.written,
            ),
            "spnhub_journal_failing": ("Whether the journal can't be written.", float(progress.error is not None)),
            "spnhub_journal_bytes": ("Bytes of the journal.", progress.size),
            "spnhub_actors": ("Actors of sessions and connections.", self._actors()),
            "spnhub_tasks": ("Tasks of the hub's event loop.", len(asyncio.all_tasks())),
            "spnhub_clock_steps_total": (
                "Steps of the wall clock by more than a second, and times for which the host was suspended.",
                progress.clock_steps,
            ),
            "spnhub_clock_behind_seconds": (
                "By which the clock was set behind the last event: for so long the times of events stand still.",
                round(progress.ahead, 3),
            ),
            "spnhub_output_dropped_lines_total": (
                "Log lines that standard output didn't take in time.",
                self._dropped(),
            ),
        }
        if progress.limit is not None:
            facts["spnhub_journal_limit_bytes"] = (
                "Bytes of the journal beyond which its oldest events go, shipped or not.",
                progress.limit,
            )
        if progress.shipper is not None:
            lag = max(0, progress.written - progress.shipper.position)
            facts["spnhub_shipper_lag_events"] = ("Events that are in the journal and not yet in Kafka.", lag)
            faults = len(progress.shipper.topic_faults)
            facts["spnhub_shipper_topic_faults"] = (
                "Settings of the topic that may lose or refuse events.",
                float(faults),
            )
            up = progress.shipper.state in {"connected", "shipped"}
            facts["spnhub_shipper_up"] = ("Whether Kafka takes events.", float(up))
        frozen = self._metrics.freeze(facts, self._faults(), self._ends(), self._lists(), self._sessions())
        return Response(await asyncio.to_thread(text, frozen), media_type=CONTENT_TYPE)

    async def _state(self, request: Request) -> Response:
        certificates = request.query_params.get("certificates") in {"1", "true"}
        return StreamingResponse(stream(self._snapshot(), certificates=certificates), media_type="application/json")


class _Counted(Response):
    """An answer that is made and sent at once, and told of before and after."""

    def __init__(
        self, make: Callable[[Request], Awaitable[Response]], request: Request, count: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._make = make
        self._request = request
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._count(1)
        try:
            await (await self._make(self._request))(scope, receive, send)
        finally:
            self._count(-1)
