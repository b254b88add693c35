"""Due entries for the sender, and what a start makes of those that are pending."""

import asyncio
from collections.abc import Collection, Iterable
from functools import partial
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
    Begun,
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    events_of,
    lose_answer,
    observe,
    story_of,
    waiting_entry,
)

from cdc_sync.core.batch import Applied
from cdc_sync.core.content import request
from cdc_sync.core.outbox import DueEntries, Entry, Wanted
from cdc_sync.core.replies import LONGEST_COUNTED, LONGEST_UNASKED, Acked, Finished, Health, Retry, begun
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


async def test_a_replaced_entry_comes_from_the_apply_as_it_was_written(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    entry = await begin_call(store)

    applied = await store.capture.apply(some_rules(), a_batch(an_observation(status="seen")), Begun(entry))

    (found,) = applied.entries
    assert found == await waiting_entry(store)
    assert (found.revision, found.attempted, found.attempts) == (entry.revision + 1, True, 0)


async def test_the_history_has_the_attempt_with_its_end(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    entry = await begin_call(store, NOW)
    assert await events_of(store) == ["queued"]

    await acknowledge(store, entry, at=NOW + SECOND)

    ended = (await story_of(store))[-1]
    assert (ended.event, ended.at, ended.detail["attempt"]) == ("acknowledged", NOW + SECOND, 1)
    assert ended.detail["to"] == {"status": "hired", "job_id": "J1", "deleted": False}


async def test_nothing_is_found_before_it_is_due_but_when_it_will_be(store: Store) -> None:
    await settle(store, a1=0, a2=1, a3=MINUTE)

    now, then = await due(store, NOW), await due(store, NOW + MINUTE - 1)

    assert (ids(now.entries[LANE]), now.next_at) == (["a1"], {LANE: NOW + 1})
    assert (ids(then.entries[LANE]), then.next_at) == (["a1", "a2"], {LANE: NOW + MINUTE})
    assert (await due(store, NOW + MINUTE)).next_at == {LANE: None}


async def test_what_is_in_memory_is_not_found_again(store: Store) -> None:
    await settle(store, a1=0, a2=1, a3=2)

    found = await due(store, NOW + 2, 1, besides=["a1"])

    assert (ids(found.entries[LANE]), found.next_at) == (["a2"], {LANE: NOW + 2})


async def test_the_longest_due_come_first_and_no_more_than_wanted(store: Store) -> None:
    await settle(store, a1=3, a2=1, a3=2)

    found = await due(store, NOW + 10, 2)

    assert (ids(found.entries[LANE]), found.next_at) == (["a2", "a3"], {LANE: NOW + 10})


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


async def test_an_entry_follows_its_newest_url_to_another_endpoint(store: Store) -> None:
    await observe(store, an_observation(status="seen"))

    await observe(store, an_observation(status="hired", base_url=STAGING))

    assert await begin_calls(store) == []
    assert ids(await begin_calls(store, endpoint=f"{STAGING}:443")) == ["a1"]


@pytest.mark.parametrize("state", ["held", "dead"])
async def test_only_pending_entries_are_found(store: Store, state: str) -> None:
    await adopt(store, "a1")
    if state == "held":
        await observe(store, an_observation(status="hired"), rules=some_rules(max_changes=0))
    else:
        await bury(store, an_observation(status="hired"))
    assert (await waiting_entry(store)).state == state

    assert await due(store, NOW + MINUTE) == DueEntries({LANE: []}, {LANE: None})


async def test_a_due_time_beyond_the_horizon_is_a_clocks_mistake(store: Store) -> None:
    await settle(store, a1=MINUTE, a2=MINUTE + 1)

    found = await due(store, NOW, horizon=MINUTE)

    assert (ids(found.entries[LANE]), found.next_at) == (["a2"], {LANE: NOW + MINUTE})


async def test_what_is_due_goes_before_a_clocks_mistakes(store: Store) -> None:
    await settle(store, a1=10 * MINUTE, a2=0)

    found = await due(store, NOW, 1, horizon=MINUTE)

    assert (ids(found.entries[LANE]), found.next_at) == (["a2"], {LANE: NOW})


async def test_a_retry_is_the_same_request_to_the_byte(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired", event_date=NOW))
    first = await begin_call(store, NOW)
    await lose_answer(store, first, again_at=NOW + SECOND)
    await observe(store, an_observation(status="hired", event_date=NOW + MINUTE))

    second = await begin_call(store, NOW + SECOND)

    assert request("a1", second.content) == request("a1", first.content)
    assert (second.revision, second.attempts, second.first_attempt_at) == (first.revision, 2, NOW)


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

    async def test_from_a_refusal_of_our_credentials_on_it_counts_again(self, store: Store) -> None:
        await settle(store, a1=0)
        first = await begin_call(store, NOW)
        await store.delivery.complete([Finished(first, Retry(NOW + MINUTE, restarts=True), REPLY, NOW)], {})

        assert (await begin_call(store, NOW + MINUTE)).first_attempt_at == NOW + MINUTE

    async def test_a_short_pause_counts(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await begin_call(store, NOW), at=NOW, again_at=NOW + SECOND)

        assert (await begin_call(store, NOW + SECOND + LONGEST_COUNTED)).first_attempt_at == NOW

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

    async def test_without_an_answer_404_there_is_no_first_one(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await begin_call(store, NOW), at=NOW)

        assert (await begin_call(store, NOW + HOUR)).not_found_since is None

    async def test_what_waited_before_its_first_attempt_has_been_tried_for_no_time(self, store: Store) -> None:
        await settle(store, a1=0)

        assert (await begin_call(store, NOW + HOUR)).first_attempt_at == NOW + HOUR

    async def test_a_clock_that_was_set_back_takes_nothing_off(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await begin_call(store, NOW), at=NOW, again_at=NOW + 2 * HORIZON)

        assert (await begin_call(store, NOW + SECOND)).first_attempt_at == NOW


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

    async def test_only_one_that_is_due(self, store: Store) -> None:
        await settle(store, a1=0, a2=MINUTE)

        assert await self.probe(store, NOW) == ["a1"]
        assert await self.probe(store, NOW + SECOND, besides=["a1"]) == []
        assert await self.probe(store, NOW, besides=["a1"], horizon=SECOND) == ["a2"], "a clock's mistake is due"


class TestTheEffect:
    async def test_it_has_the_result_before_the_caller(self, store: Store) -> None:
        await settle(store, a1=0)
        seen: list[object] = []

        found = await store.delivery.due({LANE: Wanted(9)}, NOW, NOW + HORIZON, seen.append)

        assert seen == [found]

    async def test_effects_come_in_the_order_of_the_transactions(self, store: Store) -> None:
        seen: list[object] = []
        await asyncio.gather(*(store.driver.transact(partial(number, number=n), seen.append) for n in range(50)))

        assert seen == list(range(50))

    async def test_a_cancelled_callers_transaction_has_its_effect(self, store: Store) -> None:
        effect = asyncio.Event()
        seen: list[Applied | None] = []

        class Waits(Begun):
            def end_apply(self, _: object, applied: Applied | None) -> None:
                seen.append(applied)
                effect.set()

        applying = asyncio.create_task(store.capture.apply(some_rules(), a_batch(an_observation()), Waits()))
        await asyncio.sleep(0)
        applying.cancel()
        async with asyncio.timeout(20):
            await effect.wait()

        assert [applied is not None and ids(applied.entries) for applied in seen] == [["a1"]]

    async def test_a_failed_transaction_has_none(self, store: Store) -> None:
        seen: list[object] = []

        async def fail(_: Transaction) -> None:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            await store.driver.transact(fail, seen.append)

        assert seen == [None]


async def number(transaction: Transaction, *, number: int) -> int:
    await transaction.rows("watches")
    return number


class TestAStart:
    async def test_what_is_pending_counts_as_attempted(self, store: Store) -> None:
        await settle(store, a1=0)

        await store.delivery.begin_sending()

        entry = await waiting_entry(store)
        assert (entry.attempted, entry.attempts) == (True, 0)

    async def test_what_may_have_been_received_is_not_cancelled(self, store: Store) -> None:
        await settle(store, a1=0)
        await store.delivery.begin_sending()

        await observe(store, an_observation())

        entry = await begin_call(store)
        assert entry.content == a_content()
        assert await events_of(store) == ["queued", "queued"]

    async def test_what_is_held_was_never_sent(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"), rules=some_rules(max_changes=0))

        await store.delivery.begin_sending()

        assert not (await waiting_entry(store)).attempted

    async def test_what_holds_up_a_state_under_way_was_attempted(self, store: Store) -> None:
        await settle(store, a1=0)
        entry = await begin_call(store)
        await store.capture.blow_fuse(WATCH, "an operator holds it", NOW)
        await observe(store, an_observation(status="seen"), under_way=[entry])

        await store.delivery.begin_sending()

        held = await waiting_entry(store)
        assert (held.state, held.attempted) == ("held", True)

    async def test_after_a_clean_stop_nothing_was_attempted(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        await store.delivery.stopped_cleanly()
        await store.driver.close()
        store = await open_store()

        await store.delivery.begin_sending()

        assert not (await waiting_entry(store)).attempted

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

    async def test_a_clean_stop_counts_for_one_start(self, store: Store) -> None:
        await settle(store, a1=0)
        await store.delivery.stopped_cleanly()
        await store.delivery.begin_sending()

        await store.delivery.begin_sending()

        assert (await waiting_entry(store)).attempted


class TestWhileACallIsUnderWay:
    async def test_its_entry_counts_as_attempted(self, store: Store) -> None:
        await settle(store, a1=0)
        entry = await begin_call(store)

        await observe(store, an_observation(), under_way=[entry])

        assert (await waiting_entry(store)).content == a_content(), "no cancelling"

    async def test_a_corrected_entry_counts_as_attempted_too(self, store: Store) -> None:
        await settle(store, a1=0)
        entry = await begin_call(store)
        await observe(store, an_observation(status="hired", event_date=NOW + MINUTE), under_way=[entry])

        await observe(store, an_observation(), under_way=[entry])

        assert (await waiting_entry(store)).content == a_content(), "no cancelling"

    async def test_an_entry_after_its_end_is_another_one(self, store: Store) -> None:
        """The sender learns of the end later than the store."""
        await settle(store, a1=0)
        entry = await begin_call(store)
        await store.delivery.complete([Finished(entry, Acked(), {}, NOW)], {})
        await observe(store, an_observation(status="seen"), under_way=[entry])
        assert (await waiting_entry(store)).revision == entry.revision

        await observe(store, an_observation(status="hired"), under_way=[entry])

        assert await begin_calls(store) == [], "HelloWork has it"


class TestEndpoints:
    async def test_an_endpoint_is_known_from_its_first_entry_on(self, store: Store) -> None:
        assert await store.delivery.endpoints() == {}
        await adopt(store, "a1")
        assert await store.delivery.endpoints() == {}, "nothing was to be sent there"

        await observe(store, an_observation(status="hired"))

        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), NOW)}

    async def test_it_has_the_due_time_of_its_next_entry(self, store: Store) -> None:
        await settle(store, a1=2 * MINUTE, a2=MINUTE)
        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), NOW + MINUTE)}

        await acknowledge(store, *await begin_calls(store, NOW + MINUTE))
        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), NOW + 2 * MINUTE)}

        await acknowledge(store, *await begin_calls(store, NOW + 2 * MINUTE))
        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), None)}

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

    async def test_what_waits_of_a_watch_that_is_not_configured_is_not_due(self, store: Store) -> None:
        await observe(store, an_observation("q1"), rules=some_rules("removed"))
        await store.delivery.note_configured([WATCH], ["default"])

        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), None)}

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

    async def test_its_health_outlives_further_entries(self, store: Store) -> None:
        paused = Health("paused", failures=3, until=NOW + MINUTE, reason="HTTP 401")
        await store.delivery.complete([], {ENDPOINT: paused})

        await settle(store, a1=0)

        assert await store.delivery.endpoints() == {ENDPOINT: (paused, NOW)}
