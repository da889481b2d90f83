"""What the start of a process loads: imports are most of it, so what isn't needed for it is loaded by who needs it.

Counts and names of modules, no times: these are the same on every machine. Memory is nearly so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable

import pytest

from spnhub.transport.native_engine import why_not
from tests.support.command import Command
from tests.support.world import World

LATE = {
    "aiokafka": "a hub without Kafka",
    "aioquic": "the native engine",
    "anyio": "no HTTP",
    "click": "no HTTP server",
    "croniter": "no schedules",
    "dns": "names are asked for by the system",
    "docker": "no services to start",
    "h11": "no HTTP",
    "httpx2": "no inventory over HTTP",
    "lightkube": "no services to start",
    "platformdirs": "the journal's folder is given",
    "prometheus_client": "no --ops",
    "rich.console": "structlog would load it for tracebacks in colour",
    "starlette": "no --ops",
    "uvicorn": "no --ops",
}
"""Packages that start without being loaded, and why."""


IMPORTED = "import time:"
"""What Python says of each module with PYTHONPROFILEIMPORTTIME (the option -X importtime)."""


def modules(process: Command) -> list[str]:
    """What a process has imported so far, in order."""
    lines = [line for line in process.errors if line.startswith(IMPORTED)]
    return [line.rpartition("|")[2].strip() for line in lines][1:]


def needless(names: Iterable[str], *more: str) -> list[str]:
    """Those that aren't needed."""
    late = LATE.keys() | set(more)
    # aioquic brings the others itself.
    return sorted(set(names) & (late if why_not() is None else late - {"aioquic", "attr", "service_identity"}))


async def test_until_the_first_byte(world: World) -> None:
    """Of a hub with a file as its inventory, and of two agents: each has said by then what it loaded."""
    server = world.serve()
    timed = {"PYTHONPROFILEIMPORTTIME": "1"}
    hub = await world.start_hub(env=timed)
    provider = await world.start_provider(server.address, env=timed)
    consumer = await world.start_consumer(env=timed)
    await world.join(consumer, server)
    of_hub, of_provider, of_consumer = map(modules, (hub, provider, consumer.command))
    # A plain install has the engine in Python: 30 modules, and what they need.
    more = 0 if why_not() is None else 60
    # A hub never verifies another's certificate.
    assert needless(of_hub, "attr", "service_identity", "cramjam.cramjam") == []
    assert len(of_hub) <= 710 + more
    assert hub.rss <= (41 << 20) + more * 100_000
    for agent in (of_provider, of_consumer):
        late = {"cramjam.cramjam", "pydantic", "pydantic_core", "yaml", "pykka", "spnhub.events.model.record"}
        assert needless(agent, *late) == []
        assert len(agent) <= 550 + more
    for command in (provider, consumer.command):
        assert command.rss <= (31 << 20) + more * 100_000


@pytest.mark.parametrize(
    ("program", "late", "most"),
    [
        ("import spnhub", {"asyncio", "cryptography", "fastavro"}, 100),
        ("import spnhub; spnhub.create_consumer_endpoint", {"spnhub.events.model.record"}, 440),
    ],
)
def test_the_library(program: str, late: set[str], most: int) -> None:
    """Programs that use it wait for it, too."""
    code = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    names = json.loads(done.stdout)
    assert needless(names, "structlog", "typer", "pydantic", "pykka", *late) == []
    assert len(names) <= most


def test_nothing_is_collected_while_modules_are_read() -> None:
    """Nor looked through afterwards: nearly all that importing makes stays."""
    code = (
        "import gc, sys; from spnhub.cli import start; collected = []\n"
        "gc.callbacks.append(lambda *_: collected.append(0))\n"
        "sys.argv[1:] = ['--version']\ntry: start.agent()\nexcept SystemExit: pass\n"
        "print(len(collected), gc.isenabled(), gc.get_freeze_count() > 20_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, enabled, frozen = done.stdout.split()[-3:]
    assert (int(count) < 10, enabled, frozen) == (True, "True", "True"), done.stdout
