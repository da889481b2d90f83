"""The verdict of a soak, on numbers of our own; and the soak itself in ``make prove`` (``SOAK``: seconds)."""

from __future__ import annotations

import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.soak.plot import draw
from tests.soak.samples import Series, judge


def series(quantity: str, grows: float) -> Series:
    """A hundred samples; so much more with each."""
    return Series("hub", quantity, [(float(at), 100 + at * grows) for at in range(100)])


def test_verdicts() -> None:
    """What grows steadily is told, noise and what was filled in the beginning aren't."""
    for quantity, grows, flat in (
        ("rss", 0.0, True),
        ("rss", 0.1, True),
        ("rss", 1.0, False),
        ("descriptors", 0.0, True),
        ("descriptors", 0.5, False),
        ("threads", 0.1, False),
    ):
        (verdict,) = judge([series(quantity, grows)], 100)
        assert verdict.flat is flat, verdict
    early = Series("hub", "rss", [(float(at), min(at * 20.0, 200.0)) for at in range(100)])
    assert [one.flat for one in judge([early], 100)] == [True]
    assert judge([Series("hub", "rss", [(1.0, 1.0)])], 100) == []


def test_the_plot_is_an_image() -> None:
    """With a line for each series."""
    text = draw("a <title>", [series("rss", 1), series("threads", 0)], [(5.0, "kill & start")], 100)
    root = ElementTree.fromstring(text)
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 2


@pytest.mark.prove
@pytest.mark.system
@pytest.mark.measured
@pytest.mark.timeout(0)
def test_soak() -> None:
    """Everything stays flat."""
    seconds = os.environ.get("SOAK", "1200")
    command = [sys.executable, "-m", "tests.soak", "--seconds", seconds]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
