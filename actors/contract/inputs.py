"""What the transport tells the actors. With time and the inventory, these are all the inputs that actors have.

They stand in one module because they are one contract (and what a recording of the actors holds); the messages that
actors send each other are defined beside the actor that receives them. Counterpart:
:mod:`spnhub.actors.contract.commands`. Sessions are named by the engine's connection number ``c`` (unique in a
process), connections by :class:`Key`. No payload and no secret is ever in an input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.inventory import Plan
from spnhub.actors.contract.packets import FromEndpoint
from spnhub.events.model import EndPointType

__all__ = [
    "BytesCarried",
    "ConnectionInput",
    "ConnectionRequested",
    "ConsumerAborted",
    "HandshakeRefusal",
    "HubInput",
    "Key",
    "LimitBitten",
    "LoadInventory",
    "ProviderAccepted",
    "ProviderBusy",
    "ProviderRejected",
    "ProviderStreamOpened",
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
    """All realms that count, whole (R-6.2). Again at a reload: what is different is decided in one step (D-31)."""

    realms: tuple[RealmDefinition, ...]
    plan: Plan | None = field(default=None, compare=False, repr=False)
    """The same as a plan that was made before, beside the traffic: 10,000 services take some 50 ms to compare. It
    counts if it begins with the table of now (:attr:`spnhub.actors.system.ActorSystem.table`), else it is made anew."""


@dataclass(frozen=True, slots=True)
class RejectInventory:
    """A reload found faults: nothing changes, the log says why. One text for each, saying where and what."""

    faults: tuple[str, ...]


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
class LimitBitten:
    """A bound of the transport turned something away, and nobody is told a refusal. What it is about is repeated."""

    limit: str
    bound: int | None
    """None: what there is room for depends on who asks."""
    count: int


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
class StopHub:
    """The hub ends; the command ``HubStopped`` says when all sessions have gone.

    A planned stop (R-4.10) ends consumers, then providers. A resumable one (R-4.8) pauses their connections, so that
    they go on at another hub; a planned stop told later takes its place.
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
"""For the service that each names; they are told to the hub. Late and unknown ones are ignored."""

HubInput = (
    LoadInventory
    | RejectInventory
    | HandshakeRefusal
    | LimitBitten
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
    """Nobody has the endpoint's port any more, as its host says, and a probe was not answered (D-20)."""


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
    """Its data has been unanswered for a while: out of the choice (D-20)."""


@dataclass(frozen=True, slots=True)
class SessionAnswered:
    """It has answered again (D-20)."""


@dataclass(frozen=True, slots=True)
class SessionInvalidated:
    """Its certificate doesn't count any more: expired, or not of the realm's CA as it is now (D-30)."""

    reason: str
    expired: bool = False
    """It is a matter of time, so its endpoint may come again, and its connections wait for that (D-36)."""


SessionInput = (
    SessionClosed
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
    """Its session; None: whichever the connection is with. One that the opening has left is not meant any more."""


@dataclass(frozen=True, slots=True)
class ProviderBusy:
    """The provider's session has as many streams as it allows; one is opened when it allows more."""

    provider: int


@dataclass(frozen=True, slots=True)
class ProviderAccepted:
    """The provider's accept header says yes."""

    provider: int | None = None
    """Its session; None: whichever the connection is with. One that the opening has left is not meant any more."""


@dataclass(frozen=True, slots=True)
class ProviderRejected:
    """The provider said no (its accept header), or ended its stream before one; the stream is of no more use."""

    code: int
    reason: str
    provider: int | None = None
    """Its session; None: whichever the connection is with. One that the opening has left is not meant any more."""


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
    """Both endpoints have opened their streams of the new leg, with the offsets that they were told (R-4.7)."""

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
