"""The README says what is so: its option tables are those of ``--help``, its numbers the code's, its examples work."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import spnhub
from spnhub.actors.kernel.environment import ActorOptions
from spnhub.cli import agent, hub, log
from spnhub.transport.agent.consumer import ConsumerLimits
from spnhub.transport.agent.provider import ProviderLimits
from spnhub.transport.engine import Limits
from tests.cli.processes import Program, free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLASSES = {one.__name__: one() for one in (Limits, ActorOptions, ConsumerLimits, ProviderLimits)}
MODULES: dict[str, list[str]] = {}
"""Every module of the product by the last part of its name; of those that share one, one has such a bound."""
for found in pkgutil.walk_packages(spnhub.__path__, "spnhub."):
    MODULES.setdefault(found.name.rpartition(".")[2], []).append(found.name)

Row = tuple[tuple[str, ...], tuple[str, ...], str]
"""Names of an option, its environment variables, its default."""


def table(marker: str) -> list[list[str]]:
    """The cells of the table behind a marker."""
    rows = README.split(f"<!-- {marker} -->\n\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def block(name: str) -> str:
    """An example."""
    return README.split(f"<!-- test: {name} -->\n```python\n", 1)[1].split("```\n", 1)[0]


def documented(marker: str) -> set[Row]:
    """Options as the README has them."""
    return {
        (tuple(re.findall("`(.*?)`", names)), tuple(filter(None, variables.split(", "))), default)
        for names, variables, default, _ in table(marker)
    }


def actual(*commands: Any) -> set[Row]:
    """Options as the commands have them."""
    found = set()
    for command in commands:
        for parameter in command.params:
            if parameter.param_type_name != "option" or "--help" in parameter.opts:
                continue
            variables = parameter.envvar or ()
            default = "" if parameter.default in {None, False} else str(parameter.default)
            if isinstance(variables, str):
                variables = (variables,)
            found.add((tuple(parameter.opts), tuple(variables), default))
    return found


HUB: Any = typer.main.get_command(hub.app)
AGENT: Any = typer.main.get_command(agent.app)
LOG: Any = typer.main.get_command(log.app)


@pytest.mark.parametrize(
    ("marker", "commands"),
    [
        ("options: spnhub", [HUB]),
        ("options: spnhub inventory", [HUB.commands["inventory"]]),
        ("options: spnhub demo", [HUB.commands["demo"]]),
        ("options: spnagent", list(AGENT.commands.values())),
        ("options: spnlog", list(LOG.commands.values())),
    ],
)
def test_options(marker: str, commands: list[Any]) -> None:
    """Every option with its environment variables and default, and no other."""
    assert documented(marker) == actual(*commands)


def test_commands() -> None:
    """Every command is in a heading."""
    headings = " ".join(line for line in README.splitlines() if line.startswith("### "))
    for program, group in (("spnhub", HUB), ("spnagent", AGENT), ("spnlog", LOG)):
        for name in group.commands:
            assert f"`{program} {name}`" in headings


def test_limits() -> None:
    """Each number is the code's, and no bound of the classes is left out but those that are options."""
    rows = {name.strip("`"): value for name, value, _ in table("limits")}
    for name, value in rows.items():
        owner, attribute = name.split(".")
        sources = [CLASSES[owner]] if owner in CLASSES else map(importlib.import_module, MODULES[owner])
        found = [getattr(source, attribute) for source in sources if hasattr(source, attribute)]
        assert [str(bound) for bound in found] == [value], name
    options = {"Limits.idle_timeout", "Limits.keep_alive", "Limits.datagram_size", "ActorOptions.resume_timeout"}
    options |= {"Limits.suspect_after", "Limits.probe_timeout"}
    options |= {"ActorOptions.gone_timeout", "ActorOptions.alive_interval", "ActorOptions.progress_interval"}
    inner = {"ConsumerLimits.connect", "ConsumerLimits.pause"}
    every = {f"{owner}.{attribute}" for owner, one in CLASSES.items() for attribute in one.__slots__}
    assert every - rows.keys() == options | inner


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_paths(document: str) -> None:
    """Every file that a document names or links to is there."""
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:actors|transport|events|schemas|tests|src|compose)/[\w./]*)`", text))
    named |= {link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link}
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.system
async def test_examples(tmp_path: Path) -> None:
    """From nothing to a greeting through a hub, with what the README says and nothing else but another port."""
    port = str(free_port())
    for name in ("make", "hello"):
        (tmp_path / f"{name}.py").write_text(block(name).replace("4433", port))
    subprocess.run([sys.executable, "-W", "error", "make.py"], cwd=tmp_path, check=True)
    program = await Program.start(
        "hub", "-c", f"file:{tmp_path}/inventory.yaml", "--hub-id", "hub-1", "--journal", f"{tmp_path}/journal"
    )
    try:
        await program.line("hub.ready")
        hello = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "hello.py"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert await hello.communicate() == (b"hello, world\n", b"")
        ended = await program.line("endSpnConnection")
    finally:
        await program.kill()
    assert (ended["totalSentBytes"], ended["totalReceiveBytes"], ended["disconnectReason"]) == (5, 12, "closedByPeer")
