"""A slice of each harness: what was kept, and changed inputs of a fixed seed; ``make prove`` goes on for long."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from typing import Final

import pytest

from tests.fuzz.mutation import mutations
from tests.fuzz.table import HARNESSES

pytestmark = [
    pytest.mark.outside,
    # Libraries warn of what they are given, and here they are given anything.
    pytest.mark.filterwarnings("ignore"),
]

SECONDS: Final = float(os.environ.get("FUZZ", "30"))
"""For each harness in ``make prove``."""


@pytest.mark.parametrize("name", HARNESSES)
def test_slice(name: str) -> None:
    """Nothing but what it documents is raised, and no input takes long or much memory. Good inputs are taken."""
    harness = HARNESSES[name]
    taken = sum(harness.take(data) for data in harness.corpus)
    assert taken > 0, "the seeds are not what it takes"
    for data in islice(mutations(harness.corpus, harness.words, 1), harness.slice):
        harness.take(data)


def test_a_seed_gives_the_same_inputs() -> None:
    """So that what a run has found is found again."""
    seeds = [b'{"a": [1, 2]}\n', b"\x00\x01binary"]
    one, other = (list(islice(mutations(seeds, [b"word"], 7), 200)) for _ in range(2))
    assert one == other
    assert len(set(one)) > 150


@pytest.mark.prove
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", HARNESSES)
def test_for_long(name: str) -> None:
    """``FUZZ=600 make prove``: seconds for each, half of them led by coverage where atheris is installed."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS), "--seed", str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
