"""What the inventory defines, as the actors need it: plain frozen data, already validated.

Counterpart: ``spnhub.inventory`` fetches, validates and builds these. Keys and certificates of the TLS layer are not
here but in :class:`spnhub.transport.engine.ServerIdentity`: actors decide, they don't do TLS.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NetworkDefinition", "RealmDefinition", "ServiceDefinition"]


@dataclass(frozen=True, slots=True)
class ServiceDefinition:
    """A service of one network (``spec: Service``)."""

    urn: str
    """``urn:chip-in:service:{realm}:{hub}:{name}``."""
    name: str
    provider: str
    """Common name of the certificate subject that may provide it."""
    consumers: frozenset[str]
    """Common names that may use it."""
    singleton: bool = False


@dataclass(frozen=True, slots=True)
class NetworkDefinition:
    """A hub of the inventory; "hub" is kept for the process (D-3)."""

    urn: str
    """``urn:chip-in:network:{realm}:{name}``."""
    name: str
    fqdn: str
    """Lower case; the SNI that selects this network."""
    services: tuple[ServiceDefinition, ...]


@dataclass(frozen=True, slots=True)
class RealmDefinition:
    """A realm: a tenant. Realms never see each other."""

    name: str
    networks: tuple[NetworkDefinition, ...]
