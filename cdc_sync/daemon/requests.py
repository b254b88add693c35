"""The leader's side of operators' requests: it looks for them each second, and executes them in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store

_LOOK = 1.0
"""Most seconds between two looks."""

_LOOK_AGAIN = 0.02
"""Seconds after a request: a command with many entries asks again at once. The pause doubles with each look in vain."""


async def execute_requests(
    store: Store, captured: Callable[[], Collection[str]], executed: Callable[[], Awaitable[object]]
) -> None:
    """Execute requests for ever; after each, `executed` is called: the sender may do more or less than before.

    `captured` are the watches that this daemon captures.
    """
    pause = _LOOK
    while True:
        with suppress(StoreError):  # capture and delivery report it
            while await store.operation.execute_next(captured()):
                pause = _LOOK_AGAIN
                await executed()
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LOOK)
