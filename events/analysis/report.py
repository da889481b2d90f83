"""The numbers of :mod:`spnhub.events.analysis.metrics` by service, as plain objects for programs and for tables.

Counterpart: :mod:`spnhub.cli.log_metrics`, which prints them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from operator import itemgetter
from typing import Any, Final

from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.metrics import BOUNDS, CORRECTIONS, COUNTERS, GAUGES, Histogram, Labels, LogMetrics
from spnhub.events.analysis.selection import EventSelection
from spnhub.events.model import EndPointType

__all__ = ["hours_of", "quantile", "report"]

_Object = dict[str, Any]

_DIRECTIONS: Final = {"sent": "SentBytes", "received": "ReceiveBytes"}


def report(metrics: LogMetrics, wanted: EventSelection | None = None) -> _Object:
    """Everything: ``services`` (realm, serviceUrn and their numbers), ``hubs``, ``handshakesRefused``, ``reloads``.

    :param wanted: which services.
    """
    wanted = wanted or EventSelection()
    counters = metrics.counters
    return {
        "services": [
            _service(*name, numbers)
            for name, numbers in sorted(_by_service(metrics).items(), key=itemgetter(0))
            if wanted.names(*name)
        ],
        "hubs": [
            {
                "hubId": hub_id,
                "events": facts.events,
                "lost": facts.lost,
                "lastSequence": facts.last_sequence,
                "lastTimestamp": format_time(facts.last_timestamp),
            }
            for hub_id, facts in sorted(metrics.hubs().items())
        ],
        "handshakesRefused": [
            {"hubId": hub, "realm": realm or None, "alert": int(alert) if alert else None, "count": number}
            for (hub, realm, alert), number in sorted(counters["handshakes_refused"].items())
        ],
        "reloads": [
            {"hubId": hub, "outcome": outcome, "count": number}
            for (hub, outcome), number in sorted(counters["reloads"].items())
        ],
    }


def hours_of(metrics: LogMetrics) -> list[_Object]:
    """Bytes by hour and service, each byte once (D-10), in order of time; only hours in which there were any."""
    assert metrics.hours is not None
    kinds = sorted({key[:3] for key, number in metrics.hours.items() if number})
    return [
        {
            "hour": format_time(hour),
            "realm": realm or None,
            "serviceUrn": service,
            "totalSentBytes": metrics.hours[hour, realm, service, "sent"],
            "totalReceiveBytes": metrics.hours[hour, realm, service, "received"],
        }
        for hour, realm, service in kinds
    ]


def quantile(histogram: Histogram, share: float) -> float:
    """About the value that ``share`` of all are not above, in seconds: between the bounds of its bucket, and of all."""
    rest = share * histogram.count
    lower = min(histogram.lowest, histogram.highest)
    for number, bound in zip(histogram.buckets, (*BOUNDS, histogram.highest), strict=True):
        upper = max(lower, min(float(bound), histogram.highest))
        if number and rest <= number:
            return lower + (upper - lower) * rest / number
        rest -= number
        lower = upper
    return histogram.highest


def _by_service(metrics: LogMetrics) -> dict[tuple[str, str], _Numbers]:
    """All numbers that have a realm and a service, by these two; what is left of the labels, over all hubs."""
    counted: dict[str, Counter[Labels]] = {name: metrics.live(name) for name in GAUGES}
    families = COUNTERS | CORRECTIONS
    counted |= {name: metrics.counters[name] for name, family in families.items() if "service" in family.labels}
    found: dict[tuple[str, str], _Numbers] = {}
    for name, counter in counted.items():
        for (_, realm, service, *rest), number in counter.items():
            numbers = found.setdefault((realm, service), _Numbers())
            numbers.counts.setdefault(name, Counter())[tuple(rest)] += number
    for name, histograms in metrics.histograms.items():
        for (_, realm, service, *rest), histogram in histograms.items():
            numbers = found.setdefault((realm, service), _Numbers())
            numbers.histograms.setdefault((name, *rest), Histogram()).merge(histogram)
    return found


@dataclass(slots=True)
class _Numbers:
    """Of one service."""

    counts: dict[str, Counter[Labels]] = field(default_factory=dict)
    histograms: dict[Labels, Histogram] = field(default_factory=dict)


def _service(realm: str, service: str, numbers: _Numbers) -> _Object:
    def total(name: str, *labels: str) -> int:
        return numbers.counts.get(name, Counter())[labels]

    def by(name: str, place: int = 0) -> dict[str, int]:
        found: dict[str, int] = {}
        for labels, number in sorted(numbers.counts.get(name, Counter()).items()):
            found[labels[place]] = found.get(labels[place], 0) + number
        return found

    def histogram(*name: str) -> _Object | None:
        return _histogram(numbers.histograms.get(name, Histogram()))

    carried = {}
    for direction, name in _DIRECTIONS.items():
        reported, unreported, twice = (
            total(name, direction) for name in ("bytes", "bytes_unreported", "bytes_replayed")
        )
        carried[f"total{name}"] = reported + unreported - twice
        carried[f"replayed{name}"] = twice
    return {
        "realm": realm or None,
        "serviceUrn": service,
        "sessions": {
            str(role): {
                "live": total("sessions", str(role)),
                "total": total("sessions_started", str(role)),
                "elapsedTime": histogram("session_duration_seconds", str(role)),
            }
            for role in EndPointType
        },
        "connections": {
            "live": total("connections"),
            "total": total("connections_started"),
            "resumed": total("connections_resumed"),
            "finished": total("connections_finished"),
            "lost": by("connections_lost"),
            "elapsedTime": histogram("connection_duration_seconds"),
        },
        **carried,
        "terminateReasons": by("sessions_ended", 1),
        "disconnectReasons": by("connections_ended"),
        "refused": {
            "sessions": by("sessions_refused"),
            "connections": by("connections_refused"),
            "resumes": by("resumes_refused"),
        },
        "pauses": {
            "planned": total("connections_paused", "true"),
            "unplanned": total("connections_paused", "false"),
            "seconds": histogram("pause_duration_seconds"),
        },
        "starts": {**by("service_starts"), "latency": histogram("service_start_seconds")},
    }


def _histogram(histogram: Histogram) -> _Object | None:
    """None when there are no values. Times are seconds."""
    count = histogram.count
    if not count:
        return None
    return {
        "count": count,
        "mean": round(histogram.total / count, 6),
        "median": round(quantile(histogram, 0.5), 6),
        "p95": round(quantile(histogram, 0.95), 6),
        "max": round(histogram.highest, 6),
    }
