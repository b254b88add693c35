"""What is special about the shared store: who lives, whose claims and records count, and what its role may do."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.builders import ENDPOINT, HOUR, LANE, MINUTE, NOW, WATCH, a_batch, an_observation, some_rules
from support.eventually import eventually
from support.postgres import Cluster
from support.proxy import proxy_to
from support.store_backends import PostgresBackend
from support.store_steps import (
    acknowledge,
    adopt,
    claim,
    claim_one,
    entry_of,
    events_of,
    lose_answer,
    observe,
    told_status,
    waiting_entry,
)

from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.findings import Finding
from cdc_sync.core.outbox import Verified
from cdc_sync.core.replies import DeadLetter, Finished, Retry
from cdc_sync.store.check import check_shared
from cdc_sync.store.clock import uptime
from cdc_sync.store.driver import Transaction
from cdc_sync.store.postgres import PostgresStore, claims, copy_to_sqlite, driver, scripts
from cdc_sync.store.postgres.driver import PostgresTransaction
from cdc_sync.store.postgres.takeover import expire_daemon
from cdc_sync.store.protocol import Lease
from cdc_sync.store.sqlite import SqliteStore
from cdc_sync.store.sqlite.schema import connect_copy
from cdc_sync.store.statements import migrations

Open = Callable[[], Awaitable[PostgresStore]]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def dsn(store_database: str) -> str:
    return PostgresBackend(store_database).dsn


@pytest.fixture
async def open_another(dsn: str) -> AsyncIterator[Open]:
    async with AsyncExitStack() as opened:

        async def open_it() -> PostgresStore:
            store = await PostgresStore.open(dsn, longest_call=1.0)
            opened.push_async_callback(store.close)
            return store

        yield open_it


@pytest.fixture
async def store(open_another: Open) -> PostgresStore:
    return await open_another()


@contextmanager
def dba(dsn: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


async def die(store: PostgresStore) -> None:
    """Stop renewing, as kill -9 does; nothing else is told to anybody."""
    for task in store._lasting:
        task.cancel()
    await asyncio.wait(store._lasting)


async def change_daemons(dsn: str, what: LiteralString) -> None:
    def update() -> None:
        with dba(dsn) as connection:
            connection.execute("UPDATE cdc_sync.daemon SET " + what)  # noqa: S608 - ours

    # Not in the event loop: who holds such a row's lock ends its transaction there, and both would wait for ever.
    await asyncio.to_thread(update)


async def let_leases_lapse(dsn: str) -> None:
    await change_daemons(dsn, "alive_until = clock_timestamp() - interval '1 second'")


async def one_under_way(store: PostgresStore) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    await claim_one(store)


def claimed_by(dsn: str) -> set[object]:
    """Whose claims there are; None stands for entries that nobody has."""
    with dba(dsn) as connection:
        return {number for (number,) in connection.execute("SELECT claimed_by FROM cdc_sync.outbox").fetchall()}


def free_claims(dsn: str) -> None:
    with dba(dsn) as connection:
        connection.execute("UPDATE cdc_sync.outbox SET claimed_by = NULL")


def deadlocks(dsn: str) -> object:
    """How many PostgreSQL has ended in this database."""
    with dba(dsn) as connection:
        return connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()


def take_for_dead(dsn: str) -> None:
    """What another daemon does to all whose lease has lapsed."""
    with dba(dsn) as connection:
        connection.execute(
            "UPDATE cdc_sync.outbox SET claimed_by = NULL, attempted = true, attempts = attempts + 1"
            " WHERE claimed_by IS NOT NULL"
        )
        connection.execute("DELETE FROM cdc_sync.daemon")


async def test_an_unexpected_error_in_the_background_is_raised(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store._sharing, "_look", fail)
    await store.daemon()
    store._sharing.look()
    await eventually(lambda: any(task.done() for task in store._lasting), "the task to end")

    with pytest.raises(ZeroDivisionError):
        await store.daemon()


class TestClaims:
    async def test_what_one_has_claimed_another_does_not_get(self, store: PostgresStore, open_another: Open) -> None:
        other = await open_another()
        names = [f"a{number}" for number in range(60)]
        await adopt(store, *names)
        await observe(store, *(an_observation(one, "hired") for one in names))

        claims = await asyncio.gather(*(claim(each, limit=7) for each in [store, other] * 5))

        assert sorted(entry.application_id for claimed in claims for entry in claimed) == sorted(names)

    async def test_a_start_leaves_the_claims_of_the_living_alone(
        self, store: PostgresStore, open_another: Open
    ) -> None:
        await one_under_way(store)
        other = await open_another()

        await other.release_claims()

        assert await claim(other) == []

    async def test_those_of_a_daemon_that_was_killed_are_free_once_its_lease_has_lapsed(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await one_under_way(store)
        await die(store)
        other = await open_another()
        await other.release_claims()
        assert await claim(other) == []
        await let_leases_lapse(dsn)

        async def free() -> bool:
            return bool(await claim(other))

        await eventually(free, "its claim to be free", within=60)

        assert (await waiting_entry(other)).attempts == 2

    async def test_a_lapsed_lease_that_is_renewed_was_a_clocks_mistake(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await one_under_way(store)
        other = await open_another()
        await other.release_claims()
        await let_leases_lapse(dsn)
        await other._lease.expire_claims(other.clock)
        assert other._lease._lapsed, "it was seen to have lapsed"

        async def believed_again() -> bool:
            await other._lease.expire_claims(other.clock)
            return not other._lease._lapsed

        await eventually(believed_again, "the lease to be renewed", within=60)

        assert await claim(other) == []

    async def test_nothing_may_begin_without_enough_of_the_lease(self, store: PostgresStore) -> None:
        await one_under_way(store)
        entry = await waiting_entry(store)
        assert store.holds(entry)
        await die(store)

        await eventually(lambda: not store.holds(entry), "the lease to run short", within=60)

        await store._lease.renew()
        assert store.holds(entry), "nobody has taken it meanwhile"

    async def test_an_end_that_comes_after_the_claim_was_taken_decides_nothing(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="seen"))
        stalled = await claim_one(store)
        await die(store)
        take_for_dead(dsn)
        other = await open_another()
        await observe(other, an_observation(status="hired"))
        await acknowledge(other, await claim_one(other))
        assert await told_status(other) == "hired"

        await acknowledge(store, stalled)

        assert await told_status(store) == "hired"
        assert (await events_of(store))[-2:] == ["acknowledged", "answered"]
        assert await store.recent_ends(9, failed=True) == []
        assert len(await store.recent_ends(9, failed=False)) == 2

    async def test_who_was_taken_for_dead_learns_it_by_its_next_claim(self, dsn: str, store: PostgresStore) -> None:
        await one_under_way(store)
        lost = await waiting_entry(store)
        take_for_dead(dsn)

        with pytest.raises(StoreError, match=r"lease on the store .* has ended") as raised:
            await claim(store)

        assert raised.value.code == "store-lease-ended"
        assert claimed_by(dsn) == {None}
        assert await claim(store) == [], "under another number; and its own call may still be under way"
        assert not store.holds(lost)
        await lose_answer(store, lost)
        assert (await claim_one(store)).application_id == "a1"

    async def test_who_was_taken_for_dead_learns_it_though_nothing_is_due(self, dsn: str, store: PostgresStore) -> None:
        await store.daemon()
        take_for_dead(dsn)

        with pytest.raises(StoreError, match="has ended"):
            await claim(store)

        assert await claim(store) == []

    async def test_claims_look_back_each_second_or_when_they_get_too_little(
        self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In between they spare themselves what was claimed: its entries stay in the index for as long as it takes."""
        up = uptime()
        monkeypatch.setattr(claims, "uptime", lambda: up)
        names = [f"a{number}" for number in range(6)]
        await adopt(store, *names)
        for number, one in enumerate(names):
            await observe(store, an_observation(one, "hired"), at=NOW + number * MINUTE)
        at = NOW + HOUR
        first = await claim(store, at, limit=2)
        await store.unclaim(first)

        async def claimed(limit: int) -> list[str]:
            return [entry.application_id for entry in await claim(store, at, limit=limit)]

        assert await claimed(1) == ["a1"], "it was the last to be claimed"
        up += 1_000
        assert await claimed(1) == ["a0"], "given back, and due for longest"
        assert await claimed(2) == ["a2", "a3"]
        await store.unclaim([entry for entry in first if entry.application_id == "a0"])
        assert await claimed(9) == ["a0", "a4", "a5"]

    async def test_a_claim_of_a_daemon_that_has_no_row_counts_as_an_attempt(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        """As one of an earlier version leaves it, which is taken for dead while it claims."""
        await adopt(store)
        await observe(store, an_observation(status="B"))
        with psycopg.connect(dsn, autocommit=True) as dba:
            dba.execute("UPDATE cdc_sync.outbox SET claimed_by = 999")

        await (await open_another()).release_claims()

        entry = await claim_one(store)
        assert (entry.attempted, entry.attempts) == (True, 2)

    async def test_expiring_a_daemon_waits_for_the_claim_that_it_is_making(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        other, number = await open_another(), await store.daemon()
        with dba(dsn) as connection:
            ((until,),) = connection.execute(
                "SELECT alive_until::text FROM cdc_sync.daemon WHERE id = %s", [number]
            ).fetchall()

        async def claim_it(transaction: Transaction) -> "asyncio.Task[bool]":
            lane = {"endpoints": [ENDPOINT], "watches": [WATCH], "limits": [1], "sinces": [0], "probing": [False]}
            due = await transaction.rows("due", **lane, now=NOW, latest=NOW + HOUR, daemon=number)
            assert len(due) == 1
            expiry = partial(expire_daemon, number=number, until=str(until), clock=other.clock)
            expiring = asyncio.create_task(other.transact(expiry))
            await asyncio.sleep(0.3)
            assert not expiring.done()
            return expiring

        await (await store.transact(claim_it))

        assert claimed_by(dsn) == {None}
        assert (await waiting_entry(store)).attempted

    async def test_a_claim_whose_answer_was_lost_is_given_back(self, dsn: str, store: PostgresStore) -> None:
        await one_under_way(store)
        store.claims._numbers.clear()  # as if the answer to its claim had been lost
        store.claims._entries.clear()
        store.claims.compare_first()

        assert (await claim_one(store)).attempts == 1, "its call has not begun"

    async def test_a_claim_that_a_failover_brought_back_is_given_back_without_anything_to_claim(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await one_under_way(store)
        entry = await waiting_entry(store)
        await lose_answer(store, entry, again_at=NOW + HOUR)
        with dba(dsn) as connection:  # as on a standby that had not heard of the end
            connection.execute(
                "UPDATE cdc_sync.outbox SET claimed_by = (SELECT max(id) FROM cdc_sync.daemon), attempted = false"
            )

        async def free() -> bool:
            return claimed_by(dsn) == {None}

        await eventually(free, "the claim to be free", within=30)
        assert (await waiting_entry(store)).attempted, "its call was made"

    async def test_an_end_under_a_claim_that_a_failover_lost_records_the_call(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await one_under_way(store)
        under_way = store.claims._entries[WATCH, "a1"]
        with dba(dsn) as connection:
            connection.execute("UPDATE cdc_sync.outbox SET claimed_by = NULL")

        await acknowledge(store, under_way)

        assert (await waiting_entry(store)).attempted

    async def test_a_claim_that_a_failover_lost_is_taken_again_and_no_call_begins_by_it(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await one_under_way(store)
        under_way = store.claims._entries[WATCH, "a1"]
        other = await open_another()
        with dba(dsn) as connection:  # as on a standby that had not heard of the claim, nor of the daemon
            connection.execute("UPDATE cdc_sync.outbox SET claimed_by = NULL, attempts = 0, attempted = false")
            connection.execute("DELETE FROM cdc_sync.daemon")

        async def taken_again() -> bool:
            return None not in claimed_by(dsn)

        await eventually(taken_again, "the claim to be taken again", within=30)
        assert await claim(other) == []
        assert not store.holds(under_way), "it may have been sent meanwhile"
        await acknowledge(store, under_way)
        assert await told_status(store) == under_way.content.status
        assert claimed_by(dsn) == set()

    async def test_what_somebody_else_has_tried_since_is_not_taken_again(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await one_under_way(store)
        other = await open_another()
        await die(store)
        take_for_dead(dsn)
        await lose_answer(other, await claim_one(other), again_at=NOW + HOUR)

        await store.claims.compare()

        assert claimed_by(dsn) == {None}

    async def test_a_content_that_a_failover_numbered_like_the_one_under_way_is_sent(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await one_under_way(store)
        under_way = store.claims._entries[WATCH, "a1"]
        with dba(dsn) as connection:
            connection.execute("UPDATE cdc_sync.outbox SET status = 'refused'")

        await acknowledge(store, under_way)

        assert await told_status(store) == under_way.content.status
        assert (await claim_one(store)).content.status == "refused"

    async def test_steps_at_the_same_moment_register_one_daemon(self, dsn: str, store: PostgresStore) -> None:
        numbers = await asyncio.gather(*(store.daemon() for _ in range(3)))

        with dba(dsn) as connection:
            registered = connection.execute("SELECT id FROM cdc_sync.daemon").fetchall()
        assert registered == [(numbers[0],)]
        assert len(set(numbers)) == 1

    async def test_a_number_that_is_handed_out_twice_has_one_owner(self, dsn: str, store: PostgresStore) -> None:
        await one_under_way(store)
        before = store._lease.number
        # As on a standby whose sequence was behind, where another daemon was first.
        await change_daemons(dsn, "started_at = started_at + interval '1 second'")

        assert await store._lease.renew() != before

    async def test_an_end_written_twice_is_written_once(self, store: PostgresStore) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        entry = await claim_one(store)
        claims = dict(store.claims._numbers)
        await lose_answer(store, entry)
        store.claims._numbers |= claims  # as if the first answer had been lost, and it is tried again

        await lose_answer(store, entry, again_at=NOW + 60_000)

        assert (await waiting_entry(store)).due_at == NOW


class TestTakingOver:
    async def test_who_lost_the_watch_records_nothing_more(self, store: PostgresStore, open_another: Open) -> None:
        other = await open_another()
        assert (await store.take(WATCH, "first")).mine
        await adopt(store, "a1")
        assert await other.take(WATCH, "second", instead_of=await other.take(WATCH, "second")) == Lease(
            mine=True, session="first"
        )
        await observe(other, an_observation(status="hired"))

        with pytest.raises(StoreError, match="lease on the watch applications has ended"):
            await observe(store, an_observation(status="seen"))

        assert (await waiting_entry(store)).content.status == "hired"
        assert not (await store.take(WATCH, "first")).mine
        await other.give_back(WATCH)
        with pytest.raises(StoreError, match="waits for its turn"):
            await observe(other, an_observation(status="seen"))
        assert await store.take(WATCH, "third") == Lease(mine=True, session="second")
        await observe(store, an_observation(status="seen"))

    async def test_who_does_not_hold_the_lease_waits(self, store: PostgresStore, open_another: Open) -> None:
        other = await open_another()
        await store.take(WATCH, "first")

        found = await other.take(WATCH, "second")

        assert (found.mine, found.session, found.process) == (False, "first", os.getpid())
        # The holder began anew meanwhile: what was found out about its session is no longer true.
        assert (await store.take(WATCH, "third")).mine
        assert not (await other.take(WATCH, "second", instead_of=found)).mine
        await store.close()
        assert await other.take(WATCH, "second") == Lease(mine=True, session="third")

    async def test_a_lease_is_free_once_its_daemon_is_taken_for_dead(
        self, dsn: str, store: PostgresStore, open_another: Open
    ) -> None:
        await store.take(WATCH, "first")
        await adopt(store, "a1")
        await die(store)
        other = await open_another()
        await other.release_claims()
        await let_leases_lapse(dsn)
        assert not (await other.take(WATCH, "second")).mine, "not before it has stayed lapsed for a while"

        async def free() -> bool:
            return (await other.take(WATCH, "second")).mine

        await eventually(free, "the lease to be free", within=60)

        with pytest.raises(StoreError):  # as when the daemon that was stopped goes on
            await observe(store, an_observation(status="seen"))

    async def test_who_was_taken_for_dead_records_nothing_though_nobody_else_works(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await store.take(WATCH, "first")
        await adopt(store, "a1")
        take_for_dead(dsn)
        await store._lease.renew()

        with pytest.raises(StoreError):
            await observe(store, an_observation(status="seen"))

        assert await store.take(WATCH, "second") == Lease(mine=True, session="first")
        await observe(store, an_observation(status="seen"))


class TestAtOnce:
    async def test_everybody_at_once_and_nobody_waits_in_a_circle(
        self, store: PostgresStore, open_another: Open
    ) -> None:
        stores = [store, await open_another(), await open_another()]
        names = [f"a{number:02}" for number in range(20)]
        await adopt(store, *names)
        before = deadlocks(store._dsn)  # of other tests, in the same database

        async def watch(turn: int) -> None:
            order = names if turn % 2 else names[::-1]
            observations = [an_observation(one, f"status {turn}") for one in order[::2]]
            batch = a_batch(*observations, out_of_scope=order[1::2])
            await stores[turn % 3].apply(some_rules(), batch)

        async def send(turn: int) -> None:
            mine = stores[turn % 3]
            await acknowledge(mine, *(await claim(mine, limit=5))[::-1])

        async def operate(turn: int) -> None:
            await stores[turn % 3].resend(None, names[:: turn % 3 + 1], NOW)
            await stores[turn % 3].retry_dead(None, NOW)
            await stores[turn % 3].discard("held", None, NOW)

        async def give_back(turn: int) -> None:
            mine = stores[turn % 3]
            await mine.unclaim((await claim(mine, limit=5))[::-1])

        async def verify(turn: int) -> None:
            order = names if turn % 2 else names[::-1]
            await stores[turn % 3].verify(WATCH, [Verified(one, (one,), f"digest {turn}", None) for one in order])

        steps = (watch, send, operate, give_back, verify)
        await asyncio.gather(*(step(turn) for turn in range(24) for step in steps))

        for _ in range(100):
            await send(0)
        assert await store.entries("pending", None, 100) == []
        assert deadlocks(store._dsn) == before

    async def test_what_is_resent_is_locked_in_everybodys_order(self, store: PostgresStore, dsn: str) -> None:
        await adopt(store, "a1", "a2")
        await observe(store, *(an_observation(one, "hired") for one in ("a1", "a2")))
        with dba(dsn) as other, dba(dsn) as third:
            other.execute("BEGIN")
            other.execute("SELECT FROM cdc_sync.outbox WHERE application_id = 'a1' FOR UPDATE")
            resending = asyncio.create_task(store.resend(None, ["a2", "a1"], NOW))
            waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            await eventually(lambda: third.execute(waiting).rowcount == 1, "it to wait for the first")
            left = third.execute("SELECT FROM cdc_sync.outbox WHERE application_id = 'a2' FOR UPDATE SKIP LOCKED")
            assert left.rowcount == 1
            other.execute("COMMIT")
        assert len(await resending) == 2

    async def test_a_claim_that_is_being_made_keeps_its_watch_from_being_forgotten(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await adopt(store, "hw-1")
        await observe(store, an_observation("hw-1", "hired"))
        daemon = await store.daemon()
        with psycopg.connect(dsn) as claiming:
            claiming.execute("UPDATE cdc_sync.outbox SET claimed_by = %s", (daemon,))
            forgetting = asyncio.create_task(store.forget(WATCH, PersonActed(NOW, "forget", "somebody", 1, WATCH)))
            with dba(dsn) as asking:
                waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                await eventually(lambda: asking.execute(waiting).rowcount == 1, "it waits for the claim")

        with pytest.raises(OperationError, match="under way"):
            await forgetting


class TestLosingTheServer:
    async def test_a_lost_connection_fails_the_step_and_the_next_one_works(
        self, dsn: str, store: PostgresStore
    ) -> None:
        await one_under_way(store)
        with dba(dsn) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def works() -> bool:
            try:
                return bool(await store.counts())
            except StoreError:
                return False

        await eventually(works, "a step that works", within=60)
        assert await entry_of(store) is not None

    async def test_connections_that_fell_silent_cost_one_failure(
        self, dsn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with proxy_to(dsn) as proxy:
            store = await PostgresStore.open(proxy.dsn)
            await asyncio.gather(*(store.counts() for _ in range(3)))  # each on a connection of its own
            monkeypatch.setattr(driver, "_ANSWERS_WITHIN", 0.5)
            proxy.forget()

            with pytest.raises(StoreError, match="has not answered within") as raised:
                await store.counts()

            assert raised.value.code == "store-unanswered"
            monkeypatch.undo()
            assert await store.counts() == {}
            await store.close()

    async def test_an_unclaim_that_was_given_up_does_not_free_a_later_claim(
        self, dsn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with proxy_to(dsn) as proxy:
            store = await PostgresStore.open(proxy.dsn)
            await adopt(store, "a1")
            await observe(store, an_observation(status="hired"))
            entry = await claim_one(store)
            with monkeypatch.context() as hurried:
                hurried.setattr(driver, "_ANSWERS_WITHIN", 0.5)
                proxy.forget()
                with pytest.raises(StoreError, match="has not answered within"):
                    await store.unclaim([entry])
            await store.unclaim([entry])
            again = await claim_one(store)

            proxy.flow()  # the server now gets what was sent first
            await asyncio.sleep(1)

            assert store.holds(again)
            assert claimed_by(dsn) == {store.claims._numbers[WATCH, "a1"]}
            await store.close()

    @pytest.mark.parametrize("last_answer", ["claimed", "due"])
    async def test_no_other_write_that_was_given_up_frees_a_later_claim(
        self, dsn: str, monkeypatch: pytest.MonkeyPatch, last_answer: str
    ) -> None:
        async with proxy_to(dsn) as proxy:
            store = await PostgresStore.open(proxy.dsn)
            await one_under_way(store)
            store._lasting[0].cancel()  # the beat would repair it
            known = store.claims._numbers.copy()
            if last_answer == "claimed":  # an answer was lost, and the store's claim is unknown
                store.claims._numbers.clear()
            else:  # a failover has lost the claim, and it is claimed again
                await asyncio.to_thread(free_claims, dsn)
            rows = PostgresTransaction.rows

            async def rows_then_silence(
                self: PostgresTransaction, name: str, /, **parameters: object
            ) -> list[tuple[object, ...]]:
                found = await rows(self, name, **parameters)
                if name == last_answer:
                    proxy.forget()
                return found

            with monkeypatch.context() as silent:
                silent.setattr(PostgresTransaction, "rows", rows_then_silence)
                silent.setattr(driver, "_ANSWERS_WITHIN", 0.5)
                with pytest.raises(StoreError, match="has not answered within"):
                    await (store.claims.compare() if last_answer == "claimed" else claim(store))
            if last_answer == "claimed":
                store.claims._numbers |= known  # it has claimed it again

            proxy.flow()
            await asyncio.sleep(1)

            assert claimed_by(dsn) == {store.claims._numbers[WATCH, "a1"]}
            await store.close()


class TestUpgrading:
    @pytest.fixture
    def older(self, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A store as the version before made it; within, this version is that one."""
        with monkeypatch.context() as before, dba(database) as connection:
            older = migrations("postgres")[:-1]
            before.setattr(scripts, "migrations", lambda _: older)
            connection.execute(scripts.install().encode())
            before.undo()
            connection.execute("INSERT INTO cdc_sync.watch (name, known) VALUES ('applications', 7)")
            connection.execute(
                "INSERT INTO cdc_sync.daemon (host, process, lease, alive_until)"
                " VALUES ('older-host', 4711, interval '20 s', clock_timestamp() + interval '15 s')"
            )
            yield

    @pytest.mark.usefixtures("older")
    async def test_not_under_an_older_daemon(self, database: str) -> None:
        with pytest.raises(
            StoreError, match=r"process 4711 on older-host\. Stop all daemons that share the store"
        ) as raised:
            await PostgresStore.open(database)
        assert raised.value.code == "store-upgrade"
        with dba(database) as connection, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="4711"):
            connection.execute(scripts.install().encode())
        findings: list[Finding] = []
        assert await check_shared(database, findings.append) is None
        assert [(each.state, "process 4711 on older-host" in each.message) for each in findings] == [("failed", True)]
        await let_leases_lapse(database)

        store = await PostgresStore.open(database)
        assert await store.take(WATCH, "first") == Lease(mine=True)
        await one_under_way(store)
        assert (await store.counts())[WATCH].known == 8
        await store.close()

    async def test_a_daemon_under_which_the_store_was_changed_stops_sending(
        self, dsn: str, store: PostgresStore
    ) -> None:
        """As when it was stopped for so long that a newer version took it for dead."""
        await one_under_way(store)
        entry = await waiting_entry(store)
        with dba(dsn) as connection:
            connection.execute("UPDATE cdc_sync.about SET value = '999' WHERE name = 'schema'")

        with pytest.raises(StoreError, match="changed by another version"):
            await store._lease.renew()

        await die(store)
        await eventually(lambda: not store.holds(entry), "the lease to run short", within=60)
        with pytest.raises(StoreError, match="changed by another version"):
            await claim(store)


class TestTheRole:
    @pytest.fixture
    def role(self, cluster: Cluster, database: str) -> Iterator[str]:
        name = f"cdc_sync_{uuid.uuid4().hex[:12]}"
        with dba(database) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
            yield name
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,))
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))

    async def test_it_needs_the_scripts_and_no_more(self, database: str, role: str) -> None:
        own = make_conninfo(database, user=role)
        with pytest.raises(StoreError, match="Let the DBA run what `cdc-sync sql install --store` and"):
            await PostgresStore.open(own)
        findings: list[Finding] = []
        assert await check_shared(own, findings.append) is None
        assert [each.state for each in findings] == ["failed"]
        assert "cdc-sync sql install --store" in (findings[0].remedy or "")
        with dba(database) as connection:
            for _ in range(2):  # each may be run again
                connection.execute(scripts.install().encode())
                connection.execute(scripts.grants(role).encode())

        store = await PostgresStore.open(own)
        await one_under_way(store)
        await store.release_claims()
        await store.complete([Finished(await waiting_entry(store), DeadLetter("HTTP 400"), {}, NOW)], {})
        await store.retry_dead(None, NOW)
        await store.prune(NOW + 1, 1_000, 10)
        await store.close()

        with dba(database) as connection:
            connection.execute(scripts.uninstall().encode())
            assert connection.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)

    async def test_one_that_may_create_does_it_itself_however_many_start_at_once(self, database: str) -> None:
        stores = await asyncio.gather(*(PostgresStore.open(database) for _ in range(4)))

        assert await stores[0].counts() == {}
        for store in stores:
            await store.close()

    async def test_reading_sets_nothing_up(self, database: str) -> None:
        with pytest.raises(
            StoreError, match="has not been set up by this version yet: start the daemon once"
        ) as raised:
            await PostgresStore.open(database, read_only=True)
        assert raised.value.code == "store-not-set-up"

    async def test_reading_writes_nothing(self, dsn: str, store: PostgresStore) -> None:
        reader = await PostgresStore.open(dsn, read_only=True)

        with pytest.raises(StoreError, match=r"read-only transaction"):
            await reader.resend(None, ["a1"], NOW)

        await reader.close()

    async def test_a_database_that_does_not_hold_every_text_is_refused(self, server: str) -> None:
        name = f"cdc_sync_latin1_{uuid.uuid4().hex[:12]}"
        create = "CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        with dba(server) as connection:
            connection.execute(sql.SQL(create).format(sql.Identifier(name)))
            try:
                with pytest.raises(StoreError, match="encoding is LATIN1") as raised:
                    await PostgresStore.open(make_conninfo(server, dbname=name))
                assert raised.value.code == "store-unsuitable"
            finally:
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))

    async def test_mistakes_in_the_dsn_are_named_without_its_password(self, server: str) -> None:
        for mistake in ("postgresql://u:secret@127.0.0.1:1/x", make_conninfo(server, dbname="nowhere"), "nonsense"):
            with pytest.raises(StoreError) as refusal:
                await PostgresStore.open(mistake)
            assert "secret" not in str(refusal.value)
            assert "state.dsn" in str(refusal.value) or "tried again" in str(refusal.value)


class TestWhatCheckFinds:
    async def found(self, dsn: str) -> tuple[str | None, list[tuple[str, str]], str]:
        findings: list[Finding] = []
        bound = await check_shared(dsn, findings.append)
        return bound, [(each.check, each.state) for each in findings], " ".join(map(str, findings))

    async def test_a_store_at_work(self, dsn: str, store: PostgresStore) -> None:
        await store.bind("a database")
        await store.release_claims()

        bound, states, said = await self.found(dsn)

        assert (bound, states) == ("a database", [("store", "ok"), ("store-lock", "ok"), ("store-clock", "ok")])
        assert f"process {os.getpid()} on " in said

    async def test_none_yet(self, database: str) -> None:
        _, states, said = await self.found(database)

        assert states == [("store", "ok")]
        assert "the daemon makes it at its first start" in said

    async def test_one_of_a_newer_version(self, store_database: str, dsn: str, store: PostgresStore) -> None:
        await PostgresBackend(store_database).mark_as_newer()

        _, states, said = await self.found(dsn)

        assert states == [("store", "failed")]
        assert "written by a newer cdc-sync" in said

    async def test_a_database_that_is_not_there(self, server: str) -> None:
        _, states, _ = await self.found(make_conninfo(server, dbname="nowhere"))

        assert states == [("store", "failed")]


class TestTexts:
    async def test_what_postgresql_cannot_hold_is_kept_as_well_as_can_be(self, store: PostgresStore) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))

        await lose_answer_with(store, "a\0b")

        assert (await waiting_entry(store)).reason == "a\N{REPLACEMENT CHARACTER}b"
        assert (await store.story("a1", None, 10))[-1].detail["reason"] == "a\0b"


class TestACopy:
    async def test_it_is_whole_and_apart(self, dsn: str, store: PostgresStore) -> None:
        await store.bind("a database")
        await adopt(store, "a1", "a2")
        await observe(store, an_observation(status="hired"), rules=some_rules(max_changes=0))
        copy = SqliteStore(Path("copy"), connected=partial(connect_copy, None))

        await copy_to_sqlite(dsn, copy)
        await adopt(store, "a3")

        assert await waiting_entry(copy) == await waiting_entry(store)
        assert (await copy.fuses()).keys() == {WATCH}
        assert await copy.identity() == "a database"
        assert (await copy.known(WATCH, ["a1", "a2", "a3"])).keys() == {"a1", "a2"}
        assert list(await copy.endpoints()) == []
        await copy.close()

    async def test_of_nothing_is_nothing(self, database: str) -> None:
        copy = SqliteStore(Path("copy"), connected=partial(connect_copy, None))

        await copy_to_sqlite(database, copy)

        assert await copy.counts() == {}
        await copy.close()


async def lose_answer_with(store: PostgresStore, reason: str) -> None:
    (entry,) = await store.claim(NOW, 60_000, {LANE: 1})
    await store.complete([Finished(entry, Retry(NOW), {"reason": reason}, NOW)], {})
