"""What an endpoint is made from: its arguments, read and checked, and what it runs on.

Counterpart: :mod:`spnhub.transport.endpoint.api.consumer`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import spnhub
from spnhub.events.model import EndPointType
from spnhub.options import UnusableOption
from spnhub.transport.endpoint.connection.replay import PROCESS_BUDGET, REPLAY_MAX, ReplayBudget
from spnhub.transport.endpoint.core.listener import RESUME_TIMEOUT, CoreSettings
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
from spnhub.transport.engine import Address, Engine, EngineEvent, Limits
from spnhub.transport.engines import make_engine
from spnhub.transport.errors import ConfigurationError
from spnhub.transport.faults import report_to_loop
from spnhub.transport.protocol import ALPN
from spnhub.transport.text import oddity, quoted

__all__ = [
    "CREDENTIALS_INTERVAL",
    "ENDPOINT_LIMITS",
    "REPLAY_LEAST",
    "RESOLVE_INTERVAL",
    "Driver",
    "EndpointConfig",
    "Pem",
    "Runtime",
    "check_weight",
    "read_config",
]

ENDPOINT_LIMITS: Final = Limits(idle_timeout=20.0, keep_alive=5.0, suspect_after=1.5, probe_timeout=0.3)
"""Of an endpoint that isn't told otherwise. It suspects its hub sooner than a hub its endpoints: it can go on at
another, and a resume loses nothing (D-20)."""
RESOLVE_INTERVAL: Final = 30.0
"""Seconds between two looks at DNS (R-3.3)."""
CREDENTIALS_INTERVAL: Final = 10.0
"""Seconds between two looks at the files of certificate, key and trust (D-38)."""
REPLAY_LEAST: Final = 64 * 1024
"""Bytes: twice what an acknowledgement waits for."""

WEIGHT_LIMIT: Final = 1_000_000
INSTANCE_ID_LIMIT: Final = 256
"""Bytes in UTF-8. Both are the protocol's."""


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


def _build(limits: Limits, on_events: Callable[[list[EngineEvent]], None]) -> tuple[Engine, Driver]:
    # Here, so that programs that bring their own engine never load it.
    from spnhub.transport.udp import UdpEndpoint  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    engine = make_engine(limits, on_fault=lambda where, fault: report_to_loop(loop, f"a fault in the {where}", fault))
    return engine, UdpEndpoint(engine, on_events)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What an endpoint runs on."""

    build: Callable[[Limits, Callable[[list[EngineEvent]], None]], tuple[Engine, Driver]] = _build
    resolve: Callable[[str, int], Awaitable[list[tuple[str, int]]]] | None = None
    """Host and port to addresses; None: as :mod:`spnhub.transport.endpoint.session.addresses` does."""
    random: Callable[[], float] = random.random
    """In [0, 1): jitter of retries."""
    judge: Judge = judge
    """Says what certificates are worth."""
    names: CredentialNames = LIBRARY_NAMES
    """What certificates are called in messages."""
    made: Callable[[Any], None] | None = None
    """Told of the endpoint before its first session; for who wants to renew certificates by then."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The arguments of an endpoint, usable as far as can be seen without its files and the hub."""

    end_point_type: EndPointType
    host: str
    port: int
    service_urn: str
    source: CredentialsSource = field(repr=False, compare=False)
    credentials_interval: float
    instance_id: str
    weight: int
    retries: int | None
    wait_for_hub: bool
    limits: Limits
    hub_addresses: tuple[str, ...] | None
    resolver: str | None
    resolve_interval: float
    resume_timeout: float
    replay_buffer: int
    replay_budget: int | None

    def core_settings(self, credentials: Credentials) -> CoreSettings:
        """The same for the endpoint's core."""
        return CoreSettings(
            credentials,
            self.end_point_type,
            self.service_urn,
            self.instance_id,
            self.weight,
            f"spnhub-python/{spnhub.__version__}",
            self.resume_timeout,
            self.retries,
            self.wait_for_hub,
            self.replay_buffer,
            PROCESS_BUDGET if self.replay_budget is None else ReplayBudget(self.replay_budget),
        )


def read_config(
    end_point_type: EndPointType,
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None,
    *,
    weight: int = 100,
    instance_id: str | None = None,
    retries: int | None = None,
    wait_for_hub: bool = False,
    idle_timeout: float = ENDPOINT_LIMITS.idle_timeout,
    keep_alive: float = ENDPOINT_LIMITS.keep_alive,
    suspect_after: float = ENDPOINT_LIMITS.suspect_after,
    probe_timeout: float = ENDPOINT_LIMITS.probe_timeout,
    limits: Limits = ENDPOINT_LIMITS,
    hub_addresses: Sequence[str] | None = None,
    resolver: str | None = None,
    resolve_interval: float = RESOLVE_INTERVAL,
    resume_timeout: float = RESUME_TIMEOUT,
    replay_buffer: int = REPLAY_MAX,
    replay_budget: int | None = None,
    credentials_interval: float = CREDENTIALS_INTERVAL,
    names: CredentialNames = LIBRARY_NAMES,
    judge: Judge = judge,
) -> EndpointConfig:
    """Check the arguments of :func:`spnhub.create_consumer_endpoint` and its twin; files aren't read yet.

    :raises ConfigurationError: one can't be used; the message names it.
    """
    host, port = _read_url(hub_url)
    if not service_urn:
        raise ConfigurationError("service_urn is empty")
    # What doesn't show would be told from the right one by the hub only, whose answer looks as if it were wrong.
    for name, text in (("service_urn", service_urn), ("instance_id", instance_id or "")):
        if (odd := oddity(text)) is not None:
            raise ConfigurationError(f"{name} {odd}: {quoted(text)}")
    check_weight(weight)
    if instance_id is not None and len(instance_id.encode()) > INSTANCE_ID_LIMIT:
        raise ConfigurationError(f"instance_id is longer than {INSTANCE_ID_LIMIT} bytes")
    if hub_addresses is not None:
        parse_hub_addresses(hub_addresses, port)
    if resolver is not None:
        parse_resolver(resolver)
    for name, seconds in (
        ("resolve_interval", resolve_interval),
        ("resume_timeout", resume_timeout),
        ("credentials_interval", credentials_interval),
    ):
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(f"{name} is {seconds}; it must be a positive number of seconds")
    limits = replace(
        limits,
        idle_timeout=idle_timeout,
        keep_alive=keep_alive,
        suspect_after=suspect_after,
        probe_timeout=probe_timeout,
    )
    try:
        limits.check()
    except UnusableOption as exc:
        raise ConfigurationError(str(exc)) from exc
    if replay_buffer < REPLAY_LEAST:
        raise ConfigurationError(f"replay_buffer is {replay_buffer}; it must be at least {REPLAY_LEAST} bytes")
    if replay_budget is not None and replay_budget < 0:
        raise ConfigurationError(f"replay_budget is {replay_budget}; it must not be negative")
    return EndpointConfig(
        end_point_type,
        host,
        port,
        service_urn,
        CredentialsSource(certificate, certificate_key, trust, host, (ALPN,), names=names, judge=judge),
        credentials_interval,
        instance_id or secrets.token_hex(8),
        weight,
        retries,
        wait_for_hub,
        limits,
        None if hub_addresses is None else tuple(hub_addresses),
        resolver,
        resolve_interval,
        resume_timeout,
        replay_buffer,
        replay_budget,
    )


def check_weight(weight: int) -> None:
    """Whether the protocol allows it.

    :raises ConfigurationError: it doesn't.
    """
    if not 0 <= weight <= WEIGHT_LIMIT:
        raise ConfigurationError(f"weight is {weight}; it must be between 0 and {WEIGHT_LIMIT}")


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
