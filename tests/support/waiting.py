"""Waiting for a condition, for a bounded time."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str, within: float = 60.0) -> None:
    """Return as soon as `condition()` is true; fail, naming `what`, when `within` seconds have passed."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within, f"still waiting after {within:.0f} s: {what}"
        # Some conditions look at every process of the machine.
        time.sleep(min(max(0.01, waited / 10), 0.1))
