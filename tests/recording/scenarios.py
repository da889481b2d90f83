"""What the committed recordings in ``histories`` were made of: small stories with real hubs and agents.

``python -m tests.recording.scenarios record [NAME…]`` makes them anew. When actors are meant to do otherwise than they
did, ``python -m tests.recording.scenarios accept`` keeps the inputs, which no later version can have any more, and
writes what comes of them now; the difference is for a reviewer to see.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from spnhub.events.model import Event, Recorded
from spnhub.recording.format import SUFFIX
from spnhub.recording.reader import Recording, find_recordings
from spnhub.recording.system import RecordingSystem
from spnhub.recording.writer import RecordingWriter
from tests.support.tcp import TcpPeer
from tests.support.world import World, service_document
from tests.system.test_hub_update import BOTH, sessions, start_hub
from tests.system.test_on_demand import get, on_demand

__all__ = ["HISTORIES", "SCENARIOS", "everyday"]

HISTORIES: Final = Path(__file__).parent / "histories"


async def echo(client: TcpPeer, served: TcpPeer, data: bytes = b"hello") -> None:
    """There and back."""
    await client.send(data)
    assert await served.receive(len(data)) == data
    await served.send(data)
    assert await client.receive(len(data)) == data


async def everyday(world: World, folder: Path) -> None:
    """Sessions, a stranger, connections that end in several ways, a planned stop."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address, "--record", str(folder))
    stranger = await world.start_consumer(credentials=world.authority.client("nobody"), wait=False)
    assert await stranger.command.wait() == 1
    for number in range(4):
        client, served = await world.join(consumer, server)
        await echo(client, served, b"payload that no recording holds")
        if number == 0:
            client.reset()
        else:
            client.finish()
            served.finish()
        await hub.line("endSpnConnection", nth=number + 1)
    await world.join(consumer, server)
    assert await hub.stop(signal.SIGINT) == 0


async def reload(world: World, folder: Path) -> None:
    """Two services, one of which goes; a faulty inventory; the consumer of the other is no longer allowed."""
    world.network()["services"].append(service_document("mail"))
    world.write_inventory()
    server = world.serve()
    hub, _, consumer = await world.start(server.address, "--record", str(folder))
    client, served = await world.join(consumer, server)
    await echo(client, served)
    world.network()["services"].pop()
    await world.reload()
    world.service()["provider"] = 5
    world.write_inventory()
    await world.reload_refused()
    world.service().update(provider="provider", consumers=["somebody"])
    await world.reload()
    await hub.line("endSpnConnection")
    assert await consumer.command.wait() == 1
    assert await hub.stop(signal.SIGINT) == 0


async def started_on_demand(world: World, folder: Path) -> None:
    """A service that the first payload starts and that is stopped when it is idle."""
    on_demand(world, ondemandStartOnPayload=True, idleTimeout=2)
    hub = await world.start_hub("--allow-process", "--record", str(folder))
    consumer = await world.start_consumer()
    await asyncio.gather(*(get(consumer, f"/{number}") for number in range(3)))
    while "serviceStopped" not in {event["eventType"] for event in await world.events()}:
        await asyncio.sleep(0.1)
    assert await hub.stop(signal.SIGINT) == 0


async def moved(world: World, folder: Path) -> None:
    """Connections that are paused by a resumable shutdown of one hub and go on at the other: a recording of each."""
    server = world.serve()
    old = await start_hub(world, 0, "--record", str(folder))
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=BOTH), world.start_consumer(env=BOTH)
    )
    pairs = [await world.join(consumer, server) for _ in range(3)]
    for pair in pairs:
        await echo(*pair)
    new = await start_hub(world, 1, "--record", str(folder))
    await sessions([provider, consumer.command], 2)
    assert await old.stop(signal.SIGTERM) == 0
    for client, served in pairs:
        await echo(client, served)
        client.finish()
        served.finish()
    await new.wait_lines("endSpnConnection", len(pairs))
    assert await new.stop(signal.SIGINT) == 0


SCENARIOS: Final[dict[str, Callable[[World, Path], Awaitable[None]]]] = {
    "everyday": everyday,
    "reload": reload,
    "started_on_demand": started_on_demand,
    "moved": moved,
}


async def record(name: str) -> None:
    """Make a scenario's recordings anew."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "recording"
        (Path(temporary) / "world").mkdir()
        async with World(Path(temporary) / "world") as world:
            await SCENARIOS[name](world, folder)
        target = HISTORIES / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for number, path in enumerate(find_recordings(folder), start=1):
            shutil.copyfile(path, target / f"{number}{SUFFIX}")


def accept(path: Path) -> None:
    """Replace what came of the inputs by what comes of them now."""
    recording = Recording(path)
    header = recording.header
    with tempfile.TemporaryDirectory() as temporary:
        writer = RecordingWriter(Path(temporary), header)
        sequence = header.first_sequence - 1

        def append(event: Event, timestamp: int) -> Recorded:
            nonlocal sequence
            sequence += 1
            return Recorded(header.hub_id, uuid.UUID(header.journal_id), sequence, timestamp, event)

        system = RecordingSystem(append, header.hub_id, header.options, writer.put)
        for step in recording.steps():
            for part in step.parts:
                if not isinstance(part.cause, str):
                    address, message = part.cause
                    system.tell(address, message)
            system.run(step.now, step.wall_us)
            system.take_commands()
        writer.close()
        shutil.copyfile(writer.path, path)


if __name__ == "__main__":
    command, *chosen = sys.argv[1:]
    for one in chosen or SCENARIOS:
        if command == "record":
            asyncio.run(record(one))
        elif command == "accept":
            for path in find_recordings(HISTORIES / one):
                accept(path)
        else:
            raise SystemExit(__doc__)
