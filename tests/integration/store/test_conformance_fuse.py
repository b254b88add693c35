"""A mass change is held for a person."""

import pytest
from support import acting
from support.builders import MINUTE, NOW, WATCH, a_baseline, a_batch, a_content, an_observation, some_rules
from support.store_backends import OpenStore
from support.store_steps import (
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    entry_of,
    events_of,
    lose_answer,
    observe,
    results_of,
    told_status,
    waiting_entry,
)

from cdc_sync.core.batch import ApplyResult
from cdc_sync.core.diff import Enqueue, Fuse
from cdc_sync.core.rows import Reportable, WatchRules
from cdc_sync.store import Store

TWO_CHANGES = some_rules(max_changes=2)
ONE_DELETION = some_rules(max_deletions=1)


def gone(application_id: str, status: str = "deleted") -> Reportable:
    return an_observation(application_id, status, deleted=True)


async def states(store: Store, *ids: str) -> list[str]:
    return [(await waiting_entry(store, one)).state for one in ids]


async def blow(store: Store, rules: WatchRules = TWO_CHANGES) -> None:
    """Three applications change, and the third is one too many."""
    await adopt(store, "a1", "a2", "a3")
    await observe(store, *(an_observation(one, "hired") for one in ("a1", "a2", "a3")), rules=rules)


async def test_as_many_changes_as_allowed_are_sent(store: Store) -> None:
    await adopt(store, "a1", "a2")

    await observe(store, an_observation("a1", "hired"), an_observation("a2", "hired"), rules=TWO_CHANGES)

    assert await states(store, "a1", "a2") == ["pending", "pending"]
    assert await store.operation.fuses() == {WATCH: Fuse(at=NOW, changes=2)}


async def test_changes_beyond_it_are_held_with_the_reason(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")

    news = await observe(store, *(an_observation(one, "hired") for one in ("a1", "a2", "a3")), rules=TWO_CHANGES)

    queue = Enqueue(frozenset({"status"}))
    assert news == [
        ApplyResult("a1", queue, "pending"),
        ApplyResult("a2", queue, "pending"),
        ApplyResult("a3", queue, "held", "more than 2 changes at once (fuse.max_changes)"),
    ]
    assert (await waiting_entry(store, "a3")).reason == "more than 2 changes at once (fuse.max_changes)"
    assert [entry.application_id for entry in await begin_calls(store)] == ["a1", "a2"]
    assert await events_of(store, "a3") == ["held"]
    fuse = (await store.operation.fuses())[WATCH]
    assert (fuse.blown_at, fuse.reason) == (NOW, "more than 2 changes at once (fuse.max_changes)")


async def test_deletions_have_a_limit_of_their_own(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")

    await observe(store, gone("a1"), an_observation("a3", "hired"), gone("a2"), rules=ONE_DELETION)

    assert await states(store, "a1", "a3", "a2") == ["pending", "pending", "held"]
    assert (await waiting_entry(store, "a2")).reason == "more than 1 deletions at once (fuse.max_deletions)"


async def test_changes_are_counted_over_batches_and_restarts(store: Store, open_store: OpenStore) -> None:
    await adopt(store, "a1", "a2", "a3", "a4")
    await observe(store, an_observation("a1", "hired"), rules=TWO_CHANGES, at=NOW)
    await observe(
        store, an_observation("a2", "hired"), an_observation("a4", "hired"), rules=TWO_CHANGES, at=NOW + MINUTE
    )
    await store.driver.close()

    later = await open_store()
    await observe(later, an_observation("a3", "hired"), rules=TWO_CHANGES, at=NOW + 2 * MINUTE)

    assert await states(later, "a1", "a2", "a4", "a3") == ["pending", "pending", "held", "held"]


async def test_a_new_window_begins_at_zero(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")
    await observe(store, an_observation("a1", "hired"), an_observation("a2", "hired"), rules=TWO_CHANGES, at=NOW)

    await observe(store, an_observation("a3", "hired"), rules=TWO_CHANGES, at=NOW + 10 * MINUTE)

    assert await states(store, "a3") == ["pending"]


async def test_what_is_held_stays_held_and_an_ordinary_change_goes_on(store: Store) -> None:
    await blow(store)
    await adopt(store, "a4")

    await observe(store, an_observation("a4", "hired"), rules=TWO_CHANGES, at=NOW + 6 * MINUTE)

    assert await states(store, "a3", "a4") == ["held", "pending"]
    assert (await store.operation.fuses())[WATCH].blown_at == NOW, "a person still has to decide"


async def test_changes_go_on_while_deletions_are_held(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3", "a4")
    await observe(store, gone("a1"), gone("a2"), rules=ONE_DELETION)

    await observe(store, an_observation("a3", "hired"), gone("a4"), rules=ONE_DELETION)

    assert await states(store, "a1", "a2", "a3", "a4") == ["pending", "held", "pending", "held"]


async def test_it_is_whole_again_when_the_mass_change_was_undone(store: Store) -> None:
    await blow(store)

    await observe(store, an_observation("a3"), rules=TWO_CHANGES)

    fuse = (await store.operation.fuses())[WATCH]
    assert (fuse.blown_at, fuse.reason) == (None, None)


async def test_it_is_whole_again_when_all_that_was_held_is_dead(store: Store) -> None:
    await blow(store)

    await observe(store, an_observation("a3", "rejected", refused="the URL may not be called"), rules=TWO_CHANGES)

    assert await states(store, "a3") == ["dead"]
    assert (await store.operation.fuses())[WATCH].blown_at is None


async def test_it_is_whole_again_when_all_that_was_held_is_acknowledged(store: Store) -> None:
    rules = some_rules(max_deletions=0)
    await adopt(store, "a1")
    await observe(store, an_observation("a1", "hired"), rules=rules)
    under_way = await begin_call(store)
    await observe(store, gone("a1"), rules=rules)
    await observe(store, an_observation("a1", "hired"), rules=rules)
    assert await states(store, "a1") == ["held"]

    await acknowledge(store, under_way)

    assert await entry_of(store) is None
    assert (await store.operation.fuses())[WATCH].blown_at is None


async def test_what_a_person_released_counts_as_new_when_it_changes_again(store: Store) -> None:
    """Else a second mass change of the same applications would go out uncounted."""
    ids = ("a1", "a2", "a3", "a4", "a5")
    await adopt(store, *ids)
    await observe(store, *(an_observation(one, "hired") for one in ids), rules=TWO_CHANGES)
    await acting.release_held(store, WATCH, NOW + MINUTE)

    await observe(store, *(an_observation(one, "rejected") for one in ids), rules=TWO_CHANGES, at=NOW + 2 * MINUTE)

    assert sorted(await states(store, *ids)) == ["held"] * 3 + ["pending"] * 2


async def test_it_can_be_blown_beforehand(store: Store) -> None:
    await adopt(store, "a1")

    await store.capture.blow_fuse(WATCH, "the map has changed", NOW)
    await observe(store, an_observation("a1", "hired"), rules=TWO_CHANGES)

    entry = await waiting_entry(store, "a1")
    assert (entry.state, entry.reason) == ("held", "the map has changed")
    assert len(await acting.release_held(store, WATCH, NOW)) == 1
    assert (await store.operation.fuses())[WATCH].blown_at is None


async def test_the_first_reason_is_kept(store: Store) -> None:
    await blow(store)

    await store.capture.blow_fuse(WATCH, "the map has changed", NOW + MINUTE)

    fuse = (await store.operation.fuses())[WATCH]
    assert (fuse.blown_at, fuse.reason) == (NOW, "more than 2 changes at once (fuse.max_changes)")


async def test_held_entries_follow_later_changes_and_stay_held(store: Store) -> None:
    await blow(store)

    news = await observe(store, an_observation("a3", "rejected"), rules=TWO_CHANGES, at=NOW + 100 * MINUTE)

    assert news == [
        ApplyResult("a3", Enqueue(frozenset({"status"})), "held", "more than 2 changes at once (fuse.max_changes)")
    ]
    entry = await waiting_entry(store, "a3")
    assert (entry.content, entry.state) == (a_content("rejected", application_id="a3"), "held")


async def test_a_held_change_that_is_undone_is_cancelled(store: Store) -> None:
    await blow(store)

    assert await observe(store, an_observation("a3"), rules=TWO_CHANGES) == [ApplyResult("a3", "cancel")]

    assert await entry_of(store, "a3") is None


async def test_a_held_entry_whose_content_was_tried_before_is_not_cancelled(store: Store) -> None:
    await adopt(store, "a1", "a2")
    await observe(store, an_observation("a1", "hired"), rules=ONE_DELETION)
    await lose_answer(store, await begin_call(store))
    await observe(store, gone("a2"), gone("a1"), rules=ONE_DELETION)
    assert await states(store, "a1") == ["held"]

    await observe(store, an_observation("a1"), rules=ONE_DELETION)

    entry = await waiting_entry(store, "a1")
    assert (entry.state, entry.content.status, entry.attempted) == ("held", "applied", True)


async def test_replacing_what_waits_is_not_counted_again(store: Store) -> None:
    await adopt(store, "a1")

    for status in ("seen", "interview", "hired", "pool"):
        await observe(store, an_observation("a1", status), rules=TWO_CHANGES)

    assert await states(store, "a1") == ["pending"]
    assert (await store.operation.fuses())[WATCH].changes == 1


async def test_a_mass_change_of_what_waits_already_is_held(store: Store) -> None:
    """HelloWork is away, and then an UPDATE without WHERE tells something else of every application that waits."""
    ids = ("a1", "a2", "a3", "a4")
    await adopt(store, *ids)
    for minutes, pair in ((0, ids[:2]), (10, ids[2:])):
        await observe(
            store, *(an_observation(one, "seen") for one in pair), rules=TWO_CHANGES, at=NOW + minutes * MINUTE
        )

    await observe(store, *(an_observation(one, "rejected") for one in ids), rules=TWO_CHANGES, at=NOW + 30 * MINUTE)

    assert await states(store, *ids) == ["pending", "pending", "held", "held"]


async def test_what_was_believed_may_change_while_others_are_held(store: Store) -> None:
    await blow(store)
    assert await states(store, "a1", "a2") == ["pending", "pending"]

    await observe(store, an_observation("a1", "rejected"), rules=TWO_CHANGES)
    await observe(store, an_observation("a2"), rules=TWO_CHANGES)

    assert await states(store, "a1") == ["pending"]
    assert await entry_of(store, "a2") is None, "what is undone before it was sent is cancelled as ever"


async def test_a_fuse_that_holds_all_holds_what_waited_before_as_soon_as_it_changes(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation("a1", "seen"), rules=TWO_CHANGES)
    await store.capture.blow_fuse(WATCH, "the map has changed", NOW)

    await observe(store, an_observation("a1", "rejected"), rules=TWO_CHANGES)

    assert await states(store, "a1") == ["held"]


async def test_a_pending_change_that_becomes_a_deletion_counts_as_one(store: Store) -> None:
    await adopt(store, "a1", "a2")
    await observe(store, an_observation("a1", "seen"), an_observation("a2", "seen"), rules=ONE_DELETION)

    await observe(store, gone("a1"), gone("a2"), rules=ONE_DELETION)

    assert await states(store, "a1", "a2") == ["pending", "held"]


async def test_a_pending_deletion_that_changes_is_not_counted_again(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, gone("a1"), rules=ONE_DELETION)

    await observe(store, gone("a1", "removed"), rules=ONE_DELETION)

    assert await states(store, "a1") == ["pending"]
    assert (await store.operation.fuses())[WATCH].deletions == 1


async def test_a_dead_letter_that_changes_is_counted(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")
    await bury(store, an_observation("a1", "hired"))
    await observe(store, an_observation("a2", "hired"), rules=TWO_CHANGES)
    assert (await store.operation.fuses())[WATCH].changes == 2

    await observe(store, an_observation("a1", "seen"), rules=TWO_CHANGES)

    assert await states(store, "a1") == ["held"]


@pytest.mark.parametrize(
    "observation",
    [an_observation("a1"), an_observation("a1", "42", refused="unmapped")],
    ids=["what is no news", "what is not to be sent"],
)
async def test_only_what_would_be_sent_counts(store: Store, observation: Reportable) -> None:
    await adopt(store, "a1")

    await observe(store, observation, rules=TWO_CHANGES)

    assert await store.operation.fuses() == {}


async def test_a_baseline_does_not_count(store: Store) -> None:
    await store.capture.apply(TWO_CHANGES, a_baseline(*(an_observation(f"a{number}") for number in range(10))))

    assert await store.operation.fuses() == {}


async def test_applications_sent_as_the_first_count(store: Store) -> None:
    await observe(store, *(an_observation(one) for one in ("a1", "a2", "a3")), rules=TWO_CHANGES)

    assert await states(store, "a1", "a2", "a3") == ["pending", "pending", "held"]
    assert await told_status(store, "a3") is None


async def test_another_watch_goes_on(store: Store) -> None:
    await blow(store)
    await adopt(store, "b1", watch="spontaneous")

    await observe(store, an_observation("b1", "hired"), rules=some_rules("spontaneous", max_changes=2))

    assert (await waiting_entry(store, "b1", "spontaneous")).state == "pending"
    assert (await store.operation.fuses())["spontaneous"].blown_at is None


class TestADoubtedDeletion:
    """Row-level security may have hidden the row."""

    async def test_is_held_by_itself(self, store: Store) -> None:
        await adopt(store, "a1", "a2", "a3")

        news = await doubt(store, gone("a1"), an_observation("a2", "hired"), gone("a3"))

        kinds = Enqueue(frozenset({"deleted", "status"}))
        assert news == [
            ApplyResult("a1", kinds, "held", DOUBT),
            ApplyResult("a2", Enqueue(frozenset({"status"})), "pending"),
            ApplyResult("a3", kinds, "held", DOUBT),
        ]
        assert await store.operation.fuses() == {WATCH: Fuse(at=NOW, changes=1)}
        assert [entry.application_id for entry in await begin_calls(store)] == ["a2"]

    async def test_is_taken_back_when_the_row_is_seen_again(self, store: Store) -> None:
        await adopt(store, "a1")
        await doubt(store, gone("a1"))

        assert await doubt(store, an_observation("a1")) == [ApplyResult("a1", "cancel")]

    async def test_becomes_a_change_that_is_sent_when_the_row_is_seen_with_one(self, store: Store) -> None:
        await adopt(store, "a1")
        await doubt(store, gone("a1"))

        await doubt(store, an_observation("a1", "hired"))

        assert await states(store, "a1") == ["pending"]
        assert (await store.operation.fuses())[WATCH].changes == 1

    async def test_stays_held_while_it_changes_and_when_it_is_no_longer_unverified(self, store: Store) -> None:
        await adopt(store, "a1")
        await doubt(store, gone("a1"))

        await doubt(store, gone("a1", "removed"))
        await observe(store, gone("a1", "purged"))

        entry = await waiting_entry(store, "a1")
        assert (entry.state, entry.reason, entry.content.status) == ("held", DOUBT, "purged")

    async def test_takes_the_place_of_a_change_that_waits(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation("a1", "hired"))

        await doubt(store, gone("a1"))

        assert await states(store, "a1") == ["held"]

    async def test_does_not_end_the_hold_of_a_blown_fuse(self, store: Store) -> None:
        await blow(store)
        await doubt(store, gone("a3"))

        await doubt(store, an_observation("a3", "rejected"))

        assert await states(store, "a3") == ["held"]

    async def test_is_sent_when_a_person_releases_it(self, store: Store) -> None:
        await adopt(store, "a1")
        await doubt(store, gone("a1"))

        assert len(await acting.release_held(store, None, NOW, only="deletions")) == 1

        assert [entry.content.deleted for entry in await begin_calls(store)] == [True]

    async def test_is_forgotten_when_a_person_discards_it(self, store: Store) -> None:
        await adopt(store, "a1")
        await doubt(store, gone("a1"))

        assert await acting.discard(store, "held", None, NOW) == [(WATCH, "a1")]

        assert await entry_of(store, "a1") is None

    async def test_of_an_application_without_a_snapshot_is_held_too(self, store: Store) -> None:
        await doubt(store, gone("a1"))

        assert await states(store, "a1") == ["held"]


DOUBT = "row-level security of public.applications may hide rows from cdc_sync"


async def doubt(store: Store, *observations: Reportable) -> list[ApplyResult]:
    return await results_of(store, some_rules(), a_batch(*observations, origin="deletion", doubt=DOUBT))
