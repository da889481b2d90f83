"""The sessions of one service: which endpoints they belong to, which are stale, which providers may be chosen.

Pure data.
"""

from __future__ import annotations

from spnhub.actors.contract.definitions import ServiceDefinition
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import not_allowed, surplus
from spnhub.actors.service.balancing import ProviderChoice
from spnhub.events.model import EndPointType

__all__ = ["Identity", "SessionRegistry", "identity"]

Identity = tuple[EndPointType, str, str]
"""Role, verified Subject and instance id: the instance of an endpoint, which has one session at a time (D-28)."""


def identity(request: SessionRequested) -> Identity | None:
    """The instance that a session belongs to (D-28); None: the endpoint gave no instance id."""
    return (request.end_point_type, request.spn_end_point, request.instance_id) if request.instance_id else None


class SessionRegistry:
    """Owned by the service's actor.

    :param choice: the providers that may be chosen; empty in the beginning.
    """

    def __init__(self, choice: ProviderChoice) -> None:
        self.sessions: dict[int, SessionRequested] = {}
        """By session number, the requests that were accepted, oldest first; sessions that are ending are included."""
        self.roles: dict[EndPointType, int] = dict.fromkeys(EndPointType, 0)
        """The number of sessions of each role."""
        self.choice = choice
        self.retired: set[int] = set()
        """Providers whose service is being stopped: out of the choice until that is known to have failed."""
        self.identities: dict[Identity, int] = {}
        """The newest session of each instance that has named itself."""

    def add(self, request: SessionRequested) -> None:
        """Register a session that was accepted. The caller adds a provider to :attr:`choice` or to :attr:`retired`."""
        self.sessions[request.session] = request
        self.roles[request.end_point_type] += 1
        instance = identity(request)
        if instance is not None:
            self.identities[instance] = request.session

    def remove(self, session: int) -> SessionRequested:
        """Remove a session that has ended.

        :returns: its request.
        """
        request = self.sessions.pop(session)
        self.roles[request.end_point_type] -= 1
        instance = identity(request)
        # A session that was superseded ends after its successor was registered under the same name: that entry stays.
        if instance is not None and self.identities.get(instance) == session:
            del self.identities[instance]
        return request

    def stale_session(self, request: SessionRequested) -> int | None:
        """The session of the same instance, which this one would supersede (D-28); None: there is none."""
        instance = identity(request)
        return None if instance is None else self.identities.get(instance)

    def has_other_provider(self, request: SessionRequested) -> bool:
        """Whether another endpoint provides the service, so that a singleton has its provider (D-28)."""
        return bool({*self.choice, *self.retired} - {self.stale_session(request)})

    def exclude(self, session: int) -> bool:
        """Give a provider no more connections, for good.

        :returns: whether it could have been chosen until now.
        """
        known = session in self.choice
        self.choice.remove(session)
        self.retired.discard(session)
        return known

    def retire(self) -> None:
        """Choose no provider for the time being: all that there are become :attr:`retired`."""
        self.retired |= set(self.choice)
        for session in self.retired:
            self.choice.remove(session)

    def disallowed(self, definition: ServiceDefinition | None) -> dict[int, str]:
        """The sessions that this definition doesn't allow any more, each with the reason."""
        reasons = {}
        providers = []
        for session, request in self.sessions.items():
            reason = not_allowed(definition, request.end_point_type, request.common_name)
            if reason is not None:
                reasons[session] = reason
            elif session in self.choice or session in self.retired:
                providers.append(session)
        return reasons if definition is None else reasons | surplus(definition, providers)
