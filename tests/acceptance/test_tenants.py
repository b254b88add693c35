"""Templates: a watch for each tenant's schema, while tenants are created, renamed, dropped and broken."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.hellowork_server import HelloWork
from support.installation import JOB, Installation, a_watch

from cdc_sync.config import load
from cdc_sync.pipeline.discovery import discover
from cdc_sync.source import scripts

FOUND, GONE = "found tenants", "tenants are gone"
LOOKED_WITHIN = 60.0


def follow_customers(installation: Installation, **sections: Any) -> None:
    """Configure a template of the schemas `tenant_…` beside the watch `applications`, in the same mode."""
    template = {**a_watch(installation.mode), "table": "applications", "for_each": {"schemas": r"tenant\_%"}}
    installation.configure(watches={"customers": {**template, **sections}})


def create(installation: Installation, schema: str, *application_ids: str) -> None:
    """A customer's schema and table, as the vendor creates them: the daemon's role may read."""
    name, role = sql.Identifier(schema), sql.Identifier(installation.role)
    installation.ats.execute(
        sql.SQL(
            "CREATE SCHEMA {0}; CREATE TABLE {0}.applications (LIKE public.applications INCLUDING ALL);"
            "GRANT USAGE ON SCHEMA {0} TO {1}; GRANT SELECT ON {0}.applications TO {1}"
        ).format(name, role)
    )
    for application_id in application_ids:
        add(installation, schema, application_id)


def add(installation: Installation, schema: str, application_id: str, status: str = "NEW") -> None:
    installation.ats.execute(
        sql.SQL(
            "INSERT INTO {}.applications (hellowork_id, status, job_id, created_at, updated_at)"
            " VALUES ({}, {}, {}, now(), clock_timestamp())"
        ).format(sql.Identifier(schema), application_id, status, JOB)
    )


def change(installation: Installation, schema: str, application_id: str, status: str) -> None:
    update = sql.SQL("UPDATE {}.applications SET status = {}, updated_at = clock_timestamp() WHERE hellowork_id = {}")
    assert installation.ats.execute(update.format(sql.Identifier(schema), status, application_id)).rowcount == 1


def install(installation: Installation) -> None:
    """The triggers and privileges of every tenant there is."""
    config = load(installation.config, {**installation.variables, "ATS_DSN": installation.dsn})
    expanded = asyncio.run(discover(config)).config
    with psycopg.connect(installation.dsn, autocommit=True) as dba:
        dba.execute(scripts.install(expanded).encode())
        dba.execute(scripts.grants(expanded, installation.role).encode())


def reload(daemon: DaemonProcess) -> dict[str, Any]:
    """Have it read its configuration again, and look for tenants; what it says then."""
    name = "the configuration was read again and is in use"
    before = len(daemon.events_named(name))
    daemon.send_signal(signal.SIGHUP)
    return daemon.wait_for_event(name, before + 1)


def told(daemon: DaemonProcess, hellowork: HelloWork, application_id: str, *statuses: str) -> None:
    """Wait until HelloWork has been told these statuses, and no other."""
    expected = [(status, JOB) for status in statuses]
    daemon.wait_until(lambda: hellowork.told(application_id) == expected, f"{application_id}: {expected}")


def statuses(hellowork: HelloWork, *application_ids: str) -> list[Sequence[str]]:
    return [[status for status, _ in hellowork.told(each)] for each in application_ids]


def test_tenants_come_are_renamed_and_go_while_the_daemon_runs(installation: Installation) -> None:
    hellowork = installation.hellowork
    follow_customers(installation)
    create(installation, "tenant_1", "a")
    create(installation, "tenant_2", "b")
    create(installation, "tenant_3", "c")
    create(installation, "other", "x")
    install(installation)
    with installation.daemon() as daemon:
        (started,) = daemon.events_named("started")
        assert started["watches"] == "applications,customers@tenant_1,customers@tenant_2,customers@tenant_3"
        for schema, application_id in (("tenant_1", "a"), ("tenant_2", "b"), ("tenant_3", "c")):
            change(installation, schema, application_id, "SEEN")
            told(daemon, hellowork, application_id, "SEEN")

        create(installation, "tenant_4", "d")
        installation.ats.execute("ALTER SCHEMA tenant_2 RENAME TO tenant_5; DROP SCHEMA tenant_3 CASCADE")
        install(installation)
        found = daemon.wait_for_event(FOUND, within=LOOKED_WITHIN)
        gone = daemon.wait_for_event(GONE)
        assert found["watches"] == "customers@tenant_4,customers@tenant_5"
        assert (gone["watches"], gone["level"]) == ("customers@tenant_2,customers@tenant_3", "warning")
        assert "cdc-sync forget" in gone["event"]
        daemon.wait_until_ready()
        change(installation, "tenant_4", "d", "SEEN")
        told(daemon, hellowork, "d", "SEEN")
        change(installation, "tenant_5", "b", "HIRED")
        told(daemon, hellowork, "b", "SEEN", "HIRED")

        # What comes back goes on with what is known: nothing is sent for rows that are as they were.
        installation.ats.execute("ALTER SCHEMA tenant_5 RENAME TO tenant_2")
        create(installation, "tenant_3")
        add(installation, "tenant_3", "c", "SEEN")
        install(installation)
        changed = reload(daemon)
        assert (changed["begun"], changed["ended"]) == ("customers@tenant_2,customers@tenant_3", "customers@tenant_5")
        daemon.wait_until_ready()
        change(installation, "tenant_3", "c", "HIRED")
        told(daemon, hellowork, "c", "SEEN", "HIRED")
        change(installation, "tenant_2", "b", "LEFT")
        daemon.wait_until(lambda: hellowork.told("b")[-1:] == [("LEFT", JOB)], "b's last status")
        installation.settle(daemon)
        assert statuses(hellowork, "a", "c", "d", "x") == [["SEEN"], ["SEEN", "HIRED"], ["SEEN"], []]
        assert "deleted" not in statuses(hellowork, "b")[0]
        assert daemon.stop() == 0
    finished = installation.run("forget", "customers@tenant_5", "--yes")
    assert (finished.code, finished.stdout) == (0, "customers@tenant_5 is forgotten\n")
