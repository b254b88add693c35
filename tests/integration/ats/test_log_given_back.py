"""The space of a log that was full is given back by the daemon, seldom, and a standby's sessions are left alone."""

from collections.abc import Iterator

import pytest
from support.applications import insert, update
from support.eventually import eventually
from support.rig import OpenRig
from support.sessions import Ats, OpenSession, one, rows, sessions
from support.standby import Standby, standby_of
from support.versions import needs
from support.watched import a_config, install_triggers

from cdc_sync.ats.database import Steps
from cdc_sync.demo.postgres import Server

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


async def test_one_that_vacuum_may_not_clean_is_given_back_when_it_is_half_full(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture=BOUND) as rig:
        ats.execute("ALTER TABLE cdc_sync.changes SET (autovacuum_enabled = false)")
        left = take(ats, A_QUARTER, vacuumed=False)
        await rig.drain.catch_up()
        assert one(ats, SIZE) == left
        assert take(ats, MOST, vacuumed=False) >= BACKLOG // 2

        await rig.drain.catch_up()

        assert one(ats, SIZE) == 0


async def test_no_writer_waits_for_it_and_it_waits_for_none(
    ats: Ats, other: Ats, open_session: OpenSession, open_rig: OpenRig
) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig(capture=BOUND) as rig:
        await rig.adopt()
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


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[Standby]:
    with standby_of(restartable_server) as standby:
        yield standby


async def test_vacuum_of_the_log_does_not_cancel_a_dump_on_a_standby(
    restartable_server: Server, standby: Standby
) -> None:
    with sessions(restartable_server.dsn) as on_primary, sessions(standby.dsn) as on_standby:
        ats, dump, reader = on_primary(), on_standby(), on_standby()
        needs(ats, 12, "the storage parameter vacuum_truncate")
        reader.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        reader.execute("SELECT pg_reload_conf()")
        install_triggers(ats, a_config())

        async def replayed() -> None:
            position = one(ats, "SELECT pg_current_wal_insert_lsn()::text")
            await eventually(
                lambda: one(reader, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]), "it is replayed"
            )

        await replayed()
        dump.execute("BEGIN; LOCK TABLE cdc_sync.changes IN ACCESS SHARE MODE")
        assert take(ats, 100_000, vacuumed=True) > 0
        await replayed()

        assert one(dump, "SELECT count(*) FROM cdc_sync.changes") == 0, "it goes on"
        conflicts = "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = current_database()"
        assert one(reader, conflicts) == 0
