"""What a scrape gives is what the instruments of prometheus_client would give."""

from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics import exposition as openmetrics

from cdc_sync.admin.exposition import Only, metric
from cdc_sync.admin.metrics import BUCKETS, EventMetrics
from cdc_sync.core.events import CallEnded, Decided, Dispatch, LeadTaken, Reloaded, SweepDone, WatchEnded

SECONDS = (0.0, 0.001, 0.0011, 0.3, 60.0, 61.0)
"""At the ends of buckets, between them, and beyond."""


def instruments(metrics: EventMetrics) -> tuple[CollectorRegistry, dict[str, Any]]:
    """The same metrics as instruments, of which none has moved."""
    registry = CollectorRegistry()
    made: dict[str, Any] = {}
    for each in metrics.metrics:
        if each.kind == "histogram":
            made[each.name] = Histogram(each.name, each.text, each.labels, buckets=BUCKETS, registry=registry)
        else:
            kind = Counter if each.kind == "counter" else Gauge
            made[each.name] = kind(each.name, each.text, each.labels, registry=registry)
    return registry, made


@pytest.mark.parametrize("encode", [generate_latest, openmetrics.generate_latest])
def test_the_text_is_that_of_instruments_without_created_series(encode: Any, request: pytest.FixtureRequest) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    request.addfinalizer(enable_created_metrics)
    metrics = EventMetrics()
    emit = Dispatch(metrics.handlers).emit
    emit(Reloaded(("w",)))
    emit(Decided("w", "a1", "notify", "queued"))
    emit(Decided("w", "a2", "notify", "queued"))
    emit(Decided('a "strange" \\ name\n', "a3", "notify", "dead"))
    emit(SweepDone("w", 1, 0.25, {"missed": 3}))
    for seconds in SECONDS:
        emit(CallEnded("w", "a1", "acknowledged", "HTTP 200", 1, seconds, 2 * seconds))

    registry, made = instruments(metrics)
    for values, (one,) in next(each for each in metrics.metrics if each.name == "cdc_sync_build_info").items():
        made["cdc_sync_build_info"].labels(*values).set(one)
    for outcome, number in (("applied", 1), ("refused", 0)):
        made["cdc_sync_reloads"].labels(outcome).inc(number)
    made["cdc_sync_decisions"].labels("w", "queued").inc(2)
    made["cdc_sync_decisions"].labels('a "strange" \\ name\n', "dead").inc()
    made["cdc_sync_sweep_seconds"].labels("w").set(0.25)
    made["cdc_sync_sweep_repairs"].labels("w", "missed").inc(3)
    made["cdc_sync_calls"].labels("w", "acknowledged").inc(len(SECONDS))
    for seconds in SECONDS:
        made["cdc_sync_call_seconds"].labels("w").observe(seconds)
        made["cdc_sync_queue_seconds"].labels("w").observe(2 * seconds)

    assert encode(Only(*map(metric, metrics.collect()))) == encode(registry)


def test_a_sample_that_is_forgotten_is_gone() -> None:
    metrics = EventMetrics()
    emit = Dispatch(metrics.handlers).emit
    emit(LeadTaken("2026-01-01T00:00:00Z", ("w", "v")))

    emit(WatchEnded("w", for_good=True))

    text = generate_latest(Only(*map(metric, metrics.collect()))).decode()
    assert 'cdc_sync_watch_connected{watch="v"}' in text
    assert 'cdc_sync_watch_connected{watch="w"}' not in text
