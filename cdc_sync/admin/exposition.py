"""The text of `/metrics`, by prometheus_client, which takes 1 MB: imported at the first scrape."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

from prometheus_client import Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from cdc_sync.admin.metrics import BUCKETS, Numbers

_ENDS = (*map(str, BUCKETS), "+Inf")


class Only(Collector):
    """These metrics alone."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        return iter(self._metrics)


class _Process(ProcessCollector):
    """Memory, CPU time, open files, also without /proc/stat (`ProcSubset=pid` in the units)."""

    def __init__(self) -> None:
        super().__init__(registry=None)

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


_PROCESS = _Process()


def metric(numbers: Numbers) -> Metric:
    """The metric for prometheus_client."""
    if numbers.kind == "histogram":
        histogram = HistogramMetricFamily(numbers.name, numbers.text, labels=numbers.labels)
        for values, (number, *buckets) in numbers.items():
            histogram.add_metric(values, list(zip(_ENDS, accumulate(buckets), strict=True)), number)
        return histogram
    family = CounterMetricFamily if numbers.kind == "counter" else GaugeMetricFamily
    made = family(numbers.name, numbers.text, labels=numbers.labels)
    for values, (number,) in numbers.items():
        made.add_metric(values, number)
    return made


async def exposed(metrics: Iterable[Numbers], accepted: str) -> tuple[bytes, str]:
    """Our metrics and the process's, in a format that the scraper accepts, and the content type."""
    try:
        encode, content_type = choose_encoder(accepted)
    except TypeError:  # the version is no number
        encode, content_type = choose_encoder("")
    parts, end = [], encode(Only())
    for each in chain(map(metric, metrics), _PROCESS.collect()):
        parts.append(encode(Only(each)).removesuffix(end))
        await asyncio.sleep(0)  # a thousand watches take most of a second
    return b"".join((*parts, end)), content_type
