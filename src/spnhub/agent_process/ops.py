"""The HTTP of running agents: ``/healthz``, ``/readyz``, ``/metrics``, ``/status``.

Every answer costs time in proportion to the agents and their open connections. Counterparts:
:mod:`spnhub.http_server` bounds who asks, :mod:`spnhub.agent_process.status` has what is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spnhub import logging
from spnhub.agent_process.host import Slot
from spnhub.agent_process.status import look, numbers, to_json
from spnhub.exposition import CONTENT_TYPE, text

__all__ = ["AgentOps"]


class AgentOps:
    """The answers.

    :param slots: the places of the agents that there are now.
    """

    def __init__(self, slots: Callable[[], list[Slot]]) -> None:
        self._slots = slots

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/status", self._status),
            ]
        )

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _request: Request) -> Response:
        """Every agent has a session, and the servers that are checked are healthy."""
        faults = [f"{slot.name or 'agent'}: {fault}\n" for slot in self._slots() if (fault := slot.fault) is not None]
        return PlainTextResponse("".join(faults), 503) if faults else PlainTextResponse("ready\n")

    async def _metrics(self, _request: Request) -> Response:
        frozen = list(numbers([look(slot) for slot in self._slots()], logging.dropped()))
        return Response(await asyncio.to_thread(text, frozen), media_type=CONTENT_TYPE)

    async def _status(self, _request: Request) -> Response:
        return JSONResponse(to_json([look(slot) for slot in self._slots()]))
