"""httpx2 (or httpx) over a service: connections are kept and used again."""

import asyncio

import httpx2

import spnhub


async def main() -> None:
    async with (
        await spnhub.create_consumer_endpoint(**spnhub.from_environment()) as endpoint,
        httpx2.AsyncClient(transport=spnhub.HttpxTransport(endpoint), base_url="http://service") as client,
    ):
        answers = await asyncio.gather(*(client.post("/", content=f"call {number}") for number in range(20)))
        print(len(answers), "answers;", answers[-1].text)
        print((await client.get("/nowhere")).status_code)


if __name__ == "__main__":
    asyncio.run(main())
