"""Ordinary programs through agents and hub: HTTP, SMTP, a half-closing client."""

from __future__ import annotations

import asyncio
import hashlib
import json

from tests.support.command import run
from tests.support.engines import on_both_engines
from tests.support.http_program import download, http_server, upload
from tests.support.tcp import Ending, digest, pattern, smtp_mail, smtp_server
from tests.support.world import World
from tests.system.sizes import MIB, report, sizes

pytestmark = on_both_engines


@sizes("size", 8 * MIB, 256 * MIB)
async def test_http_down_and_up_is_exact_and_counted(world: World, size: int) -> None:
    """The same SHA-256 on both sides, and the counters are the bytes at the sockets."""
    with http_server() as server:
        url = await world.serve_inventory()
        await world.start_hub(inventory=url)
        await world.start_provider(server.address)
        consumer = await world.start_consumer()
        loop = asyncio.get_running_loop()
        began = loop.time()
        down = await asyncio.to_thread(download, consumer.address, 1, size)
        middle = loop.time()
        up = await asyncio.to_thread(upload, consumer.address, 2, size)
        ended = loop.time()
        ends = await world.hub.wait_lines("endSpnConnection", 2)

    assert (down.sha256, up.sha256) == (digest(pattern(1, size)), digest(pattern(2, size)))
    assert [exchange.sha256 for exchange in server.exchanges] == [down.sha256, up.sha256]
    assert [(exchange.received, exchange.sent) for exchange in server.exchanges] == [
        (down.sent, down.received),
        (up.sent, up.received),
    ]
    # On a busy machine an end may be told after the next one's.
    assert sorted((end["totalSentBytes"], end["totalReceiveBytes"], end["disconnectReason"]) for end in ends) == [
        (down.sent, down.received, "closedByPeer"),
        (up.sent, up.received, "closedByPeer"),
    ]
    report(
        hub_cpu=f"{world.hub.cpu:.1f} s",
        down=f"{size / MIB / (middle - began):.1f} MiB/s",
        up=f"{size / MIB / (ended - middle):.1f} MiB/s",
    )
    lines = await world.end()

    status, out, err = await run("spnlog", "replay", str(world.journal))
    assert (status, [json.loads(line) for line in out.splitlines()], err) == (0, lines, "")
    status, out, err = await run("spnlog", "verify", "--json", str(world.journal))
    assert (status, json.loads(out), err) == (0, await world.verify(), "")


async def test_smtp_where_the_server_speaks_first(world: World) -> None:
    """A mail arrives: the stream is opened at once, not with the client's first byte."""
    async with smtp_server() as (address, mailbox):
        hub, _, consumer = await world.start(address)
        await asyncio.to_thread(smtp_mail, consumer.address, "Grüße")
        await hub.line("endSpnConnection", disconnectReason="closedByPeer")
    ((sender, recipients, content),) = mailbox.messages
    assert (sender, recipients) == ("a@example.org", ["b@example.org"])
    assert b"Subject: hello" in content
    await world.end()


async def test_half_closing_client(world: World) -> None:
    """A client sends, shuts down writing, and then reads the whole answer."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    client, served = await world.join(consumer, server)
    await client.send(b"question")
    client.finish()
    assert await served.receive_all() == (b"question", Ending.FIN)
    sending = asyncio.ensure_future(served.send_pattern(3, MIB))
    await client.receive(1)
    rest = hashlib.sha256(b"".join(pattern(3, MIB))[1:]).hexdigest()
    await sending
    served.finish()
    assert await client.receive_digest() == (MIB - 1, rest, Ending.FIN)
    await hub.line("endSpnConnection", disconnectReason="closedByPeer", totalSentBytes=8, totalReceiveBytes=MIB)
    await world.end()
