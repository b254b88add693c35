"""What an observation becomes, by what HelloWork knows and what waits."""

from dataclasses import replace

import pytest
from support import acting
from support.builders import (
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_baseline,
    a_batch,
    a_content,
    an_observation,
    moved,
    some_rules,
)
from support.store_steps import (
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    known_one,
    lose_answer,
    observe,
    story_of,
    waiting_entry,
)

from cdc_sync.core.batch import Applied
from cdc_sync.core.failures import StoreError
from cdc_sync.core.rows import Observation, OutOfScope
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import Store


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
    await lose_answer(store, await begin_call(store), again_at=NOW + 10 * MINUTE)

    await observe(store, an_observation(status="hired"), at=NOW + SECOND)

    entry = await waiting_entry(store)
    assert (entry.attempts, entry.first_attempt_at, entry.reason) == (0, None, None)
    assert entry.due_at == NOW + SECOND
    assert entry.attempted
    assert [event.detail.get("replaced") for event in await story_of(store)] == [False, None, True]


@pytest.mark.parametrize("application_id", ["1", "é 🎉", 'a"b', "a'b", "a\\b", "%", "[1]", "{}", "x" * 300, " 1"])
async def test_any_id_names_its_application_and_no_other(store: Store, application_id: str) -> None:
    await adopt(store, application_id, "other")

    await observe(store, an_observation(application_id, "hired"))

    assert (await begin_call(store)).application_id == application_id
    assert list(await store.capture.known("applications", [application_id])) == [application_id]


async def test_a_large_baseline_is_one_step(store: Store) -> None:
    ids = [f"a{number}" for number in range(5000)]

    await adopt(store, *ids)

    known = await store.capture.known("applications", ids)
    assert len(known) == 5000
    assert len({one.number for one in known.values()}) == 5000


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
