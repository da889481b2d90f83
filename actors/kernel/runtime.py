"""A runtime for pykka without threads: actors with synchronous handlers, driven by a :class:`Dispatcher`.

The dispatcher queues the actors that have messages, first come first served, and :meth:`Dispatcher.run` delivers them.
No event loop is needed: the dispatcher's owner calls ``run``, on a socket's wake-up or by hand in a test, and ``wake``
notifies the owner of a message that was sent outside of ``run`` or from another thread. One actor costs about 1 kB and
no thread.

What differs from pykka's own runtimes: actors are not entered in ``pykka.ActorRegistry`` (a list, searched in full),
a ``CancelledError`` that a handler lets out fails that actor only, a future without a value raises instead of blocking
the only thread, and an actor may survive a failure (:meth:`EventLoopActor.recover`). Each failure, survived or not, is
reported to the dispatcher's ``on_fault``. Supervision is left to the actors: a child notifies its parent from
``on_stop`` and ``on_failed``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar, cast

import pykka
from pykka import messages
from pykka._envelope import Envelope

from spnhub.events.faults import OnFault, log_fault

__all__ = ["Dispatcher", "EventLoopActor", "EventLoopFuture", "UnfinishedError", "actor_of", "send"]

_T = TypeVar("_T")
_P = ParamSpec("_P")
_BATCH: Final = 32
"""The most messages of one actor that are handled before the next actor's turn."""

_PYKKAS_OWN: Final = (messages._ActorStop, messages.ProxyCall, messages.ProxyGetAttr, messages.ProxySetAttr)

_current: contextvars.ContextVar[Dispatcher] = contextvars.ContextVar("spnhub_dispatcher")
"""Pykka creates inboxes in a static method, so the dispatcher they belong to comes from the context."""


class UnfinishedError(RuntimeError):
    """The value of a future was asked for before there was one. Blocking would never end; await the future instead."""


class EventLoopFuture(pykka.Future[_T], Generic[_T]):
    """A pykka future for one thread: :meth:`get` never blocks, ``await`` waits on the running asyncio loop."""

    def __init__(self) -> None:
        super().__init__()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    @property
    def done(self) -> bool:
        """Whether there is a value or an exception."""
        return self._done

    def get(self, *, timeout: float | None = None) -> _T:
        """The value.

        :raises UnfinishedError: there is none yet, whatever ``timeout`` says.
        :raises BaseException: the one that was set.
        """
        if self._get_hook is not None:
            return super().get(timeout=timeout)
        if not self._done:
            raise UnfinishedError("no value yet; await the future, or run the dispatcher first")
        if self._error is not None:
            raise self._error
        value: _T = self._value
        return value

    def set(self, value: _T | None = None) -> None:
        """Set the value, once."""
        self._finish(value, None)

    def set_exception(
        self, exc_info: tuple[type[BaseException] | None, BaseException | None, Any] | None = None
    ) -> None:
        """Set an exception, once; without ``exc_info`` the one being handled."""
        error = (exc_info or sys.exc_info())[1]
        assert error is not None
        self._finish(None, error)

    def _finish(self, value: _T | None, error: BaseException | None) -> None:
        if self._done or self._get_hook is not None:
            raise RuntimeError("the future has been set already")
        self._value, self._error, self._done = value, error, True
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            loop.call_soon_threadsafe(_release, waiter)

    def __await__(self) -> Generator[Any, None, _T]:
        """Wait for the value; a future with a hook (``map``, ``ActorRef.stop``) must have its value already."""
        if not self._done and self._get_hook is None:
            loop = asyncio.get_running_loop()
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append((loop, waiter))
            yield from waiter
        return self.get()


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Flag:
    """The part of ``threading.Event`` that pykka uses of ``actor_stopped``; 40 bytes instead of about 700."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = False

    def is_set(self) -> bool:
        return self.value

    def set(self) -> None:
        self.value = True


class _Inbox:
    """An actor's mailbox. Any thread may put; only the dispatcher gets.

    A deque would take 620 bytes from its beginning on, more than the rest of an actor that waits.
    """

    __slots__ = ("actor", "dispatcher", "envelopes", "scheduled")

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.envelopes: SimpleQueue[Envelope[Any]] = SimpleQueue()
        self.actor: EventLoopActor | None = None
        self.scheduled = False

    def put(self, envelope: Envelope[Any], /) -> None:
        self.envelopes.put(envelope)
        if not self.scheduled:
            self.dispatcher._schedule(self)

    def get(self) -> Envelope[Any]:
        return self.envelopes.get_nowait()

    def empty(self) -> bool:
        return self.envelopes.empty()


class Dispatcher:
    """Delivers messages to actors, in one thread at a time.

    :param wake: called, from any thread, when a message arrives outside of :meth:`run`: at most once between two runs.
        An asyncio owner passes a wrapper of ``loop.call_soon_threadsafe``.
    :param on_fault: called with the actor's class name and the exception when a handler raises.
    """

    def __init__(self, wake: Callable[[], None] | None = None, on_fault: OnFault = log_fault) -> None:
        self._wake = wake
        self._on_fault = on_fault
        self._woken = False
        self._ready: deque[_Inbox] = deque()
        self._alive: set[EventLoopActor] = set()
        self._thread: int | None = None
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Actors that have started and not ended."""
        return len(self._alive)

    @property
    def actors(self) -> tuple[EventLoopActor, ...]:
        """Those that have started and not ended, in no order."""
        return tuple(self._alive)

    @property
    def quiescent(self) -> bool:
        """Whether no actor has a message."""
        return not self._ready

    @contextlib.contextmanager
    def current(self) -> Iterator[Self]:
        """Actors and futures created inside belong to this dispatcher; within a handler they do without this."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)

    def start(self, actor: Callable[_P, _A], /, *args: _P.args, **kwargs: _P.kwargs) -> pykka.ActorRef[_A]:
        """Create an actor of this class and start it; ``on_start`` is called at its first turn."""
        token = _current.set(self)
        try:
            return _start(actor(*args, **kwargs))
        finally:
            _current.reset(token)

    def run(self, limit: int | None = None) -> bool:
        """Deliver messages until there are none, or until about ``limit`` messages were handled.

        :returns: whether no message is left.
        :raises RuntimeError: called from a handler or while another thread is running it.
        :raises BaseException: an exception of a handler that is neither an ``Exception`` nor ``CancelledError``
            (``KeyboardInterrupt``); another call continues with the remaining messages.
        """
        if self._thread is not None:
            raise RuntimeError("the dispatcher is running already")
        self._woken = False
        ready = self._ready
        if not ready:
            return True
        self._thread = threading.get_ident()
        token = _current.set(self)
        try:
            while ready:
                if limit is not None:
                    if limit <= 0:
                        return False
                    limit -= self._turn(ready.popleft(), min(limit, _BATCH))
                else:
                    self._turn(ready.popleft(), _BATCH)
            return True
        finally:
            _current.reset(token)
            self._thread = None

    def _turn(self, inbox: _Inbox, batch: int) -> int:
        """Let one actor handle up to ``batch`` messages; returns how many it handled, at least 1."""
        actor = inbox.actor
        if actor is None:  # ended, and its last messages were answered; or not started, and its messages wait for that
            inbox.scheduled = False
            return 1
        handled = 0
        try:
            if not actor.set_up:
                actor._actor_loop_setup()
            stopped, envelopes = actor.actor_stopped, inbox.envelopes
            while handled < batch and not stopped.value and not envelopes.empty():
                handled += 1
                actor._deliver(envelopes.get_nowait())
        finally:
            if actor.actor_stopped.value:
                inbox.actor = None
                self._alive.discard(actor)
                actor._actor_loop_teardown()
            # The order matters: a message put by another thread between these lines is either scheduled by that thread,
            # which sees False, or seen here.
            inbox.scheduled = False
            if inbox.actor is not None and not inbox.envelopes.empty():
                self._schedule(inbox)
        return handled or 1

    def _schedule(self, inbox: _Inbox) -> None:
        inbox.scheduled = True
        self._ready.append(inbox)
        if self._wake is not None and not self._woken and self._thread != threading.get_ident():
            self._woken = True
            self._wake()

    def _adopt(self, actor: EventLoopActor) -> None:
        self._alive.add(actor)
        inbox = actor.actor_inbox
        inbox.actor = actor
        if not inbox.scheduled:
            self._schedule(inbox)


class EventLoopActor(pykka.Actor):
    """An actor with synchronous handlers that a :class:`Dispatcher` drives. Start it with :meth:`Dispatcher.start`,
    or with ``start`` inside of a handler."""

    actor_inbox: _Inbox
    actor_stopped: _Flag  # type: ignore[assignment] # has the methods that pykka calls
    set_up: bool = False
    """Whether ``on_start`` has been called."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Replaces pykka's own, whose random URN and threading.Event per actor cost more than the rest of the actor.
        self.actor_inbox = self._create_actor_inbox()
        self.actor_urn = f"urn:spnhub:actor:{next(self.actor_inbox.dispatcher._numbers)}"
        self.actor_stopped = _Flag()
        self._actor_ref = pykka.ActorRef(self)
        self._stopped: EventLoopFuture[None] | None = None

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> pykka.ActorRef[Self]:
        """Start an actor on the current context's dispatcher, without entering it in pykka's registry."""
        return _start(cls(*args, **kwargs))

    @staticmethod
    def _create_actor_inbox() -> _Inbox:
        return _Inbox(_dispatcher())

    @staticmethod
    def _create_future() -> EventLoopFuture[Any]:
        return EventLoopFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.dispatcher._adopt(self)

    @property
    def stopped(self) -> EventLoopFuture[None]:
        """A future, set when the actor has ended, by itself or by a failure, and its last messages were answered."""
        if self._stopped is None:
            self._stopped = EventLoopFuture()
            if self.set_up and self.actor_inbox.actor is None:
                self._stopped.set(None)
        return self._stopped

    def recover(self, message: object) -> bool:
        """Called when the handler of ``message`` has raised; True: the actor stays alive.

        By default an actor ends, and its ``on_failed`` notifies the parent. Actors that others depend on stay alive,
        and answer the request that failed.
        """
        del message
        return False

    def _stop(self) -> None:
        """Replaces pykka's, which looks for the actor in its registry."""
        self.actor_stopped.set()
        try:
            self.on_stop()
        except Exception:  # the actor has ended already
            self._report(sys.exc_info()[1])

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Replaces pykka's, which logs by itself and looks for the actor in its registry."""
        del exception_type, traceback
        self._report(exception_value)
        self.actor_stopped.set()

    def _report(self, fault: BaseException | None) -> None:
        assert fault is not None
        self.actor_inbox.dispatcher._on_fault(type(self).__name__, fault)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Pykka's hook, called after the exception was reported; subclasses override :meth:`on_failed`."""
        del exception_type, exception_value, traceback
        self.on_failed()

    def on_failed(self) -> None:
        """The actor has failed and ends; ``on_stop`` isn't called. A child notifies its parent from here, too."""

    def _actor_loop_setup(self) -> None:
        self.set_up = True
        try:
            self.on_start()
        except (Exception, asyncio.CancelledError):  # any fault ends this actor and nothing else
            self._fail()

    def _deliver(self, envelope: Envelope[Any]) -> None:
        message = envelope.message
        try:
            # Most messages are none of pykka's own, and its method looks for these first, one by one.
            own = isinstance(message, _PYKKAS_OWN)
            response = self._handle_receive(message) if own else self.on_receive(message)
        except (Exception, asyncio.CancelledError):  # any fault concerns this actor and nothing else
            if envelope.reply_to is not None:
                self._report(sys.exc_info()[1])
                envelope.reply_to.set_exception()
            else:
                self._fail(message)
            return
        if envelope.reply_to is not None:
            envelope.reply_to.set(response)

    def _fail(self, message: object = None) -> None:
        exc_info = sys.exc_info()
        # First of all, whether the actor recovers or not: an unreported fault is never repaired.
        self._report(exc_info[1])
        try:
            if message is not None and self.recover(message):
                return
        except Exception:  # recovery itself has failed, so the actor ends
            self._report(sys.exc_info()[1])
        self.actor_stopped.set()
        try:
            self.on_failure(*exc_info)
        except Exception:  # the actor is ending already; pykka's runtimes do the same
            self._report(sys.exc_info()[1])

    def _actor_loop_teardown(self) -> None:
        super()._actor_loop_teardown()
        if self._stopped is not None:
            self._stopped.set(None)


_A = TypeVar("_A", bound=EventLoopActor)


def actor_of(ref: pykka.ActorRef[_A]) -> _A | None:
    """The actor itself, to look at while it has no message; None: it has gone."""
    return ref._actor_weakref()


def send(ref: pykka.ActorRef[Any], message: object) -> bool:
    """Queue a message for an actor; False: it has ended."""
    stopped = cast("_Flag", ref.actor_stopped)
    if stopped.value:
        return False
    ref.actor_inbox.put(Envelope(message))
    return True


def _start(actor: _A) -> pykka.ActorRef[_A]:
    actor._start_actor_loop()
    return actor.actor_ref


def _dispatcher() -> Dispatcher:
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no dispatcher in this context: start actors with Dispatcher.start") from None
