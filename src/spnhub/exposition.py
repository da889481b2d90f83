"""Numbers in Prometheus' text format, with those of this process that every Prometheus client has.

Text is made of copies, in any thread. Counterparts: :mod:`spnhub.ops.metrics` (a hub's numbers),
:mod:`spnhub.analytics.totals` (those of the log).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spnhub.events.analysis.metrics import Family, Labels
from spnhub.events.codes import alert_name, code_name

__all__ = ["CONTENT_TYPE", "Flat", "families", "filled", "text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Flat = GaugeMetricFamily | CounterMetricFamily
"""What has one number for each set of labels."""


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        # Nothing: the registry would otherwise collect once just to learn the names.
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def text(metrics: Iterable[Metric]) -> bytes:
    """The exposition format of these, which are taken once, and of the process's memory, processor and descriptors."""
    registry = CollectorRegistry()
    registry.register(_Once(metrics))
    registry.register(PROCESS_COLLECTOR)
    return generate_latest(registry)


def families(
    prefix: str,
    kind: type[Flat],
    known: Mapping[str, Family],
    numbers: Mapping[str, Mapping[Labels, float]],
    *,
    hub: bool,
) -> Iterator[Metric]:
    """Gauges or counters of the log, by name and labels.

    :param hub: whether the name of the hub, which is the first label of each family, is among the labels.
    """
    for name, family in known.items():
        labels = family.labels if hub else family.labels[1:]
        metric = kind(prefix + name, family.help, labels=(*labels, *_named(labels)))
        yield filled(metric, _with_names(labels, numbers[name]))


def filled(family: Flat, numbers: Mapping[Labels, float]) -> Metric:
    """A family with a sample for each set of labels."""
    for labels, number in numbers.items():
        family.add_metric(labels, number)
    return family


_NAMES: Final = {"code": code_name, "alert": alert_name}
"""What a number in a label is called; spn/1's codes and TLS's alerts have the same numbers."""


def _named(labels: Labels) -> tuple[str, ...]:
    """The label that names another, if there is one that needs it."""
    return tuple(f"{label}_name" for label in labels if label in _NAMES)


def _with_names(labels: Labels, numbers: Mapping[Labels, float]) -> Mapping[Labels, float]:
    places = [(labels.index(label), name) for label, name in _NAMES.items() if label in labels]
    if not places:
        return numbers
    return {
        (*values, *(name(int(values[at])) if values[at].isdecimal() else values[at] for at, name in places)): number
        for values, number in numbers.items()
    }
