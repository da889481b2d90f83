"""Examples of README.md and of the pages under docs/ work as they stand there, from an empty folder on.

``tests/docs/pages.py`` says how they are marked. Other ports are put in place of theirs, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spnhub.demo.site import free_port
from tests.docs.pages import PAGES, Block, blocks, continued, fenced, name

PORTS = {"4433": socket.SOCK_DGRAM, "8000": socket.SOCK_STREAM, "9000": socket.SOCK_STREAM}
BOUND = 60.0
"""Seconds for one block."""


def _walk(page: str, until: str = "") -> Iterator[Block]:
    """The blocks of a page, with those of the pages that it goes on from."""
    before, where = continued()[page]
    if before:
        yield from _walk(before, where)
    for block in blocks(page):
        yield block
        if until and block.verb == "start" and block.argument == until:
            return


def _following(page: str) -> Iterator[str]:
    """Pages that go on from the end of this one, each behind the one it goes on from."""
    for other, (before, until) in continued().items():
        if before == page and not until:
            yield other
            yield from _following(other)


def _walks() -> dict[str, list[Block]]:
    """What is run in one folder, by the page that it begins with: pages that go on from the same one share it."""
    begins = [page for page, (before, until) in continued().items() if not before or until]
    return {page: [*_walk(page), *(one for other in _following(page) for one in blocks(other))] for page in begins}


WALKS = _walks()


class Terminal:
    """Runs blocks in one folder, with nothing of our settings in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {port: str(free_port(kind)) for port, kind in PORTS.items()}
        self._processes: list[asyncio.subprocess.Process] = []
        self._printed = ""
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SPN") and name not in {"BIND_ADDRESS", "FORWARD_ADDRESS"}
        }
        self._environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

    async def do(self, block: Block) -> None:
        """What the mark says."""
        text = re.sub(r"\b(?:4433|8000|9000)\b", lambda port: self._ports[port[0]], block.text)
        where = f"{block.page}: {block.text}"
        match block.verb:
            case "file":
                (self.folder / block.argument).write_text(text)
            case "run":
                process, output = await self._start(text)
                try:
                    status = await asyncio.wait_for(process.wait(), BOUND)
                except TimeoutError:
                    pytest.fail(f"has not ended: {where}{output.read_text()}{output.with_suffix('.err').read_text()}")
                self._printed = output.read_text()
                assert status == 0, f"status {status} of {where}{self._printed}{output.with_suffix('.err').read_text()}"
            case "prints":
                assert self._printed == text, where
            case "start":
                process, output = await self._start(text)
                async with asyncio.timeout(BOUND):
                    while block.argument not in output.read_text():
                        errors = output.with_suffix(".err").read_text()
                        assert process.returncode is None, f"{where} has ended: {output.read_text()}{errors}"
                        # A file tells nobody that it has grown.
                        await asyncio.sleep(0.05)
            case verb:
                pytest.fail(f"{block.page}: no test knows what {verb} means")

    async def _start(self, text: str) -> tuple[asyncio.subprocess.Process, Path]:
        """Run it, in a process group of its own; its outputs go to files, which whatever it leaves running may keep."""
        output = self.folder / f".block-{len(self._processes)}.out"
        with output.open("wb") as stdout, output.with_suffix(".err").open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-euo", "pipefail", "-c", text),
                cwd=self.folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self._processes.append(process)
        return process, output

    async def close(self) -> None:
        """End everything that was left running."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.system
@pytest.mark.timeout(240)
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples use curl and jq")
@pytest.mark.parametrize("page", WALKS)
async def test_examples(page: str, tmp_path: Path) -> None:
    """From nothing to what the pages promise."""
    terminal = Terminal(tmp_path)
    try:
        for block in WALKS[page]:
            await terminal.do(block)
    finally:
        await terminal.close()


def test_every_page_is_walked() -> None:
    """No marked block is left out, and README is among them."""
    walked = {block.page for walk in WALKS.values() for block in walk}
    assert walked == set(continued())
    assert "README.md" in walked


def test_every_program_is_an_example() -> None:
    """There is no Python on a page that isn't run."""
    assert [
        name(page) for page in PAGES for language, _, marked in fenced(page) if language == "python" and not marked
    ] == []
