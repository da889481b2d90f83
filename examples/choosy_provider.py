"""A provider that decides about each connection, by the verified subject of its consumer."""

import asyncio

import spnhub

ALLOWED = {"CN=somebody-else"}


async def answer(request: spnhub.ConnectionRequest) -> None:
    if request.peer not in ALLOWED:
        await request.reject(spnhub.Code.NOT_ALLOWED, f"{request.peer} is not on the list")
        return
    _, writer = await request.accept()
    writer.write(b"welcome")
    writer.close()


async def main() -> None:
    async with (
        await spnhub.create_provider_endpoint(**spnhub.from_environment()) as endpoint,
        asyncio.TaskGroup() as group,
    ):
        while True:
            group.create_task(answer(await endpoint.listen()))


if __name__ == "__main__":
    asyncio.run(main())
