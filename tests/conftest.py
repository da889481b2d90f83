"""What all tests share: the fixtures of a real Kafka broker, and which tests may run beside which."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.support.kafka_fixtures"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers: the tests of real processes in one row, those of the broker in another, and both first.

    The first measure times and memory, the second stop and kill what they share.
    """
    if not config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    for item in items:
        group = next((name for name in ("kafka", "system") if item.get_closest_marker(name)), None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not (item.get_closest_marker("system") or item.get_closest_marker("kafka")))
