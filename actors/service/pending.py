"""The pending connections of one service: they get a provider, are offered to the next (D-35), or wait for one (D-29).

Part of the service's actor, as :mod:`spnhub.actors.service.resume` is.
"""

from __future__ import annotations

from spnhub.actors.connection import transitions
from spnhub.actors.connection.actor import OpeningAccepted, OpeningRejected
from spnhub.actors.connection.state import (
    NoProvider,
    ProviderAwaited,
    StartTrouble,
    TimedOut,
    Wait,
    may_still_take,
)
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import ConnectionRequested, Key, SessionRequested
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import ConnectionEntry, Decision, Environment
from spnhub.actors.service.balancing import Choice
from spnhub.actors.service.legs import Legs
from spnhub.actors.service.registry import SessionRegistry
from spnhub.events.model import ProviderFailed, ProviderRecovered, SessionEvent, shared

__all__ = ["PendingConnections"]


class PendingConnections:
    """Finds a provider for each opening, the next one if that doesn't take it, and lets it wait if there is none."""

    def __init__(self, env: Environment, registry: SessionRegistry, legs: Legs) -> None:
        self._env = env
        self._registry = registry
        self._legs = legs
        self._waiting: dict[Key, None] = {}
        """Openings that wait for a provider, oldest first."""

    def __len__(self) -> int:
        """Openings that wait for a provider."""
        return len(self._waiting)

    def open(self, consumer: SessionRequested, request: ConnectionRequested) -> bool:
        """Start a new connection with the provider whose turn it is.

        :returns: whether there is one; if not, nothing is started.
        """
        choice = self._registry.choice.acquire(self._env.now)
        if choice is None:
            return False
        self._legs.open(consumer, request, choice)
        return True

    def wait(self, consumer: SessionRequested, request: ConnectionRequested) -> None:
        """Start a new connection that waits for a provider."""
        self._waiting[self._legs.wait(consumer, request)] = None

    def serve(self) -> None:
        """Give the openings that wait to the providers that there are, oldest first."""
        while self._waiting:
            key = next(iter(self._waiting))
            choice = self._registry.choice.acquire(self._env.now)
            if choice is None:
                return
            del self._waiting[key]
            self._legs.offer(key, choice)

    # Openings that a provider doesn't take (D-35)

    def rejected(self, message: OpeningRejected, *, another: bool, wait: bool) -> bool:
        """Note what the rejection says about the provider, and offer the opening to the next one.

        :param another: whether it may be offered to another provider at all.
        :param wait: whether it may wait for one that is started on demand, if no provider is left.
        :returns: whether it waits for one.
        """
        directory, key = self._env.directory, message.key
        entry = directory.connections.get(key)
        if entry is None or entry.provider is None:
            return False
        # After accept_timeout the consumer is refused; the shorter answer_timeout (ANSWER) leaves time for another.
        over = message.rejection == TimedOut(Wait.ACCEPT)
        may_still = may_still_take(message.rejection)
        choice = self._another(entry, sound=may_still) if another and not over else None
        failed = transitions.failure(message.rejection)
        if may_still and choice is None:
            # The opening stays with this provider, which is only full or slow; if on trial, it stays on trial.
            pass
        elif failed is not None:
            self._failed(entry.provider, failed.code, failed.reason)
        elif entry.on_trial:
            # It has neither taken nor failed this opening, say because it was full: the next opening tries it again.
            self._registry.choice.untried(entry.provider)
        # ``waited``: an opening waits at most once, or a service whose provider comes and rejects it would be started
        # over and over for it.
        waits = (
            choice is None
            and not may_still
            and another
            and wait
            and not entry.waited
            and not len(self._registry.choice)
        )
        if choice is not None:
            # It counts there until the end of the leg to that provider is logged (ProviderLeft).
            entry.left = entry.provider
            self._legs.offer(key, choice)
        elif waits:
            entry.left, entry.provider, entry.asked, entry.waited = entry.provider, None, (), True
            entry.on_trial = False
            self._waiting[key] = None
            directory.tell_connection(key, ProviderAwaited())
        else:
            directory.tell_connection(key, NoProvider(Code.NO_PROVIDER, "no other provider can be asked"))
        return waits

    def accepted(self, message: OpeningAccepted) -> None:
        """Note that a provider on trial has taken an opening."""
        entry = self._env.directory.connections.get(message.key)
        if entry is None or entry.provider is None:
            return
        entry.on_trial = False
        if self._registry.choice.succeed(entry.provider):
            request = self._registry.sessions[entry.provider]
            event = ProviderRecovered(**shared(SessionEvent, request))
            self._env.carry_out(Decision((event,)))

    def unreachable(self, key: Key) -> None:
        """Note that a provider has taken an opening, and couldn't reach its server then."""
        entry = self._env.directory.connections.get(key)
        if entry is not None and entry.provider is not None:
            entry.on_trial = False
            self._failed(entry.provider, Code.CONNECT_FAILED, "its server can't be reached")

    def _another(self, entry: ConnectionEntry, *, sound: bool) -> Choice | None:
        """The next provider, which hasn't been asked yet; None: there is none, or the attempts are used up.

        :param sound: only one that hasn't failed. The present provider may still take the opening, and a provider on
            trial is no better chance than that.
        """
        options = self._env.options
        if len(entry.asked) >= options.opening_attempts:
            return None
        last_resort = not sound and entry.last_resorts < options.last_resorts
        return self._registry.choice.acquire(self._env.now, entry.asked, last_resort=last_resort, trial=not sound)

    def _failed(self, provider: int, code: int, reason: str) -> None:
        news = self._registry.choice.fail(provider, self._env.now)
        if news is None:
            return
        failures, seconds = news
        request = self._registry.sessions[provider]
        event = ProviderFailed(
            **shared(SessionEvent, request),
            failures=failures,
            passed_over_until=self._env.wall_us + round(seconds * 1_000_000),
            code=code,
            reason=reason,
        )
        self._env.carry_out(Decision((event,)))

    # Openings that wait

    def refuse(self, code: Code, reason: str) -> None:
        """Refuse the openings that wait, but for those whose consumer can't ask again."""
        sessions = self._registry.sessions
        for key in [key for key in self._waiting if abilities(sessions[key.session].protocol).asks_again]:
            del self._waiting[key]
            self._env.directory.tell_connection(key, NoProvider(code, reason))

    def trouble(self, reason: str) -> None:
        """Tell the openings that wait why the start has failed, which is tried again."""
        for key in self._waiting:
            self._env.directory.tell_connection(key, StartTrouble(reason))

    def gone(self, key: Key) -> None:
        """Forget a leg that has ended, if it was waiting."""
        self._waiting.pop(key, None)
