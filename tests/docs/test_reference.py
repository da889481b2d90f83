"""The reference says what is so: every command is there, numbers are the code's. Options are made of the code."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import typer

import spnhub
from spnhub.actors.contract.options import ActorOptions
from spnhub.cli import agent, hub, log
from spnhub.transport.agent.consumer import ConsumerLimits
from spnhub.transport.agent.provider import ProviderLimits
from spnhub.transport.engine import Limits
from spnhub.transport.hub.rates import RealmRates, SessionRates
from tests.docs.pages import ROOT, table

SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
CLASSES = {
    one.__name__: one() for one in (Limits, ActorOptions, ConsumerLimits, ProviderLimits, RealmRates, SessionRates)
}
MODULES: dict[str, list[str]] = {}
"""Every module of the product by the last part of its name; of those that share one, one has such a bound."""
for found in pkgutil.walk_packages(spnhub.__path__, "spnhub."):
    # It has no such bound, and can't be imported where the native engine isn't built.
    if found.name == "spnhub.transport.native_engine.engine":
        continue
    MODULES.setdefault(found.name.rpartition(".")[2], []).append(found.name)


def test_commands() -> None:
    """Every command is in a heading, but names of before that still work."""
    headings = " ".join(line for line in SETTINGS.splitlines() if line.startswith("## "))
    for program, module in (("spnhub", hub), ("spnagent", agent), ("spnlog", log)):
        group: Any = typer.main.get_command(module.app)
        for name, command in group.commands.items():
            assert (f"`{program} {name}`" in headings) is not command.hidden


def test_limits() -> None:
    """Each number is the code's, and no bound of the classes is left out but those that are options."""
    rows = {name.strip("`"): value for name, value, _ in table("limits")}
    for name, value in rows.items():
        owner, attribute = name.split(".")
        sources = [CLASSES[owner]] if owner in CLASSES else map(importlib.import_module, MODULES[owner])
        found = [getattr(source, attribute) for source in sources if hasattr(source, attribute)]
        assert [str(bound) for bound in found] == [value], name
    options = {"Limits.idle_timeout", "Limits.keep_alive", "Limits.datagram_size", "ActorOptions.resume_timeout"}
    options |= {"Limits.suspect_after", "Limits.probe_timeout", "Limits.datagram_size_max"}
    options |= {"ActorOptions.identity_sessions", "ActorOptions.identity_connections"}
    options |= {"ActorOptions.gone_timeout", "ActorOptions.alive_interval", "ActorOptions.progress_interval"}
    inner = {"ConsumerLimits.connect", "ConsumerLimits.pause"}
    every = {f"{owner}.{attribute}" for owner, one in CLASSES.items() for attribute in one.__slots__}
    assert every - rows.keys() == options | inner
