"""Pausing, but not beyond the end."""

import asyncio


async def pause(over: asyncio.Event, seconds: float) -> None:
    """Sleep, or until `over` if that is sooner."""
    try:
        async with asyncio.timeout(seconds):
            await over.wait()
    except TimeoutError:
        return
