"""What capture brings: which keys may have changed. A hint is never data; the row is what counts."""

from collections.abc import Iterable
from typing import Literal

from cdc_sync.core.rows import Key

Origin = Literal["notify", "poll", "sweep", "baseline", "deletion", "resend"]
"""Which part of capture saw it; kept in the history and counted."""


def latest(changes: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    """Each key once, with the time of its last change: many changes of one row are one reading of it."""
    times: dict[Key, int] = {}
    for key, at in changes:
        times[key] = max(at, times.get(key, at))
    return times
