"""An application moves between two watches with the same credentials: one adopts it, the other one forgets it."""

from dataclasses import replace

from support.builders import HOUR, NOW, SECOND, WATCH, a_batch, a_suspicion, an_observation, some_rules
from support.store_steps import (
    acknowledge,
    adopt,
    claim_one,
    entry_of,
    events_of,
    known_one,
    lose_answer,
    observe,
    results_of,
    told_status,
)

from cdc_sync.core.batch import ASKED_AGAIN_AFTER, ApplyResult, Resolved
from cdc_sync.core.diff import Adopt
from cdc_sync.core.rows import Reportable
from cdc_sync.store import Store
from cdc_sync.store.protocol import KnownTwice

ARCHIVE = "archive"


async def seen_in_archive(
    store: Store, *observations: Reportable, others: tuple[str, ...] = (WATCH,)
) -> list[ApplyResult]:
    """What the archive's watch makes of rows, which has the same credentials as others."""
    return await results_of(store, some_rules(ARCHIVE), replace(a_batch(*observations), others=others))


async def left_to_archive(store: Store, application_id: str = "a1") -> None:
    """The answer to a suspicion, after a look at the archive's table."""
    moved = Resolved(application_id, NOW, None, elsewhere=ARCHIVE)
    await store.apply(some_rules(), a_batch(moved, origin="deletion"))


class TestTheOtherWatch:
    async def test_adopts_the_acknowledged_state(self, store: Store) -> None:
        await adopt(store, "a1")

        (result,) = await seen_in_archive(store, an_observation())

        assert result.decision == Adopt()
        assert await told_status(store, watch=ARCHIVE) == "applied"
        assert await entry_of(store, watch=ARCHIVE) is None

    async def test_sends_another_state(self, store: Store) -> None:
        await adopt(store, "a1")

        await seen_in_archive(store, an_observation(status="hired"))

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_sends_it_while_a_call_is_pending(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))

        await seen_in_archive(store, an_observation())

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_compares_with_the_newest_of_several_states(self, store: Store) -> None:
        await adopt(store, "a1", watch="former", at=NOW - SECOND)
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        await acknowledge(store, await claim_one(store))

        await seen_in_archive(store, an_observation(), others=("former", WATCH))

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_sends_what_no_watch_knows_and_what_others_credentials_know(self, store: Store) -> None:
        await adopt(store, "a1", watch="stranger")

        await seen_in_archive(store, an_observation("a1"), an_observation("a2"))

        assert await entry_of(store, "a1", ARCHIVE) is not None
        assert await entry_of(store, "a2", ARCHIVE) is not None


class TestTheFormerWatch:
    async def test_forgets_the_application(self, store: Store) -> None:
        await adopt(store, "a1", "a2")
        await observe(store, an_observation(status="hired"))
        await store.apply(some_rules(), a_suspicion("a1", due_at=NOW))

        await left_to_archive(store)

        assert (await store.known(WATCH, ["a1", "a2"])).keys() == {"a2"}
        assert await entry_of(store) is None
        assert await store.next_suspicion(WATCH) is None
        assert (await store.counts())[WATCH].known == 1
        assert (await events_of(store))[-1] == "moved"

    async def test_begins_anew_if_it_comes_back(self, store: Store) -> None:
        await adopt(store, "a1")
        await left_to_archive(store)

        await observe(store, an_observation())

        assert await entry_of(store) is not None

    async def test_keeps_it_while_its_call_may_be_under_way(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        await store.apply(some_rules(), a_suspicion("a1", due_at=NOW))
        await lose_answer(store, await claim_one(store))

        await left_to_archive(store)

        assert await entry_of(store) is not None
        assert (await known_one(store)).snapshot is not None
        assert await store.next_suspicion(WATCH) == NOW + ASKED_AGAIN_AFTER
        await acknowledge(store, await claim_one(store))
        await left_to_archive(store)
        assert await store.known(WATCH, ["a1"]) == {}

    async def test_of_which_nothing_is_known_forgets_nothing(self, store: Store) -> None:
        await left_to_archive(store, "never seen")

        assert await events_of(store, "never seen") == []

    async def test_waits_while_the_other_table_cannot_be_asked(self, store: Store) -> None:
        await adopt(store, "a1")
        await store.apply(some_rules(), a_suspicion("a1", at=NOW - 1, due_at=NOW))

        unanswered = Resolved("a1", NOW, None, is_unanswered=True)
        await store.apply(some_rules(), a_batch(unanswered, origin="deletion"))

        assert await entry_of(store) is None
        (suspicion,) = await store.due_suspicions(WATCH, NOW + ASKED_AGAIN_AFTER, 10, horizon=HOUR)
        assert (suspicion.at, suspicion.due_at) == (NOW - 1, NOW + ASKED_AGAIN_AFTER)


async def test_applications_of_two_watches_are_counted_by_pair(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")
    await adopt(store, "a2", "a3", "a4", watch=ARCHIVE)
    await adopt(store, "a1", watch="stranger")

    assert await store.known_twice([WATCH, ARCHIVE], 10) == [KnownTwice(WATCH, ARCHIVE, 2, "a2", "a3")]
