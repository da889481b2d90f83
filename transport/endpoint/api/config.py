"""What an endpoint is made from: its arguments, read and checked, and what it runs on.

Counterpart: :mod:`spnhub.transport.endpoint.api.consumer`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from spnhub.actors.contract.protocols import SC01
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.options import UnusableOption, check_options
from spnhub.transport.endpoint.core.listener import CoreSettings
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.addresses import parse_hub_addresses, parse_resolver
from spnhub.transport.endpoint.session.credentials import (
    LIBRARY_NAMES,
    CredentialNames,
    Credentials,
    CredentialsSource,
    Judge,
    Pem,
    judge,
)
from spnhub.transport.engine import Address, Engine, EngineEvent
from spnhub.transport.engines import make_engine
from spnhub.transport.errors import ConfigurationError
from spnhub.transport.faults import report_to_loop
from spnhub.transport.protocol import ALPN
from spnhub.transport.sc01.words import ALPN as SC01_ALPN
from spnhub.transport.text import oddity, quoted
from spnhub.version import VERSION

__all__ = [
    "Driver",
    "EndpointConfig",
    "Pem",
    "Runtime",
    "check_endpoint_options",
    "check_weight",
    "read_config",
]

URN_LIMIT: Final = 1024
"""Characters of a service's URN, the protocol's."""
WEIGHT_LIMIT: Final = 1_000_000
"""The protocol's."""


SC01_WEIGHTS: Final = (0, 100)
NO_WEIGHTS: Final = "sc01 has no weights: 100, or 0 for no connections"
_DEFAULTS: Final = EndpointOptions()
_RESUMING: Final = ("instance_id", "resume_timeout", "replay_buffer", "replay_budget")
"""What is for resuming only."""


class Driver(Protocol):
    """What an endpoint needs of :class:`spnhub.transport.udp.UdpEndpoint`."""

    async def open_client_socket(self, remote: tuple[str, int]) -> Address:
        """A connected socket; what to pass to :meth:`Engine.connect`."""

    def flush(self) -> None:
        """The engine was used: have a turn soon."""

    def now(self) -> float:
        """Monotonic seconds."""

    def local_address(self, address: Address) -> tuple[Any, ...]:
        """What the socket of ``address`` is bound to."""

    def release(self, address: Address) -> None:
        """Close the socket of ``address``."""

    async def close(self) -> None:
        """Send what is left, then close every socket."""


def _build(options: EndpointOptions, on_events: Callable[[list[EngineEvent]], None]) -> tuple[Engine, Driver]:
    # Here, so that programs that bring their own engine never load it.
    from spnhub.transport.udp import UdpEndpoint  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    def on_fault(where: str, fault: BaseException) -> None:
        report_to_loop(loop, f"a fault in the {where}", fault)

    engine = make_engine(options.limits, options.engine, on_fault=on_fault)
    return engine, UdpEndpoint(engine, on_events, on_fault=on_fault)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What an endpoint runs on."""

    build: Callable[[EndpointOptions, Callable[[list[EngineEvent]], None]], tuple[Engine, Driver]] = _build
    resolve: Callable[[str, int], Awaitable[list[tuple[str, int]]]] | None = None
    """Host and port to addresses; None: as :mod:`spnhub.transport.endpoint.session.addresses` does."""
    random: Callable[[], float] = random.random
    """In [0, 1): jitter of retries."""
    judge: Judge = judge
    """Says what certificates are worth."""
    names: CredentialNames = LIBRARY_NAMES
    """What certificates are called in messages."""
    made: Callable[[Any], None] | None = None
    """Called with the endpoint before its first session, for programs that may renew certificates by then."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The arguments of an endpoint, usable as far as can be seen without its files and the hub."""

    end_point_type: EndPointType
    host: str
    port: int
    service_urn: str
    source: CredentialsSource = field(repr=False, compare=False)
    instance_id: str
    weight: int
    options: EndpointOptions

    def core_settings(self, credentials: Credentials) -> CoreSettings:
        """The same for the endpoint's core."""
        software = f"spnhub-python/{VERSION}"
        return CoreSettings(
            credentials, self.end_point_type, self.service_urn, self.instance_id, self.weight, software, self.options
        )


def read_config(
    end_point_type: EndPointType,
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None,
    options: EndpointOptions,
    *,
    weight: int = 100,
    names: CredentialNames = LIBRARY_NAMES,
    judge: Judge = judge,
) -> EndpointConfig:
    """Check the arguments of :func:`spnhub.create_consumer_endpoint` and its twin; files aren't read yet.

    :raises ConfigurationError: one can't be used; the message names it.
    """
    host, port = _read_url(hub_url)
    if not service_urn and options.protocol != SC01:
        raise ConfigurationError("service_urn is empty")
    # Invisible characters would be noticed by the hub only, in whose answer the value looks right.
    if len(service_urn) > URN_LIMIT:
        raise ConfigurationError(f"service_urn has {len(service_urn)} characters; the bound is {URN_LIMIT}")
    if (odd := oddity(service_urn)) is not None:
        raise ConfigurationError(f"service_urn {odd}: {quoted(service_urn)}")
    check_weight(weight, options.protocol)
    alpn = SC01_ALPN[end_point_type] if options.protocol == SC01 else ALPN
    try:
        check_endpoint_options(options)
    except UnusableOption as exc:
        raise ConfigurationError(str(exc)) from exc
    return EndpointConfig(
        end_point_type,
        host,
        port,
        service_urn,
        CredentialsSource(certificate, certificate_key, trust, host, (alpn,), names=names, judge=judge),
        options.instance_id or secrets.token_hex(8),
        weight,
        options,
    )


def check_endpoint_options(options: EndpointOptions) -> None:
    """Whether an endpoint can be made of them.

    :raises UnusableOption: one can't be used.
    """
    check_options(options)
    options.limits.check()
    if options.protocol == SC01:
        for name in _RESUMING:
            if getattr(options, name) != getattr(_DEFAULTS, name):
                raise UnusableOption(name, " has no meaning with {other} sc01: nothing can be resumed", "protocol")
    try:
        name = "hub_addresses"
        if options.hub_addresses is not None:
            parse_hub_addresses(options.hub_addresses, 443, "")
        name = "resolver"
        if options.resolver is not None:
            parse_resolver(options.resolver, "")
    except ConfigurationError as exc:
        raise UnusableOption(name, str(exc)) from exc


def check_weight(weight: int, protocol: str) -> None:
    """Whether the protocol allows it.

    :raises ConfigurationError: it doesn't.
    """
    if not 0 <= weight <= WEIGHT_LIMIT:
        raise ConfigurationError(f"weight is {weight}; it must be between 0 and {WEIGHT_LIMIT}")
    if protocol == SC01 and weight not in SC01_WEIGHTS:
        raise ConfigurationError(f"weight is {weight}; {NO_WEIGHTS}")


def _read_url(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigurationError(f"hub_url {url!r}: {exc}") from exc
    host = (parts.hostname or "").rstrip(".")
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "https" or not host or extra:
        raise ConfigurationError(f"hub_url {url!r} is not of the form https://fqdn:port")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host, 443 if port is None else port
    raise ConfigurationError(
        f"hub_url {url!r} names an address; the hub is selected by its name (SNI), so the host must be the hub's FQDN"
    )
