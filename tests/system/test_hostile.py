"""Endpoints that send what no endpoint should, to a real hub: others in it go on, and newcomers get in."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from spnhub import ConsumerEndpoint, ProviderEndpoint
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind, SetWeight
from spnhub.events.model import EndPointType
from spnhub.pki import IssuedCredentials
from spnhub.transport import protocol
from tests.support.odd_certificates import BIT_STRING, T61_STRING, odd_subject
from tests.support.raw_peer import RawPeer, raw_peer
from tests.support.world import World

SECRET: Final = bytes(16)


class Bystander:
    """A provider of a service of its own, and consumers of it that echo."""

    def __init__(self, world: World, provider: ProviderEndpoint) -> None:
        self.world = world
        self._provider = provider

    async def echo(self, consumer: ConsumerEndpoint | None = None) -> None:
        """Open, send, get it back; a newcomer, unless a consumer is given."""
        asking = consumer or await self.world.consumer_endpoint(service="echo")
        connecting = asyncio.ensure_future(asking.connect())
        request = await self._provider.listen()
        reader, writer = await request.accept()
        ours, mine = await connecting
        mine.write(b"alive")
        writer.write(await reader.readexactly(5))
        assert await ours.readexactly(5) == b"alive"
        for one in (mine, writer):
            one.close()


async def test_what_no_endpoint_should_send(tmp_path: Path) -> None:
    """Values, certificates, floods: each costs who sent it, has its line, and is no fault of the hub's."""
    async with World(tmp_path, services=("web", "echo")) as world:
        hub = await world.start_hub()
        bystander = Bystander(world, await world.provider_endpoint(service="echo"))
        regular = await world.consumer_endpoint(service="echo")
        provider, consumer = world.authority.client("provider"), world.authority.client("consumer")

        def peer(
            credentials: IssuedCredentials, role: EndPointType, instance: str
        ) -> AbstractAsyncContextManager[RawPeer]:
            address, name = (world.host, world.port), world.url.split("/")[-1].rpartition(":")[0]
            request = role, world.urn(), instance
            return raw_peer(address, name, world.authority.certificate, credentials, request)

        # An answer with a code that QUIC can't send.
        async with (
            peer(provider, EndPointType.PROVIDER, "p") as asked,
            peer(consumer, EndPointType.CONSUMER, "c") as asking,
        ):
            stream_id = asking.open(protocol.encode(Opening(OpeningKind.OPEN, "00" * 16, SECRET)))
            await asked.until(lambda: bool(asked.received))
            asked.write(next(iter(asked.received)), protocol.encode(Accept(OpeningKind.OPEN, -1)))
            await asking.until(lambda: bool(asking.received[stream_id]))
            (accept,) = protocol.PacketReader().feed(asking.received[stream_id])
            assert isinstance(accept, Accept)
            assert accept.code == Code.PROTOCOL
            await bystander.echo(regular)

            # Openings that are given up at once, faster than they are handled.
            for n in range(500):
                one = asking.engine.open_bidi(asking.connection_id)
                if one is not None:
                    opening = Opening(OpeningKind.OPEN, f"{n + 1:032x}", SECRET)
                    asking.engine.write(asking.connection_id, one, protocol.encode(opening))
                    asking.engine.reset(asking.connection_id, one, Code.PEER_RESET)
                if n % 100 == 0:
                    asking.udp.flush()
                    await asyncio.sleep(0)
            asking.udp.flush()
            await bystander.echo(regular)
            await bystander.echo()

        # Another weight as often as it can be sent.
        async with peer(provider, EndPointType.PROVIDER, "flood") as flood:
            await flood.send(b"".join(protocol.encode(SetWeight(n % 7 + 1)) for n in range(3_000)))
            await flood.until(lambda: flood.closed is not None)
            assert flood.closed is not None
            assert (flood.closed.code, flood.closed.reason) == (Code.LIMIT, "more than 50 per second weightChanges")
            await bystander.echo(regular)
        await hub.line("limitReached", limit="weightChanges")

        # Certificates that libraries don't read alike, and one that is too much.
        odd = [odd_subject(world.authority, *value) for value in ((T61_STRING, b"cli\xe9nt"), (BIT_STRING, b"\0clien"))]
        for credentials in (*odd, world.authority.client("consumer", organization="x" * 17_000)):
            async with peer(credentials, EndPointType.CONSUMER, "odd") as refused:
                assert refused.closed is not None
        assert len(await hub.wait_lines("sessionRefused", 3)) == 3
        await bystander.echo()
        assert hub.said("fault") == []
        await world.end()
