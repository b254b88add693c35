"""What the store has of one application is removed: by a person, or long after its acknowledged deletion."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from support.daemon_process import DaemonProcess
from support.installation import Installation

from cdc_sync.store.postgres.schema import TABLES

pytestmark = pytest.mark.timeout(240)


def stored(installation: Installation, statement: str) -> list[Any]:
    """Run a statement on the store."""
    with closing(sqlite3.connect(installation.store)) as store, store:
        return store.execute(statement).fetchall()


def traces(installation: Installation, text: str) -> list[str]:
    """The tables of the store with a row that has a text."""
    return [name for name in TABLES if text in str(stored(installation, f"SELECT * FROM {name}"))]  # noqa: S608 - the store's tables


def await_deletion(installation: Installation, daemon: DaemonProcess, application_id: str) -> None:
    """Return once the deletion of an application is acknowledged."""
    query = f"SELECT deleted FROM snapshot WHERE application_id = '{application_id}'"  # noqa: S608 - of a test
    daemon.wait_until(lambda: stored(installation, query)[0][0], f"the deletion of {application_id}")


def outdate(installation: Installation) -> None:
    """Let every acknowledgement be two years old."""
    stored(installation, "UPDATE snapshot SET acknowledged_at = acknowledged_at - 63072000000")


def test_nothing_of_a_deleted_application_is_left(notify: Installation) -> None:
    notify.add("hw-gone")
    notify.add("hw-other")
    with notify.daemon() as daemon:
        notify.change("hw-gone", status="SEEN")
        notify.settle(daemon)
        notify.delete("hw-gone")
        await_deletion(notify, daemon, "hw-gone")

        done = notify.run("forget", "--application", "hw-gone", "--yes")

        assert (done.code, done.stdout, done.stderr) == (0, "hw-gone is forgotten\n", "")
        assert traces(notify, "hw-gone") == []
        assert notify.run("explain", "hw-gone").code == 1
        assert notify.run("explain", "hw-other").code == 0
        again = notify.run("forget", "--application", "hw-gone", "--yes")
        assert (again.code, again.stderr) == (1, "cdc-sync: the store has nothing of hw-gone\n")
        acted = daemon.wait_for_event("a person acted: forget")
        assert (acted["count"] > 1, "hw-gone" in json.dumps(acted)) == (True, False)
        assert daemon.stop() == 0

    assert notify.run("run", "--once").code == 0
    assert len(notify.hellowork.told("hw-gone")) == 2, "its change and its deletion"
    lines = stored(notify, "SELECT at, watch, detail FROM history WHERE event = 'forgotten'")
    ((at, watch, detail),) = lines
    assert (at > 0, watch) == (True, "")
    assert json.loads(detail).keys() == {"who", "count"}


def test_it_is_refused_while_a_row_has_the_id(notify: Installation) -> None:
    notify.configure_watch(columns={"deleted": {"sql": "t.status = 'ERASED'", "depends_on": ["status"]}})
    notify.install()
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        notify.change("hw-1", status="ERASED")
        await_deletion(notify, daemon, "hw-1")
        refused = notify.run("forget", "--application", "hw-1", "--yes")

        assert refused.code == 1
        assert "a row of applications has the id 'hw-1'" in refused.stderr

        stored(notify, "INSERT INTO watch (name) VALUES ('former')")
        stored(notify, "INSERT INTO skipped VALUES ('former', '[]', 'hw-1', 'no such label', 0)")
        done = notify.run("forget", "--application", "hw-1", "--watch", "form*", "--yes")
        assert (done.code, done.stderr) == (0, ""), "no row of these watches has it"
        assert stored(notify, "SELECT watch FROM skipped") == []
        assert notify.run("explain", "hw-1").code == 0
        assert notify.run("forget", "former", "--watch", "form*", "--yes").code == 2


def test_long_after_its_acknowledged_deletion_the_leader_forgets_it(notify: Installation) -> None:
    notify.configure_watch(columns={"deleted": {"sql": "t.status = 'ERASED'", "depends_on": ["status"]}})
    notify.install()
    for name in ("hw-alive", "hw-gone", "hw-marked"):
        notify.add(name)
    with notify.daemon() as daemon:
        notify.delete("hw-gone")
        notify.change("hw-marked", status="ERASED")
        await_deletion(notify, daemon, "hw-gone")
        await_deletion(notify, daemon, "hw-marked")
        assert daemon.stop() == 0
    assert traces(notify, "hw-gone")
    outdate(notify)

    with notify.daemon() as daemon:
        daemon.wait_until(lambda: not traces(notify, "hw-gone"), "it is forgotten")
        assert daemon.stop() == 0

    assert notify.run("run", "--once").code == 0
    assert traces(notify, "hw-alive")
    assert traces(notify, "hw-marked"), "its row is there"
    assert len(notify.hellowork.told("hw-marked")) == len(notify.hellowork.told("hw-gone")) == 1


def test_explain_says_that_an_entry_waits_for_its_watch_to_be_configured_again(notify: Installation) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        assert notify.run("pause").code == 0
        notify.change("hw-1", status="SEEN")
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 1, "the entry")
    notify.document["watches"] = {"renamed": notify.document["watches"]["applications"]}
    notify.configure()
    explained = notify.run("explain", "hw-1", "--watch", "applications").stdout
    assert "waits until its watch is configured again, or for cdc-sync forget applications" in explained
