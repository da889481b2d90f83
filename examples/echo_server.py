"""A service of streams, in one line: what comes goes back in capitals."""

import asyncio

import spnhub


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()


async def main() -> None:
    # Hub, service and certificates: SPN_HUB_URL, SPN_SERVICE_URN, SPN_CERTIFICATE, SPN_CERTIFICATE_KEY, SPN_TRUST.
    await spnhub.serve(handle)


if __name__ == "__main__":
    asyncio.run(main())
