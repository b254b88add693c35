"""A partitioned table is one table, whatever becomes of its parts."""

from collections.abc import Iterator

import pytest
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.postgres import Cluster
from support.replication import publisher_of
from support.rig import OpenRig, Rig
from support.sessions import Ats, one, run
from support.versions import major, needs

from cdc_sync.ats.lookout import Bell

POLL = {"mode": "poll", "watermark": "updated_at", "lookback": "0s"}


@pytest.fixture
def parts(ats: Ats) -> Ats:
    """The ATS's table in three partitions by job, of which two are in use: a1 and a2 for J1, a3 for J2."""
    run(
        ats,
        "ALTER TABLE public.applications RENAME TO plain;"
        "CREATE TABLE public.applications (LIKE plain) PARTITION BY LIST (job_id);"
        "CREATE TABLE public.j1 PARTITION OF public.applications FOR VALUES IN ('J1');"
        "CREATE TABLE public.j2 PARTITION OF public.applications FOR VALUES IN ('J2');"
        "CREATE TABLE public.j3 (LIKE plain)",
    )
    fill(ats, 2)
    insert(ats, 3, "a3", job_id="J2")
    return ats


@pytest.fixture
def parts_with_triggers(parts: Ats) -> Ats:
    needs(parts, 11, "row triggers on partitioned tables")
    return parts


async def swept_for(watch: Rig) -> list[tuple[str, str, str]]:
    """What HelloWork hears of something that no trigger told. Nothing was missed: it is found as it should be."""
    assert await watch.calls() == []
    await watch.look_closer()
    assert watch.sweeps_wanted == 1
    assert (await watch.sweep()).repaired.keys() == {"asked_for"}
    await watch.pass_grace()
    return await watch.deliver()


@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE public.j1", "DROP TABLE public.j1", "ALTER TABLE public.applications DETACH PARTITION public.j1"],
)
async def test_what_removes_a_partitions_rows_is_noticed(
    parts_with_triggers: Ats, open_rig: OpenRig, statement: str
) -> None:
    async with open_rig() as watch:
        await watch.look_closer()
        run(parts_with_triggers, statement)

        assert await swept_for(watch) == [("a1", "deleted", "J1"), ("a2", "deleted", "J1")]


async def test_a_partition_that_is_attached_with_rows_is_noticed(parts_with_triggers: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as watch:
        await watch.look_closer()
        run(
            parts_with_triggers,
            "INSERT INTO public.j3 (id, hellowork_id, status, job_id, created_at)"
            " VALUES (4, 'a4', 'new', 'J3', now());"
            "ALTER TABLE public.applications ATTACH PARTITION public.j3 FOR VALUES IN ('J3')",
        )
        assert await swept_for(watch) == [("a4", "new", "J3")]

        update(parts_with_triggers, 4, status="hired")
        assert await watch.calls() == [("a4", "hired", "J3")], "it has the triggers, too"
        assert watch.trigger_problems == ()


@pytest.mark.parametrize("statement", ["TRUNCATE public.y24", "DROP TABLE public.y24"])
async def test_what_it_takes_from_a_related_table_is_noticed(ats: Ats, open_rig: OpenRig, statement: str) -> None:
    needs(ats, 11, "row triggers on partitioned tables")
    run(
        ats,
        "CREATE TABLE public.rejections (application bigint, year int) PARTITION BY LIST (year);"
        "CREATE TABLE public.y24 PARTITION OF public.rejections FOR VALUES IN (2024);"
        "CREATE TABLE public.y25 PARTITION OF public.rejections FOR VALUES IN (2025);"
        "INSERT INTO public.rejections VALUES (1, 2024), (2, 2025)",
    )
    fill(ats, 2)
    rejected = "CASE WHEN EXISTS (SELECT FROM public.rejections r WHERE r.application = t.id) THEN 'rejected' END"
    related = [{"table": "public.rejections", "key": ["application"]}]
    status = {"sql": f"coalesce({rejected}, t.status)", "depends_on": ["id", "status"]}
    async with open_rig(columns={"status": status}, related=related) as watch:
        await watch.look_closer()
        run(ats, statement)

        assert await swept_for(watch) == [("a1", "applied", "J1")]


async def test_a_key_that_two_partitions_have_keeps_its_rows_apart(parts_with_triggers: Ats, open_rig: OpenRig) -> None:
    # No constraint keeps a key that lacks the partitioning column from that.
    insert(parts_with_triggers, 1, "a4", job_id="J2")
    async with open_rig() as watch:
        run(parts_with_triggers, "UPDATE public.j2 SET status = 'hired' WHERE id = 1")
        assert await watch.calls() == [("a4", "hired", "J2")]
        run(parts_with_triggers, "DELETE FROM public.j1 WHERE id = 1")
        await watch.drain.catch_up()
        assert await watch.later_calls() == [("a1", "deleted", "J1")]
        assert (await watch.sweep()).repaired == {}


async def test_without_triggers(parts: Ats, open_rig: OpenRig) -> None:
    async with open_rig(install=False, capture=POLL) as watch:
        poll = await watch.poll()
        await watch.look_closer()
        update(parts, 3, status="hired")
        await poll.catch_up()
        assert await watch.deliver() == [("a3", "hired", "J2")]
        run(parts, "TRUNCATE public.j1")
        await watch.look_closer()
        assert watch.sweeps_wanted == 1
        await watch.sweep(poll)
        assert await watch.later_calls() == [("a1", "deleted", "J1"), ("a2", "deleted", "J1")]


# A table from which others inherit: their rows are its rows, but its triggers are not theirs.


HEIR = [{"table": "public.archived", "key": ["id"]}]
INSERT = """
INSERT INTO public.archived (id, hellowork_id, status, job_id, created_at) VALUES (7, 'a7', 'new', 'J1', now())
"""


@pytest.fixture
def heir(ats: Ats) -> Ats:
    run(ats, "CREATE TABLE public.archived (PRIMARY KEY (id)) INHERITS (public.applications)")
    run(ats, INSERT)
    return ats


async def test_with_triggers_of_its_own_nothing_is_left_to_sweeps(heir: Ats, open_rig: OpenRig) -> None:
    insert(heir, 1, "a1")
    async with open_rig(related=HEIR) as watch:
        assert watch.trigger_problems == ()
        update(heir, 1, 7, status="hired")
        assert await watch.calls() == [("a1", "hired", "J1"), ("a7", "hired", "J1")]

        run(heir, "WITH old AS (DELETE FROM ONLY applications RETURNING *) INSERT INTO archived SELECT * FROM old")
        await watch.drain.catch_up()
        delete(heir, 7)
        await watch.drain.catch_up()
        assert await watch.later_calls() == [("a7", "deleted", "J1")], "a row that was moved to it is no deletion"
        assert (await watch.sweep()).repaired == {}

        run(heir, "TRUNCATE public.archived")
        await watch.drain.catch_up()
        assert watch.sweeps_wanted == 1


# A table that logical replication feeds, or that is written with `session_replication_role = replica`.


@pytest.fixture
def publisher(cluster: Cluster, ats: Ats) -> Iterator[Ats]:
    with publisher_of(cluster, ats) as publisher:
        yield publisher


async def test_every_change_is_captured(ats: Ats, publisher: Ats, open_rig: OpenRig) -> None:
    async with open_rig(capture={"replicated": True}) as watch:
        assert watch.trigger_problems == ()
        bell = Bell(watch.intake.sessions.pool)
        await bell.follow()
        await watch.intake.sessions.lasting.listen(WATCH, watch.drain.rung.set, lambda _: None)
        watch.drain.rung.clear()

        insert(publisher, 1, "a1")
        insert(publisher, 2, "a2")
        if major(publisher) >= 13:  # an earlier one does not deliver what a worker of replication notifies
            await eventually(watch.drain.rung.is_set, "what replication brings rings the bell")
        await eventually(lambda: one(ats, COUNT) == 2, "both rows are here")
        assert await watch.calls() == [("a1", "applied", "J1"), ("a2", "applied", "J1")]

        update(publisher, 1, status="hired")
        delete(publisher, 2)
        await eventually(lambda: one(ats, COUNT) == 1, "the deletion is here")
        await watch.drain.catch_up()
        assert await watch.later_calls() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]

        run(publisher, "TRUNCATE public.applications")
        if major(publisher) >= 11:  # 10 does not replicate it
            await eventually(lambda: one(ats, COUNT) == 0, "it is empty here, too")
            await watch.drain.catch_up()
            assert watch.sweeps_wanted == 1


async def test_sweeps_find_what_ordinary_triggers_do_not_see(ats: Ats, publisher: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as watch:
        (problem,) = watch.trigger_problems
        assert problem.startswith("public.applications is fed by logical replication")
        assert problem.endswith("set capture.replicated: true")
        insert(publisher, 1, "a1")
        await eventually(lambda: one(ats, COUNT) == 1, "the row is here")
        assert await watch.calls() == []

        await watch.sweep()

        assert await watch.deliver() == [("a1", "applied", "J1")]


COUNT = "SELECT count(*) FROM public.applications"
