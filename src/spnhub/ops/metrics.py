"""``/metrics``: counted as events are recorded, so that a scrape costs nothing in proportion to what is open.

The numbers are those of this process: sessions that a crash left open are none of its own. Labels hold URNs and codes,
never subjects or addresses. Counterparts: :mod:`spnhub.events.model`, :mod:`spnhub.ops.server`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from spnhub.events.metrics import refused_service
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionStarted,
    Event,
    InventoryLoaded,
    InventoryRejected,
    ServiceStarted,
    ServiceStartFailed,
    SessionEnded,
    SessionRefused,
    SessionStarted,
)

__all__ = ["Metrics"]

_Labels = tuple[str, ...]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_GAUGES: Final = {
    "spnhub_sessions": ("Sessions that are open.", ("realm", "service", "type")),
    "spnhub_connections": ("Connections that are open.", ("realm", "service")),
}
_COUNTERS: Final = {
    "spnhub_sessions_started": ("Sessions that were opened.", ("realm", "service", "type")),
    "spnhub_sessions_refused": ("Session requests that were refused.", ("realm", "service", "code")),
    "spnhub_handshakes_refused": ("TLS handshakes that were refused.", ("realm", "alert")),
    "spnhub_connections_ended": ("Connections that have ended.", ("realm", "service", "reason")),
    "spnhub_connections_refused": ("Openings of connections that were refused.", ("realm", "service", "code")),
    "spnhub_bytes": (
        "Bytes that connections have carried, as far as events have told.",
        ("realm", "service", "direction"),
    ),
    "spnhub_service_starts": ("Starts of services, by what became of them.", ("realm", "service", "outcome")),
    "spnhub_reloads": ("Inventories that were read again, by what became of them.", ("outcome",)),
}


class Metrics:
    """Numbers of one hub process."""

    def __init__(self) -> None:
        self._open: dict[str, Counter[_Labels]] = {name: Counter() for name in _GAUGES}
        self._total: dict[str, Counter[_Labels]] = {name: Counter() for name in _COUNTERS}

    def count(self, event: Event) -> None:
        """Take an event in."""
        realm = event.realm or ""
        match event:
            case SessionStarted():
                labels = (realm, event.service_urn, str(event.end_point_type))
                self._open["spnhub_sessions"][labels] += 1
                self._total["spnhub_sessions_started"][labels] += 1
            case SessionEnded():
                self._close("spnhub_sessions", (realm, event.service_urn, str(event.end_point_type)))
            case SessionRefused() if event.service_urn is None:
                alert = "" if event.alert is None else str(event.alert)
                self._total["spnhub_handshakes_refused"][realm, alert] += event.count
            case SessionRefused():
                self._total["spnhub_sessions_refused"][realm, refused_service(event), str(event.code)] += event.count
            case ConnectionStarted():
                self._open["spnhub_connections"][realm, event.service_urn] += 1
            case ConnectionEnded():
                service = event.service_urn
                self._close("spnhub_connections", (realm, service))
                self._total["spnhub_connections_ended"][realm, service, str(event.disconnect_reason)] += 1
                self._carried(event)
            case ConnectionProgress():
                self._carried(event)
            case ConnectionRefused():
                self._total["spnhub_connections_refused"][realm, event.service_urn, str(event.code)] += 1
            case ServiceStarted():
                self._total["spnhub_service_starts"][realm, event.service_urn, "started"] += 1
            case ServiceStartFailed():
                self._total["spnhub_service_starts"][realm, event.service_urn, "failed"] += 1
            case InventoryLoaded() if not event.initial:
                self._total["spnhub_reloads"][("applied",)] += 1
            case InventoryRejected():
                self._total["spnhub_reloads"][("rejected",)] += 1

    def _carried(self, event: ConnectionProgress | ConnectionEnded) -> None:
        service = (event.realm or "", event.service_urn)
        self._total["spnhub_bytes"][*service, "sent"] += event.delta_sent_bytes
        self._total["spnhub_bytes"][*service, "received"] += event.delta_receive_bytes

    def _close(self, name: str, labels: _Labels) -> None:
        gauge = self._open[name]
        gauge[labels] -= 1
        if gauge[labels] <= 0:
            # A label for every service that ever was would grow for ever.
            del gauge[labels]

    def freeze(self, facts: Mapping[str, tuple[str, float]]) -> CollectorRegistry:
        """The numbers now, with ``facts`` (help and value by name), for :func:`text` in any thread."""
        metrics: list[Metric] = []
        for name, (help_text, value) in facts.items():
            metrics.append(GaugeMetricFamily(name, help_text, value=value))
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
        for name, (help_text, labels) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, help_text, labels=labels)
            for values, number in self._gauges[name].items():
                gauge.add_metric(values, number)
            yield gauge
        for name, (help_text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(name, help_text, labels=labels)
            for values, number in self._counters[name].items():
                counter.add_metric(values, number)
            yield counter


def text(registry: CollectorRegistry) -> bytes:
    """The exposition format."""
    return generate_latest(registry)
