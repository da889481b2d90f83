"""What becomes of sessions and connections, as it happens; without such functions the logger ``spnhub`` has it."""

import asyncio

import spnhub


def on_session(change: spnhub.SessionChange) -> None:
    if change.new is spnhub.SessionState.ESTABLISHED:
        print(f"a session with {change.hub_id}")
    elif change.error is not None:
        print(f"no session: {change.error}")


def on_connection(change: spnhub.ConnectionChange) -> None:
    print(f"connection {change.connection_uid} {change.kind} {change.reason}")


async def main() -> None:
    arguments = spnhub.from_environment()
    async with await spnhub.create_consumer_endpoint(
        **arguments, on_session=on_session, on_connection=on_connection
    ) as endpoint:
        _, writer = await endpoint.connect()
        print("connected to", writer.get_extra_info("peername")[0])
        writer.close()
        await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
