"""Services that a hub starts and stops by itself (D-29), with ``process:``: an HTTP server and its provider agent."""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from tests.support.command import BIN, Line
from tests.support.tcp import Ending
from tests.support.world import Consumer, World
from tests.system.sizes import report

_PROGRAM = """
import http.server, os, subprocess, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{os.getpid()} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
host, port = server.server_address[:2]
sys.exit(subprocess.run([sys.argv[1], "provider"], env=os.environ | {"FORWARD_ADDRESS": f"{host}:{port}"}).returncode)
"""
"""The service: an HTTP server that says who it is, and an agent that provides it."""


def on_demand(world: World, command: Sequence[str] | None = None, **fields: Any) -> None:
    """Let the hub start ``web``: ``fields`` of availabilityManagement beside the command and its environment."""
    program = world.folder / "service.py"
    program.write_text(_PROGRAM)
    mine = world.authority.client("provider")
    certificate, key = world.folder / "started.pem", world.folder / "started.key"
    certificate.write_bytes(mine.certificate)
    key.write_bytes(mine.key)
    world.service()["availabilityManagement"] = {
        "clusterManagerUrn": "process:",
        "serviceId": "web",
        "command": list(command or (sys.executable, str(program), str(BIN / "spnagent"))),
        "env": {
            "SPN_HUB_URL": world.url,
            "SPN_SERVICE_URN": world.urn(),
            "SPN_CERTIFICATE": str(certificate),
            "SPN_CERTIFICATE_KEY": str(key),
            "SPN_TRUST": str(world.folder / "ca.pem"),
        },
        **fields,
    }
    world.write_inventory()


async def get(consumer: Consumer, path: str) -> tuple[int, str, float]:
    """One HTTP request by an ordinary client: the answering process, the path that it saw, and seconds until then."""
    began = time.monotonic()

    def request() -> str:
        connection = http.client.HTTPConnection(*consumer.address, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()
        finally:
            connection.close()

    pid, seen = (await asyncio.to_thread(request)).split()
    return int(pid), seen, time.monotonic() - began


def story(events: Sequence[Line]) -> list[tuple[str, str]]:
    """What happened to services, in order, each with its reason."""
    return [
        (event["eventType"], event.get("reason", ""))
        for event in events
        if str(event["eventType"]).startswith("service") and event["eventType"] != "serviceAdded"
    ]


def alive(pid: int) -> bool:
    """Whether a process exists."""
    return Path(f"/proc/{pid}").exists()


async def test_cold_start_idle_stop_and_again(world: World) -> None:
    """The first payload starts the service and is answered; idle, it is stopped; the next request starts it again."""
    on_demand(world, ondemandStartOnPayload=True, idleTimeout=2)
    hub = await world.start_hub("--allow-process")
    consumer = await world.start_consumer()
    assert story(await world.events()) == []

    # Several at once are one start.
    answers = await asyncio.gather(*(get(consumer, f"/cold/{n}") for n in range(5)))
    assert {pid for pid, _, _ in answers} == {answers[0][0]}
    assert [seen for _, seen, _ in answers] == [f"/cold/{n}" for n in range(5)]
    pid, _, warm = await get(consumer, "/warm")
    assert pid == answers[0][0]

    await hub.line("serviceStopped")
    assert not alive(pid)
    again, seen, second = await get(consumer, "/again")
    assert again != pid
    assert seen == "/again"
    await hub.line("serviceStopped", nth=2)
    report(cold=f"{max(took for _, _, took in answers):.2f} s", warm=f"{warm:.3f} s", again=f"{second:.2f} s")
    await world.end()
    once = [
        ("serviceStartRequested", "payload"),
        ("serviceStarted", ""),
        ("serviceStopRequested", "idle"),
        ("serviceStopped", "idle"),
    ]
    assert story(await world.events()) == once + once


async def test_traffic_is_not_idle(world: World) -> None:
    """An open connection keeps a service on, however quiet it is; its end lets it go."""
    on_demand(world, ondemandStart=True, idleTimeout=1)
    hub = await world.start_hub("--allow-process")
    consumer = await world.start_consumer()
    quiet = await world.connect(consumer)
    await hub.line("startSpnConnection")
    await hub.line("serviceStarted")
    # Three idle timeouts of silence; then it answers as if nothing had been.
    await asyncio.sleep(3)
    assert hub.said("serviceStopRequested") == []
    await quiet.send(b"GET /quiet HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    answer, ending = await quiet.receive_all()
    assert (answer.startswith(b"HTTP/1.1 200"), answer.endswith(b" /quiet"), ending) == (True, True, Ending.FIN)
    quiet.close()
    await hub.line("serviceStopped", reason="idle")
    await world.end()


async def test_command_that_fails(world: World) -> None:
    """A command that can't be executed: whoever waits is reset at once, and the events say why."""
    on_demand(world, ["/no/such/program"], ondemandStartOnPayload=True)
    hub = await world.start_hub("--allow-process")
    consumer = await world.start_consumer()
    client = await world.connect(consumer)
    await client.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    assert await client.receive_all() == (b"", Ending.RST)
    failed = await hub.line("serviceStartFailed")
    assert "/no/such/program" in failed["reason"]
    assert not failed["willRetry"]
    await world.end()
    refusals = [event for event in await world.events() if event["eventType"] == "connectionRefused"]
    assert [refusal["code"] for refusal in refusals] == [Code.START_FAILED]
    assert failed["reason"] in refusals[0]["reason"]


@pytest.mark.prove
async def test_command_that_exits(world: World) -> None:
    """A command that ends before its provider came: whoever waits is reset in the time of D-29, with the reason."""
    on_demand(world, ["/bin/false"], ondemandStartOnPayload=True)
    hub = await world.start_hub("--allow-process")
    consumer = await world.start_consumer()
    client = await world.connect(consumer)
    began = time.monotonic()
    assert await client.receive_all() == (b"", Ending.RST)
    report(reset_after=f"{time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 35
    assert hub.said("service.ended")[0]["reason"] == "exited with status 1"
    await world.end()
    events = await world.events()
    refusals = [event for event in events if event["eventType"] == "connectionRefused"]
    assert [refusal["code"] for refusal in refusals] == [Code.START_FAILED]
    assert "exited with status 1" in refusals[0]["reason"]
    failures = [event for event in events if event["eventType"] == "serviceStartFailed"]
    assert all(failure["reason"].endswith("exited with status 1") for failure in failures)
    assert failures


async def test_start_at_load(world: World) -> None:
    """Without an on-demand switch the service runs from the load on, and is there for the first consumer."""
    on_demand(world)
    hub = await world.start_hub("--allow-process")
    await hub.line("startSpnSession", endPointType="serviceProvider")
    consumer = await world.start_consumer()
    pid, seen, _ = await get(consumer, "/loaded")
    assert seen == "/loaded"
    assert alive(pid)
    assert pid != os.getpid()

    # What is no longer defined is stopped.
    world.network()["services"].clear()
    await world.reload()
    await hub.line("serviceStopped", reason="removed")
    assert not alive(pid)
    await consumer.command.wait()
    consumer.command.errors.clear()
    await world.end()
    assert story(await world.events())[:2] == [("serviceStartRequested", "load"), ("serviceStarted", "")]


async def test_start_on_consumer(world: World) -> None:
    """A consumer's session starts the service, before it sends anything."""
    on_demand(world, ondemandStartOnConsumer=True)
    hub = await world.start_hub("--allow-process")
    assert hub.said("serviceStartRequested") == []
    consumer = await world.start_consumer()
    assert (await hub.line("serviceStartRequested"))["reason"] == "consumer"
    await hub.line("startSpnSession", endPointType="serviceProvider")
    assert (await get(consumer, "/ready"))[1] == "/ready"
    await world.end()


async def test_singleton(world: World) -> None:
    """The second provider of a singleton is refused with its reason, and gets in when the first has gone (D-28)."""
    world.service()["singleton"] = True
    world.write_inventory()
    hub = await world.start_hub()
    server = world.serve()
    first = await world.start_provider(server.address)
    second = await world.start_provider(server.address, wait=False)
    refused = await hub.line("sessionRefused")
    assert (refused["code"], refused["endPointType"]) == (Code.SINGLETON, "serviceProvider")
    assert refused["reason"]
    assert not second.said("session.established")
    assert await first.stop() == 0
    await second.line("session.established")
    lines = await world.end()
    sessions = [line["eventType"] for line in lines if line["eventType"].endswith("Session")]
    assert sessions == ["startSpnSession", "endSpnSession", "startSpnSession", "endSpnSession"]


async def test_commands_must_be_allowed(world: World) -> None:
    """Without the hub's own option an inventory can't have commands run: that service is left out, with its reason."""
    on_demand(world)
    hub = await world.start_hub()
    fault = await hub.line("inventory.fault", where="service acme/main/web")
    assert "--allow-process" in fault["reason"]
    assert await world.end(hub_errors=("inventory.fault",)) == []
    assert story(await world.events()) == []
