"""The actors' inputs: what has happened outside. Only the time reaches them besides.

They stand in one module because they are one contract, and what a recording of the actors holds; messages between
actors are defined beside the actor that receives them. Control packets that actors handle are inputs as they are
(:data:`~spnhub.actors.contract.packets.FromEndpoint`). Counterpart: :mod:`spnhub.actors.contract.commands`.

A session is named by the engine's connection id, which is unique in a process, a connection by its :class:`Key`. No
input has payload or a secret.
"""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.inventory import Plan
from spnhub.actors.contract.packets import FromEndpoint
from spnhub.events.frozen import dataclass
from spnhub.events.model import EndPointType

__all__ = [
    "BytesCarried",
    "ConnectionInput",
    "ConnectionRequested",
    "ConsumerAborted",
    "HandshakeRefusal",
    "HubInput",
    "Key",
    "LimitExceeded",
    "LoadInventory",
    "ProviderAccepted",
    "ProviderBusy",
    "ProviderRejected",
    "ProviderStreamOpened",
    "ProviderWanted",
    "RejectInventory",
    "ResumeAnswered",
    "ResumeOpened",
    "ResumeRequested",
    "ScheduleDue",
    "ServiceExited",
    "ServiceInput",
    "SessionAnswered",
    "SessionClosed",
    "SessionInput",
    "SessionInvalidated",
    "SessionRequested",
    "SessionUnresponsive",
    "SpliceEnded",
    "StartFailed",
    "StartHub",
    "StartSucceeded",
    "StopFailed",
    "StopHub",
    "StopSucceeded",
]


class Key(NamedTuple):
    """A connection inside this hub: the consumer's session and the stream it opened. Unique in a process.

    A connection that is resumed has no stream yet when it is named: its number is negative, and used once.
    """

    session: int
    stream: int


# To the hub -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadInventory:
    """The whole inventory (R-6.2). A reload sends another one, and the differences are applied in one step (D-31)."""

    realms: tuple[RealmDefinition, ...]
    plan: Plan | None = field(default=None, compare=False, repr=False)
    """The differences, computed beforehand beside the traffic: to compare 10,000 services takes some 50 ms. They count
    if they start from the table in force (:attr:`spnhub.actors.system.ActorSystem.table`); else they are computed
    again."""


@dataclass(frozen=True, slots=True)
class RejectInventory:
    """A reload has an invalid inventory: nothing changes, and the log has the faults."""

    faults: tuple[str, ...]
    """One text for each: where it is, and what."""


@dataclass(frozen=True, slots=True)
class HandshakeRefusal:
    """A TLS handshake failed; there is no session. Aggregated by D-13."""

    realm: str | None
    network_urn: str | None
    server_name: str | None
    remote_address: str
    alert: int | None
    reason: str
    subject: str | None


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The transport has dropped something because of a limit, and the peer gets no answer that says so."""

    limit: str
    bound: int | None
    """None: the limit isn't one number, but depends on the peer."""
    count: int
    realm: str | None = None
    """None: what exceeded it is no realm's, or several'."""
    service_urn: str | None = None
    """None: it isn't a service's."""


@dataclass(frozen=True, slots=True)
class SessionRequested:
    """A verified endpoint asks for a session (R-2.1). What identifies it comes from its certificate."""

    session: int
    realm: str
    network_urn: str
    spn_session_id: str
    spn_end_point: str
    common_name: str
    end_point_type: EndPointType
    service_urn: str
    """Empty: its protocol has no word for it."""
    instance_id: str
    weight: int
    brings_connections: bool
    protocol: str
    remote_address: str
    unread: tuple[str, ...] = ()
    """Packet kinds of spn/1 that it has not announced (D-15)."""


@dataclass(frozen=True, slots=True)
class StartHub:
    """The hub takes packets from now on. Without it the log says nothing of the run itself.

    ``orderly``: the run before ended in order, or there was none.
    """

    version: str
    addresses: tuple[str, ...]
    orderly: bool


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The wall clock was set: what expires by it is judged anew, by the time that the next run is given."""


@dataclass(frozen=True, slots=True)
class StopHub:
    """End the hub; the command ``ReportHubStopped`` follows when every session has ended.

    A planned stop (R-4.10) ends the consumers' sessions, then the providers'. A resumable one (R-4.8) pauses their
    connections, so that they go on at another hub; a planned stop that comes later replaces it.
    """

    resumable: bool = False
    spread: float = 0.0
    """Seconds over which returning endpoints are to spread themselves; resumable only."""


@dataclass(frozen=True, slots=True)
class StartSucceeded:
    """What ``StartService`` asked for is done; the provider's session comes by itself."""

    service_urn: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """What ``StartService`` asked for failed. ``retryable``: the same may succeed later; the actors retry."""

    service_urn: str
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class StopSucceeded:
    """What ``StopService`` asked for is done: the provider is gone, or goes at once."""

    service_urn: str


@dataclass(frozen=True, slots=True)
class StopFailed:
    """What ``StopService`` asked for failed; the actors retry."""

    service_urn: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceExited:
    """What a cluster manager has started ended by itself (only ``process:`` notices)."""

    service_urn: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScheduleDue:
    """The service's startAt (``start``) or stopAt has come."""

    service_urn: str
    start: bool


ServiceInput = StartSucceeded | StartFailed | StopSucceeded | StopFailed | ServiceExited | ScheduleDue
"""For the service that each names; they are sent to the hub. Late and unknown ones are ignored."""

HubInput = (
    LoadInventory
    | ClockStepped
    | RejectInventory
    | HandshakeRefusal
    | LimitExceeded
    | SessionRequested
    | StartHub
    | StopHub
    | ServiceInput
)


# To a session ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The QUIC connection is over. ``by_peer``: the endpoint closed it in order (application code)."""

    by_peer: bool
    code: int
    reason: str
    process_gone: bool = False
    """The endpoint's port is closed, as its host reports, and a probe was not answered (D-20)."""


@dataclass(frozen=True, slots=True)
class ConnectionRequested:
    """The consumer opened a data stream and its header has been read (R-4.2)."""

    stream: int
    connection_uid: str
    epoch: int
    sent_offset: int
    receive_offset: int


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A consumer wants to go on with a connection (R-4.7). The transport keeps its secret."""

    key: Key
    """What the new leg is called."""
    connection_uid: str
    epoch: int
    received_offset: int
    finished: bool
    code: int
    """0, or why the consumer's end can't go on."""
    peer: str
    """Subject of the provider, as the consumer states it."""
    instance_id: str
    """Of the provider, likewise."""


@dataclass(frozen=True, slots=True)
class ResumeAnswered:
    """A provider answers an invitation (R-4.7)."""

    connection_uid: str
    epoch: int
    received_offset: int
    finished: bool
    code: int
    """0, or why the provider's end can't go on."""
    peer: str
    """Subject of the consumer, as the provider states it."""
    matches: bool
    """It was invited, and its secret is the consumer's."""


@dataclass(frozen=True, slots=True)
class SessionUnresponsive:
    """The endpoint has acknowledged no data for a while: it gets no new connections (D-20)."""


@dataclass(frozen=True, slots=True)
class SessionAnswered:
    """The endpoint acknowledges data again (D-20)."""


@dataclass(frozen=True, slots=True)
class SessionInvalidated:
    """The endpoint's certificate is no longer valid: expired, or not issued by the realm's present CA (D-30)."""

    reason: str
    expired: bool = False
    """The endpoint may come back with a new certificate, and its connections wait for that (D-36)."""


@dataclass(frozen=True, slots=True)
class ProviderWanted:
    """A consumer asks for a provider: it has something to send, and doesn't open a connection before there is one."""


SessionInput = (
    SessionClosed
    | ProviderWanted
    | ConnectionRequested
    | FromEndpoint
    | ResumeRequested
    | ResumeAnswered
    | SessionUnresponsive
    | SessionAnswered
    | SessionInvalidated
)


# To a connection ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderStreamOpened:
    """The stream towards the provider exists; its header leaves after the event is written (D-6)."""

    stream: int
    provider: int | None = None
    """Its session; None: the connection's present one. Ignored if the opening has left that provider."""


@dataclass(frozen=True, slots=True)
class ProviderBusy:
    """The provider's session has as many streams as it allows; one is opened when it allows more."""

    provider: int


@dataclass(frozen=True, slots=True)
class ProviderAccepted:
    """The provider has sent an Accept with code 0."""

    provider: int | None = None
    """Its session; None: the connection's present one. Ignored if the opening has left that provider."""


@dataclass(frozen=True, slots=True)
class ProviderRejected:
    """The provider has sent an Accept with another code, or ended its stream before it sent one."""

    code: int
    reason: str
    provider: int | None = None
    """Its session; None: the connection's present one. Ignored if the opening has left that provider."""


@dataclass(frozen=True, slots=True)
class ConsumerAborted:
    """The consumer's stream was reset or stopped before the streams were joined."""

    code: int
    reason: str = "the consumer gave up"


@dataclass(frozen=True, slots=True)
class SpliceEnded:
    """Both directions of the joined streams have ended; bytes that were passed on (D-10).

    ``finished``: each direction ended with FIN, after all its bytes. ``lost``: a side's QUIC connection is gone.
    ``code``: application error code of the first thing that was not a FIN, and whether it came from the consumer.
    """

    sent_bytes: int
    receive_bytes: int
    finished: bool
    lost: bool
    code: int
    by_consumer: bool = False


@dataclass(frozen=True, slots=True)
class BytesCarried:
    """Bytes that joined streams have passed on so far, the answer to ``ReportProgress`` (D-10)."""

    sent_bytes: int
    receive_bytes: int


@dataclass(frozen=True, slots=True)
class ResumeOpened:
    """Both endpoints have opened their streams of the new leg, with the agreed offsets (R-4.7)."""

    consumer_stream: int
    provider_stream: int


ConnectionInput = (
    ProviderStreamOpened
    | ProviderBusy
    | ProviderAccepted
    | ProviderRejected
    | ConsumerAborted
    | BytesCarried
    | SpliceEnded
    | ResumeOpened
)
