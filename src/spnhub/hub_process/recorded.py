"""The hub's actors, recorded if that is asked for (``--record``). Counterpart: :mod:`spnhub.recording`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from spnhub.actors.system import ActorSystem
from spnhub.events.faults import OnFault
from spnhub.events.journal.journal import EventJournal
from spnhub.events.model import Event, Recorded
from spnhub.hub_settings import HubSettings
from spnhub.settings import SettingsError
from spnhub.version import VERSION

if TYPE_CHECKING:  # what it imports takes a while to load
    from spnhub.recording.writer import RecordingWriter

__all__ = ["make_system"]

_log = structlog.get_logger("spnhub.hub")


def make_system(
    settings: HubSettings,
    journal: EventJournal,
    record: Callable[[Event, int], Recorded],
    wall_us: int,
    notify: Callable[[Callable[[], None]], None],
    on_fault: OnFault,
) -> tuple[ActorSystem, RecordingWriter | None]:
    """The actors, and the recording that has to be closed after them.

    :param wall_us: microseconds since 1970.
    :param notify: brings a call from another thread into the loop's; RuntimeError when that is gone.
    :param on_fault: called with what actors raise.
    :raises SettingsError: the folder for recordings can't be used.
    """
    folder = settings.record
    if folder is None:
        return ActorSystem(record, settings.hub_id, settings.actors, on_fault, journal.state), None
    # Imported late: most hubs record nothing.
    from spnhub.recording.format import Header  # noqa: PLC0415
    from spnhub.recording.system import RecordingSystem  # noqa: PLC0415
    from spnhub.recording.writer import RecordingWriter  # noqa: PLC0415

    header = Header(
        hub_id=settings.hub_id,
        journal_id=str(journal.journal_id),
        first_sequence=journal.appended + 1,
        started=wall_us,
        software=VERSION,
        options=settings.actors,
    )

    def on_end(reason: str) -> None:
        notify(lambda: _log.warning("recording.ended", hubId=settings.hub_id, folder=str(folder), reason=reason))

    try:
        writer = RecordingWriter(folder, header, settings.record_size << 20, on_end)
    except OSError as exc:
        raise SettingsError(f"--record: cannot write to {folder}: {exc.strerror or exc}") from exc
    if not writer.ended:
        _log.info("recording.started", hubId=settings.hub_id, file=str(writer.path))
    return RecordingSystem(record, settings.hub_id, settings.actors, writer.put, on_fault, journal.state), writer
