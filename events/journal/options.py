"""The options of a journal. Counterparts: :mod:`spnhub.events.journal.writer` and :mod:`.retention`, which use them."""

from __future__ import annotations

from functools import partial

from spnhub.dataclass import dataclass
from spnhub.options import option, parse_age, parse_size

__all__ = ["JournalOptions"]

_journal = partial(option, group="Event journal")


def _check_size(size: int) -> None:
    if size < 1 << 20:
        raise ValueError(f"{size} is below 1M")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalOptions:
    """When events are safe, and when they go (D-6, D-8)."""

    size: int | None = _journal(
        None,
        "Beyond it the oldest events go; unshipped ones are declared as lost first. 512M, 4G; 0: no bound.",
        flag="journal-size",
        metavar="BYTES",
        parse=parse_size,
        default_text="4G",
        check=_check_size,
    )
    """Bytes of all segments, but for the current one and the one with the last snapshot. None: no bound."""
    age: float | None = _journal(
        None,
        "Older events go once they are shipped. 12h, 30d; 0: no bound.",
        flag="journal-age",
        metavar="TIME",
        parse=parse_age,
        default_text="no bound",
        at_least=60,
        unit="seconds",
    )
    """Seconds since a segment's last event. None: no bound."""
    sync_interval: float | None = _journal(
        1.0,
        "Seconds of events that a power failure may take; 0: none, each event is on the disk before it shows.",
        flag="journal-sync",
        metavar="SECONDS",
        at_least=0,
        at_most=3600,
        unit="seconds",
    )
    """Seconds between fdatasyncs while there is something to sync; 0: each batch is synced before it counts as written;
    None: never but at the end."""
    topic: str | None = None
    """What isn't shipped to this topic stays until the size bound."""
