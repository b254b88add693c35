"""Waiting for a condition in a coroutine: `support.waiting` without standing in the event loop's way."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def eventually(condition: Callable[[], object | Awaitable[object]], what: str, within: float = 60.0) -> None:
    """Return as soon as `condition()` is true; fail, naming `what`, when `within` seconds have passed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        outcome = condition()
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if outcome:
            return
        assert loop.time() < deadline, f"still waiting after {within:.0f} s: {what}"
        await asyncio.sleep(0.01)
