"""This machine's clock, which may be set at any time."""

import time


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
