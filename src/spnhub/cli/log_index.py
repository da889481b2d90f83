"""The index of journals, for the commands that ask about the past.

Counterpart: :mod:`spnhub.events.analysis.journal_index`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from spnhub import streams
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.journal_index import JournalIndex, default_index_folder
from spnhub.events.journal.files import JournalError
from spnhub.events.journal.reader import JournalPart

__all__ = ["Indexes", "index_of"]


def index_of(folder: Path, cache: Path | None) -> JournalIndex | None:
    """What there is of a journal's index; None: the folder is none of a journal, which whoever reads it will say.

    :param cache: where indexes are kept; None: in the user's cache.
    """
    try:
        return JournalIndex(folder, cache or default_index_folder())
    except (JournalError, OSError):
        return None


class Indexes:
    """Those of several sources. What is missing is made, once; a topic has none.

    :param names: the sources.
    """

    def __init__(self, names: Sequence[str], cache: Path | None) -> None:
        found = {name: index_of(Path(name), cache) for name in names if "://" not in name}
        self.by_name = {name: index for name, index in found.items() if index is not None}
        missing = sum(index.missing for index in self.by_name.values())
        if missing and sys.stderr.isatty():
            streams.say(f"spnlog: making the index of {missing} segments of the journal, once", error=True)
        for index in self.by_name.values():
            index.complete()

    def parts(self, *wanted: Search | Story) -> dict[str, JournalPart]:
        """What has to be read of each journal."""
        return {name: index.part(*wanted) for name, index in self.by_name.items()}
