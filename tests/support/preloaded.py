"""Imports what our commands have loaded by the time that they are ready (:mod:`tests.support.forked`)."""

from importlib import import_module

from spnhub.cli import start
from spnhub.transport.native_engine import why_not

start.load()
for _name in ("cli.hub", "cli.agent", "cli.log", "hub_process.main", "agent_process.main", "agent_process.running"):
    import_module(f"spnhub.{_name}")
import_module(f"spnhub.transport.{'native_engine' if why_not() is None else 'aioquic_engine'}.engine")
