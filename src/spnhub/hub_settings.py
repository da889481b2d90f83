"""What the ``spnhub`` command can be told: each option of it is a field here, or of a class that is nested here.

Counterparts: :mod:`spnhub.options` says what follows from a field, :mod:`spnhub.cli.hub` has the command, and the hub
process does as it was told.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import platformdirs

from spnhub.actors.contract.options import ActorOptions
from spnhub.events.kafka.settings import KafkaSettings as ShippingSettings
from spnhub.logging import LEVELS, LogFormat
from spnhub.options import UnusableOption, check_options, nested, option
from spnhub.settings import check_inventory_url, parse_address, parse_addresses, parse_age, parse_size
from spnhub.transport.engine import Limits

__all__ = ["HubSettings", "KafkaSettings", "default_hub_id", "default_journal"]

_TOPIC_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _check_topic(name: str) -> None:
    if not name or len(name) > 249 or not set(name) <= _TOPIC_CHARACTERS:
        raise ValueError(f"{name!r} is no Kafka topic name")


def _check_registry(url: str) -> None:
    # Not shown: a password may be in it.
    if not url.startswith(("http://", "https://")):
        raise ValueError("that is not an http or https URL")


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"{path} does not exist")


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a folder")


def _check_ip_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _check_hub_id(name: str) -> None:
    if not name or not name.isprintable():
        raise ValueError(f"{name!r} can't name a hub")


def _check_journal_size(size: int) -> None:
    if size < 1 << 20:
        raise ValueError(f"{size} is below 1M")


def _parse_retention(text: str) -> float:
    """Kafka's own word for "for ever" is a number below 0."""
    return parse_age(text) or -1


_inventory = partial(option, group="Inventory")
_journal = partial(option, group="Event journal")
_kafka = partial(option, group="Kafka")
_operations = partial(option, group="Operations")
_logging = partial(option, group="Logging")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where events are shipped to, and how to get in. Names are aiokafka's (``create_ssl_context`` for ``ssl_…``).

    :raises UnusableOption: settings that can't be used, or don't fit together.
    """

    bootstrap_servers: tuple[str, ...] = _kafka(
        help="Brokers to ship events to.",
        flag="kafka",
        metavar="HOST:PORT,...",
        parse=parse_addresses,
        default_text="none, journal only",
    )
    topic: str = _kafka("spn.events", "Kafka topic.", check=_check_topic)
    partitions: int = _kafka(
        6, "Of a topic that the hub makes, as the next three.", flag="topic-partitions", at_least=1, at_most=10_000
    )
    replication: int | None = _kafka(
        None,
        "Copies of each partition.",
        flag="topic-replication",
        at_least=1,
        at_most=10_000,
        default_text="3, or as many as there are brokers",
    )
    min_insync: int | None = _kafka(
        None,
        "Copies that must have an event before it counts (min.insync.replicas).",
        flag="topic-min-insync",
        at_least=1,
        at_most=10_000,
        default_text="the brokers'",
    )
    retention: float | None = _kafka(
        None,
        "How long Kafka keeps events: 12h, 30d; 0: for ever.",
        flag="topic-retention",
        metavar="TIME",
        parse=_parse_retention,
        default_text="the brokers'",
    )
    schema_registry: str | None = _kafka(
        None,
        "Registry (Confluent's API) to register the events' schemas at; its ids are shipped.",
        metavar="URL",
        check=_check_registry,
        default_text="none, the hub's own ids",
        secret=True,
        from_file=True,
    )
    security_protocol: str = _kafka(
        "PLAINTEXT",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
        flag="kafka-security-protocol",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    )
    sasl_mechanism: str | None = _kafka(
        None,
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
        flag="kafka-sasl-mechanism",
        choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    )
    sasl_username: str | None = _kafka(None, "For SASL.", flag="kafka-sasl-username")
    sasl_password: str | None = _kafka(None, "For SASL.", flag="kafka-sasl-password", secret=True, from_file=True)
    ssl_cafile: Path | None = _kafka(
        None, "CA certificates, PEM.", flag="kafka-ssl-cafile", default_text="the system's", check=_check_file
    )
    ssl_capath: Path | None = _kafka(None, "Folder of CA certificates.", flag="kafka-ssl-capath", check=_check_file)
    ssl_certfile: Path | None = _kafka(None, "Client certificate, PEM.", flag="kafka-ssl-certfile", check=_check_file)
    ssl_keyfile: Path | None = _kafka(None, "Its key, PEM.", flag="kafka-ssl-keyfile", check=_check_file)
    ssl_password: str | None = _kafka(None, "Of the key.", flag="kafka-ssl-password", secret=True, from_file=True)

    def __post_init__(self) -> None:
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        if "SSL" not in protocol:
            for name in ("ssl_cafile", "ssl_capath", "ssl_certfile", "ssl_keyfile"):
                if getattr(self, name) is not None:
                    needed = f" needs --kafka-security-protocol SSL or SASL_SSL, not {protocol}"
                    raise UnusableOption(name, needed)
        check_options(self)
        if self.min_insync is not None and self.replication is not None and self.min_insync > self.replication:
            above = f": {self.min_insync} is above --topic-replication ({self.replication})"
            raise UnusableOption("min_insync", above)
        if protocol.startswith("SASL_"):
            if mechanism is None:
                raise UnusableOption("sasl_mechanism", f" is missing ({protocol} needs it)")
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    raise UnusableOption(name, f" is missing ({mechanism} needs it)")
        elif mechanism is not None:
            needed = f" needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT, not {protocol}"
            raise UnusableOption("sasl_mechanism", needed)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise UnusableOption("ssl_certfile", " is missing (--kafka-ssl-keyfile needs it)")

    def shipping(self) -> ShippingSettings:
        """The same, as the shipper wants it."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        paths = {name: str(value) for name, value in values.items() if isinstance(value, Path)}
        more = {"bootstrap_servers": ",".join(self.bootstrap_servers), "sasl_mechanism": self.sasl_mechanism or "PLAIN"}
        return ShippingSettings(**values | paths | more)


def default_hub_id() -> str:
    """The host's name."""
    return socket.gethostname()


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """One hub process.

    :raises UnusableOption: a value that can't be used, or that doesn't fit another.
    """

    inventory: str = _inventory(
        "http://localhost:8080",
        "An http, https or file URL.",
        letter="c",
        metavar="URL",
        variables=("SPNHUB_INVENTORY_URL",),
        check=check_inventory_url,
    )
    inventory_token: str | None = _inventory(None, "Its bearer token.", secret=True, from_file=True)
    bind: str | None = _inventory(
        None,
        "An IP address that overrides every hub's serverAddress; 0.0.0.0 or ::, all of the host's, each answered from "
        "itself.",
        metavar="ADDRESS",
        default_text="the inventory's",
        check=_check_ip_address,
    )
    allow_process: bool = _inventory(False, "Let the inventory name commands to run on this host (process:).")
    hub_id: str = _journal(
        default_hub_id,
        "Names this instance in events; stable over restarts.",
        default_text="host name",
        check=_check_hub_id,
    )
    journal: Path = _journal(
        None,
        "Folder of the event journal.",
        metavar="DIR",
        default_text="the hub id's in the platform's state folder",
        check=_check_folder,
    )
    journal_size: int | None = _journal(
        4 << 30,
        "Beyond it the oldest events go; unshipped ones are declared as lost first. 512M, 4G; 0: no bound.",
        metavar="BYTES",
        parse=parse_size,
        default_text="4G",
        check=_check_journal_size,
    )
    journal_age: float | None = _journal(
        None,
        "Older events go once they are shipped. 12h, 30d; 0: no bound.",
        metavar="TIME",
        parse=parse_age,
        default_text="no bound",
        at_least=60,
        unit="seconds",
    )
    journal_sync: float = _journal(
        1.0,
        "Seconds of events that a power failure may take; 0: none, each event is on the disk before it shows.",
        metavar="SECONDS",
        at_least=0,
        at_most=3600,
        unit="seconds",
    )
    kafka: KafkaSettings | None = nested(KafkaSettings, None)
    """None: journal only."""
    actors: ActorOptions = nested(ActorOptions)
    limits: Limits = nested(Limits)
    return_spread: float = option(
        2.0,
        "After a SIGTERM, endpoints come back to this address at a random moment within it.",
        group="Connections",
        metavar="SECONDS",
        at_least=0,
        at_most=3600,
        unit="seconds",
    )
    """R-4.8."""
    ops: str | None = _operations(
        None,
        "HTTP of the running hub: /healthz, /readyz, /metrics, /state, /schemas/ids/ID; port 0: any that is free.",
        metavar="ADDRESS:PORT",
        default_text="off",
        check=parse_address,
    )
    record: Path | None = _operations(
        None,
        "Folder for recordings of what the actors are told, for spnlog replay-actors; no payload, no keys.",
        metavar="DIR",
        default_text="off",
        check=_check_folder,
    )
    record_size: int = _operations(
        256,
        "Of all recordings in it; then recording ends, and traffic goes on.",
        metavar="MIB",
        at_least=1,
        at_most=1_048_576,
        unit="MiB",
    )
    log_level: str = _logging("info", "debug, info, warning, error or critical.", choices=tuple(LEVELS))
    log_format: LogFormat | None = _logging(
        None, "json or console.", choices=("json", "console"), default_text="json; console on a terminal"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", self.journal or default_journal(self.hub_id))
        check_options(self)
        self.limits.check()


def default_journal(hub_id: str) -> Path:
    """A folder per hub id below the platform's state folder, so that two hubs on one host need two ids only.

    :raises UnusableOption: the id is no folder's name.
    """
    if hub_id in {"", ".", ".."} or any(c in hub_id for c in "/\\\0"):
        raise UnusableOption("journal", f" is missing (--hub-id {hub_id!r} can't name a folder)")
    return platformdirs.user_state_path("spnhub", appauthor=False) / hub_id
