"""Engine events that no turn has handled yet: in order for each session, and fair between realms, then sessions.

A turn handles a bounded number (:data:`spnhub.transport.hub.server.EVENTS_PER_TURN`). What is left waits here, each
session's in a queue of its own, and is taken round robin over the realms and, within one, over its sessions: who sends
a flood waits behind its own. Sans-I/O; empty while the hub keeps up, and then it costs nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from spnhub.transport import engine as api

__all__ = ["WAITING_EVENTS", "Backlog"]

WAITING_EVENTS: Final = 16_384
"""Engine events of one session that wait to be handled, 4 for each of its streams; beyond it, it is ended (LIMIT)."""


class Backlog:
    """The events that wait.

    :param realm_of: the realm of an event, where no other of the same session waits; "" for what belongs to none.
    :param session_of: the session in whose queue an event waits that names none, or several.
    """

    def __init__(
        self, realm_of: Callable[[api.EngineEvent], str], session_of: Callable[[api.Spliced, Backlog], int]
    ) -> None:
        self._realm_of = realm_of
        self._session_of = session_of
        self._realms: OrderedDict[str, OrderedDict[int, deque[api.EngineEvent]]] = OrderedDict()
        """In the order in which they are served; the sessions of each likewise."""
        self._where: dict[int, str] = {}
        """The realm in which a session's events wait."""
        self.count = 0
        """How many wait."""

    def __contains__(self, session: int) -> bool:
        """Whether events of a session wait."""
        return session in self._where

    def session(self, event: api.EngineEvent) -> int:
        """In whose queue an event waits; 0: it is about no session."""
        return self._session_of(event, self) if isinstance(event, api.Spliced) else getattr(event, "connection_id", 0)

    def add(self, event: api.EngineEvent) -> int | None:
        """Let an event wait behind the others of its session.

        :returns: the session, if now more of its events wait than may; they are forgotten then, but those that others
            wait for.
        """
        session = self.session(event)
        queue = self._queue(session, event)
        queue.append(event)
        self.count += 1
        if len(queue) <= WAITING_EVENTS or not session:
            return None
        kept = [one for one in queue if isinstance(one, api.Closed | api.Spliced)]
        self.count -= len(queue) - len(kept)
        queue.clear()
        queue.extend(kept)
        if not queue:
            self._forget(session)
        return session

    def add_first(self, event: api.Readable) -> None:
        """Let an event wait before the others of its session: it was begun."""
        self._queue(event.connection_id, event).appendleft(event)
        self.count += 1

    def take(self) -> api.EngineEvent:
        """The next one; there must be one."""
        realm, sessions = next(iter(self._realms.items()))
        session, queue = next(iter(sessions.items()))
        event = queue.popleft()
        self.count -= 1
        # Behind the others.
        self._realms.move_to_end(realm)
        sessions.move_to_end(session)
        if not queue:
            self._forget(session)
        return event

    def _queue(self, session: int, event: api.EngineEvent) -> deque[api.EngineEvent]:
        realm = self._where.get(session)
        if realm is None:
            realm = self._where[session] = self._realm_of(event)
            self._realms.setdefault(realm, OrderedDict())[session] = deque()
        return self._realms[realm][session]

    def _forget(self, session: int) -> None:
        realm = self._where.pop(session)
        sessions = self._realms[realm]
        del sessions[session]
        if not sessions:
            del self._realms[realm]
