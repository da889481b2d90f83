"""The settings of ``spnagent``: each option is a field here, or of the endpoint's options that are nested here.

Counterparts: :mod:`spnhub.options` says what follows from a field, :mod:`spnhub.cli.agent` has the commands,
:mod:`spnhub.cli.host_file` the file with many agents.
Certificates stay as they were given, PEM text or a path: files are read anew while the agent runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from spnhub.actors.contract.protocols import SC01
from spnhub.dataclass import dataclass
from spnhub.logging import LogFormat, log_format_option, log_level_option
from spnhub.options import (
    WEEK,
    UnusableOption,
    check_options,
    host_names,
    nested,
    option,
    server_address,
    server_token,
)
from spnhub.transport.agent.consumer import ConsumerLimits
from spnhub.transport.agent.health import HEALTH_CHECK, HealthCheck, parse_health_check
from spnhub.transport.agent.keep_alive import TCP_KEEP_ALIVE, TcpKeepAlive, parse_keep_alive
from spnhub.transport.agent.provider import ProviderLimits
from spnhub.transport.endpoint.api.config import NO_WEIGHTS, SC01_WEIGHTS, WEIGHT_LIMIT, check_endpoint_options
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.credentials import CredentialNames, CredentialsSource, is_read_once, read_pem
from spnhub.transport.errors import ConfigurationError as UnusableArgument
from spnhub.transport.system.socket_address import SocketAddress, parse_listening, parse_server

__all__ = [
    "OPTION_NAMES",
    "AgentSettings",
    "ConsumerSettings",
    "EndpointSettings",
    "ProcessSettings",
    "ProviderSettings",
]

OPTION_NAMES: Final = CredentialNames("--certificate", "--certificate-key", "--trust")
"""What certificates are called in messages."""

_PEM_FIELDS: Final = {
    "certificate": OPTION_NAMES.certificate,
    "certificate_key": OPTION_NAMES.certificate_key,
    "trust": OPTION_NAMES.trust,
}

_service = partial(option, group="Service")
_certificates = partial(option, group="Certificates")
_tcp = partial(option, group="TCP")
_health = partial(option, group="Health of the TCP server")
_operations = partial(option, group="Operations")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and parts.path in {"", "/"}
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{url!r} is not https://FQDN:PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Of the process, whatever agents are in it."""

    ops: str | None = server_address(
        "HTTP of the running agent: /healthz, /readyz, /metrics, /status; port 0: any that is free.",
        "Operations",
    )
    ops_hosts: tuple[str, ...] = host_names("ops-host", "Operations")
    ops_token: str | None = server_token("Operations")
    log_level: str = log_level_option()
    log_format: LogFormat | None = log_format_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What every endpoint is made of.

    :raises UnusableOption: a value that can't be used, the files of certificates included.
    """

    hub_url: str = _service(
        help="https://FQDN:PORT of the hub. Without it: SPN_HUB_HOSTNAME and SPN_HUB_PORT (4433).",
        metavar="URL",
        missing=", or SPN_HUB_HOSTNAME",
        check=_check_url,
    )
    service_urn: str = _service(
        "",
        "The service that is used or provided; not needed with the protocol sc01, of which the certificate says it.",
        metavar="URN",
        default_text="",
        unless=("protocol", SC01),
        missing="; the older set of names doesn't say which service, so it is needed beside it",
    )
    certificate: str = _certificates(
        help="Client certificate with its chain: PEM text or a path.",
        metavar="PEM",
        variables=("SPN_CERTIFICATE", "SPN_AGENT_CLIENT_CERTIFICATE"),
    )
    certificate_key: str = _certificates(
        help="Its private key: PEM text or a path.",
        metavar="PEM",
        variables=("SPN_CERTIFICATE_KEY", "SPN_AGENT_CLIENT_CERTIFICATE_KEY"),
        secret=True,
    )
    trust: str | None = _certificates(
        None,
        "Certificates that the hub's chain must end at, roots or not: PEM text or a path.",
        metavar="PEM",
        variables=("SPN_TRUST", "SPN_AGENT_TRUST_CERTIFICATE_ROOT"),
        default_text="the system's roots",
    )
    endpoint: EndpointOptions = nested(EndpointOptions, EndpointOptions(wait_for_hub=True))

    def __post_init__(self) -> None:
        check_options(self)
        check_endpoint_options(self.endpoint)
        for name, flag in _PEM_FIELDS.items():
            _keep_what_comes_once(self, name, flag)
        _named(lambda: _source(self).read())

    def arguments(self) -> dict[str, Any]:
        """For :func:`spnhub.create_consumer_endpoint` and its twin."""
        return {
            "hub_url": self.hub_url,
            "service_urn": self.service_urn,
            "certificate": self.certificate,
            "certificate_key": self.certificate_key,
            "trust": self.trust,
            "options": self.endpoint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings(EndpointSettings):
    """What both roles have."""

    tcp_keepalive: TcpKeepAlive | None = _tcp(
        TCP_KEEP_ALIVE,
        "A TCP peer silent for IDLE seconds is asked COUNT times, INTERVAL apart, then reset; or off.",
        metavar="IDLE,INTERVAL,COUNT",
        parse=lambda text: parse_keep_alive(text) if text else TCP_KEEP_ALIVE,
        default_text=f"{TCP_KEEP_ALIVE.idle},{TCP_KEEP_ALIVE.interval},{TCP_KEEP_ALIVE.count}",
    )
    drain_timeout: float = _tcp(
        30.0,
        "SIGTERM leaves this much to open connections; what is still open then is reset.",
        metavar="SECONDS",
        at_least=0,
        at_most=WEEK,
        unit="seconds",
    )
    process: ProcessSettings = nested(ProcessSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings(AgentSettings):
    """Of ``spnagent consumer``."""

    bind_address: tuple[SocketAddress, ...] = _service(
        help="Where to listen: HOST:PORT, [V6]:PORT, :PORT for every address, or unix:/PATH; more with commas between."
        " Port 0: a free one.",
        metavar="HOST:PORT",
        also=("listen",),
        variables=("BIND_ADDRESS",),
        parse=parse_listening,
    )
    limits: ConsumerLimits = nested(ConsumerLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings(AgentSettings):
    """Of ``spnagent provider``."""

    forward_address: SocketAddress = _service(
        help="HOST:PORT of the TCP server, or unix:/PATH. A name is resolved for every connection.",
        metavar="HOST:PORT",
        also=("forward",),
        variables=("FORWARD_ADDRESS",),
        parse=parse_server,
    )
    weight: int = _service(100, "Share of the service's connections; 0: none.", at_least=0, at_most=WEIGHT_LIMIT)
    health_check: str = _health(
        "off",
        "tcp: connect; http:/PATH: GET it, 2xx and 3xx are healthy; off. While it fails the weight is 0.",
        metavar="HOW",
        parse=lambda text: text or "off",
        default_text="off",
        check=parse_health_check,
    )
    health_interval: float = _health(
        HEALTH_CHECK.interval,
        "From one check to the next.",
        metavar="SECONDS",
        at_least=0.1,
        at_most=WEEK,
        unit="seconds",
    )
    health_timeout: float = _health(
        HEALTH_CHECK.timeout,
        "That a check may take.",
        metavar="SECONDS",
        at_least=0.1,
        at_most=WEEK,
        unit="seconds",
    )
    health_fall: int = _health(HEALTH_CHECK.fall, "Failed checks in a row: weight 0.", at_least=1)
    health_rise: int = _health(HEALTH_CHECK.rise, "Passed checks in a row: the weight again.", at_least=1)

    limits: ProviderLimits = nested(ProviderLimits)

    def __post_init__(self) -> None:
        AgentSettings.__post_init__(self)
        if self.endpoint.protocol == SC01 and self.weight not in SC01_WEIGHTS:
            raise UnusableOption("weight", f": {self.weight}; {NO_WEIGHTS}")

    @property
    def health(self) -> HealthCheck | None:
        """What is checked, and how; None: nothing."""
        return parse_health_check(
            self.health_check,
            interval=self.health_interval,
            timeout=self.health_timeout,
            fall=self.health_fall,
            rise=self.health_rise,
        )


def _source(settings: EndpointSettings) -> CredentialsSource:
    given = settings.certificate, settings.certificate_key, settings.trust
    return CredentialsSource(*given, "", (), names=OPTION_NAMES)


def _keep_what_comes_once(settings: EndpointSettings, name: str, flag: str) -> None:
    """A pipe can't be read again: what comes out of it takes its place."""
    value = getattr(settings, name)
    if value is not None and is_read_once(value):
        pem = _named(lambda: read_pem(value, flag, secret=name == "certificate_key"))
        object.__setattr__(settings, name, pem.decode("utf-8", "replace"))


def _named(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UnusableArgument as exc:
        # Its text begins with the name of the option.
        text = str(exc)
        name, flag = max(((name, flag) for name, flag in _PEM_FIELDS.items() if text.startswith(flag)), key=_length)
        raise UnusableOption(name, text.removeprefix(flag)) from exc


def _length(found: tuple[str, str]) -> int:
    return len(found[1])
