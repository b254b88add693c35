"""What stays true of a watch's capture positions when its store is given to another database."""

from collections.abc import Mapping
from dataclasses import replace

from cdc_sync.pipeline.baseline import POSITION as BASELINE
from cdc_sync.pipeline.baseline import BaselinePosition
from cdc_sync.pipeline.poll import BEGAN
from cdc_sync.pipeline.sweep_position import FINISHED
from cdc_sync.pipeline.sweep_position import POSITION as SWEEP
from cdc_sync.source.replica_guard import POSITION as REPLICA


def positions_elsewhere(positions: Mapping[str, str]) -> dict[str, str]:
    """The positions to be written, of those that a watch has.

    A transaction's number means nothing in another cluster, so none is kept; the watermark is a time, and what it
    misses the sweep at the next start finds, which begins anew. The baseline is not made again: what HelloWork was told
    stays what changes are measured against.
    """
    kept: dict[str, str] = {}
    baseline = BaselinePosition.from_text(positions.get(BASELINE))
    if baseline is not None:
        kept[BASELINE] = replace(baseline, look=None).to_text()
    if BEGAN in positions:
        kept[BEGAN] = ""
    if SWEEP in positions:
        kept[SWEEP] = FINISHED
    if REPLICA in positions:
        kept[REPLICA] = ""
    return kept
