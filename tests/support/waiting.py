"""Waiting for a condition, for a bounded time."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, within: float = 60.0) -> None:
    """Return as soon as `condition()` is true; fail, naming `what`, when `within` seconds have passed."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {within:.0f} s: {what}"
        time.sleep(0.01)
