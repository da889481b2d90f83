"""``spnlog metrics``: numbers by service.

Counterparts: :mod:`spnhub.events.analysis.metrics`, :mod:`spnhub.events.analysis.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from spnhub.cli.log_reading import Sources, entries, run
from spnhub.cli.log_settings import LogSettings, selection_of, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.analysis.narrative import seconds_text
from spnhub.events.analysis.report import hours_of, report
from spnhub.events.codes import alert_name, code_name
from spnhub.streams import say_json

__all__ = ["metrics"]


@takes_log_options("by", "since", "until", "service", "realm", "type")
def metrics(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Show sessions, connections, bytes, reasons, refusals, durations, starts and pauses, by service."""
    settings = settings_of()
    by_hour, as_json = settings.by == "hour", settings.as_json
    counted, wanted = LogMetrics(hours=by_hour), selection_of(settings)

    async def read() -> None:
        async with entries(sources) as found:
            async for _, recorded in found:
                # What isn't asked about still says what is open.
                if not wanted.after(recorded):
                    counted.apply(recorded, counted=wanted.takes(recorded))

    status = run(read)
    if status:
        return status
    if by_hour:
        hours = hours_of(counted)
        if as_json:
            say_json({"hours": hours})
        else:
            _show_hours(hours)
    elif as_json:
        say_json(report(counted, wanted))
    else:
        _show(report(counted, wanted))
    return 0


def _show_hours(hours: Sequence[Mapping[str, Any]]) -> None:
    from spnhub.cli.log_tables import console, print_table  # noqa: PLC0415 - rich takes a while to load

    print_table(
        console(),
        "bytes by hour (UTC)",
        ("hour", "service", "#sent", "#received"),
        (
            (one["hour"][:16].replace("T", " "), one["serviceUrn"], one["totalSentBytes"], one["totalReceiveBytes"])
            for one in hours
        ),
    )


def _show(numbers: Mapping[str, Any]) -> None:
    from spnhub.cli.log_tables import console, print_table  # noqa: PLC0415

    out, services = console(), numbers["services"]
    print_table(
        out,
        "services: live / total",
        ("service", "providers", "consumers", "connections", "#resumed", "#sent", "#received", "#replayed"),
        (
            (
                one["serviceUrn"],
                _of(one["sessions"]["serviceProvider"]),
                _of(one["sessions"]["serviceConsumer"]),
                _of(one["connections"]),
                one["connections"]["resumed"],
                one["totalSentBytes"],
                one["totalReceiveBytes"],
                one["replayedSentBytes"] + one["replayedReceiveBytes"],
            )
            for one in services
        ),
    )
    print_table(
        out,
        "why they ended, and what was refused (by code)",
        ("service", "sessions", "connections", "refused sessions", "refused connections", "refused resumes", "lost"),
        (
            (
                one["serviceUrn"],
                _counts(one["terminateReasons"]),
                _counts(one["disconnectReasons"]),
                *(_codes(one["refused"][kind]) for kind in ("sessions", "connections", "resumes")),
                _codes(one["connections"]["lost"]),
            )
            for one in services
        ),
    )
    times = (
        (one["serviceUrn"], what, found["count"], *(seconds_text(found[each]) for each in ("median", "p95", "max")))
        for one in services
        for what, found in (
            ("provider sessions", one["sessions"]["serviceProvider"]["elapsedTime"]),
            ("consumer sessions", one["sessions"]["serviceConsumer"]["elapsedTime"]),
            ("connections", one["connections"]["elapsedTime"]),
            ("pauses", one["pauses"]["seconds"]),
            ("starts", one["starts"]["latency"]),
        )
        if found is not None
    )
    print_table(out, "how long they took", ("service", "of", "#count", "#median", "#95 %", "#longest"), times)
    print_table(
        out,
        "pauses and starts",
        ("service", "#planned pauses", "#unplanned pauses", "#starts", "#failed starts"),
        (
            (
                one["serviceUrn"],
                one["pauses"]["planned"],
                one["pauses"]["unplanned"],
                one["starts"].get("started", 0),
                one["starts"].get("failed", 0),
            )
            for one in services
            if any((one["pauses"]["planned"], one["pauses"]["unplanned"], len(one["starts"]) > 1))
        ),
    )
    print_table(
        out,
        "refused handshakes",
        ("hub", "realm", "TLS alert", "#count"),
        ((one["hubId"], one["realm"], _alert(one["alert"]), one["count"]) for one in numbers["handshakesRefused"]),
    )
    print_table(
        out,
        "hubs",
        ("hub", "#events", "#lost", "last event"),
        ((one["hubId"], one["events"], one["lost"], one["lastTimestamp"]) for one in numbers["hubs"]),
    )


def _of(numbers: Mapping[str, Any]) -> str:
    return f"{numbers['live']:,} / {numbers['total']:,}"


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items()) or "-"


def _codes(numbers: Mapping[str, int]) -> str:
    """The same, by code: the log has its number, people its name."""
    return _counts({code_name(int(code)) if code.isdecimal() else code: number for code, number in numbers.items()})


def _alert(alert: int | None) -> str | None:
    return None if alert is None else f"{alert_name(alert)} ({alert})"
