"""Folds as Prometheus metrics: each family of :mod:`spnhub.events.analysis.metrics`, with the prefix ``spnlog_``.

Where the hub's own ``/metrics`` has the same family (``spnhub_…``), it has the same labels, without ``hub``, and the
same numbers: those since the hub's start. Text is made of copies, in any thread. Counterpart:
:mod:`spnhub.ops.metrics`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

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

__all__ = ["CONTENT_TYPE", "PREFIX", "Place", "Total", "text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "spnlog_"

_COUNTERS: Final = COUNTERS | CORRECTIONS
_PLACES: Final = {
    "partition_ready": "Whether the partition was read up to where it ended when this process got it.",
    "partition_offset": "Offset after the last record that was read.",
    "lag_events": "Events in the partition that were not read yet.",
    "event_delay_seconds": "Time between the last event and its being read.",
    "redelivered": "Events that were delivered more than once; they are counted once.",
    "unreadable": "Records that are not events known to this version.",
}
_HUBS: Final = {
    "hub_events": "Events since the hub's start that were read.",
    "hub_events_lost": "Events that the hub's log declares lost.",
    "journal_sequence": "Sequence number of the hub's last event.",
    "hub_last_event_timestamp_seconds": "When the hub's last event happened.",
}


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


def text(total: Total) -> bytes:
    """The exposition format."""
    registry = CollectorRegistry()
    registry.register(_Once(total))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, total: Total) -> None:
        self._total = total

    def describe(self) -> Iterable[Metric]:
        # Nothing: the registry would otherwise collect once just to learn the names.
        return ()

    def collect(self) -> Iterable[Metric]:
        total = self._total
        for name, family in GAUGES.items():
            yield _filled(GaugeMetricFamily(PREFIX + name, family.help, labels=family.labels), total.gauges[name])
        for name, family in _COUNTERS.items():
            yield _filled(CounterMetricFamily(PREFIX + name, family.help, labels=family.labels), total.counters[name])
        for name, family in HISTOGRAMS.items():
            yield _histograms(
                HistogramMetricFamily(PREFIX + name, family.help, labels=family.labels), total.histograms[name]
            )
        yield from self._hubs()
        yield from self._places()

    def _hubs(self) -> Iterable[Metric]:
        hubs = self._total.hubs
        numbers: Sequence[tuple[type[Metric], Mapping[Labels, float]]] = (
            (CounterMetricFamily, {(hub,): facts.events for hub, facts in hubs.items()}),
            (CounterMetricFamily, {(hub,): facts.lost for hub, facts in hubs.items()}),
            (GaugeMetricFamily, {(hub,): facts.last_sequence for hub, facts in hubs.items()}),
            (GaugeMetricFamily, {(hub,): facts.last_timestamp / 1_000_000 for hub, facts in hubs.items()}),
        )
        for (name, help_text), (kind, values) in zip(_HUBS.items(), numbers, strict=True):
            yield _filled(kind(PREFIX + name, help_text, labels=("hub",)), values)  # type: ignore[call-arg]

    def _places(self) -> Iterable[Metric]:
        for name, help_text in _PLACES.items():
            kind = CounterMetricFamily if name in {"redelivered", "unreadable"} else GaugeMetricFamily
            family = kind(PREFIX + name, help_text, labels=("partition",))
            for place in self._total.places:
                value = {
                    "partition_ready": float(place.ready),
                    "partition_offset": place.position,
                    "lag_events": place.lag,
                    "event_delay_seconds": place.delay,
                    "redelivered": place.redelivered,
                    "unreadable": place.unreadable,
                }[name]
                family.add_metric((place.name,), value)
            yield family


def _filled(family: Metric, values: Mapping[Labels, float]) -> Metric:
    for labels, number in values.items():
        family.add_metric(labels, number)  # type: ignore[attr-defined] # all kinds have it
    return family


def _histograms(family: HistogramMetricFamily, histograms: Mapping[Labels, Histogram]) -> Metric:
    for labels, histogram in histograms.items():
        upto = itertools.accumulate(histogram.buckets)
        bounds = (*(str(float(bound)) for bound in BOUNDS), "+Inf")
        family.add_metric(labels, list(zip(bounds, upto, strict=True)), histogram.total)
    return family
