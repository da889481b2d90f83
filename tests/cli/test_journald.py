"""Entries in systemd's journal: found by their fields, within the bounds of lines, and lines while it is gone."""

from __future__ import annotations

import array
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from spnhub.journald import FIELDS, VALUE, VALUES, JournaldEntry, JournaldSocket
from spnhub.output import Output

pytestmark = pytest.mark.outside

Fields = dict[str, list[str]]

PATIENCE: Final = 20.0
JOURNALD: Final = Path("/lib/systemd/systemd-journald")

PROGRAM: Final = """
import logging as library, os, sys
import structlog
from spnhub import journald, logging, streams
if len(sys.argv) > 3:
    journald.ADDRESS = sys.argv[3]
found = os.fstat(1)
os.environ["JOURNAL_STREAM"] = sys.argv[2] or f"{found.st_dev}:{found.st_ino}"
streams.prepare()
logging.configure("info", sys.argv[1] or None)
log = structlog.get_logger()
log.info("connectionPaused", realm="acme", serviceUrn="urn:spn:acme:n:s", spnSessionId="abc", hub_id="hub-1", code=18,
         none=None, timestamp="2020-01-01T00:00:00.000001Z", reason="two\\nlines", password="hunter2",
         key="-----BEGIN PRIVATE KEY-----\\nMIIB\\n-----END PRIVATE KEY-----")
log.warning("large", realm="acme", text=1_000_000 * "x")
try:
    raise ValueError("bad")
except ValueError:
    log.exception("failed", realm="other")
library.getLogger("library").warning("of a library")
log.debug("unheard")
logging.close()
"""


def parsed(data: bytes) -> Fields:
    """The fields of an entry; systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    fields: Fields = {}
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[8 + size :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields.setdefault(name.decode(), []).append(value.decode())
        data = rest
    return fields


class Receiver:
    """The journal's end of its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = 0
        """Entries that came as files."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE)

    def read(self) -> Fields:
        """The next entry."""
        data, ancillary, flags, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        assert not flags & socket.MSG_TRUNC
        if not ancillary:
            return parsed(data)
        assert not data
        ((level, kind, passed),) = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        (descriptor,) = array.array("i", passed)
        self.files += 1
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) == seals
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            return parsed(file.read())

    def close(self) -> None:
        """Go away, as a journal that is stopped does."""
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Lets go of descriptors."""
    with ExitStack() as stack:
        yield stack


def entry(message: str, fields: Mapping[str, object] | None = None, priority: int = 6) -> JournaldEntry:
    """One of the program ``spnhub``."""
    return JournaldEntry(message, priority, "spnhub", fields or {})


def declare(count: int, _since: float, _reason: str) -> str:
    """An entry about missing ones."""
    return entry("missing", {"count": count}, 4)


def output_to(stack: ExitStack, path: Path, text: Path, *, room: int = 1 << 20) -> Output:
    """An output to the journal there, and otherwise to the file ``text``."""
    file = stack.enter_context(text.open("wb"))
    output = Output(file.fileno(), declare, room=room, journal=JournaldSocket(str(path)))
    stack.callback(output.close)
    return output


def until_written(text: Path, line: str) -> None:
    """Wait until the file has it."""
    end = time.monotonic() + PATIENCE
    while line not in text.read_text().splitlines():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


def test_names_and_values(stack: ExitStack, tmp_path: Path) -> None:
    """Names are the journal's, whatever the style they had; values are texts; nothing is without a bound."""
    receiver = Receiver(tmp_path / "socket")
    output = output_to(stack, receiver.path, tmp_path / "text")
    given = {
        "event": "session.lost",
        "serviceUrn": "urn",
        "service_name": "name",
        "spnSessionId": "id",
        "code": 18,
        "ok": True,
        "none": None,
        "uids": ["a", "b"],
        "many": list(range(3 * VALUES)),
        "reason": "two\nlines=\n",
        "long": 2 * VALUE * "x",
        "lone": "\ud800",
        "not a name": 1,
        "ümlaut": 1,
        "n" * 100: 1,
    }
    output.put(entry("one\ntwo", given, 3))
    output.put(entry("many", {f"f{number}": number for number in range(2 * FIELDS)}))
    assert receiver.read() == {
        "MESSAGE": ["one\ntwo"],
        "PRIORITY": ["3"],
        "SYSLOG_IDENTIFIER": ["spnhub"],
        "SPN_EVENT": ["session.lost"],
        "SPN_SERVICE_URN": ["urn"],
        "SPN_SERVICE_NAME": ["name"],
        "SPN_SESSION_ID": ["id"],
        "SPN_CODE": ["18"],
        "SPN_OK": ["true"],
        "SPN_UIDS": ["a", "b"],
        "SPN_MANY": [str(number) for number in range(VALUES)],
        "SPN_REASON": ["two\nlines=\n"],
        "SPN_LONG": [VALUE * "x"],
        "SPN_LONE": ["\\ud800"],
    }
    assert len(receiver.read()) == FIELDS + 3
    receiver.close()


def test_large_ones_are_files(stack: ExitStack, tmp_path: Path) -> None:
    """What is too large for a datagram comes whole, in its place, and sealed."""
    receiver = Receiver(tmp_path / "socket")
    output = output_to(stack, receiver.path, tmp_path / "text", room=4 << 20)
    for message in ("before", 1_000_000 * "x", "after"):
        output.put(entry(message))
    assert [receiver.read()["MESSAGE"][0] for _ in range(3)] == ["before", 1_000_000 * "x", "after"]
    assert receiver.files == 1
    receiver.close()


def test_a_journal_that_does_not_read(stack: ExitStack, tmp_path: Path) -> None:
    """Nobody waits for it; what doesn't fit is dropped, counted and declared in its place; the text stays empty."""
    receiver = Receiver(tmp_path / "socket")
    output = output_to(stack, receiver.path, tmp_path / "text", room=100_000)
    began = time.monotonic()
    for number in range(5000):
        output.put(entry(f"{number}", {"number": number}))
    assert time.monotonic() - began < PATIENCE / 2
    dropped = output.dropped
    assert 0 < dropped < 5000
    for number in range(5000 - dropped):
        assert receiver.read()["SPN_NUMBER"] == [str(number)]
    declared = receiver.read()
    assert (declared["MESSAGE"], declared["SPN_COUNT"]) == (["missing"], [str(dropped)])
    output.put(entry("again"))
    assert receiver.read()["MESSAGE"] == ["again"]
    assert not (tmp_path / "text").read_text()
    receiver.close()


def test_lines_while_the_journal_is_gone(stack: ExitStack, tmp_path: Path) -> None:
    """Without its socket, and with one that nobody holds, they are lines with priorities; with a new one entries."""
    path, text = tmp_path / "socket", tmp_path / "text"
    output = output_to(stack, path, text)
    output.put(entry("before\nit", priority=4))
    until_written(text, "<4>it")
    receiver = Receiver(path)
    output.put(entry("there"))
    assert receiver.read()["MESSAGE"] == ["there"]
    receiver.close()
    output.put(entry("gone", priority=3))
    until_written(text, "<3>gone")
    receiver = Receiver(path)
    output.put(entry("back"))
    assert receiver.read()["MESSAGE"] == ["back"]
    assert text.read_text() == "<4>before\n<4>it\n<3>gone\n"
    receiver.close()


def test_a_journal_that_returns_while_the_descriptor_fails(stack: ExitStack, tmp_path: Path) -> None:
    """The stream to a journal that was started anew is dead: an entry that waits for it goes to the new socket."""
    reader, writer = os.pipe()
    os.close(reader)
    stack.callback(os.close, writer)
    output = Output(writer, declare, journal=JournaldSocket(str(tmp_path / "socket")))
    stack.callback(output.close)
    output.put(entry("waits"))
    receiver = Receiver(tmp_path / "socket")
    assert receiver.read()["MESSAGE"] == ["waits"]
    assert not output.dropped
    receiver.close()


@pytest.mark.parametrize("form", ["", "json"])
def test_lines_of_a_process(tmp_path: Path, form: str) -> None:
    """Events and what libraries log: all in one configuration, without secrets, the message in the form asked for."""
    receiver = Receiver(tmp_path / "socket")
    with (tmp_path / "text").open("wb") as file:
        command = (sys.executable, "-c", PROGRAM, form, "", str(receiver.path))
        subprocess.run(command, stdout=file, check=True, timeout=PATIENCE)
    paused, large, failed, library = (receiver.read() for _ in range(4))
    assert not (tmp_path / "text").read_text()
    message = paused.pop("MESSAGE")[0]
    assert paused == {
        "PRIORITY": ["6"],
        "SYSLOG_IDENTIFIER": ["spnhub"],
        "SPN_EVENT": ["connectionPaused"],
        "SPN_REALM": ["acme"],
        "SPN_SERVICE_URN": ["urn:spn:acme:n:s"],
        "SPN_SESSION_ID": ["abc"],
        "SPN_HUB_ID": ["hub-1"],
        "SPN_CODE": ["18"],
        "SPN_TIMESTAMP": ["2020-01-01T00:00:00.000001Z"],
        "SPN_REASON": ["two\nlines"],
        "SPN_PASSWORD": ["(hidden)"],
        "SPN_KEY": ["(PRIVATE KEY)"],
    }
    if form == "json":
        line = json.loads(message)
        assert (line["event"], line["code"], line["level"], line["reason"]) == (
            "connectionPaused",
            18,
            "info",
            "two\nlines",
        )
    else:
        assert message == (
            "connectionPaused realm=acme serviceUrn=urn:spn:acme:n:s spnSessionId=abc hub_id=hub-1 code=18"
            ' reason=two\\nlines password=(hidden) key="(PRIVATE KEY)"'
        )
    assert "hunter2" not in message and "MIIB" not in message
    assert large["PRIORITY"] == ["4"] and len(large["MESSAGE"][0]) > 1_000_000
    assert receiver.files == 1
    assert failed["PRIORITY"] == ["3"] and "ValueError: bad" in failed["MESSAGE"][0]
    assert "SPN_EXCEPTION" not in failed
    assert library["PRIORITY"] == ["4"] and library["SPN_LOGGER"] == ["library"]
    assert library["SPN_EVENT"] == ["of a library"]
    receiver.close()


def test_a_stream_that_is_not_the_journals(tmp_path: Path) -> None:
    """A pipe or a file behind a program that systemd started gets its JSON lines, whatever the environment says."""
    with (tmp_path / "text").open("wb") as file:
        receiver = Receiver(tmp_path / "socket")
        command = (sys.executable, "-c", PROGRAM, "", "1:1", str(receiver.path))
        subprocess.run(command, stdout=file, check=True, timeout=PATIENCE)
        receiver.close()
    lines = [json.loads(line) for line in (tmp_path / "text").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["connectionPaused", "large", "failed", "of a library"]


REAL: Final = """
set -e
mkdir -p /run/systemd /run/log /var/log/journal
for where in /run/systemd /run/log /var/log/journal; do mount -t tmpfs tmpfs $where; done
mkdir -p /run/systemd/journal
"$1" 2>/dev/null >/dev/null &
trap "kill $!" EXIT
shift
"$@"
"""

CLIENT: Final = """
import os, pathlib, socket, subprocess, sys, threading, time
path = "/run/systemd/journal/stdout"
end = time.monotonic() + 20
while not (os.path.exists(path) and os.path.exists("/run/systemd/journal/socket")):
    assert time.monotonic() < end
    threading.Event().wait(0.01)
out = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
out.connect(path)
out.sendall(b"spn\\n\\n6\\n1\\n0\\n0\\n0\\n")
subprocess.run([sys.executable, "-c", sys.argv[1], "", ""], stdout=out, check=True)
subprocess.run(["journalctl", "--sync"], check=True, stderr=subprocess.DEVNULL)
subprocess.run(["journalctl", "--all", "--output", "json", "--no-pager", "SPN_REALM=acme"], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0 or not JOURNALD.exists(), reason="needs root and systemd-journald")
def test_a_real_journal() -> None:
    """`journalctl SPN_REALM=acme` finds the realm's entries, whole, and no other, in a systemd-journald of its own."""
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", REAL, "sh", str(JOURNALD))
    done = subprocess.run(
        (*command, sys.executable, "-c", CLIENT, PROGRAM), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    paused, large = (json.loads(line) for line in done.stdout.splitlines())
    assert paused["_TRANSPORT"] == large["_TRANSPORT"] == "journal"
    assert paused["MESSAGE"].startswith("connectionPaused realm=acme ")
    assert (paused["PRIORITY"], paused["SYSLOG_IDENTIFIER"], paused["SPN_CODE"]) == ("6", "spnhub", "18")
    assert (paused["SPN_REASON"], paused["SPN_PASSWORD"]) == ("two\nlines", "(hidden)")
    assert large["PRIORITY"] == "4" and len(large["MESSAGE"]) > 1_000_000
    assert "hunter2" not in paused["MESSAGE"]
