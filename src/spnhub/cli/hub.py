"""``spnhub``: the hub, and what helps to set one up.

Counterparts: :mod:`spnhub.hub_settings` has the options of the hub, which the hub process carries out.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from spnhub import logging, signals
from spnhub.cli.command_line import Version, make_app, run_command_line
from spnhub.cli.options import GroupedCommand, GroupedGroup, Reader, takes
from spnhub.cli.start import importing
from spnhub.dataclass import dataclass
from spnhub.hub_settings import HubSettings
from spnhub.options import host_names, option, parse_address
from spnhub.settings import SettingsError
from spnhub.transport.system.loop import run as run_loop

__all__ = ["app", "main"]

app = make_app("spnhub")

_PREFIX: Final = "SPNHUB_"


@app.callback(invoke_without_command=True, cls=GroupedGroup)
@takes(HubSettings, _PREFIX)
def run(
    context: typer.Context,
    read: Reader[HubSettings],
    _version: Version = False,
) -> int:
    """Run an SPN Hub: join the consumers and providers that the inventory allows.

    SIGTERM stops it so that connections go on at another hub, SIGINT ends them in order (a second one ends the hub at
    once), SIGHUP and SIGUSR1 read the inventory again. Log lines go to standard output; hub.ready says that packets are
    taken.
    """
    if context.invoked_subcommand is not None:
        if context.invoked_subcommand != "inventory":
            signals.release()
        _refuse_misplaced(context)
        return 0
    settings = read()
    logging.configure(settings.log_level, settings.log_format)
    # Imported late: `spnhub check` and `--help` need nothing of it, nor does who only watches over workers.
    if settings.workers > 1:
        from spnhub import hub_workers  # noqa: PLC0415

        return hub_workers.run(settings)
    with importing():
        from spnhub import hub_process  # noqa: PLC0415

    return hub_process.run(settings)


@app.command(cls=GroupedCommand)
@takes(HubSettings, _PREFIX, only=("inventory", "inventory_token", "bind", "ops", "ops_token"))
def check(
    _: typer.Context,
    read: Reader[HubSettings],
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what a reload of the hub at --ops would change, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    fail_days: Annotated[
        int | None,
        typer.Option("--fail-days", min=0, metavar="N", help="Status 1 if one expires within N days."),
    ] = None,
) -> int:
    """Read an inventory and name every fault in it; exit status 0, or 2 with faults.

    With --config, the whole file of settings is checked, too.
    """
    settings = read()
    # Imported late: a hub needs nothing of it.
    from spnhub.cli import check as checking  # noqa: PLC0415

    if diff and settings.ops is None:
        raise SettingsError("--ops is missing (--diff compares with the hub that answers there)")
    # Retries say nothing of their own here: what comes out is the faults, a line each.
    logging.configure("error", stream=sys.stderr)
    return run_loop(checking.run(settings, ops=settings.ops if diff else None, as_json=as_json, fail_days=fail_days))


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySettings:
    """Of the development server."""

    listen: tuple[str, int] = option(
        ("127.0.0.1", 8080),
        "Where the file is served; port 0: any that is free.",
        group="Inventory",
        metavar="HOST:PORT",
        parse=parse_address,
        default_text="127.0.0.1:8080",
    )
    hosts: tuple[str, ...] = host_names("host", "Inventory")
    token: str | None = option(
        None,
        "Bearer token that requests must bring.",
        group="Inventory",
        secret=True,
        from_file=True,
    )


@app.command(name="inventory", cls=GroupedCommand)
@takes(InventorySettings, "SPNHUB_INVENTORY_")
def serve_inventory(
    _: typer.Context,
    read: Reader[InventorySettings],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML or JSON document: realms: [...].")],
) -> int:
    """Serve a file as the inventory API, for development; the file is read again when it changes."""
    settings = read()
    logging.configure()
    # Imported late: a hub needs no HTTP server.
    from spnhub.inventory.server import serve_until_signalled  # noqa: PLC0415

    asyncio.run(serve_until_signalled(file, settings.token, *settings.listen, names=settings.hosts))
    return 0


@app.command(cls=GroupedCommand)
def init(
    name: Annotated[str, typer.Argument(metavar="REALM/NETWORK/SERVICE", help="What the network is called.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files are written.")] = Path("spn"),
    fqdn: Annotated[str, typer.Option("--fqdn", help="What endpoints call the hub: a name in DNS.")] = "localhost",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="The hub's UDP port.")] = 4433,
    systemd: Annotated[bool, typer.Option("--systemd", help="Write units for systemd, too.")] = False,
) -> int:
    """Make an own network: a development CA, certificates, an inventory, and the commands that run it."""
    # Imported late: nothing else needs it.
    from spnhub.cli import init as making  # noqa: PLC0415

    making.init(name, folder, fqdn=fqdn, port=port, systemd=systemd)
    return 0


@app.command(cls=GroupedCommand)
def demo(
    once: Annotated[bool, typer.Option("--once", help="End by itself, instead of leaving it up until Ctrl-C.")] = False,
) -> int:
    """Show it all on this machine: a hub, agents, real traffic, and the events; nothing is left behind."""
    # Imported late: nothing else needs it.
    from spnhub.demo import story  # noqa: PLC0415

    return story.run(once)


def _refuse_misplaced(context: typer.Context) -> None:
    """An option before the name of a subcommand would be taken and forgotten."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise SettingsError(f"{parameter.opts[-1]} belongs behind {context.invoked_subcommand!r}")


def main() -> int:
    """Entry point of ``spnhub``; returns the exit status."""
    return run_command_line(app, "spnhub")
