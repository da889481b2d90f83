"""What an endpoint is made from: its arguments, read and checked, and what it runs on.

Counterpart: :mod:`spnhub.transport.endpoint.api`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import spnhub
from spnhub.events.model import EndPointType
from spnhub.transport.engine import Address, Engine, EngineEvent, Limits
from spnhub.transport.errors import ConfigurationError, HubUnreachable
from spnhub.transport.protocol import SessionRequest

__all__ = ["Driver", "EndpointConfig", "Pem", "Runtime", "check_weight", "read_config"]

WEIGHT_LIMIT: Final = 1_000_000
INSTANCE_ID_LIMIT: Final = 256
"""Bytes in UTF-8. Both are the protocol's."""

Pem = str | bytes | os.PathLike[str]
"""PEM as text or bytes, or the path of a file that holds it."""


class Driver(Protocol):
    """What an endpoint needs of :class:`spnhub.transport.udp.UdpEndpoint`."""

    async def open_client_socket(self, remote: tuple[str, int]) -> Address:
        """A connected socket; what to pass to :meth:`Engine.connect`."""

    def flush(self) -> None:
        """The engine was used: have a turn soon."""

    def now(self) -> float:
        """Monotonic seconds."""

    def release(self, address: Address) -> None:
        """Close the socket of ``address``."""

    async def close(self) -> None:
        """Send what is left, then close every socket."""


def _build(limits: Limits, on_events: Callable[[list[EngineEvent]], None]) -> tuple[Engine, Driver]:
    # Here, so that programs that bring their own engine never load aioquic.
    from spnhub.transport.aioquic_engine import AioquicEngine  # noqa: PLC0415
    from spnhub.transport.udp import UdpEndpoint  # noqa: PLC0415

    engine = AioquicEngine(limits)
    return engine, UdpEndpoint(engine, on_events)


async def _resolve(host: str, port: int) -> list[tuple[str, int]]:
    """The addresses of a name, as the system's resolver orders them.

    :raises HubUnreachable: it has none now.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as exc:
        raise HubUnreachable(f"{host} can't be resolved: {exc}") from exc
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


@dataclass(frozen=True, slots=True)
class Runtime:
    """What an endpoint runs on."""

    build: Callable[[Limits, Callable[[list[EngineEvent]], None]], tuple[Engine, Driver]] = _build
    resolve: Callable[[str, int], Awaitable[list[tuple[str, int]]]] = _resolve
    random: Callable[[], float] = random.random
    """In [0, 1): jitter of retries."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The arguments of an endpoint, usable as far as can be seen without the hub. PEM as bytes."""

    end_point_type: EndPointType
    host: str
    port: int
    service_urn: str
    certificate: bytes
    certificate_key: bytes = field(repr=False)
    trust: bytes | None
    instance_id: str
    weight: int
    retries: int | None
    wait_for_hub: bool
    limits: Limits

    def request(self) -> SessionRequest:
        """What the control stream begins with (R-2.1)."""
        return SessionRequest(
            self.end_point_type,
            self.service_urn,
            self.instance_id,
            self.weight,
            software=f"spnhub-python/{spnhub.__version__}",
        )

    def unusable(self, what: str) -> ConfigurationError:
        """The engine can't use the certificate or key."""
        return ConfigurationError(f"certificate and certificate_key can't be used: {what}")


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
    limits: Limits | None = None,
) -> EndpointConfig:
    """Check and read the arguments of :func:`spnhub.create_consumer_endpoint` and its twin.

    :raises ConfigurationError: one can't be used; the message names it.
    """
    host, port = _read_url(hub_url)
    if not service_urn:
        raise ConfigurationError("service_urn is empty")
    check_weight(weight)
    if instance_id is not None and len(instance_id.encode()) > INSTANCE_ID_LIMIT:
        raise ConfigurationError(f"instance_id is longer than {INSTANCE_ID_LIMIT} bytes")
    return EndpointConfig(
        end_point_type,
        host,
        port,
        service_urn,
        _read_pem("certificate", certificate),
        _read_pem("certificate_key", certificate_key),
        None if trust is None else _read_pem("trust", trust),
        instance_id or secrets.token_hex(8),
        weight,
        retries,
        wait_for_hub,
        limits or Limits(),
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


def _read_pem(name: str, value: Pem) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and "-----BEGIN" in value:
        return value.encode()
    try:
        return Path(value).read_bytes()
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{name}: {value!s:.200} is neither PEM text nor a readable file: {exc}") from exc
