"""The order of a hub's events from several partitions: pure."""

from __future__ import annotations

import random
import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.events.kafka.merge import Item, Merger
from spnhub.events.model import ConnectionRefused, Recorded

_JOURNAL = uuid.UUID(int=1)
_EVENT = ConnectionRefused(
    realm=None, network_urn=None, consumer_side_spn_session_id="", service_urn="", connection_uid="", code=1
)


def item(sequence: int, hub: str = "hub-1") -> Item:
    """An event with a place and nothing else."""
    return f"{hub}/{sequence}".encode(), Recorded(hub, _JOURNAL, sequence, sequence, _EVENT)


def sequences(items: list[Item]) -> list[int]:
    """Their places."""
    return [recorded.sequence for _, recorded in items]


def test_continuing_goes_out_at_once() -> None:
    """What continues the sequence waits for no other partition."""
    merger = Merger([0, 1])
    assert sequences(list(merger.add(0, item(1)))) == [1]
    assert sequences(list(merger.add(0, item(3)))) == []
    assert sequences(list(merger.add(1, item(2)))) == [2, 3]


def test_redelivery_goes_out_when_it_comes() -> None:
    """Readers count redeliveries, so none is swallowed."""
    merger = Merger([0])
    out = [ready for each in (1, 2, 1, 2, 3) for ready in merger.add(0, item(each))]
    assert sequences(out) == [1, 2, 1, 2, 3]


def test_missing_head() -> None:
    """A log whose head was deleted begins when every partition has shown that nothing comes before."""
    merger = Merger([0, 1])
    assert sequences(list(merger.add(0, item(7)))) == []
    assert sequences(list(merger.add(1, item(9)))) == [7]
    assert sequences(list(merger.finish(0))) == [9]


def test_gap_is_proven() -> None:
    """A declared gap holds nothing back once every partition is beyond it."""
    merger = Merger([0, 1])
    out = [*merger.add(0, item(1)), *merger.add(0, item(5))]
    assert sequences(out) == [1]
    assert sequences(list(merger.add(1, item(6)))) == [5, 6]


def test_held_back_is_bounded() -> None:
    """Beyond the limit a gap is taken for one, and what fills it later goes out late."""
    merger = Merger([0, 1], held_limit=3)
    out = [ready for each in (2, 3, 4, 5) for ready in merger.add(0, item(each))]
    assert sequences(out) == [2, 3, 4, 5]
    assert sequences(list(merger.add(1, item(1)))) == [1]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.sets(st.integers(1, 60)), st.randoms(use_true_random=False))
def test_any_interleaving(count: int, partitions: int, missing: set[int], chance: random.Random) -> None:
    """Two hubs, any split over partitions, any interleaving, gaps anywhere: each hub in order, nothing lost."""
    queues: dict[int, list[Item]] = {number: [] for number in range(partitions)}
    for hub in ("a", "b"):
        for sequence in range(1, count + 1):
            if sequence not in missing:
                queues[chance.randrange(partitions)].append(item(sequence, hub))
    merger = Merger(queues)
    out: list[Item] = []
    while queues:
        number = chance.choice(list(queues))
        if queues[number]:
            out += merger.add(number, queues[number].pop(0))
        else:
            del queues[number]
            out += merger.finish(number)
    expected = [sequence for sequence in range(1, count + 1) if sequence not in missing]
    for hub in ("a", "b"):
        assert sequences([each for each in out if each[1].hub_id == hub]) == expected
    assert merger.held == 0
