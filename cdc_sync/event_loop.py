"""The event loop of what works for long: uvloop's where it is installed, asyncio's elsewhere.

Other commands ask a few questions, and do without it. See docs/decisions/0008-uvloop.md.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, as `asyncio.run` does."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform; and commands that ask a question do without it
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
