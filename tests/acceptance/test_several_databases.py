"""Several databases, one daemon: what is wrong with one of them concerns its watches only."""

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.hellowork_server import HelloWork
from support.installation import JOB, PASSWORD, Installation, an_installation, calls_are
from support.postgres import Cluster, fresh_database
from support.sessions import Ats

from cdc_sync.demo.postgres import Server

ANOTHER = "belongs to the database"


class Second:
    """The second database, and the watch `others` in it."""

    def __init__(self, installation: Installation, dsn: str) -> None:
        self.installation = installation
        self.dsn = dsn
        self.ats: Ats = psycopg.connect(dsn, autocommit=True)

    def login(self, dsn: str | None = None) -> str:
        """How the daemon's role connects, as the configuration has it: the password is in the environment."""
        return make_conninfo(dsn or self.dsn, user=self.installation.role, password="${ATS_PASSWORD}")

    @property
    def rows(self) -> Installation:
        """What changes the rows of the second database."""
        other = copy(self.installation)
        other.ats = self.ats
        return other

    def install(self) -> None:
        """What a DBA does for the second database."""
        for script in ("install", "grants"):
            done = self.installation.run("sql", script, "--database", "second", "--apply", "--dsn", self.dsn)
            assert done.code == 0, done.output


@contextmanager
def second_of(installation: Installation, dsn: str) -> Iterator[Second]:
    """Have an installation of one database work on a second one too."""
    second = Second(installation, dsn)
    installation.variables["ATS_PASSWORD"] = PASSWORD
    watch = installation.document["watches"]["applications"]
    del installation.document["database"]
    installation.configure(
        databases={"first": {"dsn": "${ATS_DSN}"}, "second": {"dsn": second.login()}},
        watches={"applications": {"database": "first"}, "others": {**watch, "database": "second"}},
    )
    second.install()
    try:
        yield second
    finally:
        second.ats.close()


@pytest.fixture
def two(notify: Installation, cluster: Cluster) -> Iterator[Second]:
    """Two databases on one server."""
    notify.add("hw-1")
    with fresh_database(cluster) as dsn, second_of(notify, dsn) as second:
        second.rows.add("hw-2")
        yield second


@pytest.fixture
def with_a_server(tmp_path: Path, database: str, restartable_server: Server, hellowork: HelloWork) -> Iterator[Second]:
    """The second database on a server of its own, which may be stopped, and is stopped in the end."""
    with an_installation(tmp_path, database, "notify", hellowork) as made:
        made.install()
        made.add("hw-1")
        with psycopg.connect(restartable_server.dsn, autocommit=True) as dba:
            role, password = sql.Identifier(made.role), sql.Literal(PASSWORD)
            dba.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        with second_of(made, restartable_server.dsn) as second:
            second.rows.add("hw-2")
            yield second


@contextmanager
def copy_of(second: Second) -> Iterator[str]:
    """The DSN of a copy of the second database, on the same server."""
    name, of = f"copy_{uuid.uuid4().hex[:12]}", str(conninfo_to_dict(second.dsn)["dbname"])
    with psycopg.connect(second.installation.dsn, autocommit=True) as dba:
        second.ats.close()
        dba.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (of,))
        dba.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(of)))
        second.ats = psycopg.connect(second.dsn, autocommit=True)
        try:
            yield make_conninfo(second.dsn, dbname=name)
        finally:
            dba.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            dba.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


def leave_pending(second: Second, application_id: str, status: str) -> None:
    """Have a change in the outbox, while no daemon runs."""
    installation = second.installation
    assert installation.run("pause").code == 0
    second.rows.change(application_id, status=status)
    installation.run("run", "--once")
    assert installation.run("resume").code == 0
    assert installation.hellowork.told(application_id) == []


def test_one_that_is_down_at_the_start_keeps_no_other_back(with_a_server: Second, restartable_server: Server) -> None:
    second = with_a_server
    assert second.installation.run("run", "--once").code == 0
    leave_pending(second, "hw-2", "SEEN")
    second.ats.close()
    restartable_server.stop(signal.SIGQUIT)
    once, planned = second.installation.run("run", "--once"), second.installation.run("plan")
    assert once.code == planned.code == 1
    assert planned.stderr.startswith("others: ")
    assert second.installation.hellowork.told("hw-2") == []
    with second.installation.daemon(ready=False) as daemon:
        second.installation.change("hw-1", status="SEEN")
        calls_are(daemon, second.installation.hellowork, "hw-1", "SEEN")
        assert "watch others" in daemon.wait_until_not_ready("watch others")
        assert "watch applications" not in daemon.readiness()[1]
        lost = [event for event in daemon.events if event.get("database") == "second" and event["level"] != "debug"]
        assert {event["watch"] for event in lost} == {"others"}
        assert second.installation.hellowork.told("hw-2") == [], "its database was not recognised"
        restartable_server.start()
        daemon.wait_until_ready()
        calls_are(daemon, second.installation.hellowork, "hw-2", "SEEN")
    restartable_server.stop()


def test_of_a_copy_nothing_is_read_or_sent_while_the_other_goes_on(two: Second) -> None:
    installation = two.installation
    assert installation.run("run", "--once").code == 0
    leave_pending(two, "hw-2", "WAITED")
    with copy_of(two) as copy:
        installation.configure(databases={"second": {"dsn": two.login(copy)}})
        checked = installation.run("check", "--json")
        failed = [each for each in json.loads(checked.stdout) if each["state"] == "failed"]
        assert {(each["check"], each["database"]) for each in failed} == {("identity", "second")}
        once = installation.run("run", "--once")
        assert once.code == 1
        assert ANOTHER in once.stderr

        with psycopg.connect(copy, autocommit=True) as tests:
            tests.execute("UPDATE public.applications SET status = 'TESTED', updated_at = clock_timestamp()")
        with installation.daemon(ready=False) as daemon:
            installation.change("hw-1", status="SEEN")
            calls_are(daemon, two.installation.hellowork, "hw-1", "SEEN")
            reasons = daemon.wait_until_not_ready("watch others")
            assert ANOTHER in reasons
            assert "cdc-sync adopt-database second" in reasons
            (said,) = [event for event in daemon.events_named(ANOTHER) if event["level"] == "error"]
            assert (said["code"], said["database"]) == ("store-another-database", "second")
            assert installation.hellowork.told("hw-2") == []

            installation.configure(databases={"second": {"dsn": two.login()}})
            daemon.reload()
            daemon.wait_until_ready()
            calls_are(daemon, two.installation.hellowork, "hw-2", "WAITED")

            # And while it runs: what has been recognised is another database again.
            installation.configure(databases={"second": {"dsn": two.login(copy)}})
            daemon.reload()
            daemon.wait_until_not_ready("watch others")
            installation.change("hw-1", status="AGAIN")
            calls_are(daemon, two.installation.hellowork, "hw-1", "SEEN", "AGAIN")
            assert daemon.stop() == 0

        adopted = installation.run("adopt-database", "second", "--yes")
        assert adopted.code == 0, adopted.output
        assert installation.run("run", "--once").code == 0
        assert installation.hellowork.told("hw-2") == [("WAITED", JOB), ("TESTED", JOB)]
        installation.configure(databases={"second": {"dsn": two.login()}})


def test_a_reload_adds_a_database_and_removes_it(two: Second) -> None:
    installation = two.installation
    del installation.document["databases"], installation.document["watches"]["others"]
    installation.document["watches"]["applications"].pop("database")
    installation.configure(database={"dsn": "${ATS_DSN}"})
    with installation.daemon() as daemon:
        assert "database" not in daemon.events_named("connected")[0]
        del installation.document["database"]
        watch = installation.document["watches"]["applications"]
        installation.configure(
            databases={"first": {"dsn": "${ATS_DSN}"}, "second": {"dsn": two.login()}},
            watches={"applications": {"database": "first"}, "others": {**watch, "database": "second"}},
        )
        assert daemon.reload()["watches"].endswith("others")
        daemon.wait_until_ready()
        two.rows.change("hw-2", status="SEEN")
        installation.change("hw-1", status="SEEN")
        calls_are(daemon, two.installation.hellowork, "hw-2", "SEEN")
        calls_are(daemon, two.installation.hellowork, "hw-1", "SEEN")
        of = {watch["watch"]: watch["database"] for watch in daemon.report()["watches"]}
        assert of == {"applications": "first", "others": "second"}

        del installation.document["watches"]["others"], installation.document["databases"]["second"]
        installation.configure()
        assert "others" not in daemon.reload()["watches"]
        installation.change("hw-1", status="AGAIN")
        calls_are(daemon, two.installation.hellowork, "hw-1", "SEEN", "AGAIN")
        daemon.wait_until(lambda: not sessions_in(two), "no session of ours in the second database")


def sessions_in(second: Second) -> int:
    """How many sessions the daemon has in the second database."""
    row = second.ats.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = %s",
        (second.installation.role,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_watch_is_not_moved_to_another_database_by_mistake(two: Second) -> None:
    installation = two.installation
    assert installation.run("run", "--once").code == 0
    installation.configure(watches={"others": {"database": "first"}})
    checked = installation.run("check")
    assert checked.code == 1
    assert "first others identity: The watch others was captured from second" in checked.stdout
    with installation.daemon(ready=False) as daemon:
        reasons = daemon.wait_until_not_ready("watch others: The watch others was captured from second")
        assert "cdc-sync adopt-database first" in reasons
        installation.change("hw-1", status="SEEN")
        calls_are(daemon, two.installation.hellowork, "hw-1", "SEEN")
        daemon.stop()
    assert installation.run("adopt-database", "first", "--yes").code == 0
    assert "watch-moved" not in installation.run("run", "--once").stderr


def test_commands_ask_which_database_is_meant(two: Second) -> None:
    run = two.installation.run
    for command in (["sql", "install"], ["adopt-database"], ["sql", "install", "--database", "third"]):
        assert run(*command).code == 2
    install = run("sql", "install", "--database", "second").stdout
    assert "record_others" in install
    assert "record_applications" not in install
    assert run("sql", "verify", "--database", "second", "--apply", "--dsn", two.dsn).code == 0
    assert run("sql", "verify", "--database", "first", "--apply", "--dsn", two.dsn).code == 1
    assert run("run", "--once").code == 0
    two.rows.change("hw-2", status="SEEN")
    planned = json.loads(run("plan", "--json").stdout)
    assert [(item["watch"], item["application_id"]) for item in planned] == [("others", "hw-2")]
