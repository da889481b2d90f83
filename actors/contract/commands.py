"""The actors' commands: what the transport is to do, in the imperative.

They are carried out in order, after the events of the same turn were handed to the journal; what a peer sees of them
leaves when these events are written (D-6). A command for a session or connection that is gone does nothing.
Counterpart: :mod:`spnhub.actors.contract.inputs`.
"""

from __future__ import annotations

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import Key
from spnhub.actors.contract.packets import ToEndpoint
from spnhub.events.frozen import dataclass

__all__ = [
    "AbortConnection",
    "AcceptSession",
    "CloseSession",
    "Command",
    "ForgetConnection",
    "InviteProvider",
    "JoinStreams",
    "OpenProviderStream",
    "RefuseConnection",
    "RefuseSession",
    "ReportHubStopped",
    "ReportProgress",
    "ReportProviderStopped",
    "SendPacket",
    "StartService",
    "StopService",
]


@dataclass(frozen=True, slots=True)
class AcceptSession:
    """Send SessionAck."""

    session: int
    spn_session_id: str


@dataclass(frozen=True, slots=True)
class RefuseSession:
    """Send SessionRefusal, then close the QUIC connection with the same code and reason."""

    session: int
    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Close the QUIC connection."""

    session: int
    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class OpenProviderStream:
    """Open a stream on the provider's session; ProviderStreamOpened comes back, at once or when one is available.

    A stream at another provider, or the wait for one there, is given up: that provider has not accepted.

    The transport writes the Opening. It has kept the consumer's, secret included, and adds ``peer``.
    """

    connection: Key
    provider: int
    peer: str


@dataclass(frozen=True, slots=True)
class RefuseConnection:
    """Send an Accept with this code to the consumer, end the streams, forget the connection."""

    connection: Key
    code: Code
    reason: str


@dataclass(frozen=True, slots=True)
class JoinStreams:
    """Send an Accept (code 0) to the consumer, in a resume also to the provider, and splice the two streams.

    SpliceEnded comes back.
    """

    connection: Key
    peer: str
    """Verified Subject of the provider."""
    instance_id: str


@dataclass(frozen=True, slots=True)
class AbortConnection:
    """Reset and stop both streams with ``code``; SpliceEnded comes back if they were joined."""

    connection: Key
    code: Code


@dataclass(frozen=True, slots=True)
class ReportProgress:
    """Report how many bytes the joined streams have passed on: BytesCarried comes back if the counts are others."""

    connection: Key
    sent_bytes: int
    """As reported last, consumer to provider."""
    receive_bytes: int
    """As reported last, provider to consumer."""


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send a control packet to this session's endpoint, if that reads its kind (D-37)."""

    session: int
    packet: ToEndpoint


@dataclass(frozen=True, slots=True)
class InviteProvider:
    """Pass the consumer's ResumeRequest on as a ResumeInvite; ResumeAnswered comes back (R-4.7)."""

    connection: Key
    provider: int
    peer: str
    """Verified Subject of the consumer."""


@dataclass(frozen=True, slots=True)
class StartService:
    """Have the cluster manager start the service; ServiceStarted or ServiceStartFailed comes back.

    To start what runs already is a success. The commands of one service are to be carried out in order: a stop may come
    before the start is answered, a start never before the stop is. Each is answered, within
    :attr:`spnhub.actors.contract.options.ActorOptions.cluster_timeout`, or counts as failed.
    """

    service_urn: str
    reason: str
    """``load``, ``consumer``, ``payload`` or ``schedule``."""
    availability: Availability


@dataclass(frozen=True, slots=True)
class StopService:
    """Have the cluster manager stop the service; ServiceStopped or ServiceStopFailed comes back.

    To stop what doesn't run is a success. The service may have gone from the inventory: what its manager needs to know
    has to be kept until the answer.
    """

    service_urn: str
    reason: str
    """``idle``, ``schedule``, ``removed`` or ``replaced`` (by another definition)."""
    availability: Availability
    """As it was when it was started."""


@dataclass(frozen=True, slots=True)
class ReportProviderStopped:
    """Tell a consumer that the provider was stopped because nobody used it; for protocols that have a word for it."""

    session: int


@dataclass(frozen=True, slots=True)
class ForgetConnection:
    """The connection has ended; no later command names it."""

    connection: Key


@dataclass(frozen=True, slots=True)
class ReportHubStopped:
    """Every session has ended after StopHub; the process may leave."""


Command = (
    AcceptSession
    | RefuseSession
    | CloseSession
    | OpenProviderStream
    | RefuseConnection
    | JoinStreams
    | ReportProgress
    | AbortConnection
    | SendPacket
    | InviteProvider
    | StartService
    | StopService
    | ReportProviderStopped
    | ForgetConnection
    | ReportHubStopped
)
