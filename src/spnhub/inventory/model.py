"""The objects of the inventory API, as it describes them: realm, hub, service, availability management.

Unknown fields are ignored, since the API grows (in a file :mod:`spnhub.inventory.judge` names them), and null is the
same as absent. Keys are kept out of ``repr``. Counterpart: :mod:`spnhub.inventory.build` makes the hub's own
definitions from these and names every fault.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints
from pydantic import model_validator as validates_model
from pydantic.alias_generators import to_camel

from spnhub.actors.contract.definitions import Availability, NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.clusters import Schedule, ServiceTask, TaskMount, check_urn, environment, split_command
from spnhub.events.model import from_datetime
from spnhub.inventory import pem
from spnhub.transport.engine import Revocation
from spnhub.transport.revocation import parse_name
from spnhub.transport.text import oddity, quoted

__all__ = [
    "LEAST_BANDWIDTH",
    "LEAST_HANDSHAKES",
    "MOST_CRLS",
    "MOST_REVOKED",
    "AvailabilityManagement",
    "Hub",
    "MountPoint",
    "Realm",
    "Service",
    "is_crl_url",
]

MOST_CRLS: Final = 64
"""Revocation lists of a realm."""
MOST_REVOKED: Final = 10_000
"""Certificates that a realm revokes by name; more are for a list."""
LEAST_BANDWIDTH: Final = 1 << 15
"""Bytes a second that a realm or a service is given, if it has a bound."""
LEAST_HANDSHAKES: Final = 8
"""Handshakes at once that a realm is given, if it has a bound: of fewer there is no eighth."""
_REALM_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_HOST_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


def _realm_name(name: str) -> str:
    if _REALM_NAME.fullmatch(name) is None:
        raise ValueError(f"does not match ^[a-z0-9][a-z0-9-]*$: {quoted(name)}")
    if name == "master":
        raise ValueError('is "master", which is reserved')
    return name


def _name(name: str) -> str:
    # The name becomes part of URNs and of URL paths: a colon would make two services share one URN.
    if not name or oddity(name) or any(c in ":/?#%" or c.isspace() for c in name):
        raise ValueError(f"is empty or holds a character that can't be part of a URN: {quoted(name)}")
    return name


def _visible(text: str) -> str:
    # It is compared with what a certificate holds, or names a thing elsewhere: what can't be seen is never meant.
    if (odd := oddity(text)) is not None:
        raise ValueError(f"{odd}: {quoted(text)}")
    return text


def _whole(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("holds half of a character (a lone surrogate)")
    return text


def _fqdn(name: str) -> str:
    lowered = name.removesuffix(".").lower()
    if len(lowered) > 253 or _HOST_NAME.fullmatch(lowered) is None:
        raise ValueError(f"is not a host name: {quoted(name)}")
    try:
        ipaddress.ip_address(lowered)
    except ValueError:
        return lowered
    raise ValueError("is an address: TLS clients send no SNI for one (D-19)")


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"is not an IP address: {quoted(text)}") from None


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError(f"is not an ISO 8601 time: {quoted(value)}") from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    raise ValueError("is not an ISO 8601 time")


def _cron(text: str) -> str:
    # Raises a ValueError that names the cron field.
    Schedule.parse(text)
    return text


def _manager_urn(urn: str) -> str:
    _visible(urn)
    check_urn(urn)
    return urn


def _command(value: Any) -> Any:
    # A union would put the names of its members into the path of a fault.
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
        raise ValueError("is neither a string nor an array of strings")
    split_command(value)
    return value


Text = Annotated[str, StringConstraints(strict=True), AfterValidator(_whole)]
NonEmpty = Annotated[str, StringConstraints(strict=True, min_length=1), AfterValidator(_visible)]
Name = Annotated[Text, AfterValidator(_name)]


def is_crl_url(text: str) -> bool:
    """Whether a revocation list is named by where it is."""
    return re.match(r"(https?|file):", text) is not None


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _revocation_list(text: str) -> str:
    return text if is_crl_url(text) else pem.check_crl(text)


Certificates = Annotated[Text, AfterValidator(pem.check_certificates)]
PresentedCertificates = Annotated[Text, AfterValidator(pem.check_presented)]
PrivateKey = Annotated[Text, AfterValidator(pem.check_key)]
RevocationLists = Annotated[
    list[Annotated[Text, AfterValidator(_revocation_list)]], BeforeValidator(_several), Field(max_length=MOST_CRLS)
]
RevokedNames = Annotated[list[Annotated[Text, AfterValidator(parse_name)]], Field(max_length=MOST_REVOKED)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Cron = Annotated[Text, AfterValidator(_cron)]
Command = Annotated[str | list[str] | None, BeforeValidator(_command)]
Port = Annotated[int, Field(strict=True, ge=1, le=65_535)]
Count = Annotated[int, Field(strict=True, ge=1, le=1 << 53)]
Bandwidth = Annotated[Count, Field(ge=LEAST_BANDWIDTH)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class _Object(BaseModel):
    """What all objects of the API have in common."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @validates_model(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {name: value for name, value in data.items() if value is not None}
        return data


class Realm(_Object):
    """A tenant."""

    name: Annotated[Text, AfterValidator(_realm_name)]
    """Lower-case letters, digits and hyphens; ``master`` is reserved."""
    title: Text
    """For people."""
    cacert: Certificates
    """PEM: the CAs whose client certificates the realm's hubs accept."""
    crl: RevocationLists = Field(default=[])
    """Revocation lists of the CAs, and of CAs below them: PEM, DER in base64, or a URL that is read again when
    the list is due (http, https; ``file:`` in a file). One, or an array. A CA without a list has revoked nothing."""
    crl_stale: Literal["accept", "refuse"] = "accept"
    """Whether certificates of a CA are accepted whose list is past its ``nextUpdate``, or can't be had."""
    revoked: RevokedNames = Field(default=[])
    """Certificates that aren't accepted: serial numbers or SHA-256 fingerprints, in hexadecimal digits."""
    disabled: StrictBool
    """Whether no endpoint of the realm is served."""
    device_id_signing_key: Text = Field(alias="deviceIDSigningKey", repr=False)
    """Not used by the hub, and never logged."""
    device_id_verification_key: Text = Field(alias="deviceIDVerificationKey", repr=False)
    """Not used by the hub, and never logged."""
    description: Text | None = None
    """For people."""
    session_timeout: Any = None
    """Not used by the hub."""
    administrators: Any = None
    """Not used by the hub."""
    expired_at: Moment | None = None
    """Past it the realm counts as disabled. Without an offset it is UTC."""
    max_sessions: Count | None = None
    """Sessions that may be open at once; the next is refused (LIMIT). Without it: 20,000."""
    max_connections: Count | None = None
    """Connections that may be open at once; the next is refused (LIMIT). Without it: as many as its sessions allow."""
    max_handshake_rate: Count | None = None
    """Handshakes a second, and ten times as many at once; the next is refused (LIMIT). Without it: 2,000."""
    max_handshakes: Annotated[Count, Field(ge=LEAST_HANDSHAKES)] | None = None
    """Handshakes under way at once with each of its hubs' names, 8 at least; a further client's first packet is
    dropped, which it repeats. From an eighth of them on a client answers a Retry first. Without it: 512."""
    max_event_rate: Count | None = None
    """Events a second, and ten times as many at once; beyond them nothing new begins (LIMIT). Without it: 50,000."""
    max_journal_rate: Count | None = None
    """Bytes of events a second, likewise. Without it: 16 MiB."""
    max_memory: Annotated[Count, Field(ge=1 << 16)] | None = None
    """Bytes that all its sessions may have the hub hold, unread or on their way to them, 65,536 at least; beyond it who
    sends waits. Without it: ``--realm-memory``."""
    max_bandwidth: Bandwidth | None = None
    """Bytes a second that its connections carry, both ways together, 32,768 at least; what is beyond waits at its
    sender. Without it: as many as come."""

    @property
    def urn(self) -> str:
        """``urn:chip-in:realm:{name}``."""
        return f"urn:chip-in:realm:{self.name}"

    def definition(self, networks: tuple[NetworkDefinition, ...], revocation: Revocation) -> RealmDefinition:
        """What the actors are to know of it."""
        return RealmDefinition(
            name=self.name,
            networks=networks,
            expired_at=None if self.expired_at is None else from_datetime(self.expired_at),
            max_sessions=self.max_sessions,
            max_connections=self.max_connections,
            max_handshake_rate=self.max_handshake_rate,
            max_event_rate=self.max_event_rate,
            max_journal_rate=self.max_journal_rate,
            max_memory=self.max_memory,
            max_bandwidth=self.max_bandwidth,
            max_handshakes=self.max_handshakes,
            client_ca=pem.trust_fingerprint(self.cacert, revocation),
        )


class Hub(_Object):
    """A network of a realm; "hub" in the API."""

    name: Name
    """Part of URNs: no white space, and none of ``:/?#%``."""
    title: Text
    """For people."""
    fqdn: Annotated[Text, AfterValidator(_fqdn)]
    """The TLS server name (SNI) by which endpoints select this hub. Lower case, without a final dot."""
    server_cert: PresentedCertificates
    """PEM: the server's certificate, then intermediate ones."""
    server_cert_key: PrivateKey = Field(repr=False)
    """PEM: the certificate's private key. Never logged."""
    description: Text | None = None
    """For people."""
    server_port: Port = 443
    """UDP port; hubs of several realms may share one address and port."""
    server_address: Annotated[Text, AfterValidator(_address)] | None = None
    """An IP address to bind; by default all of the host's."""

    def urn(self, realm: str) -> str:
        """``urn:chip-in:network:{realm}:{name}``."""
        return f"urn:chip-in:network:{realm}:{self.name}"


class MountPoint(_Object):
    """A volume of a service that is started on demand."""

    volume_size: Annotated[float, Field(strict=True, ge=1, le=100)]
    """GiB."""
    target: NonEmpty
    """Absolute path inside the container."""


class AvailabilityManagement(_Object):
    """How a service is started and stopped."""

    cluster_manager_urn: Annotated[Text, AfterValidator(_manager_urn)]
    """``docker:``, ``k8s:[api-url/]namespace``, ``nomad:{job-api-url}`` or ``process:``."""
    service_id: NonEmpty
    """What the cluster manager calls the service."""
    description: Text | None = None
    """For people."""
    image: NonEmpty | None = None
    """An image for ``docker:``, a task group for ``nomad:``."""
    command: Command = None
    """What runs, as a string that is split like a shell's, or as a list of words."""
    options: list[Any] | None = None
    """For ``docker:``: some of the options of ``docker run``."""
    env: dict[str, Any] | None = Field(default=None, repr=False)
    """Environment variables of the service. Never logged."""
    mount_points: list[MountPoint] | None = None
    """Volumes that outlive the container."""
    start_at: Cron | None = None
    """When it is started: a cron expression in UTC (minute, hour, day of month, month, day of week, year)."""
    stop_at: Cron | None = None
    """When it is stopped, likewise."""
    idle_timeout: Seconds | None = None
    """Seconds without traffic after which the service is stopped; only with on-demand start."""
    ondemand_start: StrictBool = False
    """The older switch: as ``ondemandStartOnPayload``."""
    ondemand_start_on_consumer: StrictBool = False
    """Start it when a consumer's session begins."""
    ondemand_start_on_payload: StrictBool = False
    """Start it when a consumer opens a connection."""

    @property
    def on_payload(self) -> bool:
        """Whether a consumer's first payload starts it. The older switch doesn't say when: this is the latest."""
        return self.ondemand_start_on_payload or (self.ondemand_start and not self.ondemand_start_on_consumer)

    def task(self, urn: str) -> ServiceTask:
        """What the cluster manager is to know of the service ``urn``."""
        return ServiceTask(
            urn=urn,
            cluster_manager_urn=self.cluster_manager_urn,
            service_id=self.service_id,
            image=self.image,
            command=split_command(self.command),
            options=tuple(one if isinstance(one, str) else json.dumps(one) for one in self.options or ()),
            env=environment(self.env),
            mount_points=tuple(TaskMount(one.volume_size, one.target) for one in self.mount_points or ()),
        )

    def definition(self, urn: str) -> Availability:
        """What the actors are to know of the service ``urn``."""
        task = dataclasses.asdict(self.task(urn))
        return Availability(
            cluster_manager_urn=self.cluster_manager_urn,
            service_id=self.service_id,
            # One with a startAt is started when that comes, or has come last.
            start_on_load=not (self.on_payload or self.ondemand_start_on_consumer) and self.start_at is None,
            start_on_consumer=self.ondemand_start_on_consumer,
            start_on_payload=self.on_payload,
            idle_timeout=self.idle_timeout,
            start_at=self.start_at,
            stop_at=self.stop_at,
            fingerprint=hashlib.sha256(json.dumps(task, sort_keys=True).encode()).hexdigest(),
        )


class Service(_Object):
    """A service of a network."""

    name: Name
    """Part of URNs: no white space, and none of ``:/?#%``."""
    title: Text
    """For people."""
    provider: NonEmpty
    """Common name of the certificate subject that may provide it."""
    consumers: list[NonEmpty]
    """Common names that may use it."""
    description: Text | None = None
    """For people."""
    singleton: StrictBool = False
    """Whether it has one provider at a time."""
    max_connections: Count | None = None
    """Connections that may be open at once; the next is refused (LIMIT). Without it: as many as its realm may have."""
    max_bandwidth: Bandwidth | None = None
    """Bytes a second that its connections carry, likewise. Without it: as many as its realm may have."""
    availability_management: AvailabilityManagement | None = None
    """How it is started and stopped; without it the service is nothing that the hub starts."""

    def urn(self, realm: str, hub: str) -> str:
        """``urn:chip-in:service:{realm}:{hub}:{name}``."""
        return f"urn:chip-in:service:{realm}:{hub}:{self.name}"

    def definition(self, urn: str) -> ServiceDefinition:
        """What the actors are to know of the service ``urn``."""
        management = self.availability_management
        return ServiceDefinition(
            urn=urn,
            name=self.name,
            provider=self.provider,
            consumers=frozenset(self.consumers),
            singleton=self.singleton,
            max_connections=self.max_connections,
            max_bandwidth=self.max_bandwidth,
            availability=None if management is None else management.definition(urn),
        )
