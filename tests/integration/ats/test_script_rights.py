"""Another role gets nothing of what the script creates, whatever default privileges and grants say."""

import psycopg
import pytest
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.versions import needs
from support.watched import a_config, grant, install_triggers, run_script, some_config

from cdc_sync.ats.scripts import install, uninstall
from cdc_sync.ats.verifying import verify
from cdc_sync.store.postgres import scripts as store_scripts

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
    ("to", "kind"),
    [("PUBLIC", "TABLES"), *(("thief", kind) for kind in ("SEQUENCES", "FUNCTIONS", "SCHEMAS"))],
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
    ours = new_role()

    run_script(who.ats, install(who.config, ours))

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


class TestStore:
    RIGHTS = """
    SELECT c.relname, p FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
     WHERE c.relnamespace = 'cdc_sync'::regnamespace AND c.relkind = 'r' AND has_table_privilege(%s, c.oid, p)
    """

    def test_the_daemon_has_rows_and_others_have_nothing(self, who: Roles) -> None:
        with who.session(who.owner) as owner:
            run_script(owner, store_scripts.install())
            run_script(owner, store_scripts.grants(who.daemon))

        assert rows(who.ats, self.RIGHTS, [who.thief]) == []
        assert {p for _, p in rows(who.ats, self.RIGHTS, [who.daemon])} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
        assert one(who.ats, "SELECT has_schema_privilege(%s, 'cdc_sync', 'USAGE')", [who.thief]) is False
        with who.session(who.owner) as owner:
            run_script(owner, store_scripts.revokes(who.daemon))
        assert rows(who.ats, self.RIGHTS, [who.daemon]) == []
