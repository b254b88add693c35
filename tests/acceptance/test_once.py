"""`run --once` and `run --dry-run`: for a cron job, and for a first careful look."""

import sqlite3
from contextlib import closing

from support.installation import Installation
from support.sessions import rows


def test_one_run_catches_up_delivers_and_ends(installation: Installation) -> None:
    for name in ("changed", "deleted", "soft", "still"):
        installation.add(f"hw-{name}")
    first = installation.run("run", "--once")
    assert first.code == 0
    assert "5 applications known, 0 calls" in first.stderr
    assert first.stdout == "0 sent, 0 to try again, 0 given up; 0 pending, 0 held, 0 dead letters\n"
    assert not installation.hellowork.calls
    again = installation.run("run", "--once")
    assert (again.code, again.stdout) == (first.code, first.stdout)
    installation.change("hw-changed", status="SEEN")
    installation.delete("hw-deleted")
    installation.change("hw-soft", deleted_at="2024-05-01Z")
    installation.add("hw-new")
    third = installation.run("run", "--once")
    assert third.code == 0
    assert third.stdout.startswith("4 sent, 0 to try again")
    assert {name: body["status"] for name, body in installation.hellowork.state.items()} == {
        "hw-changed": "SEEN",
        "hw-deleted": "deleted",
        "hw-soft": "deleted",
        "hw-new": "NEW",
    }
    assert installation.run("run", "--once").stdout.startswith("0 sent")
    assert len(installation.hellowork.calls) == 4


def test_a_database_that_cannot_be_reached_is_named_whatever_the_log_says(notify: Installation) -> None:
    notify.configure(log={"level": "error"})

    failed = notify.run("run", "--once", variables={"ATS_DSN": "host=127.0.0.1 port=1 user=nobody dbname=none"})

    assert failed.code == 1
    assert "127.0.0.1" in failed.stderr


def test_a_dry_run_shows_the_calls_and_changes_nothing(notify: Installation) -> None:
    for name in ("changed", "deleted"):
        notify.add(f"hw-{name}")
    fresh = notify.run("run", "--once", "--dry-run")
    assert fresh.code == 0
    assert "would POST" not in fresh.stdout
    assert not notify.store.exists()
    assert notify.run("run", "--once").code == 0
    notify.change("hw-changed", status="SEEN")
    notify.delete("hw-deleted")
    log, store = _change_log(notify), _dump(notify)
    for _ in range(2):
        shown = notify.run("run", "--once", "--dry-run")
        assert shown.code == 0
        assert f"would POST {notify.hellowork.url}/v1/applications/hw-changed/status" in shown.stdout
        assert '"status": "SEEN"' in shown.stdout
        assert f"would POST {notify.hellowork.url}/v1/applications/hw-deleted/status" in shown.stdout
        assert '"status": "deleted"' in shown.stdout
        assert shown.stdout.count("would POST") == 2
        assert "2 would be sent" in shown.stdout
        assert '"event": "sent"' not in shown.stderr
        assert _change_log(notify) == log
        assert _dump(notify) == store
    assert not notify.hellowork.calls
    assert len(log) == 2
    assert notify.run("run", "--once").stdout.startswith("2 sent")


def _change_log(notify: Installation) -> list[tuple[object, ...]]:
    return rows(notify.ats, "SELECT ctid, xmin, * FROM cdc_sync.changes ORDER BY changed_at")


def _dump(installation: Installation) -> list[str]:
    with closing(sqlite3.connect(installation.store)) as store:
        return list(store.iterdump())
