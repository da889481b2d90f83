"""``spnlog`` as a filter among others: it waits for its reader, ends with it, and says why it can't write."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pty
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from spnhub.events.analysis.log_lines import event_line
from tests.events.samples import day, session_refused, write_journal
from tests.support.command import BIN, environment

pytestmark = pytest.mark.system

_PROGRAM = str(BIN / "spnlog")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes descriptors."""
    with ExitStack() as one:
        yield one


async def start(
    *arguments: str, stdout: int = asyncio.subprocess.PIPE, env: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """The program, with an output of the test's own."""
    return await asyncio.create_subprocess_exec(
        _PROGRAM, *arguments, stdout=stdout, stderr=asyncio.subprocess.PIPE, env=environment(env or {})
    )


async def shell(text: str, env: Mapping[str, str] | None = None) -> tuple[int | None, bytes, bytes]:
    """A shell's command, in which ``spnlog`` is the program."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'spnlog() {{ "{_PROGRAM}" "$@"; }}; {text}'),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(env or {}),
    )
    out, err = await process.communicate()
    return process.returncode, out, err


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_slow_reader_loses_nothing(tmp_path: Path, stack: ExitStack, blocking: bool) -> None:
    """Whoever made the pipe non-blocking: all lines come, whole and in order."""
    written = write_journal(tmp_path, day() * 100)
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    process = await start("replay", "--all", str(tmp_path), stdout=writer)
    os.close(writer)

    def read_slowly() -> list[str]:
        # Not at all, until the program waits; then little by little.
        with os.fdopen(reader, "rb") as file:
            wait_until_asleep(process.pid)
            return file.read().decode().splitlines()

    lines = await asyncio.to_thread(read_slowly)
    assert await process.wait() == 0
    assert [json.loads(line) for line in lines] == [event_line(recorded) for recorded in written]
    assert process.stderr is not None and await process.stderr.read() == b""


def wait_until_asleep(pid: int) -> None:
    """Until a process has waited for a while: it has no more CPU time than before."""
    before = -1
    while True:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent = int(fields[11]) + int(fields[12])
        if spent == before and spent > 20:
            return
        before = spent
        signal.sigtimedwait([], 0.3)


@pytest.mark.parametrize(
    ("command", "redirection", "reason"),
    [
        *((one, "> /dev/full", errno.ENOSPC) for one in ("replay", "metrics", "state --at 3")),
        *(
            pytest.param(one, "> /dev/full", errno.ENOSPC, marks=pytest.mark.prove)
            for one in ("verify", "metrics --json")
        ),
        ("replay", "1< /dev/null", errno.EBADF),
    ],
)
async def test_an_output_that_fails(tmp_path: Path, command: str, redirection: str, reason: int) -> None:
    """One line with the reason, and status 2."""
    write_journal(tmp_path, day() * 20)
    assert await shell(f"spnlog {command} {tmp_path} {redirection}") == (
        2,
        b"",
        f"spnlog: standard output: {os.strerror(reason)}\n".encode(),
    )


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
async def test_closed_streams(tmp_path: Path, redirection: str) -> None:
    """Nobody wants to read: the status is told all the same."""
    write_journal(tmp_path / "good", day())
    write_journal(tmp_path / "bad", day()[3:])
    for folder, status in (("good", 0), ("bad", 1)):
        got = await shell(f"spnlog verify {tmp_path / folder} {redirection}")
        assert (got[0], got[2]) == (status, b"")


async def test_a_reader_that_leaves(tmp_path: Path) -> None:
    """Quietly, with the status that it has anyway: a verdict stays one."""
    write_journal(tmp_path / "good", day() * 100)
    write_journal(tmp_path / "bad", day()[3:])
    assert await shell(f"spnlog replay --all {tmp_path / 'good'} | true; echo ${{PIPESTATUS[0]}}") == (0, b"0\n", b"")
    assert await shell(f"spnlog verify {tmp_path / 'bad'} | true; echo ${{PIPESTATUS[0]}}") == (0, b"1\n", b"")
    assert await shell(f"spnlog metrics {tmp_path / 'good'} | true; echo ${{PIPESTATUS[0]}}") == (0, b"0\n", b"")


async def test_an_interrupt_while_nobody_reads(tmp_path: Path) -> None:
    """Ctrl-C ends it, though its pipe is full."""
    write_journal(tmp_path, day() * 300)
    reader, writer = os.pipe()
    process = await start("replay", "--all", str(tmp_path), stdout=writer)
    os.close(writer)
    await asyncio.to_thread(wait_until_asleep, process.pid)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        assert await process.wait() == 0
    os.close(reader)
    assert process.stderr is not None and await process.stderr.read() == b""


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        pytest.param({"PYTHONIOENCODING": "latin-1"}, marks=pytest.mark.prove),
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        pytest.param({"LC_ALL": "POSIX"}, marks=pytest.mark.prove),
    ],
    ids=["ascii", "latin-1", "C", "POSIX"],
)
async def test_what_cannot_be_printed_is_escaped(tmp_path: Path, env: Mapping[str, str]) -> None:
    """On a terminal, in tables and in lines; control characters, too, which would drive it."""
    told = replace(session_refused(), reason="日本 \x1b[31mred\x07")
    write_journal(tmp_path, [*day(), told])
    for arguments in (("tail", "--all", "--last", "50"), ("metrics",), ("explain", "c1")):
        ours, theirs = pty.openpty()
        process = await start(*arguments, str(tmp_path), stdout=theirs, env={**env, "TERM": "dumb"})
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # the end, of a terminal
            while b"31mred" not in seen:
                seen += await asyncio.to_thread(os.read, ours, 4096)
        if arguments[0] == "tail":
            process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, process.stderr and await process.stderr.read()
        assert process.stderr is not None and await process.stderr.read() == b""
        os.close(ours)
        assert b"\x1b[31m" not in seen and b"\x07" not in seen
        if arguments[0] == "tail":
            assert b"\\x1b[31mred\\x07" in seen
            assert (b"\\u65e5" in seen) or ("日".encode() in seen)
