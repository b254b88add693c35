"""An ATS without HelloWork's id: a side table beside it, as `sql id-table` makes and `link` fills it."""

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


def linked(ats: Installation, *arguments: str, code: int = 0, dsn: str | None = None) -> str:
    ended = ats.run("link", *arguments, "--dsn", ats.dsn if dsn is None else dsn)
    assert ended.code == code, ended.output
    return ended.output


def heard(ats: Installation, daemon: DaemonProcess, id_: str, *statuses: str) -> None:
    daemon.wait_until(lambda: [status for status, _ in ats.hellowork.told(id_)] == list(statuses), f"{id_}: {statuses}")


def links(ats: Installation) -> list[tuple[Any, ...]]:
    return rows(ats.ats, f"SELECT id, hellowork_id, status_url FROM {TABLE} ORDER BY id")  # noqa: S608 - our own


def test_rows_are_sent_once_they_are_linked_and_by_the_id_that_they_have(ats: Installation) -> None:
    apply(ats, 1, 2, 3, 4)
    linked(ats, "hw-1", "--row", "1")
    linked(ats, "hw-2", "--row", "2")
    with ats.daemon() as daemon:
        daemon.wait_for_event("applications known")
        # Linked when the daemon runs: seen for the first time. Row 4 is nobody's.
        linked(ats, "hw-3", "--row", "3")
        for id_ in (1, 3, 4):
            move(ats, id_, "INTERVIEW")
        heard(ats, daemon, "hw-1", "INTERVIEW")
        daemon.wait_until(lambda: ats.hellowork.told("hw-3")[-1:] == [("INTERVIEW", "job-1")], "hw-3")
        # The row was another application all the time.
        linked(ats, "hw-5", "--row", "2", code=1)
        linked(ats, "hw-5", "--row", "2", "--replace")
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
    findings = yaml.safe_load(ats.run("check", "--json").stdout)
    (finding,) = (each for each in findings if each["check"] == "related")
    assert finding["state"] == "warning"


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
        linked(ats, "hw-1", "--row", "1")
        script = ats.run("sql", "id-table").stdout
        for _ in range(2):
            ats.ats.execute(script.encode())
        assert links(ats) == [(1, "hw-1", None)]
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
        for wrong in (["hw-1"], ["hw-1", "--row", "1", "--row", "2"], ["hw-1", "--csv", "links.csv"]):
            assert ats.run("link", *wrong).code == 2, "a mistake of the command line comes first"
        refused = ats.run("link", "hw-1", "--row", "1").stderr
        assert yaml.safe_load(refused.partition(" prints:\n")[2]) == piece
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
        key = [part for each in ("Lyon", "7.5", "2026-01-02") for part in ("--row", each)]
        assert linked(ats, "hw-1", *key) == "1 linked, 0 changed, 0 were so already\n"
        assert "the key is Agence, N°, jour: say --row once for each" in " ".join(
            linked(ats, "hw-1", *key[:4], code=2).replace("│", " ").split()
        )
        (file := ats.folder / "links.csv").write_text(
            "Agence;N°;jour;hellowork_id;status_url\nLyon;7.50;2026-01-02;hw-1;https://x/v1/applications/hw-1/status\n"
        )
        assert linked(ats, "--csv", str(file)) == "0 linked, 1 changed, 0 were so already\n"
        states = {each["check"]: each["state"] for each in yaml.safe_load(ats.run("check", "--json").stdout)}
        assert (states["related"], states["application-id-index"], states["privileges"]) == ("ok", "ok", "ok")
        with pytest.raises(errors.UniqueViolation):
            ats.ats.execute(
                b"""INSERT INTO public."Candidatures 100%_hellowork" VALUES ('Nice', 1, '2026-01-02', 'hw-1')"""
            )

    @pytest.mark.parametrize(
        "table", ["CREATE TABLE public.shown (id int, status text)", "CREATE VIEW public.shown AS SELECT 1 AS id"]
    )
    def test_is_refused_where_nothing_is_a_key(self, without_id: Installation, table: str) -> None:
        ats = without_id
        ats.ats.execute(table.encode())
        ats.configure_watch(table="public.shown")
        refused = ats.run("sql", "id-table", "--apply", "--dsn", ats.dsn)
        assert refused.code == 1
        assert "shown has no primary key and no unique index on (id)" in refused.stderr
        assert "Correct the watch's key" in refused.stderr
        assert one(ats.ats, f"SELECT to_regclass('{TABLE}')") is None


@pytest.mark.parametrize("mode", ["notify"])
class TestLinking:
    def test_is_idempotent_and_keeps_a_url_with_its_id(self, ats: Installation) -> None:
        apply(ats, 1, 2)
        url = "https://ats.example/v1/applications/hw-1/status"
        assert linked(ats, "hw-1", "--row", "1", "--status-url", url) == "1 linked, 0 changed, 0 were so already\n"
        assert linked(ats, "hw-1", "--row", "1") == "0 linked, 0 changed, 1 were so already\n"
        assert links(ats) == [(1, "hw-1", url)]
        assert linked(ats, "hw-2", "--row", "1", "--replace") == "0 linked, 1 changed, 0 were so already\n"
        assert links(ats) == [(1, "hw-2", None)]

    def test_rows_exchange_their_ids(self, ats: Installation) -> None:
        apply(ats, 1, 2, 3, 4)
        file = ats.folder / "links.csv"
        file.write_text("id,hellowork_id\n1,hw-1\n2,hw-2\n3,hw-3\n")
        linked(ats, "--csv", str(file))
        file.write_text("id,hellowork_id\n1,hw-2\n2,hw-1\n3,hw-4\n4,hw-3\n")
        assert "the row 1 has the id 'hw-1'. If that is wrong: --replace" in linked(ats, "--csv", str(file), code=1)
        assert linked(ats, "--csv", str(file), "--replace") == "1 linked, 3 changed, 0 were so already\n"
        assert linked(ats, "--csv", str(file), "--replace") == "0 linked, 0 changed, 4 were so already\n"
        assert links(ats) == [(1, "hw-2", None), (2, "hw-1", None), (3, "hw-4", None), (4, "hw-3", None)]
        # One that is not in the file keeps its id.
        file.write_text("id,hellowork_id\n1,hw-1\n")
        assert "the id 'hw-1' is that of the row 2" in linked(ats, "--csv", str(file), "--replace", code=1)

    @pytest.mark.parametrize(
        ("type_", "ids"),
        [
            ("text", ["hw-1", "hw-2", "hw-3"]),
            ("varchar(4)", ["hw-1", "hw-2", "hw-3"]),
            ("bigint", ["1", "2", "3"]),
            ("uuid", [f"{number}0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" for number in (1, 2, 3)]),
        ],
    )
    def test_exchanging_ids_takes_no_right_to_delete_and_keeps_further_columns(
        self, ats: Installation, type_: str, ids: list[str]
    ) -> None:
        one_, two, three = ids
        ats.ats.execute(
            f"ALTER TABLE {TABLE} ADD note text, ALTER hellowork_id TYPE {type_} USING NULL;"
            f" GRANT SELECT, INSERT, UPDATE ON {TABLE} TO {ats.role}".encode()
        )
        apply(ats, 1, 2, 3)
        file = ats.folder / "links.csv"
        file.write_text(f"id,hellowork_id\n1,{one_}\n2,{two}\n3,{three}\n")
        linked(ats, "--csv", str(file))
        ats.ats.execute(f"UPDATE {TABLE} SET note = 'of ' || id".encode())  # noqa: S608 - our own
        file.write_text(f"id,hellowork_id\n1,{two}\n2,{three}\n3,{one_}\n")
        exchanged = ats.run("link", "--csv", str(file), "--replace")
        assert exchanged.output == "0 linked, 3 changed, 0 were so already\n"
        kept = rows(ats.ats, f"SELECT id, hellowork_id::text, note FROM {TABLE} ORDER BY id")  # noqa: S608 - our own
        assert kept == [(1, two, "of 1"), (2, three, "of 2"), (3, one_, "of 3")]

    def test_a_row_whose_id_is_null_gets_one(self, ats: Installation) -> None:
        apply(ats, 1)
        ats.ats.execute(f"ALTER TABLE {TABLE} ALTER hellowork_id DROP NOT NULL".encode())
        ats.ats.execute(f"INSERT INTO {TABLE} VALUES (1)".encode())  # noqa: S608 - our own
        assert linked(ats, "hw-1", "--row", "1") == "0 linked, 1 changed, 0 were so already\n"
        assert links(ats) == [(1, "hw-1", None)]

    @pytest.mark.parametrize(
        ("lines", "problems"),
        [
            ("", ["line 1: expected the columns hellowork_id, id and, if it has", "there is nothing"]),
            ("id,hellowork\n1,hw-1\n", ["there is id, hellowork"]),
            ("id,hellowork_id\n1,hw-1\n2\n", ["line 3: expected 2 fields"]),
            ("id,hellowork_id\n1,../x\n2,\n", ["line 2: the application's id", "line 3: the application's id is"]),
            (f"id,hellowork_id\n1,{'4' * 301}\n2,%2525252541\n", ["line 2: the application's id has more", "3 rounds"]),
            ("id,hellowork_id\n1,hw-1\n1,hw-2\n2,hw-1\n", [
                "line 3: the row 1 stands in line 2 already", "line 4: the id 'hw-1' stands in line 2 already"]),
            ("id,hellowork_id\n1,hw-1\n01,hw-2\n", ["two of the keys are of one row"]),
            ('id,hellowork_id\n"1,hw-1\n', ["near line 1: unexpected end of data"]),
            ('id,"hellowork_id\n1,hw-1\n', ["unexpected end of data"]),
            ("id,hellowork_id\n1,hw-1\n99,hw-9\n", ["line 3: public.applications has no row with the key 99"]),
            ("id,hellowork_id\n1,hw-1\nx,hw-9\n", ["line 3: the key x is no bigint"]),
            ("id,hellowork_id\n1,hw-1\n2,hw-3\n", ["line 3: the id 'hw-3' is that of the row 3"]),
            ("id,hellowork_id\n1,hw-1\n3,hw-2\n", ["line 3: the row 3 has the id 'hw-3'. If that is wrong: --replace"]),
            ("id,hellowork_id,status_url\n1,hw-1,https://x/v1/applications/hw-2/status\n", [
                "line 2: the status URL", "expected …/v1/applications/hw-1/status"]),
        ],
    )  # fmt: skip
    def test_a_file_is_taken_as_a_whole_or_not_at_all(self, ats: Installation, lines: str, problems: list[str]) -> None:
        apply(ats, 1, 2, 3)
        linked(ats, "hw-3", "--row", "3")
        (file := ats.folder / "links.csv").write_text(lines)

        refused = linked(ats, "--csv", str(file), code=1)

        assert [problem for problem in problems if problem not in refused] == [], refused
        assert links(ats) == [(3, "hw-3", None)]

    def test_a_file_of_a_spreadsheet_is_read(self, ats: Installation) -> None:
        apply(ats, 1, 2)
        file = ats.folder / "links.csv"
        file.write_bytes("\ufeffhellowork_id;id\r\n hw-1 ;1\r\nhw-2;2\r\n".encode())
        assert linked(ats, "--csv", str(file)) == "2 linked, 0 changed, 0 were so already\n"
        assert linked(ats, "--csv", str(file)) == "0 linked, 0 changed, 2 were so already\n"
        file.write_bytes(b"id,hellowork_id\n")
        assert linked(ats, "--csv", str(file)) == "0 linked, 0 changed, 0 were so already\n"
        file.write_bytes("id,hellowork_id\n1,é\n".encode("latin-1"))
        assert "line 2: it is not UTF-8" in linked(ats, "--csv", str(file), code=1)
        assert "cannot be read" in linked(ats, "--csv", str(ats.folder / "absent.csv"), code=1)

    def test_the_daemons_role_may_not_and_what_it_takes_is_said(self, ats: Installation) -> None:
        apply(ats, 1)
        refused = ats.run("link", "hw-1", "--row", "1")
        assert refused.code == 1
        assert f"The role {ats.role} may not fill {TABLE}" in refused.stderr
        grants = [line for line in refused.stderr.splitlines() if line.startswith("GRANT")]
        for grant in grants:
            ats.ats.execute(grant.encode())
        assert ats.run("link", "hw-1", "--row", "1").code == 0

    def test_without_a_table_it_says_what_makes_one(self, without_id: Installation) -> None:
        assert "cdc-sync sql id-table" in linked(without_id, "hw-1", "--row", "1", code=1)

    def test_a_table_without_a_key_is_not_filled(self, without_id: Installation) -> None:
        ats = without_id
        ats.ats.execute("CREATE TABLE public.links (id bigint, hellowork_id text, status_url text)")
        configure(ats, "public.links")
        apply(ats, 1)
        assert "public.links has no primary key" in linked(ats, "hw-1", "--row", "1", code=1)

    def test_of_several_watches_one_is_named(self, ats: Installation) -> None:
        ats.configure(watches={"others": ats.document["watches"]["applications"]})
        apply(ats, 1)
        assert "--watch" in linked(ats, "hw-1", "--row", "1", code=2)
        assert linked(ats, "hw-1", "--row", "1", "--watch", "others").startswith("1 linked")
        linked(ats, "hw-1", "--row", "1", "--watch", "absent", code=2)
        for arguments in (("hw-1",), ("--row", "1"), ("hw-1", "--csv", "x")):
            linked(ats, *arguments, "--watch", "others", code=2)

    def test_no_row_of_the_ats_is_waited_for(self, ats: Installation) -> None:
        apply(ats, 1)
        with ats.ats.transaction():
            ats.ats.execute("SELECT FROM public.applications WHERE id = 1 FOR UPDATE")
            assert "a transaction of the ATS holds one of the rows" in linked(ats, "hw-1", "--row", "1", code=1)
        assert linked(ats, "hw-1", "--row", "1").startswith("1 linked")

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
        linked(ats, "hw-1", "--row", "1")
        findings = yaml.safe_load(ats.run("check", "--json").stdout)
        assert {each["check"] for each in findings if each["watch"] and each["state"] != "ok"} == set()
