"""``spnhub``: the hub, and what helps to set one up. Every option has an environment variable.

Counterparts: :mod:`spnhub.settings` checks what is given here, the hub process carries it out.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

import spnhub
from spnhub import logging, signals
from spnhub.cli.command_line import run_command_line
from spnhub.settings import (
    DATAGRAM_SIZES,
    DEFAULT_INVENTORY,
    DEFAULT_JOURNAL_SIZE,
    DEFAULT_TOPIC,
    ConfigurationError,
    HubSettings,
    KafkaSettings,
    default_hub_id,
    default_journal,
    parse_addresses,
    parse_age,
    parse_bind,
    parse_inventory_url,
    parse_size,
    split_address,
)
from spnhub.transport.system.loop import run as run_loop

__all__ = ["app", "main"]

app = typer.Typer(
    name="spnhub", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)

_INVENTORY_HELP = "Inventory: an http, https or file URL."
_LEVEL_HELP = "debug, info, warning, error or critical."
_FORMAT_HELP = "json or console.  [default: json; console on a terminal]"

_Inventory = Annotated[str, typer.Option("-c", "--inventory", envvar="SPNHUB_INVENTORY_URL", help=_INVENTORY_HELP)]
_Token = Annotated[
    str | None, typer.Option("--inventory-token", envvar="SPNHUB_INVENTORY_TOKEN", help="Its bearer token.")
]
_Bind = Annotated[
    str | None,
    typer.Option("--bind", metavar="ADDRESS", envvar="SPNHUB_BIND", help="Overrides every hub's serverAddress."),
]


_OpsAddress = Annotated[
    str | None,
    typer.Option(
        "--ops",
        metavar="ADDRESS:PORT",
        envvar="SPNHUB_OPS",
        help="HTTP of the running hub: /healthz, /readyz, /metrics, /state, /schemas/ids/ID.  [default: off]",
    ),
]


def _kafka_option(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--kafka-{name}", envvar=f"SPNHUB_KAFKA_{name.upper().replace('-', '_')}", help=text
    )
    return option


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    inventory: _Inventory = DEFAULT_INVENTORY,
    inventory_token: _Token = None,
    bind: _Bind = None,
    hub_id: Annotated[
        str | None,
        typer.Option(
            "--hub-id",
            envvar="SPNHUB_HUB_ID",
            help="Names this instance in events; stable over restarts.  [default: host name]",
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            metavar="DIR",
            envvar="SPNHUB_JOURNAL",
            help="Folder of the event journal.  [default: the hub id's in the platform's state folder]",
        ),
    ] = None,
    journal_size: Annotated[
        str,
        typer.Option(
            "--journal-size",
            metavar="BYTES",
            envvar="SPNHUB_JOURNAL_SIZE",
            help="Beyond it the oldest events go, shipped or not; 512M, 4G, 0: no bound.",
        ),
    ] = DEFAULT_JOURNAL_SIZE,
    journal_age: Annotated[
        str,
        typer.Option(
            "--journal-age",
            metavar="TIME",
            envvar="SPNHUB_JOURNAL_AGE",
            help="Events that are older go once they are shipped; 12h, 30d, 0: no bound.",
        ),
    ] = "0",
    journal_sync: Annotated[
        float,
        typer.Option(
            "--journal-sync",
            metavar="SECONDS",
            envvar="SPNHUB_JOURNAL_SYNC",
            help="What a power failure may take; 0: nothing, each event is on the disk before it shows.",
        ),
    ] = 1,
    alive_interval: Annotated[
        float,
        typer.Option(
            "--alive-interval",
            metavar="SECONDS",
            envvar="SPNHUB_ALIVE_INTERVAL",
            help="Between two signs of life in the events.",
        ),
    ] = 60,
    progress_interval: Annotated[
        float,
        typer.Option(
            "--progress-interval",
            metavar="SECONDS",
            envvar="SPNHUB_PROGRESS_INTERVAL",
            help="Open connections that have carried something tell of it in an event that often.",
        ),
    ] = 60,
    kafka: Annotated[
        str | None,
        typer.Option(
            "--kafka",
            metavar="HOST:PORT,...",
            envvar="SPNHUB_KAFKA",
            help="Brokers to ship events to.  [default: none, journal only]",
        ),
    ] = None,
    topic: Annotated[str, typer.Option("--topic", envvar="SPNHUB_TOPIC", help="Kafka topic.")] = DEFAULT_TOPIC,
    topic_partitions: Annotated[
        int,
        typer.Option("--topic-partitions", envvar="SPNHUB_TOPIC_PARTITIONS", help="Of a topic that is made."),
    ] = 6,
    topic_replication: Annotated[
        int | None,
        typer.Option(
            "--topic-replication",
            envvar="SPNHUB_TOPIC_REPLICATION",
            help="Of a topic that is made.  [default: 3, or as many as there are brokers]",
        ),
    ] = None,
    topic_min_insync: Annotated[
        int | None,
        typer.Option(
            "--topic-min-insync",
            envvar="SPNHUB_TOPIC_MIN_INSYNC",
            help="min.insync.replicas of a topic that is made.  [default: the brokers']",
        ),
    ] = None,
    topic_retention: Annotated[
        str | None,
        typer.Option(
            "--topic-retention",
            metavar="TIME",
            envvar="SPNHUB_TOPIC_RETENTION",
            help="Of a topic that is made; 12h, 30d, 0: for ever.  [default: the brokers']",
        ),
    ] = None,
    schema_registry: Annotated[
        str | None,
        typer.Option(
            "--schema-registry",
            metavar="URL",
            envvar="SPNHUB_SCHEMA_REGISTRY",
            help="Register the events' schemas there and ship its ids.  [default: none, the hub's own ids]",
        ),
    ] = None,
    kafka_security_protocol: Annotated[
        str, _kafka_option("security-protocol", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.")
    ] = "PLAINTEXT",
    kafka_sasl_mechanism: Annotated[
        str | None, _kafka_option("sasl-mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.")
    ] = None,
    kafka_sasl_username: Annotated[str | None, _kafka_option("sasl-username", "For SASL.")] = None,
    kafka_sasl_password: Annotated[str | None, _kafka_option("sasl-password", "For SASL.")] = None,
    kafka_ssl_cafile: Annotated[
        Path | None, _kafka_option("ssl-cafile", "CA certificates, PEM.  [default: the system's]")
    ] = None,
    kafka_ssl_capath: Annotated[Path | None, _kafka_option("ssl-capath", "Folder of CA certificates.")] = None,
    kafka_ssl_certfile: Annotated[Path | None, _kafka_option("ssl-certfile", "Client certificate, PEM.")] = None,
    kafka_ssl_keyfile: Annotated[Path | None, _kafka_option("ssl-keyfile", "Its key, PEM.")] = None,
    kafka_ssl_password: Annotated[str | None, _kafka_option("ssl-password", "Of the key.")] = None,
    ops: _OpsAddress = None,
    allow_process: Annotated[
        bool,
        typer.Option(
            "--allow-process",
            envvar="SPNHUB_ALLOW_PROCESS",
            help="Let the inventory name commands to run on this host (process:).",
        ),
    ] = False,
    idle_timeout: Annotated[
        float,
        typer.Option(
            "--idle-timeout",
            metavar="SECONDS",
            envvar="SPNHUB_IDLE_TIMEOUT",
            help="An endpoint that is silent for this long is lost.",
        ),
    ] = 20,
    keep_alive: Annotated[
        float,
        typer.Option(
            "--keep-alive",
            metavar="SECONDS",
            envvar="SPNHUB_KEEP_ALIVE",
            help="PING after so much silence; 0: never.",
        ),
    ] = 5,
    suspect_after: Annotated[
        float,
        typer.Option(
            "--suspect-after",
            metavar="SECONDS",
            envvar="SPNHUB_SUSPECT_AFTER",
            help="A provider that hasn't answered for this long gets nothing new, and its connections go on elsewhere.",
        ),
    ] = 3,
    probe_timeout: Annotated[
        float,
        typer.Option(
            "--probe-timeout",
            metavar="SECONDS",
            envvar="SPNHUB_PROBE_TIMEOUT",
            help="An endpoint whose port is closed is lost when it hasn't answered for this long.",
        ),
    ] = 1,
    gone_timeout: Annotated[
        float,
        typer.Option(
            "--gone-timeout",
            metavar="SECONDS",
            envvar="SPNHUB_GONE_TIMEOUT",
            help="Then its connections end with an error, if it hasn't come back.",
        ),
    ] = 1,
    resume_timeout: Annotated[
        float,
        typer.Option(
            "--resume-timeout",
            metavar="SECONDS",
            envvar="SPNHUB_RESUME_TIMEOUT",
            help="For so long a suspended connection counts in its provider's load.",
        ),
    ] = 60,
    return_spread: Annotated[
        float,
        typer.Option(
            "--return-spread",
            metavar="SECONDS",
            envvar="SPNHUB_RETURN_SPREAD",
            help="After a SIGTERM, endpoints come back to this address at a random moment within it.",
        ),
    ] = 2,
    datagram_size: Annotated[
        int,
        typer.Option(
            "--datagram-size",
            metavar="BYTES",
            envvar="SPNHUB_DATAGRAM_SIZE",
            help=f"Largest UDP payload sent, {DATAGRAM_SIZES[0]} to {DATAGRAM_SIZES[1]}.",
        ),
    ] = DATAGRAM_SIZES[0],
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="DIR",
            envvar="SPNHUB_RECORD",
            help="Record what the actors are told, for spnlog drive; no payload, no keys.  [default: off]",
        ),
    ] = None,
    record_size: Annotated[
        int,
        typer.Option("--record-size", metavar="MIB", envvar="SPNHUB_RECORD_SIZE", help="Of all recordings in DIR."),
    ] = 256,
    log_level: Annotated[str, typer.Option("--log-level", envvar="SPNHUB_LOG_LEVEL", help=_LEVEL_HELP)] = "info",
    log_format: Annotated[
        logging.LogFormat | None, typer.Option("--log-format", envvar="SPNHUB_LOG_FORMAT", help=_FORMAT_HELP)
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int:
    """Run an SPN Hub: join the consumers and providers that the inventory allows.

    SIGTERM stops it so that connections go on at another hub, SIGINT ends them in order (a second one ends the hub at
    once), SIGHUP and SIGUSR1 read the inventory again. Log lines go to standard output; hub.ready says that packets are
    taken.
    """
    if version:
        typer.echo(spnhub.__version__)
        raise typer.Exit
    if context.invoked_subcommand is not None:
        if context.invoked_subcommand != "inventory":
            signals.release()
        _refuse_misplaced(context)
        return 0
    own_id = default_hub_id() if hub_id is None else hub_id
    settings = HubSettings(
        inventory=inventory,
        inventory_token=inventory_token,
        bind=bind,
        hub_id=own_id,
        journal=default_journal(own_id) if journal is None else journal,
        journal_size=parse_size(journal_size, "--journal-size"),
        journal_age=parse_age(journal_age, "--journal-age"),
        journal_sync=journal_sync,
        alive_interval=alive_interval,
        progress_interval=progress_interval,
        kafka=None
        if kafka is None
        else KafkaSettings(
            bootstrap_servers=parse_addresses(kafka, "--kafka"),
            topic=topic,
            partitions=topic_partitions,
            replication=topic_replication,
            min_insync=topic_min_insync,
            retention=None if topic_retention is None else parse_age(topic_retention, "--topic-retention") or -1,
            schema_registry=schema_registry,
            security_protocol=kafka_security_protocol,
            sasl_mechanism=kafka_sasl_mechanism,
            sasl_username=kafka_sasl_username,
            sasl_password=kafka_sasl_password,
            ssl_cafile=kafka_ssl_cafile,
            ssl_capath=kafka_ssl_capath,
            ssl_certfile=kafka_ssl_certfile,
            ssl_keyfile=kafka_ssl_keyfile,
            ssl_password=kafka_ssl_password,
        ),
        ops=ops,
        allow_process=allow_process,
        idle_timeout=idle_timeout,
        keep_alive=keep_alive,
        suspect_after=suspect_after,
        probe_timeout=probe_timeout,
        gone_timeout=gone_timeout,
        resume_timeout=resume_timeout,
        return_spread=return_spread,
        datagram_size=datagram_size,
        record=record,
        record_size=record_size,
        log_level=log_level,
        log_format=log_format,
    )
    logging.configure(settings.log_level, settings.log_format)
    # Imported late: `spnhub check` and `--help` need nothing of it.
    from spnhub import hub_process  # noqa: PLC0415

    return hub_process.run(settings)


@app.command()
def check(
    inventory: _Inventory = DEFAULT_INVENTORY,
    inventory_token: _Token = None,
    bind: _Bind = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what a reload of the hub at --ops would change, and do nothing.")
    ] = False,
    ops: _OpsAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> int:
    """Read an inventory and name every fault in it; exit status 0, or 2 with faults."""
    parse_inventory_url(inventory)
    if bind is not None:
        parse_bind(bind)
    # Imported late: a hub needs nothing of it.
    from spnhub.cli import check as checking  # noqa: PLC0415

    if diff and ops is None:
        raise ConfigurationError("--ops is missing (--diff compares with the hub that answers there)")
    if ops is not None:
        split_address(ops, "--ops")
    # Retries say nothing of their own here: what comes out is the faults, a line each.
    logging.configure("error", stream=sys.stderr)
    return run_loop(checking.run(inventory, inventory_token, bind=bind, ops=ops if diff else None, as_json=as_json))


@app.command(name="inventory")
def serve_inventory(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML or JSON document: realms: [...].")],
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", envvar="SPNHUB_INVENTORY_LISTEN", help="Port 0: any that is free."
        ),
    ] = "127.0.0.1:8080",
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SPNHUB_INVENTORY_TOKEN", help="Bearer token that requests must bring."),
    ] = None,
) -> int:
    """Serve a file as the inventory API, for development; the file is read again when it changes."""
    host, port = split_address(listen, "--listen")
    logging.configure()
    # Imported late: a hub needs no HTTP server.
    from spnhub.inventory.server import serve_until_signalled  # noqa: PLC0415

    asyncio.run(serve_until_signalled(file, token, host, port))
    return 0


@app.command()
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
            raise ConfigurationError(f"{parameter.opts[-1]} belongs behind {context.invoked_subcommand!r}")


def main() -> int:
    """Entry point of ``spnhub``; returns the exit status."""
    return run_command_line(app, "spnhub")
