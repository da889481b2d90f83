"""Names of servers: who shares a look-up, how long an answer holds, and what is used while nobody answers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from spnhub.transport.system import names
from spnhub.transport.system.ip import socket_address
from spnhub.transport.system.name_lookup import NameAnswer, NoAddress
from spnhub.transport.system.names import FAILURE_TTL, LONGEST_TTL, MOST_NAMES, STALE, LookupFailed, NameCache

A, B = "10.0.0.1", "10.0.0.2"


class Bench:
    """Names whose clock and resolver are in the test's hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.answer: NameAnswer | Exception = NameAnswer((A,), 60.0, ordered=True)
        self.open = asyncio.Event()
        """Whether it answers."""
        self.open.set()
        self.names = NameCache(self._ask, lambda: self.now)

    async def _ask(self, host: str) -> NameAnswer:
        self.asked.append(host)
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def find(self, later: float = 0.0) -> tuple[str, ...]:
        self.now += later
        return await self.names.find("db.test")

    async def settle(self) -> None:
        """Let what goes on beside come to its end."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_all_who_wait_share_one_look_up(bench: Bench) -> None:
    """Also those who come while it is under way; and who gives up takes it from nobody."""
    bench.open.clear()
    waiting = [asyncio.ensure_future(bench.find()) for _ in range(120)]
    await bench.settle()
    waiting[0].cancel()
    bench.open.set()
    assert await asyncio.gather(*waiting[1:]) == [(A,)] * 119
    assert bench.asked == ["db.test"]


async def test_names_do_not_wait_for_each_other(bench: Bench) -> None:
    """A slow one keeps only those who want it."""
    bench.open.clear()
    slow = asyncio.ensure_future(bench.find())
    await bench.settle()
    bench.open.set()
    assert await bench.names.find("other.test") == (A,)
    await slow


@pytest.mark.parametrize(("ttl", "holds"), [(60.0, 60.0), (0.0, 1.0), (1e9, LONGEST_TTL)])
async def test_an_answer_holds_for_its_ttl(bench: Bench, ttl: float, holds: float) -> None:
    """Within bounds; then the next one who asks waits for a new one."""
    bench.answer = NameAnswer((A,), ttl, ordered=True)
    await bench.find()
    bench.answer = NameAnswer((B,), ttl, ordered=True)
    assert await bench.find(holds * 0.7) == (A,)
    assert len(bench.asked) == 1
    assert await bench.find(holds * 0.3) == (B,)
    assert len(bench.asked) == 2


async def test_an_answer_is_renewed_before_it_is_over(bench: Bench) -> None:
    """In its last quarter, by whoever uses it; nobody waits, and a slow resolver costs nobody anything."""
    await bench.find()
    bench.answer = NameAnswer((B,), 60.0, ordered=True)
    bench.open.clear()
    assert [await bench.find(50), await bench.find(5)] == [(A,), (A,)]
    bench.open.set()
    await bench.settle()
    assert await bench.find() == (B,)
    assert len(bench.asked) == 2


async def test_what_was_right_is_used_while_nobody_answers(bench: Bench) -> None:
    """It is told once, and so is that it is over; nobody waits for a resolver that has just failed."""
    await bench.find()
    bench.answer = LookupFailed("SERVFAIL")
    with capture_logs() as lines:
        for _ in range(20):
            assert await bench.find(50) == (A,)
            await bench.settle()
        bench.open.clear()
        assert await bench.find(50) == (A,)
        bench.answer = NameAnswer((B,), 60.0, ordered=True)
        bench.open.set()
        await bench.settle()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("name.failed", "warning"),
        ("name.found", "info"),
    ]
    assert await bench.find() == (B,)
    bench.answer = LookupFailed("SERVFAIL")
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        for _ in range(2):
            await bench.find(STALE + 60)
            await bench.settle()


async def test_a_silent_resolver_is_not_waited_for_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an old answer a moment, without one its bound."""
    monkeypatch.setattr(names, "STALE_AFTER", 0.01)
    monkeypatch.setattr(names, "LOOKUP_BOUND", 0.05)
    await bench.find()
    bench.open.clear()
    assert await bench.find(61) == (A,)
    with pytest.raises(LookupFailed, match=r"no answer within 0\.05 s"):
        await bench.names.find("other.test")


async def test_none_there_is_an_answer(bench: Bench) -> None:
    """It takes the old addresses away, and holds for a moment only."""
    await bench.find()
    bench.answer = NoAddress("db.test has no address")
    for _ in range(5):
        with pytest.raises(NoAddress, match="no address"):
            await bench.find(61 if len(bench.asked) == 1 else 0)
    assert len(bench.asked) == 2
    bench.answer = NameAnswer((B,), 60.0, ordered=True)
    assert await bench.find(FAILURE_TTL) == (B,)


async def test_a_failing_name_is_not_asked_for_at_every_turn(bench: Bench) -> None:
    """Once a second; a fault of the resolver's own is a failure like others."""
    bench.answer = ValueError("what is this?")
    with capture_logs():
        for _ in range(10):
            with pytest.raises(LookupFailed, match="what is this"):
                await bench.find(FAILURE_TTL / 4)
    assert len(bench.asked) == 3


async def test_addresses_take_turns(bench: Bench) -> None:
    """Those of a record set, which has no order; the system's order stays."""
    bench.answer = NameAnswer((A, B), 60.0, ordered=False)
    assert {await bench.find(), await bench.find()} == {(A, B), (B, A)}
    bench.answer = NameAnswer((A, B), 60.0, ordered=True)
    assert {await bench.find(61), await bench.find()} == {(A, B)}


async def test_none_of_the_addresses_answers(bench: Bench) -> None:
    """Then others may be there before the time is over; what was just looked up isn't again."""
    assert await bench.find() == (A,)
    bench.answer = NameAnswer((B,), 60.0, ordered=True)
    assert await bench.names.renew("db.test", (A,)) == ()
    bench.now += 2
    assert await bench.names.renew("db.test", (A,)) == (B,)
    assert await bench.names.renew("db.test", (B,)) == ()
    assert len(bench.asked) == 2


async def test_memory_is_bounded(bench: Bench) -> None:
    """What was not used for longest is forgotten."""
    for number in range(2 * MOST_NAMES):
        await bench.names.find(f"{number}.test")
        await bench.find()
    assert bench.names.remembered == MOST_NAMES
    assert bench.asked.count("db.test") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%lo", "127.1", "2001:DB8:0::1"])
async def test_an_address_is_never_looked_up(bench: Bench, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a thread nor the system is needed for it."""

    def none(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked")

    monkeypatch.setattr("threading.Thread.start", none)
    monkeypatch.setattr(socket, "getaddrinfo", none)
    (found,) = await bench.names.find(host)
    assert socket_address(found, 80)[1][1] == 80
    assert await bench.names.renew(host, (found,)) == ()
    assert bench.asked == []


async def test_closing_ends_look_ups(bench: Bench) -> None:
    """Who waits is told."""
    bench.open.clear()
    waiting = asyncio.ensure_future(bench.find())
    await bench.settle()
    bench.names.close()
    with pytest.raises(LookupFailed, match="given up"):
        await waiting


async def test_the_system_is_asked() -> None:
    """Names without a resolver of one's own."""
    found = await NameCache().find("localhost")
    assert set(found) <= {"127.0.0.1", "::1"}
    assert socket.getaddrinfo(found[0], 80)
