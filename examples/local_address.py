"""A service behind an address of this host, for clients that make their own sockets: the consumer's agent inside.

So asyncpg (``host=address.host, port=address.port``), aiohttp, redis and all others use a service.
"""

import asyncio

import spnhub


async def main() -> None:
    async with spnhub.listen("127.0.0.1:0") as [address]:
        assert isinstance(address, tuple)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"over a local address")
        writer.write_eof()
        print((await reader.read()).decode())
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
