"""What capture brings: which keys may have changed. A hint is never data; the row is read again."""

from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.rows import Key

Origin = Literal["notify", "poll", "sweep", "baseline", "deletion", "resend"]
"""Which part of capture saw it; kept in the history and counted."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A row that may have changed, and when, in milliseconds since the epoch by the database's clock."""

    key: Key
    at: int


def latest(hints: list[Hint]) -> dict[Key, int]:
    """Each key once, with the time of its last change: many changes of one row are one reading of it."""
    times: dict[Key, int] = {}
    for hint in hints:
        times[hint.key] = max(hint.at, times.get(hint.key, hint.at))
    return times
