"""What somebody else made is not taken for ours: who owns the log can act with the rights of who installs."""

import psycopg
import pytest
from support.roles import NewRole
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers, run_script, uninstall_triggers

from cdc_sync.config import Config
from cdc_sync.store.postgres import scripts as store_scripts

MAKE_LOG = """
CREATE TABLE cdc_sync.changes (watch text, operation "char", row_key text[], changed_at timestamptz)
"""
RECORD = """
CREATE FUNCTION cdc_sync.record_applications() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'
"""
OWNED = """
SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'cdc_sync'::regnamespace
UNION SELECT pg_get_userbyid(proowner)::text FROM pg_proc WHERE pronamespace = 'cdc_sync'::regnamespace
UNION SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'cdc_sync'
"""
TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'public.applications'::regclass
"""


@pytest.fixture
def stranger(new_role: NewRole) -> str:
    return new_role()


def refusal(session: Ats, config: Config | None = None) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(session, config or a_config())
    session.execute("ROLLBACK")
    return refused.value.diag


@pytest.mark.parametrize(
    ("make", "drop"),
    [
        (MAKE_LOG, "DROP TABLE cdc_sync.changes"),
        ("CREATE VIEW cdc_sync.changes AS SELECT 1", "DROP VIEW cdc_sync.changes"),
        (RECORD, "DROP FUNCTION cdc_sync.record_applications()"),
    ],
)
def test_a_thing_of_somebody_else_in_our_schema(
    ats: Ats, stranger: str, open_session: OpenSession, make: str, drop: str
) -> None:
    run(ats, "CREATE SCHEMA cdc_sync; GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {stranger}", stranger=stranger)
    run(open_session(user=stranger, password=stranger), make)

    said = refusal(ats)

    assert (said.message_primary or "").endswith(f"belongs to {stranger}")
    assert "OWNER TO" not in (said.message_hint or ""), "what a stranger planted would act with the owner's rights"
    assert "Look at it and DROP " in (said.message_hint or "")
    run(ats, drop)
    install_triggers(ats, a_config())


def test_the_schema_of_a_daemon_that_made_its_store_itself(ats: Ats, stranger: str, open_session: OpenSession) -> None:
    run(ats, "CREATE SCHEMA cdc_sync AUTHORIZATION {daemon}", daemon=stranger)
    daemon = open_session(user=stranger, password=stranger)
    run_script(daemon, store_scripts.install())
    assert f"belongs to {stranger}" in (refusal(ats).message_primary or "")

    # As docs/for-dbas.md has it.
    run(ats, "ALTER SCHEMA cdc_sync OWNER TO CURRENT_USER")
    install_triggers(ats, a_config())
    run_script(ats, store_scripts.grants(stranger))

    run_script(ats, store_scripts.install())
    assert rows(daemon, "SELECT name FROM cdc_sync.about WHERE name = 'schema'") == [("schema",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(daemon, "DROP TABLE cdc_sync.changes")


def test_all_of_it_belongs_to_the_tables_owner_whoever_runs_the_script(
    ats: Ats, stranger: str, open_session: OpenSession
) -> None:
    run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=stranger)

    install_triggers(ats, a_config())
    assert one(ats, "SELECT current_user::text = session_user::text")

    assert {owner for (owner,) in rows(ats, OWNED)} == {stranger}
    owner = open_session(user=stranger, password=stranger)
    install_triggers(owner, a_config())
    assert {owner for (owner,) in rows(ats, OWNED)} == {stranger}
    uninstall_triggers(owner)
    assert rows(ats, TRIGGERS) == []


def test_what_a_superuser_installed_is_handed_over_by_the_lines_that_are_printed(
    ats: Ats, stranger: str, open_session: OpenSession
) -> None:
    install_triggers(ats, a_config())
    run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=stranger)
    owner = open_session(user=stranger, password=stranger)

    said = refusal(owner)
    assert len(rows(ats, TRIGGERS)) == 2, "until then the old triggers go on working"
    for remedy in (said.message_hint or "").split("; "):
        run(ats, remedy)
    install_triggers(owner, a_config())

    assert {owner for (owner,) in rows(ats, OWNED)} == {stranger}
    run(owner, "INSERT INTO public.applications (id) VALUES (1)")
    assert one(owner, "SELECT count(*) FROM cdc_sync.changes") == 1
