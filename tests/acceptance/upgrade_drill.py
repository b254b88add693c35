"""The upgrade as docs/operations.md has it, from daemons of 0.1.0 and 0.2.0 at work, and the way back.

Before it there are acknowledged, pending, held and dead entries; rows change while no daemon runs. Nothing is lost and
nothing unreal is sent, there and back. `make upgrade-drill` runs it: the old programs come from this repository.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from old_stores.programs import EARLIER, check_out, run_old
from support.applications import delete, insert, update
from support.daemon_process import COMMAND, DaemonProcess, free_port, run_to_end
from support.dumping import dump, restore
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork, hellowork
from support.postgres import Cluster, fresh_database

from cdc_sync.store.statements import Database

APPLICATIONS = 40
MASS = range(20, 40)
GONE = "gone"
# A test has many daemons, in turn.
pytestmark = pytest.mark.timeout(600)

_OURS = "--schema=cdc_sync"
_TRIGGERS_OWN = [f"--exclude-table=cdc_sync.{name}*" for name in ("changes", "bell", "missed")]


@dataclass
class Ats:
    """The ATS, and what was ever true in it.

    Attributes:
        states: of each application, in order.
    """

    session: psycopg.Connection
    states: dict[str, list[str]] = field(default_factory=dict)

    def apply(self, *ids: int) -> None:
        for id_ in ids:
            insert(self.session, id_, f"a{id_}", "applied")
            self.states[f"a{id_}"] = ["applied"]

    def move(self, status: str, *ids: int) -> None:
        update(self.session, *ids, status=status)
        for id_ in ids:
            self.states[f"a{id_}"].append(status)

    def remove(self, id_: int) -> None:
        delete(self.session, id_)
        self.states[f"a{id_}"].append(GONE)


@dataclass
class Site:
    """One installation: its files, its databases, HelloWork, and the program of an earlier version.

    Attributes:
        asks: whether the earlier version asks before a release.
    """

    folder: Path
    backend: Database
    dsn: str
    state_dsn: str
    old: Mapping[str, str]
    api: HelloWork
    ats: Ats
    asks: bool
    port: int = field(default_factory=free_port)

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write_config(self) -> None:
        places = {
            "sqlite": {"path": str(self.state / "state.db")},
            "postgres": {"backend": "postgres", "dsn": self.state_dsn},
        }
        columns = {
            "application_id": "hellowork_id",
            "status": "status",
            "job_id": "job_id",
            "created": "created_at",
            "event_date": "updated_at",
        }
        watch = {
            "table": "public.applications",
            "key": ["id"],
            "columns": columns,
            "deletion_grace": "1s",
            "fuse": {"max_changes": 12},
            "capture": {"mode": "notify", "sweep": "1h", "drain_interval": "1s"},
        }
        document = {
            "database": {"dsn": self.dsn},
            "hellowork": {"base_url": self.api.url, "retry": {"first": "200ms", "max": "1s"}},
            "state": places[self.backend],
            "admin": {"listen": f"127.0.0.1:{self.port}"},
            "log": {"format": "json", "level": "debug"},
            "watches": {"applications": watch},
        }
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")

    def then(self, *arguments: str) -> str:
        """What a command of the earlier version says."""
        ended = run_old(self.old, self.config, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def now(self, *arguments: str) -> str:
        """What a command of this version says."""
        ended = run_to_end([*COMMAND, "--config", str(self.config), *arguments], {})
        assert ended.code == 0, ended.output
        return ended.stdout

    def run_script(self, script: str) -> None:
        """As the DBA does with psql."""
        with psycopg.connect(self.dsn, autocommit=True) as dba:
            dba.execute(script.encode())

    def old_daemon(self, name: str) -> DaemonProcess:
        return self._daemon(name, self.old, (sys.executable, "-m", "cdc_sync"))

    def new_daemon(self, name: str) -> DaemonProcess:
        return self._daemon(name, {}, COMMAND)

    def _daemon(self, name: str, variables: Mapping[str, str], command: tuple[str, ...]) -> DaemonProcess:
        arguments = ["--config", str(self.config), "run"]
        return DaemonProcess(arguments, variables, self.folder / name, self.port, "", command=command)

    def backup(self) -> Callable[[], None]:
        """Copy the store; returns what puts it back."""
        if self.backend == "sqlite":
            copy = self.folder / "copy"
            shutil.copytree(self.state, copy)

            def put_back() -> None:
                shutil.rmtree(self.state)
                shutil.copytree(copy, self.state)

            return put_back
        dumped = dump(self.state_dsn, _OURS, *_TRIGGERS_OWN)
        assert dumped.returncode == 0, dumped.stderr

        def restored() -> None:
            with psycopg.connect(self.state_dsn, autocommit=True) as connection:
                connection.execute("DROP SCHEMA cdc_sync CASCADE")
            restore(self.state_dsn, dumped.stdout)

        return restored

    def hellowork_has(self, *ids: str) -> dict[str, str]:
        """The last acknowledged state of these applications, or of all; of others the baseline's."""
        last = {id_: self.ats.states[id_][0] for id_ in ids or self.ats.states}
        for call in self.api.calls:
            id_ = call.application_id or ""
            if call.status == 200 and id_ in last:
                last[id_] = state_of(call.body)
        return last

    def agree(self, daemon: DaemonProcess, *but: str) -> None:
        """Wait until HelloWork has the last state of all applications but these."""
        wanted = {id_: states[-1] for id_, states in self.ats.states.items() if id_ not in but}
        daemon.wait_until(lambda: self.hellowork_has(*wanted) == wanted, "HelloWork has the ATS's states")

    def check_calls(self) -> None:
        """No call had a state that was never true, and none repeats an acknowledged state."""
        last: dict[str, str | None] = {id_: states[0] for id_, states in self.ats.states.items()}
        last["a41"] = None  # it is new
        for call in self.api.calls:
            state, id_ = state_of(call.body), call.application_id or ""
            assert state in self.ats.states[id_], call
            assert state != last[id_], f"{id_} again: {state}"
            if call.status == 200:
                last[id_] = state


def state_of(body: Any) -> str:
    return GONE if body["status"] == "deleted" else str(body["status"])


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest) -> Database:
    found: Database = request.param
    return found


@pytest.fixture(params=EARLIER)
def site(request: pytest.FixtureRequest, backend: Database, tmp_path: Path, cluster: Cluster) -> Iterator[Site]:
    with ExitStack() as stack:
        old = check_out(EARLIER[request.param], tmp_path / "code")
        dsn, state_dsn = (stack.enter_context(fresh_database(cluster)) for _ in range(2))
        api = stack.enter_context(hellowork(EmulatorOptions(host="127.0.0.1", port=free_port())))
        ats = Ats(stack.enter_context(psycopg.connect(dsn, autocommit=True)))
        site = Site(tmp_path, backend, dsn, state_dsn, old, api, ats, asks=request.param != "0.1.0")
        site.state.mkdir()
        site.write_config()
        yield site


def at_work(site: Site) -> int:
    """The earlier version, until it has one of everything; stopped as systemd stops it.

    Returns how many entries the fuse holds.
    """
    site.ats.apply(*range(1, APPLICATIONS + 1))
    site.run_script(site.then("sql", "install"))
    daemon = site.old_daemon("before")
    try:
        daemon.wait_until_ready()
        site.ats.move("interview", 1, 2)
        site.agree(daemon)
        site.api.will({"kind": "status", "status": 400, "application_id": "a3", "times": None})
        site.ats.move("offer", 3)
        daemon.wait_for_report(lambda report: report["watches"][0]["dead_letters"] == 1, "the dead letter")
        site.api.will({"kind": "status", "status": 503, "times": None})
        site.ats.move("hired", 8, 9)
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 2, "what is pending")
        site.ats.move("archived", *MASS)
        report = daemon.wait_for_report(lambda report: report["watches"][0]["held"] > 0, "what the fuse holds")
    finally:
        daemon.stop()
    return int(report["watches"][0]["held"])


def undecided(site: Site) -> set[str]:
    """What a person must decide: the dead letter, and what the fuse holds."""
    has = site.hellowork_has()
    return {"a3", *(f"a{id_}" for id_ in MASS if has[f"a{id_}"] != "archived")}


def test_there_and_back(site: Site) -> None:
    held = at_work(site)
    put_back = site.backup()
    site.ats.move("hired", 6)
    site.ats.remove(7)

    # The upgrade.
    site.run_script(site.now("sql", "install"))
    site.api.will_work()
    daemon = site.new_daemon("after")
    try:
        site.agree(daemon, "a3", "a6", "a7", *(f"a{id_}" for id_ in MASS))
        report = daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 0, "what was pending is sent")
        waiting = undecided(site)
        # The fuse is blown: a6 waits for a person, too; a deletion is another matter.
        assert (report["watches"][0]["held"], len(waiting)) == (held + 1, held + 1)
        assert site.hellowork_has(*waiting) == dict.fromkeys(waiting, "applied")
        site.ats.move("offer", 10, 1)
        site.ats.apply(41)
        site.ats.remove(11)
        site.now("fuse", "release", "--watch", "applications", "--yes")
        site.now("dead-letters", "retry", "--yes", "a3")
        site.agree(daemon)
        site.now("check")
    finally:
        daemon.stop()
    site.check_calls()

    # And back, to the copy: what has come since is sent again.
    calls_before = len(site.api.calls)
    site.run_script(site.now("sql", "uninstall"))
    put_back()
    site.run_script(site.then("sql", "install"))
    site.ats.move("rejected", 12)
    daemon = site.old_daemon("back")
    try:
        daemon.wait_for_event("swept")
        site.then("fuse", "release", "--watch", "applications", *(["--yes"] if site.asks else []))
        daemon.wait_for_report(lambda report: report["watches"][0]["pending"] == 0, "what was pending is sent")
        site.agree(daemon, "a3")
    finally:
        daemon.stop()
    assert all(is_true(site, call) for call in site.api.calls[calls_before:])


def is_true(site: Site, call: Any) -> bool:
    return state_of(call.body) in site.ats.states[call.application_id]
