"""Endpoints in memory: what an agent needs of one, with streams that the test holds the other end of."""

from __future__ import annotations

import asyncio
from typing import Any

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.errors import EndpointClosed, SpnError
from tests.support.pipe_stream import PipeStream


class Told:
    """A stream's listener that only waits."""

    def __init__(self, stream: PipeStream) -> None:
        self.aborted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        stream.set_listener(self)

    def on_readable(self) -> None: ...

    def on_writable(self) -> None: ...

    def on_aborted(self, code: int, reason: str) -> None:
        self.aborted.set_result(code)

    def on_closed(self) -> None: ...


class FakeRequest:
    """A request to a provider endpoint; remembers the answer."""

    connection_uid = "ab" * 16

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

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Closed, with a result; or failed for good, with an exception."""
        self.closed = False
        self.renewals = 0
        self.connects: asyncio.Queue[asyncio.Future[Stream]] = asyncio.Queue()
        """One future for each call of connect_stream, for the test to fulfil."""
        self.requests: asyncio.Queue[FakeRequest] = asyncio.Queue()
        self.weights: list[int] = []
        self.reasons: list[str] = []
        """Why, for each of them."""
        self.weighed = asyncio.Event()
        self.all_closed = asyncio.Event()
        """The hubs' word."""

    async def renew(self) -> None:
        self.renewals += 1

    async def connect_stream(self) -> Stream:
        answer: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self.connects.put_nowait(answer)
        return await answer

    async def listen(self) -> FakeRequest:
        request = asyncio.ensure_future(self.requests.get())
        await self._unless_over(request)
        return request.result()

    async def set_weight(self, weight: int, reason: str = "") -> None:
        if self.over.done():
            raise EndpointClosed("the endpoint is closed")
        self.weights.append(weight)
        self.reasons.append(reason)
        self.weighed.set()

    async def wait_all_connections_closed(self) -> None:
        await self._unless_over(asyncio.ensure_future(self.all_closed.wait()))

    async def wait_closed(self) -> None:
        await asyncio.shield(self.over)

    async def aclose(self, drain_timeout: float) -> None:
        self.closed = True

    async def _unless_over(self, what: asyncio.Future[Any]) -> None:
        try:
            await asyncio.wait([what, self.over], return_when=asyncio.FIRST_COMPLETED)
            if not what.done():
                raise EndpointClosed("the endpoint is closed")
        finally:
            what.cancel()


class FakeSources:
    """Where an agent finds its endpoint; the test says when there is a session."""

    def __init__(self) -> None:
        self.current: FakeEndpoint | None = None
        self.established = False
        self._changed = asyncio.Event()

    def put(self, endpoint: FakeEndpoint) -> None:
        """There is a session."""
        self.current = endpoint
        self.established = True
        self._notify()

    def lose(self) -> None:
        """There is none any more."""
        self.established = False
        self._notify()

    async def wait_established(self) -> FakeEndpoint:
        while self.current is None or not self.established:
            await self._changed.wait()
        return self.current

    async def wait_lost(self) -> None:
        while self.established:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
