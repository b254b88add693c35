"""What capture keeps in the store: rows and keys, scope, suspicions, skips, positions, and a sweep's question."""

from collections.abc import Mapping

import pytest
from support.builders import (
    HOUR,
    NOW,
    SECOND,
    WATCH,
    a_batch,
    a_suspicion,
    an_observation,
    moved,
    some_rules,
)
from support.store_steps import (
    adopt,
    events_of,
    known_one,
    observe,
)

from cdc_sync.core.outbox import Skip, Suspicion
from cdc_sync.core.rows import Key
from cdc_sync.store import Store


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
        assert await store.capture.due_suspicions(WATCH, NOW + 5 * SECOND - 1, 10, horizon=HOUR) == []
        suspicion = Suspicion("a1", at=NOW, due_at=NOW + 5 * SECOND)
        assert await store.capture.due_suspicions(WATCH, NOW + 5 * SECOND, 10, horizon=HOUR) == [suspicion]
        assert await events_of(store) == ["suspected"]

    async def test_the_first_suspicion_counts(self, store: Store) -> None:
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=NOW + 5))

        applied = await store.capture.apply(some_rules(), a_suspicion("a1", at=NOW + 4, due_at=NOW + 9))

        assert applied.suspected == frozenset()
        due = await store.capture.due_suspicions(WATCH, NOW + 100, 10, horizon=HOUR)
        assert due == [Suspicion("a1", at=NOW, due_at=NOW + 5)]
        assert await events_of(store) == ["suspected"]

    async def test_one_that_a_wrong_clock_made_is_due_too(self, store: Store) -> None:
        ahead = Suspicion("a1", at=NOW, due_at=NOW + 365 * 24 * HOUR)
        await store.capture.apply(some_rules(), a_suspicion("a1", due_at=ahead.due_at))

        assert await store.capture.due_suspicions(WATCH, NOW, 10, horizon=366 * 24 * HOUR) == []
        assert await store.capture.due_suspicions(WATCH, NOW, 10, horizon=HOUR) == [ahead]

    async def test_an_answer_ends_it(self, store: Store) -> None:
        await store.capture.apply(some_rules(), a_suspicion("a1", "a2", due_at=NOW))

        await store.capture.apply(some_rules(), a_batch(answered=["a1", "never suspected"]))

        assert [one.application_id for one in await store.capture.due_suspicions(WATCH, NOW, 10, horizon=HOUR)] == [
            "a2"
        ]


class TestSkips:
    async def test_a_row_that_can_be_reported_again_is_forgotten(self, store: Store) -> None:
        kept = Skip(("2",), "a2", "it has no status")
        await store.capture.apply(some_rules(), a_batch(skips=[Skip(("1",), "a1", "it has no status"), kept]))

        await store.capture.apply(some_rules(), a_batch(skips=[Skip(("1",), "a1", None), Skip(("3",), "a3", None)]))

        assert await store.report.skipped(WATCH, 10) == [kept]


class TestUnseen:
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

        parts = [part async for part in store.capture.unseen(WATCH, bytes(bitmap), highest, 7)]

        assert sorted(id_ for part in parts for id_ in part) == ids[-3:]
        assert len(parts) >= 3
