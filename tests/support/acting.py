"""People's acts on a store under test, each as the process does it that holds the store's lock."""

from collections.abc import Sequence
from typing import Any

from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import EntryId, EntryState
from cdc_sync.store import Store
from cdc_sync.store.acts import Chosen, Discard, Pause, Request, Resend, Resume, Send, in_steps

SOMEBODY = PersonActed(0, "act", "somebody", 0)


def chosen(*, ids: Sequence[str] | None = None, **others: Any) -> Chosen:
    """Which entries are meant."""
    return Chosen(ids=None if ids is None else tuple(ids), **others)


async def release_held(store: Store, watch: str | None, now: int, **which: Any) -> list[EntryId]:
    """Release held entries."""
    entries = await store.operation.chosen("held", watch, chosen(**which))
    return await in_steps(lambda part: store.operation.execute(Send("held", watch, part, SOMEBODY), now), entries)


async def discard(store: Store, state: EntryState, watch: str | None, now: int, **which: Any) -> list[EntryId]:
    """Discard held or dead entries."""
    entries = await store.operation.chosen(state, watch, chosen(**which))
    return await in_steps(lambda part: store.operation.execute(Discard(state, watch, part, SOMEBODY), now), entries)


async def retry_dead(store: Store, watch: str | None, now: int, *, ids: Sequence[str] | None = None) -> list[EntryId]:
    """Retry dead letters."""
    letters = await store.operation.chosen("dead", watch, chosen(ids=ids))
    return await in_steps(lambda some: store.operation.execute(Send("dead", None, some, SOMEBODY), now), letters)


async def resend(store: Store, watch: str, ids: Sequence[str], now: int) -> list[EntryId]:
    """Resend applications whose rows are as the store knows them."""
    known = await store.capture.known(watch, ids)
    states = [(id_, of.latest) for id_, of in sorted(known.items()) if of.latest is not None]
    return await in_steps(lambda some: store.operation.execute(Resend(watch, some, SOMEBODY), now), states)


async def pause(store: Store, endpoint: str) -> list[str]:
    """Pause an endpoint; returns which are paused."""
    return await _at_once(store, Pause(endpoint, SOMEBODY))


async def resume(store: Store, endpoint: str) -> list[str]:
    """Resume an endpoint; returns which are still paused."""
    return await _at_once(store, Resume(endpoint, SOMEBODY))


async def _at_once(store: Store, act: Request[list[str]]) -> list[str]:
    return await store.operation.execute(act, store.driver.clock.for_people())
