"""What a person asks of all held entries at once: in steps, between which the daemon has the store.

Of a mass change there may be hundreds of thousands, and one transaction over them would keep everybody waiting, or be
given up as too long. Interrupted, the steps done are done; asked again, the rest follows.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cdc_sync.core.outbox import EntryState
from cdc_sync.store.protocol import Only
from cdc_sync.store.store import Store

STEP: Final = 5_000


async def release_held(
    store: Store,
    watch: str | None,
    clock: Callable[[], int],
    *,
    ids: Sequence[str] | None = None,
    only: Only | None = None,
    transition: str | None = None,
    limit: int | None = None,
    who: str | None = None,
) -> list[tuple[str, str]]:
    """Let held entries be sent, the oldest first; returns (watch, application id) of each.

    Raises:
        StoreError: the store failed.
    """

    async def step(size: int) -> list[tuple[str, str]]:
        return await store.release_held(watch, clock(), only, size, ids=ids, transition=transition, who=who)

    return await _all(step, limit, STEP)


async def discard(
    store: Store,
    state: EntryState,
    watch: str | None,
    clock: Callable[[], int],
    *,
    ids: Sequence[str] | None = None,
    only: Only | None = None,
    transition: str | None = None,
    limit: int | None = None,
    who: str | None = None,
    at_once: int = STEP,
) -> list[tuple[str, str]]:
    """Discard entries, `at_once` in a transaction, the oldest first; returns (watch, application id) of each.

    Raises:
        StoreError: the store failed.
    """

    async def step(size: int) -> list[tuple[str, str]]:
        return await store.discard(
            state, watch, ids, now=clock(), only=only, transition=transition, limit=size, who=who
        )

    return await _all(step, limit, at_once)


async def _all(
    step: Callable[[int], Awaitable[list[tuple[str, str]]]], limit: int | None, at_once: int
) -> list[tuple[str, str]]:
    """At least one step: with a limit of 0 it only finds out that nothing is held any more."""
    done: list[tuple[str, str]] = []
    while True:
        size = at_once if limit is None else min(at_once, limit - len(done))
        found = await step(size)
        done += found
        if len(found) < size or len(done) == limit:
            return done
