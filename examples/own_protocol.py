"""A protocol of asyncio's in place of streams, as servers of others have."""

import asyncio

import spnhub


class Reverse(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.found = b""

    def data_received(self, data: bytes) -> None:
        self.found += data

    def eof_received(self) -> None:
        self.transport.write(self.found[::-1])


async def main() -> None:
    async with await spnhub.create_provider_endpoint(**spnhub.from_environment()) as endpoint:
        while True:
            request = await endpoint.listen()
            try:
                await request.accept_protocol(Reverse())
            except spnhub.ConnectionAborted as error:  # it went away before: the next one is there
                print("gone:", error)


if __name__ == "__main__":
    asyncio.run(main())
