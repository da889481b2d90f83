"""Endpoints in memory: what an agent needs of one, with streams that the test holds the other end of."""

from __future__ import annotations

import asyncio
from typing import Any

from spnhub.actors.codes import Code
from spnhub.transport.endpoint.stream import Stream
from spnhub.transport.errors import EndpointClosed, SpnError, Unsupported
from tests.support.pipe_stream import PipeStream


class FakeRequest:
    """A request to a provider endpoint; remembers the answer."""

    def __init__(self, stream: PipeStream) -> None:
        self._stream = stream
        self.answer: asyncio.Future[tuple[Code, str]] = asyncio.get_running_loop().create_future()
        self.gone: SpnError | None = None

    async def accept_stream(self) -> Stream:
        if self.gone is not None:
            raise self.gone
        self.answer.set_result((Code.OK, ""))
        return self._stream

    async def reject(self, code: Code, reason: str) -> None:
        self.answer.set_result((code, reason))


class FakeEndpoint:
    """Consumer and provider endpoint at once. Ends when the test says so."""

    def __init__(self, session_id: str = "01") -> None:
        self.session_id = session_id
        self.ended: asyncio.Future[SpnError | None] = asyncio.get_running_loop().create_future()
        self.closed = False
        self.connects: asyncio.Queue[asyncio.Future[Stream]] = asyncio.Queue()
        """One future for each call of connect_stream, for the test to fulfil."""
        self.requests: asyncio.Queue[FakeRequest] = asyncio.Queue()
        self.weights: list[int] = []
        self.reads_weights = True
        self.all_closed = asyncio.Event()
        """The hub's word."""

    async def connect_stream(self) -> Stream:
        answer: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self.connects.put_nowait(answer)
        return await answer

    async def listen(self) -> FakeRequest:
        request = asyncio.ensure_future(self.requests.get())
        waiting: list[asyncio.Future[Any]] = [request, self.ended]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if request.done():
            return request.result()
        request.cancel()
        raise EndpointClosed("the session is over")

    async def set_weight(self, weight: int) -> None:
        if not self.reads_weights:
            raise Unsupported("an old hub")
        if self.ended.done():
            raise EndpointClosed("the session is over")
        self.weights.append(weight)

    async def wait_all_connections_closed(self) -> None:
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.all_closed.wait()), self.ended]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        if self.ended.done():
            raise EndpointClosed("the session is over")

    async def wait_ended(self) -> SpnError | None:
        return await asyncio.shield(self.ended)

    async def aclose(self, drain_timeout: float) -> None:
        self.closed = True


class FakeSources:
    """Where an agent finds its session; the test puts it there."""

    def __init__(self) -> None:
        self.current: FakeEndpoint | None = None
        self._changed = asyncio.Event()

    def put(self, endpoint: FakeEndpoint | None) -> None:
        self.current = endpoint
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, other_than: FakeEndpoint | None = None) -> FakeEndpoint:
        while self.current is None or self.current is other_than:
            await self._changed.wait()
        return self.current
