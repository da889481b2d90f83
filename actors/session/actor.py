"""The actor of one session: handles its endpoint's packets, and ends the session after all of its legs.

The service's actor starts it when it has accepted the request and logged the session's start.
"""

from __future__ import annotations

from functools import partial
from typing import Any, assert_never

from pykka import ActorRef

from spnhub.actors.connection.resume_refusals import refuse_resume
from spnhub.actors.connection.state import (
    MustEnd,
    PacketReceived,
    ProviderUnresponsive,
    Side,
)
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    RefuseConnection,
    SendPacket,
)
from spnhub.actors.contract.inputs import (
    ConnectionRequested,
    Key,
    ProviderWanted,
    ResumeAnswered,
    ResumeRequested,
    SessionAnswered,
    SessionClosed,
    SessionInput,
    SessionInvalidated,
    SessionRequested,
    SessionUnresponsive,
)
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    LegPacket,
    PauseRequest,
    SessionRenewal,
    SetWeight,
    ShutdownRequest,
    ToEndpoint,
)
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.session.endings import (
    SessionEnding,
    by_close,
    by_fault,
    by_hub,
    decide_end,
    expired,
    leaving,
    superseded,
)
from spnhub.actors.session.messages import (
    EndSession,
    InvitationAnswered,
    LastLegGone,
    LegRequested,
    ProviderAsked,
    ProviderWeightSet,
    ResponsivenessChanged,
    ResumeAsked,
    SessionFailed,
    SessionGone,
    SessionLeaves,
    ShutSession,
    SupersedeSession,
)
from spnhub.dataclass import dataclass
from spnhub.events.model import (
    ConnectionRefused,
    EndPointType,
    ProviderAnswered,
    ProviderSilent,
    ServiceEvent,
    SessionEvent,
    WeightChanged,
    shared,
)

__all__ = ["SessionActor", "refuse_connection"]


@dataclass(frozen=True, slots=True)
class NotClosed:
    """Timer: the endpoint has not closed a session that is empty or superseded."""


def refuse_connection(session: SessionRequested, request: ConnectionRequested, code: Code, reason: str) -> Decision:
    """Refuse a connection for which no provider has been chosen yet."""
    event = ConnectionRefused(
        **shared(ServiceEvent, session),
        consumer_side_spn_session_id=session.spn_session_id,
        connection_uid=request.connection_uid,
        epoch=request.epoch,
        code=code,
        reason=reason,
    )
    return Decision((event,), (RefuseConnection(Key(session.session, request.stream), code, reason),))


class SessionActor(EventLoopActor):
    """One session. Its parent is the service's actor."""

    def __init__(self, env: Environment, parent: ActorRef[Any], request: SessionRequested) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._request = request
        self._session = request.session
        self._side = Side.PROVIDER if request.end_point_type is EndPointType.PROVIDER else Side.CONSUMER
        self._leaving = False
        """The hub is about to leave, and has sent ShutdownRequest."""
        self._succeeded = False
        """Its endpoint has another session."""
        self._timer: Timer | None = None
        self._ending: SessionEnding | None = None
        self._ended = False

    @property
    def request(self) -> SessionRequested:
        """What the endpoint asked for."""
        return self._request

    def on_receive(
        self, message: SessionInput | EndSession | SupersedeSession | ShutSession | LastLegGone | NotClosed
    ) -> None:
        """Call the handler of the message's class."""
        match message:
            case ConnectionRequested():
                self._connection_requested(message)
            case LegPacket():
                self._leg_packet_received(message)
            case ProviderWanted():
                if self._side is Side.CONSUMER and not self._env.directory.sessions[self._session].ending:
                    self._parent.tell(ProviderAsked(self._session))
            case LastLegGone():
                self._last_leg_gone()
            case ResumeRequested():
                self._resume_requested(message)
            case ResumeAnswered():
                self._parent.tell(InvitationAnswered(self._session, message))
            case SetWeight():
                self._set_weight(message)
            case SessionUnresponsive() | SessionAnswered():
                self._responsiveness_changed(unresponsive=isinstance(message, SessionUnresponsive))
            case SessionClosed():
                self._closed(message)
            case SessionInvalidated(reason, is_expired):
                self._begin_end(expired(reason) if is_expired else by_hub(Code.WITHDRAWN, reason))
            case SessionRenewal():
                self._renewal_announced()
            case EndSession(ending):
                self._begin_end(ending)
            case SupersedeSession():
                self._supersede()
            case ShutSession(spread):
                self._begin_leaving(spread)
            case NotClosed():
                self._begin_end(leaving() if self._leaving else superseded())
            case _:
                assert_never(message)

    def on_stop(self) -> None:
        """Report it to the service."""
        self._parent.tell(SessionGone(self._session))

    def on_failed(self) -> None:
        """Report it to the service, which ends the legs and the session, and nothing else."""
        self._cancel()
        self._parent.tell(SessionFailed(self._session))

    def _connection_requested(self, message: ConnectionRequested) -> None:
        if self._side is Side.PROVIDER:
            self._begin_end(by_fault(Code.PROTOCOL, "a provider may open a stream to resume only"))
            return
        refusal: tuple[Code, str] | None = None
        if self._leaving or self._succeeded or self._ending is not None:
            refusal = Code.SHUTDOWN, "the session is ending"
        elif message.epoch or message.sent_offset or message.receive_offset:
            refusal = Code.PROTOCOL, "a new connection begins with epoch and offsets 0"
        else:
            refusal = self._too_many()
        if refusal is None:
            self._parent.tell(LegRequested(self._session, message))
        else:
            self._env.carry_out(refuse_connection(self._request, message, *refusal))

    def _too_many(self) -> tuple[Code, str] | None:
        """Why there may be no further connection now; None when there may."""
        directory, options = self._env.directory, self._env.options
        entry = directory.sessions[self._session]
        if len(entry.legs) >= options.session_connections:
            return Code.LIMIT, f"{options.session_connections} connections are open on this session"
        realm = self._env.table.realms.get(self._request.realm)
        most = None if realm is None else realm.max_connections
        if most is not None and directory.realm_connections[self._request.realm] >= most:
            return Code.LIMIT, f"realm {self._request.realm} has {most} connections, as many as it may"
        if directory.identity_connections[entry.identity] >= options.identity_connections:
            return Code.LIMIT, f"its subject has {options.identity_connections} connections, as many as it may"
        return None

    def _leg_packet_received(self, packet: LegPacket) -> None:
        directory = self._env.directory
        key = directory.sessions[self._session].legs.get((packet.connection_uid, packet.epoch))
        if key is not None and directory.tell_connection(key, PacketReceived(self._side, packet)):
            return
        if isinstance(packet, CloseRequest):
            # The leg has ended already. With both FINs seen, only the other end can say whether it has everything: the
            # leg may have been lost or left without this side's knowing.
            answer = PauseRequest if packet.finished else CloseAck
            self._send(answer(packet.connection_uid, packet.epoch))

    def _resume_requested(self, message: ResumeRequested) -> None:
        if self._leaving or self._succeeded or self._ending is not None:
            refusal = Code.SHUTDOWN, "the session is ending"
        elif message.epoch < 1:
            refusal = Code.PROTOCOL, "a connection that goes on has an epoch above 0"
        elif (too_many := self._too_many()) is not None:
            refusal = too_many
        else:
            self._parent.tell(ResumeAsked(self._session, message))
            return
        self._env.carry_out(refuse_resume(self._request, message, *refusal))

    def _responsiveness_changed(self, *, unresponsive: bool) -> None:
        """The session stays. A provider's connections go on where it answers: elsewhere, or here later (D-20)."""
        if self._side is Side.CONSUMER:
            return
        state = self._env.state.sessions.get(self._request.spn_session_id)
        if state is None:  # its end is logged already
            return
        kind = ProviderSilent if unresponsive else ProviderAnswered
        self._env.carry_out(Decision((kind(**shared(SessionEvent, state)),)))
        self._parent.tell(ResponsivenessChanged(self._session, unresponsive))
        if unresponsive and self._ending is None:
            directory = self._env.directory
            for key in list(directory.sessions[self._session].legs.values()):
                self._env.work_queue.add(partial(directory.tell_connection, key, ProviderUnresponsive(self._session)))

    def _closed(self, message: SessionClosed) -> None:
        if self._ending is not None:
            self._ending = self._ending._replace(close=False)
            return
        ending = by_close(message)
        if self._leaving:  # the hub has asked for this close (D-5); legs that aren't paused yet are suspended, too
            ending = leaving()._replace(leg=ending.leg, close=False)
        self._begin_end(ending, process_gone=message.process_gone)

    def _renewal_announced(self) -> None:
        # For a while only: an endpoint that announces this and then dies has a stale session like any other.
        until = self._env.now + self._env.options.resume_timeout
        self._env.directory.sessions[self._session].renewing_until = until

    def _supersede(self) -> None:
        if self._leaving or self._succeeded or self._ending is not None:
            return
        self._succeeded = True
        self._env.directory.sessions[self._session].ending = True
        self._timer = self._env.after(self._env.options.resume_timeout, self.actor_ref, NotClosed())

    def _begin_leaving(self, spread: float) -> None:
        if self._leaving or self._ending is not None:
            return
        self._cancel()
        self._leaving = True
        directory = self._env.directory
        entry = directory.sessions[self._session]
        entry.ending = True
        self._parent.tell(SessionLeaves(self._session))
        self._send(ShutdownRequest(resumable=True, spread_milliseconds=round(spread * 1000)))
        if self._side is Side.CONSUMER:  # each leg belongs to two sessions, and is paused once
            for key in list(entry.legs.values()):
                self._env.pauses.add(key)
        if not entry.legs:
            self._report_empty()

    def _report_empty(self) -> None:
        """Tell the endpoint that it may close the session; if it doesn't in time, the hub does."""
        if self._timer is not None:
            return
        self._send(AllConnectionsClosed())
        self._timer = self._env.after(self._env.options.step_timeout, self.actor_ref, NotClosed())

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_end(self, ending: SessionEnding, *, process_gone: bool = False) -> None:
        """End the legs first. Each of them ends within its bounds, so the session does."""
        if self._ending is not None:
            return
        self._cancel()
        self._ending = ending
        directory = self._env.directory
        entry = directory.sessions[self._session]
        entry.ending = True
        self._parent.tell(SessionLeaves(self._session, process_gone))
        for key in list(entry.legs.values()):
            must = MustEnd(self._side, ending.leg, self._session)
            self._env.work_queue.add(partial(directory.tell_connection, key, must))
        if not entry.legs:
            self._finish()

    def _last_leg_gone(self) -> None:
        if self._ending is not None:
            self._finish()
        elif self._leaving:
            self._report_empty()
        elif not self._succeeded:
            self._report_when_drained()

    def _set_weight(self, packet: SetWeight) -> None:
        """Log it, then tell the service; a provider with weight 0 and no legs may leave (R-5.4)."""
        if self._leaving or self._succeeded or self._ending is not None:
            return
        if self._side is Side.CONSUMER:
            self._begin_end(by_fault(Code.PROTOCOL, "a consumer has no weight"))
            return
        if packet.weight < 0:
            self._begin_end(by_fault(Code.PROTOCOL, "a weight is at least 0"))
            return
        state = self._env.state.sessions[self._request.spn_session_id]
        if (packet.weight, packet.reason) != (state.weight, state.weight_reason):
            event = WeightChanged(
                **shared(SessionEvent, state),
                old_weight=state.weight,
                new_weight=packet.weight,
                reason=packet.reason,
            )
            self._env.carry_out(Decision((event,)))
            self._parent.tell(ProviderWeightSet(self._session, packet.weight))
        self._report_when_drained()

    def _report_when_drained(self) -> None:
        state = self._env.state.sessions[self._request.spn_session_id]
        legs = self._env.directory.sessions[self._session].legs
        if self._side is Side.PROVIDER and not state.weight and not legs:
            self._send(AllConnectionsClosed())

    def _send(self, packet: ToEndpoint) -> None:
        self._env.carry_out(Decision(commands=(SendPacket(self._session, packet),)))

    def _finish(self) -> None:
        if self._ended or self._ending is None:
            return
        self._ended = True
        state = self._env.state.sessions[self._request.spn_session_id]
        self._env.carry_out(decide_end(self._session, state, self._ending, self._env.wall_us))
        self.stop()
