"""The end of an attempt: each result, whether or not something newer took the entry's place meanwhile."""

from collections.abc import Mapping
from typing import Any

import pytest
from support import acting
from support.builders import (
    ENDPOINT,
    MINUTE,
    NOW,
    SECOND,
    a_baseline,
    an_observation,
    rules_by_row,
)
from support.store_steps import (
    adopt,
    begin_call,
    begin_calls,
    entry_of,
    observe,
    story_of,
    told_status,
    waiting_entry,
)

from cdc_sync.core.outbox import Entry, EntryState
from cdc_sync.core.replies import Acked, CallResult, DeadLetter, Finished, Health, Retry
from cdc_sync.store import Store

REPLY: Mapping[str, Any] = {"http": 503, "reason": "HTTP 503"}


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


class TestNothingNewer:
    async def test_again_waits_for_its_time(self, store: Store) -> None:
        entry = await under_way(store)

        await end(store, entry, Retry(NOW + MINUTE))

        waiting = await waiting_entry(store)
        assert (waiting.state, waiting.due_at, waiting.reason) == ("pending", NOW + MINUTE, "HTTP 503")
        assert (waiting.attempted, waiting.attempts, waiting.revision) == (True, 1, entry.revision)
        assert waiting.first_attempt_at == NOW
        assert await begin_calls(store, NOW + MINUTE - 1) == []
        assert (await begin_call(store, NOW + MINUTE)).attempts == 2
        assert await told_status(store) == "applied"

    async def test_again_remembers_since_when_hellowork_does_not_know_it(self, store: Store) -> None:
        entry = await under_way(store)

        await end(store, entry, Retry(NOW, not_found_since=NOW - 1))
        entry = await begin_call(store)
        assert entry.not_found_since == NOW - 1

        await end(store, entry, Retry(NOW))
        assert (await begin_call(store)).not_found_since is None


class TestAcknowledgedAndReplaced:
    @pytest.mark.parametrize("state", ["pending", "held"])
    async def test_a_deletion_goes_to_the_account_that_acknowledged_meanwhile(
        self, store: Store, state: EntryState
    ) -> None:
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
        assert [each.id for each in await begin_calls(store, endpoint=f"{ENDPOINT} [beta]")] == [entry.id]
        assert await begin_calls(store, endpoint=f"{ENDPOINT} [acme]") == []


class TestTheStory:
    @pytest.mark.parametrize(
        ("result", "event", "detail"),
        [
            (Acked(), "acknowledged", {}),
            (Retry(NOW + MINUTE), "answered", {"again_at": NOW + MINUTE}),
            (DeadLetter("HTTP 400: no"), "dead-lettered", {"reason": "HTTP 400: no"}),
        ],
        ids=["acknowledged", "again", "given up"],
    )
    async def test_each_end_is_recorded_with_the_reply(
        self, store: Store, result: CallResult, event: str, detail: Mapping[str, Any]
    ) -> None:
        await end(store, await under_way(store), result, NOW + SECOND)

        last = (await story_of(store))[-1]
        assert (last.event, last.at) == (event, NOW + SECOND)
        assert last.detail == {
            **REPLY,
            "attempt": 1,
            "to": {"status": "seen", "job_id": "J1", "deleted": False},
            **detail,
        }


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
