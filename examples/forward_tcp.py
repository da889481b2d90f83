"""A TCP server, unchanged, behind a service: the provider's agent inside a program."""

import asyncio

import spnhub


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"by TCP: " + await reader.read())
    writer.close()


async def main() -> None:
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        await spnhub.forward(f"{host}:{port}")


if __name__ == "__main__":
    asyncio.run(main())
