"""Two watches whose calls have the same credentials: an application of both is one for HelloWork."""

import json
from typing import Any

import pytest
from psycopg import sql
from support.daemon_process import DaemonProcess
from support.installation import JOB, SENTINEL, Installation, a_watch

ARCHIVE = "public.applications_archive"
COLUMNS = "hellowork_id, status, job_id, created_at, updated_at, source, deleted_at, notes"


def add_archive(ats: Installation, **sections: Any) -> None:
    """Make the archive's table, and a watch of its own."""
    ats.ats.execute("CREATE TABLE public.applications_archive (LIKE public.applications INCLUDING ALL)")
    ats.configure(watches={"archive": {**a_watch(ats.mode), "table": ARCHIVE, **sections}})
    ats.install()


@pytest.fixture
def archiving(bare: Installation) -> Installation:
    """An installation with an archive, in each mode."""
    add_archive(bare)
    return bare


def move(ats: Installation, application_id: str, there: str = "applications_archive", **changes: str) -> None:
    """Move a row between the two tables, in one transaction."""
    here = "applications" if there == "applications_archive" else "applications_archive"
    names = {"here": sql.Identifier(here), "there": sql.Identifier(there), "columns": sql.SQL(COLUMNS)}
    with ats.ats.transaction():
        query = "INSERT INTO {there} ({columns}) SELECT {columns} FROM {here} WHERE hellowork_id = %s"
        ats.ats.execute(sql.SQL(query).format(**names), [application_id])
        ats.ats.execute(sql.SQL("DELETE FROM {here} WHERE hellowork_id = %s").format(**names), [application_id])
        for column, value in changes.items():
            change = sql.SQL("UPDATE {there} SET {column} = %s, updated_at = now() WHERE hellowork_id = %s")
            ats.ats.execute(change.format(**names, column=sql.Identifier(column)), [value, application_id])


def watches_of(ats: Installation, application_id: str) -> list[str]:
    """The watches that know an application."""
    explained = ats.run("explain", application_id, "--json")
    return [story["watch"] for story in json.loads(explained.stdout)] if explained.stdout.strip() else []


def wait_until_owned(ats: Installation, daemon: DaemonProcess, application_id: str, watch: str) -> None:
    """Wait until only this watch knows an application, and nothing is suspected or pending."""
    daemon.wait_until(lambda: watches_of(ats, application_id) == [watch], f"{watch} has {application_id} alone")
    ats.settle(daemon)


def events_of(ats: Installation, application_id: str) -> list[str]:
    """The names of all that happened to an application."""
    stories = json.loads(ats.run("explain", application_id, "--json").stdout)
    return [event["event"] for story in stories for event in story["events"]]


def test_a_move_causes_no_call_and_what_changes_with_it_one(archiving: Installation) -> None:
    archiving.add("hw-1", "interview")
    with archiving.daemon() as daemon:
        move(archiving, "hw-1")
        wait_until_owned(archiving, daemon, "hw-1", "archive")
        assert archiving.hellowork.told("hw-1") == []
        explained = archiving.run("explain", "hw-1").stdout
        assert "moved: watch applications; by deletion; reason the table of the watch archive has a row" in explained
        move(archiving, "hw-1", "applications")
        wait_until_owned(archiving, daemon, "hw-1", "applications")
        assert archiving.hellowork.told("hw-1") == []

        # What changes with the move is sent once.
        move(archiving, "hw-1", status="hired")
        wait_until_owned(archiving, daemon, "hw-1", "archive")
        assert archiving.hellowork.told("hw-1") == [("hired", JOB)]
        archiving.ats.execute("DELETE FROM applications_archive WHERE hellowork_id = 'hw-1'")
        daemon.wait_until(lambda: len(archiving.hellowork.told("hw-1")) == 2, "the deletion")
        archiving.settle(daemon)
        assert archiving.hellowork.told("hw-1") == [("hired", JOB), ("deleted", JOB)]


def settle_closed(ats: Installation, daemon: DaemonProcess, mark: str) -> None:
    """Return when the watch of closed rows has captured all that was committed before."""
    ats.change("hw-closed", status=mark)
    daemon.wait_until(lambda: ats.hellowork.told("hw-closed")[-1:] == [(mark, JOB)], f"the call for {mark}")


def test_two_watches_of_one_table_pass_an_application_to_each_other(bare: Installation) -> None:
    closed = {"sql": "t.notes IS NOT NULL", "depends_on": ["notes"]}
    bare.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
    bare.configure(watches={"closed": {**a_watch(bare.mode), "where": closed}})
    bare.install()
    bare.add("hw-1", "interview")
    bare.add("hw-closed", notes="closed")
    told: list[tuple[str, str]] = []
    with bare.daemon() as daemon:
        for notes, status in [
            ("closed", "hired"),
            (None, "interview"),  # what its first watch reported last
            ("closed", "interview"),
            (None, "hired"),  # and what its second one did
        ]:
            told += [(status, JOB)] * (told[-1:] != [(status, JOB)])
            bare.change("hw-1", notes=notes, status=status)
            settle_closed(bare, daemon, f"after {status}, {notes}")
            bare.settle(daemon)
            assert bare.hellowork.told("hw-1") == told


@pytest.fixture
def beside_archive(bare: Installation) -> Installation:
    """The archive has a row that was hired, the watched table one with the same id that is out of scope."""
    bare.configure_watch(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]})
    add_archive(bare)
    bare.add("hw-1", "hired", table=ARCHIVE)
    bare.add("hw-1", "interview", notes="closed")
    return bare


def test_the_archives_state_is_sent_again_once_the_newer_row_has_left_the_scope(beside_archive: Installation) -> None:
    with beside_archive.daemon() as daemon:
        beside_archive.change("hw-1", notes=None)
        beside_archive.settle(daemon)
        assert beside_archive.hellowork.told("hw-1") == [("interview", JOB)]
        beside_archive.change("hw-1", notes="closed")
        beside_archive.settle(daemon)
        beside_archive.settle(daemon)
        assert beside_archive.hellowork.told("hw-1") == [("interview", JOB), ("hired", JOB)]


def test_a_call_that_is_under_way_when_its_row_leaves_the_scope_is_the_last_but_one(
    beside_archive: Installation,
) -> None:
    with beside_archive.daemon() as daemon:
        beside_archive.hellowork.will({"kind": "delay", "application_id": "hw-1", "seconds": 2})
        beside_archive.change("hw-1", notes=None)
        daemon.wait_until(lambda: beside_archive.hellowork.calls_for("hw-1"), "the call")
        beside_archive.change("hw-1", notes="closed")
        daemon.wait_until(lambda: len(beside_archive.hellowork.told("hw-1")) == 2, "the call after it")
        assert beside_archive.hellowork.told("hw-1") == [("interview", JOB), ("hired", JOB)]


def test_a_state_that_another_watch_has_sent_is_not_sent_again(beside_archive: Installation) -> None:
    with beside_archive.daemon() as daemon:
        beside_archive.change("hw-1", notes=None)
        beside_archive.settle(daemon)
        beside_archive.change("hw-1", table=ARCHIVE, status="interview")
        beside_archive.settle(daemon)
        assert beside_archive.hellowork.told("hw-1") == [("interview", JOB)]


IGNORING = {"map": {"interview": "interview", "hired": "hired", "rejected": "rejected"}, "unmapped": "ignore"}


@pytest.mark.parametrize(
    ("then", "calls"),
    [
        ({"status": "interview"}, []),  # a mis-click
        ({"status": "rejected"}, ["rejected"]),
        ({"deleted_at": "2024-01-01"}, ["deleted"]),
    ],
    ids=["undone", "changed", "deleted"],
)
@pytest.mark.parametrize("label", ["hired", "draft"])
def test_what_hellowork_knows_goes_with_the_row(
    bare: Installation, label: str, then: dict[str, str], calls: list[str]
) -> None:
    """It moves with a status that has to settle, or with a label that causes no call."""
    add_archive(bare, settle={"hired": "1h"}, status=IGNORING, first_status="adopt")
    bare.add("hw-1", "interview")
    with bare.daemon() as daemon:
        bare.settle(daemon)
        move(bare, "hw-1", status=label)
        if label == "hired":
            daemon.wait_until(lambda: "moved" in events_of(bare, "hw-1"), "the former watch to leave it")
        bare.change("hw-1", table=ARCHIVE, **then)
        bare.settle(daemon)
        daemon.wait_until(lambda: len(bare.hellowork.told("hw-1")) >= len(calls), "the calls")
        bare.settle(daemon)
        assert bare.hellowork.told("hw-1") == [(status, JOB) for status in calls]


def test_what_is_undone_as_it_moves_causes_no_call(archiving: Installation) -> None:
    archiving.configure_watch(settle={"hired": "1h"})
    archiving.add("hw-1", "interview")
    with archiving.daemon() as daemon:
        archiving.settle(daemon)
        archiving.change("hw-1", status="hired")
        archiving.settle(daemon, pending=1)
        move(archiving, "hw-1", status="interview")
        wait_until_owned(archiving, daemon, "hw-1", "archive")
        assert archiving.hellowork.told("hw-1") == []


def test_a_call_that_is_under_way_as_its_row_moves_is_the_only_one(archiving: Installation) -> None:
    archiving.configure_watch(capture={"sweep": "1s"})
    archiving.add("hw-1", "interview")
    with archiving.daemon() as daemon:
        archiving.settle(daemon)
        archiving.hellowork.will({"kind": "delay", "application_id": "hw-1", "seconds": 2})
        archiving.change("hw-1", status="hired")
        daemon.wait_until(lambda: archiving.hellowork.calls_for("hw-1"), "the call")
        move(archiving, "hw-1")
        daemon.wait_until(lambda: archiving.hellowork.told("hw-1"), "its answer")
        wait_until_owned(archiving, daemon, "hw-1", "archive")
        assert archiving.hellowork.told("hw-1") == [("hired", JOB)]


def test_a_copy_that_is_marked_as_deleted_ends_no_application_of_the_archive(archiving: Installation) -> None:
    archiving.add("hw-1", "hired", table=ARCHIVE)
    with archiving.daemon() as daemon:
        archiving.settle(daemon)
        archiving.add("hw-1", "interview", deleted_at="2024-01-01")
        daemon.wait_until(lambda: "moved" in events_of(archiving, "hw-1"), "the answer")
        archiving.settle(daemon)
        assert archiving.hellowork.told("hw-1") == []


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_two_live_rows_in_the_same_state_are_left_alone(beside_archive: Installation) -> None:
    beside_archive.configure_watch(capture={"sweep": "1s"})
    with beside_archive.daemon() as daemon:
        beside_archive.change("hw-1", notes=None, status="hired")
        beside_archive.settle(daemon)
        before = len(daemon.events_named("swept"))
        beside_archive.sweeps(daemon, 4)
        assert not any(sweep["repaired"] for sweep in daemon.events_named("swept")[before:])


def test_of_two_live_rows_the_newest_change_is_sent_once(archiving: Installation) -> None:
    capture = {"sweep": "1s"}
    archiving.configure_watch(settle={"hired": "6s"}, capture=capture)
    archiving.configure(watches={"archive": {"capture": capture}})
    archiving.add("hw-1", "interview")
    archiving.add("hw-1", "interview", table=ARCHIVE)
    with archiving.daemon() as daemon:
        archiving.change("hw-1", status="hired")
        daemon.wait_until(lambda: events_of(archiving, "hw-1").count("queued") == 1, "the older one")
        archiving.change("hw-1", table=ARCHIVE, status="rejected")
        daemon.wait_until(lambda: archiving.hellowork.told("hw-1"), "the call")
        archiving.sweeps(daemon, 4)
        assert archiving.hellowork.told("hw-1") == [("rejected", JOB)]
        events = events_of(archiving, "hw-1")
        assert (events.count("queued"), events.count("moved")) == (2, 1)
        # When the newer one goes, the older one counts again.
        archiving.delete("hw-1", table=ARCHIVE)
        daemon.wait_until(lambda: len(archiving.hellowork.told("hw-1")) == 2, "the state of the row that is left")
        assert archiving.hellowork.told("hw-1") == [("rejected", JOB), ("hired", JOB)]


def test_what_a_soft_deletion_left_to_the_archive_comes_back_without_a_call(archiving: Installation) -> None:
    archiving.add("hw-1", "interview")
    with archiving.daemon() as daemon:
        with archiving.ats.transaction():
            copy = "INSERT INTO applications_archive SELECT * FROM applications WHERE hellowork_id = 'hw-1'"
            archiving.ats.execute(copy)
            archiving.change("hw-1", deleted_at="2024-01-01")
        archiving.settle(daemon)
        with archiving.ats.transaction():
            archiving.delete("hw-1", table=ARCHIVE)
            archiving.change("hw-1", deleted_at=None)
        archiving.settle(daemon)
        archiving.change("hw-1", status="hired")
        archiving.settle(daemon)
        assert archiving.hellowork.told("hw-1") == [("hired", JOB)]


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_what_was_never_sent_is_sent_after_a_move_to_a_watch_that_adopts(bare: Installation) -> None:
    add_archive(bare, first_status="adopt")
    bare.configure_watch(settle={"NEW": "1h"})
    with bare.daemon() as daemon:
        bare.add("hw-1", "NEW")
        bare.settle(daemon, pending=1)
        move(bare, "hw-1")
        daemon.wait_until(lambda: bare.hellowork.told("hw-1") == [("NEW", JOB)], "the call")


def test_a_deletion_waits_while_the_archive_cannot_be_read(archiving: Installation) -> None:
    archiving.add("hw-1", "interview")
    with archiving.daemon() as daemon:
        archiving.settle(daemon)
        archiving.ats.execute("ALTER TABLE applications_archive RENAME TO elsewhere")
        archiving.delete("hw-1")
        daemon.wait_for_event("deletions wait: an application may have moved to the table of the watch archive")
        daemon.wait_until_not_ready("deletions applications")
        daemon.wait_until(lambda: "deletions wait" in archiving.run("explain", "hw-1").stdout, "the explanation")
        # The watch itself goes on meanwhile, and waits no longer for a row that is back.
        archiving.change(SENTINEL, status="seen")
        archiving.add("hw-1", "interview")
        daemon.wait_for_event("suspected deletions are decided")
        assert archiving.hellowork.told("hw-1") == []
        archiving.delete("hw-1")
        archiving.ats.execute("ALTER TABLE elsewhere RENAME TO applications_archive")
        daemon.wait_until(lambda: archiving.hellowork.told("hw-1"), "the deletion")
        daemon.wait_until_ready()
        assert archiving.hellowork.told("hw-1") == [("deleted", JOB)]


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_an_archive_that_cannot_hold_every_id_is_asked_all_the_same(bare: Installation) -> None:
    """Its ids are numbers, and a third table has URLs: the one statement for both fails on an id that is no number."""
    bare.ats.execute(
        "CREATE TABLE public.applications_archive (LIKE public.applications INCLUDING ALL);"
        "ALTER TABLE public.applications_archive ALTER hellowork_id TYPE bigint USING NULL;"
        "CREATE TABLE public.applications_by_url (LIKE public.applications INCLUDING ALL)"
    )
    by_url = {**a_watch(bare.mode), "table": "public.applications_by_url"}
    by_url["columns"] = {**by_url["columns"], "application_id": None, "status_url": "status_api_url"}
    bare.configure(watches={"archive": {**a_watch(bare.mode), "table": ARCHIVE}, "by_url": by_url})
    bare.install()
    for id_ in ("1001", "1002", "hw-3", "hw-4"):
        bare.add(id_, "interview")
    numbers = COLUMNS.replace("hellowork_id", "hellowork_id::bigint", 1)
    url = f"status_api_url, {COLUMNS}".replace("hellowork_id", "NULL", 1)
    with bare.daemon() as daemon:
        with bare.ats.transaction():
            bare.ats.execute(
                f"INSERT INTO applications_archive ({COLUMNS}) SELECT {numbers}"  # noqa: S608 - our own names
                " FROM applications WHERE hellowork_id = '1001'"
            )
            bare.ats.execute(
                f"INSERT INTO applications_by_url (status_api_url, {COLUMNS})"  # noqa: S608 - our own names
                f" SELECT '{bare.hellowork.url}/v1/applications/hw-3/status' AS {url} FROM applications"
                " WHERE hellowork_id = 'hw-3'"
            )
            bare.ats.execute("DELETE FROM applications WHERE hellowork_id <> %s", [SENTINEL])
        told = bare.hellowork.told
        daemon.wait_until(lambda: told("1002") == told("hw-4") == [("deleted", JOB)], "both deletions")
        daemon.wait_until(lambda: watches_of(bare, "1001") == ["archive"], "1001 in the archive")
        daemon.wait_until(lambda: watches_of(bare, "hw-3") == ["by_url"], "hw-3 in the other table")
        assert (told("1001"), told("hw-3")) == ([], [])


@pytest.mark.parametrize("mode", ["notify"], indirect=True)
def test_sweeps_do_not_repair_what_left_to_a_row_without_a_call(bare: Installation) -> None:
    add_archive(bare, status={"unmapped": "ignore"})
    bare.configure_watch(capture={"sweep": "1s"})
    bare.add("hw-1", "interview")
    with bare.daemon() as daemon:
        move(bare, "hw-1")
        bare.settle(daemon)
        bare.sweeps(daemon, 3)
        assert not any(sweep["repaired"] for sweep in daemon.events_named("swept"))


@pytest.mark.parametrize("mode", ["poll"], indirect=True)
def test_a_row_that_the_archive_ignores_keeps_the_application_until_it_is_deleted(bare: Installation) -> None:
    add_archive(bare, status={"map": {"interview": "interview", "hired": "hired"}, "unmapped": "ignore"})
    bare.add("hw-1", "interview")
    with bare.daemon() as daemon:
        bare.settle(daemon)
        move(bare, "hw-1", status="archived")
        daemon.wait_until(lambda: "suspected" in events_of(bare, "hw-1"), "the suspicion")
        bare.settle(daemon)
        bare.sweeps(daemon)
        assert watches_of(bare, "hw-1") == ["applications"]
        assert bare.hellowork.told("hw-1") == []
        bare.ats.execute("DELETE FROM applications_archive WHERE hellowork_id = 'hw-1'")
        daemon.wait_until(lambda: bare.hellowork.told("hw-1"), "the deletion")
        assert bare.hellowork.told("hw-1") == [("deleted", JOB)]
