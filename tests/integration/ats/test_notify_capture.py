"""Capture by notify: what is in the log is read and recorded, once, whatever dies in between."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.applications import fill, insert, update
from support.binaries import server_binaries
from support.builders import WATCH
from support.eventually import eventually
from support.log_batches import batch
from support.postgres import SETTINGS, create_ats
from support.rig import Clock, OpenRig, Rig, nothing, parts_of
from support.sessions import Ats, OpenSession, one, rows, run, sessions
from support.store_steps import events_of
from support.versions import needs
from support.waiting import wait_until
from support.watched import a_config, install_triggers

from cdc_sync.ats.connection import Pool, pooled
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Steps
from cdc_sync.ats.lookout import Bell, Ears
from cdc_sync.ats.notify import ChangeLog, Changes, NotifyCapture, all_ended
from cdc_sync.core.events import BellLeftAlone, CaptureStarted, ChangesMissed, Event
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.demo.postgres import Server
from cdc_sync.demo.postgres import server as embedded_server
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver

LOG = "SELECT count(*) FROM cdc_sync.changes"


class CrashError(Exception):
    """The daemon dies here."""


async def die(rig: Rig, *steps: Callable[[], Awaitable[object]]) -> None:
    """Take a batch, record it, do what else is given, and die before the commit."""
    log = rig.drain.log
    await rig.intake.keys((await log.read(100)).times, "notify")
    for step in steps:
        await step()
    raise CrashError


@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "sent"])
async def test_between_record_and_commit_the_change_comes_again_and_is_said_once(
    ats: Ats, open_rig: OpenRig, *, sent: bool
) -> None:
    async with open_rig() as rig:
        insert(ats, 1, "a1")
        with pytest.raises(CrashError):
            await die(rig, *([rig.deliver] if sent else []))
        assert one(ats, LOG) == 1

    async with open_rig() as rig:
        await rig.drain.catch_up()

        assert one(ats, LOG) == 0
        assert await rig.deliver() == ([] if sent else [("a1", "applied", "J1")])
        assert await events_of(rig.store) == ["queued", "acknowledged"]


async def test_a_related_table_with_a_key_asks_for_none(ats: Ats, open_rig: OpenRig) -> None:
    ats.execute("CREATE TABLE public.rejections (application bigint, reason text)")
    fill(ats, 2)
    rejected = "EXISTS (SELECT FROM public.rejections r WHERE r.application = t.id)"
    status = {"sql": f"CASE WHEN {rejected} THEN 'rejected' ELSE t.status END", "depends_on": ["id", "status"]}
    related = [{"table": "public.rejections", "key": ["application"]}]
    async with open_rig(columns={"status": status}, related=related) as rig:
        ats.execute("INSERT INTO public.rejections VALUES (2, 'no'), (NULL, 'nobody'), (99, 'unknown')")

        await rig.drain.catch_up()

        assert rig.sweeps_wanted == 0
        assert await rig.deliver() == [("a2", "rejected", "J1")]


async def test_a_log_that_keeps_what_is_deleted_is_an_error_the_second_time(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        insert(ats, 1, "a1")
        keep = "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        run(ats, keep)
        run(ats, "CREATE TRIGGER keep BEFORE DELETE ON cdc_sync.changes FOR EACH ROW EXECUTE PROCEDURE public.keep()")
        await rig.drain.step()
        assert len(await rig.entries()) == 1
        with pytest.raises(SourceError, match="DELETE leaves every row") as raised:
            await rig.drain.step()
        assert raised.value.code == "log-kept"
        ats.execute("DROP TRIGGER keep ON cdc_sync.changes")

        await rig.drain.step()

        assert one(ats, LOG) == 0


# A batch whose daemon is suspended, or lost, holds nothing at the server; it deletes nothing but its own changes.


_OPEN = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'cdc-sync'
   AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)
"""
_PLACES = "SELECT array_agg(ctid::text ORDER BY ctid)::text FROM cdc_sync.changes"


@pytest.fixture
async def log(database: str, ats: Ats) -> AsyncIterator[ChangeLog]:
    """A change log with one change in it."""
    install_triggers(ats, a_config())
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    pool: Pool
    async with pooled(database) as pool:
        yield ChangeLog(pool, WATCH)


async def test_a_batch_under_way_holds_no_transaction(log: ChangeLog, ats: Ats) -> None:
    async with batch(log, 10) as changes:
        assert len(changes.times) == 1
        assert one(ats, _OPEN) == 0
        run(ats, "SET lock_timeout = '1s'; LOCK TABLE cdc_sync.changes")

    assert one(ats, LOG) == 0


async def test_a_change_that_took_the_place_of_one_that_was_read_stays(log: ChangeLog, ats: Ats) -> None:
    before = one(ats, _PLACES)
    async with batch(log, 10):
        # As a second daemon does that captures the watch by now.
        run(ats, "DELETE FROM cdc_sync.changes")
        run(ats, "VACUUM cdc_sync.changes")
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a2')")
        assert one(ats, _PLACES) == before

    async with batch(log, 10) as changes:
        assert len(changes.times) == 1


async def test_a_change_of_the_same_transaction_that_was_moved_to_a_place_that_was_read_stays(
    log: ChangeLog, ats: Ats
) -> None:
    run(ats, "TRUNCATE cdc_sync.changes")
    run(
        ats,
        "INSERT INTO cdc_sync.changes SELECT 'applications', 'I', ARRAY[i::text], now() FROM generate_series(1, 4) i",
    )
    run(ats, "DELETE FROM cdc_sync.changes WHERE row_key = '{1}'")
    async with batch(log, 1) as changes:
        assert list(changes.times) == [("2",)]
        run(ats, "VACUUM FULL cdc_sync.changes")

    async with batch(log, 10) as changes:
        assert changes.times.keys() >= {("3",), ("4",)}


async def test_who_rewrites_the_log_is_waited_for(log: ChangeLog, other: Ats) -> None:
    with other.transaction():
        other.execute("LOCK TABLE cdc_sync.changes")  # as VACUUM FULL does
        asked = asyncio.create_task(log.read(10))
        await log.give_back(nearly_full=True)

    assert (await asked).number == 1


# The space of a log that was full is given back by the daemon, seldom, and a standby's sessions are left alone.


BACKLOG = 1024 * 1024
BOUND = {"max_backlog": BACKLOG}
SIZE = "SELECT pg_relation_size('cdc_sync.changes')"
A_QUARTER, MOST = 3_000, 9_000
"""Changes that take a quarter of BACKLOG, and more than half of it."""


@pytest.fixture
def steps() -> Steps:
    return Steps(give_back_every=0)


def take(ats: Ats, number: int, *, vacuumed: bool) -> int:
    """Let changes come and go; returns the size of the file that they leave."""
    ats.execute("INSERT INTO cdc_sync.changes SELECT 'gone', 'U', '{1}', now() FROM generate_series(1, %s)", [number])
    ats.execute("DELETE FROM cdc_sync.changes")
    if vacuumed:
        ats.execute("VACUUM cdc_sync.changes")
    return int(one(ats, SIZE))


async def test_a_file_that_vacuum_has_cleaned_is_given_back(ats: Ats, open_rig: OpenRig) -> None:
    needs(ats, 12, "the storage parameter vacuum_truncate")
    insert(ats, 1, "a1")
    async with open_rig(capture=BOUND) as rig:
        assert BACKLOG // 16 <= take(ats, A_QUARTER, vacuumed=True) < BACKLOG // 2
        update(ats, 1, status="hired")

        await rig.drain.catch_up()

        assert one(ats, SIZE) == 0


async def test_no_writer_waits_for_it_and_it_waits_for_none(
    ats: Ats, other: Ats, open_session: OpenSession, open_rig: OpenRig
) -> None:
    fill(ats, 2)
    async with open_rig(capture=BOUND) as rig:
        left = take(ats, MOST, vacuumed=False)
        other.execute("BEGIN")
        update(other, 1, status="hired")

        await rig.drain.catch_up()
        update(open_session(), 2, status="hired")
        other.execute("COMMIT")

        assert one(ats, SIZE) >= left
        assert sorted(key for (key,) in rows(ats, "SELECT row_key[1] FROM cdc_sync.changes")) == ["1", "2"]
        await rig.drain.catch_up()
        assert one(ats, SIZE) == 0


async def test_not_where_subscribers_would_empty_theirs(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=BOUND) as rig:
        left = take(ats, MOST, vacuumed=False)
        ats.execute("CREATE PUBLICATION everything FOR ALL TABLES")

        await rig.drain.catch_up()
        ats.execute("DROP PUBLICATION everything")

        assert one(ats, SIZE) == left


# The loops of notify mode together: the log is read when the bell rings, or when a look shows changes.


NEVER = {"drain_interval": "1h"}
"""No test lives to see it."""


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run loops beside the test; one that fails fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield tasks
        assert not [task.exception() for task in tasks if task.done()]
    finally:
        await end(tasks)


@asynccontextmanager
async def notify_mode(rig: Rig) -> AsyncIterator[NotifyCapture]:
    """All the loops of notify mode, with nothing that would find a change without the bell."""
    async with running(*(job() for job in (await rig.drain.jobs()).values())):
        yield rig.drain


async def is_queued(rig: Rig, application_id: str) -> bool:
    return any(entry.application_id == application_id for entry in await rig.entries())


def is_armed(ats: Ats) -> bool:
    return bool(one(ats, "SELECT last_value > extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"))


# Awake while changes come fast.


async def test_while_changes_come_fast_commits_take_no_lock_for_us(
    ats: Ats, open_rig: OpenRig, open_session: OpenSession
) -> None:
    listener = open_session()
    listener.execute("LISTEN cdc_sync")
    insert(ats, 1, "a1")
    async with open_rig(capture=NEVER) as rig, notify_mode(rig) as doorbell:
        await eventually(lambda: doorbell.lookout.bell.is_armed, "it sleeps")
        deadline = time.monotonic() + 30
        while is_armed(ats):
            assert time.monotonic() < deadline, "it never woke for good"
            for _ in range(20):
                update(ats, 1, status=f"{time.monotonic()}")
                await asyncio.sleep(0)
        listener.execute("SELECT")
        list(listener.notifies(timeout=0))

        update(ats, 1, status="silent")

        listener.execute("SELECT")
        assert list(listener.notifies(timeout=0)) == []
        await eventually(lambda: is_status(rig, "silent"), "the entry")
        await eventually(lambda: doorbell.lookout.bell.is_armed, "it sleeps again when nothing comes")
        assert is_armed(ats)
        update(ats, 1, status="rung for")
        await eventually(lambda: is_status(rig, "rung for"), "the entry")


async def is_status(rig: Rig, status: str) -> bool:
    return any(entry.content.status == status for entry in await rig.entries())


async def test_triggers_of_an_earlier_version_are_heard_by_looks(ats: Ats, open_rig: OpenRig) -> None:
    """They know nothing of the common bell."""
    insert(ats, 1, "a1")
    async with open_rig(capture={"drain_interval": "100ms"}) as rig:
        run(ats, "ALTER SEQUENCE cdc_sync.bell RENAME TO bell_applications")
        async with notify_mode(rig):
            run(ats, "INSERT INTO cdc_sync.changes VALUES ('applications', 'U', '{1}', now())")

            await eventually(lambda: one(ats, LOG) == 0, "it is taken")


async def test_triggers_that_were_off_for_a_while_are_followed_by_a_sweep(ats: Ats, open_rig: OpenRig) -> None:
    """Within one transaction nobody ever sees them off."""
    insert(ats, 1, "a1")
    async with open_rig(capture={"drain_interval": "100ms"}) as rig, notify_mode(rig) as doorbell:
        with ats.transaction():
            ats.execute("ALTER TABLE public.applications DISABLE TRIGGER USER")
            update(ats, 1, status="silent")
            ats.execute("ALTER TABLE public.applications ENABLE TRIGGER USER")

        await doorbell.lookout.go_round()

        await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")


async def test_the_end_disarms(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=NEVER) as rig, notify_mode(rig):
        await eventually(lambda: is_armed(ats), "the bell is armed")

    assert not is_armed(ats)


async def test_drains_without_being_rung_for_now_and_then(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture={"wakeup": "none", "poll_interval": "20ms"}) as rig, running(rig.drain.run()):
        insert(ats, 1, "a1")

        await eventually(lambda: is_queued(rig, "a1"), "the entry")


async def test_a_ring_during_a_drain_is_not_lost(ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_rig(capture=NEVER) as rig:
        read = ChangeLog.read

        async def read_and_ring(log: ChangeLog, limit: int) -> Changes:
            monkeypatch.undo()
            changes = await read(log, limit)
            insert(ats, 1, "a1")
            rig.drain.rung.set()
            return changes

        monkeypatch.setattr(type(rig.drain.lookout), "listen", lambda *_: None)  # a look would find the change too
        monkeypatch.setattr(ChangeLog, "read", read_and_ring)
        async with running(rig.drain.run()):
            await eventually(lambda: is_queued(rig, "a1"), "the entry")


# What the triggers could not record is repaired by a sweep that sees all of it, and said once.


SMALL_BACKLOG = 64 * 1024
SOON = {"drain_interval": "200ms"}
FULL = {"max_backlog": SMALL_BACKLOG, **SOON}


@asynccontextmanager
async def watching(rig: Rig) -> AsyncIterator[None]:
    drain = rig.drain
    drain.lookout.listen(drain.watched, Ears(0.1, arms=False, rung=nothing, looked=lambda _: None))
    task = asyncio.create_task(rig.drain.watch_missed())
    try:
        yield
        assert not task.done() or task.exception() is None
    finally:
        drain.watched.ears = None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def missed(rig: Rig) -> list[int]:
    return [observation.number for observation in rig.heard(ChangesMissed)]


async def test_not_before_the_transaction_has_ended(ats: Ats, other: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(capture=SOON) as rig:
        ats.execute("ALTER TABLE cdc_sync.changes RENAME TO away")
        other.execute("BEGIN")
        update(other, 1, status="hired")
        ats.execute("ALTER TABLE cdc_sync.away RENAME TO changes")
        async with watching(rig):
            await eventually(lambda: missed(rig), "it is noticed")
            await asyncio.sleep(0.7)  # time for more than one look
            assert rig.sweeps_wanted == 0, "a sweep would not see it yet"

            other.execute("COMMIT")

            await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")
        assert missed(rig) == [1]
        assert (await rig.sweep()).repaired == {"status": 1}


async def test_a_log_that_was_full_while_the_daemon_was_away_loses_nothing(ats: Ats, open_rig: OpenRig) -> None:
    """The whole story: full, drained, swept, recorded again."""
    number, recorded = 2_000, 1_500
    fill(ats, number)
    async with open_rig(capture=FULL):
        pass

    ats.execute("UPDATE public.applications SET status = 'hired' WHERE id <= %s", [recorded])
    assert one(ats, "SELECT pg_relation_size('cdc_sync.changes')") > SMALL_BACKLOG
    warned = list[str]()
    ats.add_notice_handler(lambda notice: warned.append(str(notice.message_primary)))
    ats.execute("UPDATE public.applications SET status = 'hired' WHERE id > %s", [recorded])
    assert warned == [], "one in each transaction would fill the server's log"

    async with open_rig(capture=FULL) as rig:
        await rig.drain.catch_up()
        counts = (await rig.store.report.counts())[WATCH]
        assert counts.pending + counts.held == recorded
        async with watching(rig):
            await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")
            done = await rig.sweep()
        assert recorded + done.repaired["status"] == number
        assert missed(rig) == [1]
        assert "the change log was full" in rig.heard(ChangesMissed)[0].reason

        update(ats, 1, status="interview")
        await rig.drain.catch_up()
        entry = (await rig.store.capture.known(WATCH, ["a1"]))["a1"].entry
        assert entry is not None
        assert entry.content.status == "interview"


# An ATS that commits in two phases (XA): PostgreSQL does not prepare a transaction that has notified.


@pytest.fixture(scope="module")
def two_phase_server() -> Iterator[str]:
    with embedded_server(server_binaries(), settings={**SETTINGS, "max_prepared_transactions": "5"}) as own:
        create_ats(own.dsn)
        yield own.dsn


@pytest.fixture
def open_own_session(two_phase_server: str) -> Iterator[OpenSession]:
    with sessions(two_phase_server) as open_session:
        yield open_session


def prepare_a_change(session: Ats, wakeup: str) -> None:
    install_triggers(session, a_config(capture={"wakeup": wakeup}))
    session.execute("BEGIN; INSERT INTO public.applications (hellowork_id) VALUES ('a1'), ('a2')")
    session.execute("PREPARE TRANSACTION 'first phase'")


async def test_works_without_wakeup_and_holds_the_fence(two_phase_server: str, open_own_session: OpenSession) -> None:
    ats = open_own_session()
    prepare_a_change(ats, "none")
    async with pooled(two_phase_server) as pool:
        waiting = asyncio.create_task(all_ended(pool))
        await asyncio.wait([waiting], timeout=1)
        assert not waiting.done()
        assert one(ats, LOG) == 0
        # The session goes on with transactions of its own, whose first rows are guarded again.
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a3')")
        assert one(ats, LOG) == 1

        ats.execute("COMMIT PREPARED 'first phase'")

        async with asyncio.timeout(60):
            await waiting
        assert one(ats, LOG) == 3


async def test_works_with_wakeup_though_a_bell_was_left_armed(
    two_phase_server: str, open_own_session: OpenSession
) -> None:
    """As by a daemon that was killed before the server was restarted with prepared transactions allowed."""
    ats = open_own_session()
    async with pooled(two_phase_server) as pool:
        bell = Bell(pool)
        install_triggers(ats, a_config())
        await bell.follow()

        prepare_a_change(ats, "notify")

        ats.execute("ROLLBACK PREPARED 'first phase'")
        await bell.disarm()


# A server whose commits wait for a synchronous standby: NOTIFY's lock is never asked for, and the log is read all the


_LEFT_ARMED = "SELECT setval('cdc_sync.bell', floor(extract(epoch FROM clock_timestamp()))::bigint + 3600) > 0"
_WAITS = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@contextmanager
def notifying(dsn: str, ats: Ats) -> Iterator[None]:
    """Somebody else's commit that has notified, and waits for a standby that is not there until the block ends."""
    # Only a commit that has written something waits.
    run(ats, "CREATE TABLE public.others ()")
    run(ats, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    run(ats, "SELECT pg_reload_conf()")
    wait_until(lambda: one(ats, "SHOW synchronous_standby_names") == "nobody", "the server waits for a standby")

    over = threading.Event()

    def notify() -> None:
        with psycopg.connect(dsn, autocommit=True) as other:
            # The first ones may be too early: commits begin to wait a moment after the setting is shown.
            while not over.wait(0.05):
                other.execute("INSERT INTO public.others DEFAULT VALUES; SELECT pg_notify('somebody', '')")

    thread = threading.Thread(target=notify)
    thread.start()
    try:
        wait_until(lambda: one(ats, _WAITS), "the other one waits for it")
        yield
    finally:
        over.set()
        run(ats, "ALTER SYSTEM RESET synchronous_standby_names")
        run(ats, "SELECT pg_reload_conf()")
        thread.join()


async def test_while_the_standby_stalls_the_ats_commits_and_a_check_says_so(
    restartable_server: Server, tmp_path: Path
) -> None:
    said: list[Event] = []
    dsn = restartable_server.dsn
    config = a_config(dsn, capture={"poll_interval": "20ms", "drain_interval": "50ms"})
    store = Store(SqliteDriver(tmp_path / "state.db"))
    parts = parts_of(config, store, said.append, Clock())

    async def told() -> dict[str, str]:
        return {
            entry.application_id: entry.content.status for entry in await store.report.entries("pending", WATCH, 10)
        }

    async def is_told(status: str) -> bool:
        return await told() == {"a1": status}

    def times(kind: type[Event]) -> int:
        return sum(isinstance(observation, kind) for observation in said)

    with sessions(dsn) as open_session:
        ats = open_session(options="-c synchronous_commit=local -c statement_timeout=10s")
        install_triggers(ats, config)
        insert(ats, 1, "a1")
        working = None
        try:
            with notifying(dsn, ats):
                assert one(ats, _LEFT_ARMED)
                update(ats, 1, status="not rung for")  # its COMMIT would wait behind the one that notified

                working = asyncio.create_task(WatchWorker(parts).run())
                await eventually(lambda: times(CaptureStarted), "capture has started")
                update(ats, 1, status="read")
                await eventually(lambda: is_told("read"), "the entry")
                assert times(BellLeftAlone) == 1

            await eventually(lambda: is_armed(ats), "the bell is armed where nothing stalls any more")
            update(ats, 1, status="rung for")
            await eventually(lambda: is_told("rung for"), "the entry")
        finally:
            if working is not None:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            await store.driver.close()
