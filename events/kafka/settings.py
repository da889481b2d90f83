"""How to reach Kafka: settings, ``kafka://`` addresses, and the messages between the hub and its shipper.

Imports nothing of Kafka, so that the hub's process doesn't have to. Counterparts: :mod:`spnhub.events.kafka.topic`
turns the settings into aiokafka's arguments; :mod:`spnhub.events.shipper.shipper` and
:mod:`spnhub.events.shipper.process` are the two ends of the JSON lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from spnhub.dataclass import dataclass
from spnhub.options import UnusableOption, check_options, option, option_fields, parse_addresses, parse_age

__all__ = [
    "KafkaSettings",
    "KafkaSettingsError",
    "ShipperSettings",
    "ShipperState",
    "ShipperStatus",
    "parse_kafka_url",
]

ShipperState = str

_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SCHEME: Final = "kafka://"


class KafkaSettingsError(ValueError):
    """A setting that cannot be right; the message names it and says why. A retry doesn't help."""


def _check_topic(name: str) -> None:
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ValueError(f"{name!r} is no Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'")


def _check_registry(url: str) -> None:
    # Not shown: a password may be in it.
    if not url.startswith(("http://", "https://")):
        raise ValueError("that is not an http or https URL")


def _parse_retention(text: str) -> float:
    """Kafka's own word for "for ever" is a number below 0."""
    return parse_age(text) or -1


def _joined(text: str) -> str:
    """The addresses of a list without blanks around them."""
    return ",".join(parse_addresses(text))


_kafka = partial(option, group="Kafka")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Where the log is in Kafka, and how to get in. Names are aiokafka's (``create_ssl_context`` for ``ssl_…``).

    :raises UnusableOption: settings that can't be used, or don't fit together.
    """

    bootstrap_servers: str = _kafka(
        help="Brokers to ship events to.",
        flag="kafka",
        metavar="HOST:PORT,...",
        parse=_joined,
        default_text="none, journal only",
        check=parse_addresses,
    )
    """``host:port``, several separated by commas."""
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
    """None: PLAIN."""
    sasl_username: str | None = _kafka(None, "For SASL.", flag="kafka-sasl-username")
    sasl_password: str | None = _kafka(None, "For SASL.", flag="kafka-sasl-password", secret=True, from_file=True)
    ssl_cafile: Path | None = _kafka(
        None, "CA certificates, PEM.", flag="kafka-ssl-cafile", default_text="the system's"
    )
    ssl_capath: Path | None = _kafka(None, "Folder of CA certificates.", flag="kafka-ssl-capath")
    ssl_certfile: Path | None = _kafka(None, "Client certificate, PEM.", flag="kafka-ssl-certfile")
    ssl_keyfile: Path | None = _kafka(None, "Its key, PEM.", flag="kafka-ssl-keyfile")
    ssl_password: str | None = _kafka(None, "Of the key.", flag="kafka-ssl-password", secret=True, from_file=True)

    def __post_init__(self) -> None:
        check_options(self)
        if self.min_insync is not None and self.replication is not None and self.min_insync > self.replication:
            above = f": {self.min_insync} is above --topic-replication ({self.replication})"
            raise UnusableOption("min_insync", above)
        if self.security_protocol.startswith("SASL_"):
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    raise UnusableOption(name, f" is missing ({self.security_protocol} needs it)")

    @staticmethod
    def security_from(environment: Mapping[str, str]) -> dict[str, Any]:
        """The security settings, and the schema registry, that are in an environment."""
        known = KafkaSettings.security_variables()
        return {name: _of_type(name, value) for variable, name in known.items() if (value := environment.get(variable))}

    @staticmethod
    def security_variables() -> dict[str, str]:
        """The environment variables of those settings, as the hub has them, with the settings' names."""
        others = ("bootstrap_servers", "topic", "partitions", "replication", "min_insync", "retention")
        known = (one for one in option_fields(KafkaSettings) if one.name not in others)
        return {variable: one.name for one in known for variable in one.variables("SPNHUB_")}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the passwords among them: for a pipe, not for a log."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        :raises KafkaSettingsError: a name that isn't known, or a value that cannot be right.
        """
        _check_names(cls, values)
        try:
            return cls(**{name: _of_type(name, value) for name, value in values.items()})
        except UnusableOption as exc:
            raise KafkaSettingsError(str(exc)) from exc


def _of_type(name: str, value: Any) -> Any:
    """A path of a text."""
    return Path(value) if isinstance(value, str) and name in _PATHS else value


_PATHS: Final = frozenset(one.name for one in option_fields(KafkaSettings) if one.type is Path)


def _check_names(cls: type, values: dict[str, Any]) -> None:
    unknown = set(values) - {f.name for f in fields(cls)}
    if unknown:
        raise KafkaSettingsError(f"unknown setting {', '.join(sorted(unknown))}")


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
    try:
        return KafkaSettings(bootstrap_servers=servers, topic=topic, **other)
    except UnusableOption as exc:
        # What isn't of the address is of the environment.
        variables = {name: variable for variable, name in KafkaSettings.security_variables().items()}
        label = variables.get(exc.name, "")
        raise KafkaSettingsError((label + exc.fault).removeprefix(": ")) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipperSettings:
    """The settings that a shipper gets on its standard input, one JSON document on one line."""

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
    """A status report of a shipper, or of its supervisor about it: one JSON document a line.

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
