"""A row that row-level security hides never becomes a deletion by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import Nothing, OpenRig, Rig, rig
from support.roles import NewRole, dsn_of
from support.sessions import Ats, end_sessions, one, run
from support.source import opened
from support.versions import needs
from support.watched import a_config, grant, install_triggers

from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Steps
from cdc_sync.ats.reading import Digests, Hiding
from cdc_sync.core.rows import Key

HIDE_1 = """
CREATE POLICY not_1 ON public.applications USING (id <> 1);
ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY
"""
SHOW = "ALTER TABLE public.applications DISABLE ROW LEVEL SECURITY"
WAITING = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
 WHERE d.datname = current_database() AND NOT l.granted
"""

OpenDaemonsRig: TypeAlias = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def role(new_role: NewRole) -> str:
    """The daemon's, which owns nothing."""
    return new_role()


@pytest.fixture
def open_daemons_rig(database: str, ats: Ats, role: str, tmp_path: Path) -> OpenDaemonsRig:
    def open_daemons_rig(**watch: Any) -> AbstractAsyncContextManager[Rig]:
        config = a_config(dsn_of(database, role), **watch)
        install_triggers(ats, config)
        grant(ats, config, role)
        return rig(config, tmp_path)

    return open_daemons_rig


async def test_a_doubt_lasts_until_the_next_look(ats: Ats, open_daemons_rig: OpenDaemonsRig, role: str) -> None:
    # Roles are locked by nothing: this is the remedy that comes between a read and its question.
    insert(ats, 2, "a2")
    run(ats, HIDE_1)
    async with open_daemons_rig() as watch:
        await watch.adopt()
        delete(ats, 2)
        await watch.drain.catch_up()
        run(ats, "ALTER ROLE {role} BYPASSRLS", role=role)
        assert await watch.later_calls() == []
        assert len(await watch.entries("held")) == 1


# The rows and the question who hid some of them are one transaction, whose locks keep policies as they are.


async def test_a_read_that_waits_for_a_policy_knows_of_it(
    ats: Ats, other: Ats, open_daemons_rig: OpenDaemonsRig, role: str
) -> None:
    # A snapshot from before the wait would not know the policy that came with the lock.
    run(ats, "ALTER ROLE {role} SET default_transaction_isolation = 'serializable'", role=role)
    insert(ats, 1, "a1")
    async with open_daemons_rig() as watch:
        with ats.transaction():
            run(ats, HIDE_1)
            reading = asyncio.create_task(watch.intake.reader.by_application(["a1"]))
            await eventually(lambda: one(other, WAITING), "the read waits")
        read = await reading

        assert read.rows == []
        assert read.hidden_by


async def test_a_policy_does_not_end_while_a_read_is_under_way(
    ats: Ats, other: Ats, open_daemons_rig: OpenDaemonsRig
) -> None:
    insert(ats, 1, "a1")
    run(
        ats,
        "CREATE FUNCTION public.slowly_hide() RETURNS boolean LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN false; END'",
    )
    async with open_daemons_rig() as watch:
        run(ats, HIDE_1.replace("id <> 1", "public.slowly_hide()"))
        run(ats, "SELECT pg_advisory_lock(7)")
        reading = asyncio.create_task(watch.intake.reader.by_application(["a1"]))
        await eventually(lambda: one(ats, WAITING) == 1, "the read is under way")
        showing = asyncio.create_task(asyncio.to_thread(run, other, SHOW))
        await eventually(lambda: one(ats, WAITING) == 2, "the policy's end waits for the read's")
        run(ats, "SELECT pg_advisory_unlock(7)")
        read = await reading
        await showing

        assert read.rows == []
        assert read.hidden_by


# From whom row-level security may hide rows: PostgreSQL's own behaviour is the measure.


TABLE = "public.applications"
ENABLE = "ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY;"
FORCE = "ALTER TABLE public.applications FORCE ROW LEVEL SECURITY;"
MOST = "CREATE POLICY most ON public.applications USING (id <> 2);"
ALL = "CREATE POLICY everything ON public.applications FOR SELECT TO {reader} USING (true);"
NARROW = "CREATE POLICY narrow ON public.applications AS RESTRICTIVE TO {reader} USING (id <> 2);"


@pytest.fixture
def reader(ats: Ats, new_role: NewRole) -> str:
    """A role that may read two applications, 1 and 2."""
    name = new_role()
    run(ats, "INSERT INTO public.applications (id, hellowork_id) VALUES (1, 'a1'), (2, 'a2')")
    run(ats, "GRANT USAGE ON SCHEMA public TO {reader}; GRANT SELECT ON public.applications TO {reader}", reader=name)
    return name


Prepare: TypeAlias = Callable[[str], None]


@pytest.fixture
def prepare(ats: Ats, reader: str, new_role: NewRole) -> Prepare:
    """Runs statements in which `{reader}` stands for that role, and `{other}` for another one."""
    other = new_role()
    return lambda statements: run(ats, statements or "SELECT", reader=reader, other=other)


async def looked_at(database: str, reader: str, table: str = TABLE) -> tuple[frozenset[Hiding], int]:
    """Whose policies may hide rows from a role, and how many rows it sees."""
    async with opened(a_config(dsn_of(database, reader), table=table)) as source:
        return await source.reader.hidden_by(), len(await source.rows())


@pytest.mark.parametrize(
    "statements",
    [
        "",
        MOST,
        ENABLE + MOST + "ALTER TABLE public.applications OWNER TO {reader};",
        ENABLE + MOST + "ALTER ROLE {reader} BYPASSRLS;",
        ENABLE + FORCE + ALL + "ALTER TABLE public.applications OWNER TO {reader};",
        ENABLE + MOST + ALL,
        ENABLE + "CREATE POLICY everything ON public.applications USING (true);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE TO postgres USING (false);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE USING (true);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE FOR UPDATE USING (false);",
        ENABLE + "CREATE POLICY everything ON public.applications TO {other} USING (true); GRANT {other} TO {reader};",
    ],
)
async def test_nothing_is_hidden(database: str, reader: str, prepare: Prepare, statements: str) -> None:
    prepare(statements)

    assert await looked_at(database, reader) == (frozenset(), 2)


@pytest.mark.parametrize(
    ("statements", "restrictive", "seen"),
    [
        (ENABLE, (), 0),
        (ENABLE + MOST, (), 1),
        (ENABLE + MOST + FORCE + "ALTER TABLE public.applications OWNER TO {reader};", (), 1),
        (ENABLE + ALL + NARROW, ("narrow",), 1),
        (ENABLE + "CREATE POLICY everything ON public.applications FOR UPDATE USING (true);", (), 0),
        (ENABLE + "CREATE POLICY everything ON public.applications TO {other} USING (true);", (), 0),
        # What only happens to hide nothing is not known to.
        (ENABLE + "CREATE POLICY equal ON public.applications FOR SELECT USING (id = id);", (), 2),
    ],
)
async def test_something_may_be_hidden(
    database: str, reader: str, prepare: Prepare, *, statements: str, restrictive: tuple[str, ...], seen: int
) -> None:
    prepare(statements)

    assert await looked_at(database, reader) == (frozenset({Hiding(TABLE, reader, restrictive)}), seen)


# Under a view the rights of its owner count, under one with `security_invoker` those of whoever reads.


async def test_a_view_of_the_tables_owner_hides_nothing(database: str, ats: Ats, reader: str) -> None:
    run(ats, ENABLE + MOST + "REVOKE ALL ON public.applications FROM {reader};" + VIEW, reader=reader)

    assert await looked_at(database, reader, "public.v") == (frozenset(), 2)


async def test_a_view_of_somebody_who_is_subject_may_hide(
    database: str, ats: Ats, reader: str, new_role: NewRole
) -> None:
    owner = new_role()
    run(ats, ENABLE + MOST + ALL + VIEW, reader=reader)
    run(ats, "GRANT SELECT ON public.applications TO {owner}; ALTER VIEW public.v OWNER TO {owner}", owner=owner)

    assert await looked_at(database, reader, "public.v") == (frozenset({Hiding(TABLE, owner, ())}), 1)


async def test_a_view_with_the_rights_of_whoever_reads(database: str, ats: Ats, reader: str) -> None:
    needs(ats, 15, "security_invoker of views")
    run(ats, ENABLE + MOST + VIEW + "ALTER VIEW public.v SET (security_invoker = on)", reader=reader)
    assert await looked_at(database, reader, "public.v") == (frozenset({Hiding(TABLE, reader, ())}), 1)

    run(ats, ALL, reader=reader)
    assert await looked_at(database, reader, "public.v") == (frozenset(), 2)


VIEW = "CREATE VIEW public.v AS SELECT * FROM public.applications; GRANT SELECT ON public.v TO {reader};"


async def test_a_partition_is_under_its_parents_policies_alone(database: str, ats: Ats, reader: str) -> None:
    run(
        ats,
        "ALTER TABLE public.applications RENAME TO old;"
        "CREATE TABLE public.applications (LIKE old) PARTITION BY RANGE (id);"
        "CREATE TABLE public.part PARTITION OF public.applications FOR VALUES FROM (0) TO (10);"
        "INSERT INTO public.applications SELECT * FROM old;"
        "ALTER TABLE public.part ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON public.applications TO {reader}",
        reader=reader,
    )
    assert await looked_at(database, reader) == (frozenset(), 2)

    run(ats, ENABLE)
    assert await looked_at(database, reader) == (frozenset({Hiding(TABLE, reader, ())}), 0)


async def test_a_lookup_table_of_an_expression_counts(database: str, ats: Ats, reader: str) -> None:
    run(
        ats,
        "CREATE TABLE public.stages (id int); ALTER TABLE public.stages ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON public.stages TO {reader}",
        reader=reader,
    )
    gone = {"sql": "NOT EXISTS (SELECT FROM public.stages s WHERE s.id = t.id)"}

    async with opened(a_config(dsn_of(database, reader), columns={"deleted": gone})) as source:
        assert await source.reader.hidden_by() == frozenset({Hiding("public.stages", reader, ())})


async def test_works(database: str, ats: Ats, reader: str) -> None:
    run(ats, 'ALTER TABLE public.applications RENAME TO "Cand ""i"" dats"')
    run(ats, 'ALTER TABLE "Cand ""i"" dats" ENABLE ROW LEVEL SECURITY')
    table = 'public."Cand ""i"" dats"'
    ((hiding,), seen) = await looked_at(database, reader, table)
    assert seen == 0

    ats.execute(hiding.remedy.encode())

    assert await looked_at(database, reader, table) == (frozenset(), 2)


# A read that fails is never a deletion; one that succeeds on a table that is suddenly empty is a mass deletion.


ROWS = 8

HARMS: dict[str, tuple[str | None, str | None]] = {
    "the table is renamed": (
        "ALTER TABLE public.applications RENAME TO elsewhere",
        "ALTER TABLE public.elsewhere RENAME TO applications",
    ),
    "a privilege is revoked": (
        "REVOKE SELECT (hellowork_id) ON public.applications FROM {role}",
        "GRANT SELECT (hellowork_id) ON public.applications TO {role}",
    ),
    "the connections are ended": (None, None),
}
"""What breaks the reading, and what mends it; where no SQL stands, the role's sessions are ended."""

Reading: TypeAlias = Callable[[Rig, Callable[[], None]], Awaitable[object]]
"""Reads the table, and lets it be harmed before."""


async def sweep_in_the_middle(watch: Rig, harm: Callable[[], None]) -> None:
    digests, is_harmed = watch.intake.reader.digests, False

    async def harmed(after: Key | None, size: int, shape: str) -> Digests | None:
        nonlocal is_harmed
        if after is not None and not is_harmed:
            is_harmed = True
            harm()
        return await digests(after, size, shape)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watch.intake.reader, "digests", harmed)
        await watch.sweep(Nothing())


async def drain(watch: Rig, harm: Callable[[], None]) -> None:
    harm()
    await watch.drain.catch_up()


async def poll_in_the_middle(watch: Rig, harm: Callable[[], None]) -> None:
    poll = await watch.poll()
    harm()
    await poll.catch_up()


async def confirmation(watch: Rig, harm: Callable[[], None]) -> None:
    await watch.sweep(Nothing())
    harm()
    await watch.pass_grace()


READINGS: dict[str, tuple[str, Reading]] = {
    "sweep": ("poll", sweep_in_the_middle),
    "drain": ("notify", drain),
    "poll": ("poll", poll_in_the_middle),
    "confirmation": ("notify", confirmation),
}


@pytest.fixture
def steps() -> Steps:
    return Steps(compared=3, polled=3)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("reading", READINGS)
async def test_a_read_that_fails_is_no_deletion(
    database: str, ats: Ats, new_role: NewRole, tmp_path: Path, steps: Steps, *, reading: str, harm: str
) -> None:
    mode, read = READINGS[reading]
    breaks, mends = HARMS[harm]
    role = new_role()
    ats.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    capture = {"mode": mode, "watermark": "updated_at"}
    config = a_config(dsn_of(database, role), capture=capture)
    install_triggers(ats, a_config(database))
    grant(ats, config, role)
    fill(ats, ROWS)

    def harm_it() -> None:
        if breaks:
            run(ats, breaks, role=role)
        else:
            end_sessions(ats, "usename = %s", [role])

    async with rig(config, tmp_path, steps) as watch:
        await watch.adopt()
        delete(ats, ROWS)
        before = one(ats, "SELECT count(*) FROM cdc_sync.changes")

        with pytest.raises(SourceError):
            await read(watch, harm_it)

        assert await watch.entries() == []
        assert (await watch.store.report.counts())[WATCH].suspected == (reading == "confirmation")
        assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == before
    if mends:
        run(ats, mends, role=role)
    async with rig(config, tmp_path, steps) as watch:
        await watch.sweep(Nothing())
        assert [id_ for id_, _, _ in await watch.later_calls()] == [f"a{ROWS}"]


@pytest.mark.parametrize("how", ["DELETE FROM public.applications", "TRUNCATE public.applications"])
@pytest.mark.parametrize("mode", ["notify", "poll"])
async def test_an_empty_table_goes_through_the_fuse(ats: Ats, open_rig: OpenRig, mode: str, how: str) -> None:
    capture = {"mode": mode, "watermark": "updated_at"}
    fill(ats, ROWS)
    async with open_rig(install=mode == "notify", capture=capture, fuse={"max_deletions": 2}) as watch:
        run(ats, how)
        if mode == "notify":
            await watch.drain.catch_up()
        await watch.sweep(Nothing())
        await watch.pass_grace()

        assert len(await watch.deliver()) == 2
        assert len(await watch.entries("held")) == ROWS - 2
        assert "more than 2 deletions" in ((await watch.store.operation.fuses())[WATCH].reason or "")


async def test_a_table_that_is_back_before_a_person_looks_takes_its_deletions_back(ats: Ats, open_rig: OpenRig) -> None:
    """As after a reload by DELETE and INSERT, or a restore."""
    fill(ats, ROWS)
    async with open_rig(install=False, fuse={"max_deletions": 2}) as watch:
        run(ats, "CREATE TABLE public.old AS TABLE public.applications; TRUNCATE public.applications")
        await watch.sweep(Nothing())
        await watch.pass_grace()
        assert len(await watch.entries("held")) == ROWS - 2
        run(ats, "INSERT INTO public.applications SELECT * FROM public.old")
        update(ats, 1, status="applied")

        await watch.sweep(Nothing())

        assert await watch.entries("held") == []
        assert await watch.deliver() == []
