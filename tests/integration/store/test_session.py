"""The one session of a store in PostgreSQL: the order of jobs and effects, groups, and how it is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support.proxy import proxy_to
from support.sessions import Ats, rows

from cdc_sync.core.failures import StoreError
from cdc_sync.store import driver
from cdc_sync.store.driver import Transaction, Work
from cdc_sync.store.postgres.driver import PostgresDriver
from cdc_sync.store.postgres.leading import _try_to_lead

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[PostgresDriver]:
    opened = await PostgresDriver.open(dsn)
    yield opened
    await opened.close()


class Jobs:
    """Jobs of a store, and what happened in order: their effects, and their answers."""

    def __init__(self, store: PostgresDriver) -> None:
        self.store = store
        self.happened: list[tuple[str, object]] = []
        self.tasks: dict[str, asyncio.Task[object]] = {}
        self._may_go_on = asyncio.Event()
        self._holds = asyncio.Event()

    def begin(self, name: str, work: Work[Any]) -> None:
        """Ask for a job; its effect is noted with its result."""

        def effect(result: object) -> None:
            self.happened.append((name, result))

        self.tasks[name] = asyncio.create_task(self.store.transact(work, effect))

    async def hold(self) -> None:
        """Let a job keep the session until `go_on`: jobs that are asked for meanwhile wait together."""

        async def wait(transaction: Transaction) -> str:
            await transaction.run("about", name="schema")
            self._holds.set()
            await self._may_go_on.wait()
            return "held"

        self.begin("held", wait)
        await self._holds.wait()

    async def go_on(self) -> None:
        await asyncio.sleep(0)  # those that were begun just now are asked for
        self._may_go_on.set()

    async def outcomes(self) -> dict[str, object]:
        """The jobs' results or errors by name."""
        await asyncio.wait(self.tasks.values(), timeout=60)
        outcomes = await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        return dict(zip(self.tasks, outcomes, strict=True))


def noting(name: str) -> Work[str]:
    """A job that writes one of the store's notes, and gives its name."""

    async def work(transaction: Transaction) -> str:
        await transaction.run("set_about", name=f"test {name}", value=name)
        return name

    return work


async def fail(transaction: Transaction) -> str:
    await transaction.run("set_about", name="test failed", value=None)  # which the server refuses
    return "never"


async def break_off(transaction: Transaction) -> str:
    await transaction.run("set_about", name="test broken off", value="x")
    raise ZeroDivisionError


def notes(dba: Ats) -> dict[str, int]:
    """The notes of jobs, each with the transaction that wrote it."""
    found = rows(dba, "SELECT value, xmin::text::bigint FROM cdc_sync.about WHERE name LIKE 'test %'")
    return {str(value): int(xmin) for value, xmin in found}


async def test_a_failed_job_has_its_effect_in_its_turn(store: PostgresDriver) -> None:
    jobs = Jobs(store)
    await jobs.hold()
    for name, work in (("a", noting("a")), ("failed", fail), ("b", noting("b"))):
        jobs.begin(name, work)
    await jobs.go_on()

    await jobs.outcomes()

    assert jobs.happened == [("held", "held"), ("a", "a"), ("failed", None), ("b", "b")]


class TestGroups:
    @pytest.mark.parametrize(("work", "error"), [(fail, StoreError), (break_off, ZeroDivisionError)])
    async def test_one_that_fails_fails_no_other(
        self, store: PostgresDriver, dba: Ats, work: Work[Any], error: type[Exception]
    ) -> None:
        jobs = Jobs(store)
        await jobs.hold()
        for name, each in (("a", noting("a")), ("wrong", work), ("b", noting("b"))):
            jobs.begin(name, each)
        await jobs.go_on()

        outcomes = await jobs.outcomes()

        assert isinstance(outcomes.pop("wrong"), error)
        assert outcomes == {"held": "held", "a": "a", "b": "b"}
        assert notes(dba).keys() == {"a", "b"}
        assert not store.lost

    @pytest.mark.parametrize("group", ["slow", "failed"])
    async def test_a_job_that_goes_first_waits_for_one_job_of_a_group(
        self, store: PostgresDriver, monkeypatch: pytest.MonkeyPatch, group: str
    ) -> None:
        """A renewal does not wait for all of a long group, nor for all of one that runs again."""
        monkeypatch.setattr(driver, "_GROUP_LASTS", 0.0 if group == "slow" else 60.0)
        jobs, order = Jobs(store), list[str]()
        firsts: list[asyncio.Task[None]] = []

        async def first(_: Transaction) -> None:
            order.append("first")

        def slow(name: str) -> Work[None]:
            async def work(_: Transaction) -> None:
                order.append(name)
                await asyncio.sleep(0.01)
                if name == "a" and not firsts:
                    firsts.append(asyncio.create_task(store.transact_first(first)))
                    await asyncio.sleep(0)

            return work

        await jobs.hold()
        for name, work in (("a", slow("a")), ("b", slow("b")), ("c", fail if group == "failed" else slow("c"))):
            jobs.begin(name, work)
        await jobs.go_on()

        await jobs.outcomes()
        await asyncio.gather(*firsts)

        assert order == (["a", "first", "b", "c"] if group == "slow" else ["a", "b", "first", "a", "b"])


async def test_the_lead_is_taken_once_beside_a_job_that_fails(store: PostgresDriver, dba: Ats) -> None:
    jobs = Jobs(store)
    await jobs.hold()
    taking = asyncio.create_task(_try_to_lead(store))
    await asyncio.sleep(0)
    jobs.begin("broken off", break_off)
    await jobs.go_on()
    await jobs.outcomes()

    assert await taking
    await store.run("give_up_lead")

    # A lock that was taken twice must be given up twice: no rollback does that.
    held = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory'"
    assert rows(dba, f"{held} AND datname = current_database()") == [(0,)]


class TestLoss:
    async def lost_with(self, jobs: Jobs) -> None:
        """All jobs fail, in order, and so do those that are asked for later."""
        outcomes = await jobs.outcomes()
        assert all(isinstance(outcome, StoreError) for outcome in outcomes.values()), outcomes
        assert jobs.happened == [(name, None) for name in outcomes]
        assert jobs.store.lost

        effects = list[object]()
        with pytest.raises(StoreError):
            await jobs.store.transact(noting("later"), effects.append)
        assert effects == [None]

    async def test_a_session_that_was_cut_fails_all_its_jobs_in_order(self, store: PostgresDriver, dba: Ats) -> None:
        jobs = Jobs(store)
        await jobs.hold()
        for name in ("a", "b"):
            jobs.begin(name, noting(name))
        await asyncio.sleep(0)

        store.cut()
        await jobs.go_on()

        await self.lost_with(jobs)
        assert notes(dba) == {}

    async def test_a_session_that_falls_silent_is_lost_in_time(self, dsn: str) -> None:
        async with proxy_to(dsn) as proxy:
            store = await PostgresDriver.open(proxy.dsn, answers_within=1.0)
            jobs = Jobs(store)
            proxy.deafen()
            jobs.begin("a", noting("a"))
            jobs.begin("b", noting("b"))

            async with asyncio.timeout(30):
                await self.lost_with(jobs)

            await store.close()

    async def test_a_statement_that_takes_too_long_fails_alone(self, dsn: str, dba: Ats) -> None:
        store = await PostgresDriver.open(dsn, answers_within=1.5)
        try:
            dba.execute("BEGIN")
            dba.execute("LOCK TABLE cdc_sync.about IN ACCESS EXCLUSIVE MODE")

            with pytest.raises(StoreError, match="statement timeout"):
                await store.transact(noting("a"))

            dba.execute("ROLLBACK")
            assert await store.transact(noting("b")) == "b"
        finally:
            await store.close()
