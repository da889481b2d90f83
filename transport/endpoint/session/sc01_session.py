"""A session of an endpoint with a hub that speaks sc01 (``transport/SC01.md``): it is there with the handshake.

Sans-I/O. What spn/1 has packets for is a word in a datagram, or isn't said. Counterpart:
:mod:`spnhub.transport.sc01.hub`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import AllConnectionsClosed, CloseAck, SessionRequest, ShutdownRequest
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.connection.sc01 import Sc01Streams
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.failures import is_tls_alert, why_closed
from spnhub.transport.endpoint.session.session import Established, Session, SessionReport
from spnhub.transport.engine import Closed, CloseKind, Connected, DatagramReceived, EngineEvent, Reset, Stopped
from spnhub.transport.errors import SessionRejected
from spnhub.transport.log import get_logger
from spnhub.transport.sc01.words import ALPN, START_INTERVAL, Word, close_code, code_of_close, code_of_stream

__all__ = ["Sc01HubSession"]

_log = get_logger()

QUIET: Final = 1.0
"""Seconds without a connection after which a provider that takes no new ones has none: the hub doesn't say so, and
what it had opened before it heard of that may be on its way."""
ASK_AFTER: Final = 1.0
"""Seconds that what was written first may be without an answer before the hub is asked for a provider."""
ASK_AGAIN: Final = START_INTERVAL + 0.5
"""Seconds to the next time: a datagram may be lost, and the hub counts what comes sooner."""
RETURN_SPREAD: Final = 1000
"""Milliseconds within which endpoints come back after a shutdown: sc01 has no word for it."""


class Sc01HubSession(Session):
    """See :class:`Session` and the module."""

    acknowledged = False
    can_hand_over = False

    def __init__(
        self,
        endpoint: EndpointContext,
        connections: ConnectionRegistry,
        report: Callable[[Session, SessionReport], None],
        connection_id: int,
        request: SessionRequest,
        credentials: Credentials,
        near_its_dates: bool = False,
    ) -> None:
        super().__init__(endpoint, connections, report, connection_id, request, credentials, near_its_dates)
        self._consumer = request.end_point_type is EndPointType.CONSUMER
        self._alpn = ALPN[request.end_point_type]
        self._streams = Sc01Streams[Connection](
            endpoint,
            connection_id,
            consumer=self._consumer,
            answer=self._answer,
            on_left=self._on_left,
            on_unheard=self._on_unheard,
        )
        self._use(self._streams)
        self._leaving = False
        """The hub wants the end: no more streams."""
        self._said_shutdown = False
        """It has heard that this provider takes no more; no word takes that back."""
        self._said_at = float("-inf")
        self._waits = False
        """A deadline is set, for whatever this role has one for."""
        self._provider_stopped = False
        self._next_ask = 0.0
        self._standby = False

    @property
    def outdated(self) -> bool:
        """See :attr:`Session.outdated`."""
        return self._said_shutdown and self._weight > 0

    @property
    def undelivered(self) -> bool:
        """See :attr:`Session.undelivered`. A stream lasts until its FIN is acknowledged."""
        info = self._engine.info(self.connection_id)
        return info is not None and info.streams > 0

    def set_weight(self, weight: int, reason: str) -> None:
        """See :meth:`Session.set_weight`: with 0 the hub hears that no more connections are wanted."""
        self._weight, self._weight_reason = weight, reason
        self._all_closed = False
        if self.established:
            self._say_weight()

    def handle(self, event: EngineEvent) -> None:
        """See :meth:`Session.handle`."""
        match event:
            case Connected(cid=cid, alpn=alpn):
                if alpn != self._alpn:
                    # Without an answer of any kind, any server would be taken for a hub.
                    reason = f"the server speaks {alpn or 'no protocol of ours'}, and not {self._alpn}"
                    self._failure = SessionRejected(Code.VERSION, reason, False)
                    self._close(Code.VERSION, reason)
                    return
                self.spn_session_id = cid.hex()
                self._establish()
                self._report(self, Established())
                self._say_weight()
            case DatagramReceived(data=data):
                if self.established:
                    self._take_word(data)
            case Reset(code=code) | Stopped(code=code):
                super().handle(replace(event, code=code_of_stream(code)))
            case _:
                super().handle(event)

    def on_deadline(self) -> None:
        """A consumer asks for a provider; a provider has been without a connection for a while."""
        self._waits = False
        if not self.established:
            return
        if not self._consumer:
            if not self._weight and not self.connections and not self._all_closed:
                self._all_closed = True
                self._report(self, AllConnectionsClosed())
        elif not self._streams.heard and self.connections:
            self._say(Word.START_PROVIDER)
            self._next_ask = self._endpoint.now() + ASK_AGAIN
            self._wait(self._next_ask)

    def _opened(self, stream_id: int) -> None:
        if self._leaving:
            self.streams.refuse(stream_id, Code.SHUTDOWN)
            return
        self._all_closed = False
        if self._said_shutdown and self._endpoint.now() - self._said_at >= QUIET:
            # The datagram was lost; this connection is served.
            self._say_shutdown()
        super()._opened(stream_id)

    def _take_word(self, data: bytes) -> None:
        try:
            word = Word(data)
        except ValueError:
            return
        match word:
            case Word.SHUTDOWN:
                self._leaving = True
                self._report(self, ShutdownRequest(True, RETURN_SPREAD))
            case Word.PROVIDER_STOPPED if self._consumer:
                self._streams.heard, self._provider_stopped = False, True
                _log.info("provider.stopped", spnSessionId=self.spn_session_id)
                if self.connections:
                    self._on_unheard()
            case Word.STANDBY | Word.ACTIVE if not self._consumer:
                standby = word is Word.STANDBY
                if standby is not self._standby:
                    self._standby = standby
                    _log.info("session.standby" if standby else "session.active", spnSessionId=self.spn_session_id)
            case _:
                pass

    def _on_unheard(self) -> None:
        if not self._waits and self.established:
            now = self._endpoint.now()
            self._wait(max(self._next_ask, now if self._provider_stopped else now + ASK_AFTER))

    def _on_left(self) -> None:
        if self._said_shutdown and not self.connections and self.established:
            self._wait(self._endpoint.now() + QUIET)

    def _say_weight(self) -> None:
        if not self._consumer and not self._weight:
            if not self._said_shutdown:
                self._said_shutdown = True
                self._say_shutdown()
            self._on_left()

    def _say_shutdown(self) -> None:
        self._said_at = self._endpoint.now()
        self._say(Word.SHUTDOWN)

    def _say(self, word: Word) -> None:
        self._engine.send_datagram(self.connection_id, word.value)
        self._endpoint.touch()

    def _wait(self, when: float) -> None:
        self._waits = True
        self._endpoint.arm(self, when)

    def _answer(self, packet: CloseAck) -> None:
        self._on_control_packet(packet)

    def _close(self, code: int, reason: str) -> None:
        super()._close(close_code(code), reason)

    def _end(self, event: Closed) -> None:
        if event.kind is CloseKind.PEER:
            event = replace(event, code=code_of_close(event.code))
        # A hub that refuses our certificate says so after our side of the handshake is over.
        up = event.kind is CloseKind.PEER or (self.established and not is_tls_alert(event))
        about = self.credentials.dates, self._near_its_dates
        self.lose(self._failure or why_closed(event, *about, established=up))
