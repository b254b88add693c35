"""Taking due entries for sending: marked as attempted, durably, before anything is sent."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import chain

import pytest
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
    acknowledge,
    adopt,
    bury,
    claim,
    claim_one,
    events_of,
    lose_answer,
    observe,
    story_of,
    waiting_entry,
)

from cdc_sync.core.content import request
from cdc_sync.core.events import PersonActed
from cdc_sync.core.outbox import Entry, Lane, Offer
from cdc_sync.core.replies import LONGEST_COUNTED, LONGEST_UNASKED, Finished, Health, Retry
from cdc_sync.store import Store

STAGING = "https://staging.hellowork.com"


async def settle(store: Store, **due_in: int) -> None:
    """Queue applications which become due so many milliseconds from now."""
    await adopt(store, *due_in)
    for one, wait in due_in.items():
        await observe(store, an_observation(one, "hired"), rules=some_rules(default_settle=wait))


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.application_id for entry in entries]


async def test_a_due_entry_is_claimed_as_it_will_be_sent(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))

    entry = await claim_one(store, NOW + SECOND)

    assert entry.content == a_content("hired")
    assert (entry.attempted, entry.attempts, entry.first_attempt_at) == (True, 1, NOW + SECOND)
    assert entry._replace(first_attempt_at=None) == await waiting_entry(store), "its start is written with its end"


async def test_the_attempt_is_known_at_the_next_opening(store: Store, open_store: OpenStore) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    claimed = await claim_one(store)
    await store.close()

    found = await waiting_entry(await open_store())
    assert (found.attempted, found.attempts) == (claimed.attempted, claimed.attempts) == (True, 1)


async def test_the_history_has_the_attempt_with_its_end(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    entry = await claim_one(store, NOW)
    assert await events_of(store) == ["queued"]

    await acknowledge(store, entry, at=NOW + SECOND)

    ended = (await story_of(store))[-1]
    assert (ended.event, ended.at, ended.detail["attempt"]) == ("acknowledged", NOW + SECOND, 1)
    assert ended.detail["to"] == {"status": "hired", "job_id": "J1", "deleted": False}


async def test_nothing_is_claimed_before_it_is_due(store: Store) -> None:
    await settle(store, a1=0, a2=1, a3=MINUTE)

    assert ids(await claim(store, NOW)) == ["a1"]
    assert ids(await claim(store, NOW + 1)) == ["a2"]
    assert ids(await claim(store, NOW + MINUTE - 1)) == []


async def test_nothing_is_claimed_twice(store: Store) -> None:
    await settle(store, a1=0, a2=0)

    assert len(await claim(store)) == 2
    assert await claim(store, NOW + MINUTE) == []


async def test_claims_at_once_share_what_is_due(store: Store) -> None:
    names = [f"a{number}" for number in range(60)]
    await adopt(store, *names)
    await observe(store, *(an_observation(one, "hired") for one in names))

    claims = await asyncio.gather(*(claim(store, limit=7) for _ in range(10)))

    assert sorted(ids(chain.from_iterable(claims))) == sorted(names)
    assert all(len(claimed) <= 7 for claimed in claims)


async def test_the_longest_due_come_first_and_no_more_than_wanted(store: Store) -> None:
    await settle(store, a1=3, a2=1, a3=2)

    assert ids(await claim(store, NOW + 10, limit=2)) == ["a2", "a3"]
    assert ids(await claim(store, NOW + 10, limit=0)) == []
    assert ids(await claim(store, NOW + 10, limit=2)) == ["a1"]


async def test_each_endpoint_gets_what_it_wants(store: Store) -> None:
    for number in (1, 2, 3):
        await observe(store, an_observation(f"a{number}"), at=NOW + number)
        await observe(store, an_observation(f"s{number}", base_url=STAGING), at=NOW + number)
    now = NOW + SECOND

    assert ids(await store.claim(now, HORIZON, {("https://elsewhere.example:443", WATCH): 10})) == []
    claimed = await store.claim(now, HORIZON, {LANE: 1, (f"{STAGING}:443", WATCH): 2})
    assert ids(claimed) == ["a1", "s1", "s2"]
    assert ids(await store.claim(now, HORIZON, {LANE: 10})) == ["a2", "a3"]


async def test_watches_take_turns_however_long_one_of_them_has_had_entries_due(store: Store) -> None:
    for number in range(9):
        await observe(store, an_observation(f"m{number}"), at=NOW + number)
    for number in (1, 2):
        await observe(store, an_observation(f"q{number}"), rules=some_rules("quiet"), at=NOW + SECOND + number)
    wanted, now = {LANE: 3, (ENDPOINT, "quiet"): 3}, NOW + 2 * SECOND

    assert ids(await store.claim(now, HORIZON, wanted)) == ["m0", "q1", "m1", "q2", "m2"]
    assert ids(await store.claim(now, HORIZON, wanted)) == ["m3", "m4", "m5"]


async def test_a_look_shows_of_each_watch_and_origin_when_the_next_entry_is_due(store: Store) -> None:
    await settle(store, a1=2 * MINUTE, a2=MINUTE)
    await observe(store, an_observation("s1", base_url=STAGING), rules=some_rules("quiet"))
    await observe(store, an_observation("q1"), rules=some_rules("quiet"), at=NOW + 5)
    assert len(await store.claim(NOW, HORIZON, {("https://elsewhere.example:443", WATCH): 9})) == 0

    healths, lanes = await store.look()

    assert healths.keys() == {ENDPOINT, f"{STAGING}:443"}
    assert lanes == {
        LANE: NOW + MINUTE,
        (ENDPOINT, "quiet"): NOW + 5,
        (f"{STAGING}:443", "quiet"): NOW,
    }


async def test_an_entry_follows_its_newest_url_to_another_endpoint(store: Store) -> None:
    await observe(store, an_observation(status="seen"))

    await observe(store, an_observation(status="hired", base_url=STAGING))

    assert await claim(store) == []
    assert ids(await claim(store, endpoint=f"{STAGING}:443")) == ["a1"]


@pytest.mark.parametrize("state", ["held", "dead"])
async def test_only_pending_entries_are_claimed(store: Store, state: str) -> None:
    await adopt(store, "a1")
    if state == "held":
        await observe(store, an_observation(status="hired"), rules=some_rules(max_changes=0))
    else:
        await bury(store, an_observation(status="hired"))
    assert (await waiting_entry(store)).state == state

    assert await claim(store, NOW + MINUTE) == []


async def test_a_due_time_beyond_the_horizon_is_a_clocks_mistake(store: Store) -> None:
    await settle(store, a1=MINUTE, a2=MINUTE + 1)

    claimed = await store.claim(NOW, MINUTE, {LANE: 10})

    assert ids(claimed) == ["a2"]


async def test_after_the_clock_was_set_back_nothing_waits_for_the_time_to_come_again(store: Store) -> None:
    await settle(store, a1=0)
    an_hour_ago = NOW - 60 * MINUTE

    assert ids(await store.claim(an_hour_ago, 15 * MINUTE, {LANE: 10})) == ["a1"]


async def test_what_is_due_goes_before_a_clocks_mistakes(store: Store) -> None:
    await settle(store, a1=10 * MINUTE, a2=0)

    assert ids(await store.claim(NOW, MINUTE, {LANE: 1})) == ["a2"]
    assert ids(await store.claim(NOW, MINUTE, {LANE: 1})) == ["a1"]


async def test_a_retry_is_the_same_request_to_the_byte(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired", event_date=NOW))
    first = await claim_one(store, NOW)
    await lose_answer(store, first, again_at=NOW + SECOND)
    await observe(store, an_observation(status="hired", event_date=NOW + MINUTE))

    second = await claim_one(store, NOW + SECOND)

    assert request("a1", second.content) == request("a1", first.content)
    assert (second.revision, second.attempts, second.first_attempt_at) == (first.revision, 2, NOW)


class TestHowLongItWasTried:
    """From the first attempt to now, without the time for which it was due and nobody tried it."""

    @pytest.mark.parametrize("probing", [(), (LANE,)], ids=["healthy", "probing"])
    async def test_a_wait_of_its_own_counts_and_a_long_pause_of_the_endpoint_does_not(
        self, store: Store, probing: Collection[Lane]
    ) -> None:
        await settle(store, a1=0)
        first = await claim_one(store, NOW + SECOND)
        await lose_answer(store, first, at=NOW + SECOND, again_at=NOW + MINUTE)
        a_week_later = NOW + MINUTE + 7 * 24 * HOUR

        (again,) = await store.claim(a_week_later, HORIZON, {LANE: 1}, probing)

        assert again.first_attempt_at == a_week_later - 59 * SECOND - LONGEST_COUNTED

    async def test_from_a_refusal_of_our_credentials_on_it_counts_again(self, store: Store) -> None:
        await settle(store, a1=0)
        first = await claim_one(store, NOW)
        await store.complete([Finished(first, Retry(NOW + MINUTE, restarts=True), {}, NOW)], {})

        assert (await claim_one(store, NOW + MINUTE)).first_attempt_at == NOW + MINUTE

    async def test_a_short_pause_counts(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await claim_one(store, NOW), at=NOW, again_at=NOW + SECOND)

        assert (await claim_one(store, NOW + SECOND + LONGEST_COUNTED)).first_attempt_at == NOW

    async def test_a_404_counts_for_as_long_as_somebody_asked(self, store: Store) -> None:
        await settle(store, a1=0)
        first = await claim_one(store, NOW)
        await store.complete([Finished(first, Retry(NOW + SECOND, not_found_since=NOW), {}, NOW)], {})

        again = await claim_one(store, NOW + SECOND + LONGEST_UNASKED)
        assert again.not_found_since == NOW
        await store.complete([Finished(again, Retry(NOW + 2 * MINUTE, not_found_since=NOW), {}, NOW)], {})
        much_later = NOW + HOUR
        again = await claim_one(store, much_later)
        assert again.not_found_since == much_later - 2 * MINUTE - LONGEST_UNASKED

    async def test_without_an_answer_404_there_is_no_first_one(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await claim_one(store, NOW), at=NOW)

        assert (await claim_one(store, NOW + HOUR)).not_found_since is None

    async def test_what_waited_before_its_first_attempt_has_been_tried_for_no_time(self, store: Store) -> None:
        await settle(store, a1=0)

        assert (await claim_one(store, NOW + HOUR)).first_attempt_at == NOW + HOUR

    async def test_a_first_attempt_is_never_ahead(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        await claim(store, NOW + HOUR)
        await store.close()  # killed in the middle of the call
        store = await open_store()
        await store.release_claims()

        assert (await claim_one(store, NOW + HOUR + SECOND)).first_attempt_at == NOW + HOUR + SECOND

    async def test_a_clock_that_was_set_back_takes_nothing_off(self, store: Store) -> None:
        await settle(store, a1=0)
        await lose_answer(store, await claim_one(store, NOW), at=NOW, again_at=NOW + 2 * HORIZON)

        assert (await claim_one(store, NOW + SECOND)).first_attempt_at == NOW


class TestProbing:
    """Which of all that is due finds out whether the endpoint works: what failed must not stand in the others' way."""

    async def probe(self, store: Store, at: int) -> str:
        (entry,) = await store.claim(at, HORIZON, {LANE: 1}, [LANE])
        self.entry = entry
        return entry.application_id

    async def test_the_least_attempted_comes_first_and_of_these_the_longest_due(self, store: Store) -> None:
        await settle(store, twice=0, failed=1, new=SECOND, newer=2 * SECOND)
        for at, one in [(NOW, "twice"), (NOW, "twice"), (NOW + 1, "failed")]:
            (entry,) = await claim(store, at, limit=1)
            assert entry.application_id == one
            await lose_answer(store, entry, at=at, again_at=NOW if one == "twice" and entry.attempts == 1 else NOW + 2)
        at = NOW + MINUTE

        assert [await self.probe(store, at) for _ in range(4)] == ["new", "newer", "failed", "twice"]

    async def test_only_one_that_is_due_and_free(self, store: Store) -> None:
        await settle(store, a1=0, a2=MINUTE)
        assert await self.probe(store, NOW) == "a1"

        assert await store.claim(NOW + SECOND, HORIZON, {LANE: 1}, [LANE]) == []
        assert ids(await store.claim(NOW, SECOND, {LANE: 1}, [LANE])) == ["a2"], "a clock's mistake is due"

    async def test_only_where_it_is_asked_for(self, store: Store) -> None:
        await settle(store, failed=0, new=SECOND)
        assert await self.probe(store, NOW) == "failed"
        await lose_answer(store, self.entry, at=NOW)

        claimed = await store.claim(NOW + MINUTE, HORIZON, {LANE: 1}, [("https://elsewhere.example:443", WATCH)])

        assert ids(claimed) == ["failed"]


class TestUnclaim:
    async def test_what_was_not_begun_is_as_it_was(self, store: Store) -> None:
        await settle(store, a1=0)
        before = await waiting_entry(store)
        entry = await claim_one(store)

        await store.unclaim([entry])
        await store.unclaim([entry])

        assert await waiting_entry(store) == before
        assert await events_of(store) == ["queued"]
        assert (await claim_one(store)).attempts == 1

    async def test_a_change_that_is_undone_then_is_never_sent(self, store: Store) -> None:
        await settle(store, a1=0)
        await store.unclaim([await claim_one(store)])

        await observe(store, an_observation())

        assert await claim(store, NOW + MINUTE) == []
        assert await events_of(store) == ["queued", "cancelled"]

    async def test_of_several_only_those(self, store: Store) -> None:
        await settle(store, a1=0, a2=0)
        first, _ = sorted(await claim(store), key=lambda entry: entry.application_id)

        await store.unclaim([first])

        assert ids(await claim(store)) == ["a1"]


class TestOffer:
    """What the sender has claimed and not begun, and what it would claim with a batch."""

    async def test_what_has_not_begun_counts_as_never_attempted(self, store: Store) -> None:
        await settle(store, a1=0)
        await claim_one(store)

        applied = await store.apply(some_rules(), a_batch(an_observation()), Offer(unstarted=frozenset(["a1"])))

        assert applied.touched == {"a1"}
        assert list(applied.claimed) == []
        assert await events_of(store) == ["queued", "cancelled"]
        assert await claim(store, NOW + MINUTE) == []

    async def test_what_is_replaced_is_due_again_and_free(self, store: Store) -> None:
        await settle(store, a1=0)
        await claim_one(store)
        offer = Offer(unstarted=frozenset(["a1"]))

        applied = await store.apply(some_rules(), a_batch(an_observation(status="offered")), offer)

        assert applied.touched == {"a1"}
        assert (await waiting_entry(store)).attempted is False
        assert (await claim_one(store)).content == a_content("offered")

    async def test_what_is_no_news_stays_claimed(self, store: Store) -> None:
        await settle(store, a1=0)
        entry = await claim_one(store)
        again = replace(an_observation(), content=entry.content)

        applied = await store.apply(some_rules(), a_batch(again), Offer(unstarted=frozenset(["a1"])))

        assert applied.touched == frozenset()
        assert await claim(store, NOW + MINUTE) == []
        assert store.holds(entry)

    async def test_a_call_that_has_begun_may_have_been_received(self, store: Store) -> None:
        await settle(store, a1=0)
        await claim_one(store)

        await store.apply(some_rules(), a_batch(an_observation()), Offer(unstarted=frozenset(["a2"])))

        assert (await waiting_entry(store)).content == a_content(), "sent once more"

    async def test_it_is_claimed_in_the_same_step(self, store: Store) -> None:
        await adopt(store, "a1", "a2")
        batch = a_batch(an_observation("a1", "seen"), an_observation("a2", "seen"))

        applied = await store.apply(some_rules(), batch, Offer(wanted={LANE: 1}, horizon=HORIZON))

        (entry,) = applied.claimed
        assert (entry.attempts, store.holds(entry)) == (1, True)
        assert {entry.application_id, *ids(await claim(store))} == {"a1", "a2"}

    async def test_nothing_is_claimed_with_a_batch_without_news(self, store: Store) -> None:
        await settle(store, a1=0)
        await adopt(store, "a2")

        applied = await store.apply(
            some_rules(), a_batch(an_observation("a2")), Offer(wanted={LANE: 1}, horizon=HORIZON)
        )

        assert list(applied.claimed) == []


class TestAfterACrash:
    async def test_a_claim_stands_until_it_is_released(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        await claim(store)
        await store.close()
        store = await open_store()

        assert await claim(store, NOW + MINUTE) == []
        await store.release_claims()
        again = await claim_one(store, NOW + MINUTE)

        assert (again.attempted, again.attempts) == (True, 2)
        (line,) = [event for event in await story_of(store) if event.event == "attempted"]
        assert line.detail == {"outcome": "unknown"}

    async def test_what_may_have_been_heard_is_not_cancelled(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        await claim(store)
        await store.close()
        store = await open_store()
        await store.release_claims()

        await observe(store, an_observation())

        entry = await claim_one(store)
        assert entry.content == a_content()
        assert await events_of(store) == ["queued", "attempted", "queued"]

    async def test_to_release_nothing_is_nothing(self, store: Store) -> None:
        await settle(store, a1=0)

        await store.release_claims()

        entry = await waiting_entry(store)
        assert (entry.attempted, entry.attempts) == (False, 0)


class TestEndpoints:
    async def test_an_endpoint_is_known_from_its_first_entry_on(self, store: Store) -> None:
        assert await store.endpoints() == {}
        await adopt(store, "a1")
        assert await store.endpoints() == {}, "nothing was to be sent there"

        await observe(store, an_observation(status="hired"))

        assert await store.endpoints() == {ENDPOINT: (Health(), NOW)}

    async def test_it_has_the_due_time_of_its_next_entry(self, store: Store) -> None:
        await settle(store, a1=2 * MINUTE, a2=MINUTE)
        assert await store.endpoints() == {ENDPOINT: (Health(), NOW + MINUTE)}

        await claim(store, NOW + MINUTE)
        assert await store.endpoints() == {ENDPOINT: (Health(), NOW + 2 * MINUTE)}

        await claim(store, NOW + 2 * MINUTE)
        assert await store.endpoints() == {ENDPOINT: (Health(), None)}

    async def test_its_health_is_kept(self, store: Store, open_store: OpenStore) -> None:
        await settle(store, a1=0)
        paused = Health("paused", failures=3, until=NOW + MINUTE, reason="HTTP 401")

        await store.complete([], {ENDPOINT: paused, "https://b.example:443": Health("throttled", 1, NOW)})
        await store.close()

        assert await (await open_store()).endpoints() == {
            ENDPOINT: (paused, NOW),
            "https://b.example:443": (Health("throttled", 1, NOW), None),
        }

    async def test_of_one_with_credentials_of_its_own_only_its_watches_entries_count(self, store: Store) -> None:
        await settle(store, a1=MINUTE)
        await observe(store, an_observation("q1"), rules=some_rules("quiet"))
        await store.complete([], {f"{ENDPOINT} [quiet]": Health("paused", 1, NOW)})
        await store.note_credentials({"quiet": "quiet", "loud": "loud"}, ())

        assert await store.endpoints() == {
            ENDPOINT: (Health(), NOW + MINUTE),
            f"{ENDPOINT} [quiet]": (Health("paused", 1, NOW), NOW),
        }
        named = (ENDPOINT, f"{ENDPOINT} [quiet]", f"{ENDPOINT} [loud]", f"{ENDPOINT} [no]", f"{STAGING}:443 [loud]")
        assert [await store.has_endpoint(name) for name in named] == [True, True, True, False, False]

    async def test_a_watch_that_is_gone_has_its_own_credentials_until_it_is_forgotten(self, store: Store) -> None:
        for watch in ("first", "gone"):
            await adopt(store, "a1", watch=watch)
        await store.note_credentials({"first": "first", "gone": "first", "unknown": "first"}, {"first", "gone"})

        await store.note_credentials({"first": "first"}, {"first"})
        assert await store.credentials() == {"first": "first", "gone": "gone"}

        await store.forget("gone", PersonActed(NOW, "forget", "somebody", 1, "gone"))
        await store.note_credentials({"first": "first"}, {"first"})
        assert await store.credentials() == {"first": "first"}

    async def test_an_endpoint_whose_credentials_nobody_has_is_forgotten(self, store: Store) -> None:
        await store.note_credentials({"a": "a", "b": "b"}, {"a", "b"})
        await store.complete([], {f"{ENDPOINT} [{each}]": Health("paused", 1, NOW) for each in "ab"})

        for _ in range(2):
            await store.note_credentials({"a": "a", "b": "a"}, {"a", "b"})

            assert await store.endpoints() == {f"{ENDPOINT} [a]": (Health("paused", 1, NOW), None)}
            # As a call does that was under way, or a daemon that reads the configuration later.
            await store.complete([], {f"{ENDPOINT} [b]": Health("paused", 1, NOW)})

    async def test_an_endpoint_keeps_its_health_when_its_credentials_have_another_owner(self, store: Store) -> None:
        for watch in "ab":
            await adopt(store, "a1", watch=watch)
        await store.note_credentials({"a": "a", "b": "a", "c": "c", "d": "d"}, {"a", "b", "c", "d"})
        paused, open_ = Health("paused", 1, NOW, "HTTP 401"), Health("open", 5, NOW)
        await store.complete([], {f"{ENDPOINT} [a]": paused, f"{ENDPOINT} [c]": open_})

        await store.note_credentials({"b": "b", "c": "d", "d": "d"}, {"b", "c", "d"})

        healths = {name: health for name, (health, _) in (await store.endpoints()).items()}
        assert healths == {f"{ENDPOINT} [a]": paused, f"{ENDPOINT} [b]": paused}

    async def test_what_is_paused_stays_so_when_other_watches_have_its_credentials_too(self, store: Store) -> None:
        await store.note_credentials({"m": "m", "n": "m"}, {"m", "n"})
        await store.pause(f"{ENDPOINT} [m]")
        await store.pause(f"{STAGING}:443")

        await store.note_credentials({"a": "a", "m": "a", "n": "a"}, {"a", "m", "n"})

        assert await store.paused() == {f"{ENDPOINT} [a]", f"{ENDPOINT} [m]", f"{STAGING}:443"}

    async def test_its_health_outlives_further_entries(self, store: Store) -> None:
        paused = Health("paused", failures=3, until=NOW + MINUTE, reason="HTTP 401")
        await store.complete([], {ENDPOINT: paused})

        await settle(store, a1=0)

        assert await store.endpoints() == {ENDPOINT: (paused, NOW)}


class TestWithheld:
    """A watch whose database was not recognised yet."""

    async def test_its_entries_are_claimed_by_nobody_until_it_is(self, store: Store) -> None:
        for watch in ("one", "other"):
            await adopt(store, "a1", "a2", watch=watch)
            await observe(store, an_observation("a1", "hired"), rules=some_rules(watch))
        store.withheld = {"one"}

        assert [entry.watch for entry in await claim(store)] == ["other"]
        _, due_at = (await store.endpoints())[ENDPOINT]
        assert due_at is None, "nobody waits for it"
        offer = Offer(wanted={(ENDPOINT, "other"): 9}, horizon=HORIZON)
        batch = a_batch(an_observation("a2", "hired"))
        applied = await store.apply(some_rules("other"), batch, offer)
        assert [(entry.watch, entry.application_id) for entry in applied.claimed] == [("other", "a2")]

        store.withheld = ()
        assert [entry.watch for entry in await claim(store)] == ["one"]

    async def test_nor_by_its_own_apply(self, store: Store) -> None:
        await adopt(store, "a1")
        store.withheld = {WATCH}

        offer = Offer(wanted={LANE: 1}, horizon=HORIZON)
        applied = await store.apply(some_rules(), a_batch(an_observation("a1", "hired")), offer)

        assert [result.state for result in applied.results] == ["pending"]
        assert not applied.claimed

    async def test_nor_by_a_probe(self, store: Store) -> None:
        for watch in ("one", "other"):
            await adopt(store, "a1", watch=watch)
            await observe(store, an_observation("a1", "hired"), rules=some_rules(watch))
        (entry,) = [each for each in await claim(store) if each.watch == "other"]
        await lose_answer(store, entry)
        await store.release_claims()
        store.withheld = {"one"}

        lanes = {(ENDPOINT, "one"): 1, (ENDPOINT, "other"): 1}
        probed = await store.claim(NOW + SECOND, HORIZON, lanes, lanes)

        assert [entry.watch for entry in probed] == ["other"]
