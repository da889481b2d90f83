"""Each program of ``examples/`` does what it says, all of them on one hub."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Site

EXAMPLES = Path(__file__).parents[2] / "examples"
PROVIDERS = ("echo_server", "web_app", "forward_tcp", "own_protocol", "choosy_provider")
"""One for each service."""
CONSUMERS = {
    "echo_client": [(0, "HELLO\n"), (2, "by TCP: hello\n"), (3, "olleh\n")],
    "local_address": [(0, "OVER A LOCAL ADDRESS\n")],
    "watch_changes": [(0, "a session with h1\nconnected to CN=provider\n")],
    "web_client": [(1, "20 answers; POST by CN=consumer: call 19\n404\n")],
    "refused_consumer": [(4, "NOT_ALLOWED: CN=consumer is not on the list\n")],
}
"""For which service, and what each prints."""


def main_of(name: str) -> Coroutine[Any, Any, None]:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    work: Coroutine[Any, Any, None] = module.main()
    return work


def test_none_is_left_out() -> None:
    """Ten of them."""
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted([*PROVIDERS, *CONSUMERS])


@pytest.mark.system
async def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Providers first, then the consumers, one after the other."""
    site = Site(tmp_path)
    hub = await site.hub()

    def enter(service: int, role: str) -> None:
        site.service = service
        for name, value in site.environment(role).items():
            monkeypatch.setenv(name, value)

    serving = []
    try:
        for service, name in enumerate(PROVIDERS):
            enter(service, "provider")
            before = len(hub.lines)
            serving.append(asyncio.ensure_future(main_of(name)))
            # By then it has read its environment.
            await asyncio.wait_for(hub.line("startSpnSession", after=before), 60)
        for name, uses in CONSUMERS.items():
            for service, printed in uses:
                enter(service, "consumer")
                capsys.readouterr()
                await asyncio.wait_for(main_of(name), 60)
                assert capsys.readouterr().out == printed, (name, service)
        assert [task.result() for task in serving if task.done()] == []
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await site.close()
