"""What a person asks for, the requests that carry it to the leader, and what the fuse holds for a person."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from support import acting
from support.builders import (
    ENDPOINT,
    MINUTE,
    NOW,
    SECOND,
    TRANSITIONS,
    WATCH,
    a_batch,
    a_content,
    an_observation,
    rules_by_row,
    some_rules,
)
from support.requests import executed, forgotten
from support.store_backends import OpenStore
from support.store_steps import (
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    entry_of,
    events_of,
    known_one,
    observe,
    reject,
    told_status,
    waiting_entry,
)

from cdc_sync.core.batch import ApplyResult, HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.core.diff import transition
from cdc_sync.core.events import Event, PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.outbox import EntryState
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.store import Store, acts
from cdc_sync.store.acts import DEADLINE, Discard, Forget, Pause, Request, Resend, Resume, Send
from cdc_sync.store.driver import Transaction
from cdc_sync.store.encoding import state_columns
from cdc_sync.store.operation import HeldGroup
from cdc_sync.store.postgres.driver import PostgresDriver

LATER = NOW + MINUTE


async def hold(store: Store, *ids: str, watch: str = WATCH) -> None:
    """Let a fuse hold a change of each application, and a deletion if its id begins with `d`."""
    await adopt(store, *ids, watch=watch)
    observations = [an_observation(one, "hired", deleted=one.startswith("d")) for one in ids]
    await observe(store, *observations, rules=some_rules(watch, max_changes=0))


async def left(store: Store, state: EntryState = "held", watch: str | None = None) -> list[str]:
    return [entry.application_id for entry in await store.report.entries(state, watch, 100)]


async def is_blown(store: Store) -> bool:
    return (await store.operation.fuses())[WATCH].blown_at is not None


async def forget_account(store: Store, account: str) -> int:
    """Forget an account that is no longer configured; returns how many entries and records."""
    return await store.operation.execute(acts.ForgetAccount(account, 0, acting.SOMEBODY), LATER)


class TestRelease:
    @pytest.mark.parametrize(("account", "kept"), [("acme", ["b1", "c1"]), ("default", ["a1", "b1"])])
    async def test_one_accounts_only(self, store: Store, account: str, kept: list[str]) -> None:
        of = {"a1": "acme", "b1": 'acme "2"', "c1": "default"}
        source = '{"account": "acme", "a":{"account":"acme"}}'
        content = {id_: a_content("hired", source=source, account=name) for id_, name in of.items()}
        rows = [replace(an_observation(id_), content=each) for id_, each in content.items()]
        held = replace(rules_by_row(), accounts=frozenset(of.values()), fuse=some_rules(max_changes=0).fuse)
        await observe(store, *rows, rules=held)

        assert len(await acting.release_held(store, None, LATER, account=account)) == 1
        assert await left(store) == kept

    async def test_it_does_not_count_as_a_decision_about_another_watch(self, store: Store) -> None:
        other = some_rules("other", max_changes=1)
        await hold(store, "a1")
        await adopt(store, "b1", "b2", watch="other")
        await observe(store, an_observation("b1", "hired"), an_observation("b2", "hired"), rules=other)

        assert await acting.release_held(store, None, NOW + SECOND, ids=["a1"]) == [(WATCH, "a1")]

        await observe(store, an_observation("b1", "refused"), rules=other, at=NOW + SECOND)
        assert await left(store) == ["b2"], "b1 has been counted"


class TestHeldGroups:
    async def test_what_is_held_is_grouped_by_transition_the_largest_first(self, store: Store) -> None:
        ids = [f"a{number}" for number in range(7)]
        await adopt(store, *ids, "b1", "d1")
        await observe(
            store,
            *(an_observation(one, "hired") for one in ids),
            an_observation("b1", "seen"),
            an_observation("d1", "deleted", deleted=True),
            rules=some_rules(max_changes=0, max_deletions=0),
        )

        changes, deletions = (f"more than 0 {what} at once (fuse.max_{what})" for what in ("changes", "deletions"))
        groups = await store.operation.held_groups(None)

        assert groups == [
            HeldGroup(WATCH, "applied → hired", 7, NOW, changes, tuple(ids[:5])),
            HeldGroup(WATCH, "applied → seen", 1, NOW, changes, ("b1",)),
            HeldGroup(WATCH, "deleted", 1, NOW, deletions, ("d1",)),
        ]
        assert await store.operation.held_groups("spontaneous") == []

    @pytest.mark.parametrize(("told", "observed", "expected"), TRANSITIONS)
    async def test_the_store_and_the_core_name_a_transition_alike(
        self, store: Store, told: Content | None, observed: Content, expected: str
    ) -> None:
        await observe(store, an_observation())

        async def put(transaction: Transaction) -> None:
            if told is not None:
                await transaction.write("acknowledge", [(WATCH, "a1", *state_columns(told), NOW, False)])
            row = (WATCH, "a1", *state_columns(observed), "", "held", 1, NOW, NOW, False, 0, "", ENDPOINT)
            await transaction.write("enqueue", [row])

        await store.driver.transact(put)

        assert [group.transition for group in await store.operation.held_groups(WATCH)] == [expected]
        assert transition(told, observed) == expected

    async def test_a_transition_is_released_or_discarded_alone(self, store: Store) -> None:
        await adopt(store, "a1", "a2", "a3")
        changes = [an_observation("a1", "hired"), an_observation("a2", "seen"), an_observation("a3", "hired")]
        await observe(store, *changes, rules=some_rules(max_changes=0))

        assert len(await acting.release_held(store, WATCH, LATER, transition="applied → seen")) == 1
        assert await left(store) == ["a1", "a3"]
        assert await is_blown(store)

        assert await acting.discard(store, "held", None, LATER, transition="nothing") == []
        assert len(await acting.discard(store, "held", None, LATER, transition="applied → hired")) == 2
        assert not await is_blown(store)


class TestDiscard:
    async def test_a_record_says_so_until_another_state_is_acknowledged(self, store: Store) -> None:
        await bury(store, an_observation("a1"))
        (before,) = await store.report.records("a1", None)
        await acting.discard(store, "dead", None, LATER)
        (discarded,) = await store.report.records("a1", None)
        await observe(store, an_observation("a1", "hired"))
        await acknowledge(store, await begin_call(store, LATER))
        (acknowledged,) = await store.report.records("a1", None)

        assert [each.discarded for each in (before, discarded, acknowledged)] == [False, True, False]
        assert (discarded.snapshot, discarded.acknowledged_at) == (a_content("applied"), LATER)

    @pytest.mark.parametrize("state", ["held", "dead"])
    async def test_the_account_that_has_the_application_stays_its_account(
        self, store: Store, state: EntryState
    ) -> None:
        await observe(store, an_observation(account="acme"), rules=rules_by_row())
        await acknowledge(store, *await begin_calls(store, endpoint=f"{ENDPOINT} [acme]"))
        refused = "unmapped" if state == "dead" else None
        moved_to_beta = an_observation(status="hired", account="beta", refused=refused)
        await observe(store, moved_to_beta, rules=rules_by_row(max_changes=0))

        assert await acting.discard(store, state, None, LATER) == [(WATCH, "a1")]

        snapshot = (await known_one(store)).snapshot
        assert snapshot is not None
        assert (snapshot.status, snapshot.account) == ("hired", "acme")
        await observe(store, an_observation(status="hired", deleted=True, account="beta"), rules=rules_by_row())
        (deletion,) = await begin_calls(store, endpoint=f"{ENDPOINT} [acme]")
        assert deletion.content.deleted

    @pytest.mark.parametrize("limit", [None, 3])
    async def test_all_of_them_in_steps(self, store: Store, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(acts, "STEP", 2)
        ids = ("a1", "a2", "a3", "a4")
        await hold(store, *ids)

        discarded = await acting.discard(store, "held", WATCH, LATER, limit=limit)

        assert discarded == [(WATCH, id_) for id_ in ids[:limit]]
        assert await left(store) == [*ids[len(discarded) :]]
        assert await is_blown(store) is (len(discarded) < len(ids))

    async def test_what_is_discarded_stays_known_after_a_call_under_way(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="seen"))
        under_way = await begin_call(store)
        await observe(store, an_observation(status="42", refused="unmapped"), under_way=[under_way])

        assert await acting.discard(store, "dead", None, LATER) == [(WATCH, "a1")]
        await acknowledge(store, under_way)

        assert await told_status(store) == "42"


class TestPatterns:
    TENANTS = ("a@tenant_1", "a@tenant_41", "a@tenant_42", "a@tenant_4%", "b@tenant_42")

    async def test_a_pattern_means_watches_that_the_store_knows(self, store: Store) -> None:
        for watch in self.TENANTS[:3]:
            await hold(store, "x", watch=watch)

        both = ["a@tenant_41", "a@tenant_42"]
        assert [each.watch for each in await store.report.entries("held", "a@tenant_4%", 9)] == both
        assert [group.watch for group in await store.operation.held_groups("a@tenant_4%")] == both
        assert await store.operation.held_groups("a@tenant_9*") == []
        assert await acting.discard(store, "held", "*2", LATER) == [("a@tenant_42", "x")]
        assert await acting.release_held(store, "%", LATER, ids=["x"]) == [("a@tenant_1", "x"), ("a@tenant_41", "x")]

    async def test_a_name_that_is_a_pattern_means_itself(self, store: Store) -> None:
        for watch in self.TENANTS:
            await hold(store, "x", watch=watch)

        assert await left(store, watch="a@tenant_4%") == ["x"]
        assert await acting.release_held(store, "a@tenant_4%", LATER) == [("a@tenant_4%", "x")]


class TestForgetAccount:
    async def test_its_entries_and_records_go(self, store: Store) -> None:
        await observe(
            store, an_observation("a1", account="acme"), an_observation("b1", account="beta"), rules=rules_by_row()
        )
        await acknowledge(store, *await begin_calls(store, endpoint=f"{ENDPOINT} [acme]"))
        await observe(store, an_observation("a1", "hired", account="acme"), rules=rules_by_row())

        assert await forget_account(store, "acme") == 2

        assert list(await store.capture.known(WATCH, ["a1", "b1"])) == ["b1"]
        assert await entry_of(store, "b1") is not None
        assert await forget_account(store, "acme") == 0

    @pytest.mark.parametrize("state", ["pending", "held", "dead"])
    async def test_a_record_stays_for_the_entry_of_another_account(self, store: Store, state: EntryState) -> None:
        await observe(store, an_observation(account="acme"), rules=rules_by_row())
        await acknowledge(store, *await begin_calls(store, endpoint=f"{ENDPOINT} [acme]"))
        moved_to_beta = an_observation(status="hired", account="beta")
        await observe(store, moved_to_beta, rules=rules_by_row(max_changes=0 if state == "held" else 1000))
        if state == "dead":
            for entry in await begin_calls(store, endpoint=f"{ENDPOINT} [beta]"):
                await reject(store, entry)

        assert await forget_account(store, "acme") == 1

        known = await known_one(store)
        assert (known.entry and known.entry.state, known.snapshot, known.is_acknowledged) == (state, None, False)
        if state == "held":
            await acting.release_held(store, None, LATER)
        if state == "dead":
            await acting.retry_dead(store, None, LATER)
        await acknowledge(store, *await begin_calls(store, LATER, endpoint=f"{ENDPOINT} [beta]"))
        await observe(store, an_observation(status="hired", deleted=True, account="beta"), rules=rules_by_row())
        (deletion,) = await begin_calls(store, LATER, endpoint=f"{ENDPOINT} [beta]")
        assert deletion.content.deleted


class TestRetry:
    async def test_what_was_refused_goes_to_its_own_endpoint(self, store: Store) -> None:
        await observe(store, an_observation(refused="unmapped"))
        assert await store.delivery.endpoints() == {}

        await acting.retry_dead(store, None, LATER, ids=["a1"])

        assert list(await store.delivery.endpoints()) == [ENDPOINT]

    async def test_what_has_no_url_to_call_stays_a_dead_letter(self, store: Store) -> None:
        await observe(store, an_observation(base_url="gopher://example", refused="its URL may not be called"))

        assert await acting.retry_dead(store, None, LATER) == []

        assert (await waiting_entry(store)).state == "dead"
        assert await events_of(store) == ["dead-lettered"]


class TestResend:
    async def test_what_waits_already_goes_out_now(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"), rules=some_rules(default_settle=MINUTE))

        assert await acting.resend(store, WATCH, ["a1"], NOW + SECOND) == [(WATCH, "a1")]

        assert (await begin_call(store, NOW + SECOND)).content == a_content("hired")

    @pytest.mark.parametrize("is_pending", [False, True])
    async def test_a_change_that_is_undone_does_not_cancel_it(self, store: Store, *, is_pending: bool) -> None:
        await adopt(store, "a1")
        if is_pending:
            await observe(store, an_observation(status="hired"))
        assert await acting.resend(store, WATCH, ["a1"], NOW) == [(WATCH, "a1")]

        await observe(store, an_observation(status="hired"))
        await observe(store, an_observation())

        assert (await begin_call(store)).content.status == "applied"

    async def test_the_present_address_and_account_are_called(self, store: Store) -> None:
        await adopt(store, "a1")
        present = a_content(base_url="https://new.example", account="beta")

        await store.operation.execute(Resend(WATCH, (("a1", present),), by("resend")), NOW)

        (call,) = await begin_calls(store, endpoint=present.endpoint)
        assert call.content == present

    async def test_another_state_is_left_to_the_capture(self, store: Store) -> None:
        await adopt(store, "a1")

        resend = Resend(WATCH, (("a1", a_content("hired")),), by("resend"))
        assert await store.operation.execute(resend, NOW) == []

    async def test_held_and_dead_entries_have_commands_of_their_own(self, store: Store) -> None:
        await bury(store, an_observation("a2"))
        await hold(store, "a1")

        assert await acting.resend(store, WATCH, ["a1", "a2"], LATER) == []

        assert (await left(store, "held"), await left(store, "dead")) == (["a1"], ["a2"])


class TestReplacedMeanwhile:
    @pytest.mark.parametrize("discards", [False, True])
    async def test_an_entry_stays_held_as_nobody_has_seen_it(self, store: Store, *, discards: bool) -> None:
        await hold(store, "a1", "a2")
        seen = tuple(await store.operation.chosen("held", None))
        await observe(store, an_observation("a2", "refused"), rules=some_rules(max_changes=0))

        act = (Discard if discards else Send)("held", None, seen, acting.SOMEBODY)

        assert await store.operation.execute(act, LATER) == [(WATCH, "a1")]
        assert await left(store) == ["a2"]

    async def test_so_does_one_that_was_cancelled_before(self, store: Store) -> None:
        await hold(store, "a1")
        seen = tuple(await store.operation.chosen("held", None))
        await observe(store, an_observation("a1"), rules=some_rules(max_changes=0))
        assert await left(store) == []
        await observe(store, an_observation("a1", "refused"), rules=some_rules(max_changes=0), at=LATER)

        assert await store.operation.execute(Send("held", None, seen, acting.SOMEBODY), LATER) == []
        assert await left(store) == ["a1"]


class TestForgetting:
    """What the store knew of a watch that nobody configures any more."""

    BY = PersonActed(NOW, "forget", "an operator", 1, WATCH)

    async def test_nothing_of_it_is_left_and_all_of_the_others(self, store: Store) -> None:
        await hold(store, "hw-1", "hw-2")
        await hold(store, "hw-1", watch="other")
        await store.databases.rebind("a database", ["a-host:5432"], {WATCH: {"somewhere": "1"}}, acting.SOMEBODY)

        assert await forgotten(store, WATCH, self.BY)

        assert await left(store) == ["hw-1"]
        assert list(await store.report.counts()) == ["other"]
        assert not await store.capture.positions(WATCH)
        assert not await events_of(store, "hw-2")
        assert [record.watch for record in await store.report.records("hw-1", None)] == ["other"]
        assert not await forgotten(store, WATCH, self.BY), "there was nothing more"

    async def test_what_an_interruption_left_can_be_forgotten(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(acts, "STEP", 2)
        await hold(store, "hw-1", "hw-2", "hw-3")
        assert await executed(store, Forget(WATCH, self.BY))

        assert list(await store.report.counts()) == [WATCH], "the command knows it still"
        assert await forgotten(store, WATCH, self.BY)
        assert not await store.report.counts()
        assert not await store.capture.known(WATCH, ["hw-1", "hw-2", "hw-3"])


class TestForgettingAnApplication:
    BY = PersonActed(NOW, "forget", "julia", 1)

    async def forget(self, store: Store, application_id: str, watch: str | None = None) -> int:
        request = acts.ForgetApplication(application_id, watch, self.BY)
        return await store.operation.execute(request, LATER)

    async def test_other_watches_keep_it(self, store: Store) -> None:
        for watch in (WATCH, "other"):
            await adopt(store, "a1", watch=watch)
            await observe(store, an_observation("a1", deleted=True), rules=some_rules(watch))
        await acknowledge(store, *await begin_calls(store))

        assert await self.forget(store, "a1", "other") > 0

        assert [record.watch for record in await store.report.records("a1", None)] == [WATCH]
        assert {line.watch for line in await store.report.story("a1", 10)} == {WATCH}

    async def test_it_is_one_line_without_the_id(self, store: Store) -> None:
        await adopt(store, "secret-1")
        await observe(store, an_observation("secret-1", deleted=True))
        await acknowledge(store, *await begin_calls(store))

        count = await self.forget(store, "secret-1")

        (line,) = await store.report.story("", 10)
        assert line == HistoryEntry(LATER, "", "", "forgotten", {"who": "julia", "count": count})
        assert await self.forget(store, "secret-1") == 0


ELSEWHERE = "https://one.example:443"


def by(action: str) -> PersonActed:
    """An operator."""
    return PersonActed(NOW, action, "julia", 1)


async def ask(store: Store, request: Request[Any], within: float = DEADLINE) -> str:
    """Add a request, as another process does."""
    id_ = uuid4().hex
    await store.operation.add_request(id_, request, within)
    return id_


async def execute_all(store: Store) -> int:
    """Execute the waiting requests; returns how many rows were looked at."""
    number = 0
    while await store.operation.execute_next(captured=()):
        number += 1
    return number


async def rows_of(store: Store) -> list[tuple[Any, ...]]:
    """The requests that are there."""

    async def work(transaction: Transaction) -> list[tuple[Any, ...]]:
        rows = []
        while waiting := await transaction.run("next_request"):
            rows += waiting
            await transaction.run("remove_request", id=waiting[0][0])
        return rows

    return await store.driver.transact(work)


class TestOrder:
    async def test_they_are_executed_as_they_were_asked(self, store: Store) -> None:
        for request in (Pause(ELSEWHERE, by("pause")), Resume(ALL_ENDPOINTS, by("resume")), Pause("b", by("pause"))):
            await ask(store, request)

        assert await execute_all(store) == 3

        assert await store.operation.paused() == {"b"}

    async def test_who_executes_one_learns_what_was_done(self, store: Store) -> None:
        await ask(store, Pause(ELSEWHERE, by("pause")))
        await ask(store, Resend(WATCH, (("nobody", a_content()),), by("resend")))
        await ask(store, Forget(WATCH, by("forget")))

        done: list[Event] = []
        store.operation.observe = done.append
        assert [await store.operation.execute_next(captured=[WATCH]) for _ in range(4)] == [True, True, True, False]

        assert done == [by("pause")]


class TestDeadline:
    async def test_an_expired_one_is_never_executed(self, store: Store) -> None:
        id_ = await ask(store, Pause(ELSEWHERE, by("pause")), within=0.01)
        await asyncio.sleep(0.05)

        await execute_all(store)

        assert await store.operation.paused() == frozenset()
        assert await store.operation.remove_request(id_) is None

    async def test_a_clock_that_was_set_back_does_not_put_it_off(self, store: Store) -> None:
        await ask(store, Pause(ELSEWHERE, by("pause")))
        await shift(store, 60_000)

        await execute_all(store)

        assert await store.operation.paused() == frozenset()

    async def test_what_killed_commands_left_is_pruned(self, store: Store) -> None:
        await executed(store, Pause(ELSEWHERE, by("pause")))
        await ask(store, Pause("old", by("pause")))
        await shift(store, -10 * 60_000)
        await ask(store, Pause("new", by("pause")))

        await store.operation.prune(NOW, 10, 10)

        assert [json.loads(arguments)["endpoint"] for _, _, arguments, _ in await rows_of(store)] == ["new"]


async def shift(store: Store, by_: int) -> None:
    """Let the requests have been asked later, by so many milliseconds."""
    moved = f"UPDATE {'cdc_sync.' if store.driver.clock.shared else ''}request SET asked_at = asked_at + {by_}, "  # noqa: S608
    await outside(store, moved + f"expires_at = expires_at + {by_}")


async def outside(store: Store, statement: str, values: Sequence[Any] = ()) -> None:
    """Run a statement of the test's own."""

    async def work(transaction: Any) -> None:
        if store.driver.clock.shared:
            await transaction._connection.execute(statement.replace("?", "%s").encode(), values)
        else:
            transaction.connection.execute(statement, values)

    await store.driver.transact(work)


class TestRefusal:
    async def test_leaves_nothing_but_the_answer(self, store: Store) -> None:
        await hold(store, "a1")

        with pytest.raises(OperationError, match="a daemon works the watch"):
            await executed(store, Forget(WATCH, by("forget")), captured=[WATCH])

        assert (await waiting_entry(store, "a1")).state == "held"

    async def test_goes_to_a_command_of_another_version(self, store: Store) -> None:
        table = "cdc_sync.request" if store.driver.clock.shared else "request"
        insert = f"INSERT INTO {table} (id, what, arguments, asked_at, expires_at) VALUES (?, ?, ?, 0, {1 << 50})"  # noqa: S608
        asked = {
            "unknown": ("paint", "{}"),
            "less": ("pause", '{"endpoint": "x"}'),
            "restricted": ("resume", json.dumps({"endpoint": "", "by": vars_of(by("resume")), "only": "red"})),
            "broken": ("pause", "{"),
        }
        for id_, (what, arguments) in asked.items():
            await outside(store, insert, (id_, what, arguments))
        await acting.pause(store, ELSEWHERE)

        assert await execute_all(store) == len(asked)

        for id_, (what, _) in asked.items():
            answer = json.loads(await store.operation.remove_request(id_) or "{}")
            assert f"({what})" in answer["refused"]
        assert await store.operation.paused() == {ELSEWHERE}


def vars_of(acted: PersonActed) -> dict[str, Any]:
    """A person's action as JSON has it."""
    return {name: getattr(acted, name) for name in ("at", "action", "who", "count", "on")}


async def test_a_failure_of_the_store_leaves_the_request_waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await hold(store, "a1")
    held = tuple(await store.operation.chosen("held", None))
    id_ = await ask(store, Send("held", None, held, by("release")))

    async def fail(*_: Any) -> None:
        raise StoreError("store-unusable", "the disk is full")

    with monkeypatch.context() as failing:
        failing.setattr(acts, "add_history", fail)
        with pytest.raises(StoreError, match="full"):
            await store.operation.execute_next(captured=())
    assert (await waiting_entry(store, "a1")).state == "held", "nothing of it is kept"
    assert not await store.operation.is_answered(id_)

    await execute_all(store)

    assert (await waiting_entry(store, "a1")).state == "pending"


async def test_a_command_that_is_stopped_while_it_takes_its_request_back_stops_nobody(dsn: str) -> None:
    """Its session may keep the request's row for long."""
    store = Store(await PostgresDriver.open(dsn))
    try:
        id_ = await ask(store, Pause(ELSEWHERE, by("pause")))
        with psycopg.connect(dsn) as stopped:
            stopped.execute("SELECT answer FROM cdc_sync.request WHERE id = %s FOR UPDATE", (id_,))
            async with asyncio.timeout(20):
                assert not await store.operation.execute_next(captured=())
                await ask(store, Resume(ELSEWHERE, by("resume")))
                assert await store.operation.execute_next(captured=())
    finally:
        await store.driver.close()


TWO_CHANGES = some_rules(max_changes=2)


async def states(store: Store, *ids: str) -> list[str]:
    return [(await waiting_entry(store, one)).state for one in ids]


async def change(store: Store, *ids: str, at: int = NOW, watch: str = WATCH) -> list[ApplyResult]:
    """Let applications change, of which two may."""
    rows = [an_observation(one, "hired") for one in ids]
    return await observe(store, *rows, rules=some_rules(watch, max_changes=2), at=at)


async def test_changes_are_counted_over_batches_and_restarts_and_by_watch(store: Store, open_store: OpenStore) -> None:
    await adopt(store, "a1", "a2", "a3")
    await adopt(store, "a1", watch="spontaneous")
    await change(store, "a1")
    await change(store, "a2", at=NOW + MINUTE)
    await store.driver.close()

    later = await open_store()
    await change(later, "a3", at=NOW + 2 * MINUTE)
    await change(later, "a1", at=NOW + 2 * MINUTE, watch="spontaneous")

    assert await states(later, "a1", "a2", "a3") == ["pending", "pending", "held"]
    assert (await waiting_entry(later, "a1", "spontaneous")).state == "pending"


async def is_undone(store: Store) -> None:
    await observe(store, an_observation("a3"), rules=TWO_CHANGES)


async def dies(store: Store) -> None:
    await observe(store, an_observation("a3", refused="the URL may not be called"), rules=TWO_CHANGES)


async def is_acknowledged(store: Store) -> None:
    """HelloWork has received what is held, by an earlier call."""
    await acting.release_held(store, WATCH, NOW, ids=["a3"])
    entry = next(entry for entry in await begin_calls(store) if entry.application_id == "a3")
    nothing = some_rules(max_changes=0)
    await observe(store, an_observation("a3", "hired", deleted=True), rules=nothing, under_way=[entry])
    await observe(store, an_observation("a3", "hired"), rules=nothing, under_way=[entry])
    assert await states(store, "a3") == ["held"]
    await acknowledge(store, entry)
    assert await entry_of(store, "a3") is None


async def moves(store: Store) -> None:
    """Another watch has a newer state of it."""
    await store.capture.apply(some_rules("archive"), a_batch(an_observation("a3", "offer"))._replace(others=(WATCH,)))
    assert await entry_of(store, "a3") is None


@pytest.mark.parametrize("happens", [is_undone, dies, is_acknowledged, moves])
async def test_it_is_whole_again_when_nothing_is_held(
    store: Store, happens: Callable[[Store], Awaitable[None]]
) -> None:
    await adopt(store, "a1", "a2", "a3")
    await change(store, "a1", "a2", "a3")

    await happens(store)

    assert not await is_blown(store)


async def test_what_a_person_released_counts_as_new_when_it_changes_again(store: Store) -> None:
    """Else a second mass change of the same applications would go out uncounted."""
    ids = ("a1", "a2", "a3", "a4", "a5")
    await adopt(store, *ids)
    await change(store, *ids)
    await acting.release_held(store, WATCH, NOW + MINUTE)

    await observe(store, *(an_observation(one, "rejected") for one in ids), rules=TWO_CHANGES, at=NOW + 2 * MINUTE)

    assert sorted(await states(store, *ids)) == ["held"] * 3 + ["pending"] * 2
