"""A journal's events that concern incidents: from its index, and all others where there is none.

Counterparts: :mod:`spnhub.events.analysis.journal_index`, :mod:`spnhub.cli.log_incidents`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.segment_index import IndexDamaged
from spnhub.events.journal.files import segments
from spnhub.events.journal.reader import JournalReader, JournalSource
from spnhub.events.model import Recorded

__all__ = ["ConcerningSource"]


class ConcerningSource(JournalSource):
    """A journal folder as a source of what it takes to know its incidents. An async context manager.

    :raises JournalError: on entering, when there is no journal in the folder.
    """

    def __init__(self, index: JournalIndex) -> None:
        super().__init__(index.folder)
        self._index = index

    async def records(self, *, follow: bool = False) -> AsyncIterator[tuple[bytes, Recorded]]:
        """Each event with its Confluent frame, in order.

        :param follow: isn't possible.

        :raises JournalCorrupt: damage that is not an unfinished tail, where the journal itself is read.
        """
        if follow:
            raise NotImplementedError("an index has what was")
        index = self._index
        index.load()
        known, kept = {one.first: one for one in index.segments}, segments(index.folder)
        for place, (first, path) in enumerate(kept):
            after, position, whole = first - 1, None, False
            if (segment := known.get(first)) is not None:
                whole = segment.whole
                for part in segment.parts:
                    try:
                        found = index.concerning(segment, part)
                    except IndexDamaged:
                        whole = False
                        break
                    for entry in found:
                        yield entry
                    after, position = part.sequence, (path, part.offset)
                    await asyncio.sleep(0)
            if not whole:
                following = kept[place + 1][0] if place + 1 < len(kept) else None
                async for entry in _read(index.folder, after, position, following):
                    yield entry


async def _read(
    folder: Path, after: int, position: tuple[Path, int] | None, following: int | None
) -> AsyncIterator[tuple[bytes, Recorded]]:
    with JournalReader(folder, after=after, position=position) as reader:
        while (batch := reader.read()) and (following is None or batch[0][1].sequence < following):
            for entry in batch:
                yield entry
            await asyncio.sleep(0)
