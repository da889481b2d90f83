"""When to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.clusters.backoff import Backoff, RateLimit


def test_delays_double_up_to_the_maximum() -> None:
    """Without jitter delays double, stop growing at the maximum, and end with the last attempt."""
    backoff = Backoff(initial=1, factor=2, maximum=5, jitter=0, attempts=6)
    assert [backoff.delay(attempt, 0.7) for attempt in range(1, 8)] == [1, 2, 4, 5, 5, None, None]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 1))
def test_jitter_only_shortens(attempt: int, fraction: float, jitter: float) -> None:
    """Chance decides no more than its share of a delay, however many attempts there were."""
    delay = Backoff(jitter=jitter, attempts=100_000).delay(attempt, fraction)
    whole = Backoff(jitter=0, attempts=100_000).delay(attempt, 0)
    assert delay is not None
    assert whole is not None
    assert whole * (1 - jitter) <= delay <= whole <= 30


@pytest.mark.parametrize("fault", [{"initial": -1}, {"initial": 40}, {"factor": 0.5}, {"jitter": 2}, {"attempts": 0}])
def test_faulty_settings(fault: dict[str, float]) -> None:
    """Settings that make no sense are refused."""
    with pytest.raises(ValueError, match="not a backoff"):
        Backoff(**fault)  # type: ignore[arg-type]


def test_rate_limit() -> None:
    """The first is allowed at once, the next when the interval is over."""
    limit = RateLimit(10)
    assert [limit.wait(None, 5), limit.wait(5, 5), limit.wait(5, 12), limit.wait(5, 15), limit.wait(5, 99)] == [
        0,
        10,
        3,
        0,
        0,
    ]
