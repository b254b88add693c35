"""Due entries for the sender, and what a start makes of those that are pending."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from support import acting
from support.builders import (
    ENDPOINT,
    HOUR,
    LANE,
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_batch,
    a_content,
    an_observation,
    some_rules,
)
from support.store_backends import OpenStore
from support.store_steps import (
    HORIZON,
    adopt,
    begin_call,
    begin_calls,
    lose_answer,
    observe,
    waiting_entry,
)

from cdc_sync.core.outbox import DueEntries, Entry, Wanted
from cdc_sync.core.replies import LONGEST_COUNTED, LONGEST_UNASKED, Finished, Health, Retry, begun
from cdc_sync.store import Store, delivery
from cdc_sync.store.driver import Transaction

STAGING = "https://right.example"
REPLY = {"reason": "HTTP 404"}


async def settle(store: Store, **due_in: int) -> None:
    """Queue applications which become due so many milliseconds from now."""
    await adopt(store, *due_in)
    for one, wait in due_in.items():
        await observe(store, an_observation(one, "hired"), rules=some_rules(default_settle=wait))


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.application_id for entry in entries]


async def due(
    store: Store, at: int, limit: int = 9, *, horizon: int = HORIZON, besides: Collection[str] = ()
) -> DueEntries:
    """What is due in the lane of these tests."""
    return await store.delivery.due({LANE: Wanted(limit, besides)}, at, at + horizon)


async def test_a_due_entry_is_found_as_it_was_enqueued(store: Store) -> None:
    await adopt(store, "a1")
    applied = await store.capture.apply(some_rules(), a_batch(an_observation(status="hired")))

    found = await due(store, NOW + SECOND)

    assert found.entries == {LANE: [await waiting_entry(store)]}
    assert found.entries[LANE] == list(applied.entries), "the sender may take it from the apply"
    assert found.entries[LANE][0].content == a_content("hired")


async def test_nothing_is_found_before_it_is_due_but_when_it_will_be(store: Store) -> None:
    await settle(store, a1=0, a2=1, a3=MINUTE)

    now, then = await due(store, NOW), await due(store, NOW + MINUTE - 1)

    assert (ids(now.entries[LANE]), now.next_at) == (["a1"], {LANE: NOW + 1})
    assert (ids(then.entries[LANE]), then.next_at) == (["a1", "a2"], {LANE: NOW + MINUTE})
    assert (await due(store, NOW + MINUTE)).next_at == {LANE: None}


async def test_each_lane_gets_what_it_wants(store: Store) -> None:
    for number in (1, 2, 3):
        await observe(store, an_observation(f"a{number}"), at=NOW + number)
        await observe(store, an_observation(f"s{number}", base_url=STAGING), at=NOW + number)
        await observe(store, an_observation(f"q{number}"), rules=some_rules("quiet"), at=NOW + number)
    nowhere, staging, quiet = ("https://elsewhere.example:443", WATCH), (f"{STAGING}:443", WATCH), (ENDPOINT, "quiet")
    wanted = {nowhere: Wanted(9), LANE: Wanted(1), staging: Wanted(2), quiet: Wanted(9)}

    found = await store.delivery.due(wanted, NOW + SECOND, NOW + HORIZON)

    of_lanes = {lane: ids(entries) for lane, entries in found.entries.items()}
    assert of_lanes == {nowhere: [], LANE: ["a1"], staging: ["s1", "s2"], quiet: ["q1", "q2", "q3"]}


async def test_lanes_show_of_each_watch_and_origin_when_the_first_entry_is_due(store: Store) -> None:
    await settle(store, a1=2 * MINUTE, a2=MINUTE)
    await observe(store, an_observation("s1", base_url=STAGING), rules=some_rules("quiet"))
    await observe(store, an_observation("q1"), rules=some_rules("quiet"), at=NOW + 5)

    assert (await store.delivery.healths()).keys() == {ENDPOINT, f"{STAGING}:443"}
    assert await store.delivery.lanes() == {
        LANE: NOW + MINUTE,
        (ENDPOINT, "quiet"): NOW + 5,
        (f"{STAGING}:443", "quiet"): NOW,
    }


class TestHowLongItWasTried:
    """From the first attempt to now, without the time for which it was due and nobody tried it."""

    @pytest.mark.parametrize("probing", [False, True], ids=["healthy", "probing"])
    async def test_a_wait_of_its_own_counts_and_a_long_pause_of_the_endpoint_does_not(
        self, store: Store, *, probing: bool
    ) -> None:
        await settle(store, a1=0)
        first = await begin_call(store, NOW + SECOND)
        await lose_answer(store, first, at=NOW + SECOND, again_at=NOW + MINUTE)
        a_week_later = NOW + MINUTE + 7 * 24 * HOUR

        found = await store.delivery.due({LANE: Wanted(1, probing=probing)}, a_week_later, a_week_later + HORIZON)

        (again,) = found.entries[LANE]
        assert begun(again, a_week_later).first_attempt_at == a_week_later - 59 * SECOND - LONGEST_COUNTED

    async def test_a_404_counts_for_as_long_as_somebody_asked(self, store: Store) -> None:
        await settle(store, a1=0)
        first = await begin_call(store, NOW)
        await store.delivery.complete([Finished(first, Retry(NOW + SECOND, not_found_since=NOW), REPLY, NOW)], {})

        again = await begin_call(store, NOW + SECOND + LONGEST_UNASKED)
        assert again.not_found_since == NOW
        await store.delivery.complete([Finished(again, Retry(NOW + 2 * MINUTE, not_found_since=NOW), REPLY, NOW)], {})
        much_later = NOW + HOUR
        again = await begin_call(store, much_later)
        assert again.not_found_since == much_later - 2 * MINUTE - LONGEST_UNASKED


class TestProbing:
    """Which of all that is due finds out whether the endpoint works: what failed must not stand in the others' way."""

    async def probe(self, store: Store, at: int, *, besides: Collection[str] = (), horizon: int = HORIZON) -> list[str]:
        found = await store.delivery.due({LANE: Wanted(1, besides, probing=True)}, at, at + horizon)
        return ids(found.entries[LANE])

    async def test_the_least_attempted_comes_first_and_of_these_the_longest_due(self, store: Store) -> None:
        await settle(store, twice=0, failed=1, new=SECOND, newer=2 * SECOND)
        for at, one in [(NOW, "twice"), (NOW, "twice"), (NOW + 1, "failed")]:
            (entry,) = await begin_calls(store, at, limit=1)
            assert entry.application_id == one
            await lose_answer(store, entry, at=at, again_at=NOW if one == "twice" and entry.attempts == 1 else NOW + 2)
        at, known = NOW + MINUTE, list[str]()

        for _ in range(4):
            known += await self.probe(store, at, besides=known)

        assert known == ["new", "newer", "failed", "twice"]


class TestTheEffect:
    async def test_a_failed_transaction_has_none(self, store: Store) -> None:
        seen: list[object] = []

        async def fail(_: Transaction) -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await store.driver.transact(fail, seen.append)

        assert seen == [None]


class TestAStart:
    async def test_after_a_clean_stop_nothing_was_attempted(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        await store.delivery.stopped_cleanly()
        await store.driver.close()
        store = await open_store()

        await store.delivery.begin_sending()

        assert not (await waiting_entry(store)).attempted

    async def test_a_clean_stop_counts_for_one_start(self, store: Store) -> None:
        await settle(store, a1=0)
        await store.delivery.stopped_cleanly()
        await store.delivery.begin_sending()

        await store.delivery.begin_sending()

        assert (await waiting_entry(store)).attempted

    async def test_however_much_is_pending_no_transaction_is_long(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A long one would end by the server's timeout, at each start again."""
        monkeypatch.setattr(delivery, "_MARKED_AT_ONCE", 2)
        ids = [f"a{number}" for number in range(5)]
        for watch in ("first", WATCH):
            await adopt(store, *ids, watch=watch)
            changed = [an_observation(id_, status="hired") for id_ in ids]
            await store.capture.apply(some_rules(watch), a_batch(*changed))
        begun, transact = list[None](), store.driver.transact

        async def noted(*arguments: Any) -> Any:
            begun.append(None)
            return await transact(*arguments)

        monkeypatch.setattr(store.driver, "transact", noted)
        await store.delivery.begin_sending()
        monkeypatch.undo()

        entries = await store.report.entries("pending", None, 100)
        assert len(entries) == 2 * len(ids)
        assert all(entry.attempted for entry in entries)
        assert len(begun) >= len(ids)


class TestEndpoints:
    async def test_its_health_is_kept(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        paused = Health("paused", failures=3, until=NOW + MINUTE, reason="HTTP 401")

        await store.delivery.complete([], {ENDPOINT: paused, "https://b.example:443": Health("throttled", 1, NOW)})
        await store.driver.close()

        assert await (await open_store()).delivery.endpoints() == {
            ENDPOINT: (paused, NOW),
            "https://b.example:443": (Health("throttled", 1, NOW), None),
        }

    async def test_it_has_the_entries_of_its_account_only(self, store: Store) -> None:
        await settle(store, a1=MINUTE)
        await observe(store, an_observation("q1", account="quiet"))
        await store.delivery.complete([], {f"{ENDPOINT} [quiet]": Health("paused", 1, NOW)})
        await store.delivery.note_configured([WATCH], ["default", "quiet", "loud"])

        assert await store.delivery.endpoints() == {
            ENDPOINT: (Health(), NOW + MINUTE),
            f"{ENDPOINT} [quiet]": (Health("paused", 1, NOW), NOW),
        }
        named = (ENDPOINT, f"{ENDPOINT} [quiet]", f"{ENDPOINT} [loud]", f"{ENDPOINT} [no]", f"{STAGING}:443 [loud]")
        assert [await store.delivery.has_endpoint(name) for name in named] == [True, True, True, False, False]

    async def test_entries_of_an_account_that_is_not_configured_wait_and_are_counted(self, store: Store) -> None:
        await observe(store, *(an_observation(each, account="gone") for each in ("q1", "q2")), an_observation("a1"))
        await observe(store, an_observation("r1", account="gone"), rules=some_rules("removed"))
        await store.delivery.note_configured([WATCH], ["default"])

        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), NOW)}
        assert await store.delivery.waiting() == {"gone": 2}
        assert (f"{ENDPOINT} [gone]", WATCH) in await store.delivery.lanes()
        await store.delivery.note_configured([WATCH, "removed"], ["default", "gone"])
        assert (await store.delivery.waiting(), len(await store.delivery.endpoints())) == ({}, 2)

    async def test_one_whose_account_is_gone_is_removed(self, store: Store) -> None:
        await store.delivery.note_configured([WATCH], ["a", "b"])
        await store.delivery.complete([], {f"{ENDPOINT} [{each}]": Health("paused", 1, NOW) for each in "ab"})

        for _ in range(2):
            await store.delivery.note_configured([WATCH], ["a", "c"])

            assert await store.delivery.configured() == delivery.Configured([WATCH], ["a", "c"])
            assert await store.delivery.endpoints() == {f"{ENDPOINT} [a]": (Health("paused", 1, NOW), None)}
            assert (await store.delivery.healths()).keys() == {f"{ENDPOINT} [a]"}
            # As a call does that was under way.
            await store.delivery.complete([], {f"{ENDPOINT} [b]": Health("paused", 1, NOW)})

    async def test_a_pause_of_a_removed_endpoint_stays_until_it_is_ended(self, store: Store) -> None:
        await store.delivery.note_configured([WATCH], ["a"])
        await acting.pause(store, f"{ENDPOINT} [a]")

        await store.delivery.note_configured([WATCH], [])

        assert await store.operation.paused() == {f"{ENDPOINT} [a]"}
        assert await store.delivery.has_endpoint(f"{ENDPOINT} [a]"), "it can be resumed"
