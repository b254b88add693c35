"""Changes and the rows that they are about come by one statement, and apart where that cannot be."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from psycopg import sql
from support.builders import WATCH
from support.eventually import eventually
from support.pgbouncer import pgbouncer, pgbouncer_binary
from support.sessions import Ats, one, run
from support.source import Source, opened
from support.versions import needs
from support.watched import a_config, install_triggers

from cdc_sync.core.findings import Plan
from cdc_sync.source.changelog import ChangeLog
from cdc_sync.source.connection import Pool
from cdc_sync.source.errors import SourceError

MANY = 100_000
LARGE = 60_000
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def log_of(source: Source) -> ChangeLog:
    return ChangeLog(source.pool, WATCH, source.reader)


def change(ats: Ats, *ids: int) -> None:
    ats.execute("UPDATE public.applications SET status = status || '!' WHERE id = ANY (%s)", (list(ids),))


def insert(ats: Ats, number: int, source: str = "NULL") -> None:
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, source)"  # noqa: S608 - ours
        f" SELECT i, 'a' || i, 's', 'j', now(), {source} FROM generate_series(1, {number}) AS i"
    )


async def test_each_row_comes_once_with_the_time_of_its_last_change(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        insert(ats, 3)
        change(ats, 2)
        ats.execute("DELETE FROM public.applications WHERE id = 3")

        changes = await log_of(source).read(100)

        assert changes.number == 5
        assert changes.rows is not None
        assert sorted((row.key, row.status) for row in changes.rows.rows) == [(("1",), "s"), (("2",), "s!")]
        assert changes.times.keys() == {("1",), ("2",), ("3",)}
        last = one(ats, "SELECT (extract(epoch FROM max(changed_at)) * 1000)::bigint FROM cdc_sync.changes"
                        " WHERE row_key = '{2}'")  # fmt: skip
        assert changes.times[("2",)] == last
        assert changes.searched > 0


async def test_what_names_no_row_is_told_apart(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        insert(ats, 1)
        ats.execute("DELETE FROM cdc_sync.changes")
        ats.execute(
            "INSERT INTO cdc_sync.changes (watch, operation, row_key, changed_at)"
            " SELECT %s, 'U', key::text[], now() FROM unnest(%s::text[]) AS key",
            (WATCH, ["{}", "{NULL}", "{1}"]),
        )

        changes = await log_of(source).read(100)

        assert changes.everything
        assert changes.rows is not None
        assert [row.key for row in changes.rows.rows] == [("1",)]
        assert (changes.number, list(changes.times)) == (3, [("1",)])


@pytest.mark.parametrize(
    "columns",
    [{"status": {"sql": "(1 / (t.id - 2))::text", "depends_on": ["id"]}}, {"status": "notes"}],
    ids=["an expression that fails", "none"],
)
async def test_rows_come_apart_where_one_fails(database: str, ats: Ats, columns: Mapping[str, Any]) -> None:
    config = a_config(database, columns=columns)
    install_triggers(ats, config)
    async with opened(config) as source:
        insert(ats, 3)

        changes = await log_of(source).read(100)

        assert (changes.rows is None) == (columns["status"] != "notes")
        assert changes.times.keys() == {("1",), ("2",), ("3",)}


async def test_rows_come_apart_where_a_key_is_none_of_the_tables(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        ats.execute("INSERT INTO cdc_sync.changes VALUES (%s, 'U', '{no number}', now())", (WATCH,))

        changes = await log_of(source).read(100)

        assert changes.rows is None
        assert list(changes.times) == [("no number",)]


async def test_a_table_that_is_gone_is_told_from_a_log_that_is_gone(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        log = log_of(source)
        insert(ats, 1)
        ats.execute("ALTER TABLE public.applications RENAME TO elsewhere")
        changes = await log.read(100)
        with pytest.raises(SourceError, match="Correct the watch's table"):
            await source.reader.by_key(changes.times)
        ats.execute("DROP SCHEMA cdc_sync CASCADE")
        with pytest.raises(SourceError, match=r"The change log cdc_sync\.changes does not exist"):
            await log.read(100)


async def test_large_rows_are_bounded_and_then_fewer_are_asked_for(database: str, ats: Ats) -> None:
    config = a_config(database, columns={"source": "source"})
    install_triggers(ats, config)
    async with opened(config) as source:
        log = log_of(source)
        insert(ats, 300, f"repeat('x', {LARGE})")

        changes = await log.read(1_000)
        assert changes.rows is None
        assert changes.number == len(changes.times) == 300

        met = 0
        while met < 300:
            changes = await log.read(1_000)
            await log.delete(changes)
            assert 0 < changes.number < 100
            assert changes.rows is None or sum(len(row.source or "") for row in changes.rows.rows) < 5_000_000
            met += changes.number
        assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == 0


KEYS = {
    "a number": ("id bigint PRIMARY KEY", "i", ["id"]),
    "a text": ("id text PRIMARY KEY", "'k' || i", ["id"]),
    "a uuid": ("id uuid PRIMARY KEY", "md5(i::text)::uuid", ["id"]),
    "two columns": ("id bigint, site text, PRIMARY KEY (site, id)", "i, 's' || i % 7", ["site", "id"]),
    "a date and a number": (
        "id bigint, on_day date, PRIMARY KEY (id, on_day)",
        "i, date '2024-01-01'",
        ["id", "on_day"],
    ),
}


@pytest.mark.parametrize("log", ["fresh", "found empty by VACUUM", "analysed when full"])
@pytest.mark.parametrize("key", KEYS)
async def test_rows_are_found_by_the_keys_index_whatever_the_statistics_say(
    database: str, ats: Ats, key: str, log: str
) -> None:
    definition, values, columns = KEYS[key]
    run(ats, f"CREATE TABLE public.big ({definition}, status text) WITH (autovacuum_enabled = off)")
    run(ats, f"INSERT INTO public.big SELECT {values}, 's' FROM generate_series(1, {MANY}) AS i")  # noqa: S608 - ours
    mapped = {
        "application_id": {"sql": "t.id::text", "depends_on": ["id"]},
        "job_id": {"sql": "'j'", "depends_on": []},
        "created": {"sql": "now()"},
    }
    config = a_config(
        database, table="public.big", key=columns, columns={**mapped, "event_date": None, "deleted": None}
    )
    install_triggers(ats, config)
    if log == "found empty by VACUUM":
        ats.execute("UPDATE public.big SET status = 'b' WHERE ctid = '(0,1)'")
        ats.execute("DELETE FROM cdc_sync.changes")
        run(ats, "VACUUM ANALYZE cdc_sync.changes")
    ats.execute("UPDATE public.big SET status = 'a' WHERE ctid < '(20,1)'")
    if log == "analysed when full":
        run(ats, "ANALYZE cdc_sync.changes")
    async with opened(config) as source:
        changes = await log_of(source).read(1_000)
        assert changes.rows is not None
        assert len(changes.rows.rows) == changes.number == 1_000
        assert await scans_of_big(source.pool, log_of(source)) == ["index"]


async def test_a_key_without_an_index_takes_one_scan(database: str, ats: Ats) -> None:
    run(ats, "CREATE TABLE public.big (id bigint, site text, status text)")
    run(ats, f"INSERT INTO public.big SELECT i, 's', 's' FROM generate_series(1, {MANY}) AS i")  # noqa: S608 - ours
    mapped = {
        "application_id": {"sql": "t.id::text", "depends_on": ["id"]},
        "job_id": {"sql": "'j'", "depends_on": []},
        "created": {"sql": "now()"},
    }
    columns = {**mapped, "event_date": None, "deleted": None}
    config = a_config(database, table="public.big", key=["site", "id"], columns=columns)
    install_triggers(ats, config)
    run(ats, "VACUUM ANALYZE cdc_sync.changes")
    ats.execute("UPDATE public.big SET status = 'a' WHERE ctid < '(20,1)'")
    async with opened(config) as source:
        changes = await log_of(source).read(1_000)
        assert changes.rows is not None
        assert len(changes.rows.rows) == 1_000
        assert await scans_of_big(source.pool, log_of(source)) == ["1 scan"]


async def scans_of_big(pool: Pool, log: ChangeLog) -> list[str]:
    """How the table is read: by its index, or by how many scans."""
    assert log.statement is not None
    async with pool.connection() as connection:
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {log.statement}".encode()
        (((explained,),),) = [await (await connection.execute(explain, (1_000,))).fetchall()]
    found: list[str] = []

    def walk(plan: Plan) -> None:
        if plan.get("Relation Name") == "big":
            found.append(
                "index"
                if "Index" in plan["Node Type"] or "Bitmap" in plan["Node Type"]
                else f"{plan['Actual Loops']:.0f} scan"
            )
        for inner in plan.get("Plans", ()):
            walk(inner)

    walk(explained[0]["Plan"])
    return found


@pytest.mark.parametrize("times", [0, 1, 7])
async def test_a_script_that_holds_the_table_and_wants_the_log_gets_it_without_a_deadlock(
    database: str, ats: Ats, other: Ats, times: int
) -> None:
    """As when `sql uninstall` runs: the batch's statement, prepared or not, has the log and waits for the table."""
    install_triggers(ats, a_config(database))
    insert(ats, 1)
    async with opened(a_config(database)) as source:
        log = log_of(source)
        for _ in range(times):
            await log.read(1)
        with ats.transaction():
            ats.execute("LOCK TABLE public.applications")
            reading = asyncio.create_task(log.read(100))
            await eventually(lambda: one(other, WAITS), "the daemon waits for the table")
            ats.execute("SET LOCAL lock_timeout = '20s'")
            await asyncio.to_thread(ats.execute, "LOCK TABLE cdc_sync.changes")
            assert not reading.done()

        assert (await reading).number == 1


@pytest.mark.parametrize("times", [0, 1, 7])
async def test_whoever_holds_the_log_holds_up_nobody_at_the_table(
    database: str, ats: Ats, other: Ats, times: int
) -> None:
    install_triggers(ats, a_config(database))
    insert(ats, 1)
    async with opened(a_config(database)) as source:
        log = log_of(source)
        for _ in range(times):
            await log.read(1)
        with ats.transaction():
            ats.execute("LOCK TABLE cdc_sync.changes")
            reading = asyncio.create_task(log.read(100))
            await eventually(lambda: one(other, WAITS), "the daemon waits for the log")
            ats.execute("LOCK TABLE public.applications NOWAIT")

        assert (await reading).number == 1


async def test_the_statement_is_prepared_and_survives_another_type_of_a_column(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        log = log_of(source)
        insert(ats, 2)
        for _ in range(7):  # after five, PostgreSQL may plan it once for all
            assert (await log.read(100)).number == 2
        async with source.pool.connection() as connection:
            prepared = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql"
            assert await (await connection.execute(prepared)).fetchall() == [(1,)]

        ats.execute("ALTER TABLE public.applications ALTER status TYPE varchar(40), ALTER job_id TYPE varchar(50)")
        ats.execute("ANALYZE public.applications")
        change(ats, 1)

        changes = await log.read(100)
        assert changes.rows is not None
        assert sorted((row.key, row.status) for row in changes.rows.rows) == [(("1",), "s!"), (("2",), "s")]


async def test_it_is_planned_anew_each_time_the_table_has_doubled(database: str, ats: Ats) -> None:
    """A table that was small, and that nothing has analysed since, would be read as a whole for each change."""
    install_triggers(ats, a_config(database))
    ats.execute("ALTER TABLE public.applications SET (autovacuum_enabled = false)")
    async with opened(a_config(database)) as source:
        log = log_of(source)
        insert(ats, 2)
        ats.execute("VACUUM public.applications")
        for _ in range(8):
            await log.read(100)
        ats.execute("DELETE FROM cdc_sync.changes")
        with ats.transaction():
            ats.execute("SET LOCAL session_replication_role = replica")
            ats.execute(
                "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
                " SELECT i, 'a' || i, 's', 'j', now() FROM generate_series(3, %s) AS i",
                (MANY,),
            )
        change(ats, MANY)
        await log.read(100)  # finds out how large it is now
        for _ in range(8):
            changes = await log.read(100)
            assert changes.rows is not None
            assert [row.key for row in changes.rows.rows] == [(str(MANY),)]

        async with source.pool.connection() as connection:
            newest = "SELECT name FROM pg_prepared_statements WHERE NOT from_sql ORDER BY prepare_time DESC LIMIT 1"
            ((name,),) = await (await connection.execute(newest)).fetchall()
            explain = sql.SQL("EXPLAIN EXECUTE {}(100)").format(sql.Identifier(name))
            plan = "\n".join(line for (line,) in await (await connection.execute(explain)).fetchall())
            assert "applications_pkey" in plan, plan


async def test_nothing_is_prepared_behind_a_pooler(database: str, ats: Ats) -> None:
    if (binary := pgbouncer_binary()) is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    install_triggers(ats, a_config(database))
    insert(ats, 1)
    with pgbouncer(binary, database, "session") as dsn:
        async with opened(a_config(dsn)) as source:
            log = log_of(source)
            for _ in range(3):
                assert (await log.read(100)).number == 1
            async with source.pool.connection() as connection:
                prepared = "SELECT count(*) FROM pg_prepared_statements"
                assert await (await connection.execute(prepared)).fetchall() == [(0,)]


async def test_apart_it_leaves_the_table_alone(database: str, ats: Ats) -> None:
    """As while nobody expects changes: an idle daemon neither reads nor locks what the ATS works with."""
    install_triggers(ats, a_config(database))
    insert(ats, 1)
    async with opened(a_config(database)) as source:
        log = log_of(source)
        with ats.transaction():
            ats.execute("LOCK TABLE public.applications")

            async with asyncio.timeout(10):
                changes = await log.read(100, apart=True)

        assert (changes.number, changes.rows) == (1, None)


async def test_rows_of_a_partitioned_table_are_read_apart(database: str, ats: Ats) -> None:
    """Their keys are not known when the one statement is planned: it would look into each partition, and lock it."""
    needs(ats, 11, "row triggers on partitioned tables")
    ats.execute("ALTER TABLE public.applications RENAME TO old")
    ats.execute("CREATE TABLE public.applications (LIKE public.old, PRIMARY KEY (id)) PARTITION BY RANGE (id)")
    ats.execute("CREATE TABLE public.part PARTITION OF public.applications FOR VALUES FROM (0) TO (100)")
    install_triggers(ats, a_config(database))
    async with opened(a_config(database)) as source:
        log = log_of(source)
        insert(ats, 2)

        assert log.statement is None
        assert (await log.read(100)).number == 2


async def test_what_fails_as_prepared_is_not_prepared_again(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config(database))
    insert(ats, 1)
    async with opened(a_config(database)) as source:
        log = log_of(source)
        await log.read(100)
        await log.read(100)
        async with source.pool.connection() as connection:
            # As whoever lends sessions out does, unseen by psycopg.
            await connection.execute("DO $$BEGIN EXECUTE 'DEALLOCATE ALL'; END$$")

        assert (await log.read(100)).rows is None
        changes = await log.read(100)
        assert changes.rows is not None
        assert [row.key for row in changes.rows.rows] == [("1",)]
