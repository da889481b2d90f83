"""What the tests of shipping share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spnhub.events.journal.journal import Journal
from tests.support.kafka_journal import open_journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal of this test's own."""
    with open_journal(tmp_path / "journal") as opened:
        yield opened
