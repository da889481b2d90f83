"""All agents of a process: started, replaced when a reload has other settings for them, tried again when they fail.

None of them ends another. An agent whose settings changed is replaced: the new one has its session first, takes over
the sockets that listen, and the old one serves its connections to the end. Counterparts:
:mod:`spnhub.agent_process.running` has one agent, :mod:`spnhub.agent_process.main` signals and exit status.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, TypeGuard

import structlog

from spnhub.agent_process.running import RunningAgent, RunningConsumer, RunningProvider, start_agent
from spnhub.agent_settings import AgentSettings, ProviderSettings
from spnhub.backoff import Backoff
from spnhub.settings import SettingsError
from spnhub.transport.errors import SpnError

__all__ = ["AgentHost", "Slot"]

_log = structlog.get_logger()

TAKE_OVER: Final = 10.0
"""Seconds that an agent which takes another's place has for its first session, while the other one goes on."""
_AGAIN: Final = (1.0, 60.0)
"""Seconds before an agent that has failed is tried again: at first, and at most."""


class Slot:
    """The place of one agent: who is in it now, or why nobody is.

    :param name: ``consumer.web``; empty for the only agent of a process.
    :param changed: called when it has become ready, or has failed.
    :param lasting: what has failed is tried again; else :meth:`run` raises.
    """

    def __init__(self, name: str, settings: AgentSettings, changed: Callable[[], object], *, lasting: bool) -> None:
        self.name = name
        self._lasting = lasting
        self.settings = settings
        self.current: RunningAgent | None = None
        self.failure: str | None = None
        """Why there is none; it is tried again."""
        self.known = asyncio.Event()
        """Traffic could pass at some time, since the settings are these, or why it can't won't change by itself."""
        self._changed = changed
        self._stopped = False
        self._wake = asyncio.Event()

    @property
    def fault(self) -> str | None:
        """Why traffic can't pass now; None: it can."""
        return self.failure if self.current is None else self.current.fault

    async def run(self, first: RunningAgent | None = None) -> None:
        """Have an agent in it until it is stopped.

        :param first: takes the place of the one that was there.
        """
        again = Backoff(*_AGAIN)
        while not self._stopped:
            self._wake.clear()
            try:
                self.current, first = first or start_agent(self.settings), None
                self.failure = None
                await self._live(self.current)
                return
            except (SpnError, SettingsError, ValueError) as exc:
                if not self._lasting:
                    raise
                if self.current is not None and self.current.ready.is_set():
                    again.reset()
                self.current, self.failure = None, str(exc)
                self.known.set()
                pause = again.next()
                _log.error("agent.failed", reason=self.failure, again=round(pause, 1))
                self._changed()
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _live(self, agent: RunningAgent) -> None:
        announcing = asyncio.create_task(self._note_ready(agent))
        try:
            await agent.run()
        finally:
            announcing.cancel()

    async def _note_ready(self, agent: RunningAgent) -> None:
        await agent.ready.wait()
        self.known.set()
        self._changed()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for its end; its agent serves its connections first, unless at once."""
        self._stopped = True
        self._wake.set()
        if self.current is not None:
            self.current.stop(at_once=at_once)

    async def renew(self) -> None:
        """Read certificates anew, look hubs up; one that has failed is tried again now."""
        self._wake.set()
        if self.current is not None:
            await self.current.manager.renew()


class AgentHost:
    """Use from one event loop.

    :param changed: called when an agent has become ready, or has failed.
    :param lasting: see :class:`Slot`; else the first failure is the end of all.
    """

    def __init__(self, agents: Mapping[str, AgentSettings], changed: Callable[[], object], *, lasting: bool) -> None:
        self._changed = changed
        self._lasting = lasting
        self._failure: BaseException | None = None
        self.slots: dict[str, Slot] = {}
        self._running: dict[asyncio.Task[None], Slot] = {}
        """Also of those that are not in ``slots`` any more, and leave."""
        self._stopped = False
        for name, settings in agents.items():
            self._begin(name, settings)

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for the end of all of them."""
        self._stopped = True
        for slot in list(self._running.values()):
            slot.stop(at_once=at_once)

    async def wait_stopped(self) -> None:
        """Wait until the last has ended.

        :raises SpnError: why the first has failed, unless what fails is tried again.
        :raises SettingsError, ValueError: likewise, where its settings can't be used.
        """
        while self._running:
            await asyncio.wait(list(self._running), return_when=asyncio.FIRST_COMPLETED)
            # What is called then has been.
            await asyncio.sleep(0)
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure

    def slots_now(self) -> list[Slot]:
        """Those that are there, in the order of the settings."""
        return list(self.slots.values())

    async def renew(self) -> None:
        """Read certificates anew, and look hubs up."""
        await asyncio.gather(*(slot.renew() for slot in self.slots.values()))

    async def take(self, agents: Mapping[str, AgentSettings]) -> None:
        """Other settings: what didn't change isn't touched."""
        gone = self.slots.keys() - agents.keys()
        added = [name for name in agents if name not in self.slots]
        changed = [name for name in agents if name in self.slots and self.slots[name].settings != agents[name]]
        _log.info("agent.reloaded", added=added, changed=changed, removed=sorted(gone))
        for name in gone:
            self.slots.pop(name).stop()
        for name in added:
            self._begin(name, agents[name])
        await asyncio.gather(*(self._change(name, agents[name]) for name in changed))
        # In the order of the file.
        self.slots = {name: self.slots[name] for name in agents if name in self.slots}
        self._changed()

    def _begin(self, name: str, settings: AgentSettings, first: RunningAgent | None = None) -> Slot:
        slot = self.slots[name] = Slot(name, settings, self._changed, lasting=self._lasting)
        context = contextvars.copy_context()
        if name:
            context.run(structlog.contextvars.bind_contextvars, agent=name)
        task = asyncio.get_running_loop().create_task(slot.run(first), name=f"agent {name}", context=context)
        self._running[task] = slot
        task.add_done_callback(self._ended)
        return slot

    def _ended(self, task: asyncio.Task[None]) -> None:
        slot = self._running.pop(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            if not self._lasting:
                self._failure = fault
                return
            # A fault of ours: the others go on.
            slot.current, slot.failure = None, f"a fault: {fault!r}"
            slot.known.set()
            task.get_loop().call_exception_handler({"message": "an agent failed", "exception": fault})
            self._changed()

    async def _change(self, name: str, settings: AgentSettings) -> None:
        """Put an agent with these settings in the place of the one that is there."""
        before = self.slots[name]
        old = before.current
        if isinstance(old, RunningProvider) and _differs_in_weight(settings, old.settings):
            before.settings = settings
            await old.take_weight(settings)
            return
        try:
            handed = None
            if isinstance(old, RunningConsumer) and not old.stopping:
                handed = old.hand_over(getattr(settings, "bind_address", ()))
            new = start_agent(settings, handed)
        except SettingsError as exc:
            # What is there goes on, and the next reload tries again.
            _log.error("agent.reload_failed", agent=name, reason=str(exc))
            return
        after = self._begin(name, settings, new)
        if old is not None:
            # Nobody is refused, or has to wait, for the old one goes on until then.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAKE_OVER):
                    await after.known.wait()
        if isinstance(new, RunningConsumer):
            new.accept()
        before.stop()


def _differs_in_weight(new: AgentSettings, old: ProviderSettings) -> TypeGuard[ProviderSettings]:
    return isinstance(new, ProviderSettings) and dataclasses.replace(old, weight=new.weight) == new
