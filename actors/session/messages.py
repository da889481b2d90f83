"""What a session's actor and its service's say to each other."""

from __future__ import annotations

from spnhub.actors.contract.inputs import ConnectionRequested, ResumeAnswered, ResumeRequested
from spnhub.actors.session.endings import SessionEnding
from spnhub.events.frozen import dataclass

__all__ = [
    "EndSession",
    "InvitationAnswered",
    "LastLegGone",
    "LegRequested",
    "ProviderAsked",
    "ProviderWeightSet",
    "ResponsivenessChanged",
    "ResumeAsked",
    "SessionFailed",
    "SessionGone",
    "SessionLeaves",
    "ShutSession",
    "SupersedeSession",
]

# Messages to a session, beside its inputs -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EndSession:
    """The hub ends the session; ignored if the session is ending already (D-5)."""

    ending: SessionEnding


@dataclass(frozen=True, slots=True)
class ShutSession:
    """The hub is about to leave: the legs are paused, then the endpoint closes the session (R-4.8)."""

    spread: float


@dataclass(frozen=True, slots=True)
class SupersedeSession:
    """A newer session of its endpoint has superseded it in order: no new legs, and the open ones may move (D-38)."""


@dataclass(frozen=True, slots=True)
class LastLegGone:
    """Its last open leg has ended."""


# Messages from a session to its service -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LegRequested:
    """A consumer wants a connection."""

    session: int
    request: ConnectionRequested


@dataclass(frozen=True, slots=True)
class ProviderAsked:
    """A consumer asks for a provider."""

    session: int


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """A consumer asks to resume a connection (R-4.7)."""

    session: int
    request: ResumeRequested


@dataclass(frozen=True, slots=True)
class InvitationAnswered:
    """A provider answers an invitation to resume a connection (R-4.7)."""

    session: int
    answer: ResumeAnswered


@dataclass(frozen=True, slots=True)
class ResponsivenessChanged:
    """A provider is unresponsive, or has answered again (D-20)."""

    session: int
    unresponsive: bool


@dataclass(frozen=True, slots=True)
class ProviderWeightSet:
    """A provider has another weight (R-5.3)."""

    session: int
    weight: int


@dataclass(frozen=True, slots=True)
class SessionLeaves:
    """The session is ending and gets no new legs."""

    session: int
    process_gone: bool = False
    """See :class:`SessionClosed`."""


@dataclass(frozen=True, slots=True)
class SessionGone:
    """The session has ended, and its end is logged."""

    session: int


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session's actor has failed."""

    session: int
