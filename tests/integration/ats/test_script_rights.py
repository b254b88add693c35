"""Another role gets nothing of what the script creates, whatever default privileges and grants say."""

from collections.abc import Callable

import psycopg
import pytest
from support.roles import NewRole, dsn_of
from support.sessions import Ats, OpenSession, one, rows, run
from support.versions import needs
from support.watched import a_config, grant, install_triggers, run_script, some_config

from cdc_sync.ats.check import check_database
from cdc_sync.ats.scripts import install, verify
from cdc_sync.cli.check_store import check_shared
from cdc_sync.core.findings import Finding
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

DEFAULTS = """
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES TO {to};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SEQUENCES TO {to};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON FUNCTIONS TO {to};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON SCHEMAS TO {to};
"""

BECOME_OWNER = """
CREATE FUNCTION public.become_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('GRANT %I TO {thief}', current_user); RETURN NEW; END $$;
CREATE TRIGGER become_owner BEFORE INSERT ON cdc_sync.changes FOR EACH ROW EXECUTE PROCEDURE public.become_owner()
"""


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

    def wrong(self, asking: str | None = None) -> dict[str, str]:
        found = rows(self.session(asking or self.owner), verify(self.config.watches))
        return {f"{on}: {name}": state for _, _, name, on, _, state in found if state != "ok"}


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


@pytest.mark.parametrize("to", ["thief", "PUBLIC"])
def test_default_privileges_give_nothing_of_ours(who: Roles, to: str) -> None:
    run(who.ats, DEFAULTS, owner=who.owner, to=who.thief if to == "thief" else to)

    who.install()

    assert who.rights(who.thief) == []
    assert who.rights(who.daemon) == DAEMONS
    assert who.wrong() == {}
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(who.session(who.thief), BECOME_OWNER, thief=who.thief)


def test_to_run_it_again_takes_away_what_an_earlier_version_left(who: Roles) -> None:
    who.install()
    run(who.ats, "GRANT ALL ON SCHEMA cdc_sync TO {thief}", thief=who.thief)
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        run(who.ats, "GRANT ALL ON ALL {kind} IN SCHEMA cdc_sync TO {thief}", kind=kind, thief=who.thief)
    run(who.ats, "GRANT ALL ON cdc_sync.changes TO {daemon} WITH GRANT OPTION", daemon=who.daemon)
    run(who.session(who.daemon), "GRANT TRIGGER ON cdc_sync.changes TO PUBLIC")
    run(who.ats, "GRANT INSERT (watch) ON cdc_sync.changes TO PUBLIC")
    for asking in (who.owner, who.thief):
        wrong = who.wrong(asking)
        assert set(wrong.values()) == {"exposed"}
        assert any("TRIGGER" in each and f"to {who.thief}" in each and "cdc_sync.changes" in each for each in wrong)
        assert "cdc_sync: CREATE, USAGE to " + who.thief in wrong
        assert "cdc_sync.record_applications(): EXECUTE to " + who.thief in wrong
        assert "cdc_sync.changes: INSERT, TRIGGER to PUBLIC" in wrong
        assert any(each.endswith(f"to {who.daemon}") for each in wrong)

    with who.session(who.owner) as owner:
        install_triggers(owner, who.config)

    assert who.wrong() == {}
    assert who.rights(who.thief) == []
    assert who.rights(who.daemon) == DAEMONS


def test_the_owner_of_a_partitioned_table_makes_partitions_of_it_whoever_installed(
    database: str, new_role: NewRole, ats: Ats, open_session: OpenSession
) -> None:
    needs(ats, 11, "row triggers on partitioned tables")
    owner, thief = new_role(), new_role()
    ats.execute("CREATE SCHEMA parted")
    ats.execute("CREATE TABLE parted.parts (id int, status text, zone int) PARTITION BY LIST (zone)")
    run(ats, "ALTER SCHEMA parted OWNER TO {owner}; ALTER TABLE parted.parts OWNER TO {owner}", owner=owner)
    columns = {"application_id": "id", "status": "status", "job_id": "zone", "created": {"sql": "now()"}}
    watches = {"w": {"table": "parted.parts", "key": ["id"], "columns": columns}}
    config = some_config(dsn_of(database, new_role()), watches)

    for zone in ("1", "2"):  # to run it again takes away nothing
        install_triggers(ats, config)
        with open_session(user=owner, password=owner) as theirs:
            run(theirs, "CREATE TABLE parted.parts_{zone} PARTITION OF parted.parts FOR VALUES IN ({zone})", zone=zone)
            run(theirs, "INSERT INTO parted.parts VALUES ({zone}, 'new', {zone})", zone=zone)

    assert rows(ats, "SELECT row_key FROM cdc_sync.changes ORDER BY row_key") == [(["1"],), (["2"],)]
    assert {state for *_, state in rows(ats, verify(config.watches))} == {"ok"}
    run(ats, "GRANT EXECUTE ON FUNCTION cdc_sync.record_w() TO {thief}", thief=thief)
    assert "exposed" in {state for *_, state in rows(ats, verify(config.watches))}


def test_another_daemon_keeps_what_it_needs(who: Roles, new_role: NewRole) -> None:
    who.install()
    other = new_role()
    with who.session(who.owner) as owner:
        grant(owner, who.config, other)

        install_triggers(owner, who.config)

    assert who.rights(other) == DAEMONS
    assert who.wrong() == {}


def test_no_other_role_may_lock_the_log(who: Roles) -> None:
    needs(who.ats, 17, "the privilege MAINTAIN")
    who.install()
    run(who.ats, "GRANT MAINTAIN ON cdc_sync.changes TO {thief}", thief=who.thief)
    assert who.wrong() == {f"cdc_sync.changes: MAINTAIN to {who.thief}": "exposed"}

    who.install()

    assert who.wrong() == {}


def test_what_the_script_cannot_revoke_it_refuses(who: Roles) -> None:
    """A superuser made the schema and gave others rights on it."""
    me = one(who.ats, "SELECT current_user")
    run(
        who.ats,
        "CREATE SCHEMA cdc_sync; GRANT ALL ON SCHEMA cdc_sync TO {owner}, {thief}",
        owner=who.owner,
        thief=who.thief,
    )

    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        who.install()

    said = refused.value.diag
    assert said.message_primary == f"{who.thief} has CREATE, USAGE on the schema cdc_sync"
    remedy = f"REVOKE ALL ON SCHEMA cdc_sync FROM {who.thief} CASCADE"
    assert f"As {me} or a superuser: {remedy}" in (said.message_hint or "")
    run(who.ats, remedy)
    # The owner may not grant it.
    run(who.ats, "GRANT USAGE ON SCHEMA cdc_sync TO {daemon}", daemon=who.daemon)
    who.install()
    assert who.wrong() == {}


def test_a_trigger_that_is_being_made_meanwhile_does_not_slip_through(who: Roles) -> None:
    who.install()
    run(
        who.ats,
        "GRANT USAGE ON SCHEMA cdc_sync TO {thief}; GRANT TRIGGER ON cdc_sync.changes TO {thief}",
        thief=who.thief,
    )
    thief = who.session(who.thief)
    thief.execute("BEGIN")
    run(thief, BECOME_OWNER, thief=who.thief)

    with who.session(who.owner) as owner, pytest.raises(psycopg.errors.LockNotAvailable):
        install_triggers(owner, who.config)

    thief.execute("COMMIT")
    assert who.wrong()["cdc_sync.changes: become_owner"] == "not ours"
    with who.session(who.owner) as owner, pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        install_triggers(owner, who.config)
    assert "DROP TRIGGER become_owner ON cdc_sync.changes" in (refused.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        ("CREATE RULE r AS ON INSERT TO cdc_sync.changes DO ALSO NOTIFY somebody", "r"),
        ("CREATE POLICY p ON cdc_sync.changes USING (false)", "p"),
        ("ALTER TABLE cdc_sync.changes ENABLE ROW LEVEL SECURITY", "row-level security"),
        (
            (
                "CREATE TRIGGER t BEFORE INSERT ON cdc_sync.changes FOR EACH ROW"
                " EXECUTE PROCEDURE suppress_redundant_updates_trigger()"
            ),
            "t",
        ),
    ],
)
async def test_a_log_that_does_more_than_keep_rows_is_found(who: Roles, harm: str, name: str) -> None:
    who.install()
    run(who.ats, harm)

    assert who.wrong() == {f"cdc_sync.changes: {name}": "not ours"}
    (failed,) = await triggers_of(who)
    assert name in failed.message
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        who.install()
    (remedy,) = (refused.value.diag.message_hint or "").split(". ")[0].removeprefix("Drop them: ").split("; ")
    run(who.ats, remedy)
    who.install()
    assert who.wrong() == {}


async def test_check_fails_while_another_role_may_act_as_the_owner(who: Roles) -> None:
    who.install()
    assert await triggers_of(who) == []
    run(who.ats, "GRANT TRIGGER ON cdc_sync.changes TO {thief}", thief=who.thief)

    (failed,) = await triggers_of(who)

    assert f"cdc_sync.changes: TRIGGER to {who.thief}" in failed.message
    assert "cdc-sync sql install" in (failed.remedy or "")


async def triggers_of(who: Roles) -> list[Finding]:
    found: list[Finding] = []
    await check_database(who.config, lambda: 0, found.append)
    return [each for each in found if each.check == "triggers" and each.state != "ok"]


def test_the_script_is_the_same_for_a_dsn_without_a_user() -> None:
    assert "daemon CONSTANT pg_catalog.text := NULL" in install(a_config("postgresql:///ats"))


class TestStore:
    RIGHTS = """
    SELECT c.relname, p FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
     WHERE c.relnamespace = 'cdc_sync'::regnamespace AND c.relkind = 'r' AND has_table_privilege(%s, c.oid, p)
    """

    @pytest.fixture
    def install(self, who: Roles) -> Callable[[], None]:
        def install() -> None:
            with who.session(who.owner) as owner:
                run_script(owner, store_scripts.install(who.daemon))
                run_script(owner, store_scripts.grants(who.daemon))

        return install

    def test_default_privileges_give_nothing_of_it(self, who: Roles, install: Callable[[], None]) -> None:
        run(who.ats, DEFAULTS, owner=who.owner, to=who.thief)

        install()

        assert rows(who.ats, self.RIGHTS, [who.thief]) == []
        assert {p for _, p in rows(who.ats, self.RIGHTS, [who.daemon])} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
        assert one(who.ats, "SELECT has_schema_privilege(%s, 'cdc_sync', 'USAGE')", [who.thief]) is False

    def test_to_run_it_again_takes_away_what_an_earlier_version_left(
        self, who: Roles, install: Callable[[], None]
    ) -> None:
        install()
        run(
            who.ats,
            "GRANT ALL ON ALL TABLES IN SCHEMA cdc_sync TO {thief}, {daemon}",
            thief=who.thief,
            daemon=who.daemon,
        )

        with who.session(who.owner) as owner:
            run_script(owner, store_scripts.install(who.daemon))

        assert rows(who.ats, self.RIGHTS, [who.thief]) == []
        assert {p for _, p in rows(who.ats, self.RIGHTS, [who.daemon])} == {"SELECT", "INSERT", "UPDATE", "DELETE"}

    async def test_check_fails_while_another_role_may_act_as_the_daemon(
        self, who: Roles, install: Callable[[], None], database: str
    ) -> None:
        install()
        assert (await self.store_of(database, who)).state == "ok"
        run(who.ats, "GRANT TRIGGER ON cdc_sync.outbox TO {thief}", thief=who.thief)

        found = await self.store_of(database, who)

        assert found.state == "failed"
        assert f"cdc_sync.outbox: TRIGGER to {who.thief}" in found.message
        install()
        assert (await self.store_of(database, who)).state == "ok"
        run(who.ats, "CREATE RULE r AS ON INSERT TO cdc_sync.outbox DO ALSO NOTIFY somebody")
        assert "cdc_sync.outbox: with the rule r" in (await self.store_of(database, who)).message

    @staticmethod
    async def store_of(database: str, who: Roles) -> Finding:
        found: list[Finding] = []
        await check_shared(dsn_of(database, who.daemon), found.append)
        (store,) = [each for each in found if each.check == "store"]
        return store
