"""The sessions of one service: who they are, who is whose ghost, and which providers may be chosen. Pure data."""

from __future__ import annotations

from spnhub.actors.contract.definitions import ServiceDefinition
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import not_allowed, surplus
from spnhub.actors.service.admission import Identity, identity
from spnhub.actors.service.balancing import ProviderChoice
from spnhub.events.model import EndPointType

__all__ = ["SessionRegistry"]


class SessionRegistry:
    """Owned by the service's actor.

    :param choice: its providers, in the beginning none.
    """

    def __init__(self, choice: ProviderChoice) -> None:
        self.sessions: dict[int, SessionRequested] = {}
        """As they were requested, oldest first; ending ones included."""
        self.roles: dict[EndPointType, int] = dict.fromkeys(EndPointType, 0)
        """How many there are of each role."""
        self.choice = choice
        self.retired: set[int] = set()
        """Providers whose service is being stopped: out of the choice until that is known to have failed."""
        self.identities: dict[Identity, int] = {}

    def add(self, request: SessionRequested) -> None:
        """A session was accepted; a provider gets its place in the choice by :meth:`serve` or :attr:`retired`."""
        self.sessions[request.session] = request
        self.roles[request.end_point_type] += 1
        who = identity(request)
        if who is not None:
            self.identities[who] = request.session

    def remove(self, session: int) -> SessionRequested:
        """A session has ended."""
        request = self.sessions.pop(session)
        self.roles[request.end_point_type] -= 1
        who = identity(request)
        if who is not None and self.identities.get(who) == session:
            del self.identities[who]
        return request

    def stale_session(self, request: SessionRequested) -> int | None:
        """The session that this one would take the place of (D-28)."""
        who = identity(request)
        return None if who is None else self.identities.get(who)

    def has_other_provider(self, request: SessionRequested) -> bool:
        """Whether somebody else provides the service, from whom a singleton is not to be taken (D-28)."""
        return bool({*self.choice, *self.retired} - {self.stale_session(request)})

    def put_out(self, session: int) -> bool:
        """A provider gets no more connections, for good; whether it could have been chosen."""
        known = session in self.choice
        self.choice.remove(session)
        self.retired.discard(session)
        return known

    def retire(self) -> None:
        """No provider is chosen for the time being."""
        self.retired |= set(self.choice)
        for session in self.retired:
            self.choice.remove(session)

    def withdrawn(self, definition: ServiceDefinition | None) -> dict[int, str]:
        """Who isn't allowed any more by this definition, and why."""
        reasons = {}
        providers = []
        for session, request in self.sessions.items():
            reason = not_allowed(definition, request.end_point_type, request.common_name)
            if reason is not None:
                reasons[session] = reason
            elif session in self.choice or session in self.retired:
                providers.append(session)
        return reasons if definition is None else reasons | surplus(definition, providers)
