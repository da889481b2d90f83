"""What the ``spnhub`` command was told: frozen, checked, and without a default that only one place knows.

Counterparts: :mod:`spnhub.cli.hub` fills these in from options and environment; the hub process reads them.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import platformdirs

from spnhub.events.kafka.settings import KafkaSettings as ShippingSettings
from spnhub.logging import LEVELS, LogFormat
from spnhub.transport.engine import Limits

__all__ = [
    "ConfigurationError",
    "HubSettings",
    "KafkaSettings",
    "default_hub_id",
    "default_journal",
    "parse_addresses",
    "parse_age",
    "parse_bind",
    "parse_inventory_url",
    "parse_size",
    "split_address",
]

DEFAULT_INVENTORY: Final = "http://localhost:8080"
DEFAULT_TOPIC: Final = "spn.events"
DEFAULT_JOURNAL_SIZE: Final = "4G"
DATAGRAM_SIZES: Final = (1200, 16383)
"""Bytes: what every QUIC path carries (RFC 9000 section 14), and what aioquic can send."""

_SECURITY_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_SASL_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class ConfigurationError(Exception):
    """Arguments or configuration that can't be used: exit status 2. The text is one line and names what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where events are shipped to, and how to get in. Names are aiokafka's (``create_ssl_context`` for ``ssl_…``).

    :raises ConfigurationError: settings that don't fit together.
    """

    bootstrap_servers: tuple[str, ...]
    """``HOST:PORT`` each."""
    topic: str = DEFAULT_TOPIC
    partitions: int = 6
    """Of the topic, where the hub makes it; as the three that follow."""
    replication: int | None = None
    """None: as many copies as there are brokers, three at most."""
    min_insync: int | None = None
    """None: the brokers' default."""
    retention: float | None = None
    """Seconds; None: the brokers' default."""
    schema_registry: str | None = field(default=None, repr=False)
    """None: the repository's schema ids are in the topic."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: Path | None = None
    ssl_capath: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _one_of("--kafka-security-protocol", self.security_protocol, _SECURITY_PROTOCOLS)
        if not self.topic or len(self.topic) > 249 or not set(self.topic) <= _TOPIC_CHARACTERS:
            raise ConfigurationError(f"--topic: {self.topic!r} is no Kafka topic name")
        for option, count in (
            ("--topic-partitions", self.partitions),
            ("--topic-replication", self.replication),
            ("--topic-min-insync", self.min_insync),
        ):
            if count is not None and not 1 <= count <= 10_000:
                raise ConfigurationError(f"{option}: {count} is not between 1 and 10000")
        if self.min_insync is not None and self.replication is not None and self.min_insync > self.replication:
            raise ConfigurationError(
                f"--topic-min-insync: {self.min_insync} is above --topic-replication ({self.replication})"
            )
        if self.schema_registry is not None and not self.schema_registry.startswith(("http://", "https://")):
            raise ConfigurationError("--schema-registry: that is not an http or https URL")
        if self.security_protocol.startswith("SASL_"):
            if self.sasl_mechanism is None:
                raise ConfigurationError(f"--kafka-sasl-mechanism is missing ({self.security_protocol} needs it)")
            _one_of("--kafka-sasl-mechanism", self.sasl_mechanism, _SASL_MECHANISMS)
            for option, value in (
                ("--kafka-sasl-username", self.sasl_username),
                ("--kafka-sasl-password", self.sasl_password),
            ):
                if not value:
                    raise ConfigurationError(f"{option} is missing ({self.sasl_mechanism} needs it)")
        elif self.sasl_mechanism is not None:
            raise ConfigurationError(
                f"--kafka-sasl-mechanism needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT, "
                f"not {self.security_protocol}"
            )
        for option, path in (
            ("--kafka-ssl-cafile", self.ssl_cafile),
            ("--kafka-ssl-capath", self.ssl_capath),
            ("--kafka-ssl-certfile", self.ssl_certfile),
            ("--kafka-ssl-keyfile", self.ssl_keyfile),
        ):
            if path is None:
                continue
            if "SSL" not in self.security_protocol:
                raise ConfigurationError(
                    f"{option} needs --kafka-security-protocol SSL or SASL_SSL, not {self.security_protocol}"
                )
            if not path.exists():
                raise ConfigurationError(f"{option}: {path} does not exist")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ConfigurationError("--kafka-ssl-certfile is missing (--kafka-ssl-keyfile needs it)")

    def shipping(self) -> ShippingSettings:
        """The same, as the shipper wants it."""

        def text(path: Path | None) -> str | None:
            return None if path is None else str(path)

        return ShippingSettings(
            bootstrap_servers=",".join(self.bootstrap_servers),
            topic=self.topic,
            partitions=self.partitions,
            replication=self.replication,
            min_insync=self.min_insync,
            retention=self.retention,
            schema_registry=self.schema_registry,
            security_protocol=self.security_protocol,
            sasl_mechanism=self.sasl_mechanism or "PLAIN",
            sasl_username=self.sasl_username,
            sasl_password=self.sasl_password,
            ssl_cafile=text(self.ssl_cafile),
            ssl_capath=text(self.ssl_capath),
            ssl_certfile=text(self.ssl_certfile),
            ssl_keyfile=text(self.ssl_keyfile),
            ssl_password=self.ssl_password,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """One hub process.

    :raises ConfigurationError: a value out of its range; the text names the option.
    """

    inventory: str = DEFAULT_INVENTORY
    """An http, https or file URL."""
    inventory_token: str | None = field(default=None, repr=False)
    bind: str | None = None
    """An IP address that overrides every network's serverAddress; None: the inventory's."""
    hub_id: str
    """Names this instance in events; stable over restarts (D-3)."""
    journal: Path
    """Folder of the local event journal."""
    journal_size: int | None = 4 << 30
    """Bytes of its segments (D-8); None: no bound."""
    journal_age: float | None = None
    """Seconds that its segments are kept at least, in which events that aren't shipped yet stay; None: no bound."""
    journal_sync: float = 1.0
    """Seconds between its fdatasyncs (D-6); 0: before anything is visible."""
    progress_interval: float = 60.0
    """Seconds from one look at the bytes of open connections to the next (D-10)."""
    alive_interval: float = 60.0
    """Seconds between two signs of life in the log."""
    kafka: KafkaSettings | None = None
    """None: journal only."""
    allow_process: bool = False
    """Whether the inventory may name commands to run on this host (``process:``)."""
    ops: str | None = None
    """``ADDRESS:PORT`` of the HTTP for operators (port 0: any that is free); None: off."""
    record: Path | None = None
    """Folder for recordings of the actors' inputs; None: off."""
    record_size: int = 256
    """MiB of all recordings in the folder, at most."""
    idle_timeout: float = 20.0
    """Seconds (D-20)."""
    keep_alive: float = 5.0
    """Seconds; 0 turns it off."""
    suspect_after: float = 3.0
    """Seconds; at most the idle timeout."""
    probe_timeout: float = 1.0
    """Seconds; likewise."""
    gone_timeout: float = 1.0
    """Seconds for an endpoint whose port is closed to come back, before its connections are over (D-20)."""
    resume_timeout: float = 60.0
    """Seconds for which a suspended connection counts in its provider's load (D-26)."""
    return_spread: float = 2.0
    """Seconds over which endpoints return after a resumable shutdown (R-4.8)."""
    datagram_size: int = 1200
    """Largest UDP payload sent, bytes."""
    log_level: str = "info"
    log_format: LogFormat | None = None
    """None: console on a terminal, else json."""

    def __post_init__(self) -> None:
        parse_inventory_url(self.inventory)
        if self.bind is not None:
            parse_bind(self.bind)
        if not self.hub_id or not self.hub_id.isprintable():
            raise ConfigurationError(f"--hub-id: {self.hub_id!r} can't name a hub")
        if self.journal.exists() and not self.journal.is_dir():
            raise ConfigurationError(f"--journal: {self.journal} is not a folder")
        if self.record is not None and self.record.exists() and not self.record.is_dir():
            raise ConfigurationError(f"--record: {self.record} is not a folder")
        if not 1 <= self.record_size <= 1_048_576:
            raise ConfigurationError(f"--record-size: {self.record_size} is not between 1 and 1048576 MiB")
        if self.journal_size is not None and self.journal_size < 1 << 20:
            raise ConfigurationError(f"--journal-size: {self.journal_size} is below 1M")
        if self.journal_age is not None and self.journal_age < 60:
            raise ConfigurationError(f"--journal-age: {self.journal_age:g} seconds is below 60")
        if not 0 <= self.journal_sync <= 3600:
            raise ConfigurationError(
                f"--journal-sync: {self.journal_sync:g} is not at least 0 and at most 3600 seconds"
            )
        intervals = (("--alive-interval", self.alive_interval), ("--progress-interval", self.progress_interval))
        for option, seconds in intervals:
            if not 0 < seconds <= 86_400:
                raise ConfigurationError(f"{option}: {seconds:g} is not above 0 and at most 86400 seconds")
        if self.ops is not None:
            split_address(self.ops, "--ops")
        fault = self.limits().time_fault(option_name)
        if fault is not None:
            raise ConfigurationError(fault)
        # The upper bound is an hour: anything above is a wrong unit, not a wish.
        if not 0 < self.gone_timeout <= 3600:
            raise ConfigurationError(f"--gone-timeout: {self.gone_timeout:g} is not above 0 and at most 3600 seconds")
        for option, seconds in (("--resume-timeout", self.resume_timeout), ("--return-spread", self.return_spread)):
            if not 0 <= seconds <= 3600:
                raise ConfigurationError(f"{option}: {seconds:g} is not at least 0 and at most 3600 seconds")
        low, high = DATAGRAM_SIZES
        if not low <= self.datagram_size <= high:
            raise ConfigurationError(f"--datagram-size: {self.datagram_size} is not between {low} and {high} bytes")
        _one_of("--log-level", self.log_level, tuple(LEVELS))
        if self.log_format is not None:
            _one_of("--log-format", self.log_format, ("json", "console"))

    def limits(self) -> Limits:
        """For the engine."""
        return Limits(
            idle_timeout=self.idle_timeout,
            keep_alive=self.keep_alive,
            suspect_after=self.suspect_after,
            probe_timeout=self.probe_timeout,
            datagram_size=self.datagram_size,
        )


def option_name(name: str) -> str:
    """``--idle-timeout`` for ``idle_timeout``."""
    return "--" + name.replace("_", "-")


def default_hub_id() -> str:
    """The host's name."""
    return socket.gethostname()


def default_journal(hub_id: str) -> Path:
    """A folder per hub id below the platform's state folder, so that two hubs on one host need two ids only (D-4)."""
    if hub_id in {"", ".", ".."} or any(c in hub_id for c in "/\\\0"):
        raise ConfigurationError(f"--journal is missing (--hub-id {hub_id!r} can't name a folder)")
    return platformdirs.user_state_path("spnhub", appauthor=False) / hub_id


def parse_inventory_url(url: str, option: str = "--inventory") -> str:
    """Check that ``url`` is an http, https or file URL, and give it back.

    :raises ConfigurationError: it isn't; ``option`` is named.
    """
    try:
        parts = urlsplit(url)
        usable = (parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0) or (
            parts.scheme == "file" and parts.path and parts.netloc in {"", "localhost"}
        )
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{option}: {url!r} is not an http, https or file URL")
    return url


def parse_bind(address: str) -> str:
    """Check that ``address`` is an IP address, and give it back.

    :raises ConfigurationError: it isn't.
    """
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ConfigurationError(f"--bind: {address!r} is not an IP address") from None
    return address


_SIZES: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AGES: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_size(text: str, option: str) -> int | None:
    """Bytes, from a number that K, M, G or T may follow (of 1,024); None for 0: no bound.

    :raises ConfigurationError: it isn't one; ``option`` is named.
    """
    return _number(text, option, _SIZES, "a size: bytes, or a number with K, M, G or T") or None


def parse_age(text: str, option: str) -> int | None:
    """Seconds, from a number that s, m, h or d may follow; None for 0: no bound.

    :raises ConfigurationError: it isn't one; ``option`` is named.
    """
    return _number(text, option, _AGES, "a time: seconds, or a number with s, m, h or d") or None


def _number(text: str, option: str, units: dict[str, int], what: str) -> int:
    digits = text.strip().rstrip("".join(units))
    unit = text.strip()[len(digits) :]
    if not digits.isascii() or not digits.isdigit() or unit not in units:
        raise ConfigurationError(f"{option}: {text!r} is not {what}")
    return int(digits) * units[unit]


def parse_addresses(text: str, option: str) -> tuple[str, ...]:
    """Take a list of ``HOST:PORT`` apart (an IPv6 address in brackets) at its commas.

    :raises ConfigurationError: one of them isn't HOST:PORT; ``option`` and the piece are named.
    """
    pieces = tuple(piece.strip() for piece in text.split(","))
    for piece in pieces:
        host, port = split_address(piece, option)
        if port == 0 or not host:
            raise ConfigurationError(f"{option}: {piece!r} is not HOST:PORT")
    return pieces


def split_address(text: str, option: str) -> tuple[str, int]:
    """Take one ``HOST:PORT`` apart; the brackets of an IPv6 address are taken off.

    :raises ConfigurationError: it isn't HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or any(c.isspace() or c in "/[]" for c in host) or not port.isascii() or not port.isdigit():
        raise ConfigurationError(f"{option}: {text!r} is not HOST:PORT")
    if int(port) > 65_535:
        raise ConfigurationError(f"{option}: port {port} of {text!r} is above 65535")
    return host, int(port)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{option}: {value!r} is none of {', '.join(allowed)}")


_TOPIC_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
