"""Due entries for the sender, what a start makes of those that are pending, and what becomes of calls that end."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
from support import acting
from support.builders import (
    ENDPOINT,
    LANE,
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_baseline,
    a_batch,
    a_content,
    an_observation,
    rules_by_row,
    some_rules,
)
from support.store_backends import OpenStore
from support.store_steps import adopt, begin_call, begin_calls, entry_of, lose_answer, observe, story_of, waiting_entry

from cdc_sync.core.batch import Resolved
from cdc_sync.core.outbox import DueEntries, Entry, EntryState, Wanted
from cdc_sync.core.replies import Acked, CallResult, DeadLetter, Finished, Health, Retry
from cdc_sync.store import Store, delivery
from cdc_sync.store.driver import Transaction

STAGING = "https://right.example"


async def settle(store: Store, **due_in: int) -> None:
    """Queue applications which become due so many milliseconds from now."""
    await adopt(store, *due_in)
    for one, wait in due_in.items():
        await observe(store, an_observation(one, "hired"), rules=some_rules(default_settle=wait))


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.application_id for entry in entries]


async def due(store: Store, at: int, limit: int = 9, *, besides: Collection[str] = ()) -> DueEntries:
    """What is due in the lane of these tests."""
    return await store.delivery.due({LANE: Wanted(limit, besides)}, at)


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

    found = await store.delivery.due(wanted, NOW + SECOND)

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


class TestProbing:
    """Which of all that is due finds out whether the endpoint works: what failed must not stand in the others' way."""

    async def probe(self, store: Store, at: int, *, besides: Collection[str] = ()) -> list[str]:
        found = await store.delivery.due({LANE: Wanted(1, besides, probing=True)}, at)
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


async def test_a_failed_transaction_has_no_effect(store: Store) -> None:
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

        await store.delivery.begin_sending()
        assert (await waiting_entry(store)).attempted, "it counts for one start"

    async def test_however_much_is_pending_no_transaction_is_long(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A long one would end by the server's timeout, at each start again."""
        monkeypatch.setattr(delivery, "_AT_ONCE", 2)
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
    async def test_it_has_the_entries_of_its_account_only(self, store: Store) -> None:
        await settle(store, a1=MINUTE)
        await observe(store, an_observation("q1", account="quiet"))
        await store.delivery.complete([], {f"{ENDPOINT} [quiet]": Health("paused", 1, NOW)})
        await store.delivery.note_configured([WATCH], ["default", "quiet", "loud"])

        assert await store.delivery.endpoints() == {
            ENDPOINT: (Health(), NOW + MINUTE),
            f"{ENDPOINT} [quiet]": (Health("paused", 1, NOW), NOW),
        }
        # An account's first entry may still come.
        there = (ENDPOINT, f"{ENDPOINT} [quiet]", f"{ENDPOINT} [loud]")
        assert all([await store.delivery.has_endpoint(name) for name in there])
        not_there = (f"{ENDPOINT} [no]", f"{STAGING}:443 [loud]", f"{ENDPOINT} [default]", f"{ENDPOINT} [loud")
        assert not any([await store.delivery.has_endpoint(name) for name in not_there])

    async def test_entries_of_an_account_that_is_not_configured_wait_and_are_counted(self, store: Store) -> None:
        await observe(store, *(an_observation(each, account="gone") for each in ("q1", "q2")), an_observation("a1"))
        await observe(store, an_observation("r1", account="gone"), rules=some_rules("removed"))
        await store.delivery.note_configured([WATCH], ["default"])

        assert await store.delivery.endpoints() == {ENDPOINT: (Health(), NOW)}
        assert await store.delivery.waiting() == {"gone": 2}
        assert (f"{ENDPOINT} [gone]", WATCH) in await store.delivery.lanes()
        await store.delivery.note_configured([WATCH, "removed"], ["default", "gone"])
        assert (await store.delivery.waiting(), len(await store.delivery.endpoints())) == ({}, 2)

    async def test_one_whose_account_is_gone_is_not_shown(self, store: Store) -> None:
        await store.delivery.note_configured([WATCH], ["a", "b"])
        await store.delivery.complete([], {f"{ENDPOINT} [{each}]": Health("paused", 1, NOW) for each in "ab"})

        await store.delivery.note_configured([WATCH], ["a", "c"])

        assert await store.delivery.configured() == delivery.Configured([WATCH], ["a", "c"])
        assert await store.delivery.endpoints() == {f"{ENDPOINT} [a]": (Health("paused", 1, NOW), None)}

    async def test_a_pause_of_a_removed_endpoint_stays_until_it_is_ended(self, store: Store) -> None:
        await store.delivery.note_configured([WATCH], ["a"])
        await acting.pause(store, f"{ENDPOINT} [a]")

        await store.delivery.note_configured([WATCH], [])

        assert await store.operation.paused() == {f"{ENDPOINT} [a]"}
        assert await store.delivery.has_endpoint(f"{ENDPOINT} [a]"), "it can be resumed"


REPLY: dict[str, Any] = {"http": 503, "reason": "HTTP 503"}


async def under_way(store: Store, status: str = "seen") -> Entry:
    """An application known as `applied`, with a call under way that tells `status`."""
    await adopt(store, "a1")
    await observe(store, an_observation(status=status))
    return await begin_call(store)


async def adopt_for(store: Store, account: str) -> None:
    """Let HelloWork be taken to know `a1` by an account."""
    await store.capture.apply(rules_by_row(), a_baseline(an_observation(account=account)))


async def end(store: Store, entry: Entry, result: CallResult, at: int = NOW) -> None:
    await store.delivery.complete([Finished(entry, result, REPLY, at)], {})


async def test_a_retry_remembers_since_when_hellowork_does_not_know_it(store: Store) -> None:
    entry = await under_way(store)

    await end(store, entry, Retry(NOW, not_found_since=NOW - 1))
    entry = await begin_call(store)
    assert entry.not_found_since == NOW - 1

    await end(store, entry, Retry(NOW))
    assert (await begin_call(store)).not_found_since is None


@pytest.mark.parametrize("state", ["pending", "held"])
async def test_a_deletion_goes_to_the_account_that_acknowledged_meanwhile(store: Store, state: EntryState) -> None:
    await adopt_for(store, "acme")
    await observe(store, an_observation(status="seen", account="beta"), rules=rules_by_row())
    (entry,) = await begin_calls(store, endpoint=f"{ENDPOINT} [beta]")
    gone = an_observation(deleted=True, account="beta")
    rules = rules_by_row(max_changes=0 if state == "held" else 1000)
    await observe(store, gone, rules=rules, under_way=[entry])
    assert (await waiting_entry(store)).content.account == "acme"

    await end(store, entry, Acked())

    deletion = await waiting_entry(store)
    assert (deletion.state, deletion.content.account, deletion.content.deleted) == (state, "beta", True)
    if state == "held":
        await acting.release_held(store, None, NOW)
        assert await begin_calls(store, endpoint=f"{ENDPOINT} [beta]") == [], "a fresh read confirms it first"
        await store.capture.apply(rules, a_batch(Resolved("a1", NOW, None), origin="deletion"))
    assert [each.id for each in await begin_calls(store, endpoint=f"{ENDPOINT} [beta]")] == [entry.id]
    assert await begin_calls(store, endpoint=f"{ENDPOINT} [acme]") == []


@pytest.mark.parametrize(
    ("result", "event", "detail"),
    [
        (Acked(), "acknowledged", {}),
        (Retry(NOW + MINUTE), "answered", {"again_at": NOW + MINUTE}),
        (DeadLetter("HTTP 400: no"), "dead-lettered", {"reason": "HTTP 400: no"}),
    ],
    ids=["acknowledged", "again", "given up"],
)
async def test_each_end_is_in_the_story_with_the_reply(
    store: Store, result: CallResult, event: str, detail: Mapping[str, Any]
) -> None:
    await end(store, await under_way(store), result, NOW + SECOND)

    last = (await story_of(store))[-1]
    assert (last.event, last.at) == (event, NOW + SECOND)
    assert last.detail == {**REPLY, "attempt": 1, "to": {"status": "seen", "job_id": "J1", "deleted": False}, **detail}


async def test_several_ends_and_a_health_are_one_step(store: Store) -> None:
    await adopt(store, "a1", "a2", "a3")
    await observe(store, *(an_observation(one, "seen") for one in ("a1", "a2", "a3")))
    first, second, third = await begin_calls(store)

    results: list[CallResult] = [Acked(), Retry(NOW + MINUTE), DeadLetter("HTTP 400")]
    ends = [Finished(entry, result, REPLY, NOW) for entry, result in zip((first, second, third), results, strict=True)]
    await store.delivery.complete(ends, {ENDPOINT: Health("healthy", 2, reason="HTTP 503")})

    assert await entry_of(store, "a1") is None
    assert (await waiting_entry(store, "a2")).due_at == NOW + MINUTE
    assert (await waiting_entry(store, "a3")).state == "dead"
    assert await store.delivery.endpoints() == {ENDPOINT: (Health("healthy", 2, reason="HTTP 503"), NOW + MINUTE)}
