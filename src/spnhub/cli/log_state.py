"""``spnlog state``: the state of hubs now, or at a moment. Counterpart: :mod:`spnhub.events.analysis.point_in_time`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import typer

from spnhub.cli.log_index import index_of
from spnhub.cli.log_reading import Sources, enter, entries, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.point_in_time import NOW, HubAt, Moment, MomentError, States
from spnhub.plain_text import printable
from spnhub.settings import SettingsError
from spnhub.streams import say_json

__all__ = ["state"]

_ROWS = 100


@takes_log_options("at", "hub", "index")
def state(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Show what each hub holds now, or what it held after a sequence or at a time (--at)."""
    settings = settings_of()
    at = settings.at
    try:
        moment = NOW if at is None else Moment.parse(at)
    except MomentError as exc:
        raise SettingsError(f"--at: {exc}") from exc
    found = States(moment, settings.hub)

    async def read() -> None:
        topics = [name for name in sources if "://" in name]
        async with AsyncExitStack() as stack:
            for source in await enter(stack, [name for name in sources if name not in topics]):
                folder = Path(source.name)
                found.read_journal(folder, index_of(folder, settings.index))
        if topics:
            async with entries(topics) as events:
                async for _, recorded in events:
                    found.take(recorded)

    status = run(read)
    if status:
        return status
    try:
        hubs = found.finish()
    except MomentError as exc:
        raise SettingsError(f"--at: {exc}") from exc
    if settings.as_json:
        say_json({"at": at or "now", "hubs": [one.to_json() for one in hubs]})
    else:
        for one in hubs:
            _show(one)
    return 0


def _show(hub: HubAt) -> None:
    from spnhub.cli.log_tables import console, print_table  # noqa: PLC0415 - rich takes a while to load

    out, held = console(), hub.state
    when = (
        f"after sequence {held.last_sequence:,}, {format_time(held.last_timestamp)}" if held.last_sequence else "empty"
    )
    out.print(printable(f"hub {hub.hub_id}, journal {hub.journal_id}: {when}"), markup=False)
    if held.run is not None:
        ended = "running" if held.run.stopped_at is None else f"stopped at {format_time(held.run.stopped_at)}"
        out.print(f"started at {format_time(held.run.started_at)}, {ended}", markup=False)
    out.print(
        f"{len(held.definitions.services)} services defined, {len(held.sessions)} sessions and"
        f" {len(held.connections)} connections open",
        markup=False,
    )
    print_table(
        out,
        "sessions",
        ("since", "spnSessionId", "endPointType", "serviceUrn", "spnEndPoint", "#weight", "#connections"),
        (
            (
                format_time(one.start_at),
                one.spn_session_id,
                one.end_point_type,
                one.service_urn,
                one.spn_end_point,
                one.weight,
                one.total_connection_count,
            )
            for one in held.sessions.values()
        ),
        limit=_ROWS,
    )
    print_table(
        out,
        "connections",
        ("since", "spnConnectionId", "connectionUid", "#epoch", "serviceUrn", "consumer session", "provider session"),
        (
            (
                format_time(one.start_at),
                one.spn_connection_id,
                one.connection_uid,
                one.epoch,
                one.service_urn,
                one.consumer_side_spn_session_id,
                one.provider_side_spn_session_id,
            )
            for one in held.connections.values()
        ),
        limit=_ROWS,
    )
    print_table(
        out,
        "services started by the hub",
        ("since", "serviceUrn", "phase"),
        ((format_time(one.since), one.service_urn, one.phase) for one in held.definitions.instances.values()),
        limit=_ROWS,
    )
