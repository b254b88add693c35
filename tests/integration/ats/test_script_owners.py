"""What somebody else made is not taken for ours: who owns the log can act with the rights of who installs."""

import re

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
TRIGGERS = """
SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = 'public.applications'::regclass
"""


@pytest.fixture
def stranger(new_role: NewRole) -> str:
    return new_role()


def refusal(ats: Ats) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(ats, a_config())
    ats.execute("ROLLBACK")
    assert rows(ats, TRIGGERS) == []
    return refused.value.diag


def test_a_schema_of_somebody_else(ats: Ats, stranger: str) -> None:
    run(ats, "CREATE SCHEMA cdc_sync AUTHORIZATION {stranger}", stranger=stranger)
    me = one(ats, "SELECT current_user")

    said = refusal(ats)

    assert said.message_primary == f"The schema cdc_sync belongs to {stranger}"
    assert f"rights of {me}" in (said.message_detail or "")
    assert f"log in as {stranger} and run this script" in (said.message_hint or "")
    remedy = f"ALTER SCHEMA cdc_sync OWNER TO {me}"
    assert remedy in (said.message_hint or "")
    run(ats, remedy)
    install_triggers(ats, a_config())


@pytest.mark.parametrize(
    ("make", "drop"),
    [
        (MAKE_LOG, "DROP TABLE cdc_sync.changes"),
        ("CREATE VIEW cdc_sync.changes AS SELECT 1", "DROP VIEW cdc_sync.changes"),
        ("CREATE SEQUENCE cdc_sync.bell", "DROP SEQUENCE cdc_sync.bell"),
        ("CREATE SEQUENCE cdc_sync.missed_applications", "DROP SEQUENCE cdc_sync.missed_applications"),
    ],
)
def test_a_thing_of_somebody_else_in_our_schema(
    ats: Ats, stranger: str, open_session: OpenSession, make: str, drop: str
) -> None:
    run(ats, "CREATE SCHEMA cdc_sync; GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {stranger}", stranger=stranger)
    run(open_session(user=stranger, password=stranger), make)

    said = refusal(ats)

    assert (said.message_primary or "").endswith(f"belongs to {stranger}")
    assert drop in (said.message_hint or "")
    run(ats, drop)
    install_triggers(ats, a_config())


@pytest.mark.parametrize(
    "make",
    [
        (
            "CREATE TRIGGER t BEFORE UPDATE ON cdc_sync.changes FOR EACH ROW"
            " EXECUTE PROCEDURE suppress_redundant_updates_trigger()"
        ),
        "CREATE RULE r AS ON INSERT TO cdc_sync.changes DO ALSO NOTIFY somebody",
    ],
)
def test_a_log_that_does_more_than_keep_rows(ats: Ats, make: str) -> None:
    run(ats, f"CREATE SCHEMA cdc_sync; {MAKE_LOG}; {make}")

    assert refusal(ats).message_primary == "The relation cdc_sync.changes has triggers or rules"


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


def test_what_a_superuser_made_the_owner_of_the_tables_may_use(
    ats: Ats, stranger: str, open_session: OpenSession
) -> None:
    run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=stranger)
    run(ats, "CREATE SCHEMA cdc_sync; GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {owner}", owner=stranger)
    owner = open_session(user=stranger, password=stranger)

    for _ in range(2):
        install_triggers(owner, a_config())

    assert len(rows(ats, TRIGGERS)) == 2
    # A superuser who ran the script now would let the owner act as superuser.
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(ats, a_config())
    assert refused.value.diag.message_primary == "; ".join(
        f"{which} belongs to {stranger}"
        for which in (
            "The relation cdc_sync.changes",
            "the relation cdc_sync.bell",
            "the relation cdc_sync.missed_applications",
        )
    )
    hint = refused.value.diag.message_hint or ""
    for drop in (
        "DROP TABLE cdc_sync.changes",
        "DROP SEQUENCE cdc_sync.bell",
        "DROP SEQUENCE cdc_sync.missed_applications",
    ):
        assert f"{drop}, which this script creates again" in hint
    ats.execute("ROLLBACK")
    uninstall_triggers(ats)
    assert rows(ats, TRIGGERS) == []


def test_a_role_that_may_act_as_the_installer_gains_nothing(
    ats: Ats, new_role: NewRole, open_session: OpenSession
) -> None:
    installs, member = new_role(), new_role()
    run(ats, "GRANT {installs} TO {member}", installs=installs, member=member)
    run(ats, "ALTER TABLE public.applications OWNER TO {installs}", installs=installs)
    run(ats, "CREATE SCHEMA cdc_sync AUTHORIZATION {member}", member=member)
    run(ats, "GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {installs}", installs=installs)

    install_triggers(open_session(user=installs, password=installs), a_config())

    assert len(rows(ats, TRIGGERS)) == 2


def denied(session: Ats, config: Config) -> psycopg.errors.Diagnostic:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
        install_triggers(session, config)
    session.execute("ROLLBACK")
    return refused.value.diag


def test_who_may_not_create_the_schema_is_told_how_to_get_it(
    ats: Ats, stranger: str, open_session: OpenSession
) -> None:
    """Nor is a side table his: all of it is said at once."""
    run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=stranger)
    ats.execute("CREATE TABLE public.side (id int PRIMARY KEY)")
    me, database = one(ats, "SELECT quote_ident(current_user)"), one(ats, "SELECT quote_ident(current_database())")
    owner = open_session(user=stranger, password=stranger)

    said = denied(owner, a_config(related=[{"table": "public.side", "key": ["id"]}]))

    assert said.message_primary == (
        f"permission denied for database {database}: {stranger} may not create the schema cdc_sync in it; "
        f"permission denied for table public.side: it belongs to {me}"
    )
    remedy = f"CREATE SCHEMA cdc_sync AUTHORIZATION {stranger}"
    assert f"As {me} or a superuser: {remedy} (or GRANT CREATE ON DATABASE {database} TO" in (said.message_hint or "")
    assert f"a member of {me}, or a superuser" in (said.message_hint or "")
    run(ats, remedy)
    run(ats, "ALTER TABLE public.side OWNER TO {owner}", owner=stranger)
    install_triggers(owner, a_config(related=[{"table": "public.side", "key": ["id"]}]))


def test_an_owner_after_a_superuser_is_told_everything_that_is_in_the_way(
    ats: Ats, stranger: str, open_session: OpenSession
) -> None:
    run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=stranger)
    install_triggers(ats, a_config())

    said = denied(open_session(user=stranger, password=stranger), a_config())

    for which in ("schema cdc_sync", "relation cdc_sync.changes", "function cdc_sync.record_applications()"):
        assert f"permission denied for {which}: it belongs to " in (said.message_primary or "")
    (grants,) = re.findall(r"or a superuser: (.*?)\.$", said.message_hint or "")
    for remedy in grants.split("; "):
        run(ats, remedy)
    owner = open_session(user=stranger, password=stranger)
    install_triggers(owner, a_config())
    changes = one(ats, "SELECT count(*) FROM cdc_sync.changes")
    ats.execute(
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at) VALUES ('a', 'b', 'c', now())"
    )
    assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == changes + 1


def test_another_configurations_sequence_is_in_nobodys_way(ats: Ats, stranger: str, open_session: OpenSession) -> None:
    ats.execute("CREATE SCHEMA cdc_sync")
    run(ats, "GRANT USAGE, CREATE ON SCHEMA cdc_sync TO {stranger}", stranger=stranger)
    run(open_session(user=stranger, password=stranger), "CREATE SEQUENCE cdc_sync.bell_another")
    run(ats, "REVOKE ALL ON SCHEMA cdc_sync FROM {stranger}", stranger=stranger)

    install_triggers(ats, a_config())

    assert len(rows(ats, TRIGGERS)) == 2
