"""The text of ``spnlog serve``, and that its families and the hub's are the same ones."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from spnhub.analytics.totals import PREFIX, Place, Total
from spnhub.events.analysis.metrics import CORRECTIONS, COUNTERS, GAUGES, HISTOGRAMS, LogMetrics
from spnhub.exposition import text
from tests.compose.exposed import exposed
from tests.events import samples


def test_the_text() -> None:
    """Every family, histograms with cumulative buckets, and how far each partition is."""
    metrics = LogMetrics()
    metrics.apply_all(samples.record(samples.day()))
    place = Place("3", ready=True, position=9, lag=2, delay=0.5, redelivered=1, unreadable=0)
    shown = text(Total([metrics], [place]).metrics()).decode()
    families = {family.name: family for family in text_string_to_metric_families(shown)}
    assert {f"{PREFIX}{name}" for name in GAUGES | COUNTERS | CORRECTIONS | HISTOGRAMS} <= families.keys()
    buckets = [
        sample.value
        for sample in families["spnlog_connection_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 1
    assert 'spnlog_lag_events{partition="3"} 2.0' in shown
    assert 'spnlog_hub_events_total{hub="hub-1"} 8.0' in shown
    assert 'spnlog_journal_sequence{hub="hub-1"} 8.0' in shown
    assert 'spnlog_hub_last_event_timestamp_seconds{hub="hub-1"} 1.767355200007e+09' in shown


def test_labels_are_the_hubs() -> None:
    """After a history that touches every number: the same samples, but for the hub's name."""
    found: list[set[tuple[str, tuple[str, ...]]]] = []
    for exposition in exposed():
        found.append(set())
        for family in text_string_to_metric_families(exposition):
            if family.name.partition("_")[2] in GAUGES | COUNTERS:
                for sample in family.samples:
                    labels = (f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "hub")
                    found[-1].add((sample.name.partition("_")[2], tuple(labels)))
    hub, serve = found
    assert hub == serve
    assert {name.removesuffix("_total") for name, _ in hub} == GAUGES.keys() | COUNTERS.keys()
