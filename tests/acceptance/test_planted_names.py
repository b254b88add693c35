"""Who may CREATE in a schema of the search_path gains nothing by it: no statement of ours calls what is planted there.

`support.planted` makes the traps, in each schema of the path, and a trap tells the server's log who sprang it.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.binaries import server_binaries
from support.daemon_process import COMMAND, DaemonProcess
from support.hellowork_server import HelloWork
from support.installation import Installation, a_hurry, a_watch, an_installation
from support.planted import plant, sprung_in
from support.postgres import SETTINGS, create_ats
from support.sessions import one

from cdc_sync.demo.postgres import Server, server

pytestmark = pytest.mark.timeout(300)  # many commands, one after the other

BEHIND, BEFORE = '"$user", extra, public', "public, extra, pg_catalog"
"""What the database sets. Where it does not name pg_catalog, that is looked through first."""

TEMPLATE, STRANGER = "planted", "mallory"

ENOUGH = 800
"""Things in a schema; they are about twice as many."""

LOGGED: dict[str, str] = {**SETTINGS, "log_error_verbosity": "terse", "log_min_error_statement": "panic"}
"""A trap's own message has all that is needed; a script beside each would be a file of gigabytes."""

ATS = """
ALTER TABLE public.applications ADD etape_id bigint;
CREATE TABLE public.etapes (id bigint PRIMARY KEY, label text);
CREATE TABLE public.notices (number bigint PRIMARY KEY, application_id bigint, body text);
CREATE TABLE public.candidatures (LIKE public.applications INCLUDING ALL);
CREATE TABLE public.hires (id bigint PRIMARY KEY, status text, job_id text, created_at timestamptz);
INSERT INTO public.etapes VALUES (1, 'Interview'), (2, 'Offer');
CREATE SCHEMA tenant_1;
CREATE TABLE tenant_1.applications (LIKE public.applications INCLUDING ALL);
CREATE SCHEMA tenant_2;
CREATE TABLE tenant_2.applications (LIKE public.applications INCLUDING ALL);
"""

SIDE_TABLE = {
    field: {"sql": f"(SELECT h.{field} FROM public.hires_hellowork h WHERE h.id = t.id)", "depends_on": ["id"]}  # noqa: S608 - a test's own names
    for field in ("hellowork_id", "status_url")
}


@dataclass(frozen=True, slots=True)
class Traps:
    """A database with traps; `log` is its server's, which is read from `begin` on."""

    database: str
    dsn: str
    log: Path
    begin: int

    def now(self) -> "Traps":
        """The same, without those that were sprung before."""
        return replace(self, begin=self.log.stat().st_size)

    def sprung(self) -> list[str]:
        """The traps that were sprung since then."""
        with self.log.open("rb") as log:
            log.seek(self.begin)
            return sprung_in(log.read().decode(errors="replace"), self.database)

    def none_was_sprung(self, by: str) -> None:
        """Fail with the traps that something has sprung."""
        sprung = self.sprung()
        first = "\n".join(sprung[:20])
        assert not sprung, f"{by} sprang {len(sprung)} trap(s), at first:\n{first}"


@pytest.fixture(scope="session")
def planted_server() -> Iterator[Server]:
    """A server of our own, since its log is read; its database TEMPLATE has the traps."""
    with server(server_binaries(), settings=LOGGED) as own:
        own_template = make_conninfo(own.dsn, dbname=TEMPLATE)
        with psycopg.connect(own.dsn, autocommit=True) as dba:
            dba.execute(f"CREATE ROLE {STRANGER} LOGIN")
            dba.execute(f"CREATE DATABASE {TEMPLATE}")
        create_ats(own_template)
        with psycopg.connect(own_template, autocommit=True) as dba:
            dba.execute(ATS.encode())
            dba.execute("CREATE SCHEMA extra; GRANT USAGE ON SCHEMA extra TO PUBLIC")
            dba.execute(f"GRANT CREATE ON SCHEMA public, extra TO {STRANGER}")
        with psycopg.connect(own_template, user=STRANGER, autocommit=True) as stranger:
            for schema in ("public", "extra"):
                assert plant(stranger, schema) > ENOUGH
        yield own


@pytest.fixture
def traps(planted_server: Server) -> Traps:
    """A database of the test's own, with the traps and a usual search_path."""
    name = f"planted_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(planted_server.dsn, autocommit=True) as dba:
        dba.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}".encode())
    log = planted_server.folder / "server.log"
    return Traps(name, make_conninfo(planted_server.dsn, dbname=name), log, log.stat().st_size)


@contextmanager
def an_ats(folder: Path, traps: Traps, path: str, mode: str, hellowork: HelloWork) -> Iterator[Installation]:
    """An installation whose every session, from now on, has the path."""
    with an_installation(folder, traps.dsn, mode, hellowork) as made:
        database = sql.Identifier(made.ats.info.dbname)
        made.ats.execute(sql.SQL("ALTER DATABASE {} SET search_path = {}").format(database, sql.SQL(path)))
        made.configure_watch(table="applications")
        plain = a_watch(mode)
        made.configure(
            watches={
                "candidatures": {**plain, "table": "public.candidatures"},
                "customers": {**plain, "table": "applications", "for_each": {"schemas": r"tenant\_%"}},
            }
        )
        yield made
        made.ats.execute("SET search_path = pg_catalog")


def test_the_traps_work(traps: Traps) -> None:
    """Otherwise the other tests would show nothing."""
    with psycopg.connect(traps.dsn, autocommit=True) as dba:
        calls = {
            "operator = (oid, regclass)": "SELECT count(*) > 0 FROM pg_class c WHERE c.oid = to_regclass('pg_class')",
            "operator || (text, bigint)": "SELECT 'a'::text || 1::bigint = 'a1'",
            "function quote_ident (name)": "SELECT quote_ident('a'::name) = 'a'",
        }
        for trap, statement in calls.items():
            assert one(dba, statement) is True
            assert any(each.startswith(f"{trap} in public, by postgres; {statement}") for each in traps.sprung())
        dba.execute("SET search_path = public, pg_catalog")
        of_any_statement = {"function now ()": "SELECT now()", "view pg_class": "SELECT FROM pg_class"}
        for trap, statement in of_any_statement.items():
            # A read-only transaction that is rolled back leaves its traces too.
            with dba.transaction(force_rollback=True):
                dba.execute("SET TRANSACTION READ ONLY")
                dba.execute(statement.encode())
            assert any(each.startswith(f"{trap} in public") for each in traps.sprung()), trap


@pytest.fixture
def scripted(
    request: pytest.FixtureRequest, tmp_path: Path, traps: Traps, hellowork: HelloWork
) -> Iterator[Installation]:
    """An installation in notify mode with nothing installed, whose DBA is a superuser with a planted path."""
    with an_ats(tmp_path, traps, request.param, "notify", hellowork) as made:
        made.configure(
            watches={
                "hires": {
                    "table": "public.hires", "key": ["id"], "capture": a_hurry("notify"),
                    "columns": {
                        "application_id": SIDE_TABLE["hellowork_id"], "status_url": SIDE_TABLE["status_url"],
                        "status": "status", "job_id": "job_id", "created": "created_at",
                    },
                    "related": [{"table": "public.hires_hellowork", "key": ["id"]}],
                }
            }
        )  # fmt: skip
        made.ats.execute("INSERT INTO public.hires VALUES (1), (2)")
        yield made


SCRIPTS = """
id-table --watch hires --role {role}
install --watch customers@tenant_1
install
install
install --function
install --store
install --store
grants --role {role}
grants --role {role} --store
grants --role {role} --watch candidatures
verify
uninstall --watch candidatures
verify --expect absent --watch candidatures
uninstall --store
uninstall
verify --expect absent --watch candidatures
"""


@pytest.mark.parametrize(
    ("scripted", "by"), [(BEHIND, "hand"), (BEFORE, "hand"), (BEFORE, "--apply")], indirect=["scripted"]
)
def test_no_script_calls_what_is_planted(scripted: Installation, traps: Traps, by: str) -> None:
    """As they are printed, in the DBA's session, and by the program."""
    scripted.reconnect()
    for line in SCRIPTS.format(role=scripted.role).strip().splitlines():
        applied = ["--apply", "--dsn", scripted.dsn] if by == "--apply" else []
        ended = scripted.run("sql", *line.split(), *applied)
        assert ended.code == 0, ended.output
        if not applied:
            scripted.ats.execute(ended.stdout.replace("\\set ON_ERROR_STOP on\n", "").encode())
        if line == "install --function":
            scripted.ats.execute("SELECT cdc_sync.install_customers('tenant_2')")
        traps.none_was_sprung(f"`cdc-sync sql {line}`")


EXACT = {
    "table": "applications",
    "where": {"sql": "t.source = 'hellowork' AND t.id > 0::bigint", "depends_on": ["source", "id"]},
    "columns": {
        "status": {
            "sql": "coalesce((SELECT e.label FROM etapes e WHERE e.id = t.etape_id), t.status)",
            "depends_on": ["etape_id", "status"],
        },
        "job_id": {"sql": "t.job_id || ''", "depends_on": ["job_id"]},
    },
    "related": [{"table": "etapes", "key": []}, {"table": "public.notices", "key": ["application_id"]}],
}
"""A watch with expressions, which have an exact operator in pg_catalog each: what they spring is their author's."""

SHOWN = (
    ["labels"], ["plan"], ["check"], ["status"], ["explain", "a-1"], ["explain", "102"],
    ["adopt-database", "--yes"],
)  # fmt: skip


class Ats:
    """The ATS, in a session with the planted path; no statement of its own looks for a name there."""

    def __init__(self, installation: Installation) -> None:
        installation.reconnect()
        self._session = installation.ats

    def insert(self, table: str, key: int, application_id: str) -> None:
        self.run(
            f"INSERT INTO {table} (id, hellowork_id, status, job_id, created_at, updated_at, source)"  # noqa: S608 - our own
            f" VALUES ({key}, '{application_id}', 'NEW', 'job-1', '2023-01-01 09:00Z', 'now', 'hellowork')"
        )

    def update(self, table: str, key: int, change: str) -> None:
        self.run(f"UPDATE {table} SET {change}, updated_at = 'now' WHERE id OPERATOR(pg_catalog.=) {key}")  # noqa: S608 - our own

    def delete(self, table: str, key: int) -> None:
        self.run(f"DELETE FROM {table} WHERE id OPERATOR(pg_catalog.=) {key}")  # noqa: S608 - our own

    def run(self, statement: str) -> None:
        self._session.execute(statement.encode())


@pytest.fixture(params=["notify, postgres", "poll, sqlite"])
def watching(
    request: pytest.FixtureRequest, tmp_path: Path, traps: Traps, hellowork: HelloWork
) -> Iterator[Installation]:
    """An installation in each mode with another store, and all that the daemon needs."""
    mode, store = str(request.param).split(", ")
    path = BEHIND if mode == "notify" else BEFORE
    with an_ats(tmp_path, traps, path, mode, hellowork) as made:
        if path == BEHIND:
            made.configure_watch(**EXACT)
        made.configure(state={"backend": store})
        set_up(made)
        yield made


def test_no_session_of_the_daemon_calls_what_is_planted(watching: Installation, traps: Traps) -> None:
    hellowork, ats = watching.hellowork, Ats(watching)
    for key in (1, 2, 3):
        ats.insert("public.applications", 100 + key, f"a-{key}")
        ats.insert("public.candidatures", key, f"c-{key}")
        ats.insert("tenant_1.applications", key, f"t-{key}")
    traps = traps.now()

    def succeeds(*arguments: str) -> None:
        ended = watching.run(*arguments)
        traps.none_was_sprung(f"`cdc-sync {' '.join(arguments)}`")
        assert ended.code == 0, ended.output

    first = watching.run_bare([*COMMAND, "init", "--dsn", watching.variables["ATS_DSN"]])
    traps.none_was_sprung("`cdc-sync init`")
    assert "watches:" in first.stdout
    succeeds("check")
    succeeds("run", "--once")
    assert not hellowork.calls
    ats.update("public.candidatures", 2, "status = 'SEEN'")
    succeeds("run", "--once")
    assert told(hellowork, "c-2") == ["SEEN"]
    for arguments in SHOWN:
        succeeds(*arguments)
    with watching.daemon() as daemon:
        # The tables were adopted as other ones: until each was swept, deletions are held.
        daemon.wait_until(
            lambda: {"applications", "candidatures"} <= {each["watch"] for each in daemon.events_named("swept")},
            "the first sweeps",
        )
        change_everything(watching, ats, daemon)
        traps.none_was_sprung("the daemon, or a trigger,")
        assert daemon.stop() == 0
    traps.none_was_sprung("the daemon's end")
    assert told(hellowork, "c-2") == ["SEEN", "HIRED", "deleted"]
    assert told(hellowork, "c-1") == told(hellowork, "c-4")[1:] == ["deleted"]
    assert told(hellowork, "t-2") == ["SEEN"]
    assert told(hellowork, "a-3") == ["deleted"]


def set_up(made: Installation) -> None:
    """Run the scripts as a superuser whose path has nothing planted in front."""
    dsn = make_conninfo(made.dsn, options="-c search_path=pg_catalog,public")
    scripts = [["install"]] * (made.mode == "notify") + [["grants", "--role", made.role]]
    if made.document["state"]["backend"] == "postgres":
        scripts += [["install", "--store"], ["grants", "--store", "--role", made.role]]
    for arguments in scripts:
        ended = made.run("sql", *arguments, "--apply", "--dsn", dsn)
        assert ended.code == 0, ended.output


def change_everything(made: Installation, ats: Ats, daemon: DaemonProcess) -> None:
    """Make changes of each kind, and wait until HelloWork has been told of them."""
    hellowork = made.hellowork
    ats.update("public.candidatures", 2, "status = 'HIRED'")
    ats.insert("public.candidatures", 4, "c-4")
    ats.update("public.applications", 101, "status = 'SEEN'")
    ats.delete("public.applications", 103)
    ats.update("tenant_1.applications", 2, "status = 'SEEN'")
    daemon.wait_until(
        lambda: (
            [told(hellowork, each) for each in ("c-2", "c-4", "a-1", "a-3", "t-2")]
            == [["SEEN", "HIRED"], ["NEW"], ["SEEN"], ["deleted"], ["SEEN"]]
        ),
        "the calls for inserts, updates and a deletion",
    )
    if "where" in made.document["watches"]["applications"]:
        ats.run("INSERT INTO public.notices VALUES (1, 102, 'a letter')")
        ats.update("public.applications", 102, "etape_id = 1")
        daemon.wait_until(lambda: told(hellowork, "a-2") == ["Interview"], "the call for a label")
        ats.run("UPDATE public.etapes SET label = 'Entretien' WHERE id OPERATOR(pg_catalog.=) 1")
        daemon.wait_until(lambda: told(hellowork, "a-2") == ["Interview", "Entretien"], "the call for another label")
        ats.update("public.applications", 101, "source = 'elsewhere'")
    ats.run("TRUNCATE public.candidatures")
    gone = ("c-1", "c-2", "c-3", "c-4")
    daemon.wait_until(lambda: all(told(hellowork, each)[-1:] == ["deleted"] for each in gone), "the calls for TRUNCATE")


def told(hellowork: HelloWork, application_id: str) -> list[str]:
    """The statuses that HelloWork has acknowledged of an application."""
    return [status for status, _ in hellowork.told(application_id)]
