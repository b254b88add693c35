"""Another role gets nothing of what the script creates, whatever default privileges and grants say."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.applications import insert, update
from support.dumping import dump
from support.install_script import install
from support.rig import rig
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.versions import major, needs
from support.waiting import wait_until
from support.watched import COLUMNS, a_config, grant, install_triggers, run_script, some_config, uninstall_triggers

from cdc_sync.ats.scripts import grants, id_table, uninstall
from cdc_sync.ats.triggers import verify
from cdc_sync.config import Config
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.store import Store
from cdc_sync.store.postgres import schema as store_scripts
from cdc_sync.store.postgres.driver import PostgresDriver

CHECK = """
SELECT object, privilege FROM (
    SELECT 'cdc_sync.changes' AS object, p AS privilege, has_table_privilege(%(role)s, 'cdc_sync.changes', p) AS has
      FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
     UNION ALL
    SELECT s, p, has_sequence_privilege(%(role)s, s, p)
      FROM unnest(ARRAY['cdc_sync.bell', 'cdc_sync.missed_applications']) AS s,
           unnest(ARRAY['SELECT', 'UPDATE', 'USAGE']) AS p
     UNION ALL
    SELECT f.oid::regprocedure::text, 'EXECUTE', has_function_privilege(%(role)s, f.oid, 'EXECUTE')
      FROM pg_proc f WHERE f.pronamespace = 'cdc_sync'::regnamespace
     UNION ALL
    SELECT 'cdc_sync', p, has_schema_privilege(%(role)s, 'cdc_sync', p) FROM unnest(ARRAY['USAGE', 'CREATE']) AS p
) AS asked WHERE has ORDER BY 1, 2
"""

DEFAULTS = "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON {kind} TO {to}"


class Roles:
    """Who takes part: the tables' owner, the daemon, the ATS and the tables' other users."""

    def __init__(self, database: str, new_role: NewRole, ats: Ats, open_session: OpenSession) -> None:
        self.owner, self.daemon, self.thief = new_role(), new_role(), new_role()
        run(ats, "ALTER TABLE public.applications OWNER TO {owner}", owner=self.owner)
        run(ats, "GRANT CREATE ON SCHEMA public TO {thief}", thief=self.thief)
        run(
            ats,
            "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {owner}', current_database()); END $$",
            owner=self.owner,
        )
        self.config = a_config(dsn_of(database, self.daemon))
        self.ats, self._open = ats, open_session

    def session(self, role: str) -> Ats:
        return self._open(user=role, password=role)

    def install(self) -> None:
        with self.session(self.owner) as owner:
            install_triggers(owner, self.config)
            grant(owner, self.config, self.daemon)

    def rights(self, role: str) -> list[tuple[str, str]]:
        return rows(self.ats, CHECK, {"role": role})

    def wrong(self) -> dict[str, str]:
        found = rows(self.session(self.owner), verify(self.config.watches))
        return {name: state for _, _, name, _, _, state in found if state != "ok"}


@pytest.fixture
def who(database: str, new_role: NewRole, ats: Ats, open_session: OpenSession) -> Roles:
    return Roles(database, new_role, ats, open_session)


DAEMONS = [
    ("cdc_sync", "USAGE"),
    ("cdc_sync.bell", "SELECT"),
    ("cdc_sync.bell", "UPDATE"),
    ("cdc_sync.changes", "DELETE"),
    ("cdc_sync.changes", "SELECT"),
    ("cdc_sync.changes", "TRUNCATE"),
    ("cdc_sync.missed_applications", "SELECT"),
]


def test_nobody_else_has_a_right(who: Roles) -> None:
    who.install()

    assert who.rights(who.thief) == []
    assert who.rights(who.daemon) == DAEMONS
    assert who.wrong() == {}


@pytest.mark.parametrize(
    ("to", "kind"), [("PUBLIC", "TABLES"), *(("thief", kind) for kind in ("SEQUENCES", "FUNCTIONS", "SCHEMAS"))]
)
def test_default_privileges_are_refused(who: Roles, to: str, kind: str) -> None:
    run(who.ats, DEFAULTS, owner=who.owner, to=who.thief if to == "thief" else to, kind=kind)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"default privileges of {who.owner} give"):
        who.install()

    assert one(who.ats, "SELECT to_regnamespace('cdc_sync')") is None
    run(who.ats, DEFAULTS.replace("GRANT", "REVOKE").replace("TO", "FROM"), owner=who.owner, kind=kind,
        to=who.thief if to == "thief" else to)  # fmt: skip
    who.install()


def test_another_owner_has_no_such_defaults(who: Roles, new_role: NewRole) -> None:
    run(who.ats, DEFAULTS, owner=who.owner, to=who.thief, kind="TABLES")
    ours, dba = new_role(), who.session(who.owner)
    if major(who.ats) >= 16:  # as who makes a role without being a superuser gets it
        run(who.ats, "GRANT {ours} TO {dba} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", ours=ours, dba=who.owner)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"may not act as {ours}") as refused:
        run_script(dba, install(who.config, ours))
    dba.execute("ROLLBACK")
    run(who.ats, (refused.value.diag.message_hint or "").partition(", or ")[2])
    run_script(dba, install(who.config, ours))

    assert who.rights(who.thief) == []
    assert one(who.ats, "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass") == ours
    run(who.session(who.owner), "INSERT INTO public.applications (id) VALUES (1)")
    assert one(who.ats, "SELECT count(*) FROM cdc_sync.changes") == 1
    run_script(who.ats, uninstall())


@pytest.mark.parametrize("is_named", [False, True], ids=["the tables' owner", "another owner"])
def test_the_owner_of_a_partitioned_table_makes_partitions_of_it(
    database: str, new_role: NewRole, ats: Ats, open_session: OpenSession, *, is_named: bool
) -> None:
    needs(ats, 11, "row triggers on partitioned tables")
    owner, other = new_role(), new_role() if is_named else None
    ats.execute("CREATE SCHEMA parted")
    ats.execute("CREATE TABLE parted.parts (id int, status text, zone int) PARTITION BY LIST (zone)")
    run(ats, "ALTER SCHEMA parted OWNER TO {owner}; ALTER TABLE parted.parts OWNER TO {owner}", owner=owner)
    columns = {"application_id": "id", "status": "status", "job_id": "zone", "created": {"sql": "now()"}}
    watches = {"w": {"table": "parted.parts", "key": ["id"], "columns": columns}}
    config = some_config(dsn_of(database, new_role()), watches)

    for zone in ("1", "2"):  # to run it again takes away nothing
        run_script(ats, install(config, other))
        with open_session(user=owner, password=owner) as theirs:
            run(theirs, "CREATE TABLE parted.parts_{zone} PARTITION OF parted.parts FOR VALUES IN ({zone})", zone=zone)
            run(theirs, "INSERT INTO parted.parts VALUES ({zone}, 'new', {zone})", zone=zone)

    assert rows(ats, "SELECT row_key FROM cdc_sync.changes ORDER BY row_key") == [(["1"],), (["2"],)]
    assert {state for *_, state in rows(ats, verify(config.watches))} == {"ok"}
    run_script(ats, uninstall())


# The grants give the daemon's role what it needs and nothing else.


MAY_READ = """
SELECT attname::text FROM pg_attribute
 WHERE attrelid = 'public.applications'::regclass AND attnum > 0
   AND has_column_privilege(%s, attrelid, attnum, 'SELECT')
 ORDER BY attnum
"""


@pytest.fixture
def role(new_role: NewRole) -> str:
    return new_role()


def granted(ats: Ats, config: Config, role: str) -> list[str]:
    """The columns of the table that the role may read."""
    ats.execute("REVOKE ALL ON public.applications FROM PUBLIC")
    install_triggers(ats, config)
    grant(ats, config, role)
    return [name for (name,) in rows(ats, MAY_READ, [role])]


MINIMAL = {"event_date": None, "deleted": None}
"""A mapping of hellowork_id, status, job_id and created_at."""


@pytest.mark.parametrize(
    ("section", "more"),
    [
        ({}, set()),
        ({"where": {"sql": "t.notes IS NULL", "depends_on": ["notes"]}}, {"notes"}),
        ({"columns": {"source": "source"}}, {"source"}),
        ({"columns": {"deleted": "deleted_at"}}, {"deleted_at"}),
        ({"columns": {"event_date": {"sql": "at(notes)", "depends_on": ["notes"]}}}, {"notes"}),
        ({"extra": {"delay": "notes"}}, {"notes"}),
        ({"capture": {"mode": "poll", "watermark": "updated_at"}}, {"updated_at"}),
        ({"columns": {"status_url": "status_api_url"}}, {"status_api_url"}),
    ],
)
def test_columns_that_are_used_and_no_others(ats: Ats, role: str, section: dict[str, Any], more: set[str]) -> None:
    config = a_config(**{**section, "columns": {**MINIMAL, **section.get("columns", {})}})

    assert set(granted(ats, config, role)) == {"id", "hellowork_id", "status", "job_id", "created_at"} | more


def test_personal_data_cannot_be_read_and_nothing_be_changed(ats: Ats, role: str, open_session: OpenSession) -> None:
    granted(ats, a_config(), role)
    daemon = open_session(user=role, password=role)

    daemon.execute("SELECT status FROM public.applications")
    for statement in (
        "SELECT notes FROM public.applications",
        "SELECT * FROM public.applications",
        "UPDATE public.applications SET status = 'x'",
        "CREATE TABLE cdc_sync.mine (id int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(daemon, statement)


def test_an_expression_without_depends_on_costs_the_whole_table(ats: Ats, role: str) -> None:
    config = a_config(columns={"source": {"sql": "upper(t.source)"}})

    assert "has no depends_on" in grants(config, role)
    assert "notes" in granted(ats, config, role)


# What somebody else made is not taken for ours: who owns the log can act with the rights of who installs.


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


# What another role has put in the way of a script, before it runs or while it waits, gives that role nothing.


WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.applications'::regclass"

PLANTED = """
CREATE SCHEMA cdc_sync;
CREATE TABLE cdc_sync.changes (watch text, operation "char", row_key text[], changed_at timestamptz);
"""

CAST = """
CREATE TYPE public.reference AS ENUM ('1', '2', '3');
CREATE TABLE public.ran_as (who text);
GRANT INSERT ON public.ran_as TO PUBLIC;
CREATE FUNCTION public.planted(public.reference) RETURNS {to} LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO public.ran_as SELECT current_user; RETURN '1'; END$$;
CREATE CAST (public.reference AS {to}) WITH FUNCTION public.planted(public.reference);
"""


def test_a_schema_cannot_be_planted_while_the_script_waits(
    ats: Ats, stranger: str, open_session: OpenSession, database: str
) -> None:
    run(ats, f"GRANT CREATE ON DATABASE {one(ats, 'SELECT quote_ident(current_database())')} TO {stranger}")
    theirs, busy = open_session(user=stranger, password=stranger), open_session()
    busy.execute("BEGIN; INSERT INTO public.applications (id) VALUES (99)")

    with ThreadPoolExecutor() as pool:
        installs = pool.submit(open_session().execute, install(a_config()).encode())
        wait_until(lambda: one(ats, WAITING), "the script waits")
        plants = pool.submit(run, theirs, PLANTED)
        wait_until(
            lambda: one(ats, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == 2, "both"
        )
        busy.execute("COMMIT")
        installs.result()
        with pytest.raises(psycopg.errors.UniqueViolation):
            plants.result()

    me = one(ats, "SELECT current_user")
    assert rows(ats, "SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = 'cdc_sync'") == [(me,)]


@pytest.mark.parametrize("to", ["json", "text"])
def test_the_cast_of_a_keys_type_is_not_called(ats: Ats, to: str) -> None:
    run(ats, CAST, to=to)
    columns = {"application_id": "ref", "status": "status", "job_id": "status", "created": {"sql": "now()"}}
    ats.execute("CREATE TABLE public.typed (ref public.reference PRIMARY KEY, status text)")
    install_triggers(ats, some_config("", {"w": {"table": "public.typed", "key": ["ref"], "columns": columns}}))

    ats.execute("INSERT INTO public.typed VALUES ('2', 'new')")
    ats.execute("UPDATE public.typed SET ref = '3'")
    ats.execute("DELETE FROM public.typed")

    logged = [(["2"],), (["3"],), (["2"],), (["3"],)]
    assert rows(ats, "SELECT row_key FROM cdc_sync.changes ORDER BY changed_at") == logged
    assert rows(ats, "SELECT who FROM public.ran_as") == []


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE VIEW public.applications_hellowork AS SELECT 1::bigint AS id, 'x'::text AS hellowork_id",
        "CREATE TABLE public.applications_hellowork (id bigint, hellowork_id text)",
    ],
)
def test_a_strangers_side_table_is_refused(ats: Ats, stranger: str, open_session: OpenSession, planted: str) -> None:
    run(ats, f"GRANT CREATE ON SCHEMA public TO {stranger}")
    run(open_session(user=stranger, password=stranger), planted)

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="applications_hellowork is there"):
        run(ats, id_table(a_config().watches["applications"], "cdc_sync"))
    ats.execute("ROLLBACK")


def test_a_log_with_somebodys_trigger_is_refused(ats: Ats) -> None:
    install_triggers(ats, a_config())
    run(
        ats,
        "CREATE TRIGGER planted BEFORE INSERT ON cdc_sync.changes FOR EACH ROW"
        " EXECUTE PROCEDURE suppress_redundant_updates_trigger()",
    )

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"cdc_sync\.changes has triggers or rules"):
        install_triggers(ats, a_config())


# The nightly pg_dump of the watched tables' owner goes on, whoever installed the scripts.


TABLE = QualifiedName("public", "applications")


@pytest.fixture
def owner(new_role: NewRole, ats: Ats) -> str:
    """The role of the ATS: owns all tables of the database, and is no superuser."""
    name = new_role()
    run(ats, "GRANT CREATE ON SCHEMA public TO {owner}", owner=name)
    for (table,) in rows(ats, "SELECT 'public.' || quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"):
        run(ats, "ALTER TABLE {table} OWNER TO {owner}", table=table, owner=name)
    return name


def states(ats: Ats, config: Config) -> dict[str, str]:
    return {f"{on}: {name}": state for _, _, name, on, _, state in rows(ats, verify(config.watches)) if state != "ok"}


def test_the_owner_dumps_what_a_superuser_installed(ats: Ats, database: str, owner: str) -> None:
    assert dump(dsn_of(database, owner)).returncode == 0

    install_triggers(ats, a_config())

    dumped = dump(dsn_of(database, owner))
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert "cdc_sync_applications_row" in dumped.stdout
    assert states(ats, a_config()) == {}


async def test_the_owner_dumps_a_store_that_the_daemon_made(
    ats: Ats, database: str, owner: str, new_role: NewRole
) -> None:
    daemon = new_role()
    run(ats, "CREATE SCHEMA cdc_sync AUTHORIZATION {daemon}", daemon=daemon)

    store = Store(await PostgresDriver.open(dsn_of(database, daemon), tables=[TABLE]))
    await store.driver.close()

    dumped = dump(dsn_of(database, owner))
    assert (dumped.returncode, dumped.stderr) == (0, "")


async def test_a_watch_without_triggers_adopts_beside_a_schema_that_its_role_may_not_use(
    ats: Ats, database: str, new_role: NewRole, tmp_path: Path
) -> None:
    """The schema belongs to another daemon."""
    others = some_config("", {"others": {"table": "public.others", "key": ["id"], "columns": COLUMNS}})
    ats.execute("CREATE TABLE public.others (LIKE public.applications)")
    install_triggers(ats, others)
    daemon = new_role()
    ats.execute(f"GRANT SELECT ON public.applications TO {daemon}".encode())
    insert(ats, 1, "a1")
    async with rig(a_config(dsn_of(database, daemon)), tmp_path) as watch:
        await watch.adopt()
        update(ats, 1, status="hired")
        await watch.sweep()
        assert await watch.deliver() == [("a1", "hired", "J1")]
