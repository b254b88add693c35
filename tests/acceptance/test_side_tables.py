"""An ATS without HelloWork's id: a side table beside it, as `sql id-table` makes it."""

from typing import Any

import pytest
import yaml
from psycopg import errors
from support.daemon_process import DaemonProcess
from support.installation import Installation, merged
from support.sessions import one, rows
from support.versions import major

TABLE = "public.applications_hellowork"


def configure(ats: Installation, table: str = TABLE, key: str = "id") -> None:
    """Have the watch read its ids from a side table."""
    looked_up = f"(SELECT h.{{}} FROM {table} h WHERE h.{key} = t.id)"  # noqa: S608 - a test's own names
    columns = {
        field: {"sql": looked_up.format(column), "depends_on": ["id"]}
        for field, column in (("application_id", "hellowork_id"), ("status_url", "status_url"))
    }
    ats.configure_watch(columns=columns, related=[{"table": table, "key": [key]}])


@pytest.fixture
def without_id(bare: Installation) -> Installation:
    """An ATS without the column, and the watch as the side table wants it; nothing is installed yet."""
    bare.ats.execute("DROP TABLE public.applications")
    bare.ats.execute(
        "CREATE TABLE public.applications (id bigint PRIMARY KEY, status text, job_id text, created_at timestamptz,"
        " updated_at timestamptz, source text, deleted_at timestamptz)"
    )
    configure(bare)
    return bare


@pytest.fixture
def ats(without_id: Installation) -> Installation:
    """The same with the table, the triggers and the privileges."""
    made = without_id.run("sql", "id-table", "--apply", "--dsn", without_id.dsn)
    assert made.code == 0, made.output
    without_id.install()
    return without_id


def apply(ats: Installation, *ids: int, status: str = "NEW") -> None:
    for id_ in ids:
        ats.ats.execute(
            "INSERT INTO public.applications (id, status, job_id, created_at, updated_at)"
            " VALUES (%s, %s, 'job-1', now(), clock_timestamp())",
            (id_, status),
        )


def move(ats: Installation, id_: int, status: str) -> None:
    ats.ats.execute(
        "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE id = %s", (status, id_)
    )


def link(ats: Installation, id_: int, application_id: str) -> None:
    """Write an id into the side table, as the program that receives the applications does."""
    ats.ats.execute(
        f"INSERT INTO {TABLE} (id, hellowork_id) VALUES (%s, %s)"  # noqa: S608 - our own
        " ON CONFLICT (id) DO UPDATE SET hellowork_id = excluded.hellowork_id",
        (id_, application_id),
    )


def heard(ats: Installation, daemon: DaemonProcess, id_: str, *statuses: str) -> None:
    daemon.wait_until(lambda: [status for status, _ in ats.hellowork.told(id_)] == list(statuses), f"{id_}: {statuses}")


def links(ats: Installation) -> list[tuple[Any, ...]]:
    return rows(ats.ats, f"SELECT id, hellowork_id, status_url FROM {TABLE} ORDER BY id")  # noqa: S608 - our own


def test_rows_are_sent_once_they_are_linked_and_by_the_id_that_they_have(ats: Installation) -> None:
    apply(ats, 1, 2, 3, 4)
    link(ats, 1, "hw-1")
    link(ats, 2, "hw-2")
    with ats.daemon() as daemon:
        daemon.wait_for_event("applications known")
        # Linked when the daemon runs: seen for the first time. Row 4 is nobody's.
        link(ats, 3, "hw-3")
        for id_ in (1, 3, 4):
            move(ats, id_, "INTERVIEW")
        heard(ats, daemon, "hw-1", "INTERVIEW")
        daemon.wait_until(lambda: ats.hellowork.told("hw-3")[-1:] == [("INTERVIEW", "job-1")], "hw-3")
        # The row was another application all the time.
        link(ats, 2, "hw-5")
        heard(ats, daemon, "hw-5", "NEW")
        heard(ats, daemon, "hw-2", "deleted")
        ats.ats.execute("DELETE FROM public.applications WHERE id IN (1, 4)")
        heard(ats, daemon, "hw-1", "INTERVIEW", "deleted")
        ats.quiet(daemon)
        assert {call.application_id for call in ats.hellowork.calls} == {"hw-1", "hw-2", "hw-3", "hw-5"}
        assert [row[:2] for row in links(ats)] == [(2, "hw-5"), (3, "hw-3")]


def test_a_table_without_a_cascade_is_followed_as_far_as_it_can_be(without_id: Installation) -> None:
    ats = without_id
    ats.ats.execute("CREATE TABLE public.links (id bigint PRIMARY KEY, hellowork_id text UNIQUE, status_url text)")
    configure(ats, "public.links")
    ats.install()
    apply(ats, 1)
    ats.ats.execute("INSERT INTO public.links VALUES (1, 'hw-1'), (2, 'hw-2')")
    with ats.daemon() as daemon:
        # Its link was there before it.
        apply(ats, 2)
        heard(ats, daemon, "hw-2", "NEW")
        ats.ats.execute("DELETE FROM public.applications WHERE id = 1")
        heard(ats, daemon, "hw-1", "deleted")
        ats.ats.execute("DELETE FROM public.links WHERE id = 1")
        ats.quiet(daemon)


def test_a_row_with_two_ids_keeps_no_other_from_being_sent(without_id: Installation) -> None:
    ats = without_id
    ats.ats.execute("CREATE TABLE public.links (id bigint, hellowork_id text, status_url text)")
    configure(ats, "public.links")
    ats.install()
    apply(ats, 1, 2, 3)
    ats.ats.execute("INSERT INTO public.links VALUES (1, 'hw-1'), (2, 'hw-2'), (1, 'hw-9'), (3, 'hw-3')")
    with ats.daemon(ready=False) as daemon:
        daemon.wait_for_event("applications known")
        move(ats, 2, "INTERVIEW")
        heard(ats, daemon, "hw-2", "INTERVIEW")
        ats.ats.execute("DELETE FROM public.applications WHERE id = 3")
        heard(ats, daemon, "hw-3", "deleted")
        # In one transaction: between two commits, the daemon may report row 1 as it was before.
        with ats.ats.transaction():
            ats.ats.execute("DELETE FROM public.links WHERE hellowork_id = 'hw-9'")
            move(ats, 1, "INTERVIEW")
        heard(ats, daemon, "hw-1", "INTERVIEW")


@pytest.mark.parametrize("mode", ["notify"])
class TestTheScript:
    def test_is_run_again_at_any_time_and_undone_by_what_it_says(self, ats: Installation) -> None:
        apply(ats, 1)
        link(ats, 1, "hw-1")
        script = ats.run("sql", "id-table").stdout
        for _ in range(2):
            ats.ats.execute(script.encode())
        assert links(ats) == [(1, "hw-1", None)]
        left = ats.run("sql", "verify", "--expect", "absent", "--apply", "--dsn", ats.dsn)
        assert (left.code, f"side table  {TABLE}" in left.stdout) == (1, True)
        assert ats.run("check").code in (0, 1)
        (undo,) = (line.removeprefix("-- Undo      ") for line in script.splitlines() if line.startswith("-- Undo"))
        ats.ats.execute(undo.encode())
        assert one(ats.ats, f"SELECT to_regclass('{TABLE}')") is None

    def test_says_the_configuration_where_there_is_none(self, without_id: Installation) -> None:
        ats = without_id
        ats.configure_watch(columns={"application_id": "nowhere", "status_url": None}, related=[])
        script = ats.run("sql", "id-table").stdout
        commented = script.split("once more in notify mode:\n")[1]
        piece = yaml.safe_load("\n".join(line.removeprefix("--   ") for line in commented.splitlines()))
        ats.ats.execute(script.encode())
        ats.configure(watches={"applications": piece})
        ats.install()
        assert {each["state"] for each in yaml.safe_load(ats.run("check", "--json").stdout) if each["watch"]} == {"ok"}

    def test_fits_keys_of_any_columns_and_types(self, without_id: Installation) -> None:
        ats = without_id
        ats.ats.execute(
            """CREATE DOMAIN public.agency AS varchar(8) COLLATE "C";
               CREATE TABLE public."Candidatures 100%" ("Agence" public.agency, "N°" numeric(9,2), "jour" date,
                 status text, job_id text, created_at timestamptz, PRIMARY KEY ("N°", "Agence", jour))""".encode()
        )
        ats.document["watches"]["applications"] = {
            "table": 'public."Candidatures 100%"',
            "key": ['"Agence"', '"N°"', "jour"],
            "columns": {"application_id": "status", "status": "status", "job_id": "job_id", "created": "created_at"},
        }
        ats.configure()
        made = ats.run("sql", "id-table", "--apply", "--dsn", ats.dsn)
        assert made.code == 0, made.output
        piece = yaml.safe_load(ats.run("sql", "id-table").stdout.split("notify mode:\n")[1].replace("--   ", ""))
        ats.document = merged(ats.document, {"watches": {"applications": piece}})
        ats.configure()
        ats.install()
        values = "('Lyon', 7.50, '2026-01-02', 'NEW', 'job-1', now())"
        ats.ats.execute(f'INSERT INTO public."Candidatures 100%" VALUES {values}'.encode())  # noqa: S608
        ats.ats.execute(
            b"""INSERT INTO public."Candidatures 100%_hellowork" VALUES ('Lyon', 7.5, '2026-01-02', 'hw-1', NULL)"""
        )
        states = {each["check"]: each["state"] for each in yaml.safe_load(ats.run("check", "--json").stdout)}
        assert (states["related"], states["application-id-index"], states["privileges"]) == ("ok", "ok", "ok")
        with pytest.raises(errors.UniqueViolation):
            ats.ats.execute(
                b"""INSERT INTO public."Candidatures 100%_hellowork" VALUES ('Nice', 1, '2026-01-02', 'hw-1')"""
            )

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ("CREATE TABLE public.shown (id int, status text)", "has no primary key and no unique index on (id)"),
            ("CREATE VIEW public.shown AS SELECT 1 AS id", 'relation "shown" is not a table'),
        ],
    )
    def test_is_refused_where_nothing_is_a_key(self, without_id: Installation, table: str, said: str) -> None:
        ats = without_id
        ats.ats.execute(table.encode())
        ats.configure_watch(table="public.shown")
        refused = ats.run("sql", "id-table", "--apply", "--dsn", ats.dsn)
        assert refused.code == 1
        assert said in refused.stderr
        assert one(ats.ats, f"SELECT to_regclass('{TABLE}')") is None

    def test_a_partitioned_table_has_one_too(self, without_id: Installation) -> None:
        ats = without_id
        if major(ats.ats) < 12:
            pytest.skip("before PostgreSQL 12 no foreign key leads to a partitioned table")
        ats.ats.execute(
            "DROP TABLE public.applications; CREATE TABLE public.applications (id bigint PRIMARY KEY, status text,"
            " job_id text, created_at timestamptz, updated_at timestamptz, source text, deleted_at timestamptz)"
            " PARTITION BY RANGE (id);"
            "CREATE TABLE public.early PARTITION OF public.applications FOR VALUES FROM (0) TO (100)"
        )
        made = ats.run("sql", "id-table", "--apply", "--dsn", ats.dsn)
        assert made.code == 0, made.output
        ats.install()
        apply(ats, 1)
        link(ats, 1, "hw-1")
        findings = yaml.safe_load(ats.run("check", "--json").stdout)
        assert {each["check"] for each in findings if each["watch"] and each["state"] != "ok"} == set()
