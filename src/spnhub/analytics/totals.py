"""Folds as Prometheus metrics: each family of :mod:`spnhub.events.analysis.metrics`, with the prefix ``spnlog_``.

Where the hub's own ``/metrics`` has the same family (``spnhub_…``), it has the same labels, without ``hub``, and the
same numbers: those since the hub's start. Counterparts: :mod:`spnhub.ops.metrics`, :mod:`spnhub.exposition`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from spnhub.dataclass import dataclass
from spnhub.events.analysis.metrics import (
    BOUNDS,
    CORRECTIONS,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    Histogram,
    HubFacts,
    Labels,
    LogMetrics,
)
from spnhub.exposition import Flat, families, filled

__all__ = ["PREFIX", "Place", "Total"]

PREFIX: Final = "spnlog_"

_COUNTERS: Final = COUNTERS | CORRECTIONS


@dataclass(frozen=True, slots=True)
class Place:
    """How far one partition, or a journal, is."""

    name: str
    """The partition's number; ``journal`` without Kafka."""
    ready: bool
    position: int
    lag: int
    delay: float
    redelivered: int
    unreadable: int


_PLACES: Final[dict[str, tuple[type[Flat], str, Callable[[Place], float]]]] = {
    "partition_ready": (
        GaugeMetricFamily,
        "Whether the partition was read up to where it ended when this process got it.",
        lambda place: float(place.ready),
    ),
    "partition_offset": (
        GaugeMetricFamily,
        "Offset after the last record that was read.",
        lambda place: place.position,
    ),
    "lag_events": (GaugeMetricFamily, "Events in the partition that were not read yet.", lambda place: place.lag),
    "event_delay_seconds": (
        GaugeMetricFamily,
        "Time between the last event and its being read.",
        lambda place: place.delay,
    ),
    "redelivered": (
        CounterMetricFamily,
        "Events that were delivered more than once; they are counted once.",
        lambda place: place.redelivered,
    ),
    "unreadable": (
        CounterMetricFamily,
        "Records that are not events known to this version.",
        lambda place: place.unreadable,
    ),
}
_HUBS: Final[dict[str, tuple[type[Flat], str, Callable[[HubFacts], float]]]] = {
    "hub_events": (
        CounterMetricFamily,
        "Events since the hub's start that were read.",
        lambda hub: hub.events,
    ),
    "hub_events_lost": (CounterMetricFamily, "Events that the hub's log declares lost.", lambda hub: hub.lost),
    "journal_sequence": (
        GaugeMetricFamily,
        "Sequence number of the hub's last event.",
        lambda hub: hub.last_sequence,
    ),
    "hub_last_event_timestamp_seconds": (
        GaugeMetricFamily,
        "When the hub's last event happened.",
        lambda hub: hub.last_timestamp / 1_000_000,
    ),
}


class Total:
    """Several folds added up, at one moment. What it is made of may change afterwards."""

    def __init__(self, folds: Iterable[LogMetrics], places: Sequence[Place]) -> None:
        self.gauges: dict[str, Counter[Labels]] = {name: Counter() for name in GAUGES}
        self.counters: dict[str, Counter[Labels]] = {name: Counter() for name in _COUNTERS}
        self.histograms: dict[str, dict[Labels, Histogram]] = {name: {} for name in HISTOGRAMS}
        self.hubs: dict[str, HubFacts] = {}
        self.places = places
        for fold in folds:
            for name in GAUGES:
                self.gauges[name].update(fold.live(name))
            for name in _COUNTERS:
                self.counters[name].update(fold.counters[name])
            for name in HISTOGRAMS:
                for labels, histogram in fold.histograms[name].items():
                    self.histograms[name].setdefault(labels, Histogram()).merge(histogram)
            for hub_id, facts in fold.hubs().items():
                self.hubs.setdefault(hub_id, HubFacts()).merge(facts)

    def metrics(self) -> Iterator[Metric]:
        """For :func:`spnhub.exposition.text`, once."""
        yield from families(PREFIX, GaugeMetricFamily, GAUGES, self.gauges, hub=True)
        yield from families(PREFIX, CounterMetricFamily, _COUNTERS, self.counters, hub=True)
        for name, family in HISTOGRAMS.items():
            yield _histograms(
                HistogramMetricFamily(PREFIX + name, family.help, labels=family.labels), self.histograms[name]
            )
        for name, (kind, help_text, of_hub) in _HUBS.items():
            by_hub: dict[Labels, float] = {(hub,): of_hub(facts) for hub, facts in self.hubs.items()}
            yield filled(kind(PREFIX + name, help_text, labels=("hub",)), by_hub)
        for name, (kind, help_text, of_place) in _PLACES.items():
            by_place: dict[Labels, float] = {(place.name,): of_place(place) for place in self.places}
            yield filled(kind(PREFIX + name, help_text, labels=("partition",)), by_place)


def _histograms(family: HistogramMetricFamily, histograms: Mapping[Labels, Histogram]) -> Metric:
    for labels, histogram in histograms.items():
        upto = itertools.accumulate(histogram.buckets)
        bounds = (*(str(float(bound)) for bound in BOUNDS), "+Inf")
        family.add_metric(labels, list(zip(bounds, upto, strict=True)), histogram.total)
    return family
