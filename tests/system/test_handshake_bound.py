"""``maxHandshakes`` of a realm with a real hub: what it bounds, and that the log says whose bound it was."""

from __future__ import annotations

from tests.support.engines import on_both_engines
from tests.support.flood import Flood
from tests.support.world import World


@on_both_engines
async def test_clients_that_never_go_on(world: World, engine: str) -> None:
    """They are sent a Retry, which the log has with the realm; those that go on get in, and carry on."""
    world.realms[0]["maxHandshakes"] = 8
    world.write_inventory()
    hub = await world.start_hub()
    credentials = world.authority.client("consumer")
    good = credentials.certificate.decode(), credentials.key.decode()
    fqdn = world.url.split("/")[-1].rpartition(":")[0]
    trust = world.authority.certificate.decode()
    flood = Flood(world.host, world.port, fqdn, world.urn(), trust, good, good, clients=0, initials=60, per_second=200)
    program = await world.start_program("flood", *flood.arguments())
    reached = await hub.line("limitReached", limit="retries")
    assert (reached["realm"], reached["count"] >= 1) == ("acme", True)
    server = world.serve()
    await world.start_provider(server.address)
    client, served = await world.join(await world.start_consumer(), server)
    await client.send(b"alive")
    assert await served.receive(5) == b"alive"
    assert await program.stop() == 0
    client.finish()
    served.finish()
    await world.end()
