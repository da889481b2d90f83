"""The root actor, one for the process: the realms, refused handshakes, and the planned stop (R-4.10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pykka import ActorRef

from spnhub.actors.codes import Code
from spnhub.actors.commands import HubStopped
from spnhub.actors.environment import Decision, Environment
from spnhub.actors.inputs import HandshakeRefused, LoadInventory, SessionRequested, StopHub
from spnhub.actors.realm import DefineRealm, RealmActor
from spnhub.actors.refusals import Refusals
from spnhub.actors.runtime import EventLoopActor
from spnhub.actors.service import SessionsStopped, StopSessions, refuse_session
from spnhub.actors.timers import Timer
from spnhub.events.model import EndPointType

__all__ = ["HubActor"]

_ORDER = (EndPointType.CONSUMER, EndPointType.PROVIDER)
"""Who is stopped first (R-4.10)."""


@dataclass(frozen=True, slots=True)
class WindowOver:
    """Some refusals' second may be over (D-13)."""


@dataclass(frozen=True, slots=True)
class StopTimedOut:
    """Sessions of this role have had the time they get."""

    role: EndPointType


class HubActor(EventLoopActor):
    """The hub process."""

    def __init__(self, env: Environment) -> None:
        super().__init__()
        self._env = env
        self._realms: dict[str, ActorRef[Any]] = {}
        self._defined: set[str] = set()
        self._refusals = Refusals(env.options.refusal_window, env.options.refusal_kinds)
        self._refusals_timer: Timer | None = None
        self._stopping: EndPointType | None = None
        """Whose turn it is."""
        self._stop_asked = False
        self._stop_timer: Timer | None = None
        self._waiting: set[ActorRef[Any]] = set()

    def on_receive(self, message: object) -> None:
        """Each kind has its handler."""
        _HANDLERS[type(message)](self, message)

    def recover(self, message: object) -> bool:
        """Everything depends on this actor, so it lives on, and who asked gets an answer."""
        if isinstance(message, SessionRequested):
            self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
        return True

    def _load_inventory(self, message: LoadInventory) -> None:
        definitions = {realm.name: realm for realm in message.realms}
        for name in definitions:
            if name not in self._realms:
                self._realms[name] = self._env.dispatcher.start(RealmActor, self._env, self.actor_ref)
        for name, realm in self._realms.items():
            realm.tell(DefineRealm(definitions.get(name)))
        self._defined = set(definitions)

    def _session_requested(self, request: SessionRequested) -> None:
        refusal: tuple[Code, str] | None = None
        if self._stop_asked:
            refusal = Code.SHUTDOWN, "the hub is being stopped"
        elif request.session in self._env.directory.sessions:
            refusal = Code.PROTOCOL, "the session has been requested before"
        elif request.realm not in self._defined:
            refusal = Code.UNKNOWN_SERVICE, f"no realm {request.realm}"
        if refusal is None:
            self._realms[request.realm].tell(request)
        else:
            self._env.carry_out(refuse_session(request, *refusal))

    # Refused handshakes

    def _handshake_refused(self, message: HandshakeRefused) -> None:
        self._env.carry_out(Decision(self._refusals.add(message, self._env.now)))
        self._watch_refusals()

    def _window_over(self, _: WindowOver) -> None:
        self._refusals_timer = None
        self._env.carry_out(Decision(self._refusals.expire(self._env.now)))
        self._watch_refusals()

    def _watch_refusals(self) -> None:
        due = self._refusals.due()
        if due is not None and self._refusals_timer is None:
            self._refusals_timer = self._env.after(max(0.0, due - self._env.now), self.actor_ref, WindowOver())

    # Planned stop

    def _stop_hub(self, _: StopHub) -> None:
        if not self._stop_asked:
            self._stop_asked = True
            self._stop_role(_ORDER[0])

    def _stop_role(self, role: EndPointType) -> None:
        self._stopping = role
        self._waiting = set(self._realms.values())
        self._stop_timer = self._env.after(self._env.options.stop_timeout, self.actor_ref, StopTimedOut(role))
        for realm in self._realms.values():
            realm.tell(StopSessions(role))
        self._go_on_stopping(role)

    def _sessions_stopped(self, message: SessionsStopped) -> None:
        if message.role is self._stopping:
            self._waiting.discard(message.child)
            self._go_on_stopping(message.role)

    def _stop_timed_out(self, message: StopTimedOut) -> None:
        if message.role is self._stopping:
            self._waiting.clear()
            self._go_on_stopping(message.role)

    def _go_on_stopping(self, role: EndPointType) -> None:
        if self._waiting:
            return
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        if role is _ORDER[0]:
            self._stop_role(_ORDER[1])
            return
        self._stopping = None
        if self._refusals_timer is not None:
            self._refusals_timer.cancel()
            self._refusals_timer = None
        self._env.carry_out(Decision(self._refusals.flush(), (HubStopped(),)))


_HANDLERS: dict[type, Callable[[HubActor, Any], None]] = {
    LoadInventory: HubActor._load_inventory,
    SessionRequested: HubActor._session_requested,
    HandshakeRefused: HubActor._handshake_refused,
    WindowOver: HubActor._window_over,
    StopHub: HubActor._stop_hub,
    SessionsStopped: HubActor._sessions_stopped,
    StopTimedOut: HubActor._stop_timed_out,
}
