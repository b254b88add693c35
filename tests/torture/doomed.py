"""The daemon, doomed: `cdc-sync` that kills itself with -9 at a named point of the pipeline, at its Nth passage.

Usage: python -m torture.doomed POINT N ARGUMENTS… (those of `cdc-sync`). The points are the steps of which the texts of
`cdc_sync.pipeline` and `cdc_sync.store.protocol` tell what a crash costs. Nothing in the product knows of them: they
are put around its methods here, in the process that is to die.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import Any

from cdc_sync.cli import main
from cdc_sync.delivery.client import Client
from cdc_sync.source.changelog import ChangeLog, Changes
from cdc_sync.store.sqlite import SqliteStore

Strike = Callable[[], None]
Method = Callable[..., Awaitable[Any]]
Batches = Callable[[ChangeLog, int], AbstractAsyncContextManager[Changes]]


def _before(method: Method, strike: Strike) -> Method:
    @wraps(method)
    async def doomed(*arguments: Any, **named: Any) -> Any:
        strike()
        return await method(*arguments, **named)

    return doomed


def _after(method: Method, strike: Strike) -> Method:
    @wraps(method)
    async def doomed(*arguments: Any, **named: Any) -> Any:
        result = await method(*arguments, **named)
        if result != []:  # claims that found nothing, and recordings of what is no news, are many
            strike()
        return result

    return doomed


def _consumed(batch: Batches, strike: Strike) -> Batches:
    @asynccontextmanager
    async def doomed(log: ChangeLog, limit: int) -> AsyncIterator[Changes]:
        async with batch(log, limit) as changes:
            yield changes
        if changes.hints:
            strike()

    return doomed


POINTS: Mapping[str, tuple[type, str, Callable[[Any, Strike], Any]]] = {
    "read, not recorded": (SqliteStore, "record", _before),
    "recorded, not consumed": (SqliteStore, "record", _after),
    "consumed": (ChangeLog, "batch", _consumed),
    "claimed, not called": (SqliteStore, "claim", _after),
    "answered, not finished": (SqliteStore, "finish", _before),
    "called": (Client, "call", _after),
    "finished": (SqliteStore, "finish", _after),
}
"""Where it may die: the class, its method, and when."""


def doom(point: str, passages: int) -> None:
    """Let this process die when it passes a point for the Nth time."""
    owner, name, how = POINTS[point]
    left = passages

    def strike() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, how(getattr(owner, name), strike))


if __name__ == "__main__":
    doom(sys.argv[1], int(sys.argv[2]))
    del sys.argv[1:3]
    main()
