"""``/metrics``: counted as events are recorded, so that a scrape costs the same however many connections are open.

The numbers are those of this process: sessions that a crash left open aren't among them. Labels hold URNs and codes,
never subjects or addresses. The families are those of :mod:`spnhub.events.analysis.metrics`, which a reader of the
log counts in the same way; one hub needs no label for itself. Counterpart: :mod:`spnhub.ops.server`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import chain
from types import MappingProxyType
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from spnhub.events.analysis.metrics import COUNTERS, GAUGES, Labels, increments
from spnhub.events.model import ConnectionEnded, ConnectionStarted, Event, SessionEnded, SessionStarted
from spnhub.exposition import families, filled
from spnhub.ops.expiry import CertificateEnd, RevocationAge, days_until

__all__ = ["PREFIX", "HubMetrics"]

PREFIX: Final = "spnhub_"


class HubMetrics:
    """Numbers of one hub process."""

    def __init__(self) -> None:
        self._open: dict[str, Counter[Labels]] = {name: Counter() for name in GAUGES}
        self._total: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS}

    def count(self, event: Event) -> None:
        """Take an event in."""
        for name, labels, number in increments(event):
            self._total[name][labels] += number
        match event:
            case SessionStarted():
                self._open["sessions"][event.realm or "", event.service_urn, str(event.end_point_type)] += 1
            case SessionEnded():
                self._close("sessions", (event.realm or "", event.service_urn, str(event.end_point_type)))
            case ConnectionStarted():
                self._open["connections"][event.realm or "", event.service_urn] += 1
            case ConnectionEnded():
                self._close("connections", (event.realm or "", event.service_urn))

    def _close(self, name: str, labels: Labels) -> None:
        gauge = self._open[name]
        gauge[labels] -= 1
        if gauge[labels] <= 0:
            # A label for every service that ever was would grow for ever.
            del gauge[labels]

    def freeze(
        self,
        facts: Mapping[str, tuple[str, float]],
        faults: Mapping[str, int],
        ends: Iterable[CertificateEnd] = (),
        lists: Iterable[RevocationAge] = (),
        sessions: Mapping[str, datetime] = MappingProxyType({}),
    ) -> Iterable[Metric]:
        """The numbers now, for :func:`spnhub.exposition.text` in any thread.

        :param facts: help and value by name.
        :param faults: exceptions in the hub's own code, by where they were caught.
        :param ends: when certificates expire, the next first.
        :param lists: revocation lists, the next to be stale first.
        :param sessions: when the first certificate of a network's live sessions expires, by its URN.
        """
        caught = CounterMetricFamily(
            PREFIX + "faults", "Exceptions in the hub's own code, by where they were caught.", labels=("where",)
        )
        left: dict[tuple[str, ...], float] = {}
        now = datetime.now(UTC)
        for one in ends:
            # Of several with one subject the next to expire counts.
            left.setdefault((one.kind, one.realm, one.name, one.subject), round(one.days(now), 3))
        expiry = GaugeMetricFamily(
            PREFIX + "certificate_expiry_days",
            "Days until a certificate of the hub, or a CA that it trusts, expires.",
            labels=("kind", "realm", "name", "subject"),
        )
        metrics: list[Metric] = [
            filled(caught, {(where,): number for where, number in faults.items()}),
            filled(expiry, left),
            filled(
                GaugeMetricFamily(
                    PREFIX + "session_certificate_expiry_days",
                    "Days until the first certificate of a live session of the network expires, to the hour.",
                    labels=("network",),
                ),
                {(urn,): round(days_until(end, now), 3) for urn, end in sessions.items()},
            ),
            *_of_lists(lists, now),
        ]
        for name, (help_text, value) in facts.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metrics.append(family(name, help_text, value=value))
        opened, total = ({name: dict(numbers) for name, numbers in of.items()} for of in (self._open, self._total))
        return chain(
            metrics,
            families(PREFIX, GaugeMetricFamily, GAUGES, opened, hub=False),
            families(PREFIX, CounterMetricFamily, COUNTERS, total, hub=False),
        )


def _of_lists(lists: Iterable[RevocationAge], now: datetime) -> Iterable[Metric]:
    ages: dict[tuple[str, ...], float] = {}
    left: dict[tuple[str, ...], float] = {}
    revoked: dict[tuple[str, ...], float] = {}
    for one in lists:
        # Of several of one CA the next to be stale counts.
        ages.setdefault((one.realm, one.issuer), round(one.age(now)))
        revoked[one.realm, one.issuer] = revoked.get((one.realm, one.issuer), 0) + one.count
        if (seconds := one.left(now)) is not None:
            left.setdefault((one.realm, one.issuer), round(seconds))
    texts = {
        "crl_age_seconds": ("Since a realm's revocation list was made.", ages),
        "crl_next_update_seconds": ("Until the next list is due; below zero: this one is stale.", left),
        "crl_revoked_certificates": ("Certificates in a realm's revocation list.", revoked),
    }
    for name, (help_text, values) in texts.items():
        yield filled(GaugeMetricFamily(PREFIX + name, help_text, labels=("realm", "issuer")), values)
