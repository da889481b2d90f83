"""The replay buffer against a plain byte string, its bounds, and what it costs."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.transport.endpoint.connection.replay import (
    QUICK,
    REPLAY_BASE,
    REPLAY_MAX,
    ReplayBudget,
    ReplayBuffer,
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40_000)),
        st.tuples(st.just("acknowledge"), st.floats(0, 1)),
        st.tuples(st.just("read"), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_model(steps: list[tuple[str, float]]) -> None:
    """Whatever is appended and acknowledged: the rest is there from every offset, and no more than the capacity."""
    buffer = ReplayBuffer(ReplayBudget(0))
    written = bytearray()
    for now, (what, value) in enumerate(steps):
        if what == "write":
            data = bytes((len(written) + i) % 251 for i in range(int(value)))[: buffer.room]
            buffer.append(data)
            written += data
        elif what == "acknowledge":
            buffer.acknowledge(buffer.start + int(value * buffer.held), float(now))
        else:
            offset = start = buffer.start + int(value * buffer.held)
            found = b""
            while piece := buffer.piece(offset):
                found += piece
                offset += len(piece)
            assert found == written[start:]
        assert buffer.end == len(written)
        assert buffer.held + buffer.room == buffer.capacity == REPLAY_BASE


def _fill(buffer: ReplayBuffer) -> None:
    """Write until it takes no more."""
    while buffer.room:
        buffer.append(bytes(min(buffer.room, 65_536)))
    buffer.full()


def _round(buffer: ReplayBuffer, now: float) -> None:
    """A full buffer, all acknowledged at ``now``."""
    _fill(buffer)
    buffer.acknowledge(buffer.end, now)


def test_growth() -> None:
    """Doubled for each full buffer that is quickly acknowledged, up to the limit; given back when it shrinks."""
    budget = ReplayBudget()
    buffer = ReplayBuffer(budget)
    _round(buffer, 0.0)
    capacities = []
    for now in range(1, 8):
        _round(buffer, now * QUICK / 2)
        capacities.append(buffer.capacity)
    assert capacities == [2 * REPLAY_BASE, 4 * REPLAY_BASE, 8 * REPLAY_BASE] + [REPLAY_MAX] * 4
    assert budget.used == REPLAY_MAX - REPLAY_BASE
    buffer.shrink()
    assert (buffer.capacity, budget.used) == (REPLAY_BASE, 0)


def test_no_growth_for_a_slow_reader_or_a_slow_writer() -> None:
    """More room would only hold more."""
    slow = ReplayBuffer(ReplayBudget())
    for now in range(10):
        _round(slow, now * QUICK * 1.1)
    assert not slow.grown
    never_full = ReplayBuffer(ReplayBudget())
    for now in range(1000):
        never_full.append(bytes(REPLAY_BASE // 2))
        never_full.acknowledge(never_full.end, now * 0.001)
    assert not never_full.grown


def test_budget_is_shared() -> None:
    """All growth together stays within it; what one gives back another may have."""
    budget = ReplayBudget(3 * REPLAY_BASE)
    buffers = [ReplayBuffer(budget) for _ in range(5)]
    for now in range(5):
        for buffer in buffers:
            _round(buffer, now * 0.01)
        assert budget.used == sum(buffer.capacity - REPLAY_BASE for buffer in buffers) <= budget.limit
    assert budget.used == budget.limit
    for buffer in buffers:
        buffer.close()
    assert budget.used == 0


def test_shrink_while_it_holds_more_than_the_base() -> None:
    """There is no room until that is acknowledged; nothing is lost."""
    buffer = ReplayBuffer(ReplayBudget())
    _round(buffer, 0.0)
    _round(buffer, 0.1)
    _fill(buffer)
    buffer.shrink()
    assert (buffer.held, buffer.room) == (2 * REPLAY_BASE, 0)
    buffer.acknowledge(buffer.start + REPLAY_BASE + 10, 0.2)
    assert buffer.room == 10


@pytest.mark.parametrize("limit", [65_536, REPLAY_BASE, 1_000_000])
def test_limit(limit: int) -> None:
    """A limit below the base counts from the beginning."""
    buffer = ReplayBuffer(ReplayBudget(), limit)
    for now in range(10):
        _round(buffer, now * 0.01)
    assert buffer.capacity == limit


@pytest.mark.parametrize("size", [1, 100, 5_000, 16_000, 65_536])
def test_memory(size: int) -> None:
    """What a full buffer costs is what it holds, and a quarter; also when a program writes byte by byte."""
    buffer = ReplayBuffer(ReplayBudget(0))
    pieces = itertools.count()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        while buffer.room:
            # The last byte differs, so that every piece is an object of its own.
            buffer.append(bytes(min(size, buffer.room) - 1) + next(pieces).to_bytes(8, "big")[-1:])
        cost = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert buffer.held == REPLAY_BASE <= cost <= 1.25 * REPLAY_BASE
