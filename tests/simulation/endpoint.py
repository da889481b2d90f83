"""An endpoint as one node of a simulated network, and the programs that talk over it.

The endpoint is the real core without its asyncio shell. What a program writes is a sequence that anybody can compute,
so that a byte which is lost, doubled or out of order is noticed where it is read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.core.endpoint import EndpointCore
from spnhub.transport.endpoint.core.listener import ConnectionChange, CoreSettings
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.hub_target import IpAddress, SessionChange
from spnhub.transport.engine import Address, ClientPolicy, Engine, EngineEvent
from spnhub.transport.errors import SpnError
from tests.simulation.hub import SERVICE
from tests.support.fake_network import FakeNetwork, FakeNode

__all__ = ["Program", "SimulatedEndpoint"]

_PERIOD = bytes(range(251))
_SEQUENCE = _PERIOD * 1100
"""Any byte lost or doubled shifts what follows."""


def piece(offset: int, size: int) -> bytes:
    """What stands at ``offset`` of any direction."""
    begin = offset % len(_PERIOD)
    return _SEQUENCE[begin : begin + size]


class Program:
    """One side of a conversation. A :class:`~spnhub.transport.endpoint.connection.stream.StreamListener`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stream: Connection | None = None
        self.asked = 0
        """Bytes that shall have been written."""
        self.written = 0
        self.read = 0
        self.stalled = False
        """Reads nothing."""
        self.has_stalled = False
        """It ever did."""
        self.fin_asked = False
        self.fin_sent = False
        self.fin_read = False
        self.aborted_here = False
        self.failed_here = False
        """It has ended with an error, after what was written."""
        self.ending: str | None = None
        """"closed", or why it was aborted."""
        self.refused: SpnError | None = None

    @property
    def over(self) -> bool:
        """Nothing will come any more."""
        return self.ending is not None or self.aborted_here or self.refused is not None

    def begin(self, stream: Connection) -> None:
        """It is Connected."""
        self.stream = stream
        stream.set_listener(self)
        self._write()

    def write(self, size: int) -> None:
        """Write so many bytes more, as soon as they are taken."""
        if not self.fin_asked:
            self.asked += size
            self._write()

    def finish(self) -> None:
        """FIN after all that."""
        self.fin_asked = True
        self._write()

    def abort(self) -> None:
        """Reset."""
        if self.stream is not None and not self.over:
            self.aborted_here = True
            self.stream.abort(Code.PEER_RESET)

    def fail(self) -> None:
        """End with an error, after what was written."""
        if self.stream is not None and not self.over:
            self.failed_here = True
            self.stream.fail(Code.PEER_RESET)

    def set_stalled(self, stalled: bool) -> None:
        """Stop to read, or go on."""
        self.stalled = stalled
        self.has_stalled = self.has_stalled or stalled
        self._read()

    def _write(self) -> None:
        if self.stream is None or self.over or self.fin_sent or self.failed_here:
            return
        while self.written < self.asked:
            taken = self.stream.write(piece(self.written, min(self.asked - self.written, 65536)))
            self.written += taken
            if not taken:
                return
        if self.fin_asked:
            self.fin_sent = True
            self.stream.finish()

    def _read(self) -> None:
        while self.stream is not None and not (self.over or self.failed_here or self.stalled or self.fin_read):
            answer = self.stream.read(65536)
            if answer is None or answer == (b"", False):
                return
            data, self.fin_read = answer
            assert data == piece(self.read, len(data)), f"{self.name}: other bytes than were written after {self.read}"
            self.read += len(data)

    def on_readable(self) -> None:
        """See :class:`StreamListener`."""
        self._read()

    def on_writable(self) -> None:
        """See :class:`StreamListener`."""
        self._write()

    def on_aborted(self, code: int, reason: str) -> None:
        """See :class:`StreamListener`."""
        assert self.ending is None, f"{self.name} ends twice: {self.ending}, then {code} {reason}"
        self.ending = f"{code}: {reason}"

    def on_closed(self) -> None:
        """See :class:`StreamListener`."""
        assert self.ending is None, f"{self.name} ends twice: {self.ending}, then closed"
        assert self.fin_sent, f"{self.name} is closed although it has not finished"
        assert self.fin_read or self.stalled or self.failed_here, (
            f"{self.name} is closed although the other side has not finished"
        )
        self.ending = "closed"


class SimulatedEndpoint:
    """One endpoint process. A :class:`~spnhub.transport.endpoint.core.listener.CoreListener`.

    :param addresses: the hubs', at first.
    :param on_accepted: a provider's: who speaks for a connection.
    """

    def __init__(
        self,
        network: FakeNetwork,
        engine: Engine,
        role: EndPointType,
        name: str,
        policy: ClientPolicy,
        source: random.Random,
        addresses: Sequence[IpAddress],
        *,
        resume_timeout: float = 60.0,
        on_accepted: Callable[[Connection], Program] | None = None,
    ) -> None:
        self.name = name
        self.changes: list[ConnectionChange] = []
        self.sessions: list[SessionChange] = []
        self.failure: SpnError | None = None
        self.alive = True
        self.translated = False
        """It has another address than others see."""
        self._network = network
        self._on_accepted = on_accepted
        self.core = EndpointCore(
            engine,
            CoreSettings(
                Credentials(policy, name),
                role,
                SERVICE,
                name,
                options=EndpointOptions(wait_for_hub=True, resume_timeout=resume_timeout),
            ),
            self,
            clock=network.clock.now,
            random=source.random,
            random_bytes=source.randbytes,
        )
        self.node = FakeNode(network, engine, self._on_events, self.core.timer)
        self.core.set_addresses(addresses, network.clock.now())
        self.node.flush()

    def connect(self, program: Program) -> None:
        """Open a connection for a program."""

        def connected(connection: Connection) -> None:
            program.begin(connection)

        def failed(error: SpnError) -> None:
            program.refused = error

        self.core.open(connected, failed, 60.0)
        self.node.flush()

    def renew(self, policy: ClientPolicy) -> None:
        """Other files, the same subject (D-38)."""
        self.core.renew(Credentials(policy, self.name))
        self.node.flush()

    def crash(self) -> None:
        """SIGKILL."""
        self.alive = False
        self.node.crash()

    def _on_events(self, events: list[EngineEvent]) -> None:
        self.core.handle(events)
        due = self.core.timer()
        now = self._network.clock.now()
        if due is None or due <= now:
            self.core.handle_timer(now)

    # ---- CoreListener ------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have a turn soon."""
        self.node.flush()

    def dial(self, remote: IpAddress) -> None:
        """A socket at once."""
        self.core.dialed(remote, Address(self.node.bind(), remote))

    def local_address(self, local: Address) -> IpAddress:
        """As its node has it."""
        host, port = ("10.0.0.1", 1) if self.translated else self.node.local_address(local)
        return host, port

    def release(self, local: Address, *, linger: bool = False) -> None:
        """The last packets have left with the turn that is under way."""
        wait = 25.0 if linger else 0.001
        self._network.clock.call_at(self._network.clock.now() + wait, lambda: self.node.release(local))

    def on_request(self, connection: Connection) -> None:
        """Every consumer is welcome."""
        assert self._on_accepted is not None
        connection.accept()
        self._on_accepted(connection).begin(connection)

    def on_session(self, change: SessionChange) -> None:
        """Kept."""
        self.sessions.append(change)

    def on_connection(self, change: ConnectionChange) -> None:
        """Kept."""
        self.changes.append(change)

    def on_failed(self, error: SpnError) -> None:
        """Kept."""
        self.failure = error

    def on_changed(self) -> None:
        """Nobody waits here."""

    def on_fault(self, fault: BaseException) -> None:
        raise fault

    def check_addresses(self) -> None:
        """The simulation says when addresses change."""
