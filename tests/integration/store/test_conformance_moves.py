"""An application moves between two watches with the same credentials: one adopts it, the other one forgets it."""

from collections.abc import Awaitable, Callable

import pytest
from support.builders import (
    NOW,
    SECOND,
    WATCH,
    a_batch,
    a_suspicion,
    an_observation,
    some_rules,
)
from support.store_steps import (
    Begun,
    acknowledge,
    adopt,
    begin_call,
    entry_of,
    events_of,
    lose_answer,
    observe,
    results_of,
    told_status,
    waiting_entry,
)

from cdc_sync.core.batch import ApplyResult, Heir, Resolved
from cdc_sync.core.outbox import Entry
from cdc_sync.core.rows import Reportable
from cdc_sync.store import Store

ARCHIVE = "archive"


async def seen_in_archive(
    store: Store, *observations: Reportable, others: tuple[str, ...] = (WATCH,)
) -> list[ApplyResult]:
    """What the archive's watch makes of rows, which has the same credentials as others."""
    return await results_of(store, some_rules(ARCHIVE), a_batch(*observations)._replace(others=others))


async def left_to_archive(store: Store, application_id: str = "a1") -> None:
    """The answer to a suspicion, after a look at the archive's table."""
    moved = Resolved(application_id, NOW, None, elsewhere=Heir(ARCHIVE))
    await store.capture.apply(some_rules(), a_batch(moved, origin="deletion"))


class TestTheOtherWatch:
    async def test_adopts_the_acknowledged_state(self, store: Store) -> None:
        await adopt(store, "a1")

        (result,) = await seen_in_archive(store, an_observation())

        assert result.decision == "adopt"
        assert await told_status(store, watch=ARCHIVE) == "applied"
        assert await entry_of(store, watch=ARCHIVE) is None

    async def test_compares_with_the_newest_of_several_states(self, store: Store) -> None:
        await adopt(store, "a1", watch="former", at=NOW - SECOND)
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        await acknowledge(store, await begin_call(store))

        await seen_in_archive(store, an_observation(), others=("former", WATCH))

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_finds_states_among_more_records_than_one_statement_searches(self, store: Store) -> None:
        ids = [f"a{number}" for number in range(30)]
        await adopt(store, *ids)
        strangers = [f"w{number}" for number in range(1000)]

        found = await store.capture.known_elsewhere(ARCHIVE, [*strangers, WATCH], ids)

        assert found.keys() == set(ids)
        assert await store.capture.known_elsewhere(WATCH, [*strangers, WATCH], ids) == {}, "it knows them itself"


class TestTwoEntries:
    @pytest.mark.parametrize("is_attempted", [False, True])
    async def test_a_newer_state_replaces_the_other_watchs_entry(self, store: Store, *, is_attempted: bool) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        if is_attempted:
            await lose_answer(store, await begin_call(store))

        await seen_in_archive(store, an_observation(status="offer"))

        assert await entry_of(store) is None
        entry = await waiting_entry(store, watch=ARCHIVE)
        assert (entry.due_at, entry.attempted) == (NOW, is_attempted)
        assert "moved" in await events_of(store)

    @pytest.mark.parametrize("ends", [acknowledge, lose_answer])
    async def test_a_newer_state_replaces_what_is_under_way_too(
        self, store: Store, ends: Callable[[Store, Entry], Awaitable[None]]
    ) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        under_way = await begin_call(store)

        moved = a_batch(an_observation(status="offer"))._replace(others=(WATCH,))
        await store.capture.apply(some_rules(ARCHIVE), moved, Begun(under_way))
        await ends(store, under_way)

        assert await entry_of(store) is None
        entry = await waiting_entry(store, watch=ARCHIVE)
        assert (entry.due_at, entry.attempted) == (NOW, True)


class TestTheHeir:
    async def test_begins_from_what_hellowork_acknowledged_last(self, store: Store) -> None:
        await adopt(store, "a1", watch=ARCHIVE)
        await observe(store, an_observation(status="hired"))
        await acknowledge(store, await begin_call(store))

        await left_to_archive(store)

        assert await told_status(store, watch=ARCHIVE) == "hired"
        assert await store.capture.next_suspicion(ARCHIVE) == NOW


class TestTheFormerWatch:
    async def test_forgets_the_application(self, store: Store) -> None:
        await adopt(store, "a1", "a2")
        await observe(store, an_observation(status="hired"))
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=NOW))

        await left_to_archive(store)

        assert (await store.capture.known(WATCH, ["a1", "a2"])).keys() == {"a2"}
        assert await entry_of(store) is None
        assert await store.capture.next_suspicion(WATCH) is None
        assert (await store.report.counts())[WATCH].known == 1
        assert (await events_of(store))[-1] == "moved"
