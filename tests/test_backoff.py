"""The one formula for pauses between attempts."""

from __future__ import annotations

import pytest

from spnhub.backoff import Backoff, backoff


@pytest.mark.parametrize(("failed", "longest"), [(0, 0.25), (1, 0.5), (4, 4.0), (6, 8.0), (100_000, 8.0)])
def test_doubles_up_to_the_cap(failed: int, longest: float) -> None:
    """Up to half of it is taken off at random, and never more."""
    assert backoff(0.25, 8.0, failed, lambda: 0.0) == longest
    assert backoff(0.25, 8.0, failed, lambda: 0.5) == longest * 0.75
    assert all(longest / 2 < backoff(0.25, 8.0, failed) <= longest for _ in range(100))


def test_a_loop_counts_its_failures() -> None:
    """Each pause is longer than the one before; after a reset it is as short as the first."""
    pauses = Backoff(1.0, 4.0)
    for longest in (1.0, 2.0, 4.0, 4.0):
        assert longest / 2 < pauses.next() <= longest
    assert pauses.failed == 4
    pauses.reset()
    assert pauses.next() <= 1.0
    assert pauses.failed == 1
