"""What ``spnagent`` was told: options and environment of both generations, checked, files included.

Counterpart: :mod:`spnhub.cli.agent` has the options.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from spnhub.logging import LEVELS, LogFormat
from spnhub.options import UnusableOption
from spnhub.settings import ConfigurationError, parse_address
from spnhub.transport.agent.health import HEALTH_CHECK, HealthCheck, parse_health_check
from spnhub.transport.agent.keep_alive import TCP_KEEP_ALIVE, TcpKeepAlive, parse_keep_alive
from spnhub.transport.endpoint.api.options import CREDENTIALS_INTERVAL, ENDPOINT_LIMITS, REPLAY_LEAST, RESOLVE_INTERVAL
from spnhub.transport.endpoint.connection.replay import REPLAY_BUDGET, REPLAY_MAX
from spnhub.transport.endpoint.core.listener import RESUME_TIMEOUT
from spnhub.transport.endpoint.session.addresses import parse_hub_addresses, parse_resolver
from spnhub.transport.endpoint.session.credentials import CredentialNames, CredentialsSource, is_read_once, read_pem
from spnhub.transport.engine import Limits
from spnhub.transport.errors import ConfigurationError as UnusableArgument

__all__ = ["DRAIN", "KEEPALIVE", "OLD_VARIABLES", "OPTION_NAMES", "AgentSettings", "Role", "load_settings"]

OLD_VARIABLES: Final = ("SPN_HUB_HOSTNAME", "SPN_HUB_PORT")
"""What the older agents had for the URL, and no option has."""
OPTION_NAMES: Final = CredentialNames("--certificate", "--certificate-key", "--trust")
"""What certificates are called in messages."""
DRAIN: Final = 30.0
"""Seconds that SIGTERM leaves to open connections, if nothing else is said."""
KEEPALIVE: Final = f"{TCP_KEEP_ALIVE.idle},{TCP_KEEP_ALIVE.interval},{TCP_KEEP_ALIVE.count}"
"""What ``--tcp-keepalive`` is, likewise."""

_WEEK: Final = 604_800.0
_OLD_PORT: Final = "4433"
_FORMATS: Final[dict[str, LogFormat]] = {"json": "json", "console": "console"}


class Role(enum.Enum):
    """Which side of the service the agent stands on."""

    CONSUMER = "consumer"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One agent process. Certificates as they were given, PEM text or a path: files are read anew while it runs."""

    role: Role
    hub_url: str
    service_urn: str
    certificate: str
    certificate_key: str = field(repr=False)
    trust: str | None
    """None: the system's roots."""
    address: tuple[str, int]
    """Where a consumer listens, or where a provider's TCP server is."""
    weight: int = 100
    health_check: HealthCheck | None = None
    """Of a provider's TCP server; None: off."""
    instance_id: str | None = None
    """None: random."""
    hub_addresses: tuple[str, ...] | None = None
    """None: DNS is asked (D-32)."""
    resolver: str | None = None
    """DNS server; None: the system's resolver."""
    resolve_interval: float = RESOLVE_INTERVAL
    """Seconds between two DNS checks (R-3.3)."""
    resume_timeout: float = RESUME_TIMEOUT
    """Seconds that a connection may be without a hub before it is reset."""
    limits: Limits = ENDPOINT_LIMITS
    """When a hub is lost, or suspect."""
    replay_buffer: int = REPLAY_MAX
    """Bytes that are kept of a connection until they are acknowledged, at most."""
    replay_budget: int = REPLAY_BUDGET
    """Bytes that all connections may keep together above 256 KiB each."""
    drain_timeout: float = DRAIN
    """Seconds that SIGTERM leaves to open connections."""
    certificate_interval: float = CREDENTIALS_INTERVAL
    """Seconds between two looks at the files of certificate, key and trust."""
    tcp_keepalive: TcpKeepAlive | None = TCP_KEEP_ALIVE
    """Of TCP peers; None: off."""
    log_level: str = "info"
    log_format: LogFormat | None = None


def load_settings(
    *,
    role: Role,
    hub_url: str | None,
    service_urn: str | None,
    certificate: str | None,
    certificate_key: str | None,
    trust: str | None,
    address: str | None,
    weight: int = 100,
    health_check: str = "off",
    health_interval: float = HEALTH_CHECK.interval,
    health_timeout: float = HEALTH_CHECK.timeout,
    health_fall: int = HEALTH_CHECK.fall,
    health_rise: int = HEALTH_CHECK.rise,
    instance_id: str | None = None,
    hub_addresses: str | None = None,
    resolver: str | None = None,
    resolve_interval: float = RESOLVE_INTERVAL,
    resume_timeout: float = RESUME_TIMEOUT,
    idle_timeout: float = ENDPOINT_LIMITS.idle_timeout,
    keep_alive: float = ENDPOINT_LIMITS.keep_alive,
    suspect_after: float = ENDPOINT_LIMITS.suspect_after,
    probe_timeout: float = ENDPOINT_LIMITS.probe_timeout,
    replay_buffer: int = REPLAY_MAX,
    replay_budget: int = REPLAY_BUDGET,
    drain_timeout: float = DRAIN,
    certificate_interval: float = CREDENTIALS_INTERVAL,
    tcp_keepalive: str = KEEPALIVE,
    log_level: str = "info",
    log_format: str | None = None,
) -> AgentSettings:
    """Check what was given, and read the files. Environment names that are no option's own are looked up here.

    :raises ConfigurationError: something is missing or can't be used; the text names it.
    """
    url = hub_url or _old_hub_url()
    if url is None:
        raise ConfigurationError("--hub-url is missing (environment: SPN_HUB_URL, or SPN_HUB_HOSTNAME)")
    _check_url(url, "--hub-url" if hub_url else "SPN_HUB_HOSTNAME, SPN_HUB_PORT")
    if not service_urn:
        raise ConfigurationError(
            "--service-urn is missing (environment: SPN_SERVICE_URN; the older set of names doesn't say which service, "
            "so it is needed beside it)"
        )
    certificate = _given("--certificate", "SPN_CERTIFICATE", certificate)
    certificate_key = _given("--certificate-key", "SPN_CERTIFICATE_KEY", certificate_key, secret=True)
    trust = _given("--trust", "SPN_TRUST", trust) if trust else None
    _check_certificates(certificate, certificate_key, trust)
    if log_level not in LEVELS:
        raise ConfigurationError(f"--log-level: {log_level!r} is none of {', '.join(LEVELS)}")
    if log_format is not None and log_format not in _FORMATS:
        raise ConfigurationError(f"--log-format: {log_format!r} is none of {', '.join(_FORMATS)}")
    _check_seconds("--resolve-interval", resolve_interval, 0.1)
    _check_seconds("--resume-timeout", resume_timeout, 0.1)
    _check_seconds("--drain-timeout", drain_timeout)
    _check_seconds("--certificate-interval", certificate_interval, 0.1)
    _check_seconds("--health-interval", health_interval, 0.1)
    _check_seconds("--health-timeout", health_timeout, 0.1)
    limits = Limits(
        idle_timeout=idle_timeout, keep_alive=keep_alive, suspect_after=suspect_after, probe_timeout=probe_timeout
    )
    try:
        limits.check()
    except UnusableOption as exc:
        fault = exc.fault.replace("{other}", _flag(exc.other))
        raise ConfigurationError(f"{_flag(exc.name)}{fault}") from exc
    if replay_buffer < REPLAY_LEAST:
        raise ConfigurationError(f"--replay-buffer: {replay_buffer} is below {REPLAY_LEAST} bytes")
    if replay_budget < 0:
        raise ConfigurationError(f"--replay-budget: {replay_budget} is below 0 bytes")
    return AgentSettings(
        role=role,
        hub_url=url,
        service_urn=service_urn,
        certificate=certificate,
        certificate_key=certificate_key,
        trust=trust,
        address=_address(role, address),
        weight=weight,
        health_check=_health_check(
            health_check, interval=health_interval, timeout=health_timeout, fall=health_fall, rise=health_rise
        ),
        instance_id=instance_id or None,
        hub_addresses=_hub_addresses(hub_addresses),
        resolver=_resolver(resolver),
        resolve_interval=resolve_interval,
        resume_timeout=resume_timeout,
        limits=limits,
        replay_buffer=replay_buffer,
        replay_budget=replay_budget,
        drain_timeout=drain_timeout,
        certificate_interval=certificate_interval,
        tcp_keepalive=_tcp_keepalive(tcp_keepalive),
        log_level=log_level,
        log_format=_FORMATS[log_format] if log_format else None,
    )


def _old_hub_url() -> str | None:
    hostname, port = map(os.environ.get, OLD_VARIABLES)
    return f"https://{hostname}:{port or _OLD_PORT}" if hostname else None


def _check_url(url: str, source: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "https" and parts.hostname and parts.port != 0 and parts.path in {"", "/"}
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"{source}: {url!r} is not https://FQDN:PORT")


def _address(role: Role, text: str | None) -> tuple[str, int]:
    option, variable = (
        ("--bind-address", "BIND_ADDRESS") if role is Role.CONSUMER else ("--forward-address", "FORWARD_ADDRESS")
    )
    if not text:
        raise ConfigurationError(f"{option} is missing (environment: {variable})")
    try:
        host, port = parse_address(text)
    except ValueError as exc:
        raise ConfigurationError(f"{option}: {exc}") from exc
    if role is Role.PROVIDER and (not host or not port):
        raise ConfigurationError(f"{option}: {text!r} is not HOST:PORT")
    return host, port


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _hub_addresses(text: str | None) -> tuple[str, ...] | None:
    if not text:
        return None
    pieces = tuple(piece.strip() for piece in text.split(","))
    try:
        parse_hub_addresses(pieces, int(_OLD_PORT), "--hub-addresses")
    except UnusableArgument as exc:
        raise ConfigurationError(str(exc)) from exc
    return pieces


def _resolver(text: str | None) -> str | None:
    if not text:
        return None
    try:
        parse_resolver(text, "--resolver")
    except UnusableArgument as exc:
        raise ConfigurationError(str(exc)) from exc
    return text


def _tcp_keepalive(text: str) -> TcpKeepAlive | None:
    try:
        return parse_keep_alive(text or KEEPALIVE)
    except ValueError as exc:
        raise ConfigurationError(f"--tcp-keepalive: {exc}") from exc


def _health_check(text: str, *, interval: float, timeout: float, fall: int, rise: int) -> HealthCheck | None:
    for option, count in (("--health-fall", fall), ("--health-rise", rise)):
        if count < 1:
            raise ConfigurationError(f"{option}: {count} is below 1")
    try:
        return parse_health_check(text or "off", interval=interval, timeout=timeout, fall=fall, rise=rise)
    except ValueError as exc:
        raise ConfigurationError(f"--health-check: {exc}") from exc


def _check_seconds(option: str, seconds: float, least: float = 0.0) -> None:
    """The upper bound is a week: anything above is a wrong unit, not a wish."""
    if not least <= seconds <= _WEEK:
        raise ConfigurationError(f"{option}: {seconds} is not between {least:g} and {_WEEK:g} seconds")


def _given(option: str, variable: str, value: str | None, *, secret: bool = False) -> str:
    """The value; of a pipe what comes out of it, since it can't be read again."""
    if not value:
        raise ConfigurationError(f"{option} is missing (environment: {variable})")
    if not is_read_once(value):
        return value
    try:
        return read_pem(value, option, secret=secret).decode("utf-8", "replace")
    except UnusableArgument as exc:
        raise ConfigurationError(str(exc)) from exc


def _check_certificates(certificate: str, certificate_key: str, trust: str | None) -> None:
    """What the endpoint will do, done once before anything else."""
    try:
        CredentialsSource(certificate, certificate_key, trust, "", (), names=OPTION_NAMES).read()
    except UnusableArgument as exc:
        raise ConfigurationError(str(exc)) from exc
