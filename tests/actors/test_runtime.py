"""The runtime: mail, failures, futures, threads; by hand, without an event loop but where one is awaited."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pykka
import pytest

from spnhub.actors.kernel.runtime import Dispatcher, EventLoopActor, EventLoopFuture, UnfinishedError, actor_of
from spnhub.actors.kernel.timers import Timers


class Echo(EventLoopActor):
    """Notes what happens to it; a callable message is called, an exception raised."""

    def __init__(self, notes: list[Any], name: str = "") -> None:
        super().__init__()
        self.notes = notes
        self.name = name

    def note(self, what: Any) -> None:
        self.notes.append(f"{self.name}{what}")

    def on_start(self) -> None:
        self.note("start")

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        self.note(message)
        return message

    def on_stop(self) -> None:
        self.note("stop")

    def on_failed(self) -> None:
        self.note("failed")


def test_mail_is_delivered_in_order() -> None:
    """First come, first served; on_start comes first and nothing runs before run()."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    a, b = dispatcher.start(Echo, notes, "a"), dispatcher.start(Echo, notes, "b")
    for n in range(3):
        a.tell(n)
        b.tell(n)
    assert notes == []
    assert not dispatcher.quiescent
    assert dispatcher.run()
    assert notes == ["astart", "a0", "a1", "a2", "bstart", "b0", "b1", "b2"]
    assert dispatcher.quiescent


def test_a_run_can_be_sliced() -> None:
    """And an actor that talks to itself doesn't keep the others from their turn."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    chatty = dispatcher.start(Echo, [], "")
    quiet = dispatcher.start(Echo, notes, "q")

    def talk() -> None:
        chatty.tell(talk)

    chatty.tell(talk)
    quiet.tell("heard")
    assert not dispatcher.run(limit=100)
    assert notes == ["qstart", "qheard"]


def test_stop() -> None:
    """Mail before the stop is handled, mail after it is answered with ActorDeadError, and ``stopped`` is set."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    ref = dispatcher.start(Echo, notes)
    actor = actor_of(ref)
    assert actor is not None
    stopped = actor.stopped
    before, late = ref.ask(1, block=False), None
    stop = ref.stop(block=False)
    late = ref.ask(2, block=False)
    with pytest.raises(UnfinishedError):
        stop.get()
    dispatcher.run()
    assert notes == ["start", "1", "stop"]
    assert (before.get(), stop.get(), stopped.done, actor.stopped.get()) == (1, True, True, None)
    with pytest.raises(pykka.ActorDeadError):
        late.get()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell(3)
    assert len(dispatcher) == 0
    again = ref.stop(block=False)
    assert again.get() is False


@pytest.mark.parametrize("failure", [RuntimeError("x"), asyncio.CancelledError()], ids=["exception", "cancelled"])
def test_failure_is_the_actors_own(failure: BaseException) -> None:
    """It ends; on_failed is called, on_stop isn't; others go on; its ``stopped`` is set."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    bad, good = dispatcher.start(Echo, notes, "bad "), dispatcher.start(Echo, notes, "good ")
    actor = actor_of(bad)
    assert actor is not None
    bad.tell(failure)
    good.tell(1)
    dispatcher.run()
    assert notes == ["bad start", "bad failed", "good start", "good 1"]
    assert (bad.is_alive(), good.is_alive(), len(dispatcher)) == (False, True, 1)
    assert actor.stopped.done


def test_failure_of_on_start() -> None:
    """The parent has to hear of it too."""

    class Unlucky(Echo):
        def on_start(self) -> None:
            raise RuntimeError("x")

    notes: list[Any] = []
    dispatcher = Dispatcher()
    ref = dispatcher.start(Unlucky, notes)
    ref.tell(1)
    dispatcher.run()
    assert notes == ["failed"]
    assert not ref.is_alive()


def test_failure_of_the_last_hooks() -> None:
    """An actor that fails in its hooks ends all the same."""

    class Hopeless(Echo):
        def on_failed(self) -> None:
            raise RuntimeError("y")

        def recover(self, message: object) -> bool:
            raise RuntimeError("z")

        def on_stop(self) -> None:
            raise RuntimeError("w")

    dispatcher = Dispatcher()
    first, second = dispatcher.start(Hopeless, []), dispatcher.start(Hopeless, [])
    first.tell(RuntimeError("x"))
    second.stop(block=False)
    dispatcher.run()
    assert (first.is_alive(), second.is_alive(), len(dispatcher)) == (False, False, 0)


def test_who_asks_gets_the_failure() -> None:
    """As with pykka: the exception is the answer, and the actor lives."""
    dispatcher = Dispatcher()
    ref = dispatcher.start(Echo, [])
    answer = ref.ask(ValueError("no"), block=False)
    dispatcher.run()
    with pytest.raises(ValueError, match="no"):
        answer.get()
    assert ref.is_alive()


def test_recovery() -> None:
    """An actor may say that it can go on."""

    class Tough(Echo):
        def recover(self, message: object) -> bool:
            self.note(f"recovered from {message!r}")
            return True

    notes: list[Any] = []
    dispatcher = Dispatcher()
    ref = dispatcher.start(Tough, notes)
    ref.tell(RuntimeError("x"))
    ref.tell(1)
    dispatcher.run()
    assert notes == ["start", "recovered from RuntimeError('x')", "1"]


def test_interrupt_goes_through() -> None:
    """KeyboardInterrupt isn't an actor's failure; the run can go on after it, and no mail is lost."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    ref = dispatcher.start(Echo, notes)
    ref.tell(KeyboardInterrupt())
    ref.tell(1)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.run()
    dispatcher.run()
    assert notes == ["start", "1"]


def test_spawning_from_a_handler() -> None:
    """A child belongs to its parent's dispatcher."""
    notes: list[Any] = []
    dispatcher = Dispatcher()
    parent = dispatcher.start(Echo, notes, "parent ")
    parent.tell(lambda: Echo.start(notes, "child ").tell("born"))
    dispatcher.run()
    assert notes == ["parent start", "child start", "child born"]
    assert len(dispatcher) == 2
    assert pykka.ActorRegistry.get_all() == []


def test_no_dispatcher() -> None:
    """It says what to do; inside of ``current`` there is one."""
    with pytest.raises(RuntimeError, match=r"Dispatcher\.start"):
        Echo.start([])
    dispatcher = Dispatcher()
    with dispatcher.current():
        Echo.start([])
    assert len(dispatcher) == 1


def test_run_within_run() -> None:
    """A handler can't drive the others."""
    notes: list[Any] = []
    dispatcher = Dispatcher()

    def nested() -> None:
        with pytest.raises(RuntimeError, match="running already"):
            dispatcher.run()
        notes.append("refused")

    dispatcher.start(Echo, []).tell(nested)
    dispatcher.run()
    assert notes == ["refused"]


def test_wake() -> None:
    """Once between two runs, and not for mail that the run itself delivers."""
    wakes: list[int] = []
    dispatcher = Dispatcher(lambda: wakes.append(1))
    ref = dispatcher.start(Echo, [])
    ref.tell(1)
    assert wakes == [1]
    ref.tell(lambda: ref.tell(2))
    dispatcher.run()
    assert wakes == [1]
    ref.tell(3)
    assert wakes == [1, 1]


def test_mail_from_threads() -> None:
    """Nothing is lost or doubled, and each thread's order is kept, while the dispatcher runs."""
    got: list[tuple[int, int]] = []
    woken = threading.Event()
    dispatcher = Dispatcher(woken.set)

    class Collect(EventLoopActor):
        def on_receive(self, message: tuple[int, int]) -> None:
            got.append(message)

    ref = dispatcher.start(Collect)

    def send(sender: int) -> None:
        for n in range(2000):
            ref.tell((sender, n))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    while len(got) < 8000:
        assert woken.wait(30)
        woken.clear()
        dispatcher.run()
    for thread in threads:
        thread.join()
    for sender in range(4):
        assert [n for s, n in got if s == sender] == list(range(2000))


async def test_awaiting_a_future() -> None:
    """``await`` really waits, for a value set here or in another thread; ``get`` never blocks."""
    dispatcher = Dispatcher()
    ref = dispatcher.start(Echo, [])
    answer = ref.ask("hello", block=False)
    waiting = asyncio.ensure_future(_wait(answer))
    await asyncio.sleep(0)
    assert not waiting.done()
    threading.Thread(target=dispatcher.run).start()
    assert await waiting == "hello"
    assert await answer == "hello"


async def test_a_waiter_may_give_up() -> None:
    """Cancelling who waits leaves the future as it is."""
    future: EventLoopFuture[int] = EventLoopFuture()
    waiting = asyncio.ensure_future(_wait(future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    future.set(1)
    assert await future == 1


async def _wait(future: Any) -> Any:
    return await future


def test_future_is_set_once() -> None:
    """A second value is a mistake; a mapped future follows its source."""
    future: EventLoopFuture[int] = EventLoopFuture()
    doubled = future.map(lambda value: value * 2)
    with pytest.raises(UnfinishedError):
        doubled.get()
    future.set(21)
    assert doubled.get() == 42
    with pytest.raises(RuntimeError, match="set already"):
        future.set(2)
    failed: EventLoopFuture[int] = EventLoopFuture()
    try:
        raise ValueError("why")
    except ValueError:
        failed.set_exception()
    with pytest.raises(ValueError, match="why"):
        failed.get()


def test_timers() -> None:
    """In time, then in the order they were set; cancelled ones never, and they are swept away."""
    fired: list[str] = []
    timers = Timers()
    timers.set(2.0, lambda: fired.append("c"))
    timers.set(1.0, lambda: fired.append("a"))
    timers.set(1.0, lambda: fired.append("b"))
    cancelled = timers.set(0.5, lambda: fired.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    assert (timers.next(), len(timers)) == (1.0, 3)
    _fire(timers, 1.5)
    assert (fired, timers.next()) == (["a", "b"], 2.0)
    for _ in range(1000):
        timers.set(100.0, lambda: None).cancel()
    assert timers.entry_count < 200
    _fire(timers, 3.0)
    assert (fired, timers.next(), len(timers)) == (["a", "b", "c"], None, 0)


def test_a_timer_that_is_due_again_at_once() -> None:
    """It is for the next call; else an interval that changes nothing would go on for ever."""
    fired: list[int] = []
    timers = Timers()

    def again() -> None:
        fired.append(len(fired))
        timers.set(1e18 + 60.0, again)

    timers.set(0.0, again)
    for count in (1, 2, 3):
        _fire(timers, 1e18)
        assert (len(fired), len(timers)) == (count, 1)


def _fire(timers: Timers, now: float) -> None:
    for action in timers.due(now):
        action()
