"""``/metrics``: counted as events are recorded, so that a scrape costs nothing in proportion to what is open.

The numbers are those of this process: sessions that a crash left open are none of its own. Labels hold URNs and codes,
never subjects or addresses. The families are those of :mod:`spnhub.events.analysis.metrics`, which whoever reads the
log counts in the same way; one hub needs no label for itself. Counterpart: :mod:`spnhub.ops.server`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spnhub.events.analysis.metrics import COUNTERS, GAUGES, increments
from spnhub.events.model import ConnectionEnded, ConnectionStarted, Event, SessionEnded, SessionStarted

__all__ = ["CONTENT_TYPE", "PREFIX", "HubMetrics", "text"]

_Labels = tuple[str, ...]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "spnhub_"


class HubMetrics:
    """Numbers of one hub process."""

    def __init__(self) -> None:
        self._open: dict[str, Counter[_Labels]] = {name: Counter() for name in GAUGES}
        self._total: dict[str, Counter[_Labels]] = {name: Counter() for name in COUNTERS}

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

    def _close(self, name: str, labels: _Labels) -> None:
        gauge = self._open[name]
        gauge[labels] -= 1
        if gauge[labels] <= 0:
            # A label for every service that ever was would grow for ever.
            del gauge[labels]

    def freeze(self, facts: Mapping[str, tuple[str, float]], faults: Mapping[str, int]) -> CollectorRegistry:
        """The numbers now, for :func:`text` in any thread.

        :param facts: help and value by name.
        :param faults: exceptions in the hub's own code, by where they were caught.
        """
        caught = CounterMetricFamily(
            PREFIX + "faults", "Exceptions in the hub's own code, by where they were caught.", labels=("where",)
        )
        for where, number in faults.items():
            caught.add_metric((where,), number)
        metrics: list[Metric] = [caught]
        for name, (help_text, value) in facts.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            metrics.append(family(name, help_text, value=value))
        registry = CollectorRegistry()
        registry.register(
            _Frozen(
                metrics,
                {name: dict(values) for name, values in self._open.items()},
                {name: dict(values) for name, values in self._total.items()},
            )
        )
        return registry


class _Frozen(Collector):
    def __init__(
        self,
        metrics: list[Metric],
        gauges: Mapping[str, Mapping[_Labels, int]],
        counters: Mapping[str, Mapping[_Labels, int]],
    ) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._counters = counters

    def describe(self) -> Iterable[Metric]:
        # Nothing: the registry would otherwise collect once just to learn the names.
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._metrics
        for name, family in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, family.help, labels=family.labels[1:])
            for values, number in self._gauges[name].items():
                gauge.add_metric(values, number)
            yield gauge
        for name, family in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, family.help, labels=family.labels[1:])
            for values, number in self._counters[name].items():
                counter.add_metric(values, number)
            yield counter


def text(registry: CollectorRegistry) -> bytes:
    """The exposition format."""
    return generate_latest(registry)
