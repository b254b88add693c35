"""A mass change is held for a person. What it counts and holds is the core's: `tests/unit/core`."""

from collections.abc import Awaitable, Callable

import pytest
from support import acting
from support.builders import MINUTE, NOW, WATCH, a_batch, an_observation, some_rules
from support.store_backends import OpenStore
from support.store_steps import (
    acknowledge,
    adopt,
    begin_calls,
    entry_of,
    events_of,
    observe,
    results_of,
    waiting_entry,
)

from cdc_sync.core.batch import ApplyResult
from cdc_sync.core.diff import Enqueue, Fuse
from cdc_sync.core.rows import Reportable
from cdc_sync.store import Store

TWO_CHANGES = some_rules(max_changes=2)
REASON = "more than 2 changes at once (fuse.max_changes)"


async def states(store: Store, *ids: str) -> list[str]:
    return [(await waiting_entry(store, one)).state for one in ids]


async def change(store: Store, *ids: str, at: int = NOW, watch: str = WATCH) -> list[ApplyResult]:
    """Let applications change, of which two may."""
    rows = [an_observation(one, "hired") for one in ids]
    return await observe(store, *rows, rules=some_rules(watch, max_changes=2), at=at)


async def fuse_of(store: Store, watch: str = WATCH) -> Fuse:
    return (await store.operation.fuses())[watch]


async def test_changes_beyond_it_are_held_with_the_reason_until_all_are_undone(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3", "a4")
    await change(store, "a1", "a2")
    assert await store.operation.fuses() == {WATCH: Fuse(at=NOW, changes=2)}

    news = await change(store, "a3", "a4")

    held = Enqueue(frozenset({"status"}))
    assert news == [ApplyResult(one, held, "held", REASON) for one in ("a3", "a4")]
    assert (await waiting_entry(store, "a3")).reason == REASON
    assert [entry.application_id for entry in await begin_calls(store)] == ["a1", "a2"]
    assert await events_of(store, "a3") == ["held"]
    await observe(store, an_observation("a3"), rules=TWO_CHANGES)
    fuse = await fuse_of(store)
    assert (fuse.blown_at, fuse.reason) == (NOW, REASON)

    await observe(store, an_observation("a4"), rules=TWO_CHANGES)

    fuse = await fuse_of(store)
    assert (fuse.blown_at, fuse.reason) == (None, None)


async def test_changes_are_counted_over_batches_and_restarts_and_by_watch(store: Store, open_store: OpenStore) -> None:
    await adopt(store, "a1", "a2", "a3")
    await adopt(store, "a1", watch="spontaneous")
    await change(store, "a1")
    await change(store, "a2", at=NOW + MINUTE)
    await store.driver.close()

    later = await open_store()
    await change(later, "a3", at=NOW + 2 * MINUTE)
    await change(later, "a1", at=NOW + 2 * MINUTE, watch="spontaneous")

    assert await states(later, "a1", "a2", "a3") == ["pending", "pending", "held"]
    assert (await waiting_entry(later, "a1", "spontaneous")).state == "pending"


async def dies(store: Store) -> None:
    await observe(store, an_observation("a3", refused="the URL may not be called"), rules=TWO_CHANGES)


async def is_acknowledged(store: Store) -> None:
    """HelloWork has received what is held, by an earlier call."""
    await acting.release_held(store, WATCH, NOW, ids=["a3"])
    entry = next(entry for entry in await begin_calls(store) if entry.application_id == "a3")
    nothing = some_rules(max_changes=0)
    await observe(store, an_observation("a3", "hired", deleted=True), rules=nothing, under_way=[entry])
    await observe(store, an_observation("a3", "hired"), rules=nothing, under_way=[entry])
    assert await states(store, "a3") == ["held"]
    await acknowledge(store, entry)
    assert await entry_of(store, "a3") is None


@pytest.mark.parametrize("happens", [dies, is_acknowledged])
async def test_it_is_whole_again_when_nothing_is_held(
    store: Store, happens: Callable[[Store], Awaitable[None]]
) -> None:
    await adopt(store, "a1", "a2", "a3")
    await change(store, "a1", "a2", "a3")

    await happens(store)

    assert (await fuse_of(store)).blown_at is None


async def test_it_can_be_blown_beforehand(store: Store) -> None:
    await adopt(store, "a1")

    await store.capture.blow_fuse(WATCH, "the map has changed", NOW)
    await change(store, "a1")

    entry = await waiting_entry(store, "a1")
    assert (entry.state, entry.reason) == ("held", "the map has changed")
    assert len(await acting.release_held(store, WATCH, NOW)) == 1
    assert (await fuse_of(store)).blown_at is None


async def test_what_a_person_released_counts_as_new_when_it_changes_again(store: Store) -> None:
    """Else a second mass change of the same applications would go out uncounted."""
    ids = ("a1", "a2", "a3", "a4", "a5")
    await adopt(store, *ids)
    await change(store, *ids)
    await acting.release_held(store, WATCH, NOW + MINUTE)

    await observe(store, *(an_observation(one, "rejected") for one in ids), rules=TWO_CHANGES, at=NOW + 2 * MINUTE)

    assert sorted(await states(store, *ids)) == ["held"] * 3 + ["pending"] * 2


DOUBT = "row-level security of public.applications may hide rows from cdc_sync"


async def doubt(store: Store, *observations: Reportable) -> list[ApplyResult]:
    return await results_of(store, some_rules(), a_batch(*observations, origin="deletion", doubt=DOUBT))
