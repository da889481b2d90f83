"""The ``spnagent`` command: lets ordinary TCP clients (``consumer``) and servers (``provider``) take part (R-1.3).

Options and environment are put together here; :mod:`spnhub.agent_process` runs what they say.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from spnhub import agent_process, logging, signals
from spnhub.agent_settings import ConsumerSettings, ProcessSettings, ProviderSettings
from spnhub.cli.command_line import Version, make_app, run_command_line
from spnhub.cli.options import Given, GroupedCommand, Origin, Reader, takes
from spnhub.transport.system.loop import run as run_loop

__all__ = ["main", "older_hub_url"]

_PREFIX: Final = "SPN_"
_OLD_VARIABLES: Final = ("SPN_HUB_HOSTNAME", "SPN_HUB_PORT")
"""What the older agents had for the URL, and no option has."""
_OLD_PORT: Final = "4433"

app = make_app("spnagent")


@app.callback()
def _callback(_version: Version = False) -> None:
    """Lets ordinary TCP programs take part in an SPN, with no code."""


@app.command(cls=GroupedCommand)
@takes(ConsumerSettings, _PREFIX)
def consumer(_: typer.Context, read: Reader[ConsumerSettings]) -> int:
    """Listen on TCP; every connection becomes one to the service."""
    return agent_process.run_one(read(**older_hub_url()))


@app.command(cls=GroupedCommand)
@takes(ProviderSettings, _PREFIX)
def provider(_: typer.Context, read: Reader[ProviderSettings]) -> int:
    """Connect to a TCP server for every connection of the service's consumers."""
    return agent_process.run_one(read(**older_hub_url()))


@app.command(cls=GroupedCommand)
@takes(ProcessSettings, _PREFIX)
def run(_: typer.Context, read: Reader[ProcessSettings]) -> int:
    """Run all agents of a host: the file has a table for each, [consumer.NAME] or [provider.NAME].

    Their keys are the options of those commands; what stands above the tables is for all. When the file changes, and on
    SIGHUP, it is read again: what didn't change isn't touched.
    """
    # Imported late: agents of one service need nothing of it.
    from spnhub.cli.host_file import read_host  # noqa: PLC0415

    def read_anew() -> agent_process.Settings:
        found = read_host(read)
        return found.process, found.agents

    file = read.file
    return agent_process.run_host(read_anew, None if file is None else Path(file.path))


@app.command(cls=GroupedCommand)
@takes(ProcessSettings, _PREFIX)
def check(
    _: typer.Context,
    read: Reader[ProcessSettings],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    fail_days: Annotated[
        int | None,
        typer.Option("--fail-days", min=0, metavar="N", help="A certificate that expires within N days is a fault."),
    ] = None,
) -> int:
    """Check the file of spnagent run, and for each agent its certificate, its hub and its server.

    Exit status 0, 1 with faults, or 2 if the file can't be used.
    """
    signals.release()
    # Imported late: agents need nothing of it.
    from spnhub.cli import agent_check  # noqa: PLC0415
    from spnhub.cli.host_file import read_host  # noqa: PLC0415

    agents = read_host(read).agents
    logging.configure("error", stream=sys.stderr)
    return run_loop(agent_check.run(agents, as_json=as_json, fail_days=fail_days))


def older_hub_url() -> dict[str, Given]:
    """The hub's URL from the variables of older agents, if no other is given."""
    hostname, port = map(os.environ.get, _OLD_VARIABLES)
    if not hostname:
        return {}
    return {"hub_url": Given(f"https://{hostname}:{port or _OLD_PORT}", Origin.VARIABLE, ", ".join(_OLD_VARIABLES))}


def main() -> int:
    """Entry point of ``spnagent``; returns the exit status."""
    return run_command_line(app, "spnagent", variables=_OLD_VARIABLES)
