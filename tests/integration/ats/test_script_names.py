"""Whatever names a database has, the scripts do what they say and nothing else: run by psql, as a DBA runs them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from support.install_script import install
from support.roles import NewRole
from support.sessions import Ats, one, rows
from support.watched import a_config, run_script, uninstall_triggers

from cdc_sync.ats.connection import connected, pooled
from cdc_sync.ats.lookout import Bell
from cdc_sync.ats.notify import ChangeLog
from cdc_sync.ats.scripts import Part, for_psql, grants, uninstall
from cdc_sync.ats.survey import survey
from cdc_sync.ats.triggers import absent, missed_of, verify
from cdc_sync.config import Config, PlainColumn
from cdc_sync.core.identifiers import LONGEST, QualifiedName, written
from cdc_sync.core.visible import UNSAFE
from cdc_sync.store.postgres import schema as store_scripts

PSQL = shutil.which("psql")

psql = pytest.mark.skipif(PSQL is None, reason="psql is not on this machine")

HOSTILE = [
    "$cdc_sync$", "$cdc_sync_1x$", "$$", "\n", "\r", "\n--", "\n\\! touch pwned\n", "\\", "\\q\n", "\x1b[2J", "\x85",
    "\u2028", "\u202e", "CREATE TABLE pwned();", ";", "--", "/*", "*/", "'", "''", '"', ":v", ":'v'", ':"v"', "%s",
    "%I", "{", "}", "{0}", "{table}", "é", "あ", "\U0001f600", " ", ".", "${HOME}", "E'",
]  # fmt: skip

NAMES = (
    st.lists(st.sampled_from(HOSTILE) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3))
    .map("".join)
    .map(lambda name: name.encode()[:LONGEST].decode(errors="ignore"))
    .filter(bool)
)

# Of this database alone: roles belong to the server, and a test beside this one makes and drops its own.
OBJECTS = """
SELECT 'schema', nspname::text, NULL FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
UNION ALL SELECT 'relation', n.nspname || '.' || c.relname, c.relkind::text
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind <> 't' AND c.relkind <> 'i'
UNION ALL SELECT 'function', p.oid::regprocedure::text, NULL FROM pg_proc p
UNION ALL SELECT 'trigger', t.tgname::text, p.proname::text
            FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT t.tgisinternal
"""
OURS = {
    ("schema", "cdc_sync", None),
    ("relation", "cdc_sync.changes", "r"),
    ("relation", "cdc_sync.bell", "S"),
    ("relation", "cdc_sync.missed_applications", "S"),
    ("function", "cdc_sync.record_applications()", None),
    ("trigger", "cdc_sync_applications_row", "record_applications"),
    ("trigger", "cdc_sync_applications_truncate", "record_applications"),
}


def run_psql(ats: Ats, folder: Path, script: str, environ: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        [
            str(PSQL), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "v=pwned", "-d", ats.info.dsn,
            *(["-U", ats.info.user] if ats.info.user else []),
        ],
        input=script.encode(), cwd=folder, capture_output=True, timeout=60, check=False,
        env={**os.environ, "PGPASSWORD": ats.info.password, **(environ or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")


MAY = """
SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
       ARRAY(SELECT roleid FROM pg_auth_members WHERE member = r.oid)
  FROM pg_roles r WHERE rolname = %s
"""


def snapshot(ats: Ats) -> set[tuple[Any, ...]]:
    return set(rows(ats, OBJECTS))


def create(ats: Ats, names: list[str]) -> None:
    schema, table, key, status, job, created = map(sql.Identifier, names)
    ats.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    ats.execute(
        sql.SQL("CREATE TABLE {}.{} ({} bigint, {} text, {} text, {} timestamptz)").format(
            schema, table, key, status, job, created
        )
    )


def configured(names: list[str]) -> Config:
    """A configuration with these names, past what refuses some of them."""
    schema, table, key, status, job, created = names
    config = a_config()
    watch = config.watches["applications"]
    columns = watch.columns.model_copy(
        update={
            "application_id": PlainColumn(key), "status": PlainColumn(status), "job_id": PlainColumn(job),
            "created": PlainColumn(created), "event_date": None, "deleted": None,
        }
    )  # fmt: skip
    watch = watch.model_copy(update={"table": QualifiedName(schema, table), "key": (key,), "columns": columns})
    return config.model_copy(update={"watches": {"applications": watch}})


@psql
@settings(
    max_examples=settings().max_examples // 4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.lists(NAMES, min_size=6, max_size=6, unique=True))
def test_any_names(ats: Ats, tmp_path: Path, new_role: NewRole, names: list[str]) -> None:
    if names[0].startswith("pg_"):
        names[0] = f"x{names[0][:30]}"
    role = new_role()
    before = snapshot(ats)
    create(ats, names)
    created = snapshot(ats)
    config = configured(names)
    try:
        run_psql(ats, tmp_path, install(config))
        assert snapshot(ats) - created == OURS
        assert created - snapshot(ats) == set()
        assert {row[-1] for row in rows(ats, verify(config.watches))} == {"ok"}
        run_psql(ats, tmp_path, grants(config, role))
        run_psql(ats, tmp_path, verify(config.watches))
        assert snapshot(ats) - created == OURS
        assert rows(ats, MAY, [role]) == [(False, False, False, False, False, [])]
        run_psql(ats, tmp_path, uninstall())
        run_psql(ats, tmp_path, absent())
        assert snapshot(ats) == created
    finally:
        uninstall_triggers(ats)
        ats.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(names[0])))
    assert snapshot(ats) == before
    assert list(tmp_path.iterdir()) == []


WATCH_NAMES = st.builds("applications@{}".format, st.lists(NAMES, min_size=1, max_size=3).map("".join))


@settings(
    max_examples=settings().max_examples // 10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.lists(WATCH_NAMES, min_size=2, max_size=3, unique=True))
@example(
    names=[
        "applications@tenant_42",
        "applications@Ten\"ant 'x'",
        f"applications@{'x' * 87}",
        "applications@100%",
        "applications@north.a",
    ]
)
async def test_any_watch(ats: Ats, database: str, names: list[str]) -> None:
    config = a_config(related=[{"table": "public.stages", "key": []}])
    config = config.model_copy(update={"watches": dict.fromkeys(names, config.watches["applications"])})
    ats.execute("CREATE TABLE IF NOT EXISTS public.stages ()")
    before = snapshot(ats)
    async with pooled(database) as pool:
        try:
            run_script(ats, install(config))
            run_script(ats, grants(config, ats.info.user))
            assert {row[-1] for row in rows(ats, verify(config.watches))} == {"ok"}
            ats.execute("LISTEN cdc_sync")
            await Bell(pool).follow()
            ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
            assert {heard.payload for heard in ats.notifies(timeout=5, stop_after=len(names))} == set(names)
            assert sorted(name for (name,) in rows(ats, "SELECT watch FROM cdc_sync.changes")) == sorted(names)
            for name in names:
                log = ChangeLog(pool, name)
                changes = await log.read(10)
                assert changes.number == 1
                await log.delete(changes)
                assert (await log.read(10)).number == 0
                query = sql.SQL("SELECT is_called FROM cdc_sync.{}").format(sql.Identifier(missed_of(name)))
                assert one(ats, query.as_string()) is False
            assert {row[0] for row in rows(ats, verify(a_config().watches)) if row[-1] == "left over"} == set(names)
            for name in names:
                assert [kind for _, kind, *_ in rows(ats, absent(name))] == ["function", "sequence"]
                uninstall_triggers(ats, name)
                assert rows(ats, absent(name)) == []
            uninstall_triggers(ats)
            assert snapshot(ats) == before
        finally:
            ats.rollback()
            ats.execute("UNLISTEN *")
            uninstall_triggers(ats)


@psql
def test_names_that_another_encoding_reads_otherwise(ats: Ats, tmp_path: Path) -> None:
    """In GBK the last byte of this name would take the closing quote with it; `--apply` is no file."""
    names = ["ats", "あ", 'id"あ', "status", "job", "created"]
    create(ats, names)
    before = snapshot(ats)

    run_psql(ats, tmp_path, "".join(for_psql([Part(None, install(configured(names)))])), {"PGCLIENTENCODING": "GBK"})

    assert snapshot(ats) - before == OURS


@psql
def test_a_role_with_any_name(ats: Ats, tmp_path: Path) -> None:
    role = "x$cdc_sync$; CREATE TABLE pwned(); --\nCREATE TABLE pwned()"
    ats.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        before = snapshot(ats)
        run_psql(ats, tmp_path, install(a_config()))
        run_psql(ats, tmp_path, grants(a_config(), role))
        for script in (store_scripts.install(), store_scripts.grants(role)):
            run_psql(ats, tmp_path, script)
        run_psql(ats, tmp_path, store_scripts.uninstall())
        assert snapshot(ats) - before == OURS
    finally:
        ats.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        ats.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


async def test_init_looks_at_the_named_table_however_many_there_are(
    ats: Ats, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdc_sync.ats.survey._MOST_TABLES", 1)
    ats.execute('CREATE TABLE public.aaa (id int); CREATE SCHEMA z; CREATE TABLE z."Applied" (id int)')
    async with connected(database) as connection:
        (table,) = (await survey(connection, 'z."Applied"')).tables
    assert str(table.name) == 'z."Applied"'


async def test_init_leaves_such_names_out(ats: Ats, database: str, tmp_path: Path) -> None:
    ats.execute('CREATE TABLE public."candidatures\n; DROP TABLE x; --" (id bigint PRIMARY KEY)')
    ats.execute('ALTER TABLE public.applications ADD "status\x1b[2J" text')

    async with connected(database) as connection:
        seen = await survey(connection)

    assert seen.left_out == ('public.applications."status\x1b[2J"', 'public."candidatures\n; DROP TABLE x; --"')
    assert not [table for table in seen.tables if UNSAFE.search(str(table))]


def test_whatever_is_a_key_word_to_this_server_is_written_with_quotes(ats: Ats) -> None:
    reserved = ats.execute("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')").fetchall()

    assert [word for (word,) in reserved if written(word) == word] == []
