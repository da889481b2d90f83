"""The hub as a process: the composition root that joins journal, actors, engine and sockets, and its life.

Order of a start (R-6.2, R-6.3): journal (what a crash left open is ended first), inventory, sockets, actors, and only
then packets. Order of a stop (R-4.10): consumers, providers, then the hub. Counterparts: :mod:`spnhub.cli.hub` starts
it; :mod:`spnhub.transport.hub_server` is its heart.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from spnhub import inventory as inventories
from spnhub.actors.inputs import LoadInventory, StopHub
from spnhub.actors.system import ActorSystem
from spnhub.events.journal import Journal, JournalError, recover
from spnhub.events.kafka_settings import KafkaSettings as ShippingSettings
from spnhub.events.kafka_settings import ShipperSettings, ShipperStatus
from spnhub.events.lifecycle import event_line, lifecycle_line
from spnhub.events.model import JournalStalled, Recorded
from spnhub.events.shipper_process import ShipperProcess
from spnhub.settings import ConfigurationError, HubSettings, KafkaSettings
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import Address, EngineEvent, Limits, ServerIdentity, ServerPolicy
from spnhub.transport.hub import Gate, HubServer, Network
from spnhub.transport.udp import UdpEndpoint

__all__ = ["HubProcess", "raise_descriptor_limit", "run"]

_log = structlog.get_logger("spnhub.hub")

_LAST_WRITE = 1.0
"""Seconds at most that a stopping hub waits for its journal before it says goodbye to its endpoints."""


class WallClock:
    """Microseconds since 1970 that never run backwards, anchored to the monotonic clock.

    Follows the system's clock when that has been stepped by more than a second (the log then clamps, D-11).
    """

    def __init__(self) -> None:
        self._anchor = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        moment = self._anchor + time.monotonic_ns()
        actual = time.time_ns()
        if abs(actual - moment) > 1_000_000_000:
            self._anchor += actual - moment
            moment = actual
        return moment // 1000


class HubProcess:
    """One hub in this process. ``start``, then wait for ``stopped``; ``stop`` begins the planned stop.

    :param settings: what the command line said.
    """

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.stopped = asyncio.Event()
        """Set when the planned stop is through."""
        self.addresses: tuple[tuple[str, int], ...] = ()
        """Where QUIC packets are taken, once started."""
        self._loop = asyncio.get_running_loop()
        self._wall = WallClock()
        self._journal: Journal | None = None
        self._endpoint: UdpEndpoint | None = None
        self._server: HubServer | None = None
        self._system: ActorSystem | None = None
        self._gate: Gate | None = None
        self._shipper: ShipperProcess | None = None

    async def start(self) -> None:
        """Start everything; returns when packets are taken.

        :raises ConfigurationError: settings or an inventory that can't be used.
        :raises spnhub.events.journal.JournalError: the journal can't be used.
        """
        settings = self.settings
        journal = Journal.open(
            settings.journal,
            settings.hub_id,
            on_written=self._on_written,
            notify=self._notify,
            clock=self._wall,
        )
        self._journal = journal
        ended = recover(journal)
        if ended:
            _log.warning("journal.recovered", ended=len(ended), journal=str(settings.journal))
        if settings.kafka is not None:
            shipping = ShipperSettings(journal=settings.journal, kafka=_shipping(settings.kafka))
            self._shipper = ShipperProcess(shipping, self._on_shipper)
            self._shipper.start()
        inventory = await inventories.load_inventory(
            settings.inventory, settings.inventory_token, bind=settings.bind, attempts=None
        )
        for fault in inventory.faults:
            _log.error("inventory.fault", where=fault.where, field=fault.field, reason=fault.message)

        limits = Limits(
            idle_timeout=settings.idle_timeout, keep_alive=settings.keep_alive, datagram_size=settings.datagram_size
        )
        engine = AioquicEngine(limits)
        system = ActorSystem(journal.append, settings.hub_id)
        gate = Gate(engine, journal, self._wall)
        server = HubServer(engine, system, gate, settings.hub_id, self.stopped.set)
        endpoint = UdpEndpoint(engine, self._on_events, server.timer)
        self._system, self._gate, self._server, self._endpoint = system, gate, server, endpoint
        await self._listen(inventory, engine, server, endpoint)
        system.tell_hub(LoadInventory(inventory.realms))
        endpoint.flush()
        endpoint.start()
        _log.info(
            "hub.ready",
            hubId=settings.hub_id,
            addresses=[_text(address) for address in self.addresses],
            realms=len(inventory.realms),
            networks=len(inventory.listening),
            services=sum(len(n.services) for r in inventory.realms for n in r.networks),
            journal=str(settings.journal),
        )

    async def _listen(
        self, inventory: inventories.Inventory, engine: AioquicEngine, server: HubServer, endpoint: UdpEndpoint
    ) -> None:
        sockets: dict[inventories.ListenAddress, Address] = {}
        names: dict[int, dict[str, ServerIdentity]] = {}
        networks: dict[tuple[int, str], Network] = {}
        for one in inventory.listening:
            if one.address not in sockets:
                sockets[one.address] = await _bind(endpoint, one)
            local = sockets[one.address].local
            names.setdefault(local, {})[one.fqdn] = one.identity
            networks[local, one.fqdn] = Network(one.realm, one.network_urn)
        engine.set_policy(ServerPolicy({}, names))
        server.set_networks(networks)
        self.addresses = tuple((a.remote[0], a.remote[1]) for a in sockets.values())

    # ---- the turn ----------------------------------------------------------------------------------------------

    def _on_events(self, events: list[EngineEvent]) -> None:
        assert self._server is not None and self._endpoint is not None
        self._server.turn(events, self._endpoint.now(), self._wall())

    def _notify(self, call: Callable[[], None]) -> None:
        """From the journal's thread into the loop's."""
        self._loop.call_soon_threadsafe(call)

    def _on_written(self, batch: Sequence[Recorded]) -> None:
        """The journal has written events: they may be seen now, and printed."""
        if self._gate is not None and self._endpoint is not None:
            self._gate.written(self._endpoint.now())
            self._endpoint.flush()
        for recorded in batch:
            line = lifecycle_line(recorded)
            if line is not None:
                _log.info(line["eventType"], **line)
            else:
                line = event_line(recorded)
                level = _log.error if isinstance(recorded.event, JournalStalled) else _log.warning
                level(line["eventType"], **line)

    def _on_shipper(self, status: ShipperStatus) -> None:
        bad = status.state in ("unreachable", "refused", "rewound", "unreadable", "died")
        log = _log.warning if bad else _log.debug if status.state == "shipped" else _log.info
        reason = {"reason": status.reason} if status.reason else {}
        log(f"shipper.{status.state}", position=status.position, behind=status.behind, **reason)

    # ---- the end -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin the planned stop; :attr:`stopped` is set when consumers and providers have gone (R-4.10)."""
        if self._system is None or self._endpoint is None:
            self.stopped.set()
            return
        self._system.tell_hub(StopHub())
        self._endpoint.flush()

    async def close(self) -> None:
        """Close sockets and journal, in order; after it nothing is left running."""
        if self._journal is not None:
            # The last close packets wait at the gate for their events.
            self._journal.flush(_LAST_WRITE)
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._journal is not None:
            self._journal.close()
        if self._shipper is not None:
            await self._shipper.stop()


def raise_descriptor_limit() -> None:
    """The soft limit of open files becomes the hard one (D-25)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(settings: HubSettings) -> int:
    """Run a hub until it is told to stop; the exit status (0, 1 or 2)."""
    raise_descriptor_limit()
    return asyncio.run(_main(settings))


async def _main(settings: HubSettings) -> int:
    loop = asyncio.get_running_loop()
    hub = HubProcess(settings)
    asked = asyncio.Event()
    at_once = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if asked.is_set():
            if number is signal.SIGINT:
                at_once.set()
            return
        _log.info("hub.stopping", hubId=settings.hub_id, signal=number.name)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: _log.warning("reload.unavailable", reason="this version reads its inventory once")
    )
    try:
        starting = asyncio.ensure_future(hub.start())
        asking = asyncio.ensure_future(asked.wait())
        await asyncio.wait({starting, asking}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return 0
        starting.result()
        await asking
        hub.stop()
        waits = {asyncio.ensure_future(hub.stopped.wait()), asyncio.ensure_future(at_once.wait())}
        _, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in rest:
            wait.cancel()
        if not hub.stopped.is_set():
            _log.warning("hub.stopped-at-once", hubId=settings.hub_id)
            return 1
        return 0
    except (ConfigurationError, JournalError) as exc:
        print(f"spnhub: {exc}", file=sys.stderr)  # noqa: T201 - the one line of exit status 2 (spec: interface)
        return 2
    finally:
        await hub.close()
        if hub.addresses:
            _log.info("hub.stopped", hubId=settings.hub_id)


async def _bind(endpoint: UdpEndpoint, one: inventories.Listening) -> Address:
    """A socket where a network wants to be served; without an address of its own, on all."""
    host, port = one.address
    # One socket takes IPv6 and IPv4; a host without IPv6 gets one for IPv4.
    candidates = ("::", "0.0.0.0") if host is None else (host,)  # noqa: S104 - all is the inventory's default
    for candidate in candidates:
        try:
            return await endpoint.open_server_socket((candidate, port))
        except OSError as exc:
            if candidate is candidates[-1] or exc.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise ConfigurationError(
                    f"{one.network_urn}: cannot bind {_text((candidate, port))}: {exc.strerror or exc}"
                ) from exc
    raise AssertionError("the last candidate returns or raises")


def _shipping(kafka: KafkaSettings) -> ShippingSettings:
    def text(path: Path | None) -> str | None:
        return None if path is None else str(path)

    return ShippingSettings(
        bootstrap_servers=",".join(kafka.bootstrap_servers),
        topic=kafka.topic,
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism or "PLAIN",
        sasl_username=kafka.sasl_username,
        sasl_password=kafka.sasl_password,
        ssl_cafile=text(kafka.ssl_cafile),
        ssl_capath=text(kafka.ssl_capath),
        ssl_certfile=text(kafka.ssl_certfile),
        ssl_keyfile=text(kafka.ssl_keyfile),
        ssl_password=kafka.ssl_password,
    )


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
