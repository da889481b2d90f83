"""A hub's sc01 sessions: what they say becomes the actors' inputs, and what actors say to them becomes sc01's.

An endpoint of sc01 has no control stream. What the actors ask of it there is answered here in its place: a Close
Request at once, since it has nothing to add to the FINs. Sans-I/O.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from spnhub.actors.contract import inputs, packets
from spnhub.actors.contract.protocols import SC01, one_leg_instance
from spnhub.actors.system import ActorSystem
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.transport.engine import Engine
from spnhub.transport.sc01.words import START_INTERVAL, Word, close_code

__all__ = ["Sc01Session", "Sc01Sessions"]


@dataclass(slots=True)
class Sc01Session:
    """What is kept of a session because it speaks sc01."""

    connection_id: int
    role: EndPointType
    instance_id: str
    named: bool
    """Its certificate has a common name."""
    next_request: float = 0.0
    """Monotonic seconds: from then on a request for a provider counts."""


class Sc01Sessions:
    """Speaks for the sc01 sessions of a hub process.

    :param gated: collects the sessions that were sent something in this turn: it waits for the journal (D-6).
    :param make_uid: makes the uid of a connection whose consumer gives none.
    """

    def __init__(
        self,
        engine: Engine,
        system: ActorSystem,
        gated: set[int],
        make_uid: Callable[[], bytes] = lambda: secrets.token_bytes(16),
    ) -> None:
        self._engine = engine
        self._system = system
        self._gated = gated
        self._make_uid = make_uid

    def begin(
        self,
        *,
        connection_id: int,
        role: EndPointType,
        realm: str,
        network_urn: str,
        cid: str,
        subject: str,
        name: str,
        address: str,
    ) -> Sc01Session:
        """The handshake is complete, and with it all that an endpoint of sc01 says of itself (R-2.1)."""
        session = Sc01Session(connection_id, role, one_leg_instance(cid), bool(name))
        self._system.tell_hub(
            inputs.SessionRequested(
                session=connection_id,
                realm=realm,
                network_urn=network_urn,
                spn_session_id=cid,
                spn_end_point=subject,
                common_name=name,
                end_point_type=session.role,
                service_urn="",
                instance_id=session.instance_id,
                weight=100,
                brings_connections=False,
                protocol=SC01,
                remote_address=address,
            )
        )
        return session

    def accept(self, session: Sc01Session) -> None:
        """Tell a provider that it has connections: all providers have, and none stands by."""
        if session.role is EndPointType.PROVIDER:
            self._say(session, Word.ACTIVE)

    def close(self, session: Sc01Session, code: int, reason: str) -> None:
        """Close the QUIC connection: also how a session is refused."""
        self._gated.add(session.connection_id)
        self._engine.close(session.connection_id, close_code(code, named=session.named), reason)

    def send(self, session: Sc01Session, packet: packets.Packet) -> None:
        """Say in sc01 what an actor has to say; what has no word there, and wants no answer, isn't said."""
        match packet:
            case packets.CloseRequest(uid, epoch):
                self._system.tell_session(session.connection_id, packets.CloseAck(uid, epoch))
            case packets.ShutdownRequest():
                self._say(session, Word.SHUTDOWN)
            case _:
                pass

    def provider_stopped(self, session: Sc01Session) -> None:
        """Tell a consumer that its provider was stopped because nobody used it."""
        self._say(session, Word.PROVIDER_STOPPED)

    def received(self, session: Sc01Session, data: bytes, now: float) -> None:
        """A datagram has come; one that is no word of an endpoint's is ignored."""
        provider = session.role is EndPointType.PROVIDER
        if data == Word.SHUTDOWN.value and provider:
            # A consumer gets no connections anyway.
            self._system.tell_session(session.connection_id, packets.SetWeight(0, data.decode()))
        elif data == Word.START_PROVIDER.value and not provider:
            if now < session.next_request:
                self._system.tell_hub(inputs.LimitExceeded("providerRequests", None, 1))
                return
            session.next_request = now + START_INTERVAL
            self._system.tell_session(session.connection_id, inputs.ProviderWanted())

    def opening(self) -> packets.Opening:
        """What a consumer's new stream would begin with in spn/1. Nobody resumes it: nobody else has its secret."""
        return packets.Opening(packets.OpeningKind.OPEN, self._make_uid().hex(), self._make_uid())

    def finished(self, session: Sc01Session, opening: packets.Opening, sent: int, received: int) -> None:
        """Both FINs were passed on: say so in the endpoint's place (D-17)."""
        request = packets.CloseRequest(opening.connection_uid, opening.epoch, sent, received, finished=True)
        self._system.tell_session(session.connection_id, request)

    def _say(self, session: Sc01Session, word: Word) -> None:
        self._gated.add(session.connection_id)
        self._engine.send_datagram(session.connection_id, word.value)
