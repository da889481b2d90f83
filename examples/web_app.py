"""An ASGI application as a service: Starlette here, FastAPI and others alike."""

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import spnhub


async def greet(request: Request) -> PlainTextResponse:
    assert request.client is not None
    # The consumer's verified subject stands where an address stands otherwise.
    return PlainTextResponse(f"{request.method} by {request.client.host}: {(await request.body()).decode()}")


app = Starlette(routes=[Route("/", greet, methods=["GET", "POST"])])


async def main() -> None:
    await spnhub.serve(app)


if __name__ == "__main__":
    asyncio.run(main())
