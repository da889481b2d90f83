"""A consumer: one connection, a question and its answer."""

import asyncio

import spnhub


async def main() -> None:
    async with await spnhub.create_consumer_endpoint(**spnhub.from_environment()) as endpoint:
        reader, writer = await endpoint.connect()
        writer.write(b"hello")
        writer.write_eof()
        print((await reader.read()).decode())
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
