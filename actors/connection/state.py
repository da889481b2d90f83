"""What a connection is to its actor: the facts, the phase it is in, and the messages it takes.

Counterpart: :mod:`spnhub.actors.connection.transitions`, all transitions in one place.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from spnhub.actors.contract.inputs import ConnectionInput, Key, ProviderBusy, ProviderRejected
from spnhub.actors.contract.packets import LegPacket
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
    """Of a connection."""

    CONSUMER = "consumer"
    PROVIDER = "provider"

    @property
    def other(self) -> Side:
        return Side.PROVIDER if self is Side.CONSUMER else Side.CONSUMER


class LegPhase(enum.Enum):
    """Where it is in its life; :mod:`spnhub.actors.connection.transitions` says what each means."""

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
    """What a leg waits for no longer than a bound."""

    INVITE = "invite"
    STREAMS = "streams"
    PROVIDER = "provider"
    ACCEPT = "accept"
    ANSWER = "answer"
    PAUSE = "pause"
    CLOSE = "close"
    ABORT = "abort"


class Ending(NamedTuple):
    """How a connection ends: what the log says of it."""

    disconnect_reason: DisconnectReason
    code: int
    reason: str
    suspended: bool = False
    """The conversation may go on in another leg (D-1)."""


class Resume(NamedTuple):
    """What an endpoint has said of a conversation with which it wants to go on, or can't."""

    received_offset: int
    finished: bool
    code: int


@dataclass(frozen=True, slots=True)
class LegFacts:
    """What is fixed from the start, and what is when the provider has been chosen."""

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
    """None: there is none yet; the opening waits for one (D-29)."""
    provider_side_spn_session_id: str = ""
    provider_peer: str = ""
    """Verified Subject of the provider."""
    provider_instance: str = ""

    def session(self, side: Side) -> int:
        """The session on this side; the provider's only after it was chosen."""
        if side is Side.CONSUMER:
            return self.key.session
        assert self.provider is not None, "nothing is said to a provider before it is chosen"
        return self.provider


@dataclass(frozen=True, slots=True)
class Leg:
    """What the hub knows of a connection beyond what is logged; gone when the hub is."""

    facts: LegFacts
    phase: LegPhase = LegPhase.OPENING
    spn_connection_id: str | None = None
    """None before its start is logged."""
    start: tuple[int, int] = (0, 0)
    """Offsets consumer to provider and back at which it begins (D-10)."""
    resume: Resume | None = None
    """The consumer's request; None: it is a new connection."""
    asked: tuple[Side, ...] = ()
    """Who has sent a Close Request, in order."""
    answered: Side | None = None
    """Who has acknowledged the other's."""
    immediate: bool = False
    """A Close Request doesn't wait for both FINs."""
    ending: Ending | None = None
    """ENDING: how; the first who asked has decided it."""
    verdict_due: bool = False
    """ENDING: a session was lost, and how it ended is still to be told."""
    carried: tuple[int, int] | None = None
    """Bytes consumer to provider and back, once the splice has ended."""
    on_trial: bool = False
    """Its provider has failed, and its service wants to hear whether it takes this opening (D-35)."""
    rejected: Rejection | None = None
    """REJECTED: why another provider is asked for."""
    trouble: str = ""
    """WAITING: what has gone wrong with the start so far."""
    paused: tuple[int | None, int | None] = (None, None)
    """PAUSING: offsets consumer to provider and back that the PauseAcks have told (R-4.6)."""
    lost: Side | None = None
    """The side through which it was suspended."""

    @property
    def wait(self) -> Wait | None:
        """The bound that holds now."""
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

    @property
    def log_key(self) -> ConnectionKey | None:
        """Its name in the log, once it has started."""
        if self.spn_connection_id is None:
            return None
        facts = self.facts
        return ConnectionKey(
            facts.consumer_side_spn_session_id, facts.provider_side_spn_session_id, self.spn_connection_id
        )


# Messages to a connection, beside its inputs --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderChosen:
    """The provider that it has waited for has come, or the next one that may take it is known."""

    provider: int
    provider_side_spn_session_id: str
    provider_peer: str
    provider_instance: str
    on_trial: bool = False


@dataclass(frozen=True, slots=True)
class ProviderAwaited:
    """No provider is left, and the service is being started (D-29)."""


@dataclass(frozen=True, slots=True)
class StartTrouble:
    """A start has failed and is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoProvider:
    """It waits in vain; or no other provider can be asked, and its own reason counts."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """The endpoint on this side has sent a control packet about the leg."""

    side: Side
    packet: LegPacket


@dataclass(frozen=True, slots=True)
class MustEnd:
    """The session on this side ends, so the connection does."""

    side: Side
    ending: Ending
    session: int | None = None
    """Which session; None: whichever it is."""


@dataclass(frozen=True, slots=True)
class ProviderUnresponsive:
    """Its provider doesn't answer this hub; it may answer another (D-20)."""

    session: int | None = None
    """Which provider; None: whichever it is."""


@dataclass(frozen=True, slots=True)
class PauseLeg:
    """The hub pauses it (R-4.8)."""


@dataclass(frozen=True, slots=True)
class ProviderResumed:
    """The provider has answered the invitation (R-4.7)."""

    answer: Resume
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ProgressDue:
    """It is time to tell of the bytes that it has carried."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """The same connection goes on in a later leg."""

    epoch: int


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A bound has passed."""

    wait: Wait


Rejection = ProviderRejected | MustEnd | TimedOut | ProviderBusy | ProviderUnresponsive
"""Why a provider doesn't take an opening: it says so, its session ends, all of the time is over; or it may still take
it (:func:`may_still_take`)."""


def may_still_take(rejection: Rejection) -> bool:
    """Whether the provider is only full or silent now, or takes its time: another must be better, or it stays there."""
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
