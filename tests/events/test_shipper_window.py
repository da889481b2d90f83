"""What a shipper remembers: keys, the window, the position file. Pure but for files."""

from __future__ import annotations

import random
import uuid
import zlib
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.events import model
from spnhub.events.journal.envelope import read_envelope
from spnhub.events.journal.shipped_position import Position, PositionFile, shipped_sequence
from spnhub.events.model import ConnectionRefused, Recorded, SessionRefused
from spnhub.events.shipper.window import Entry, Window

_JOURNAL = uuid.UUID(int=7)
_REFUSED = SessionRefused(realm=None, network_urn=None)


def entry(sequence: int) -> Entry:
    """An entry of the window."""
    frame = model.encode(Recorded("hub-1", _JOURNAL, sequence, sequence, _REFUSED))
    return Entry.of(frame, read_envelope(frame))


def test_key() -> None:
    """The service, else the realm, else the hub (D-12)."""
    connection = ConnectionRefused(
        realm="r",
        network_urn=None,
        consumer_side_spn_session_id="",
        service_urn="urn:s",
        connection_uid="",
        code=1,
    )
    events = [
        connection,
        replace(connection, service_urn=""),
        replace(_REFUSED, realm="r"),
        replace(_REFUSED, realm="r", service_urn="urn:t"),
        _REFUSED,
    ]
    keys = [read_envelope(model.encode(Recorded("hub-1", _JOURNAL, 1, 1, event))).key for event in events]
    assert keys == [b"urn:s", b"r", b"r", b"urn:t", b"hub-1"]


@settings(deadline=None)
@given(st.sets(st.integers(1, 80), min_size=1), st.randoms(use_true_random=False))
def test_position_is_contiguous(sequences: set[int], chance: random.Random) -> None:
    """In whatever order acknowledgements come, the position never passes one that is missing."""
    window = Window()
    entries = [entry(sequence) for sequence in sorted(sequences)]
    for each in entries:
        window.add(each)
    open_ = {each.sequence: each for each in entries}
    while open_:
        window.acknowledge(open_.pop(chance.choice(sorted(open_))))
        done = [each for each in entries if not open_ or each.sequence < min(open_)]
        expected = (done[-1].sequence, zlib.crc32(done[-1].frame)) if done else (0, 0)
        assert (window.position, window.checksum, window.behind) == (*expected, len(open_))
    assert not window.full


def test_position_file(tmp_path: Path) -> None:
    """What was saved is loaded; the least advanced topic bounds what may be deleted."""
    one = Position(str(_JOURNAL), "cluster", 12, 99, {0: 4, 5: 7})
    PositionFile(tmp_path, "a").save(one)
    PositionFile(tmp_path, "b").save(replace(one, sequence=7))
    assert PositionFile(tmp_path, "a").load() == one
    assert (shipped_sequence(tmp_path), shipped_sequence(tmp_path, "a")) == (7, 12)


def test_damaged_position_file(tmp_path: Path) -> None:
    """One that can't be read counts as none."""
    assert shipped_sequence(tmp_path) is None
    for text in ("", "[]", '{"sequence": 3}', "\x00\x00"):
        (tmp_path / "shipped-a.json").write_text(text)
        assert PositionFile(tmp_path, "a").load() is None
        assert shipped_sequence(tmp_path) is None


def test_position_lock(tmp_path: Path) -> None:
    """One holder at a time, over replacements of the file."""
    first, second = PositionFile(tmp_path, "a"), PositionFile(tmp_path, "a")
    assert first.try_lock()
    first.save(Position(str(_JOURNAL)))
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()
    second.unlock()
