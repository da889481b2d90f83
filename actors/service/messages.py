"""What a service's actor and its parents say to each other; the answers name the actor that they are from."""

from __future__ import annotations

from typing import Any

from pykka import ActorRef

from spnhub.actors.contract.inventory import ServiceKey
from spnhub.events.frozen import dataclass
from spnhub.events.model import EndPointType

__all__ = ["Define", "Leave", "ServiceEmpty", "SessionsStopped", "StopSessions"]


@dataclass(frozen=True, slots=True)
class Define:
    """From the parent: the table has another definition of the service, or none any more."""


@dataclass(frozen=True, slots=True)
class ServiceEmpty:
    """To the parent: the service isn't defined any more, and nothing of it is left."""

    key: ServiceKey
    child: ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Leave:
    """From the parent: the actor isn't needed any more, and stops."""


@dataclass(frozen=True, slots=True)
class StopSessions:
    """From the parent: accept nothing new and end the sessions of these roles.

    The answer is one ``SessionsStopped`` for each role, as soon as no session of it is left.
    """

    roles: tuple[EndPointType, ...]
    spread: float | None = None
    """Seconds over which the endpoints spread their return after a resumable shutdown (R-4.8).

    None: a planned stop, after which connections don't go on (R-4.10).
    """


@dataclass(frozen=True, slots=True)
class SessionsStopped:
    """To the parent: no session of this role is left in ``child``."""

    role: EndPointType
    child: ActorRef[Any]
