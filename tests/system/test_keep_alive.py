"""A client whose host is cut off: its server behind two agents hears of it (``--tcp-keepalive``)."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from spnhub.actors.contract.codes import Code
from tests.support.namespaces import Host, NamespacesMissing
from tests.support.tcp import Ending
from tests.support.world import World
from tests.system.sizes import report

_BOUND = 3
"""Seconds: one of silence, then two questions, a second apart."""
_CLIENT = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(b"hello")
time.sleep(600)
"""


@pytest.mark.parametrize("sends", [True, False], ids=["sends", "idle"])
async def test_a_client_is_cut_off(world: World, sends: bool) -> None:
    """Idle, or with an answer on its way to it: a reset at the server within the bound, and the log says why."""
    try:
        host = world.enter_host(Host(62, firewall=False))
    except NamespacesMissing as exc:
        pytest.skip(str(exc))
    server = world.serve()
    hub = await world.start_hub()
    env = {"SPN_TCP_KEEPALIVE": "1,1,2", "SPN_LOG_LEVEL": "debug"}
    _, consumer = await asyncio.gather(
        world.start_provider(server.address), world.start_consumer(env=env | {"BIND_ADDRESS": f"{host.gateways[0]}:0"})
    )
    client = await asyncio.create_subprocess_exec(
        *host.within, sys.executable, "-c", _CLIENT, *map(str, consumer.address)
    )
    try:
        served = await world.accept(server)
        assert await served.receive(5) == b"hello"
        host.cut_wire()
        began = time.monotonic()
        if sends:
            await served.send(b"an answer")
        async with asyncio.timeout(_BOUND + 20):
            data, ending = await served.receive_all()
        took = time.monotonic() - began
        report(told=f"{took:.1f} s")
        assert (data, ending) == (b"", Ending.RST)
        closed = await consumer.command.line("connection.closed")
        assert closed["code"] == Code.PEER_SILENT
        assert closed["reason"] in {"TCP: Connection timed out", "TCP: No route to host"}
        assert (await hub.line("endSpnConnection"))["disconnectReason"] == "error"
    finally:
        client.kill()
        await client.wait()
    await world.end()
    (end,) = [event for event in await world.events() if event["eventType"] == "endSpnConnection"]
    assert end["code"] == Code.PEER_SILENT
