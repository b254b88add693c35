"""Operators' commands are requests that the daemon executes; without a daemon the command executes its own."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from support.daemon_process import COMMAND, PATIENCE, DaemonProcess, environment
from support.installation import Installation
from support.waiting import wait_until

from cdc_sync.store.postgres.schema import TABLES

PAUSED = "sending is paused: calls under way end, the rest waits for `cdc-sync resume`\n"
UNANSWERED = "has not answered within 30 s. Nothing was done, and nothing will be"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, notify: Installation) -> str:
    """Each kind of store, in the installation."""
    if request.param == "postgres":
        notify.share_store()
    return str(request.param)


def look(installation: Installation, backend: str, query: str) -> list[Any]:
    """Rows of the store; `@` stands before a table's name."""
    if backend == "postgres":
        return installation.ats.execute(query.replace("@", "cdc_sync.").encode()).fetchall()
    with closing(sqlite3.connect(f"file:{installation.store}?mode=ro", uri=True)) as store:
        return store.execute(query.replace("@", "")).fetchall()


def all_but_requests(installation: Installation, backend: str) -> dict[str, list[Any]]:
    """All that the store holds, by table."""
    if backend == "postgres":
        named, columns = list(TABLES), "each::text"
    else:
        schema = look(installation, backend, "SELECT name FROM sqlite_schema WHERE type = 'table'")
        named, columns = [name for (name,) in schema], "*"
    return {
        name: look(installation, backend, f"SELECT {columns} FROM @{name} AS each")  # noqa: S608 - the store's tables
        for name in named
        if name != "request"
    }


def requests_of(installation: Installation, backend: str) -> list[str]:
    """What is asked now, in its order."""
    return [what for (what,) in look(installation, backend, "SELECT what FROM @request ORDER BY number")]


def noted(installation: Installation, backend: str, name: str) -> str:
    """One of the store's notes about itself."""
    ((value,),) = look(installation, backend, f"SELECT value FROM @about WHERE name = '{name}'")  # noqa: S608
    return str(value)


def start(installation: Installation, *arguments: str) -> "subprocess.Popen[str]":
    """Start a command."""
    line = [*COMMAND, "--config", str(installation.config), *arguments]
    variables = environment(installation.variables)
    return subprocess.Popen(line, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(command: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code and the output of a command that ends."""
    output, error = command.communicate(timeout=PATIENCE)
    return command.returncode, output + error


@contextmanager
def stopped(daemon: DaemonProcess) -> Iterator[None]:
    """The daemon is stopped meanwhile."""
    daemon.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(
    ("backend", "is_up"), [("sqlite", True), ("postgres", False)], ids=["up", "down"], indirect=["backend"]
)
def test_each_command_says_the_same_with_the_daemon_up_and_down(
    notify: Installation, backend: str, *, is_up: bool
) -> None:
    notify.configure_watch(fuse={"max_changes": 1000, "max_deletions": 1, "window": "10m"})
    for name in ("held-1", "held-2", "held-3", "dead-1", "dead-2", "sent"):
        notify.add(f"hw-{name}")
    for name in ("hw-dead-1", "hw-dead-2"):
        notify.hellowork.will({"kind": "status", "status": 400, "application_id": name})
    with notify.daemon() as daemon:
        for name in ("hw-dead-1", "hw-dead-2", "hw-sent"):
            notify.change(name, status="SEEN")
        notify.ats.execute("DELETE FROM public.applications WHERE hellowork_id LIKE 'hw-held-%'")
        daemon.wait_for_report(
            lambda report: (report["watches"][0]["held"], report["watches"][0]["dead_letters"]) == (2, 2), "the scene"
        )
        if not is_up:
            assert daemon.stop() == 0

        held = json.loads(notify.run("fuse", "show", "--json").stdout)["entries"]
        for arguments, expected in (
            (f"fuse release {held[0]['application_id']} --yes", "1 released\n"),
            ("fuse discard --yes", "1 discarded\n"),
            ("dead-letters retry hw-dead-1", "to be sent again: applications hw-dead-1\n"),
            ("dead-letters discard --all --yes", "discarded: applications hw-dead-2\n"),
            ("dead-letters retry --all --yes", "No dead letters.\n"),
            ("resend hw-sent --yes", "to be sent: applications hw-sent\n"),
            ("pause", PAUSED),
            ("resume", "sending is resumed\n"),
        ):
            done = notify.run(*arguments.split())
            assert (done.code, done.stdout, done.stderr) == (0, expected, ""), arguments
            assert requests_of(notify, backend) == [], "a command removes its request"

        assert notify.run("resume", "").code == 2, "a script's variable may be empty"
        refused = notify.run("dead-letters", "retry", "nobody")
        assert (refused.code, refused.stdout) == (1, "")
        assert refused.stderr.startswith("nobody has no dead letter that can be called; ")

    watches = notify.document["watches"]
    watches["candidates"] = watches.pop("applications")
    notify.configure()
    notify.install()
    with notify.daemon(ready=is_up) as daemon:
        if not is_up:
            daemon.kill()
        notify.configure(hellowork={"timeout": "2s"})
        forgotten = notify.run("forget", "applications", "--yes")
        assert (forgotten.code, forgotten.stdout, forgotten.stderr) == (0, "applications is forgotten\n", "")


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_command_whose_session_ends_takes_its_request_back(notify: Installation, backend: str) -> None:
    session = "FROM pg_stat_activity WHERE application_name = 'cdc-sync store' AND usename = %s AND pid <> ALL (%s)"
    with notify.daemon() as daemon:
        before = [pid for (pid,) in notify.ats.execute(f"SELECT pid {session}", [notify.role, []])]
        with stopped(daemon):
            command = start(notify, "pause")
            wait_until(lambda: requests_of(notify, backend) == ["Pause"], "its request")
            notify.ats.execute(f"SELECT pg_terminate_backend(pid) {session}", [notify.role, before])
            code, said = ended(command)
            assert (code, requests_of(notify, backend)) == (1, [])
        assert "The daemon tries again" in " ".join(said.split())
        notify.settle(daemon)


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_stopped_daemon_does_nothing_of_it_later(notify: Installation, backend: str) -> None:
    # With a shared store, its lease outlasts the deadline.
    notify.configure(hellowork={"timeout": "30s"})
    with notify.daemon() as daemon:
        with stopped(daemon):
            before = all_but_requests(notify, backend)
            killed = start(notify, "pause")
            wait_until(lambda: requests_of(notify, backend) == ["Pause"], "its request")
            killed.kill()
            ended(killed)
            began = time.monotonic()
            code, said = ended(start(notify, "pause"))
            took = time.monotonic() - began
            after, left = all_but_requests(notify, backend), requests_of(notify, backend)

        assert code == 1
        assert UNANSWERED in " ".join(said.split())
        assert took > 29
        assert left == ["Pause"], "that of the killed one"
        assert after == before, "beside the daemon nothing else is written"
        daemon.wait_until(lambda: requests_of(notify, backend) == [], "the late request to be removed")
        daemon.wait_until_ready()  # and so it is not paused
        assert notify.run("pause").stdout == PAUSED


def test_when_the_daemon_is_killed_the_command_does_it_itself(notify: Installation, backend: str) -> None:
    notify.configure(hellowork={"timeout": "2s"})
    with notify.daemon() as daemon:
        with stopped(daemon):
            command = start(notify, "pause")
            wait_until(lambda: requests_of(notify, backend) == ["Pause"], "its request")
            daemon.kill()
        assert ended(command) == (0, PAUSED)
    assert noted(notify, backend, "paused") == '[""]'


def test_a_request_that_the_store_refuses_was_never_asked(notify: Installation) -> None:
    notify.share_store()
    with notify.daemon():
        notify.ats.execute(f"REVOKE ALL ON cdc_sync.request FROM {notify.role}".encode())
        refused = notify.run("pause")

    assert refused.code == 1
    assert "permission denied for table request" in refused.stderr
    assert "Nobody knows" not in refused.stderr
