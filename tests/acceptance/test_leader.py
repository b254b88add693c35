"""One daemon of a store leads, the others stand by: who leads is said everywhere, and a standby takes over.

All daemons here are on this host; `test_leader_on_hosts.py` has hosts of their own, and paths that are cut.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.daemon_process import DaemonProcess
from support.installation import JOB, Installation, plainly
from support.numbered_work import NumberedWork, older_after_newer, overlaps
from support.postgres import Cluster, fresh_database
from support.waiting import wait_until

BACKENDS = ("sqlite", "postgres")

SOON = 20.0
"""Seconds for a start or a take-over by a busy machine, after a clean stop or from a process that is known to be gone.

A daemon that waited for the end of a lease would take 31, with `hellowork.timeout` of ten.
"""


APPLICATIONS = 8


@pytest.fixture(params=BACKENDS)
def stored(request: pytest.FixtureRequest, notify: Installation) -> Installation:
    """An installation with a store of each kind, and a lease that is long beside what a test waits."""
    if request.param == "postgres":
        notify.share_store()
    notify.configure(hellowork={"timeout": "10s"})
    notify.add("hw-1")
    return notify


@pytest.fixture
def apart(notify: Installation, cluster: Cluster) -> Iterator[Installation]:
    """The same, with its store in a database of its own: sessions there are the store's alone."""
    with fresh_database(cluster) as dsn:
        ats, notify.dsn = notify.dsn, dsn
        notify.share_store()
        notify.dsn = ats
        dbname = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        notify.variables["STATE_DSN"] = make_conninfo(notify.variables["ATS_DSN"], dbname=dbname)
        notify.configure(state={"dsn": "${STATE_DSN}"}, hellowork={"timeout": "1s"})
        yield notify


def beside(installation: Installation, name: str = "second") -> Installation:
    """Another daemon of the same store."""
    other = installation.another(name)
    other.configure(state={"path": str(installation.store)})
    return other


def leader_of(installation: Installation) -> dict[str, object] | None:
    """Who leads, as `cdc-sync status --json` has it."""
    found: dict[str, object] | None = json.loads(installation.run("status", "--json").stdout)["leader"]
    return found


def told(installation: Installation, status: str) -> bool:
    return installation.hellowork.told("hw-1")[-1:] == [(status, JOB)]


def test_who_leads_is_said_everywhere_and_a_standby_takes_over_after_a_stop_and_after_a_kill(
    stored: Installation,
) -> None:
    other = beside(stored)
    before = datetime.now(UTC)
    assert leader_of_nobody(stored)
    with stored.daemon() as first, other.daemon(ready=False) as second:
        leads_as_everybody_says(stored, first, second, before)
        once = other.run("run", "--once")
        assert once.code == 1
        assert f"process {first.pid} on " in plainly(once)
        stored.change("hw-1", status="SEEN")
        stored.settle(first)
        assert second.is_standby()

        assert first.stop() == 0
        stored.change("hw-1", status="HIRED")
        second.wait_until(second.leads, "it to lead after a clean stop", within=SOON)
        stored.settle(second)
        assert told(stored, "HIRED")
        assert metric(second) == 1
        with stored.daemon(ready=False) as again:
            assert f"process {second.pid} on " in again.wait_until_standby()
            second.kill()
            stored.change("hw-1", status="LEFT")
            again.wait_until(lambda: told(stored, "LEFT"), "the call of the one that saw a kill", within=SOON)
            again.wait_until_ready()
            assert not again.events_named("cannot take over")
            assert (leader_of(stored) or {})["process"] == again.pid
            stored.settle(again)
            again.kill()
    # Nobody is waited for: a lease is longer.
    stored.change("hw-1", status="BACK")
    with stored.daemon(ready=False) as alone:
        alone.wait_until(lambda: told(stored, "BACK"), "the call of a single daemon after a kill", within=SOON)
        assert alone.stop() == 0
    assert leader_of(stored) is None
    assert stored.hellowork.told("hw-1") == [(status, JOB) for status in ("SEEN", "HIRED", "LEFT", "BACK")]


def leads_as_everybody_says(
    stored: Installation, first: DaemonProcess, second: DaemonProcess, before: datetime
) -> None:
    said = second.wait_until_standby()
    leader = leader_of(stored)
    assert leader is not None
    assert leader["process"] == first.pid
    assert before.replace(microsecond=0) <= datetime.fromisoformat(str(leader["since"])) <= datetime.now(UTC)
    shown = f"process {first.pid} on {leader['host']}"
    assert said.startswith("standby\n")
    assert shown in said
    for daemon in (first, second):
        assert daemon.report()["leader"] == leader
        assert shown in plain(daemon.get("/")[1])
    assert shown in " ".join(stored.run("status").stdout.split())
    assert (metric(first), metric(second)) == (1, 0)
    assert shown in str(second.wait_for_event("standing by"))
    assert len(second.events_named("standing by")) == 1
    assert second.report()["conditions"] == []


def test_a_leader_whose_session_is_broken_while_it_calls_loses_nothing(apart: Installation) -> None:
    work = NumberedWork(apart, APPLICATIONS)
    standby = beside(apart)
    with apart.daemon() as first, standby.daemon(ready=False) as second:
        second.wait_until_standby()
        for turn in range(3):
            work.step()
            first.wait_until(lambda: work.is_known_to(apart.hellowork), "the numbers so far")
            break_session_while_calls_run(apart, work)
            first.wait_until(lambda: losses(first, second) > turn, "the leader to notice")  # noqa: B023 - at once
            work.step()
        first.wait_until(lambda: work.is_known_to(apart.hellowork), "every change")
        assert first.is_running  # it has started again, in the same process
    assert older_after_newer(apart.hellowork.calls) == []
    assert overlaps(apart.hellowork.calls) == []


def test_a_call_that_had_begun_counts_although_its_endpoint_is_paused_and_its_row_went_back(
    stored: Installation,
) -> None:
    """HelloWork has HIRED, and nobody here knows: the state that was acknowledged must be sent once more."""
    stored.add("hw-2")
    stored.configure(hellowork={"retry": {"first": "200ms", "max": "1s"}})
    with stored.daemon() as daemon:
        stored.change("hw-1", status="SEEN")
        stored.settle(daemon)
        stored.hellowork.will({"kind": "slow_body", "seconds": 60, "application_id": "hw-1"})
        stored.change("hw-1", status="HIRED")
        daemon.wait_until(lambda: status_at_hellowork(stored) == "HIRED", "the call to have begun")
        stored.hellowork.will({"kind": "status", "status": 401, "application_id": "hw-2", "times": None})
        stored.change("hw-2", status="SEEN")
        daemon.wait_for_report(lambda report: report["endpoints"][0]["mode"] == "paused", "the refusal")
        daemon.kill()
    stored.change("hw-1", status="SEEN")
    stored.hellowork.will_work()
    with stored.daemon(ready=False) as daemon:
        daemon.wait_until(lambda: status_at_hellowork(stored) == "SEEN", "the acknowledged state once more")
        stored.settle(daemon)
        assert daemon.stop() == 0
    assert [status for status, _ in stored.hellowork.told("hw-1")][-1] == "SEEN"


def leader_of_nobody(installation: Installation) -> bool:
    """Whether `status` says that nobody leads; before the first start there may be no store yet."""
    status = installation.run("status", "--json")
    return status.code != 0 or json.loads(status.stdout)["leader"] is None


def plain(page: str) -> str:
    """A page's text, without its elements."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def metric(daemon: DaemonProcess) -> float:
    (value,) = re.findall(r"^cdc_sync_leading ([0-9.]+)$", daemon.get("/metrics")[1], re.MULTILINE)
    return float(value)


def status_at_hellowork(installation: Installation) -> str | None:
    return installation.hellowork.state.get("hw-1", {}).get("status")


def losses(*daemons: DaemonProcess) -> int:
    return sum(len(daemon.events_named("lost the lead")) for daemon in daemons)


def break_session_while_calls_run(installation: Installation, work: NumberedWork) -> None:
    installation.hellowork.will({"kind": "delay", "seconds": 0.7, "times": 2 * APPLICATIONS})
    seen = len(installation.hellowork.calls)
    work.step()
    wait_until(lambda: len(installation.hellowork.calls) > seen, "calls under way")
    assert end_sessions_with_a_lock(installation)


def end_sessions_with_a_lock(installation: Installation) -> int:
    """End the sessions in the store's database that hold an advisory lock: the leader's; returns their number."""
    with psycopg.connect(installation.dsn, autocommit=True) as dba:
        state = psycopg.conninfo.conninfo_to_dict(installation.variables["STATE_DSN"])["dbname"]
        ended = dba.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
            " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = %s",
            (state,),
        )
        return len(ended.fetchall())
