"""Templates: a watch for each tenant's schema, while tenants are created, renamed, dropped and broken."""

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from psycopg import sql
from support.daemon_process import RELOADED, DaemonProcess
from support.hellowork_server import HelloWork
from support.installation import JOB, SENTINEL, Installation, a_watch, calls_are, plainly

FOUND, GONE = "found tenants", "tenants are gone"
LOOKED_WITHIN = 60.0


@pytest.fixture
def vendor(notify: Installation) -> Installation:
    """An installation that follows the schemas `tenant_…` too."""
    follow_customers(notify)
    return notify


def follow_customers(installation: Installation, **sections: Any) -> None:
    """Configure a template of the schemas `tenant_…` beside the watch `applications`, in the same mode."""
    template = {**a_watch(installation.mode), "table": "applications", "for_each": {"schemas": r"tenant\_%"}}
    if installation.mode == "poll":
        template["capture"]["sweep"] = "1s"
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
        installation.add(application_id, table=f"{schema}.applications")


def install(installation: Installation) -> None:
    """The triggers of every tenant there is."""
    for script in ("install", "grants"):
        done = installation.run("sql", script, "--apply", "--dsn", installation.dsn)
        assert done.code == 0, done.output


def reload(daemon: DaemonProcess) -> dict[str, str]:
    """Have it read its configuration again, and look for tenants; which watches come and go by that."""
    before = watched(daemon)
    daemon.reload()
    after = watched(daemon)
    return {"begun": ",".join(sorted(after - before)), "ended": ",".join(sorted(before - after))}


def watched(daemon: DaemonProcess) -> set[str]:
    """The watches by the log."""
    found = set[str]()
    for event in daemon.events:
        names = set(str(event.get("watches", "")).split(","))
        if event["event"] in {"started", RELOADED}:
            found = names
        elif event["event"] == FOUND:
            found |= names
        elif event["event"].startswith(GONE):
            found -= names
    return found


def statuses(hellowork: HelloWork, *application_ids: str) -> list[list[str]]:
    """What HelloWork was told of applications."""
    return [[status for status, _ in hellowork.told(each)] for each in application_ids]


def test_tenants_come_are_renamed_and_go_while_the_daemon_runs(vendor: Installation) -> None:
    hellowork = vendor.hellowork
    follow_customers(vendor, hellowork={"headers": {"X-Vendor": "v"}})  # so each is an account
    create(vendor, "tenant_1", "a")
    create(vendor, "tenant_2", "b")
    create(vendor, "tenant_3", "c")
    create(vendor, "other", "x")
    install(vendor)
    with vendor.daemon() as daemon:
        (started,) = daemon.events_named("started")
        assert started["watches"] == "applications,customers@tenant_1,customers@tenant_2,customers@tenant_3"
        for schema, application_id in (("tenant_1", "a"), ("tenant_2", "b"), ("tenant_3", "c")):
            vendor.change(application_id, table=f"{schema}.applications", status="SEEN")
            calls_are(daemon, hellowork, application_id, "SEEN")

        with vendor.ats.transaction():  # a look between two would find a part of it
            create(vendor, "tenant_4", "d")
            vendor.ats.execute("ALTER SCHEMA tenant_2 RENAME TO tenant_5; DROP SCHEMA tenant_3 CASCADE")
        install(vendor)
        come, went = "customers@tenant_4,customers@tenant_5", "customers@tenant_2,customers@tenant_3"
        # By itself.
        assert daemon.wait_for_event(FOUND, within=LOOKED_WITHIN)["watches"] == come
        gone = daemon.wait_for_event(GONE)
        assert (gone["watches"], gone["level"]) == (went, "warning")
        daemon.wait_until_ready()
        vendor.change("d", table="tenant_4.applications", status="SEEN")
        calls_are(daemon, hellowork, "d", "SEEN")
        vendor.change("b", table="tenant_5.applications", status="HIRED")
        calls_are(daemon, hellowork, "b", "SEEN", "HIRED")

        # What comes back goes on with what is known: nothing is sent for rows that are as they were.
        vendor.ats.execute("ALTER SCHEMA tenant_5 RENAME TO tenant_2")
        create(vendor, "tenant_3")
        vendor.add("c", "SEEN", table="tenant_3.applications")
        install(vendor)
        changed = reload(daemon)
        assert (changed["begun"], changed["ended"]) == ("customers@tenant_2,customers@tenant_3", "customers@tenant_5")
        daemon.wait_until_ready()
        vendor.change("c", table="tenant_3.applications", status="HIRED")
        calls_are(daemon, hellowork, "c", "SEEN", "HIRED")
        vendor.change("b", table="tenant_2.applications", status="LEFT")
        daemon.wait_until(lambda: hellowork.told("b")[-1:] == [("LEFT", JOB)], "b's last status")
        vendor.settle(daemon)
        assert statuses(hellowork, "a", "c", "d", "x") == [["SEEN"], ["SEEN", "HIRED"], ["SEEN"], []]
        assert "deleted" not in statuses(hellowork, "b")[0]
        other = vendor.another("second")
        other.configure(state={"path": str(vendor.store)})
        with other.daemon(ready=False) as standby:
            standby.wait_until_standby()
            assert {each["watch"] for each in standby.report()["watches"] if each["configured"]} == watched(daemon)
        assert "customers@tenant_5 is no longer configured" in vendor.run("status").stdout
        assert daemon.stop() == 0
    assert vendor.run("forget", "--account", "customers@tenant_1", "--yes").code == 2
    finished = vendor.run("forget", "customers@tenant_5", "--yes")
    assert (finished.code, finished.stdout) == (0, "customers@tenant_5 is forgotten\n")


def test_a_tenant_that_comes_back_does_not_wait_until_the_date_of_a_wrong_clock(vendor: Installation) -> None:
    create(vendor, "tenant_1", "a")
    install(vendor)
    with vendor.daemon() as daemon:
        vendor.hellowork.will({"kind": "status", "status": 503, "times": None})
        vendor.change("a", table="tenant_1.applications", status="SEEN")
        daemon.wait_until(lambda: vendor.hellowork.calls_for("a"), "the first call")
        assert daemon.stop() == 0
    with closing(sqlite3.connect(vendor.store)) as store, store:
        assert store.execute("UPDATE outbox SET due_at = due_at + 31536000000").rowcount == 1
    vendor.hellowork.will_work()
    vendor.ats.execute("ALTER SCHEMA tenant_1 RENAME TO elsewhere")
    with vendor.daemon() as daemon:
        vendor.ats.execute("ALTER SCHEMA elsewhere RENAME TO tenant_1")
        daemon.wait_for_event(FOUND, within=LOOKED_WITHIN)
        daemon.wait_until(lambda: vendor.hellowork.told("a"), "the call")


def test_a_schema_that_is_dropped_or_renamed_sends_no_deletion(vendor: Installation) -> None:
    """Not even of a row that was deleted a moment before: it could not be looked at again."""
    hellowork = vendor.hellowork
    follow_customers(vendor, deletion_grace="10s")
    for number in (1, 2, 3, 4):
        create(vendor, f"tenant_{number}", *(f"{number}-{each}" for each in range(5)))
    install(vendor)
    with vendor.daemon() as daemon:
        for number in (1, 2, 3):
            vendor.delete(f"{number}-0", table=f"tenant_{number}.applications")
        daemon.wait_for_report(
            lambda report: sum(watch["suspected_deletions"] for watch in report["watches"]) == 3, "the suspicions"
        )
        vendor.ats.execute("DROP SCHEMA tenant_1 CASCADE")
        vendor.ats.execute("ALTER SCHEMA tenant_2 RENAME TO former")
        vendor.ats.execute("ALTER TABLE tenant_3.applications RENAME TO former")
        lost = {"customers@tenant_1", "customers@tenant_2", "customers@tenant_3"}
        daemon.wait_until(
            lambda: lost <= {event.get("watch") for event in daemon.events if event["level"] == "error"}, "their errors"
        )
        assert reload(daemon)["ended"] == ",".join(sorted(lost))
        daemon.wait_until_ready()
        # Whatever the others do, and for longer than the grace.
        vendor.delete("4-0", table="tenant_4.applications")
        calls_are(daemon, hellowork, "4-0", "deleted")
        assert {call.path.rpartition("/v1/applications/")[2] for call in hellowork.calls} == {"4-0/status"}
        assert daemon.stop() == 0
    # Nor at the next start.
    with vendor.daemon() as daemon:
        vendor.change(SENTINEL, status="SEEN")
        calls_are(daemon, hellowork, SENTINEL, "SEEN")
        (left,) = daemon.events_named("the store knows a watch")
        assert set(left["watch"].split(", ")) == lost
        assert left["known"] >= 5
        told_of = {call.path.rpartition("/v1/applications/")[2] for call in hellowork.calls}
        assert told_of == {"4-0/status", f"{SENTINEL}/status"}


def exchange(installation: Installation) -> None:
    """Two customers' schemas exchange their names."""
    with installation.ats.transaction():
        for old, new in (("tenant_1", "aside"), ("tenant_2", "tenant_1"), ("aside", "tenant_2")):
            rename = sql.SQL("ALTER SCHEMA {} RENAME TO {}")
            installation.ats.execute(rename.format(sql.Identifier(old), sql.Identifier(new)))


OTHERS = "is the one that the watch customers@tenant_{} was captured from"


def waits_for_its_own_tables(vendor: Installation, daemon: DaemonProcess) -> None:
    """Of exchanged schemas nothing is sent, and their watches say why."""
    for mine, other in ((1, 2), (2, 1)):
        said = daemon.wait_for_event(OTHERS.format(other))
        assert (said["watch"], said["code"], said["level"]) == (f"customers@tenant_{mine}", "table-of-another", "error")
        daemon.wait_until_not_ready(OTHERS.format(other))
    # The other watches go on, for longer than the grace.
    for status in ("SEEN", "HIRED"):
        vendor.change(SENTINEL, status=status)
        daemon.wait_until(lambda: vendor.hellowork.told(SENTINEL)[-1:] == [(status, JOB)], "the call")  # noqa: B023
    assert statuses(vendor.hellowork, "a", "b", "c") == [[], [], []]


def test_schemas_that_exchanged_their_names_wait_for_a_person(vendor: Installation) -> None:
    follow_customers(vendor, deletion_grace="100ms")
    create(vendor, "tenant_1", "a", "c")
    create(vendor, "tenant_2", "b")
    install(vendor)
    with vendor.daemon() as daemon:
        assert daemon.stop() == 0
    exchange(vendor)
    assert OTHERS.format(2) in plainly(vendor.run("plan"))
    assert vendor.run("run", "--once").code == 1
    with vendor.daemon(ready=False) as daemon:
        waits_for_its_own_tables(vendor, daemon)

        exchange(vendor)
        daemon.wait_until_ready()
        vendor.change("a", table="tenant_1.applications", status="SEEN")
        calls_are(daemon, vendor.hellowork, "a", "SEEN")
        assert statuses(vendor.hellowork, "b", "c") == [[], []]


def test_the_deletions_that_are_found_in_a_restored_table_are_held(vendor: Installation) -> None:
    """A dump that is restored gives the table another oid: what is missing in it may have been lost."""
    follow_customers(vendor, deletion_grace="100ms")
    create(vendor, "tenant_1", "a", "b", "c")
    install(vendor)
    with vendor.daemon() as daemon:
        assert daemon.stop() == 0
    with vendor.ats.transaction():
        vendor.ats.execute("DROP SCHEMA tenant_1 CASCADE")
        create(vendor, "tenant_1", "a", "b")
    install(vendor)
    with vendor.daemon(ready=False) as daemon:
        said = daemon.wait_for_event("the table is another one than before")
        assert (said["watch"], said["level"]) == ("customers@tenant_1", "warning")
        daemon.wait_for_report(lambda report: sum(watch["held"] for watch in report["watches"]) == 1, "the held one")
        vendor.change("a", table="tenant_1.applications", status="SEEN")
        calls_are(daemon, vendor.hellowork, "a", "SEEN")
        assert statuses(vendor.hellowork, "b", "c") == [[], []]

        # From now on it is the tenant's table: a deletion is one again.
        vendor.delete("b", table="tenant_1.applications")
        calls_are(daemon, vendor.hellowork, "b", "deleted")
        assert statuses(vendor.hellowork, "c") == [[]]
