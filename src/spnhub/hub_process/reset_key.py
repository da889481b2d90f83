"""The key of stateless resets, kept in the journal folder: a hub that starts again ends its old sessions at once.

Without it the endpoints of a hub that was killed would wait for their idle timeout. Counterpart:
:mod:`spnhub.transport.engine`, whose engines take it as ``reset_key``.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from spnhub.events.journal.files import JournalError, sync_folder

__all__ = ["RESET_KEY", "load_reset_key"]

RESET_KEY: Final = "reset-key"
_SIZE: Final = 32


def load_reset_key(folder: Path) -> bytes:
    """The key of the hub whose journal this is, 32 bytes; made, once, with mode 0600. The folder must be locked.

    :raises JournalError: it can't be read or made, or the file holds something else.
    """
    path = folder / RESET_KEY
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as exc:
        raise JournalError(f"{path}: {exc.strerror or exc}") from exc
    if len(key) != _SIZE:
        raise JournalError(
            f"{path} holds {len(key)} bytes, not the {_SIZE} of a key; remove the file, and the hub makes another"
        )
    return key


def _make(path: Path) -> None:
    """Written whole under another name first: a crash leaves no half of a key."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_SIZE))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_folder(path.parent)
