"""A recording is bounded, and what goes wrong with it ends it and nothing else."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from spnhub.actors.contract.inputs import SessionClosed, SessionUnresponsive
from spnhub.recording import writer as writing
from spnhub.recording.reader import Recording
from spnhub.recording.system import Part, Step
from spnhub.recording.writer import RecordingWriter
from tests.recording.making import header, lines, numbers, record, replay


def step(number: int) -> Step:
    """One that a hub might have."""
    return Step(float(number), number, (Part((number, SessionUnresponsive())),))


def test_the_bound_ends_it(tmp_path: Path) -> None:
    """At its size it ends with a reason; what it has is whole, and comes again. Later starts find no room."""
    limit = 60_000
    writer = record(tmp_path, numbers(1, 400), limit=limit)
    assert writer.ended
    assert limit - 10_000 < writer.path.stat().st_size <= limit
    replayer, difference = replay(writer.path)
    assert difference is None
    assert replayer.recording.end == f"the recordings in {tmp_path} have reached {limit} bytes"
    told: list[str] = []
    more = limit + 4000
    again = RecordingWriter(tmp_path, header(started=2), more, told.append)
    for number in range(200):
        again.put(step(number))
    again.close()
    assert told == [f"the recordings in {tmp_path} have reached {more} bytes"]
    assert limit < sum(path.stat().st_size for path in tmp_path.iterdir()) <= more
    third = RecordingWriter(tmp_path, header(started=3), 100, told.append)
    third.put(step(1))
    third.close()
    assert not third.path.exists()
    assert len(told) == 2


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """The reason names the file; whoever records notices nothing, and what is there is whole."""
    told: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = RecordingWriter(tmp_path, header(), on_end=told.append)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        for number in range(1000):
            writer.put(step(number))
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.put(step(1))
    assert told == [f"{writer.path} can't be written: File too large"]
    assert writer.path.read_bytes().endswith(b"\n")
    recording = Recording(writer.path)
    assert all(one.parts for one in recording.steps())
    assert recording.end is None


def test_a_disk_that_is_too_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded; beyond that the recording ends, with its reason in it."""
    monkeypatch.setattr(writing, "WAITING_LIMIT", 0)
    told: list[str] = []
    writer = RecordingWriter(tmp_path, header(), on_end=told.append)
    writer.put(step(1))
    writer.put(step(2))
    writer.close()
    assert told == ["the disk is too slow: 1 inputs, events and commands wait for it"]
    assert lines(writer.path)[1:] == [{"end": told[0]}]


def test_what_cannot_be_written_down(tmp_path: Path) -> None:
    """Text that isn't Unicode ends the recording; it isn't the hub's affair."""
    told: list[str] = []
    writer = RecordingWriter(tmp_path, header(), on_end=told.append)
    writer.put(Step(1.0, 1, (Part((1, SessionClosed(by_peer=True, code=0, reason="\udc80"))),)))
    writer.close()
    assert len(told) == 1
    assert "UnicodeEncodeError" in told[0] or "PydanticSerializationError" in told[0]


def test_a_file_for_each_start(tmp_path: Path) -> None:
    """Only for its owner to read; a folder that can't be made is an error."""
    for started in (2, 1):
        RecordingWriter(tmp_path / "new", header(started=started, hub_id="a/b")).close()
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["19700101T000000.000001Z-a_b.jsonl", "19700101T000000.000002Z-a_b.jsonl"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()} == {0o600}
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        RecordingWriter(tmp_path / "file", header())
