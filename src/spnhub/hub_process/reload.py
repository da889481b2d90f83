"""A reload: the inventory is read again, judged as a whole, and made true in one step, or not at all (R-6.2, D-31).

What takes long (fetching, parsing, binding, searching calendars) is done beside the live hub. Then policy, networks and
the actors' definitions change within one turn; differences and cuts follow in the actors' slices. Counterparts:
:mod:`spnhub.hub_process.process`, :mod:`spnhub.hub_process.listening`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import structlog

from spnhub import inventory as inventories
from spnhub.actors.contract.inventory import Plan, Table, plan
from spnhub.clusters import load_managers
from spnhub.dataclass import dataclass
from spnhub.hub_process.listening import CannotListen, Listeners, Prepared
from spnhub.hub_process.services import ScheduleTable
from spnhub.inventory import Inventory, InventoryError
from spnhub.ops.expiry import CertificateEnd, RevocationAge, ends_of, revocation_of
from spnhub.service_manager import service_manager

__all__ = ["Candidate", "Reloader", "prepare"]

_log = structlog.get_logger("spnhub.hub")

_ATTEMPTS: Final = 4
"""At the list of realms: a reload that can't be had is given up after a second or two."""
_LONGEST: Final = 120.0
"""Seconds for reading the inventory."""
_SWITCH_INTERVAL: Final = 0.001
"""Seconds for which a thread may keep the interpreter from the loop, while a reload is being prepared."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An inventory, ready to be swapped in."""

    inventory: Inventory
    listening: Prepared
    schedules: ScheduleTable
    plan: Plan
    ends: tuple[CertificateEnd, ...]
    """When its certificates expire."""
    lists: tuple[RevocationAge, ...]
    """Its revocation lists."""


async def prepare(inventory: Inventory, listeners: Listeners, table: Table, wall_us: int) -> Candidate:
    """Do everything for ``inventory`` that changes nothing yet.

    :param table: by which the actors decide now.
    :param wall_us: microseconds since 1970.
    :raises CannotListen: it can't be served.
    """
    urns = {task.cluster_manager_urn for task in inventory.tasks.values()}
    for reason in await asyncio.to_thread(load_managers, urns):
        _log.warning("inventory.manager-not-installed", reason=reason)
    schedules = await asyncio.to_thread(ScheduleTable.of, inventory, wall_us)
    planned = await asyncio.to_thread(lambda: plan(table, Table.of(inventory.realms, wall_us, table)))
    ends = await asyncio.to_thread(ends_of, inventory.listening)
    lists = await asyncio.to_thread(revocation_of, inventory.listening)
    return Candidate(inventory, await listeners.prepare(inventory), schedules, planned, ends, lists)


class Reloader:
    """Reloads one after the other; those asked for during one are done as one after it.

    :param load: reads the inventory, trying so often.
    :param prepare: makes it ready to be swapped in.
    :param apply: makes a candidate true.
    :param reject: takes the texts of all faults.
    """

    def __init__(
        self,
        load: Callable[[int], Awaitable[Inventory]],
        prepare: Callable[[Inventory], Awaitable[Candidate]],
        *,
        apply: Callable[[Candidate], None],
        reject: Callable[[Sequence[str]], None],
    ) -> None:
        self._load = load
        self._prepare = prepare
        self._apply = apply
        self._reject = reject
        self._again = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """A reload is wanted."""
        if self._task is not None:
            self._again = True
            return
        self._task = asyncio.create_task(self._run(), name="reload")

    async def close(self) -> None:
        """Give up a reload that is under way; nothing changes."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        service_manager.reloading()
        while True:
            self._again = False
            try:
                await self._reload()
            # Whatever an inventory brings about, the hub goes on with the one that it has.
            except Exception as exc:
                _log.exception("reload.failed")
                self._refuse([f"{type(exc).__name__}: {exc}"])
            if not self._again:
                self._task = None
                service_manager.ready()
                return

    async def _reload(self) -> None:
        began = time.monotonic()
        _log.info("reload.started")
        with _unnoticed():
            try:
                async with asyncio.timeout(_LONGEST):
                    inventory = await self._load(_ATTEMPTS)
            except InventoryError as exc:
                self._refuse([str(exc)])
                return
            except TimeoutError:
                self._refuse([f"the inventory could not be read within {_LONGEST:g} s"])
                return
            if inventory.faults:
                self._refuse([str(fault) for fault in inventory.faults])
                return
            try:
                candidate = await self._prepare(inventory)
            except CannotListen as exc:
                self._refuse([str(fault) for fault in exc.faults])
                return
        inventories.log_warnings(inventory)
        self._apply(candidate)
        _log.info("reload.decided", seconds=round(time.monotonic() - began, 3))

    def _refuse(self, faults: Sequence[str]) -> None:
        shown, more = inventories.shown_faults(faults)
        if more:
            shown.append(f"and {more} more faults")
        for fault in shown:
            _log.error("reload.fault", fault=fault)
        _log.error("reload.rejected", faults=len(faults), reason=faults[0])
        self._reject(shown)


@contextlib.contextmanager
def _unnoticed() -> Iterator[None]:
    """Let threads switch quickly, and the garbage collector rest, while an inventory is read beside traffic.

    A full collection stops all threads: for a tenth of a second with a thousand services read. The objects that a
    reload leaves behind are freed by their reference counts.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        if collecting:
            gc.enable()
