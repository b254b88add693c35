"""state.backend postgres: several daemons on one store, any of which may die; and the commands beside them."""

import json
import random
import signal

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.daemon_process import DaemonProcess
from support.installation import JOB, PASSWORD, Installation
from support.recruiters import Recruiters, at_work

from cdc_sync.demo.postgres import Server

APPLICATIONS = 30
ROUNDS = 4

pytestmark = pytest.mark.timeout(300)  # many processes, one after the other


@pytest.fixture
def shared(notify: Installation) -> Installation:
    notify.share_store()
    notify.configure(hellowork={"timeout": "2s"})
    return notify


def its_store_is_empty_but_for(installation: Installation, state: str) -> int:
    row = installation.ats.execute("SELECT count(*) FROM cdc_sync.outbox WHERE state = %s", (state,)).fetchone()
    assert row is not None
    return int(row[0])


class TestOneDaemon:
    def test_commands_work_with_the_daemon_up_and_down(self, shared: Installation) -> None:
        shared.add("hw-1")
        with shared.daemon() as daemon:
            shared.change("hw-1", status="SEEN")
            shared.settle(daemon)
            (watch,) = json.loads(shared.run("status", "--json").stdout)["watches"]
            assert (watch["known"], watch["pending"]) == (2, 0)
            assert f"running (process {daemon.pid})" in shared.run("status").stdout
            assert shared.run("resend", "hw-1", "--yes").code == 0
            daemon.wait_until(lambda: len(shared.hellowork.told("hw-1")) == 2, "the second call")
            assert daemon.stop() == 0
        assert "not running" in shared.run("status").stdout
        assert shared.run("resend", "hw-1", "--yes").code == 0
        assert its_store_is_empty_but_for(shared, "pending") == 1
        shared.change("hw-1", status="HIRED")
        plan = shared.run("plan", "--json")
        assert {each["application_id"] for each in json.loads(plan.stdout)} == {"hw-1"}
        assert "acknowledged" in shared.run("explain", "hw-1").stdout
        assert shared.run("run", "--once").code == 0
        assert shared.hellowork.told("hw-1")[-1] == ("HIRED", JOB)
        assert shared.run("fuse", "show").code == 0
        assert json.loads(shared.run("dead-letters", "list", "--json").stdout) == []
        assert not shared.store.exists()

    def test_a_dry_run_shows_and_changes_nothing(self, shared: Installation) -> None:
        shared.add("hw-1")
        assert shared.run("run", "--once").code == 0
        shared.change("hw-1", status="SEEN")
        before = shared.ats.execute("SELECT * FROM cdc_sync.snapshot ORDER BY number").fetchall()
        rehearsed = shared.run("run", "--once", "--dry-run")
        assert rehearsed.code == 0
        assert "would POST" in rehearsed.stdout
        assert '"SEEN"' in rehearsed.stdout
        assert shared.ats.execute("SELECT * FROM cdc_sync.snapshot ORDER BY number").fetchall() == before
        assert its_store_is_empty_but_for(shared, "pending") == 0
        assert shared.hellowork.calls_for("hw-1") == []
        with shared.daemon() as daemon:
            shared.settle(daemon)
        assert shared.hellowork.told("hw-1") == [("SEEN", JOB)]

    def test_a_role_that_may_not_create_the_tables_is_told_who_can(self, notify: Installation) -> None:
        notify.configure(state={"backend": "postgres"})
        for arguments in (["run"], ["status"]):
            refused = notify.run(*arguments)
            assert refused.code == 1
            assert "cdc-sync sql install --store" in refused.stderr
        assert notify.run("sql", "install", "--store", "--apply", "--dsn", notify.dsn).code == 0
        refused = notify.run("run")
        assert refused.code == 1
        assert "cdc-sync sql grants --store" in refused.stderr
        assert notify.run("sql", "grants", "--store", "--apply", "--dsn", notify.dsn).code == 0
        assert notify.run("run", "--once").code == 0

    def test_uninstalling_keeps_the_store_unless_it_is_meant(self, shared: Installation) -> None:
        assert shared.run("run", "--once").code == 0
        kept = shared.run("sql", "uninstall", "--apply", "--dsn", shared.dsn)
        assert kept.code == 0
        assert "cdc-sync sql uninstall --store" in kept.stderr
        assert shared.ats.execute("SELECT to_regclass('cdc_sync.snapshot') IS NOT NULL").fetchone() == (True,)
        assert shared.run("sql", "uninstall", "--store", "--apply", "--dsn", shared.dsn).code == 0
        assert shared.ats.execute("SELECT to_regnamespace('cdc_sync')").fetchone() == (None,)


class TestSeveralDaemons:
    def test_nothing_is_lost_or_told_twice_at_once_whichever_is_killed(self, shared: Installation) -> None:
        chance = random.Random(20240502)  # noqa: S311 - the same moments in every run
        applications = [f"hw-{number}" for number in range(1, APPLICATIONS + 1)]
        shared.add_many("hw-", APPLICATIONS)
        assert shared.run("run", "--once").code == 0
        shared.hellowork.will(
            {
                "kind": "random",
                "seed": 8,
                "rate": 0.3,
                "kinds": [
                    {"kind": "delay", "seconds": 0.3},
                    {"kind": "lost_answer"},
                    {"kind": "status", "status": 503},
                ],
            }
        )
        both = [shared, shared.another("second")]
        recruiters = Recruiters(shared.dsn, applications, chance)
        with at_work(recruiters):
            for turn in range(ROUNDS):
                one, other = both[turn % 2], both[1 - turn % 2]
                with one.daemon(ready=False) as killed, other.daemon(ready=False) as survivor:
                    sent_by_either(killed, survivor, chance.randrange(5, 40))
                    killed.kill()
                    sent_by_either(survivor, survivor, 3)
                    survivor.kill()
        shared.hellowork.will_work()
        applications += recruiters.new
        with shared.daemon() as first, both[1].daemon(ready=False):
            first.wait_until(lambda: not wrong_about(shared, applications), "HelloWork to know the latest states")
            shared.settle(first)
            assert wrong_about(shared, applications) == []
            assert "NEVER" not in {status for name in applications for status, _ in shared.hellowork.told(name)}


class TestLosingTheStore:
    def test_nothing_is_sent_while_it_is_away_and_it_mends_itself(
        self, notify: Installation, restartable_server: Server
    ) -> None:
        notify.variables["STATE_DSN"] = restartable_server.dsn
        notify.configure(state={"backend": "postgres", "dsn": "${STATE_DSN}"})
        notify.add("hw-1")
        with notify.daemon() as daemon:
            restartable_server.stop(signal.SIGQUIT)
            notify.change("hw-1", status="SEEN")
            daemon.wait_for_event("The store in")
            daemon.wait_until_not_ready("The store in")
            assert notify.hellowork.calls_for("hw-1") == []
            assert "cannot be used" in notify.run("status").stderr
            restartable_server.start()
            daemon.wait_until_ready()
            notify.settle(daemon)
            assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]
            assert daemon.stop() == 0


class TestAnotherDatabase:
    @pytest.mark.parametrize("backend", ["sqlite", "postgres"])
    def test_a_copy_is_refused_until_it_is_adopted(self, notify: Installation, backend: str) -> None:
        if backend == "postgres":
            notify.share_store()
        notify.add("hw-1")
        assert notify.run("adopt-database", "--yes").stderr.startswith("cdc-sync: The store") == (backend == "sqlite")
        assert notify.run("run", "--once").code == 0
        notify.change("hw-1", status="SEEN")
        copy = copied(notify)
        try:
            refused = notify.run("run", variables=copy)
            assert refused.code == 1
            assert "cdc-sync adopt-database" in refused.stderr
            assert notify.run("adopt-database", variables=copy).code == 2  # nobody answers the question
            assert notify.run("run", "--once", variables=copy).code == 1
            assert notify.hellowork.calls == []
            adopted = notify.run("adopt-database", "--yes", variables=copy)
            assert adopted.code == 0
            assert "2 applications known" in adopted.stdout
            assert notify.run("run", "--once", variables=copy).code == 0
            assert notify.hellowork.told("hw-1") == [("SEEN", JOB)]
        finally:
            dropped(notify, copy)

    @pytest.mark.parametrize("backend", ["sqlite", "postgres"])
    def test_not_while_a_daemon_works_on_it(self, notify: Installation, backend: str) -> None:
        if backend == "postgres":
            notify.share_store()
        with notify.daemon():
            refused = notify.run("adopt-database", "--yes")
        assert refused.code == 1
        assert "Another cdc-sync" in refused.stderr or "A cdc-sync works on the store" in refused.stderr


def sent_by_either(one: DaemonProcess, other: DaemonProcess, number: int) -> None:
    def sent() -> bool:
        return sum(len(daemon.events_named("sent")) for daemon in {one, other}) >= number

    one.wait_until(sent, f"{number} calls")


def wrong_about(installation: Installation, applications: list[str]) -> list[str]:
    """The applications of which HelloWork knows something else than the database."""
    rows = installation.ats.execute("SELECT hellowork_id, status, job_id FROM public.applications").fetchall()
    database = {name: (status, job) for name, status, job in rows}
    heard = {name: (body["status"], body["jobId"]) for name, body in installation.hellowork.state.items()}
    wrong = []
    for name in applications:
        knows = heard.get(name, ("NEW", JOB) if name.startswith("hw-") else None)
        gone = knows is None or knows[0] == "deleted"
        if (knows != database[name]) if name in database else not gone:
            wrong.append(name)
    return wrong


def copied(installation: Installation) -> dict[str, str]:
    """Copy the ATS's database, whatever is in it; returns the variables that lead there."""
    source = str(conninfo_to_dict(installation.dsn)["dbname"])
    name = f"{source}_copy"
    installation.ats.close()
    with psycopg.connect(installation.dsn, dbname="postgres", autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (source,),
        )
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source)))
    installation.reconnect()
    return {"ATS_DSN": make_conninfo(installation.dsn, dbname=name, user=installation.role, password=PASSWORD)}


def dropped(installation: Installation, copy: dict[str, str]) -> None:
    name = str(conninfo_to_dict(copy["ATS_DSN"])["dbname"])
    with psycopg.connect(installation.dsn, dbname="postgres", autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
