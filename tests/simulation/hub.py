"""A hub as one node of a simulated network: the real server, actors and gate over a fake or a real engine.

What survives its crash is what survives a real one: the journal, and the key of its stateless resets.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inputs import LoadInventory, StopHub
from spnhub.actors.system import ActorSystem
from spnhub.events.journal.recovery import recover
from spnhub.transport.engine import ChainFault, ClientTrust, Engine, EngineEvent, ServerIdentity, ServerPolicy
from spnhub.transport.hub.gate import Gate
from spnhub.transport.hub.server import HubServer
from spnhub.transport.hub.sessions import Network
from tests.support.fake_network import FakeNetwork, FakeNode
from tests.support.memory_journal import MemoryJournal

__all__ = ["FQDN", "REALM", "SERVICE", "SimulatedHub"]

FQDN: Final = "hub.test"
REALM: Final = "acme"
_NETWORK: Final = "urn:chip-in:network:acme:main"
SERVICE: Final = "urn:chip-in:service:acme:main:web"
_WALL: Final = 1_700_000_000_000_000

_REALM = RealmDefinition(
    REALM,
    (
        NetworkDefinition(
            _NETWORK,
            "main",
            FQDN,
            (ServiceDefinition(SERVICE, "web", "provider", frozenset({"consumer", "stranger"})),),
        ),
    ),
)


class _Anyone:
    """Certificates don't expire within a simulation."""

    def check(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> ChainFault | None:
        return None

    def next_expiry(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> datetime | None:
        return None


class SimulatedHub:
    """One hub process after the other at one address, with one journal.

    :param make_engine: a new engine for each process.
    """

    def __init__(
        self,
        network: FakeNetwork,
        name: str,
        address: tuple[str, int],
        identity: ServerIdentity,
        make_engine: Callable[[], Engine],
    ) -> None:
        self.name = name
        self.address = address
        self.journal = MemoryJournal(name, on_written=self._on_written)
        self.running = False
        self.frozen = False
        self.runs = 0
        self._network = network
        self._identity = identity
        self._make_engine = make_engine
        self._gate: Gate
        self._server: HubServer
        self._system: ActorSystem
        self.node: FakeNode

    def start(self) -> None:
        """A process begins: ends what its journal has open, then takes packets."""
        recover(self.journal)
        engine = self._make_engine()
        engine.set_policy(ServerPolicy({FQDN: self._identity}))
        self._system = ActorSystem(self.journal.append, self.name, state=self.journal.state)
        self._gate = gate = Gate(engine, self.journal, self._wall)
        self._server = HubServer(
            engine,
            self._system,
            gate,
            self.name,
            on_stopped=self._on_stopped,
            on_service=lambda _: None,
            judge=_Anyone(),
        )
        if self.runs == 0:
            self.node = FakeNode(self._network, engine, self._on_events, self._server.timer)
            self.node.bind(self.address)
        else:
            self.node.restart(engine, self._on_events, self._server.timer)
        self._server.set_networks({(0, FQDN): Network(REALM, _NETWORK)}, {})
        self._system.tell_hub(LoadInventory((_REALM,)))
        self.runs += 1
        self.running = True
        self.node.flush()

    def stop(self, *, resumable: bool) -> None:
        """SIGTERM, or SIGINT."""
        self._system.tell_hub(StopHub(resumable=resumable))
        self.node.flush()

    def crash(self, *, host_lives: bool) -> None:
        """SIGKILL, or the host with it."""
        self.running = self.frozen = False
        self.node.crash(host_lives=host_lives)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True
        self.node.freeze()

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.node.thaw()

    def _on_written(self, _: object) -> None:
        if self.running:
            self._gate.written(self._network.clock.now())
            self.node.flush()

    def _wall(self) -> int:
        return _WALL + int(self._network.clock.now() * 1_000_000)

    def _on_events(self, events: list[EngineEvent]) -> None:
        self._server.turn(events, self._network.clock.now(), self._wall())

    def _on_stopped(self) -> None:
        if self.running:
            self.running = False
            # Its last packets leave with this turn; then the process is gone.
            self._network.clock.call_at(self._network.clock.now(), self._leave)

    def _leave(self) -> None:
        if not self.running:
            self.node.crash(host_lives=True)
