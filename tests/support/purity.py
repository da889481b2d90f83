"""``pytest --pure``: the tests that open no socket, start no process and don't compute long; what `make check` runs.

A test is pure unless it, its module or its folder is marked otherwise. One that isn't, and isn't marked, fails in every
run: `make test` finds what `make check` would stumble over.
"""

from __future__ import annotations

import functools
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any, Final

import croniter  # noqa: F401 # when first loaded it asks the command `file`; the product does that late
import pytest

__all__ = ["IMPURE"]

IMPURE: Final = ("prove", "kafka", "system", "outside", "long")
"""Markers (pyproject.toml)."""

# What an event loop is made of (a socket pair, an epoll) is no concern of these.
_EVENTS: Final = frozenset(
    ("socket.bind", "socket.connect", "socket.sendto", "subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """See the module."""
    parser.addoption("--pure", action="store_true", help="only tests without sockets and processes, held to that")


def pytest_configure(config: pytest.Config) -> None:
    """Watch, and leave out what is marked where that is asked for."""
    config.pluginmanager.register(_Watch(only=config.getoption("--pure")))


def _is_impure(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in IMPURE)


class _Watch:
    """Leaves out what is marked, and notices what should be."""

    def __init__(self, *, only: bool) -> None:
        self._only = only
        self._reached: list[str] = []
        self._thread = threading.get_ident()
        if only:
            sys.addaudithook(self._on_event)
        else:
            # An audit hook hears of all that the interpreter does, which costs a tenth of the time of all tests.
            for owner, name in ((socket.socket, "bind"), (socket.socket, "connect"), (subprocess.Popen, "__init__")):
                self._watch(owner, name)

    def _watch(self, owner: type, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*arguments: Any, **named: Any) -> Any:
            self._note(f"{owner.__name__}.{name}")
            return original(*arguments, **named)

        setattr(owner, name, watched)

    def _on_event(self, name: str, _args: tuple[object, ...]) -> None:
        if name in _EVENTS:
            self._note(name)

    def _note(self, name: str) -> None:
        # What a thread of an earlier test still does is no fault of this one.
        if threading.get_ident() == self._thread:
            self._reached.append(name)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if not self._only:
            return
        left_out = {item for item in items if _is_impure(item)}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None, None, None]:
        self._reached.clear()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        yield
        if self._reached and not _is_impure(item):
            pytest.fail(f"{', '.join(dict.fromkeys(self._reached))}: mark it `outside`, or do without")
