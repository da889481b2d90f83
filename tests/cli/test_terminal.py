"""Every command on a terminal: what others have written into names, subjects, reasons and answers drives none."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from spnhub import logging
from spnhub.cli import agent, hub, log
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.plain_text import HIDDEN, printable, remember_secret, without_secrets
from tests.cli.processes import Site
from tests.events.samples import EACH, NOON
from tests.inventory.scripted import scripted
from tests.recording.making import lines, numbers, record, rewrite
from tests.support.terminal import run_on_terminal

PLANT = "\x1b]0;owned\x07\x1b[2J\x9b2J\r\nFORGED line\b\u202eesrever\u2028\u200b"
"""A title, a cleared screen (in seven and in eight bits), a line of its own, and signs that hide what is there."""
_DRIVING = re.compile("\x1b\\]|\x1b\\[2J|[\x07\x08\x9b\u202e\u2028\u200b]|(?:^|[\r\n])FORGED")
TOKEN = "a-token-of-the-inventory"


def assert_harmless(shown: str, what: str) -> None:
    """Nothing of the plant is left but its letters."""
    found = _DRIVING.search(shown)
    assert found is None, f"{what}: {shown[max(0, found.start() - 80) : found.end() + 80]!r}"


def planted(value: Any) -> Any:
    """An event whose every text ends in the plant."""
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        one = getattr(value, field.name)
        if type(one) is str:
            changed[field.name] = one + PLANT
        elif isinstance(one, tuple) and one and all(type(part) is str for part in one):
            changed[field.name] = tuple(part + PLANT for part in one)
    return dataclasses.replace(value, **changed)


def planted_journal(folder: Path) -> Path:
    """A hub of that name, and all kinds of events."""
    journal = Journal.open(folder, "hub" + PLANT, JournalOptions())
    for number, event in enumerate(EACH):
        journal.append(planted(event), NOON + number)
    assert journal.close()
    return folder


def planted_recording(folder: Path) -> Path:
    """One that differs from what the code does, in a text."""
    path = record(folder, numbers(1, 40)).path
    records = lines(path)
    for one in records:
        for part in one.get("parts", ()):
            for event in part["events"]:
                event[2].update({key: value + PLANT for key, value in event[2].items() if type(value) is str})
    rewrite(path, records)
    return path


def planted_inventory(path: Path) -> Path:
    """Faults that quote what is there."""
    realm = {"name": "r" + PLANT, "title": PLANT, PLANT: 1, "hubs": [{"name": PLANT, "serverPort": PLANT}]}
    path.write_text(yaml.safe_dump({"realms": [realm], "key" + PLANT: 1}))
    return path


def state_of_a_hub() -> dict[str, Any]:
    """What a stranger at ``--ops`` may answer."""
    lists: dict[str, Any] = {name: [] for name in ("realms", "networks", "services", "sessions", "connections")}
    return {"hubId": "hub" + PLANT, "bind": None, "instances": []} | lists


COVERED = {
    "spnlog": {"replay", "tail", "verify", "state", "explain", "metrics", "serve", "replay-actors", "drive"},
    # The demo shows what it has made itself; that its events pass here, too, is in its display.
    "spnhub": {"check", "inventory", "init", "demo"},
    "spnagent": {"consumer", "provider"},
}
"""Commands that the tests below run with arguments of their own."""
_PATIENCE = 15.0
"""Seconds after which another command is interrupted: it may follow something."""


def others(program: str, app: typer.Typer, *arguments: str) -> dict[str, Coroutine[Any, Any, str]]:
    """Each further command of a program, with these arguments, whatever it makes of them."""
    group: Any = typer.main.get_command(app)
    found = {}
    for name in set(group.commands) - COVERED[program]:
        enough = asyncio.Event()
        asyncio.get_running_loop().call_later(_PATIENCE, enough.set)
        found[f"{program} {name}"] = run_on_terminal(program, name, *arguments, until=enough)
    return found


@pytest.mark.system
async def test_readers_of_a_log(tmp_path: Path) -> None:
    """``spnlog``."""
    journal = str(planted_journal(tmp_path / "journal"))
    recording = str(planted_recording(tmp_path / "recording"))
    commands = {
        "replay": run_on_terminal("spnlog", "replay", "--all", journal),
        "tail": run_on_terminal("spnlog", "tail", "--all", "--last", "1000", journal, until=str(EACH[-1].event_type)),
        "verify": run_on_terminal("spnlog", "verify", journal),
        "state": run_on_terminal("spnlog", "state", "--at", "2100-01-01T00:00:00Z", journal),
        "explain a session": run_on_terminal("spnlog", "explain", "c1" + PLANT, journal),
        "explain a connection": run_on_terminal("spnlog", "explain", "ab" * 16 + PLANT, journal),
        "explain nothing": run_on_terminal("spnlog", "explain", PLANT, journal),
        "metrics": run_on_terminal("spnlog", "metrics", journal),
        "metrics by hour": run_on_terminal("spnlog", "metrics", "--by", "hour", journal),
        "serve": run_on_terminal("spnlog", "serve", "--listen", "127.0.0.1:0", journal, until="serve.ready"),
        "replay-actors": run_on_terminal("spnlog", "replay-actors", recording),
        "a folder": run_on_terminal("spnlog", "verify", str(tmp_path / PLANT.replace("/", ""))),
    }
    commands |= others("spnlog", log.app, journal)
    for what, shown in zip(commands, await asyncio.gather(*commands.values()), strict=True):
        assert_harmless(shown, what)
        if what in COVERED["spnlog"] - {"serve", "replay"}:
            assert "FORGED" in shown, what


@pytest.mark.system
async def test_hub_and_agents(tmp_path: Path) -> None:
    """Faults of an inventory, a client whose certificate has such a name, and an inventory server that echoes."""
    inventory = planted_inventory(tmp_path / "planted.yaml")
    site = Site(tmp_path)
    named = {role: site.environment(role + PLANT[:30]) | {"SPN_LOG_LEVEL": "info"} for role in ("provider", "consumer")}
    named["provider"]["FORWARD_ADDRESS"] = "127.0.0.1:9"
    named["consumer"]["BIND_ADDRESS"] = "127.0.0.1:0"
    served = asyncio.Event()
    serving = asyncio.create_task(
        run_on_terminal(
            "spnhub",
            *("--inventory", f"file:{tmp_path}/inventory.yaml", "--journal", f"{tmp_path}/journal"),
            *("--log-format", "console"),
            until=served,
        )
    )

    def answer(path: str) -> tuple[int, object]:
        if path.startswith("/state"):
            return 200, state_of_a_hub()
        return 401, {"code": 401, "message": f"not {TOKEN}: {PLANT}"}

    with scripted(answer) as (url, _):
        address = url.removeprefix("http://")
        token = ("--inventory-token", TOKEN)
        commands = {
            "a hub's faults": run_on_terminal(
                "spnhub",
                *("--inventory", f"file:{inventory}", "--journal", f"{tmp_path}/other"),
                until="hub.ready",
            ),
            "a hub that is told off": run_on_terminal(
                "spnhub", "--inventory", url, *token, "--journal", f"{tmp_path}/third"
            ),
            "check": run_on_terminal("spnhub", "check", "--inventory", f"file:{inventory}"),
            "check over HTTP": run_on_terminal("spnhub", "check", "--inventory", url, *token),
            "check --json": run_on_terminal("spnhub", "check", "--json", "--inventory", url, *token),
            "check --diff": run_on_terminal(
                "spnhub",
                *("check", "--diff", "--ops", address, "--inventory", f"file:{tmp_path}/inventory.yaml"),
            ),
            "inventory": run_on_terminal(
                "spnhub", "inventory", "--listen", "127.0.0.1:0", str(inventory), until="inventory.ready"
            ),
            "init": run_on_terminal("spnhub", "init", "r/n/s" + PLANT, "--dir", str(tmp_path / "new")),
            "an argument": run_on_terminal("spnhub", "check", f"--{PLANT}"),
            **{
                role: run_on_terminal("spnagent", role, "--config", str(tmp_path / "none"), environment=named[role])
                for role in named
            },
            **others("spnhub", hub.app, PLANT),
            **others("spnagent", agent.app, PLANT),
            **{f"{role} refused": _refused(role, named[role]) for role in named},
        }
        for what, shown in zip(commands, await asyncio.gather(*commands.values()), strict=True):
            assert_harmless(shown, what)
            assert TOKEN not in shown, what
    served.set()
    shown = await serving
    assert_harmless(shown, "a hub")
    assert "\\x1b]0;owned" in shown


async def _refused(role: str, environment: dict[str, str]) -> str:
    return await run_on_terminal("spnagent", role, environment=environment)


def test_what_is_escaped() -> None:
    """Whatever drives a terminal, and nothing else: a text in any script stays."""
    assert printable(PLANT) == (r"\x1b]0;owned\x07\x1b[2J\x9b2J\r\nFORGED line\x08\u202eesrever\u2028\u200b")
    for text in ("café", "東京\u3000駅", "a\u00a0b", "שלום", "\\n", "🙂"):
        assert printable(text) == text
    assert printable("\ud800\U000e0041\ufeff\x7f") == r"\ud800\U000e0041\ufeff\x7f"


def test_a_secret_is_shown_nowhere() -> None:
    """Once it is known, and long enough not to be a word."""
    remember_secret("s3cret-token")
    remember_secret("abc")
    remember_secret(None)
    remember_secret("https://user:pass%21word@registry.example/")
    assert without_secrets("of s3cret-token, abc") == f"of {HIDDEN}, abc"
    assert without_secrets("https://registry.example/: pass!word") == f"https://registry.example/: {HIDDEN}"
    event = logging.hide_secrets(None, "info", {"event": "x", "reason": "no s3cret-token", "faults": ["s3cret-token"]})
    assert json.dumps(event).count("s3cret-token") == 0


def test_what_an_exception_says_is_no_line_of_the_log() -> None:
    """On a terminal a traceback is indented, and escaped line by line."""
    event = logging.escape_controls(None, "error", {"event": "x", "exception": f"Traceback\nValueError: {PLANT}"})
    for line in event["exception"].split("\n"):
        assert line.startswith("  ")
    assert not _DRIVING.search(event["exception"])
