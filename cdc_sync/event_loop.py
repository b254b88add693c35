"""The event loop of what works for long: uvloop's where it is installed, asyncio's elsewhere.

Other commands ask a few questions, and do without it. See docs/decisions/0008-uvloop.md.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform; and commands that ask a question do without it
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
