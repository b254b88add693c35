"""Rows on which an expression of the configuration fails: named with the reason, and no others wait for them."""

import json
from typing import Any

import pytest
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation

FAILING = {
    "zero": "division by zero",
    "where": "division by zero",
    "id": "division by zero",
    "raised": "no source for",
}
"""What stands in `notes` where an expression fails, and what PostgreSQL says."""

FRAGILE: dict[str, Any] = {
    "where": {
        "sql": "t.notes IS DISTINCT FROM 'where' OR 1 / (length(t.notes) - 5) > 0",
        "depends_on": ["notes"],
    },
    "columns": {
        "application_id": {
            "sql": "CASE t.notes WHEN 'id' THEN (1 / (length(t.notes) - 2))::text ELSE t.hellowork_id END",
            "depends_on": ["notes", "hellowork_id"],
        },
        "status": {
            "sql": "CASE t.notes WHEN 'zero' THEN (1 / (length(t.notes) - 4))::text ELSE t.status END",
            "depends_on": ["notes", "status"],
        },
        "source": {
            "sql": "CASE t.notes WHEN 'raised' THEN public.source_of(t.notes) END",
            "depends_on": ["notes"],
        },
    },
}

RAISING = """
CREATE FUNCTION public.source_of(text) RETURNS text LANGUAGE plpgsql STABLE AS
$$BEGIN RAISE EXCEPTION 'no source for "%"', $1; END$$
"""


@pytest.fixture
def fragile(notify: Installation) -> Installation:
    """An installation whose expressions fail on some rows, among 300 others."""
    notify.ats.execute(RAISING)
    notify.add_many("hw-other-", 300)
    for notes in FAILING:
        notify.add(f"hw-early-{notes}", notes=notes)
        notify.add(f"hw-late-{notes}")
    notify.add_many("hw-more-", 300)
    notify.configure_watch(**FRAGILE)
    notify.install()
    return notify


def reasons(installation: Installation) -> dict[str, str]:
    """The reasons that `status` lists, by the row's key."""
    rows = json.loads(installation.run("status", "--json").stdout)["skipped_rows"]
    return {row["key"][0]: row["reason"] for row in rows}


def keys(installation: Installation, prefix: str) -> dict[str, str]:
    """The keys of the rows that fail, by what is wrong with them."""
    found = installation.ats.execute("SELECT id::text, hellowork_id FROM public.applications").fetchall()
    return {id_.removeprefix(prefix): key for key, id_ in found if id_.startswith(prefix)}


def wait_for_skipped(daemon: DaemonProcess, number: int) -> None:
    """Return when so many rows are listed."""
    daemon.wait_for_report(lambda report: report["watches"][0]["skipped"] == number, f"{number} rows skipped")


def wait_for_deletions(installation: Installation, daemon: DaemonProcess, *ids: str) -> None:
    """Return when HelloWork has been sent that these are gone, and nothing else of them."""
    daemon.wait_until(
        lambda: all(installation.hellowork.told(id_) == [("deleted", JOB)] for id_ in ids), f"deletions of {ids}"
    )


def test_bad_rows_hold_up_no_others_and_are_sent_once_they_are_corrected(fragile: Installation) -> None:
    with fragile.daemon() as daemon:
        wait_for_skipped(daemon, len(FAILING))
        for notes in FAILING:
            fragile.change(f"hw-late-{notes}", notes=notes, status="UNREADABLE")
        fragile.change("hw-other-7", status="CHANGED")
        fragile.delete("hw-other-8")
        fragile.delete("hw-more-9")
        fragile.settle(daemon)
        wait_for_skipped(daemon, 2 * len(FAILING))
        wait_for_deletions(fragile, daemon, "hw-other-8", "hw-more-9")
        assert fragile.hellowork.told("hw-other-7") == [("CHANGED", JOB)]

        found = reasons(fragile)
        for prefix in ("hw-early-", "hw-late-"):
            for notes, key in keys(fragile, prefix).items():
                assert found[key].startswith(f"it cannot be read: {FAILING[notes]}"), found[key]
                assert f'"{notes}"' not in found[key], "a row's values are nobody's business"
        assert "its row cannot be reported: it cannot be read" in fragile.run("explain", "hw-late-zero").stdout
        skipped = [event for event in daemon.events if "cannot be read" in event["event"]]
        assert len(skipped) == 2 * len(FAILING), "each is said once"

        for notes in FAILING:
            for when in ("early", "late"):
                assert fragile.hellowork.calls_for(f"hw-{when}-{notes}") == [], "neither a status nor a deletion"
                fragile.change(f"hw-{when}-{notes}", notes=None, status="CORRECTED")
        fragile.settle(daemon)
        wait_for_skipped(daemon, 0)
        for notes in FAILING:
            for when in ("early", "late"):
                assert fragile.hellowork.told(f"hw-{when}-{notes}") == [("CORRECTED", JOB)]
