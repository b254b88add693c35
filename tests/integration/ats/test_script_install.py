"""The scripts as a DBA meets them: run once, run again, run in a bad moment, removed without a trace."""

import pytest
from support.sessions import Ats, rows
from support.versions import needs
from support.watched import COLUMNS, a_config, install_triggers, some_config, uninstall_triggers

from cdc_sync.ats.scripts import install
from cdc_sync.ats.verifying import verify

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
