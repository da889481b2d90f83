"""A stranger's first hour takes less than a minute, the install aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nights.stranger import hour
from tests.system.sizes import report


@pytest.mark.system
@pytest.mark.measured
@pytest.mark.prove
@pytest.mark.timeout(300)
def test_hour(tmp_path: Path) -> None:
    """Each step works as it is typed."""
    steps = hour(tmp_path, install=False)
    report(**{what: round(seconds, 1) for what, seconds in steps})
    assert sum(seconds for _, seconds in steps) < 60
