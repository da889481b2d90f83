"""Every test here is a system test, has a world of its own, and may hold thousands of sockets."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session", autouse=True)
def many_sockets() -> Iterator[None]:
    """The soft limit of open files becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def engine() -> str:
    """What a world runs on: the native engine where it is built. A test with ``@on_both_engines`` runs on each."""
    return "auto"


@pytest.fixture
async def world(tmp_path: Path, engine: str) -> AsyncIterator[World]:
    """A world with the service ``web``."""
    async with World(tmp_path, engine=engine) as one:
        yield one
