"""The key of stateless resets in the journal folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from spnhub.events.journal import Journal, JournalError
from spnhub.hub_process.reset_key import RESET_KEY, load_reset_key


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    """32 bytes that only the hub's user may read; the next start has the same, another folder another."""
    key = load_reset_key(tmp_path)
    assert (len(key), load_reset_key(tmp_path)) == (32, key)
    assert stat.S_IMODE((tmp_path / RESET_KEY).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [RESET_KEY]
    (tmp_path / "other").mkdir()
    assert load_reset_key(tmp_path / "other") != key


def test_a_crash_while_it_is_made_leaves_no_half(tmp_path: Path) -> None:
    """What an earlier start did not finish is made anew."""
    (tmp_path / "reset-key.new").write_bytes(b"half")
    assert len(load_reset_key(tmp_path)) == 32
    assert [path.name for path in tmp_path.iterdir()] == [RESET_KEY]


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_other_content_is_named(tmp_path: Path, content: bytes) -> None:
    """The file, what is wrong with it and what helps; nothing is overwritten."""
    path = tmp_path / RESET_KEY
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"{path} holds {len(content)} bytes, not the 32 of a key; remove"):
        load_reset_key(tmp_path)
    assert path.read_bytes() == content


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    """A folder in its place."""
    (tmp_path / RESET_KEY).mkdir()
    with pytest.raises(JournalError, match=f"{tmp_path / RESET_KEY}: Is a directory"):
        load_reset_key(tmp_path)


def test_a_journal_does_not_mind_it(tmp_path: Path) -> None:
    """The folder of a journal with a key opens as before."""
    Journal.open(tmp_path, "hub-1").close()
    key = load_reset_key(tmp_path)
    Journal.open(tmp_path, "hub-1").close()
    assert load_reset_key(tmp_path) == key
