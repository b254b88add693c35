"""What observations become, what capture keeps in the store, and applications that move between two watches."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest
from support import acting
from support.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_baseline,
    a_batch,
    a_content,
    a_suspicion,
    an_observation,
    moved,
    some_rules,
)
from support.store_steps import (
    Begun,
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    entry_of,
    events_of,
    known_one,
    lose_answer,
    observe,
    results_of,
    story_of,
    told_status,
    waiting_entry,
)

from cdc_sync.core.batch import Applied, ApplyResult, Resolved
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Entry, Skip, Suspicion
from cdc_sync.core.rows import Key, Observation, OutOfScope, Reportable
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import Store, delivery, driver


async def unresolved(store: Store, *keys: Key, watch: str = WATCH) -> Mapping[str, int]:
    """The applications that these rows represented last, now that the rows are gone."""
    batch = a_batch(skips=[Skip(key, None, None) for key in keys])
    return (await store.capture.apply(some_rules(watch), batch._replace(skipped={}))).unresolved


class TestKeys:
    async def test_a_move_to_another_row_is_followed_even_if_it_is_no_news(self, store: Store) -> None:
        await adopt(store, "a1")

        assert await observe(store, moved(an_observation(), "row 2")) == []

        assert (await known_one(store)).key == ("row 2",)
        assert await unresolved(store, ("a1",)) == {}
        assert await unresolved(store, ("row 2",)) == {"a1": NOW}


class TestSuspicions:
    async def test_a_suspicion_is_due_after_its_grace(self, store: Store) -> None:
        applied = await store.capture.apply(some_rules(), a_suspicion("a1"))

        assert applied.suspected == {"a1"}
        assert await store.capture.next_suspicion(WATCH) == NOW + 5 * SECOND
        assert await store.capture.due_suspicions(WATCH, NOW + 5 * SECOND - 1, 10) == []
        suspicion = Suspicion("a1", at=NOW, due_at=NOW + 5 * SECOND)
        assert await store.capture.due_suspicions(WATCH, NOW + 5 * SECOND, 10) == [suspicion]
        assert await events_of(store) == ["suspected"]

    async def test_the_first_suspicion_counts(self, store: Store) -> None:
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=NOW + 5))

        applied = await store.capture.apply(some_rules(), a_suspicion("a1", at=NOW + 4, due_at=NOW + 9))

        assert applied.suspected == frozenset()
        due = await store.capture.due_suspicions(WATCH, NOW + 100, 10)
        assert due == [Suspicion("a1", at=NOW, due_at=NOW + 5)]
        assert await events_of(store) == ["suspected"]

    async def test_one_that_a_wrong_clock_made_is_due_too(self, store: Store) -> None:
        ahead = Suspicion("a1", at=NOW, due_at=NOW + 365 * 24 * HOUR)
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=ahead.due_at))

        await store.delivery.hasten([WATCH], NOW, NOW + 366 * 24 * HOUR)
        assert await store.capture.due_suspicions(WATCH, NOW, 10) == []
        await store.delivery.hasten(["of another configuration"], NOW, NOW + HOUR)
        assert await store.capture.due_suspicions(WATCH, NOW, 10) == []
        await store.delivery.hasten([WATCH], NOW, NOW + HOUR)
        assert await store.capture.due_suspicions(WATCH, NOW, 10) == [ahead._replace(due_at=NOW)]

    async def test_however_many_of_them_leave_the_store_to_others_in_between(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "_AT_ONCE", 2)
        monkeypatch.setattr(driver, "_LARGEST_GROUP", 1)
        ids, seen = [f"a{number}" for number in range(5)], set[int]()
        await store.capture.apply(some_rules(), a_suspicion(*ids, due_at=NOW + 365 * 24 * HOUR))
        hastening = asyncio.create_task(store.delivery.hasten([WATCH], NOW, NOW + HOUR))
        while not hastening.done():
            seen.add(len(await store.capture.due_suspicions(WATCH, NOW, 10)))

        assert seen == {0, 2, 4, 5}

    async def test_an_answer_ends_it(self, store: Store) -> None:
        await store.capture.apply(some_rules(), a_suspicion("a1", "a2", due_at=NOW))

        await store.capture.apply(some_rules(), a_batch(answered=["a1", "never suspected"]))

        assert [one.application_id for one in await store.capture.due_suspicions(WATCH, NOW, 10)] == ["a2"]


class TestSkips:
    async def test_a_row_that_can_be_reported_again_is_forgotten(self, store: Store) -> None:
        kept = Skip(("2",), "a2", "it has no status")
        await store.capture.apply(some_rules(), a_batch(skips=[Skip(("1",), "a1", "it has no status"), kept]))

        await store.capture.apply(some_rules(), a_batch(skips=[Skip(("1",), "a1", None), Skip(("3",), "a3", None)]))

        assert await store.report.skipped([WATCH], 10) == [(WATCH, kept)]


async def test_a_batch_brings_positions_along(store: Store) -> None:
    for positions in ({"watermark": "2023-01-10 09:00:00.123456", "fence": "1"}, {"fence": "2"}):
        await store.capture.apply(some_rules(), a_batch(positions=positions))

    assert await store.capture.positions(WATCH) == {"watermark": "2023-01-10 09:00:00.123456", "fence": "2"}


class TestUnmet:
    """A sweep marks what it meets in a bitmap; what is not marked may be gone."""

    @pytest.mark.parametrize("others", [0, 100])
    async def test_they_are_returned_in_parts_and_of_the_watch_alone(self, store: Store, others: int) -> None:
        ids = [f"a{number:02}" for number in range(21)]
        await adopt(store, *ids[:14])
        await adopt(store, *map(str, range(others)), watch="spontaneous")
        await adopt(store, *ids[14:])
        highest = await store.capture.highest_number()
        bitmap = bytearray(highest // 8 + 1)
        for known in (await store.capture.known(WATCH, ids[:-3])).values():
            bitmap[known.number >> 3] |= 1 << (known.number & 7)
        await adopt(store, "b1")  # it came later

        parts = [part async for part in store.capture.unmet(WATCH, bytes(bitmap), highest, 7)]

        assert sorted(id_ for part in parts for id_ in part) == ids[-3:]
        assert len(parts) >= 3


async def test_every_field_of_a_content_is_kept(store: Store) -> None:
    content = a_content("reçu 🎉 '\"", "2022-001-développeur", deleted=True)._replace(
        created=-62_135_596_800_000,  # the first and the last instant that HelloWork's dates can write
        event_date=253_402_300_799_999,
        source='{"sourceId": "CVCatcherWebsite", "n": 1.10}',
        extra='{"communicationDelay": 3}',
    )

    await observe(store, replace(an_observation(), content=content))
    assert (await waiting_entry(store)).content == content

    await acknowledge(store, await begin_call(store))
    assert (await known_one(store)).snapshot == content


async def test_a_new_content_starts_its_retries_afresh_but_stays_attempted(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="seen"))
    called = await begin_call(store)
    await lose_answer(store, called, again_at=NOW + 10 * MINUTE)

    await observe(store, an_observation(status="hired"), at=NOW + SECOND)

    entry = await waiting_entry(store)
    assert (entry.attempts, entry.first_attempt_at, entry.reason) == (0, None, None)
    assert (entry.queued_at, entry.due_at) == (NOW + SECOND, NOW + SECOND)
    assert entry.revision > called.revision
    assert entry.attempted
    assert [event.detail.get("replaced") for event in await story_of(store)] == [False, None, True]


@pytest.mark.parametrize("application_id", ["1", "é 🎉", 'a"b', "a'b", "a\\b", "%", "[1]", "{}", "x" * 300, " 1"])
async def test_any_id_names_its_application_and_no_other(store: Store, application_id: str) -> None:
    await adopt(store, application_id, "other")

    await observe(store, an_observation(application_id, "hired"))

    assert (await begin_call(store)).application_id == application_id
    assert list(await store.capture.known("applications", [application_id])) == [application_id]


async def test_a_batch_that_cannot_be_recorded_leaves_nothing_behind(store: Store) -> None:
    twice = a_baseline(an_observation("a1"), *(moved(an_observation("a2"), row) for row in ("row 1", "row 2")))

    with pytest.raises(StoreError):
        await store.capture.apply(some_rules(), twice._replace(positions={"baseline": "a2"}))

    assert await store.capture.known("applications", ["a1", "a2"]) == {}
    assert await store.capture.positions("applications") == {}


async def test_a_batch_without_news_is_not_written(store: Store) -> None:
    await adopt(store, "a1", "a2")
    await observe(store, an_observation("a2", "seen"))
    rows: list[Observation] = [an_observation("a1"), an_observation("a2", "seen"), OutOfScope(None, ("nobody's",))]

    assert await store.capture.apply(some_rules(), a_batch(*rows)._replace(replica={"replica": "7"})) == Applied()
    assert (await store.capture.apply(some_rules(), a_batch(an_observation("a1", key=("row 2",))))).written is False
    assert await store.capture.positions(WATCH) == {}

    applied = await store.capture.apply(
        some_rules(), a_batch(an_observation("a1", "seen"))._replace(replica={"replica": "7"})
    )
    assert applied.written
    assert await store.capture.positions(WATCH) == {"replica": "7"}


class TestACorrectedRow:
    """It says what waits already, and something else of what rides along."""

    async def test_corrects_a_dead_letter_which_stays_one(self, store: Store) -> None:
        await adopt(store, "a1")
        await bury(store, an_observation(status="hired"))
        before = await waiting_entry(store, "a1")
        corrected = replace(an_observation(status="hired"), content=RIGHT)

        assert await observe(store, corrected) == []

        entry = await waiting_entry(store, "a1")
        assert entry.content == RIGHT._replace(event_date=before.content.event_date)
        assert entry._replace(content=before.content, revision=before.revision) == before
        assert await acting.retry_dead(store, None, NOW) == [(WATCH, "a1")]
        (sent,) = await begin_calls(store, endpoint=endpoint_of(RIGHT.url))
        assert sent.content == entry.content

    async def test_is_sent_instead_of_what_waits_and_no_sooner(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"), rules=some_rules(default_settle=MINUTE))

        await observe(
            store, replace(an_observation(status="hired"), content=RIGHT), rules=some_rules(), at=NOW + SECOND
        )

        assert await begin_calls(store, NOW + MINUTE - 1, endpoint=endpoint_of(RIGHT.url)) == []
        assert endpoint_of(RIGHT.url) in await store.delivery.endpoints()
        (sent,) = await begin_calls(store, NOW + MINUTE, endpoint=endpoint_of(RIGHT.url))
        assert (sent.content.source, sent.content.url) == (RIGHT.source, RIGHT.url)
        assert (await store.operation.fuses())[WATCH].changes == 1


RIGHT = a_content("hired", base_url="https://right.example")._replace(
    source='"partner"', created=NOW - 1, extra='{"x": 1}'
)


ARCHIVE = "archive"


async def seen_in_archive(
    store: Store, *observations: Reportable, others: tuple[str, ...] = (WATCH,)
) -> list[ApplyResult]:
    """What the archive's watch makes of rows, which has the same credentials as others."""
    return await results_of(store, some_rules(ARCHIVE), a_batch(*observations)._replace(others=others))


async def left_to_archive(store: Store, application_id: str = "a1") -> None:
    """The answer to a suspicion, after a look at the archive's table."""
    moved = Resolved(application_id, NOW, None)
    await store.capture.apply(some_rules(), a_batch(moved, origin="deletion")._replace(others=[ARCHIVE]))


class TestTheOtherWatch:
    async def test_adopts_the_acknowledged_state(self, store: Store) -> None:
        await adopt(store, "a1")

        assert await seen_in_archive(store, an_observation()) == []

        assert await told_status(store, watch=ARCHIVE) == "applied"
        assert await entry_of(store, watch=ARCHIVE) is None

    async def test_compares_with_the_newest_of_several_states(self, store: Store) -> None:
        await adopt(store, "a1", watch="former", at=NOW - SECOND)
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        await acknowledge(store, await begin_call(store))

        await seen_in_archive(store, an_observation(), others=("former", WATCH))

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_sends_what_another_one_may_be_sending(self, store: Store) -> None:
        await observe(store, an_observation())

        batch = a_batch(an_observation())._replace(others=[WATCH], first_status="adopt")
        await store.capture.apply(some_rules(ARCHIVE), batch)

        assert await entry_of(store, watch=ARCHIVE) is not None

    async def test_finds_states_among_more_records_than_one_statement_searches(self, store: Store) -> None:
        ids = [f"a{number}" for number in range(30)]
        await adopt(store, *ids)
        strangers = [f"w{number}" for number in range(1000)]

        rows = map(an_observation, ids)
        assert await seen_in_archive(store, *rows, others=(*strangers, WATCH)) == []
        assert (await store.capture.known(ARCHIVE, ids)).keys() == set(ids)


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
        assert await store.capture.next_suspicion(ARCHIVE) == NOW + some_rules().deletion_grace

    @pytest.mark.parametrize("is_acknowledged", [True, False])
    async def test_of_what_leaves_the_scope_has_its_state_or_the_entrys(
        self, store: Store, *, is_acknowledged: bool
    ) -> None:
        await adopt(store, "a1", watch=ARCHIVE)
        await observe(store, an_observation(status="hired"))
        if is_acknowledged:
            await acknowledge(store, await begin_call(store))

        assert (await leave_scope(store)).heirs == {ARCHIVE}

        assert await told_status(store, watch=ARCHIVE) == "hired"
        assert await store.capture.suspected(ARCHIVE, ["a1"]) == {"a1"}

    async def test_keeps_a_newer_state(self, store: Store) -> None:
        await adopt(store, "a1")
        await seen_in_archive(store, an_observation(status="hired"))
        await acknowledge(store, await begin_call(store), at=NOW + 1)

        assert (await leave_scope(store)).heirs == frozenset()

        assert await told_status(store, watch=ARCHIVE) == "hired"


async def leave_scope(store: Store) -> Applied:
    """What comes of a row of the watch that no longer matches its `where`."""
    row = Resolved("a1", NOW, OutOfScope("a1", ("a1",), changed_at=NOW), frozenset({("a1",)}))
    return await store.capture.apply(some_rules(), a_batch(row)._replace(others=[ARCHIVE]))


class TestTheFormerWatch:
    async def test_forgets_the_application(self, store: Store) -> None:
        await adopt(store, "a1", "a2")
        await adopt(store, "a1", watch=ARCHIVE)
        await observe(store, an_observation(status="hired"))
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=NOW))

        await left_to_archive(store)

        assert (await store.capture.known(WATCH, ["a1", "a2"])).keys() == {"a2"}
        assert await entry_of(store) is None
        assert await store.capture.next_suspicion(WATCH) is None
        assert (await store.report.counts())[WATCH].known == 1
        assert (await events_of(store))[-1] == "moved"
