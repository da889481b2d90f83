"""What ``spnagent`` was told: options and environment of both generations, checked, PEM read.

Counterpart: :mod:`spnhub.cli.agent` has the options.
"""

from __future__ import annotations

import enum
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from spnhub.logging import LEVELS, LogFormat
from spnhub.settings import ConfigurationError, split_address

__all__ = ["DRAIN", "AgentSettings", "Role", "load_settings"]

DRAIN: Final = 30.0
"""Seconds that SIGTERM leaves to open connections, if nothing else is said."""

_OLD_PORT: Final = "4433"
_PEM: Final = "-----BEGIN "
_FORMATS: Final[dict[str, LogFormat]] = {"json": "json", "console": "console"}


class Role(enum.Enum):
    """Which side of the service the agent stands on."""

    CONSUMER = "consumer"
    PROVIDER = "provider"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """One agent process. PEM as bytes."""

    role: Role
    hub_url: str
    service_urn: str
    certificate: bytes
    certificate_key: bytes = field(repr=False)
    trust: bytes | None
    """None: the system's roots."""
    address: tuple[str, int]
    """Where a consumer listens, or where a provider's TCP server is."""
    weight: int = 100
    instance_id: str | None = None
    """None: random."""
    drain_timeout: float = DRAIN
    """Seconds that SIGTERM leaves to open connections."""
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
    instance_id: str | None = None,
    drain_timeout: float = DRAIN,
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
    pem = _read_pem("--certificate", "SPN_CERTIFICATE", certificate)
    key = _read_pem("--certificate-key", "SPN_CERTIFICATE_KEY", certificate_key)
    _check_pair(pem, key)
    roots = None
    if trust:
        roots = _read_pem("--trust", "SPN_TRUST", trust)
        _certificates("--trust", roots)
    if log_level not in LEVELS:
        raise ConfigurationError(f"--log-level: {log_level!r} is none of {', '.join(LEVELS)}")
    if log_format is not None and log_format not in _FORMATS:
        raise ConfigurationError(f"--log-format: {log_format!r} is none of {', '.join(_FORMATS)}")
    if not (math.isfinite(drain_timeout) and drain_timeout >= 0):
        raise ConfigurationError(f"--drain-timeout: {drain_timeout} is no number of seconds")
    return AgentSettings(
        role=role,
        hub_url=url,
        service_urn=service_urn,
        certificate=pem,
        certificate_key=key,
        trust=roots,
        address=_address(role, address),
        weight=weight,
        instance_id=instance_id or None,
        drain_timeout=drain_timeout,
        log_level=log_level,
        log_format=_FORMATS[log_format] if log_format else None,
    )


def _old_hub_url() -> str | None:
    hostname = os.environ.get("SPN_HUB_HOSTNAME")
    return f"https://{hostname}:{os.environ.get('SPN_HUB_PORT') or _OLD_PORT}" if hostname else None


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
    host, port = split_address(text, option)
    if role is Role.PROVIDER and (not host or not port):
        raise ConfigurationError(f"{option}: {text!r} is not HOST:PORT")
    return host, port


def _read_pem(option: str, variable: str, value: str | None) -> bytes:
    if not value:
        raise ConfigurationError(f"{option} is missing (environment: {variable})")
    if _PEM in value:
        return value.encode()
    # What is meant as a key is not repeated, whatever it is.
    shown = "the value" if option == "--certificate-key" else repr(value)
    try:
        pem = Path(value).read_bytes()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{option}: {shown} is neither PEM text nor a readable file: {reason}") from exc
    if _PEM.encode() not in pem:
        raise ConfigurationError(f"{option}: {shown} holds no PEM")
    return pem


def _certificates(option: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise ConfigurationError(f"{option}: no usable certificate: {exc}") from exc


def _check_pair(certificate: bytes, certificate_key: bytes) -> None:
    leaf = _certificates("--certificate", certificate)[0]
    try:
        key = serialization.load_pem_private_key(certificate_key, password=None)
    except TypeError as exc:
        raise ConfigurationError("--certificate-key: the key is encrypted; give it without a password") from exc
    except ValueError as exc:
        # The library's text may quote from the file.
        raise ConfigurationError("--certificate-key: no usable private key") from exc
    if key.public_key() != leaf.public_key():
        raise ConfigurationError("--certificate-key: the key doesn't belong to the certificate of --certificate")
