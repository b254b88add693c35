"""Capture by notify: what is in the log is read and recorded, once, whatever dies in between."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.log_batches import batch
from support.rig import OpenRig, Rig
from support.sessions import Ats, OpenSession, end_sessions, one, rows, run
from support.store_steps import events_of

from cdc_sync.ats.database import Steps
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import ChangeLog
from cdc_sync.core.batch import Applied, Batch, Calls
from cdc_sync.core.events import CaughtUp
from cdc_sync.core.failures import StoreError
from cdc_sync.core.rows import WatchRules

LOG = "SELECT count(*) FROM cdc_sync.changes"


class CrashError(Exception):
    """The daemon dies here."""


async def test_a_change_becomes_an_entry_and_leaves_the_log(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig() as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        insert(ats, 3, "a3", "applied", job_id="J3")

        await rig.drain.catch_up()

        assert await rig.deliver() == [("a1", "hired", "J1"), ("a3", "applied", "J3")]
        assert one(ats, LOG) == 0
        (caught_up,) = rig.heard(CaughtUp)
        assert caught_up.watch == "applications"
        assert 0 < caught_up.seconds < 60


async def die(rig: Rig, *steps: Callable[[], Awaitable[object]]) -> None:
    """Take a batch, record it, do what else is given, and die before the commit."""
    log = rig.drain.log
    await rig.intake.keys((await log.read(100)).times, "notify")
    for step in steps:
        await step()
    raise CrashError


class TestCrash:
    @pytest.mark.parametrize("sent", [False, True], ids=["waiting", "sent"])
    async def test_between_record_and_commit_the_change_comes_again_and_is_said_once(
        self, ats: Ats, open_rig: OpenRig, *, sent: bool
    ) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            with pytest.raises(CrashError):
                await die(rig, *([rig.deliver] if sent else []))
            assert one(ats, LOG) == 1

        async with open_rig() as rig:
            await rig.drain.catch_up()

            assert one(ats, LOG) == 0
            assert await rig.deliver() == ([] if sent else [("a1", "applied", "J1")])
            assert await events_of(rig.store) == ["queued", "acknowledged"]

    async def test_a_connection_that_is_lost_before_the_changes_are_deleted_is_unreachable(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            apply = rig.store.capture.apply

            async def lose_it(rules: WatchRules, batch: Batch, calls: Calls) -> Applied:
                applied = await apply(rules, batch, calls)
                end_sessions(ats, "application_name = 'cdc-sync' AND datname = current_database()")
                return applied

            monkeypatch.setattr(rig.store.capture, "apply", lose_it)
            with pytest.raises(SourceError) as raised:
                await rig.drain.catch_up()

            assert raised.value.kind == "unreachable"
            assert one(ats, LOG) == 1

    async def test_a_store_that_fails_keeps_the_log(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            with monkeypatch.context() as patched:
                patched.setattr(rig.store.capture, "apply", failing_store)
                with pytest.raises(StoreError):
                    await rig.drain.catch_up()
            assert one(ats, LOG) == 1

            await rig.drain.catch_up()

            assert await rig.deliver() == [("a1", "applied", "J1")]


async def failing_store(*_: object) -> None:
    raise StoreError("store-unusable", "no space left")


class TestSeveralSessions:
    @pytest.mark.parametrize("seed", range(2))
    async def test_any_interleaving_ends_in_the_tables_state(
        self, ats: Ats, open_session: OpenSession, open_rig: OpenRig, seed: int
    ) -> None:
        """Each session works on rows of its own, so that nobody waits for a lock."""
        chance = random.Random(seed)  # noqa: S311 - a schedule
        for number in range(1, 13):
            insert(ats, number, f"a{number}", "0")
        async with open_rig() as rig:
            await rig.adopt()
            writers = [Writer(open_session(), range(first, first + 3), chance) for first in (1, 4, 7, 10)]
            for _ in range(120):
                chance.choice(writers).step()
                if chance.random() < 0.2:
                    await rig.drain.catch_up()
                    await rig.deliver()
            for writer in writers:
                writer.end()

            await rig.drain.catch_up()
            await rig.deliver()
            await rig.pass_grace()
            await rig.deliver()

            ids = [f"a{number}" for number in range(1, 13)]
            there = {id_: (status, job) for id_, status, job in rows(ats, STATES)}
            assert {id_: told for id_, told in (await rig.told(*ids)).items() if told[0] != "deleted"} == there
            assert (await rig.sweep()).repaired == {}


STATES = "SELECT hellowork_id, status, job_id FROM public.applications WHERE deleted_at IS NULL"


class Writer:
    """A session that begins, changes, commits and rolls back by chance."""

    def __init__(self, session: Ats, ids: range, chance: random.Random) -> None:
        self._session = session
        self._ids = ids
        self._chance = chance

    def step(self) -> None:
        number = self._chance.choice(self._ids)
        steps: list[Callable[[], object]] = [
            self._begin_or_end,
            lambda: update(self._session, number, status=str(self._chance.randrange(3))),
            lambda: update(self._session, number, job_id=f"J{self._chance.randrange(2)}"),
            lambda: delete(self._session, number),
            lambda: self._insert(number),
        ]
        self._chance.choice(steps)()

    def end(self) -> None:
        self._session.execute("COMMIT" if self._in_transaction else "SELECT")

    @property
    def _in_transaction(self) -> bool:
        return self._session.info.transaction_status is psycopg.pq.TransactionStatus.INTRANS

    def _begin_or_end(self) -> None:
        end = self._chance.choice(["COMMIT", "COMMIT", "ROLLBACK"])
        run(self._session, end if self._in_transaction else "BEGIN")

    def _insert(self, number: int) -> None:
        delete(self._session, number)
        insert(self._session, number, f"a{number}", "0")


class TestSweepWanted:
    async def test_by_truncate(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        insert(ats, 2, "a2")
        async with open_rig() as rig:
            await rig.adopt()
            ats.execute("TRUNCATE public.applications")
            insert(ats, 3, "a2", job_id="J2")

            await rig.drain.catch_up()
            assert rig.sweeps_wanted == 1
            assert (await rig.sweep()).repaired == {"asked_for": 1}
            assert await rig.deliver() == [("a2", "applied", "J2")]
            await rig.pass_grace()
            assert await rig.deliver() == [("a1", "deleted", "J1")]

    async def test_not_by_a_related_table_with_a_key(self, ats: Ats, open_rig: OpenRig) -> None:
        ats.execute("CREATE TABLE public.rejections (application bigint, reason text)")
        insert(ats, 1, "a1")
        insert(ats, 2, "a2")
        rejected = "EXISTS (SELECT FROM public.rejections r WHERE r.application = t.id)"
        status = {"sql": f"CASE WHEN {rejected} THEN 'rejected' ELSE t.status END", "depends_on": ["id", "status"]}
        related = [{"table": "public.rejections", "key": ["application"]}]
        async with open_rig(columns={"status": status}, related=related) as rig:
            await rig.adopt()
            ats.execute("INSERT INTO public.rejections VALUES (2, 'no'), (NULL, 'nobody'), (99, 'unknown')")

            await rig.drain.catch_up()

            assert rig.sweeps_wanted == 0
            assert await rig.deliver() == [("a2", "rejected", "J1")]


class TestLog:
    async def test_is_emptied_whatever_the_sessions_date_style_is(self, ats: Ats, open_rig: OpenRig) -> None:
        """A date as text with a zone's abbreviation may be no date for PostgreSQL, or one hours away."""
        for number in range(1, 6):
            insert(ats, number, f"a{number}")
        for setting in ("datestyle = 'German'", "timezone = 'Asia/Jakarta'"):
            run(ats, "ALTER DATABASE {name} SET {setting}", name=ats.info.dbname, setting=setting)
        async with open_rig(steps=Steps(drained=2)) as rig:
            await rig.adopt()
            update(ats, *range(1, 6), status="hired")

            await rig.drain.catch_up()

            assert one(ats, LOG) == 0
            assert len(await rig.entries()) == 5

    async def test_that_keeps_what_is_deleted_is_an_error_the_second_time(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            keep = "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            run(ats, keep)
            run(
                ats,
                "CREATE TRIGGER keep BEFORE DELETE ON cdc_sync.changes FOR EACH ROW EXECUTE PROCEDURE public.keep()",
            )
            await rig.drain.step()
            assert len(await rig.entries()) == 1
            with pytest.raises(SourceError, match="DELETE leaves every row") as raised:
                await rig.drain.step()
            assert raised.value.code == "log-kept"
            ats.execute("DROP TRIGGER keep ON cdc_sync.changes")

            await rig.drain.step()

            assert one(ats, LOG) == 0

    async def test_a_script_that_locks_table_and_log_is_no_victim_of_a_deadlock(
        self, ats: Ats, other: Ats, open_rig: OpenRig
    ) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            other.execute("BEGIN; LOCK TABLE public.applications")
            reading = asyncio.create_task(rig.drain.step())
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            await eventually(lambda: one(ats, waits), "the daemon waits for the table")
            # Longer than deadlock_timeout: PostgreSQL would look for a deadlock, and end whoever waits.
            await asyncio.sleep(1.2)
            await asyncio.to_thread(other.execute, "LOCK TABLE cdc_sync.changes IN ACCESS EXCLUSIVE MODE")
            other.execute("COMMIT")

            await reading

            assert len(await rig.entries()) == 1

    async def test_is_only_looked_at_in_a_dry_run(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            for number in range(1, 4):
                insert(ats, number, f"a{number}")
            log = ChangeLog(rig.intake.sessions.pool, WATCH, consume=False)

            async with batch(log, 2) as changes:
                assert len(changes.times) == 2

            assert one(ats, LOG) == 3
