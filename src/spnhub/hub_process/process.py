"""The life of one hub process.

Order of a start (R-6.2, R-6.3): journal (what a crash left open is ended first), inventory, sockets, actors, and only
then packets. Order of a planned stop (R-4.10): consumers, providers, then the hub. Counterparts:
:mod:`spnhub.hub_process.main` starts it, :mod:`spnhub.transport.hub` is its heart.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from spnhub import inventory as inventories
from spnhub import logging
from spnhub.actors.contract.inputs import (
    ClockStepped,
    LimitExceeded,
    LoadInventory,
    RejectInventory,
    ServiceInput,
    StartHub,
    StopHub,
)
from spnhub.actors.system import ActorSystem
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.journal.files import open_to_others
from spnhub.events.journal.journal import MEMORY_LIMIT, Journal
from spnhub.events.journal.recovery import recover
from spnhub.events.kafka.settings import ShipperSettings, ShipperStatus
from spnhub.events.model import Event, EventsLost, Recorded, ServiceAdded, ServiceChanged, to_datetime
from spnhub.events.shipper.process import ShipperProcess
from spnhub.extras import MissingExtra, check_extra
from spnhub.hub_process.clock import WallClock
from spnhub.hub_process.listening import CannotListen, Listeners
from spnhub.hub_process.printing import OUTPUT_LIMIT, Printer
from spnhub.hub_process.recorded import make_system
from spnhub.hub_process.reload import Candidate, Reloader, prepare
from spnhub.hub_process.reset_key import load_reset_key
from spnhub.hub_process.services import Services
from spnhub.hub_settings import HubSettings
from spnhub.inventory import Inventory
from spnhub.ops.expiry import LOG_DAYS, CertificateEnd, RevocationAge
from spnhub.output import ROOM
from spnhub.recording.writer import RecordingWriter
from spnhub.service_manager import service_manager
from spnhub.settings import SettingsError
from spnhub.transport.certificates import check_chain, next_expiry
from spnhub.transport.engine import ChainFault, ClientTrust, EngineEvent
from spnhub.transport.engines import make_engine, select_engine
from spnhub.transport.faults import Faults
from spnhub.transport.hub import Gate, HubServer
from spnhub.transport.hub.memory import INITIAL_SEND_WINDOW, INITIAL_WINDOW
from spnhub.transport.system import memory as process_memory
from spnhub.transport.system.ip import host_port
from spnhub.transport.udp import UdpEndpoint
from spnhub.version import VERSION

if TYPE_CHECKING:  # what they import takes a while to load
    from spnhub.hub_process.operators import Operators
    from spnhub.ops.state import Progress, Snapshot

__all__ = ["HubProcess"]

_log = structlog.get_logger("spnhub.hub")

_LAST_WRITE: Final = 1.0
"""Seconds at most that a stopping hub waits for its journal before it says goodbye to its endpoints."""
_WATCH: Final = 1.0
"""Seconds between looks at the journal."""
_REMIND: Final = 60.0
"""Seconds after which it is said again that it can't be written."""
_DAY: Final = 86_400.0
"""Seconds."""
_ATTEMPTS: Final = 3
"""Refusals of one event by Kafka after which it is declared as lost there."""


def _resident(nearly_all: int) -> int:
    """Bytes of memory that the process has; where that is near to what it may have, without what it doesn't need."""
    size = process_memory.resident()
    if size > nearly_all:
        process_memory.give_back()
        size = process_memory.resident()
    return size


class _Judge:
    """Judges chains as a handshake does."""

    def check(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> ChainFault | None:
        return check_chain(certificates, trust, moment)

    def next_expiry(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> datetime | None:
        return next_expiry(certificates, trust, moment)


class HubProcess:
    """One hub in this process. ``start``, then wait for ``stopped``; ``stop`` begins the stop.

    :param settings: what the command line said.
    :param faults: are counted there.
    """

    def __init__(self, settings: HubSettings, faults: Faults | None = None) -> None:
        self.settings = settings
        self._faults = faults or Faults()
        self.stopped = asyncio.Event()
        """Set when the stop is through."""
        self.failed = asyncio.Event()
        """Set when it stops by itself, because it can't go on."""
        self._loop = asyncio.get_running_loop()
        self._wall = WallClock()
        self._clock_steps = 0
        self._printer = Printer()
        self._ready = False
        self._stopping = False
        self._reload_asked = False
        self._orderly = True
        self._dropped = 0
        """Log lines that were dropped, as far as the actors know."""
        self._declared = 0
        """The last event that was declared as one that Kafka doesn't take."""
        self._shipper_died = ""
        """Why, if that was the last that was heard of it."""
        self._sync_error: str | None = None
        """Why the journal's last fdatasync failed, as far as the log has it."""
        self._topic_faults: tuple[str, ...] = ()
        """What was wrong with the topic when last heard of."""
        self._journal: Journal | None = None
        self._endpoint: UdpEndpoint | None = None
        self._server: HubServer | None = None
        self._system: ActorSystem | None = None
        self._recording: RecordingWriter | None = None
        self._gate: Gate | None = None
        self._shipper: ShipperProcess | None = None
        self._services: Services | None = None
        self._listeners: Listeners | None = None
        self._reloader: Reloader | None = None
        self._ops: Operators | None = None
        self._ends: tuple[CertificateEnd, ...] = ()
        self._lists: tuple[RevocationAge, ...] = ()
        """When the certificates in use expire."""
        self._ends_timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._failing: str | None = None
        """Why the journal couldn't be written at the last look."""
        self._told = 0.0
        """When that was said last."""
        self._crls = inventories.CrlStore(settings.inventory)
        self._crls_timer: asyncio.TimerHandle | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where QUIC packets are taken; none before the start is through."""
        return () if self._listeners is None or not self._ready else self._listeners.addresses

    async def start(self) -> None:
        """Start everything; returns when packets are taken.

        :raises SettingsError: settings or an inventory that can't be used.
        :raises spnhub.events.journal.journal.JournalError: the journal can't be used.
        """
        settings = self.settings
        if settings.kafka is not None:
            try:
                check_extra("kafka")
            except MissingExtra as exc:
                raise SettingsError(f"--kafka: {exc}") from exc
        if settings.ops is not None:
            # Late: it loads HTTP server and metrics, and most of a start's time goes into imports.
            from spnhub.hub_process.operators import Operators  # noqa: PLC0415

            self._ops = Operators(settings)
        memory = settings.memory_limits.of(process_memory.available(), settings.limits)
        assert memory.memory is not None
        journal = self._open_journal(min(MEMORY_LIMIT, memory.memory // 4))
        reset_key = load_reset_key(settings.journal)
        self._watch()
        if self._ops is not None:
            await self._start_ops(self._ops)
        if settings.kafka is not None:
            shipping = ShipperSettings(journal=settings.journal, kafka=settings.kafka)
            self._shipper = ShipperProcess(shipping, self._on_shipper)
            self._shipper.start()
        inventory = await self._load(None)
        faults, more = inventories.shown_faults(inventory.faults)
        for fault in faults:
            _log.error("inventory.fault", **fault.facts())
        if more:
            _log.error("inventory.fault", where="inventory", field="", reason=f"and {more} more faults")
        inventories.log_warnings(inventory)

        selected = select_engine(settings.engine)
        _log.info("engine.selected", engine=selected.name, reason=selected.reason)
        limits = replace(settings.limits, initial_window=INITIAL_WINDOW, initial_send_window=INITIAL_SEND_WINDOW)
        engine = make_engine(limits, settings.engine, reset_key=reset_key, on_fault=self._faults.report)
        self._system, self._recording = make_system(
            settings,
            journal,
            self._record,
            self._wall(),
            self._notify,
            self._faults.report,
        )
        self._gate = Gate(engine, journal, self._wall, on_stalled=self._report_stall)
        self._services = Services(self._report_service, self._wall)
        # It opens its descriptor, while there are some.
        process_memory.resident()
        self._server = HubServer(
            engine,
            self._system,
            self._gate,
            settings.hub_id,
            on_stopped=self.stopped.set,
            on_service=self._services.carry_out,
            judge=_Judge(),
            on_fault=self._faults.report,
            memory=memory,
            resident=partial(_resident, memory.nearly_all),
            logged=journal.logged,
        )
        self._endpoint = UdpEndpoint(engine, self._on_events, self._server.timer, self._faults.report)
        self._listeners = Listeners(engine, self._endpoint, self._server)
        self._reloader = Reloader(self._load, self._prepare, apply=self._apply, reject=self._report_rejection)
        try:
            self._apply(await self._prepare(inventory))
        except CannotListen as exc:
            raise SettingsError(str(exc)) from exc
        self._ready = True
        addresses = tuple(host_port(*address) for address in self.addresses)
        self._system.tell_hub(StartHub(VERSION, addresses, self._orderly))
        self._endpoint.flush()
        # What is here now stays: no later collection has to look through it, which would stop traffic for 0.1 s.
        gc.collect()
        gc.freeze()
        # What reading modules has taken and freed: 4 MiB.
        process_memory.give_back()
        _log.info(
            "hub.ready",
            hubId=settings.hub_id,
            addresses=list(addresses),
            realms=len(inventory.realms),
            networks=len(inventory.listening),
            services=sum(len(n.services) for r in inventory.realms for n in r.networks),
            journal=str(settings.journal),
        )
        service_manager.ready(f"takes packets at {', '.join(addresses)}")
        if self._reload_asked:
            self._reloader.ask()

    def _open_journal(self, memory_limit: int) -> Journal:
        settings = self.settings
        self._journal = journal = Journal.open(
            settings.journal,
            settings.hub_id,
            replace(settings.journal_options, topic=None if settings.kafka is None else settings.kafka.topic),
            on_written=self._on_written,
            notify=self._notify,
            memory_limit=memory_limit,
            clock=self._wall,
            on_fault=self._faults.report,
        )
        if journal.lost:
            _log.error("journal.lost", events=journal.lost, journal=str(settings.journal))
        if (reason := open_to_others(settings.journal)) is not None:
            _log.warning("journal.open_to_others", journal=str(settings.journal), reason=reason)
        run = journal.state.run
        ended = recover(journal)
        if self._ops is not None:
            for recorded in ended:
                self._ops.incidents.take(recorded)
        self._orderly = not ended and not journal.lost and (run is None or run.stopped_at is not None)
        if ended:
            _log.warning("journal.recovered", ended=len(ended), journal=str(settings.journal))
        return journal

    async def _start_ops(self, ops: Operators) -> None:
        url = await ops.start(
            is_ready=lambda: self._ready and not self._stopping,
            snapshot=self._snapshot,
            progress=self._progress,
            fault_counts=lambda: self._faults.counts,
            ends=lambda: self._ends,
            lists=lambda: self._lists,
            actor_count=lambda: 0 if self._system is None else self._system.actor_count,
            first_expiries=lambda: {} if self._server is None else self._server.certificates.first_expiries(),
        )
        _log.info("ops.ready", url=url)

    # ---- the inventory -----------------------------------------------------------------------------------------

    async def _load(self, attempts: int | None) -> Inventory:
        settings = self.settings
        try:
            return await inventories.load_inventory(
                settings.inventory,
                settings.inventory_token,
                bind=settings.bind,
                attempts=attempts,
                allow_process=settings.allow_process,
                crls=self._crls,
            )
        finally:
            self._plan_crls()

    def _plan_crls(self) -> None:
        """Reload when a revocation list is due, whatever has become of this one."""
        if self._crls_timer is not None:
            self._crls_timer.cancel()
            self._crls_timer = None
        now = datetime.now(UTC)
        due = self._crls.due(now)
        if due is not None and not self._stopping:
            self._crls_timer = self._loop.call_later((due - now).total_seconds(), self.reload)

    def reload(self) -> None:
        """Read the inventory again and apply what is different; after the start, if that is under way."""
        if self._stopping:
            return
        if self._reloader is None or not self._ready:
            self._reload_asked = True
        else:
            self._reloader.ask()

    async def _prepare(self, inventory: Inventory) -> Candidate:
        assert self._listeners and self._system
        return await prepare(inventory, self._listeners, self._system.table, self._wall())

    def _apply(self, candidate: Candidate) -> None:
        """The one step in which everything is another inventory's. No packet is looked at in between."""
        assert self._listeners and self._system and self._services and self._endpoint
        self._listeners.commit(candidate.listening)
        self._ends = candidate.ends
        self._lists = candidate.lists
        self._system.tell_hub(LoadInventory(candidate.inventory.realms, candidate.plan))
        self._services.load(candidate.inventory.tasks, candidate.schedules)
        self._endpoint.flush()
        self._listeners.start()
        self._warn_of_ends()

    def _warn_of_ends(self) -> None:
        """Certificates that expire soon, each once a day."""
        if self._ends_timer is not None:
            self._ends_timer.cancel()
        self._ends_timer = self._loop.call_later(_DAY, self._warn_of_ends)
        now = to_datetime(self._wall())
        for one in self._ends:
            if one.days(now) <= LOG_DAYS:
                _log.warning("certificate.expiring", **one.to_json(now))

    def _report_rejection(self, faults: Sequence[str]) -> None:
        assert self._system and self._endpoint
        self._system.tell_hub(RejectInventory(tuple(faults)))
        self._endpoint.flush()

    # ---- the turn ----------------------------------------------------------------------------------------------

    def _on_events(self, events: list[EngineEvent]) -> None:
        assert self._server and self._endpoint
        self._server.turn(events, self._endpoint.now(), self._wall())

    def _report_service(self, message: ServiceInput) -> None:
        assert self._system and self._endpoint
        self._system.tell_hub(message)
        self._endpoint.flush()

    def _record(self, event: Event, timestamp: int) -> Recorded:
        assert self._journal
        if self._services is not None and isinstance(event, ServiceAdded | ServiceChanged):
            self._services.defined(event.service_urn)
        recorded = self._journal.append(event, timestamp)
        if self._ops is not None:
            self._ops.take(recorded)
        return recorded

    def _notify(self, call: Callable[[], None]) -> None:
        """From the journal's thread into the loop's."""
        self._loop.call_soon_threadsafe(call)

    def _on_written(self, batch: Sequence[Recorded]) -> None:
        """The journal has written events: they may be seen now, and printed."""
        if self._gate is not None and self._endpoint is not None:
            self._gate.written(self._endpoint.now())
            self._endpoint.transmit_soon()
        if self._journal is not None and self._journal.sync_error != self._sync_error:
            self._report_sync(self._journal.sync_error)
        self._printer.add(batch)
        self._count_dropped()

    def _report_stall(self, reason: str) -> None:
        """Lines of events wait for the journal; that it stalls must not. Its event follows when it goes on."""
        _log.error("journal.stalled", reason=reason, journal=str(self.settings.journal))

    def _watch(self) -> None:
        """See each second how the journal is, whether or not there is traffic."""
        self._watching = self._loop.call_later(_WATCH, self._watch)
        journal = self._journal
        if journal is None or self._stopping:
            return
        if (step := self._wall.take_step()) != 0.0:
            self._on_clock_step(step)
        reason, now = journal.error, self._loop.time()
        if reason is None and self._failing is not None:
            _log.info("journal.writing", journal=str(self.settings.journal))
        elif reason is not None and (self._failing is None or now >= self._told + _REMIND):
            self._told = now
            _log.error("journal.failing", reason=reason, journal=str(self.settings.journal))
        self._failing = reason
        if journal.is_dead:
            # Without a log nothing is to go on for long; connections go on at another hub, or here after a restart.
            _log.critical("hub.stopping", hubId=self.settings.hub_id, reason=f"journal: {reason}")
            self.failed.set()
            self.stop(resumable=True)

    def _on_clock_step(self, seconds: float) -> None:
        """The wall clock was stepped, or the host was suspended: what waits for a time looks at the clock now."""
        self._clock_steps += 1
        ahead = self._ahead()
        waits = {"eventsAhead": round(ahead, 3)} if ahead else {}
        _log.warning("clock.stepped", seconds=round(seconds, 3), time=format_time(self._wall()), **waits)
        self._plan_crls()
        self._warn_of_ends()
        if self._services is not None:
            self._services.look()
        if self._endpoint is not None and self._system is not None:
            self._system.tell_hub(ClockStepped())
            self._endpoint.flush()

    def _ahead(self) -> float:
        """Seconds for which the times of events stand still, until the clock has caught up with them (D-11)."""
        assert self._journal
        return max(0.0, (self._journal.state.last_timestamp - self._wall()) / 1_000_000)

    def _report_sync(self, error: str | None) -> None:
        """What was written may be gone after a power failure: the kernel forgets pages that a disk didn't take."""
        self._sync_error = error
        if error is None:
            _log.info("journal.synced", journal=str(self.settings.journal))
        else:
            _log.error("journal.unsynced", reason=error, journal=str(self.settings.journal))

    def _count_dropped(self) -> None:
        """Report log lines that were dropped for want of room as an exceeded limit."""
        dropped = logging.dropped()
        if dropped == self._dropped or not self._ready or self._stopping:
            return
        assert self._system and self._endpoint
        count, self._dropped = dropped - self._dropped, dropped
        self._system.tell_hub(LimitExceeded(OUTPUT_LIMIT, ROOM, count))
        self._endpoint.flush()

    def _on_shipper(self, status: ShipperStatus) -> None:
        bad = status.state in ("unreachable", "refused", "rewound", "unreadable", "held", "died")
        log = _log.warning if bad else _log.debug if status.state == "shipped" else _log.info
        if bad and status.lasting:
            log = _log.error
        died = status.reason if status.state == "died" else ""
        if died and died == self._shipper_died:
            log = _log.debug  # it is started again and again
        self._shipper_died = died
        reason = {"reason": status.reason} if status.reason else {}
        log(f"shipper.{status.state}", position=status.position, behind=status.behind, **reason)
        if self._ops is not None:
            self._ops.incidents.take_shipper(self.settings.hub_id, status, self._wall())
        if status.state != "died":
            self._report_topic_faults(status.topic_faults)
        if status.attempts >= _ATTEMPTS and status.sequence is not None and status.sequence != self._declared:
            self._declare_refused(status.sequence, status.reason)

    def _report_topic_faults(self, faults: tuple[str, ...]) -> None:
        """Each once, while it is there."""
        for fault in faults:
            if fault not in self._topic_faults:
                _log.warning("shipper.topic_unfit", fault=fault)
        if self._topic_faults and not faults:
            _log.info("shipper.topic_fit")
        self._topic_faults = faults

    def _declare_refused(self, sequence: int, reason: str) -> None:
        """Kafka won't have an event: the log says that the topic lacks it, and the shipper passes it over then."""
        assert self._journal
        self._declared = sequence
        moment = self._wall()
        event = EventsLost(
            realm=None,
            network_urn=None,
            first_sequence=sequence,
            last_sequence=sequence,
            count=1,
            first_timestamp=moment,
            last_timestamp=moment,
            reason=f"Kafka does not take it: {reason}",
        )
        self._journal.append(event, moment)
        self._journal.commit()

    def _progress(self) -> Progress:
        """How far the events have come."""
        from spnhub.ops.state import Progress  # noqa: PLC0415 - see start; loaded by then

        assert self._journal
        status = None if self._shipper is None else self._shipper.status
        error = self._journal.error or (None if self._gate is None else self._gate.stalled)
        limit = self.settings.journal_options.size
        return Progress(
            self._journal.appended,
            self._journal.written,
            status,
            error,
            self._journal.size,
            limit,
            self._clock_steps,
            self._ahead(),
        )

    def _snapshot(self) -> Snapshot:
        """What the hub holds at this moment."""
        from spnhub.ops.state import Snapshot  # noqa: PLC0415 - see start; loaded by then

        system, server = self._system, self._server
        return Snapshot(
            hub_id=self.settings.hub_id,
            bind=self.settings.bind,
            wall_us=self._wall(),
            progress=self._progress(),
            realms=() if system is None else tuple(system.table.realms.values()),
            # Before its start it is the journal's, as the run before has left it.
            state=None if system is None or not self._ready else system.state(),
            sessions=() if server is None else tuple(server.sessions),
            ends=self._ends,
            lists=self._lists,
            chain=(lambda _: ()) if server is None else server.certificates.chain,
            datagram_size=(lambda _: None) if server is None else server.datagram_size,
        )

    # ---- the end -----------------------------------------------------------------------------------------------

    def stop(self, *, resumable: bool = False) -> None:
        """Begin the stop; :attr:`stopped` is set when all endpoints have gone.

        A planned one (R-4.10) ends their connections; a resumable one (R-4.8) pauses them, so that they go on at
        another hub. A planned one may follow, and takes its place.
        """
        self._stopping = True
        if self._system is None or self._endpoint is None:
            self.stopped.set()
            return
        self._system.tell_hub(StopHub(resumable, self.settings.return_spread if resumable else 0.0))
        self._endpoint.flush()

    async def close(self) -> None:
        """Close sockets and journal, in order; after it nothing is left running."""
        self._stopping = True
        if self._watching is not None:
            self._watching.cancel()
        if self._crls_timer is not None:
            self._crls_timer.cancel()
        if self._reloader is not None:
            await self._reloader.close()
        if self._listeners is not None:
            self._listeners.close()
        if self._journal is not None:
            # The last close packets wait at the gate for their events.
            self._journal.flush(_LAST_WRITE)
        if self._endpoint is not None:
            await self._endpoint.close()
        if self._services is not None:
            await self._services.close()
        if self._journal is not None:
            self._journal.close()
        if self._recording is not None:
            self._recording.close()
        self._printer.close()
        if self._ops is not None:
            await self._ops.close()
        if self._shipper is not None:
            await self._shipper.stop()
