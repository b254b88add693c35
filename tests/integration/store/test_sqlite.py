"""What is special about the embedded store: its file and its lock, its durability, and what is said of a bad file."""

import asyncio
import os
import re
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.builders import NOW, WATCH, an_observation
from support.store_process import store_process
from support.store_steps import adopt, observe, told_status, waiting_entry

from cdc_sync.core.failures import StoreError
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.driver import Access, Transaction
from cdc_sync.store.lead import Leader, Standby
from cdc_sync.store.sqlite.driver import SqliteDriver, SqliteTransaction, leading
from cdc_sync.store.sqlite.schema import connect_copy, holder_of, locked

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = Store(SqliteDriver(path))
    yield store
    await store.driver.close()


@pytest.fixture
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def inside(store: Store, statement: str) -> Any:
    """Ask the store's own connection: some settings belong to a connection, and nobody else can see them."""

    async def work(transaction: Transaction) -> Any:
        assert isinstance(transaction, SqliteTransaction)
        return transaction.connection.execute(statement).fetchone()

    row = await store.driver.transact(work)
    return row and row[0]


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


class TestTheFile:
    async def test_all_its_files_are_their_owners_alone(self, generous_umask: None, store: Store, path: Path) -> None:
        await adopt(store, "a1")

        files = {file.name: mode(file) for file in path.parent.iterdir()}

        assert files == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}

    async def test_commits_survive_a_power_cut(self, store: Store) -> None:
        assert await inside(store, "PRAGMA journal_mode") == "wal"
        assert await inside(store, "PRAGMA synchronous") == 2, "FULL: the log is synchronised at each commit"


class TestBesideAnother:
    async def test_a_reader_does_not_wait_for_a_writer(self, store: Store, path: Path) -> None:
        await adopt(store, "a1")
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            reader = Store(SqliteDriver(path, "read"))

            assert await told_status(reader, "a1") == "applied"

            await reader.driver.close()
            writer.execute("ROLLBACK")

    async def test_a_reader_cannot_write(self, store: Store, path: Path) -> None:
        reader = Store(SqliteDriver(path, "read"))

        with pytest.raises(StoreError, match=r"state\.db cannot be used: attempt to write a readonly database\. Let "):
            await reader.operation.set_conditions({"database": "It is down"}, NOW)

        assert await store.operation.conditions() == []
        await reader.driver.close()

    async def test_a_copy_for_a_dry_run_is_whole_apart_and_nowhere(
        self, store: Store, path: Path, tmp_path: Path
    ) -> None:
        await observe(store, an_observation())
        before = sorted(tmp_path.iterdir())

        copy = Store(SqliteDriver(Path("copy"), connection=connect_copy(path)))

        assert await waiting_entry(copy) == await waiting_entry(store)
        await adopt(copy, "a2")
        assert await store.capture.known(WATCH, ["a2"]) == {}
        assert sorted(tmp_path.iterdir()) == before
        await copy.driver.close()


class TestDurability:
    async def test_an_applied_batch_survives_kill_9(self, path: Path) -> None:
        with store_process("record", path) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(300)]
            process.kill()
            said += process.stdout.readlines()
        promised = [line.strip() for line in said if line.endswith("\n")]
        assert len(promised) >= 300

        store = Store(SqliteDriver(path))
        known = await store.capture.known(WATCH, promised)
        await store.driver.close()

        assert known.keys() == set(promised)

    async def test_a_disk_that_takes_no_more_fails_the_step_and_nothing_else(self, path: Path) -> None:
        with store_process("starve", path, 400_000) as process:
            assert process.stdout is not None
            *promised, error, after = process.stdout.read().splitlines()
        assert promised
        assert error.startswith(f"The store {path} cannot be used: disk I/O error. Its disk fails")
        assert after == "after", "it goes on once there is space"

        store = Store(SqliteDriver(path))
        known = await store.capture.known(WATCH, [*promised, after, str(len(promised))])
        await store.driver.close()

        assert known.keys() == {*promised, after}


def a_text(path: Path) -> None:
    path.write_text("state.path was meant to be another file\n" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE outbox (something TEXT)")


class TestNoGood:
    @pytest.mark.parametrize(
        ("make", "remedy"),
        [
            (a_text, "file is not a database. state.path names a file that is something else: choose another path."),
            (a_folder, "Does the folder of state.path exist, and may this user"),
            (a_foreign_database, "is an SQLite file of something else: it has tables, and none is cdc-sync's. Choose"),
        ],
    )
    @pytest.mark.parametrize("access", ["own", "read"])
    async def test_a_path_that_is_no_store_is_refused(
        self, path: Path, make: Callable[[Path], None], remedy: str, access: Access
    ) -> None:
        make(path)

        with pytest.raises(StoreError) as refusal:
            Store(SqliteDriver(path, access))

        assert str(path) in str(refusal.value)
        assert remedy in str(refusal.value)

    async def test_damage_further_on_is_named_when_it_is_met(self, path: Path) -> None:
        names = [f"a{number}" for number in range(500)]
        store = Store(SqliteDriver(path))
        await adopt(store, *names)
        await store.driver.close()
        half = path.stat().st_size // PAGE // 2 * PAGE  # the schema, which is read at once, stands before it
        with path.open("r+b") as file:
            file.seek(half)
            file.write(os.urandom(path.stat().st_size - half))

        store = Store(SqliteDriver(path))
        with pytest.raises(StoreError, match=r"malformed.*restore a backup, or move it away"):
            await store.capture.known(WATCH, names)
        await store.driver.close()

    async def test_what_only_reads_makes_no_file(self, path: Path) -> None:
        with pytest.raises(StoreError, match=r"unable to open.*Does the folder of state\.path exist"):
            Store(SqliteDriver(path, "read"))

        assert not path.exists()

    async def test_what_only_reads_does_not_set_it_up(self, path: Path) -> None:
        path.touch()

        with pytest.raises(StoreError, match="not been set up by this version yet: start the daemon once"):
            Store(SqliteDriver(path, "read"))

        assert path.read_bytes() == b""


class TestConnectionLost:
    async def test_what_cannot_even_be_undone_fails_and_nobody_waits_for_ever(self, store: Store) -> None:
        async def close(transaction: Transaction) -> None:
            assert isinstance(transaction, SqliteTransaction)
            transaction.connection.close()

        async with asyncio.timeout(60):
            with pytest.raises(StoreError, match=r"closed database|gone from under"):
                await store.driver.transact(close)
            with pytest.raises(StoreError, match=r"closed database|gone from under"):
                await store.report.counts()


class TestWhatIsLookedAtAllDay:
    """The metrics, the page and `status` are asked for every few seconds, whatever there is by then."""

    async def test_costs_no_walk_through_all_that_is_known_or_has_happened(self, store: Store, path: Path) -> None:
        statements: list[str] = []
        await adopt(store, "a1")

        async def listen(transaction: Transaction) -> None:
            assert isinstance(transaction, SqliteTransaction)
            transaction.connection.set_trace_callback(statements.append)

        await store.driver.transact(listen)
        await store.report.counts()
        await store.delivery.endpoints()
        await store.operation.fuses()
        await store.report.recent_ends(20, failed=False)
        await store.report.call_counts(0)
        await store.report.entries("held", WATCH, 10)
        await store.report.entries("dead", None, 10)
        await store.operation.conditions()
        await store.operation.repairs()
        await store.capture.positions(WATCH)
        await store.report.skipped([WATCH], 20)
        await store.report.records("a1", None)
        await store.report.story("a1", 500)

        looks = [statement for statement in statements if statement.lstrip().startswith(("SELECT", "WITH"))]
        assert len(looks) > 12
        with closing(sqlite3.connect(path)) as connection:
            plans = {look: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {look}")] for look in looks}
        # A sort of all that is held, to show ten of them, is a walk too.
        walk = re.compile("SCAN (snapshot|history)(?! USING INDEX history_failures)|USE TEMP B-TREE FOR ORDER BY")
        small = re.compile("FROM (condition|repair|tally|call_count)")
        walks = {look: plan for look, plan in plans.items() if not small.search(look) and any(map(walk.match, plan))}
        assert walks == {}


async def test_a_daemon_that_is_called_away_leaves_no_store_open(path: Path) -> None:
    """A reload interrupts a standby, and so the opening of the store that it reads."""
    await SqliteDriver(path).close()
    ours = Leader.here("")

    async def stood_by(_: Standby) -> None:
        """It goes on standing by."""

    async def stand_by() -> None:
        async with leading(path, ours, stood_by):
            raise AssertionError("another one leads")

    with locked(path):
        for turns in range(20):
            task = asyncio.create_task(stand_by())
            for _ in range(turns):
                await asyncio.sleep(0)
            await end([task])
        await asyncio.get_running_loop().shutdown_default_executor()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store")]


def test_a_second_daemon_is_refused_and_the_first_is_named(path: Path) -> None:
    with store_process("lock", path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"

        with pytest.raises(StoreError, match=rf"process {first.pid}\) .*{path}\. Stop it first"):
            locked(path).__enter__()

        assert holder_of(path) == first.pid


def test_somebody_who_only_looks_never_keeps_a_daemon_from_starting(path: Path) -> None:
    with locked(path):
        pass
    with store_process("glance", path) as onlooker:
        assert onlooker.stdout is not None
        assert onlooker.stdout.readline() == "glancing\n"

        for _ in range(3000):
            with locked(path):
                pass


@pytest.mark.usefixtures("generous_umask")
def test_the_lock_file_is_its_owners_alone(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, 65534, 65534)
    with locked(path):
        (file,) = path.parent.iterdir()

    assert (mode(file), file.stat().st_uid) == (0o600, path.parent.stat().st_uid)
    # Who may write to the folder leads nobody else to another file.
    file.symlink_to(file.rename(path.with_name("other")))
    with pytest.raises(StoreError, match="lock file"):
        locked(path).__enter__()
