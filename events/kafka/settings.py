"""How to reach Kafka: settings, ``kafka://`` addresses, and what the hub and its shipper tell each other.

Imports nothing of Kafka, so that the hub's process doesn't either. Counterparts: :mod:`spnhub.events.kafka.topic` turns
the settings into aiokafka's arguments; :mod:`spnhub.events.shipper.shipper` and :mod:`spnhub.events.shipper.process`
are the two ends of the JSON lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

__all__ = [
    "KafkaSettings",
    "KafkaSettingsError",
    "ShipperSettings",
    "ShipperState",
    "ShipperStatus",
    "parse_kafka_url",
]

ShipperState = str

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SCHEME: Final = "kafka://"


class KafkaSettingsError(ValueError):
    """A setting that cannot be right; the message names it and says why. A retry doesn't help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where the log is in Kafka, and how to get in. Names as in aiokafka.

    :raises KafkaSettingsError: something in it cannot be right.
    """

    bootstrap_servers: str
    """``host:port``, several separated by commas."""
    topic: str = "spn.events"
    partitions: int = 6
    """Of the topic, if the shipper is the one who creates it; as the three that follow."""
    replication: int | None = None
    """Copies of each partition; None: as many as there are brokers, three at most."""
    min_insync: int | None = None
    """Copies that must have a record before it counts (``min.insync.replicas``); None: the brokers' default."""
    retention: float | None = None
    """Seconds that records are kept (``retention.ms``); None: the brokers' default, below 0: for ever."""
    schema_registry: str | None = field(default=None, repr=False)
    """URL of a registry whose schema ids are in the topic; None: the repository's own are."""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    """PEM file; None: the system's roots."""
    ssl_capath: str | None = None
    """Folder of PEM files, hashed as OpenSSL wants it."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_servers(self.bootstrap_servers)
        _check_topic(self.topic)
        if self.partitions < 1:
            raise KafkaSettingsError(f"a topic has at least one partition, not {self.partitions}")
        if self.replication is not None and self.replication < 1:
            raise KafkaSettingsError(f"a partition has at least one copy, not {self.replication}")
        if self.min_insync is not None and not 1 <= self.min_insync <= (self.replication or self.min_insync):
            raise KafkaSettingsError(
                f"min.insync.replicas is between 1 and the copies of a partition, not {self.min_insync}"
            )
        if self.schema_registry is not None and not self.schema_registry.startswith(("http://", "https://")):
            raise KafkaSettingsError("the schema registry is not an http or https URL")
        if self.security_protocol not in _PROTOCOLS:
            raise KafkaSettingsError(f"security protocol {self.security_protocol!r} is none of {', '.join(_PROTOCOLS)}")
        if self.security_protocol.startswith("SASL"):
            if self.sasl_mechanism not in _MECHANISMS:
                raise KafkaSettingsError(f"SASL mechanism {self.sasl_mechanism!r} is none of {', '.join(_MECHANISMS)}")
            if self.sasl_username is None or self.sasl_password is None:
                raise KafkaSettingsError(f"{self.security_protocol} needs a user name and a password")

    @staticmethod
    def security_from(environment: Mapping[str, str]) -> dict[str, str]:
        """The security settings that are in an environment, each as ``SPNHUB_KAFKA_`` and its name in capitals, and
        the schema registry, as ``SPNHUB_SCHEMA_REGISTRY``."""
        known = KafkaSettings.security_variables().items()
        return {name: value for variable, name in known if (value := environment.get(variable))}

    @staticmethod
    def security_variables() -> dict[str, str]:
        """The environment variables of those settings, with the settings' names."""
        names = [f.name for f in fields(KafkaSettings) if f.name.startswith(("security_", "sasl_", "ssl_"))]
        return {f"SPNHUB_KAFKA_{name.upper()}": name for name in names} | {"SPNHUB_SCHEMA_REGISTRY": "schema_registry"}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the passwords among them: for a pipe, not for a log."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        :raises KafkaSettingsError: a name that isn't known, or a value that cannot be right.
        """
        _check_names(cls, values)
        return cls(**values)


def _check_names(cls: type, values: dict[str, Any]) -> None:
    unknown = set(values) - {f.name for f in fields(cls)}
    if unknown:
        raise KafkaSettingsError(f"unknown setting {', '.join(sorted(unknown))}")


def _check_servers(text: str) -> None:
    for server in text.split(","):
        host, colon, port = server.strip().rpartition(":")
        if not colon or not host:
            raise KafkaSettingsError(f"a Kafka server is host:port, not {server.strip()!r}")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise KafkaSettingsError(f"{port!r} in {server.strip()!r} is not a port")
        if "/" in host or "@" in host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
            raise KafkaSettingsError(f"{host!r} in {server.strip()!r} is not a host")


def _check_topic(topic: str) -> None:
    if not _TOPIC.fullmatch(topic) or topic in {".", ".."}:
        raise KafkaSettingsError(f"{topic!r} is not a topic name: 1 to 249 letters, digits, '.', '_' or '-'")


def parse_kafka_url(url: str, **other: Any) -> KafkaSettings:
    """Settings from ``kafka://host:port[,host:port…]/topic``.

    :param other: further settings, by name (security, passwords): they have no place in an address.
    :raises KafkaSettingsError: not such an address.
    """
    if not url.startswith(_SCHEME):
        raise KafkaSettingsError(f"{url!r} doesn't begin with {_SCHEME}")
    servers, slash, topic = url.removeprefix(_SCHEME).partition("/")
    if not servers:
        raise KafkaSettingsError(f"{url!r} names no server: kafka://host:port/topic")
    if "@" in servers:
        raise KafkaSettingsError("user names and passwords have no place in a kafka:// address; use the settings")
    if not slash or not topic:
        raise KafkaSettingsError(f"{url!r} names no topic: kafka://host:port/topic")
    return KafkaSettings(bootstrap_servers=servers, topic=topic, **other)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperSettings:
    """What a shipper is told on its standard input, one JSON document on one line."""

    journal: Path
    kafka: KafkaSettings
    drain: float = 10.0
    """Seconds it goes on after its standard input has ended, if there still is something to ship."""
    linger: float = 0.01
    """Seconds a batch that isn't full waits for company."""
    stall: float = 3.0
    """Seconds without an acknowledgement after which this is said."""
    give_up: float = 30.0
    """Seconds without an acknowledgement after which the producer is replaced."""
    backoff: float = 5.0
    """Longest pause between attempts, in seconds; a refused record's is six times that."""
    look: float = 10.0
    """Seconds between two looks at the topic: whether it is still there, the same, and keeps what it gets."""

    def to_json(self) -> str:
        """One line."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return json.dumps(values | {"journal": str(self.journal), "kafka": self.kafka.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of :meth:`to_json`.

        :raises KafkaSettingsError: not such a document.
        """
        try:
            values = json.loads(text)
        except ValueError as exc:
            raise KafkaSettingsError(f"the settings are not JSON: {exc}") from exc
        if not isinstance(values, dict):
            raise KafkaSettingsError("the settings are not a JSON object")
        _check_names(cls, values)
        try:
            kafka = KafkaSettings.from_dict(values["kafka"])
            return cls(**values | {"journal": Path(values["journal"]), "kafka": kafka})
        except (KeyError, TypeError) as exc:
            raise KafkaSettingsError(f"the settings are incomplete: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperStatus:
    """What a shipper says about itself, one JSON document a line, or its supervisor about it.

    States:

    - ``waiting``: another shipper holds the journal;
    - ``connected``;
    - ``unreachable``: no broker, or no acknowledgement; retried for ever;
    - ``shipped``: the numbers moved; at most once a second;
    - ``refused``: the broker will not take the record ``sequence``; it is tried again, ``attempts`` times so far, while
      what isn't of its partition goes on, until an EventsLost in the journal declares it as lost;
    - ``rewound``: the topic or the journal lost records, so what is still in the journal is shipped again;
    - ``held``: the topic's settings lose what it acknowledges, so nothing is shipped into it until they don't;
    - ``unreadable``: the journal or the position file cannot be used; retried;
    - ``left``: it ends in order, with a ``reason`` when something was left to ship;
    - ``died``: said by the supervisor, it ended otherwise and is started again.
    """

    state: ShipperState
    position: int = 0
    """Every event up to this sequence is acknowledged."""
    behind: int = 0
    """Events read from the journal and not yet acknowledged."""
    sequence: int | None = None
    attempts: int = 0
    reason: str = ""
    lasting: bool = False
    """What is wrong is for people to mend: a password, a certificate, a setting of the topic."""
    topic_faults: tuple[str, ...] = ()
    """What is wrong with the topic's settings, a line each."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The inverse of :meth:`to_json`.

        :raises ValueError: not such a document.
        """
        values = json.loads(text)
        try:
            return cls(**values | {"topic_faults": tuple(values.get("topic_faults", ()))})
        except (TypeError, AttributeError) as exc:
            raise ValueError(f"not a shipper's status: {text!r}") from exc
