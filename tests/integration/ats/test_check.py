"""What `cdc-sync check` finds in the ATS's database: each precondition is broken by itself, and names its remedy."""

from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from support.roles import NewRole, dsn_of
from support.sessions import Ats, run
from support.versions import needs
from support.watched import COLUMNS, a_config, grant, install_triggers, some_config

from cdc_sync.ats import check as module
from cdc_sync.ats.check import check_database
from cdc_sync.config import Config
from cdc_sync.core.findings import Finding
from cdc_sync.wall_clock import wall_clock

POLL: Mapping[str, Any] = {"capture": {"mode": "poll", "watermark": "updated_at"}}
NOTIFY: Mapping[str, Any] = {"capture": {"mode": "notify"}}


async def found(config: Config) -> dict[str, Finding]:
    """What is found, by the check's name; there is one watch."""
    findings: list[Finding] = []
    await check_database(config, "", findings.append, read={}, only=config.watches)
    return {finding.check: finding for finding in findings}


def wrong(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.state for name, finding in findings.items() if finding.state != "ok"}


class Installed:
    """The ATS's database with everything in place, for a role that has the least privileges."""

    def __init__(self, database: str, ats: Ats, role: str) -> None:
        self.database, self.ats, self.role = database, ats, role

    def config(self, **watch: Any) -> Config:
        return a_config(dsn_of(self.database, self.role), **watch)

    def install(self, **watch: Any) -> Config:
        config = self.config(**watch)
        install_triggers(self.ats, config)
        grant(self.ats, config, self.role)
        return config


@pytest.fixture
def installed(database: str, ats: Ats, new_role: NewRole) -> Installed:
    return Installed(database, ats, new_role())


BROKEN: list[Any] = [
    pytest.param(NOTIFY, "REVOKE SELECT (status) ON public.applications FROM {role}", {"privileges": "failed"},
                 '"status"', id="a column's SELECT"),
    pytest.param(NOTIFY, "REVOKE USAGE ON SCHEMA cdc_sync FROM {role}", {"privileges": "failed"},
                 'GRANT USAGE ON SCHEMA "cdc_sync" TO {role};', id="USAGE on our schema"),
    pytest.param(NOTIFY, "REVOKE DELETE ON cdc_sync.changes FROM {role}", {"privileges": "failed"},
                 "GRANT SELECT, DELETE, TRUNCATE ON cdc_sync.changes TO {role};", id="DELETE on the log"),
    pytest.param(NOTIFY,
                 "REVOKE DELETE ON cdc_sync.changes FROM {role}; REVOKE USAGE ON SCHEMA cdc_sync FROM {role};"
                 "DROP INDEX public.applications_hellowork_id_idx",
                 {"privileges": "failed", "application-id-index": "warning"}, None,
                 id="rights on what is ours, and an index"),
    pytest.param(NOTIFY, "REVOKE SELECT ON SEQUENCE cdc_sync.missed_applications FROM {role}",
                 {"privileges": "failed"}, "GRANT SELECT ON cdc_sync.missed_applications TO {role};",
                 id="SELECT on the counter"),
    pytest.param(NOTIFY, "ALTER TABLE public.applications RENAME TO candidatures",
                 {"table": "failed"}, "information_schema.tables", id="the table is gone"),
    pytest.param(POLL, "ALTER TABLE public.applications RENAME status TO statuses",
                 {"columns": "failed"}, "in psql: the columns", id="a column is gone"),
    pytest.param(POLL, "ALTER TABLE public.applications ALTER created_at TYPE text",
                 {"columns": "failed"}, None, id="a column's type"),
    pytest.param(POLL, "ALTER TABLE public.applications DROP CONSTRAINT applications_pkey",
                 {"key": "failed", "key-index": "warning"},
                 "CREATE UNIQUE INDEX CONCURRENTLY ON public.applications (id);", id="the key is not unique"),
    pytest.param(POLL, "ALTER TABLE public.applications DROP CONSTRAINT applications_pkey;"
                 "ALTER TABLE public.applications ALTER id DROP IDENTITY, ALTER id DROP NOT NULL;"
                 "CREATE UNIQUE INDEX ON public.applications (id)",
                 {"key": "warning"}, "ALTER TABLE public.applications ALTER COLUMN id SET NOT NULL;",
                 id="the key may be NULL"),
    pytest.param(POLL, "DROP INDEX public.applications_updated_at_idx", {"watermark-index": "warning"},
                 'CREATE INDEX CONCURRENTLY ON "public"."applications" ("updated_at");', id="no watermark index"),
    pytest.param(POLL, "DROP INDEX public.applications_updated_at_idx;"
                 "UPDATE pg_class SET reltuples = 1000000 WHERE oid = 'public.applications'::regclass",
                 {"watermark-index": "failed"}, "CREATE INDEX CONCURRENTLY", id="no index on a big table's watermark"),
    pytest.param(NOTIFY, "DROP INDEX public.applications_hellowork_id_idx;"
                 "CREATE INDEX ON public.applications (status, hellowork_id)", {"application-id-index": "warning"},
                 'CREATE INDEX CONCURRENTLY ON "public"."applications" ("hellowork_id");',
                 id="an index has the id behind something else"),
    pytest.param(NOTIFY, "ALTER TABLE public.applications DISABLE TRIGGER cdc_sync_applications_row",
                 {"triggers": "failed"}, "cdc-sync sql install > install.sql",
                 id="a trigger is disabled"),
    pytest.param(NOTIFY, "ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY",
                 {"row-security": "failed"}, "CREATE POLICY cdc_sync ON public.applications FOR SELECT TO {role}",
                 id="row-level security"),
]  # fmt: skip


@pytest.mark.parametrize(("watch", "harm", "states", "remedy"), BROKEN)
async def test_a_broken_precondition_names_its_remedy(
    installed: Installed, watch: Mapping[str, Any], harm: str, states: dict[str, str], remedy: str | None
) -> None:
    config = installed.install(**watch)
    run(installed.ats, harm.replace("{role}", installed.role))

    findings = await found(config)

    assert wrong(findings) == states
    (first, *_) = (finding for finding in findings.values() if finding.state != "ok")
    assert first.watch == "applications"
    assert first.remedy is not None
    if remedy is not None:
        assert remedy.replace("{role}", installed.role) in first.remedy
        if remedy.startswith(("GRANT", "CREATE", "ALTER")):
            installed.ats.execute(first.remedy.split("\n--")[0].encode())
            assert wrong(await found(config)) == {}


async def test_a_schema_that_may_not_be_used_hides_no_trigger(installed: Installed) -> None:
    run(installed.ats, "CREATE SCHEMA ats; ALTER TABLE public.applications SET SCHEMA ats")
    config = installed.install(table="ats.applications", **NOTIFY)
    run(installed.ats, "REVOKE USAGE ON SCHEMA ats FROM {role}", role=installed.role)

    findings = await found(config)

    assert wrong(findings) == {"privileges": "failed"}
    assert findings["triggers"].state == "ok"


STAGED = "CASE WHEN t.notes = 'gone' THEN 'gone' ELSE t.status END"


async def test_postgresql_names_the_columns_that_depends_on_lacks(installed: Installed) -> None:
    every = {"columns": {"status": {"sql": STAGED, "depends_on": ["notes", "status", "source"]}}, **NOTIFY}
    assert (await found(installed.install(**every)))["depends-on"].state == "ok"

    findings = await found(
        installed.config(
            columns={
                "status": {"sql": STAGED},
                "job_id": {"sql": "lower(t.job_id)", "depends_on": ["status"]},
                "source": {"sql": "upper(t.source)"},
            },
            where="t.source IS NULL",
            **NOTIFY,
        )
    )

    assert wrong(findings) == {"depends-on": "failed", "triggers": "failed"}
    assert yaml.safe_load(findings["depends-on"].remedy or "") == {
        "columns": {"status": {"depends_on": ["status", "notes"]}, "job_id": {"depends_on": ["job_id"]}},
        "where": {"depends_on": ["source"]},
    }


async def test_columns_that_are_generated_when_they_are_read(installed: Installed) -> None:
    needs(installed.ats, 18, "virtual generated columns")
    run(installed.ats, "CREATE TABLE public.stages (id int, label text GENERATED ALWAYS AS (id::text) VIRTUAL)")
    run(installed.ats, "ALTER TABLE public.applications ADD label text GENERATED ALWAYS AS (upper(notes)) VIRTUAL")
    stages = {"table": "public.stages", "key": [], "columns": ["label"]}

    findings = await found(installed.install(columns={"status": "label"}, related=[stages]))

    for check, table in (("triggers", "applications"), ("related", "stages")):
        assert findings[check].state == "failed"
        assert f"no trigger sees these columns of public.{table}" in findings[check].message
        assert findings[check].message.endswith(": label")
    polled = await found(installed.config(columns={"status": "label"}, related=[stages], **POLL))
    assert wrong(polled).keys() <= {"left-over"}


async def test_a_view_is_read_by_its_tables_indexes(installed: Installed) -> None:
    run(installed.ats, "CREATE VIEW public.shown AS SELECT * FROM public.applications WHERE notes IS NULL")
    config = installed.config(table="public.shown", **POLL)
    grant(installed.ats, config, installed.role)

    findings = await found(config)

    assert wrong(findings) == {"key": "warning"}
    assert "HAVING count(*) > 1" in (findings["key"].remedy or "")
    findings = await found(installed.config(table="public.shown", **NOTIFY))
    assert findings["triggers"].state == "failed"
    assert "is a view" in findings["triggers"].message


async def test_an_id_that_stands_in_the_status_url_only(installed: Installed) -> None:
    columns = {"application_id": None, "status_url": "status_api_url"}
    config = installed.install(columns=columns, **POLL)
    findings = await found(config)
    assert wrong(findings) == {"application-id-index": "warning"}
    installed.ats.execute((findings["application-id-index"].remedy or "").encode())
    assert wrong(await found(config)) == {}


async def test_triggers_of_another_installations_watch(installed: Installed) -> None:
    config = installed.install(**NOTIFY)
    watch = {"table": "public.applications", "key": ["id"], "columns": dict(COLUMNS)}
    install_triggers(installed.ats, some_config("", {"theirs": watch}))

    findings = await found(config)

    assert wrong(findings) == {"left-over": "warning"}
    assert "a watch theirs, which this configuration does not capture" in findings["left-over"].message
    assert "cdc-sync sql uninstall --watch theirs" in (findings["left-over"].remedy or "")


async def test_a_superuser_is_more_than_is_needed(installed: Installed) -> None:
    installed.install(**NOTIFY)

    findings = await found(a_config(installed.database, **NOTIFY))

    assert wrong(findings) == {"role": "warning"}
    assert "cdc-sync sql grants --role" in (findings["role"].remedy or "")


@pytest.mark.parametrize(
    ("path", "grant", "remedy"),
    [
        ("public", "ON SCHEMA public TO PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"),
        ('"More", public', 'ON SCHEMA "More" TO {role}, {owner}, {member}, {superuser}', None),
        (
            '"$user", public',
            "ON SCHEMA {role} TO PUBLIC, {other}",
            "REVOKE CREATE ON SCHEMA {role} FROM PUBLIC;\nREVOKE CREATE ON SCHEMA {role} FROM {other};",
        ),
    ],
    ids=str,
)
async def test_a_schema_of_the_search_path_in_which_others_may_create(
    installed: Installed, new_role: NewRole, path: str, grant: str, remedy: str | None
) -> None:
    config = installed.install(**POLL)
    names = {"role": installed.role, "owner": new_role(), "other": new_role(), "member": new_role()}
    names["superuser"] = installed.ats.info.user
    run(
        installed.ats,
        'CREATE SCHEMA "More" AUTHORIZATION {owner}; GRANT {owner} TO {member};'
        'CREATE SCHEMA {role}; GRANT USAGE ON SCHEMA {role}, "More" TO PUBLIC; GRANT CREATE ' + grant,
        **names,
    )
    set_path = "ALTER ROLE {role} IN DATABASE {database} SET search_path = {path}"
    run(installed.ats, set_path, path=path, database=installed.ats.info.dbname, **names)

    findings = await found(config)

    finding = findings["search-path"]
    assert wrong(findings) == ({} if remedy is None else {"search-path": "warning"})
    assert finding.remedy == (remedy and remedy.format(**names))
    run(installed.ats, finding.remedy or "SELECT")
    assert wrong(await found(config)) == {}


async def test_clocks_that_differ(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = installed.install(**POLL)

    for ahead in (90_000, -90_000):
        monkeypatch.setattr(module, "wall_clock", lambda ahead=ahead: wall_clock() + ahead)
        assert wrong(await found(config)) == {"clock": "warning"}


async def test_a_lock_that_keeps_readers_out_is_not_waited_for(installed: Installed, other: Ats) -> None:
    config = installed.install(**POLL)
    with other.transaction():
        other.execute("LOCK TABLE public.applications IN ACCESS EXCLUSIVE MODE")
        findings = await found(config)
    assert wrong(findings) == {"columns": "failed"}
    assert "Something holds a lock" in findings["columns"].message
    assert "pg_locks" in (findings["columns"].remedy or "")


SIDE: Mapping[str, Any] = {
    "columns": {
        "application_id": {
            "sql": "(SELECT l.hellowork_id FROM public.links l WHERE l.application = t.id)",
            "depends_on": ["id"],
        }
    },
    "related": [{"table": "public.links", "key": ["application"]}],
}


async def test_ids_and_urls_of_a_side_table_are_looked_for_there(installed: Installed) -> None:
    run(installed.ats, "CREATE TABLE public.links (application bigint PRIMARY KEY REFERENCES public.applications (id)"
        " ON DELETE CASCADE, hellowork_id text, url text)")  # fmt: skip
    url = {"sql": "(SELECT l.url FROM public.links l WHERE l.application = t.id)", "depends_on": ["id"]}
    config = installed.install(columns={**SIDE["columns"], "status_url": url}, related=SIDE["related"], **NOTIFY)
    findings: list[Finding] = []
    await check_database(config, "", findings.append, read={}, only=config.watches)

    by_id, by_url = (finding for finding in findings if finding.check == "application-id-index")

    for finding, advised in ((by_id, '("hellowork_id")'), (by_url, '(pg_catalog.lower(substring("url"')):
        assert finding.state == "warning"
        assert f'ON "public"."links" {advised}' in (finding.remedy or "")
        installed.ats.execute((finding.remedy or "").encode())
    assert wrong(await found(config)) == {}


async def test_a_partitioned_tables_indexes_are_those_that_its_server_makes(installed: Installed) -> None:
    run(
        installed.ats,
        "CREATE TABLE public.parted (LIKE public.applications) PARTITION BY LIST (job_id);"
        "CREATE TABLE public.lyon PARTITION OF public.parted FOR VALUES IN ('Lyon');"
        "CREATE TABLE public.nice PARTITION OF public.parted FOR VALUES IN ('Nice')",
    )
    config = installed.install(table="public.parted", **POLL)
    findings = await found(config)
    assert {"application-id-index", "watermark-index", "key-index"} <= wrong(findings).keys()
    for check in ("application-id-index", "watermark-index", "key-index"):
        remedy = findings[check].remedy or ""
        for part in ("public.lyon", "public.nice") if "…" in remedy else ("",):
            installed.ats.execute(remedy.replace("…", part).encode())
    assert not {"application-id-index", "watermark-index", "key-index"} & wrong(await found(config)).keys()


async def test_a_related_table(installed: Installed) -> None:
    run(installed.ats, "CREATE TABLE public.rejections (application bigint)")
    related = [{"table": "public.rejections", "key": ["application"]}]
    status = {"sql": "(SELECT 'no' FROM public.rejections r WHERE r.application = t.id)", "depends_on": ["id"]}
    config = installed.install(columns={"status": status}, related=related, **NOTIFY)
    assert wrong(await found(config)) == {}

    run(installed.ats, "REVOKE SELECT ON public.rejections FROM {role}", role=installed.role)
    findings = await found(config)
    assert wrong(findings) == {"privileges": "failed"}
    expected = f'GRANT SELECT ON "public"."rejections" TO {installed.role};'
    assert findings["privileges"].remedy == expected

    run(installed.ats, "ALTER TABLE public.rejections RENAME application TO application_id")
    assert (await found(config))["related"].message == "public.rejections has no such column: application"

    run(installed.ats, "ALTER TABLE public.rejections RENAME TO refusals")
    assert "information_schema" in ((await found(config))["related"].remedy or "")


async def test_poll_mode_needs_no_depends_on(installed: Installed) -> None:
    findings = await found(installed.install(columns={"status": {"sql": STAGED}}, **POLL))

    assert wrong(findings) == {}
    assert findings["depends-on"].message.endswith("these columns are enough: columns.status: [status, notes]")


async def test_a_server_that_does_not_name_the_columns_is_no_failure(installed: Installed) -> None:
    config = installed.install(columns={"status": {"sql": STAGED, "depends_on": ["status", "notes"]}}, **NOTIFY)
    run(installed.ats, "REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC", name=installed.ats.info.dbname)

    findings = await found(config)

    assert wrong(findings) == {}
    assert "permission denied to create temporary tables" in findings["depends-on"].message


STAGES = """
CREATE TABLE public.codes (code text PRIMARY KEY, libelle text);
CREATE TABLE public.stages (id integer PRIMARY KEY, etape text);
ALTER TABLE public.applications ADD stage_id integer, ADD code text REFERENCES public.codes (code)
"""


@pytest.mark.parametrize(
    ("status", "rules", "state"),
    [
        ("stage_id", {"map": {"1": "Reçue"}}, "failed"),
        ("stage_id", {"map": {"1": "Reçue"}, "unmapped": "ignore"}, "ok"),
        ("code", {}, "warning"),
        ("stage_id", {}, "failed"),
        ("status", {}, None),
    ],
    ids=str,
)
async def test_a_number_or_a_key_is_a_status_where_the_map_translates_it(
    installed: Installed, status: Any, rules: dict[str, Any], state: str | None
) -> None:
    run(installed.ats, STAGES)
    config = installed.install(**POLL, columns={**COLUMNS, "status": status}, status=rules)

    finding = (await found(config)).get("status")

    assert (finding.state if finding is not None else None) == state
