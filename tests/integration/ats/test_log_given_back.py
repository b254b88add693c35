"""The space of a log that was full is given back by the daemon, seldom, and a standby's sessions are left alone."""

import pytest
from support.applications import insert, update
from support.rig import OpenRig
from support.sessions import Ats, OpenSession, one, rows
from support.versions import needs

from cdc_sync.ats.database import Steps

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
