"""Settings that change how the daemon works, each seen from outside."""

import json
import signal

from psycopg import sql
from support.installation import JOB, Installation


def test_without_an_admin_address_nobody_listens(notify: Installation) -> None:
    notify.configure(admin={"listen": None})
    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("watching")
        assert daemon.readiness()[0] == 0
        assert "admin" not in daemon.wait_for_event("started")
        assert daemon.stop() == 0


def test_an_interrupted_run_once_says_nothing_odd(notify: Installation) -> None:
    assert notify.run("run", "--once").code == 0
    notify.change("hw-sentinel", status="SEEN")
    notify.hellowork.will({"kind": "hang", "seconds": 60})
    with notify.daemon("--once", ready=False) as process:
        process.wait_until(lambda: notify.hellowork.calls, "the call")
        assert process.stop(signal.SIGINT) == 130
        assert process.logged.count("\n") == len(process.events)
    assert notify.run("run", "--once").code == 0
    assert notify.hellowork.told("hw-sentinel") == [("SEEN", JOB)]


def is_notify(installation: Installation) -> bool:
    return str(installation.document["watches"]["applications"]["capture"]["mode"]) == "notify"


def test_a_database_that_writes_dates_its_own_way(installation: Installation) -> None:
    """Settings of the database are those of each session in it, the daemon's as well."""
    installation.share_store()
    for setting in (
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Jakarta'",
        "intervalstyle = 'sql_standard'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
        "standard_conforming_strings = off",
    ):
        name = sql.Identifier(installation.ats.info.dbname)
        installation.ats.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(name))
    installation.add("hw-1")
    installation.add("hw-2")
    with installation.daemon() as daemon:
        installation.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: installation.hellowork.told("hw-1") == [("SEEN", JOB)], "the call")
        installation.settle(daemon)
        assert len(installation.hellowork.calls) == 2, "that, and the last one to settle"
        checked = json.loads(installation.run("check", "--json").stdout)
        assert [finding for finding in checked if finding["state"] == "failed"] == []
        for command in (["status"], ["plan"], ["explain", "hw-1"], ["sql", "verify", "--apply"]):
            if command[0] != "sql" or is_notify(installation):
                assert installation.run(*command).code == 0
