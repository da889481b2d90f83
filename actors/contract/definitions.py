"""What the inventory defines, as the actors need it: plain frozen data, already validated.

Counterpart: ``spnhub.inventory`` fetches, validates and builds these. Keys and certificates of the TLS layer are not
here but in :class:`spnhub.transport.engine.ServerIdentity`: actors decide, they don't do TLS.
"""

from __future__ import annotations

from spnhub.dataclass import dataclass

__all__ = ["Availability", "NetworkDefinition", "RealmDefinition", "ServiceDefinition"]


@dataclass(frozen=True, slots=True)
class Availability:
    """How a service is started and stopped (``spec: availabilityManagement``), as far as actors decide it.

    What else a cluster manager needs (image, command, environment) stays with whoever carries out the commands.
    """

    cluster_manager_urn: str
    service_id: str
    start_on_load: bool = False
    """No on-demand start: started when it is loaded."""
    start_on_consumer: bool = False
    """Started when a consumer's session is ready."""
    start_on_payload: bool = False
    """Started at a consumer's first payload (D-29)."""
    idle_timeout: float | None = None
    """Seconds without traffic after which it is stopped; only with on-demand start. None or 0: never."""
    start_at: str | None = None
    """Six cron fields; the edge watches the clock and tells :class:`spnhub.actors.contract.inputs.ScheduleDue`."""
    stop_at: str | None = None
    """Likewise."""
    fingerprint: str = ""
    """Digest of all that only the cluster manager reads, so that its change is a difference."""

    @property
    def on_demand(self) -> bool:
        """Whether somebody's wish starts it."""
        return self.start_on_consumer or self.start_on_payload


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
    availability: Availability | None = None
    """None: nobody here starts or stops it."""
    max_connections: int | None = None
    """Connections open at once; None: no bound of its own."""
    max_bandwidth: int | None = None
    """Bytes a second that its connections carry, both ways together; None: no bound of its own."""


@dataclass(frozen=True, slots=True)
class NetworkDefinition:
    """A hub of the inventory; "hub" is kept for the process (D-3)."""

    urn: str
    """``urn:chip-in:network:{realm}:{name}``."""
    name: str
    fqdn: str
    """Lower case; the SNI that selects this network."""
    services: tuple[ServiceDefinition, ...]
    address: str = ""
    """``host:port`` where it takes packets; for differences, nothing is decided by it."""
    certificate: str = ""
    """SHA-256 (hex) of the server's certificate chain, likewise."""


@dataclass(frozen=True, slots=True)
class RealmDefinition:
    """A realm: a tenant. Realms never see each other."""

    name: str
    networks: tuple[NetworkDefinition, ...]
    expired_at: int | None = None
    """Microseconds since 1970, UTC: from then on it isn't served any more. None: never."""
    max_sessions: int | None = None
    """Sessions open at once; None: :attr:`spnhub.actors.contract.options.ActorOptions.realm_sessions`."""
    max_connections: int | None = None
    """Connections open at once; None: no bound of its own."""
    max_handshake_rate: int | None = None
    """Handshakes a second; None, here and below: as many as :class:`spnhub.transport.hub.rates.RealmRates` has."""
    max_event_rate: int | None = None
    """Events a second."""
    max_journal_rate: int | None = None
    """Bytes of events a second."""
    max_memory: int | None = None
    """Bytes that all its sessions may have the hub hold, unread or on their way to them; None:
    :attr:`spnhub.transport.hub.memory.MemoryLimits.realm_memory`."""
    max_bandwidth: int | None = None
    """Bytes a second that its connections carry, both ways together; None: no bound."""
    max_handshakes: int | None = None
    """Handshakes under way at once with each of its networks; None: as many as the engine allows any name. The engine
    has it with the network's identity: here it is for differences."""
    client_ca: str = ""
    """SHA-256 (hex) of the CA certificates that its endpoints are verified with; for differences."""
