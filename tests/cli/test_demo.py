"""``spnhub demo`` as a stranger meets it: it ends by itself, it can be used, and it leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from spnhub.demo.display import Display
from spnhub.demo.programs import DemoFailed, Programs
from spnhub.demo.story import DemoConversation, DemoStory
from spnhub.demo.traffic import Counted

pytestmark = pytest.mark.system

COMMAND = [sys.executable, "-c", "import sys; from spnhub.cli.start import hub as main; sys.exit(main())", "demo"]


class Demo:
    """The real command, and the processes that it was seen to have."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.children: set[psutil.Process] = set()

    def until(self, start: str) -> list[str]:
        """What it prints up to and with a line that begins like this."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            with suppress(psutil.NoSuchProcess):
                self.children.update(psutil.Process(self.process.pid).children(recursive=True))
            if line.strip().startswith(start):
                return lines
        raise AssertionError(f"no {start!r} in {''.join(lines)}")

    def end(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(60)


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator[Demo]:
    """Run it, its folder in ``folder``; whatever it leaves there or running is a failure."""
    # Settings of the person's own hubs and agents, and their proxies, must not reach those of the demo.
    confusing = {"SPNHUB_KAFKA": "none:1", "SPN_WEIGHT": "0", "BIND_ADDRESS": "x", "http_proxy": "http://127.0.0.1:9"}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=os.environ | confusing | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        running = Demo(process)
        try:
            yield running
            left = [child for child in running.children if child.is_running()]
            assert (left, list(folder.iterdir())) == ([], [])
        finally:
            process.kill()
            for child in running.children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def test_once(tmp_path: Path) -> None:
    """It ends with status 0, every result it prints was checked, and a pipe gets no colours."""
    with demo(tmp_path, "--once") as running:
        lines = running.until("All was as it should be")
        assert running.end() == 0
    checked = [line.strip() for line in lines if line.startswith("     ok ")]
    assert len(checked) == 8
    assert checked[-1] == "ok to the byte, what was counted at the TCP sockets is what the log says"
    kinds = [line.split()[3] for line in lines if line.startswith("     | ")]
    assert sorted(kinds) == sorted(
        4 * ["startSpnSession", "endSpnSession"]
        + 3 * ["startSpnConnection", "endSpnConnection"]
        + 2 * ["sessionRefused"]
        + ["hubStarted", "inventoryLoaded", "realmAdded", "networkAdded", "hubStopped"]
        + 2 * ["serviceAdded"]
    )
    assert "\x1b" not in "".join(lines)


@pytest.mark.prove
def test_the_persons_own_turn(tmp_path: Path) -> None:
    """It stays up for curl; Ctrl-C goes on to the end of the story, with status 0."""
    with demo(tmp_path) as running:
        shown = "".join(running.until(str(Path(sys.executable).with_name("spnlog"))))
        found = re.search(r"curl (http://127\.0\.0\.1:\d+/)\n.*# ([0-9a-f]{16})\.\.\.", shown)
        assert found is not None
        # The environment's proxies are not for the loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = opener.open(found[1], timeout=60).read()
        download = opener.open(f"{found[1]}download", timeout=60).read()
        assert page == b"Hello from a web server that listens on no network of yours.\n"
        assert hashlib.sha256(download).hexdigest()[:16] == found[2]
        running.process.send_signal(signal.SIGINT)
        rest = running.until("All was as it should be")
        assert running.end() == 0
    assert sum("CN=web-client: shutdown, 4 connections" in line for line in rest) == 1


def test_interrupted_early(tmp_path: Path) -> None:
    """In the middle of starting: status 1, and nothing is left."""
    with demo(tmp_path) as running:
        running.until("3. ")
        running.process.send_signal(signal.SIGTERM)
        running.until("Interrupted")
        assert running.end() == 1


def test_the_reader_goes_away(tmp_path: Path) -> None:
    """As with ``| head``: it ends with status 1, and nothing is left."""
    with demo(tmp_path) as running:
        running.until("2. ")
        assert running.process.stdout is not None
        running.process.stdout.close()
        assert running.end() == 1


async def test_a_program_that_fails_is_named() -> None:
    """With its status and what it said."""
    async with Programs() as programs:
        hub = await programs.start("the hub", "hub", "--datagram-size", "1")
        with pytest.raises(DemoFailed) as failure:
            await hub.line("hub.ready")
    assert str(failure.value) == (
        "the hub ended with status 2 before 'hub.ready': spnhub: --datagram-size: 1 is not between 1200 and 16383 bytes"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"totalSentBytes": 1, "totalReceiveBytes": 2, "disconnectReason": "closedByPeer"}, None),
        (
            {"totalSentBytes": 1, "totalReceiveBytes": 3, "disconnectReason": "closedByPeer"},
            "the log says 1 bytes sent, 3 received, closedByPeer of the page; counted were 1 and 2.",
        ),
        (
            {"totalSentBytes": 1, "totalReceiveBytes": 2, "disconnectReason": "error"},
            "the log says 1 bytes sent, 2 received, error of the page; counted were 1 and 2.",
        ),
    ],
)
async def test_a_log_that_differs_is_a_failure(tmp_path: Path, line: dict[str, object], said: str | None) -> None:
    """By one byte, or by the reason."""
    story = DemoStory(tmp_path, Programs(), Display())
    conversations = [DemoConversation("page", Counted(1, 2), "uid")]
    lines = [line | {"eventType": "endSpnConnection", "connectionUid": "uid"}]
    if said is None:
        story.compare(conversations, lines)
        return
    with pytest.raises(DemoFailed) as failure:
        story.compare(conversations, lines)
    assert str(failure.value) == said
