"""The ATS's database is away, comes back, or is not as configured: said once, with the remedy, until it works."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.daemon_process import DaemonProcess
from support.installation import JOB, PASSWORD, Installation
from support.standby import standby_of

from cdc_sync.demo.postgres import Server


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_a_database_that_is_down_at_the_start_is_waited_for(
    on_own_server: Installation, restartable_server: Server
) -> None:
    on_own_server.ats.close()
    restartable_server.stop()
    with on_own_server.daemon(ready=False) as daemon:
        daemon.wait_until_not_ready("cannot be reached")
        daemon.wait_until(lambda: daemon.get("/healthz")[0] == 200, "health")
        # The store has what is wrong a moment later.
        daemon.wait_until(lambda: "cannot be reached" in on_own_server.run("status").stdout, "the status")
        assert on_own_server.run("status").code == 0
        restartable_server.start()
        daemon.wait_until_ready()
        warnings = daemon.events_named("cannot be reached")
        assert {warning["level"] for warning in warnings} == {"warning"}
        # A server that is starting up is another reason than one that is not there.
        assert len({warning["event"] for warning in warnings}) == len(warnings), "each reason is logged once"
        on_own_server.reconnect()
        on_own_server.settle(daemon)


@pytest.mark.parametrize(
    ("mode", "stop"),
    [("notify", signal.SIGQUIT), ("notify", signal.SIGINT), ("poll", signal.SIGINT)],
    ids=["notify-crash", "notify-in order", "poll-in order"],
    indirect=["mode"],
)
def test_a_server_that_restarts_is_caught_up_with(
    on_own_server: Installation, restartable_server: Server, stop: signal.Signals
) -> None:
    for number in range(3):
        on_own_server.add(f"hw-{number}")
    with on_own_server.daemon() as daemon:
        on_own_server.change("hw-0", status="BEFORE")
        on_own_server.ats.close()
        restartable_server.stop(stop)
        daemon.wait_until_not_ready("cannot be reached")
        restartable_server.start()
        on_own_server.reconnect()
        on_own_server.change("hw-1", status="AFTER")
        daemon.wait_until_ready()
        on_own_server.settle(daemon)
        assert on_own_server.hellowork.told("hw-0") == [("BEFORE", JOB)]
        assert on_own_server.hellowork.told("hw-1") == [("AFTER", JOB)]
        assert on_own_server.hellowork.calls_for("hw-2") == []
        assert daemon.stop() == 0


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_a_server_in_recovery_is_said_and_waited_for_until_it_is_the_primary(
    on_own_server: Installation, restartable_server: Server
) -> None:
    """A failover: the name leads to the standby before anybody has promoted it."""
    on_own_server.add("hw-1")
    primary = on_own_server.ats
    with standby_of(restartable_server) as standby:
        there = conninfo_to_dict(standby.dsn)
        here = conninfo_to_dict(restartable_server.dsn)
        on_own_server.variables["ATS_DSN"] = make_conninfo(
            on_own_server.variables["ATS_DSN"],
            host=f"{here['host']},{there['host']}",
            port=f"{here.get('port', 5432)},{there['port']}",
        )
        with on_own_server.daemon() as daemon:
            on_own_server.change("hw-1", status="BEFORE")
            on_own_server.settle(daemon)
            standby.catch_up()
            primary.close()
            restartable_server.stop(signal.SIGQUIT)
            assert "target_session_attrs=read-write" in daemon.wait_until_not_ready("it is a standby")
            assert daemon.get("/healthz")[0] == 200
            standby.promote()
            on_own_server.ats = psycopg.connect(standby.dsn, autocommit=True)
            daemon.wait_until_ready()
            on_own_server.change("hw-1", status="AFTER")
            on_own_server.settle(daemon)
            assert on_own_server.hellowork.told("hw-1") == [("BEFORE", JOB), ("AFTER", JOB)]
            assert len(daemon.events_named("it is a standby")) == 1
            assert daemon.stop() == 0
        on_own_server.ats.close()
        restartable_server.start()  # the roles are dropped there
        on_own_server.reconnect()


def test_connections_that_are_ended_are_made_anew(installation: Installation) -> None:
    installation.add("hw-1")
    with installation.daemon() as daemon:
        for number in range(3):
            # Not what has connected: a try may fail behind that.
            watching = len(daemon.events_named("watching"))
            ended = installation.ats.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (installation.role,)
            ).rowcount
            assert ended >= 2
            installation.change("hw-1", status=f"STEP {number}")
            daemon.wait_for_event("watching", watching + 1)
            installation.settle(daemon)
            assert installation.hellowork.told("hw-1")[-1] == (f"STEP {number}", JOB)
        assert len(installation.hellowork.told("hw-1")) == 3


def test_a_lost_lock_is_noticed_before_somebody_else_takes_it_for_long(installation: Installation) -> None:
    with installation.daemon() as daemon:
        connected = len(daemon.events_named("connected"))
        ended = installation.ats.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).rowcount
        assert ended == 1
        daemon.wait_for_event("connected", connected + 1, within=12)  # a proof of life comes after 15 s


def test_what_is_missing_is_named_with_its_remedy_while_other_watches_go_on(poll: Installation) -> None:
    watch = poll.document["watches"]["applications"]
    columns = watch["columns"]
    poll.ats.execute("CREATE TABLE public.locked AS SELECT * FROM public.applications")
    poll.configure(
        watches={
            "tableless": {**watch, "table": "public.aplications"},
            "columnless": {**watch, "columns": {**columns, "status": "statut"}},
            "keyless": {**watch, "key": ["nr"]},
            "ill_typed": {**watch, "columns": {**columns, "created": "notes"}},
            "unprivileged": {**watch, "table": "public.locked"},
        }
    )
    role = sql.Identifier(poll.role)
    poll.ats.execute(sql.SQL("GRANT SELECT (notes) ON public.applications TO {}").format(role))
    with poll.daemon(ready=False) as daemon:
        daemon.wait_until(lambda: len({e["watch"] for e in daemon.events if e["level"] == "error"}) == 5, "five errors")
        said = {event["watch"]: event["event"] for event in daemon.events if event["level"] == "error"}
        assert "public.aplications does not exist" in said["tableless"]
        assert "public.applications" in said["tableless"]  # a near miss
        assert "statut" in said["columnless"]
        assert "Correct" in said["columnless"]
        assert "nr" in said["keyless"]
        assert "columns.created must be a date or a timestamp" in said["ill_typed"]
        assert "sql grants" in said["unprivileged"]
        daemon.wait_for_event("watching")
        poll.settle(daemon)  # the watch that works goes on
        _, reasons = daemon.readiness()
        for name in said:
            assert f"watch {name}: " in reasons
        assert "watch applications" not in reasons
        assert daemon.stop() == 0


def test_what_is_repaired_is_noticed_and_until_then_said_once(notify: Installation) -> None:
    watch = notify.document["watches"]["applications"]
    columns = {**watch["columns"], "application_id": {"sql": "'other-' || t.hellowork_id"}, "job_id": "poste"}
    capture = {"mode": "poll", "watermark": "updated_at", "poll_interval": "100ms"}
    notify.configure(watches={"columnless": {**watch, "columns": columns, "capture": capture}})
    # The other watch can connect and listen, and may not read the log.
    role = sql.Identifier(notify.role)
    notify.ats.execute(sql.SQL("REVOKE SELECT ON cdc_sync.changes FROM {}").format(role))
    with notify.daemon(ready=False) as daemon:
        assert "sql grants" in daemon.wait_until_not_ready("permission denied")
        assert "Correct columns" in daemon.wait_until_not_ready("poste")
        daemon.wait_for_event("permission denied", 2)  # the second one is for the eyes of whoever debugs
        assert daemon.readiness()[0] == 503
        assert not daemon.events_named("watching")
        # In one transaction: between two, the column is there and may not be read, which is another error.
        with notify.ats.transaction():
            notify.ats.execute("ALTER TABLE public.applications ADD poste text DEFAULT 'job-1'")
            notify.ats.execute(sql.SQL("GRANT SELECT (poste) ON public.applications TO {}").format(role))
        notify.grant()
        daemon.wait_until_ready()
        daemon.wait_for_event("watching again", 2)
        told = sorted(event["watch"] for event in daemon.events if event["level"] in ("error", "warning"))
        assert told == ["applications", "columnless"]
        notify.settle(daemon)


@contextmanager
def passwords_asked_for(server: Server, method: str) -> Iterator[None]:
    """Let the server ask everybody but its superuser for a password."""
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all postgres trust\nlocal all all {method}\n")
    _reload(server)
    try:
        yield
    finally:
        rules.write_text(before)
        _reload(server)


def _reload(server: Server) -> None:
    with psycopg.connect(server.dsn) as connection:
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_a_wrong_password_is_said_with_its_remedy_and_tried_again(
    on_own_server: Installation, restartable_server: Server
) -> None:
    wrong = make_conninfo(on_own_server.dsn, user=on_own_server.role, password="another-planted-password")
    right = on_own_server.variables["ATS_DSN"]
    with passwords_asked_for(restartable_server, "scram-sha-256"):
        on_own_server.variables["ATS_DSN"] = wrong
        with on_own_server.daemon(ready=False) as daemon:
            said = daemon.wait_for_event("refuses the login")
            assert said["level"] == "error"
            assert "password authentication failed" in said["event"]
            assert "database.dsn" in said["event"]
            assert "another-planted-password" not in daemon.logged
            daemon.wait_until_not_ready("refuses the login")
            once = on_own_server.run("plan")
            assert once.code == 1
            assert "refuses the login" in once.stderr
            assert "another-planted-password" not in once.output
            _set_password(on_own_server, "another-planted-password")
            daemon.wait_until_ready()
            on_own_server.settle(daemon)
            assert daemon.stop() == 0
        on_own_server.variables["ATS_DSN"] = right
        _set_password(on_own_server, PASSWORD)
        with on_own_server.daemon() as daemon:
            on_own_server.settle(daemon)


def _set_password(installation: Installation, password: str) -> None:
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
    installation.ats.execute(statement.format(sql.Identifier(installation.role), sql.Literal(password)))


def test_without_triggers_sweeps_alone_find_changes_until_they_are_installed(notify: Installation) -> None:
    notify.uninstall()
    notify.add("hw-1")
    notify.configure_watch(capture={"sweep": "500ms"})
    with notify.daemon(ready=False) as daemon:
        missing = daemon.wait_for_event("capture.mode is notify, but")
        assert missing["level"] == "error"
        assert "sweeps find, every 500ms. Let the DBA run what `cdc-sync sql install` prints" in missing["event"]
        daemon.wait_until_not_ready("sql install")
        notify.change("hw-1", status="SWEPT")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SWEPT", JOB)], "what the sweep finds")
        # It is counted after the call has begun.
        daemon.wait_for_report(
            lambda report: report["watches"][0]["sweep_repairs"].get("status", 0) >= 1, "the sweep's repair"
        )
        daemon.wait_until(lambda: "triggers" in notify.run("status").stdout, "the status")
        notify.install()
        daemon.wait_until_ready()
        before = daemon.report()["watches"][0]["sweep_repairs"]
        notify.change("hw-1", status="TOLD")
        notify.settle(daemon)
        assert notify.hellowork.told("hw-1")[-1] == ("TOLD", JOB)
        assert daemon.report()["watches"][0]["sweep_repairs"] == before
        _still_works_when_they_are_disabled(notify, daemon)


def _still_works_when_they_are_disabled(notify: Installation, daemon: DaemonProcess) -> None:
    notify.ats.execute("ALTER TABLE public.applications DISABLE TRIGGER USER")
    daemon.wait_until_not_ready("disabled")
    notify.change("hw-1", status="SWEPT AGAIN")
    daemon.wait_until(lambda: notify.hellowork.told("hw-1")[-1] == ("SWEPT AGAIN", JOB), "what the sweep finds")
    notify.ats.execute("ALTER TABLE public.applications ENABLE TRIGGER USER")
    daemon.wait_until_ready()


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_another_database_than_the_stores_own_is_refused(
    installation: Installation, restartable_server: Server
) -> None:
    with installation.daemon() as daemon:
        assert daemon.stop() == 0
    copy = make_conninfo(restartable_server.dsn, user=installation.role)
    with psycopg.connect(restartable_server.dsn, autocommit=True) as dba:
        dba.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(installation.role)))
        dba.execute(
            "INSERT INTO public.applications (hellowork_id, status, job_id, created_at)"
            " VALUES ('hw-1', 'NEW', 'job-1', now())"
        )
    installation.variables["ATS_DSN"] = copy
    with installation.daemon(ready=False) as daemon:
        assert daemon.wait() == 1
        assert "belongs to the database" in daemon.logged
        assert "state.path" in daemon.logged
        assert "Traceback" not in daemon.logged
    once = installation.run("run", "--once")
    assert once.code == 1
    assert "belongs to the database" in once.stderr
    assert not installation.hellowork.calls
