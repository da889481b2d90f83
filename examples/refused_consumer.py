"""A consumer that tries again what may succeed later, and says why it doesn't."""

import asyncio

import spnhub


async def main() -> None:
    async with await spnhub.create_consumer_endpoint(**spnhub.from_environment()) as endpoint:
        for _ in range(3):
            try:
                _, writer = await endpoint.connect()
            except spnhub.ConnectionRejected as error:
                print(f"{spnhub.Code(error.code).name}: {error.reason}")
                if not error.retryable:
                    return
                await asyncio.sleep(1)
            else:
                writer.close()
                return


if __name__ == "__main__":
    asyncio.run(main())
