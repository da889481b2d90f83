"""What all tests share: the fixtures of a real Kafka broker, and which tests may run beside which."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import structlog

from spnhub.plain_text import SECRETS

# How long an example takes is a matter of the machine's load. Half as many as usual: --hypothesis-profile=more has ten
# times as many.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=50)
hypothesis.settings.register_profile("more", deadline=None, max_examples=500)
hypothesis.settings.load_profile("tests")

pytest_plugins = ["tests.support.kafka_fixtures", "tests.support.purity"]

# Whoever runs the tests in the background (nohup, a shell's &) ignores these, and every process inherits that.
for _number, _handler in (
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGINT, signal.default_int_handler),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


_URGENT: Final = ("kafka", "measured")
"""Markers of rows, of which no two tests run at once: they stop and kill a broker, or measure times and memory."""
_NICE: Final = os.nice(0)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Of all workers that begin at once, each imports other tests first.

    A fresh clone's tests have to be compiled with what pytest makes of their asserts, for 20 seconds. In the same order
    each worker would do all of it; so each finds what the others have done meanwhile.
    """
    config = session.config
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None or config.args != config.getini("testpaths"):
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"), key=lambda path: path.stat().st_size)
    for path in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        # What can't be imported is said when it is collected.
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(config.rootpath).with_suffix("").parts))


# Before xdist puts the groups into the names of tests, where its scheduler reads them.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers: the rows first, then what computes long, then all others."""
    if not config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    for item in items:
        if (row := _row(item)) is not None:
            item.add_marker(pytest.mark.xdist_group(row))
    items.sort(key=lambda item: (_row(item) is None, item.get_closest_marker("long") is None))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of collected tests live to the end: the garbage collector need not look at them again and again."""
    if hasattr(session.config, "workerinput") and session.config.getvalue("loadgroup"):
        for item in session.items:
            # Else tests that disturb each other run side by side, and nothing says so.
            assert _row(item) is None or "@" in item.nodeid, "pytest-xdist doesn't see the groups of tests"
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A worker that is through with its urgent row gives way to the workers that aren't.

    There is no way back to a higher priority, and none is needed: rows come first, and each worker begins with one.
    """
    if hasattr(item.config, "workerinput") and _row(item) not in _URGENT and os.nice(0) == _NICE:
        os.nice(5)


def _row(item: pytest.Item) -> str | None:
    for row in _URGENT:
        if item.get_closest_marker(row):
            return row
    if item.path.parent.name != "system":
        return None
    # Each starts processes of its own, for which a machine has two cores: files of either row, whichever.
    return f"system {1 + sum(item.path.name.encode()) % 2}"


@pytest.fixture(autouse=True)
def _logging_is_not_left_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Or a level that one test has set, and loggers that it has used first, would decide what the next ones see."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**settings | {"cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", uncached)
    yield
    if structlog.is_configured():
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _secrets_are_forgotten() -> Iterator[None]:
    """Or what is a token in one test would be hidden in the paths and words of the next ones."""
    yield
    SECRETS.clear()


@pytest.fixture(autouse=True)
def _signals_are_left_as_they_were() -> Iterator[None]:
    """Or the processes of later tests would inherit what one has ignored."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
