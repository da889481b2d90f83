"""A leg as its actor knows it: the facts, the phase that it is in, and the messages that it takes.

Counterpart: :mod:`spnhub.actors.connection.transitions`, all transitions in one place.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from spnhub.actors.contract.inputs import ConnectionInput, Key, ProviderBusy, ProviderRejected
from spnhub.actors.contract.packets import LegPacket
from spnhub.events.frozen import dataclass
from spnhub.events.model import DisconnectReason
from spnhub.events.state.entities import ConnectionKey

__all__ = [
    "Ending",
    "Leg",
    "LegFacts",
    "LegMessage",
    "LegPhase",
    "MustEnd",
    "NoProvider",
    "PacketReceived",
    "PauseLeg",
    "ProgressDue",
    "ProviderAwaited",
    "ProviderChosen",
    "ProviderResumed",
    "ProviderUnresponsive",
    "Rejection",
    "Resume",
    "Side",
    "StartTrouble",
    "Superseded",
    "TimedOut",
    "Wait",
    "may_still_take",
]


class Side(enum.Enum):
    """A side of a connection."""

    CONSUMER = "consumer"
    PROVIDER = "provider"

    @property
    def other(self) -> Side:
        return Side.PROVIDER if self is Side.CONSUMER else Side.CONSUMER


class LegPhase(enum.Enum):
    """The phase of a leg's life; :mod:`spnhub.actors.connection.transitions` explains each."""

    INVITING = "inviting"
    RESUMING = "resuming"
    WAITING = "waiting"
    OPENING = "opening"
    CONNECTING = "connecting"
    REJECTED = "rejected"
    JOINED = "joined"
    PAUSING = "pausing"
    FINISHED = "finished"
    ENDING = "ending"
    ENDED = "ended"


class Wait(enum.Enum):
    """What a leg waits for, each for a bounded time."""

    INVITE = "invite"
    STREAMS = "streams"
    PROVIDER = "provider"
    ACCEPT = "accept"
    ANSWER = "answer"
    PAUSE = "pause"
    CLOSE = "close"
    ABORT = "abort"


class Ending(NamedTuple):
    """How a leg ends, as it is logged."""

    disconnect_reason: DisconnectReason
    code: int
    reason: str
    suspended: bool = False
    """The conversation may go on in another leg (D-1)."""


class Resume(NamedTuple):
    """An endpoint's state of a conversation that it wants to resume, or (with a ``code``) can't."""

    received_offset: int
    finished: bool
    code: int


class LegFacts(NamedTuple):
    """The facts of a leg that don't change: from its start, or from the choice of its provider."""

    key: Key
    realm: str
    network_urn: str
    service_urn: str
    consumer_side_spn_session_id: str
    consumer_peer: str
    """Verified Subject of the consumer."""
    connection_uid: str
    epoch: int
    provider: int | None = None
    """The provider's session; None: there is none yet, and the opening waits for one (D-29)."""
    provider_side_spn_session_id: str = ""
    provider_peer: str = ""
    """Verified Subject of the provider."""
    provider_instance: str = ""
    consumer_resumes: bool = True
    """Whether the consumer's protocol knows pause and resume (:class:`~spnhub.actors.contract.protocols.Abilities`)."""
    provider_resumes: bool = True
    """Likewise."""
    provider_answers: bool = True
    """Whether its protocol lets a provider say that it doesn't take a connection (D-35)."""
    patient: bool = False
    """The consumer can't ask again: its opening waits for a provider."""

    @property
    def resumable(self) -> bool:
        """Whether the connection may go on in another leg: if not, it lives and ends with this one."""
        return self.consumer_resumes and self.provider_resumes

    def session(self, side: Side) -> int:
        """The session on this side; the provider has one only after it was chosen."""
        if side is Side.CONSUMER:
            return self.key.session
        assert self.provider is not None, "nothing is said to a provider before it is chosen"
        return self.provider


class Leg(NamedTuple):
    """What the hub knows about a leg beyond what is logged; it ends with the process.

    A tuple, as its facts are: each transition makes another one, which takes a quarter of what a dataclass would.
    """

    facts: LegFacts
    phase: LegPhase = LegPhase.OPENING
    log_key: ConnectionKey | None = None
    """Its name in the log; None before its start is logged."""
    start: tuple[int, int] = (0, 0)
    """The offsets at which it begins: consumer to provider, and back (D-10)."""
    resume: Resume | None = None
    """The consumer's request; None: it is a new connection."""
    asked: tuple[Side, ...] = ()
    """The sides that have sent a Close Request, in order."""
    answered: Side | None = None
    """The side that has acknowledged the other's Close Request."""
    immediate: bool = False
    """A Close Request without ``finished`` came: the end doesn't wait for both FINs."""
    ending: Ending | None = None
    """ENDING: how it will be logged; the first reason counts."""
    verdict_due: bool = False
    """ENDING: a session was lost, and its actor is still to say how it ended."""
    carried: tuple[int, int] | None = None
    """Bytes consumer to provider, and back, once the splice has ended."""
    on_trial: bool = False
    """Its provider had failed, and the service hears whether it takes this opening (D-35)."""
    rejected: Rejection | None = None
    """REJECTED: why the provider doesn't take it, so that another is looked for."""
    trouble: str = ""
    """WAITING: why the last start of the service has failed."""
    paused: tuple[int | None, int | None] = (None, None)
    """PAUSING: the offsets of the PauseAcks so far: consumer to provider, and back (R-4.6)."""
    lost: Side | None = None
    """The side whose session ended and so suspended it."""

    @property
    def wait(self) -> Wait | None:
        """What the leg waits for in this phase; None: nothing that is bounded."""
        match self.phase:
            case LegPhase.INVITING:
                return Wait.INVITE
            case LegPhase.RESUMING:
                return Wait.STREAMS
            case LegPhase.PAUSING:
                return Wait.PAUSE
            case LegPhase.WAITING:
                return Wait.PROVIDER
            case LegPhase.OPENING | LegPhase.CONNECTING | LegPhase.REJECTED:
                return Wait.ACCEPT
            case LegPhase.JOINED if self.immediate:
                return Wait.CLOSE
            case LegPhase.ENDING:
                return Wait.ABORT
            case _:
                return None


# Messages to a connection, beside its inputs --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderChosen:
    """From its service: its provider, which has come at last, or the next one to be asked."""

    provider: int
    provider_side_spn_session_id: str
    provider_peer: str
    provider_instance: str
    on_trial: bool = False
    resumes: bool = True
    """Its protocol knows pause and resume."""
    answers: bool = True
    """It says whether it takes the opening."""


@dataclass(frozen=True, slots=True)
class ProviderAwaited:
    """From its service: no provider is left, and one is being started (D-29)."""


@dataclass(frozen=True, slots=True)
class StartTrouble:
    """From its service: a start has failed and is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoProvider:
    """From its service: WAITING: no provider will come; REJECTED: no other can be asked, so its own reason counts."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """The endpoint on this side has sent a control packet about the leg."""

    side: Side
    packet: LegPacket


@dataclass(frozen=True, slots=True)
class MustEnd:
    """The session on this side ends, and so the leg has to."""

    side: Side
    ending: Ending
    session: int | None = None
    """The session that ends; None: the one that the leg has on this side."""


@dataclass(frozen=True, slots=True)
class ProviderUnresponsive:
    """Its provider doesn't answer this hub; it may still answer another (D-20)."""

    session: int | None = None
    """The provider's session; None: the one that the leg has."""


@dataclass(frozen=True, slots=True)
class PauseLeg:
    """The hub is in a resumable shutdown, and pauses the leg (R-4.8)."""


@dataclass(frozen=True, slots=True)
class ProviderResumed:
    """The provider has answered the invitation (R-4.7)."""

    answer: Resume
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProgressDue:
    """The bytes that the leg has carried are to be reported."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The same connection goes on in a later leg."""

    epoch: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Timer: the wait has taken as long as it may."""

    wait: Wait


Rejection = ProviderRejected | MustEnd | TimedOut | ProviderBusy | ProviderUnresponsive
"""Why a provider doesn't take an opening: it refuses it, its session ends, or the time is over; or why another one is
looked for while it may still take it (:func:`may_still_take`)."""


def may_still_take(rejection: Rejection) -> bool:
    """Whether the provider is only full, unresponsive or slow: the opening stays with it if no better one is found."""
    if isinstance(rejection, TimedOut):
        return rejection.wait is Wait.ANSWER
    return isinstance(rejection, ProviderBusy | ProviderUnresponsive)


LegMessage = (
    ConnectionInput
    | ProviderChosen
    | ProviderAwaited
    | StartTrouble
    | NoProvider
    | PacketReceived
    | PauseLeg
    | ProviderUnresponsive
    | ProviderResumed
    | ProgressDue
    | Superseded
    | MustEnd
    | TimedOut
)
