"""The table of peers' features: each row's command is run here, and the page says what came of it."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest

from spnhub.demo.site import free_port
from spnhub.events.model import EndPointType
from tests.cli.processes import Program, address_of
from tests.compose.files import COMPOSE, HELM, load
from tests.compose.test_dashboards import BOARDS, expressions, parse
from tests.console.test_page import UID, two_realms
from tests.console.worlds import defined, refused, session, start
from tests.docs.pages import table
from tests.events.samples import write_journal
from tests.support.command import BIN
from tests.support.tcp import Ending, TcpPeer, TcpServer

Run = Callable[[Path], Awaitable[str]]
NAME: Final = "acme/tokyo/hello"


async def said(*words: str, status: int = 0) -> str:
    """What one of our commands says, both outputs; its status has to be ``status``."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / words[0]), *words[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    text = (await process.communicate())[0].decode()
    assert process.returncode == status, text
    return text


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[tuple[TcpServer, Program, Program]]:
    """What ``spnhub init`` prints, pasted: a server, and the two agents, which have sessions; ports are free ones."""
    out = await said("spnhub", "init", NAME, "--dir", str(folder / "net"), "--port", str(free_port(socket.SOCK_DGRAM)))
    hub, *agents = (shlex.split(line) for line in re.findall(r"^spn(?:hub|agent) .*", out, re.MULTILINE))
    programs: list[Program] = []
    with TcpServer() as server:
        try:
            programs.append(await Program.start("spnhub", *hub[1:]))
            await programs[0].line("hub.ready")
            for words in agents:
                address = f"127.0.0.1:{server.address[1]}" if words[1] == "provider" else "127.0.0.1:0"
                programs.append(await Program.start("spnagent", *words[1:-1], address, "--ops", "127.0.0.1:0"))
                await programs[-1].line("session.established")
            yield server, programs[1], programs[2]
        finally:
            for program in reversed(programs):
                await program.kill()


async def units(folder: Path) -> str:
    """Of hub and both agents."""
    await said("spnhub", "init", NAME, "--dir", str(folder / "net"), "--systemd")
    written = sorted((folder / "net" / "systemd").glob("*.service"))
    assert all("Type=notify" in unit.read_text() for unit in written)
    if analyze := shutil.which("systemd-analyze"):
        checked = subprocess.run([analyze, "verify", *written], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
    return f"{len(written)} units, in which `systemd-analyze verify`, where it is there, finds no fault"


async def config_file(folder: Path) -> str:
    """A hub that is told by its file."""
    await said("spnhub", "init", NAME, "--dir", str(folder / "net"), "--port", str(free_port(socket.SOCK_DGRAM)))
    file = folder / "hub.toml"
    inventory, journal = f"file:{folder}/net/inventory.yaml", f"{folder}/journal"
    file.write_text(f"inventory = '{inventory}'\njournal = '{journal}'\nhub-id = 'of-the-file'\nlog-format = 'json'\n")
    program = await Program.start("spnhub", f"--config={file}")
    try:
        assert (await program.line("hub.ready"))["hubId"] == "of-the-file"
    finally:
        await program.kill()
    return "a hub that has all from its file is ready"


async def validate(folder: Path) -> str:
    """What is right passes, a slip is named."""
    await said("spnhub", "init", NAME, "--dir", str(folder / "net"))
    file = folder / "net" / "inventory.yaml"
    await said("spnhub", "check", "-c", f"file:{file}")
    file.write_text(file.read_text().replace("serverPort", "serverPrt"))
    text = await said("spnhub", "check", "-c", f"file:{file}", status=2)
    assert "serverPrt" in text and "did you mean" in text
    return 'the inventory of `spnhub init` passes; a misspelt field is named, with "did you mean"'


async def quick_start(folder: Path) -> str:
    """An own network, and bytes through it."""
    async with network(folder) as (server, _, consumer):
        client = await TcpPeer.connect(await address_of(consumer))
        await client.send(b"hello")
        client.finish()
        accepted = await server.accept()
        assert await accepted.receive_all() == (b"hello", Ending.FIN)
        accepted.close()
        client.close()
    return "its three commands, pasted: bytes reach the server behind the provider"


async def console(folder: Path) -> str:
    """It answers with a journal's services."""
    write_journal(folder / "journal", two_realms())
    arguments = ("--listen", "127.0.0.1:0", "--index", str(folder / "index"))
    program = await Program.start("spnlog", "console", str(folder / "journal"), *arguments)
    try:
        url = (await program.line("console.ready"))["url"]
        async with httpx2.AsyncClient(verify=False) as client, asyncio.timeout(60):
            while (await client.get(f"{url}/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            assert "urn:<wbr>net:" in (await client.get(url)).text
    finally:
        await program.kill()
    return "the page shows the services of a journal"


async def client_health(folder: Path) -> str:
    """Both agents say whether they are ready."""
    async with network(folder) as (_, *agents), httpx2.AsyncClient(verify=False) as client:
        for agent in agents:
            url = (await agent.line("ops.ready"))["url"]
            assert (await client.get(f"{url}/readyz")).status_code == 200
    return "`/readyz` of both agents is 200 once their sessions are up"


async def dashboards(_folder: Path) -> str:
    """Every expression is one of PromQL."""
    rules = [rule for group in load(COMPOSE / "prometheus" / "alerts.yml")["groups"] for rule in group["rules"]]
    for rule in rules:
        parse(rule["expr"])
    if promtool := shutil.which("promtool"):
        words = [promtool, "check", "rules", str(COMPOSE / "prometheus" / "alerts.yml")]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0
    queries = sum(1 for one in BOARDS for query in expressions(one) if parse(query))
    assert queries
    return f"{len(rules)} rules and the {queries} queries of {len(BOARDS)} dashboards parse"


async def diagnosis(folder: Path) -> str:
    """What was wrong, and a conversation's story."""
    provider = session("p", "acme", "web", EndPointType.PROVIDER)
    write_journal(folder / "wrong", [*start(), *defined("acme", "web"), provider, refused("acme", "web", "c")])
    assert "refused" in await said("spnlog", "incidents", str(folder / "wrong"))
    write_journal(folder / "journal", two_realms())
    assert (await said("spnlog", "explain", UID, str(folder / "journal"))).startswith(f"Connection {UID} of ")
    return "a journal's incident by name, and a connection's story by its uid"


async def live_view(folder: Path) -> str:
    """Once, as no terminal is there."""
    write_journal(folder / "journal", two_realms())
    assert "3 services, 4 sessions, 2 connections" in await said("spnlog", "top", str(folder / "journal"))
    return "services, sessions and connections of a journal"


async def helm(_folder: Path) -> str:
    """The chart is rendered by Helm, where Helm is."""
    chart = COMPOSE / "helm" / "spnhub"
    assert load(chart / "Chart.yaml")["name"] == "spnhub" and (COMPOSE / "Dockerfile").exists()
    if HELM is not None:
        settings = ["--set", "hub.inventoryUrl=https://inventory.example/", "--kube-version", "1.31.0"]
        words = [HELM, "template", str(chart), *settings]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "kind: StatefulSet" in done.stdout, done.stderr
    return "chart and Dockerfile are there; rendered only where Helm is installed"


async def completion(_folder: Path) -> str:
    """Of all three, called by a bash: which shell it is they see from the process that called them."""
    for program in ("spnhub", "spnagent", "spnlog"):
        # With a second command bash stays, and doesn't turn into the first.
        words = ["bash", "-c", f"{shlex.quote(str(BIN / program))} --show-completion; exit $?"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and f"_{program.upper()}_COMPLETE" in done.stdout, done.stderr
    return "a script for bash from each of the three commands"


RUNS: Final[dict[str, Run]] = {
    "service units": units,
    "config file": config_file,
    "validate": validate,
    "quick start": quick_start,
    "console": console,
    "client health": client_health,
    "dashboards and alerts": dashboards,
    "diagnosis": diagnosis,
    "live view": live_view,
    "Helm and images": helm,
    "completion": completion,
}
ROWS: Final = {row[0]: row for row in table("peers")}


def test_each_row_is_run() -> None:
    """And each run has its row; no cell is empty."""
    assert list(ROWS) == list(RUNS)
    assert all(len(row) == 8 and all(row) for row in ROWS.values())


@pytest.mark.system
@pytest.mark.parametrize("feature", RUNS)
async def test_run(feature: str, tmp_path: Path) -> None:
    """The row says what came of it."""
    assert await RUNS[feature](tmp_path) == ROWS[feature][-1]
