"""Operators' requests: executed once, in their order, before their deadline, in one transaction with their answer."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from support import acting
from support.builders import NOW, WATCH, an_observation, some_rules
from support.requests import executed
from support.store_backends import PostgresBackend
from support.store_steps import adopt, observe, waiting_entry

from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.replies import ALL_ENDPOINTS
from cdc_sync.store import Store, acts
from cdc_sync.store.acts import DEADLINE, Forget, Pause, Request, Resend, Resume, Send
from cdc_sync.store.driver import Transaction
from cdc_sync.store.postgres import PostgresDriver

ELSEWHERE = "https://one.example:443"


def by(action: str) -> PersonActed:
    """An operator."""
    return PersonActed(NOW, action, "julia", 1)


async def ask(store: Store, request: Request[Any], within: float = DEADLINE) -> str:
    """Add a request, as another process does."""
    return await store.operation.add_request(request, within)


async def execute_all(store: Store) -> int:
    """Execute the waiting requests; returns how many rows were looked at."""
    number = 0
    while await store.operation.execute_next(captured=()) is not None:
        number += 1
    return number


async def rows_of(store: Store) -> list[tuple[Any, ...]]:
    """The requests that are there."""

    async def work(transaction: Transaction) -> list[tuple[Any, ...]]:
        rows = []
        while waiting := await transaction.rows("next_request"):
            rows += waiting
            await transaction.run("remove_request", id=waiting[0][0])
        return rows

    return await store.driver.transact(work)


async def hold(store: Store, *ids: str) -> None:
    """Let a fuse hold these applications' changes."""
    await adopt(store, *ids)
    await observe(store, *(an_observation(one, "hired") for one in ids), rules=some_rules(max_changes=0))


class TestOrder:
    async def test_they_are_executed_as_they_were_asked(self, store: Store) -> None:
        for request in (Pause(ELSEWHERE, by("pause")), Resume(ALL_ENDPOINTS, by("resume")), Pause("b", by("pause"))):
            await ask(store, request)

        assert await execute_all(store) == 3

        assert await store.operation.paused() == {"b"}

    async def test_who_executes_one_learns_what_was_done(self, store: Store) -> None:
        await ask(store, Pause(ELSEWHERE, by("pause")))
        await ask(store, Resend(WATCH, ("nobody",), by("resend")))
        await ask(store, Forget(WATCH, by("forget")))

        done = [await store.operation.execute_next(captured=[WATCH]) for _ in range(4)]

        assert done == [[by("pause")], [], [], None]


class TestDeadline:
    async def test_an_expired_one_is_never_executed(self, store: Store) -> None:
        id_ = await ask(store, Pause(ELSEWHERE, by("pause")), within=0.01)
        await asyncio.sleep(0.05)

        await execute_all(store)

        assert await store.operation.paused() == frozenset()
        assert await store.operation.remove_request(id_) is None

    @pytest.mark.parametrize("minutes", [1, 60])
    async def test_a_clock_that_was_set_back_does_not_put_it_off(self, store: Store, minutes: int) -> None:
        await ask(store, Pause(ELSEWHERE, by("pause")))
        await shift(store, minutes * 60_000)

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


class TestFailure:
    async def test_of_the_store_leaves_the_request_waiting(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_command_that_is_stopped_while_it_takes_its_request_back_stops_nobody(dsn_of_store: str) -> None:
    """Its session may keep the request's row for long."""
    store = Store(await PostgresDriver.open(dsn_of_store))
    try:
        id_ = await ask(store, Pause(ELSEWHERE, by("pause")))
        with psycopg.connect(dsn_of_store) as stopped:
            stopped.execute("SELECT answer FROM cdc_sync.request WHERE id = %s FOR UPDATE", (id_,))
            async with asyncio.timeout(20):
                assert await store.operation.execute_next(captured=()) is None
                await ask(store, Resume(ELSEWHERE, by("resume")))
                assert await store.operation.execute_next(captured=())
    finally:
        await store.driver.close()


@pytest.fixture
def dsn_of_store(store_database: str) -> str:
    return PostgresBackend(store_database).dsn
