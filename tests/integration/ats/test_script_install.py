"""The scripts as a DBA meets them: run once, run again, run in a bad moment, removed without a trace."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.builders import WATCH
from support.install_script import install
from support.log_batches import batch
from support.roles import NewRole
from support.sessions import Ats, OpenSession, one, rows, run
from support.versions import needs
from support.watched import COLUMNS, a_config, install_triggers, some_config, uninstall_triggers

from cdc_sync.ats import triggers
from cdc_sync.ats.connection import connected, pooled
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.notify import ChangeLog
from cdc_sync.ats.triggers import verify
from cdc_sync.config import Config, Watch

TRIGGERS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal ORDER BY 1, 2
"""

# Toast tables are named by number, hence by their table here.
EVERYTHING = """
SELECT 'schema', nspname::text, NULL FROM pg_namespace
UNION ALL SELECT 'relation', n.nspname || '.' || coalesce('toast of ' || o.relname, c.relname), c.relkind::text
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_class o ON o.reltoastrelid = c.oid
UNION ALL SELECT 'function', p.oid::regprocedure::text, md5(p.prosrc) FROM pg_proc p
UNION ALL SELECT 'trigger', t.tgrelid::regclass || '.' || t.tgname, t.tgenabled::text FROM pg_trigger t
UNION ALL SELECT 'type', n.nspname || '.' || t.typname, t.typtype::text
            FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
UNION ALL SELECT 'comment', (pg_identify_object(classoid, objoid, objsubid)).identity, description FROM pg_description
UNION ALL SELECT 'default privilege', defaclobjtype::text, defaclacl::text FROM pg_default_acl
ORDER BY 1, 2, 3
"""

RELATED = [{"table": "public.rejections", "key": ["application_id"]}, {"table": "public.stages", "key": []}]


def add_related_tables(ats: Ats) -> None:
    ats.execute("CREATE TABLE public.rejections (application_id bigint, reason text)")
    ats.execute("CREATE TABLE public.stages (id int, label text)")


def test_to_install_again_changes_nothing_and_keeps_what_is_recorded(ats: Ats) -> None:
    config = a_config()
    install_triggers(ats, config)
    ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
    before = rows(ats, EVERYTHING)

    install_triggers(ats, config)

    assert rows(ats, EVERYTHING) == before
    assert rows(ats, "SELECT operation::text, row_key FROM cdc_sync.changes") == [("I", ["1"])]


def test_what_else_is_in_the_schema_stays(ats: Ats) -> None:
    install_triggers(ats, a_config())
    ats.execute("CREATE TABLE cdc_sync.somebody_elses (id int)")

    uninstall_triggers(ats)

    assert rows(ats, "SELECT relname FROM pg_class WHERE relnamespace = 'cdc_sync'::regnamespace") == [
        ("somebody_elses",)
    ]
    assert rows(ats, TRIGGERS) == []


@pytest.mark.parametrize(
    "setting",
    [
        "work_mem = '4MB'",
        "standard_conforming_strings = off",
        "search_path = ''",
        "search_path = cdc_sync",
        "quote_all_identifiers = on",
    ],
)
def test_what_is_removed_leaves_no_trace_whatever_the_session_has_set(ats: Ats, setting: str) -> None:
    add_related_tables(ats)
    config = a_config(related=RELATED)
    before = rows(ats, EVERYTHING)
    ats.execute(f"SET {setting}")

    install_triggers(ats, config)
    ats.execute("INSERT INTO public.applications (id) VALUES (7)")
    assert rows(ats, "SELECT row_key FROM cdc_sync.changes") == [(["7"],)]
    assert {state for *_, state in rows(ats, verify(config.watches))} == {"ok"}
    uninstall_triggers(ats)

    ats.execute("RESET ALL")
    assert rows(ats, EVERYTHING) == before


def test_a_script_is_read_in_minutes() -> None:
    one, two = (len(install(a_config(related=related)).splitlines()) for related in ([], RELATED[:1]))

    assert one <= 150
    assert two - one <= 20


def test_an_upgrade_removes_what_the_watch_no_longer_has(ats: Ats) -> None:
    add_related_tables(ats)
    install_triggers(ats, a_config(related=RELATED))
    ats.execute("CREATE TABLE public.candidacies (LIKE public.applications)")

    install_triggers(ats, a_config(table="public.candidacies", related=RELATED[1:]))

    assert {(table, trigger.rpartition("_")[0]) for table, trigger in rows(ats, TRIGGERS)} == {
        ("candidacies", "cdc_sync_applications"),
        ("stages", "cdc_sync_applications$1"),
    }


def test_one_watch_is_removed_without_the_others(ats: Ats) -> None:
    add_related_tables(ats)
    watch = {"table": "public.applications", "key": ["id"], "columns": dict(COLUMNS), "related": RELATED}
    install_triggers(ats, some_config("", {"one": watch}))
    with_one = rows(ats, EVERYTHING)
    install_triggers(ats, some_config("", {"one": watch, "one_more": watch}))
    ats.execute("INSERT INTO public.applications (id) VALUES (7)")

    uninstall_triggers(ats, "one_more")

    assert rows(ats, EVERYTHING) == with_one
    assert rows(ats, "SELECT watch FROM cdc_sync.changes") == [("one",)]


OPTION = "SELECT unnest(reloptions) FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass"


def test_what_the_dba_has_set_for_the_log_stays(ats: Ats) -> None:
    needs(ats, 12, "the storage parameter vacuum_truncate")
    install_triggers(ats, a_config())
    # Else VACUUM would cancel what reads the log on a standby, such as a dump.
    assert ("vacuum_truncate=false",) in rows(ats, OPTION)
    ats.execute("ALTER TABLE cdc_sync.changes SET (vacuum_truncate = true, autovacuum_vacuum_threshold = 5)")

    install_triggers(ats, a_config())

    assert {"vacuum_truncate=true", "autovacuum_vacuum_threshold=5"} <= {option for (option,) in rows(ats, OPTION)}


# Publications that take in the log: nobody is surprised, and the daemon can still take what is recorded.


IDENTITY = "SELECT relreplident::text FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass"


@pytest.fixture
def published(ats: Ats) -> Iterator[Ats]:
    """Publications are not in any schema, so nobody else drops them."""
    ats.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    yield ats
    ats.execute("DROP PUBLICATION everything")


async def take(dsn: str) -> int:
    async with pooled(dsn) as pool, batch(ChangeLog(pool, "applications"), 10) as changes:
        return changes.number


def test_a_new_log_is_not_published_unawares(published: Ats) -> None:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(published, a_config())

    published.execute("ROLLBACK")
    assert "everything would publish the log, and stop subscribers" in (refused.value.diag.message_primary or "")
    assert "SET cdc_sync.published = 'yes'" in (refused.value.diag.message_hint or "")
    assert one(published, "SELECT to_regnamespace('cdc_sync')") is None


async def test_one_that_may_be_can_be_taken(database: str, published: Ats) -> None:
    published.execute("SET cdc_sync.published = 'yes'")
    install_triggers(published, a_config())
    published.execute("INSERT INTO public.applications (id) VALUES (1)")

    assert await take(database) == 1
    assert await take(database) == 0


async def test_vacuum_shortens_one_that_the_daemon_may_not_truncate(published: Ats) -> None:
    published.execute("SET cdc_sync.published = 'yes'")
    install_triggers(published, a_config())
    published.execute("INSERT INTO public.applications (status) SELECT 'NEW' FROM generate_series(1, 1000)")
    published.execute("DELETE FROM cdc_sync.changes")

    published.execute("VACUUM cdc_sync.changes")

    assert one(published, "SELECT pg_relation_size('cdc_sync.changes')") == 0


async def test_a_log_of_an_earlier_version_is_mended(database: str, ats: Ats) -> None:
    install_triggers(ats, a_config())
    ats.execute("ALTER TABLE cdc_sync.changes REPLICA IDENTITY DEFAULT")
    ats.execute("INSERT INTO public.applications (id) VALUES (1)")
    ats.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    try:
        with pytest.raises(SourceError, match=r"does not have a replica identity") as refused:
            await take(database)
        assert refused.value.kind == "misconfigured"

        install_triggers(ats, a_config())

        assert one(ats, IDENTITY) == "f"
        assert await take(database) == 1
    finally:
        ats.execute("DROP PUBLICATION everything")


# What `cdc-sync sql verify` says of what is installed.


REJECTIONS = [{"table": "public.rejections", "key": ["application"]}]
OBJECTS = 1 + 2 + 1 + 2 * 2
"""The log, two sequences, a function, and two triggers for each of the two tables."""


def wrong(session: Ats, config: Config | None = None) -> dict[str, str]:
    """What is not ok, by object."""
    found = rows(session, verify((config or a_config(related=REJECTIONS)).watches))
    return {name: state for _, _, name, _, _, state in found if state != "ok"}


@pytest.fixture
def installed(ats: Ats) -> Ats:
    ats.execute("CREATE TABLE public.rejections (application bigint)")
    install_triggers(ats, a_config(related=REJECTIONS))
    return ats


@pytest.mark.usefixtures("installed")
def test_any_role_may_ask_and_everything_is_ok_right_after_the_installation(
    new_role: NewRole, open_session: OpenSession
) -> None:
    role = new_role()
    found = rows(open_session(user=role, password=role), verify(a_config(related=REJECTIONS).watches))

    assert [row[-1] for row in found] == ["ok"] * OBJECTS


LOG, FUNCTION = "cdc_sync.changes", "cdc_sync.record_applications"
ROW, RELATED_ROW = "cdc_sync_applications_row", "cdc_sync_applications$1_row"
CHEAPER_COMPARISON = """
DROP TRIGGER cdc_sync_applications_row ON public.applications;
CREATE TRIGGER cdc_sync_applications_row AFTER UPDATE ON public.applications
   FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE PROCEDURE cdc_sync.record_applications()
"""
EDITED_FUNCTION = """
CREATE OR REPLACE FUNCTION cdc_sync.record_applications() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'
"""
"""It keeps its comment."""
FORMER_FUNCTION = EDITED_FUNCTION.replace("record_applications", "record_former")
TRIGGER_ON_THE_LOG = """
CREATE TRIGGER t BEFORE INSERT ON cdc_sync.changes FOR EACH ROW EXECUTE PROCEDURE suppress_redundant_updates_trigger()
"""


@pytest.mark.parametrize(
    ("harm", "harmed", "state"),
    [
        (f"DROP TABLE {LOG}", LOG, "missing"),
        ("DROP SEQUENCE cdc_sync.bell", "cdc_sync.bell", "missing"),
        ("DROP SEQUENCE cdc_sync.missed_applications", "cdc_sync.missed_applications", "missing"),
        (f"ALTER TABLE public.rejections DISABLE TRIGGER {RELATED_ROW}", RELATED_ROW, "disabled"),
        (f"DROP TRIGGER {ROW} ON public.applications", ROW, "missing"),
        (CHEAPER_COMPARISON, ROW, "different"),
        (EDITED_FUNCTION, FUNCTION, "different"),
        (f"ALTER FUNCTION {FUNCTION}() RESET ALL", FUNCTION, "different"),
        (f"ALTER FUNCTION {FUNCTION}() SECURITY INVOKER", FUNCTION, "different"),
        (f"ALTER FUNCTION {FUNCTION}() OWNER TO pg_monitor", FUNCTION, "different"),
        (f"CREATE RULE r AS ON INSERT TO {LOG} DO ALSO NOTIFY somebody", LOG, "different"),
        (f"ALTER TABLE {LOG} ENABLE ROW LEVEL SECURITY", LOG, "different"),
        (TRIGGER_ON_THE_LOG, LOG, "different"),
        (FORMER_FUNCTION, "cdc_sync.record_former", "left over"),
    ],
)
def test_what_was_done_to_it_since_is_told(installed: Ats, harm: str, harmed: str, state: str) -> None:
    run(installed, harm)

    assert wrong(installed) == {harmed: state}


def test_the_script_may_have_gone_through_a_file_of_windows(ats: Ats) -> None:

    ats.execute(install(a_config()).replace("\n", "\r\n").encode())

    assert wrong(ats, a_config()) == {}


def test_triggers_that_must_fire_always_are_disabled_otherwise(installed: Ats) -> None:
    always = a_config(related=REJECTIONS, capture={"replicated": True})
    assert set(wrong(installed, always).values()) == {"disabled"}

    install_triggers(installed, always)

    assert wrong(installed, always) == {}


# What docs/for-dbas.md has for psql works as it stands there.


DOCUMENT = (Path(__file__).parents[3] / "docs" / "for-dbas.md").read_text(encoding="utf-8")


def test_the_queries_for_psql_run_and_show_what_they_say(ats: Ats) -> None:
    install_triggers(ats, a_config())
    run(ats, "SELECT setval('cdc_sync.bell', 2000000000)")
    columns = "hellowork_id, status, job_id, created_at"
    run(ats, f"INSERT INTO public.applications ({columns}) VALUES ('a', 'b', 'c', now())")  # noqa: S608
    run(ats, "SET application_name = 'cdc-sync'; SELECT pg_advisory_lock(7)")
    (block,) = re.findall(r"^```sql\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)

    found = [rows(ats, query) for query in block.split(";\n") if query.strip()]

    log, size, bells, missed, triggers, sessions, captures = found
    assert [(watch, number) for watch, number, _, _ in log] == [("applications", 1)]
    assert size == [("8192 bytes",)]
    ((bell, until),) = bells
    assert (bell, until.year) == ("bell", 2033)
    assert missed == [("missed_applications", None)]
    assert [fires for _, _, fires in triggers] == ["O", "O"]
    assert len(sessions) == len(captures) == 1


def test_the_emergency_switch_switches_off_and_on(ats: Ats) -> None:
    install_triggers(ats, a_config())
    off, on = re.findall(r"^ALTER TABLE public\.applications .*$", DOCUMENT, re.MULTILINE)

    for switch, state in ((off, "disabled"), (on, "ok")):
        run(ats, switch)
        assert {row[-1] for row in rows(ats, verify(a_config().watches)) if row[1] == "trigger"} == {state}


# What the daemon says of the triggers that it finds.


NOT_INSTALLED = "the triggers of cdc_sync.record_applications are not installed on public.applications"
DISABLED = "triggers of cdc_sync.record_applications are disabled"
REPLACED = """
ALTER TABLE public.applications RENAME TO applications_old;
CREATE TABLE public.applications (LIKE public.applications_old INCLUDING ALL)
"""
OUTDATED = "cdc_sync.record_applications was installed by another version or configuration, or edited since"


async def problems(dsn: str, name: str = WATCH, watch: Watch | None = None, **section: Any) -> list[str]:
    async with connected(dsn) as connection:
        found = await triggers.installation(connection, name, watch or a_config(**section).watches[WATCH])
        return list(found.problems)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ("DROP TRIGGER cdc_sync_applications_row ON public.applications", NOT_INSTALLED),
        ("DROP TRIGGER cdc_sync_applications_truncate ON public.applications", NOT_INSTALLED),
        ("ALTER TABLE public.applications DISABLE TRIGGER ALL", DISABLED),
        ("ALTER TABLE public.applications ENABLE REPLICA TRIGGER cdc_sync_applications_row", DISABLED),
        (REPLACED, NOT_INSTALLED),
    ],
)
async def test_one_is_missing_or_disabled(database: str, installed: Ats, harm: str, problem: str) -> None:
    run(installed, harm)

    assert await problems(database, related=REJECTIONS) == [problem]


async def test_a_disabled_one_is_named_also_without_depends_on(database: str, installed: Ats) -> None:
    run(installed, "ALTER TABLE public.applications DISABLE TRIGGER ALL")

    first, *others = await problems(database, where="t.status <> ''")

    assert first.startswith("depends_on is missing")
    assert others == [DISABLED]


@pytest.mark.parametrize(
    "section",
    [
        {"columns": {"status": "notes"}},
        {"where": {"sql": "t.notes IS NULL", "depends_on": ["notes"]}},
        {"capture": {"wakeup": "none"}},
        {"capture": {"max_backlog": "1MB"}},
    ],
)
async def test_they_are_those_of_another_configuration(database: str, installed: Ats, section: dict[str, Any]) -> None:
    assert OUTDATED in await problems(database, related=REJECTIONS, **section)


@pytest.mark.usefixtures("installed")
async def test_what_the_triggers_do_not_depend_on_does_not_outdate_them(database: str) -> None:
    others: dict[str, Any] = {
        "extra": {"delay": "notes"},
        "status": {"map": {"new": "sent"}},
        "timezone": "Europe/Paris",
    }

    assert await problems(database, related=REJECTIONS, **others) == []


async def test_every_heir_needs_triggers_of_its_own(database: str, installed: Ats) -> None:
    run(installed, 'CREATE TABLE public."Old ones" () INHERITS (public.applications)')
    run(installed, 'CREATE TABLE public.older () INHERITS (public."Old ones")')

    first, second = await problems(database, related=REJECTIONS)

    assert '{table: public."Old ones", key: [id]}' in first
    assert "{table: public.older, key: [id]}" in second
