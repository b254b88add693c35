"""docs/operations.md: set up as a service, upgraded, and back to the old version, by the commands as they stand there.

The host is a folder, and the service is `cdc-sync run`: tests/systemd follows the same page under a booted systemd.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from old_stores.programs import EARLIER, check_out
from support.daemon_process import PATIENCE, free_port
from support.hellowork_server import HelloWork
from support.installation import API_KEY, merged
from support.reader import ROOT, Running, Step, Terminal, a_command, steps
from support.waiting import wait_until

from cdc_sync.demo.postgres import Server

PAGE = ROOT / "docs" / "operations.md"
ATS = ROOT / "config" / "compose" / "ats.sql"
SECRETS = {"database-password": "cdc_sync\n", "hellowork-api-key": f"{API_KEY}\n"}

# Each command is a program that begins anew, dozens in a row.
pytestmark = pytest.mark.timeout(600)


class Host:
    """A host in a folder, on which the pages' commands are run.

    Args:
        folder: `/etc` and `/var` are below it.
        server: has the ATS's database.
        hellowork: is called.
    """

    def __init__(self, folder: Path, server: Server, hellowork: HelloWork) -> None:
        self.folder = folder
        self.hellowork = hellowork
        self.install: Callable[[str], None] = lambda _: None
        """What `apt install` does, given the line."""
        self._admin = f"127.0.0.1:{free_port()}"
        self._service: Running | None = None
        self._services = ExitStack()
        for path in ("etc/cdc-sync/secrets", "var/lib/cdc-sync", "var/backups", "home"):
            (folder / path).mkdir(parents=True)
        self.config = folder / "etc/cdc-sync/config.yaml"
        places = {place: f"{folder}{place}" for place in ("/etc/cdc-sync", "/var/lib/cdc-sync", "/var/backups")}
        self.terminal = Terminal(
            folder / "home",
            {"PGHOST": str(server.folder), "PGUSER": "postgres", "CDC_SYNC_CONFIG": str(self.config)},
            path=[folder / "bin", server.binaries.folder],
            put={
                "sudo ": "",
                "-g cdc-sync ": "",
                "host=db.example": f"host={server.folder}",
                "-h db.example ": "",
                **places,
            },
        )

    def follow(self, step: Step, decided: str = "") -> None:
        """Run a block's lines; `decided` is what the page wants to be written into the configuration."""
        assert step.kind == "commands"
        for line in step.lines:
            command = line.partition("#")[0].strip()
            match command.removeprefix("sudo ").split():
                case ["apt", "install", *_]:
                    self.install(command)
                case ["sudoedit", _]:
                    self.edit(decided)
                case ["systemctl", "stop", "cdc-sync"]:
                    self.stop()
                case ["systemctl", "start", "cdc-sync"] | ["systemctl", "enable", "--now", "cdc-sync"]:
                    self.start()
                case ["createuser", *_]:
                    # It asks the terminal, and standard input only where there is none.
                    self.terminal.run(f"setsid --wait {line}", given=2 * SECRETS["database-password"])
                case _:
                    name = command.rpartition("/secrets/")[2].rstrip("'")
                    self.terminal.run(line, given=SECRETS.get(name, ""))

    def stop(self) -> None:
        """Stop the service; it must run."""
        assert self._service is not None
        self._services.close()
        self._service = None

    def kill(self) -> None:
        """Leave nothing behind."""
        self._services.close()

    def start(self, *, ready: bool = True) -> None:
        """Start the service; without `ready` something waits for a person."""
        assert self._service is None
        self._service = self._services.enter_context(self.terminal.running("cdc-sync run"))
        if ready:
            wait_until(self._is_ready, "the service is ready", PATIENCE)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._admin}/readyz", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def edit(self, decided: str) -> None:
        """Write what is decided into the configuration."""
        columns = {"application_id": "hellowork_id", "status": "status", "job_id": "job_id"}
        here: dict[str, Any] = {
            "watches": {"applications": {"columns": columns}},
            "hellowork": {"base_url": self.hellowork.url},
            "state": {"path": str(self.folder / "var/lib/cdc-sync/state.db")},
            "admin": {"listen": self._admin},
        }
        text = decided.replace("db.example", self.terminal.put["host=db.example"].removeprefix("host="))
        document = merged(merged(yaml.safe_load(self.config.read_text("utf-8")), yaml.safe_load(text)), here)
        document.pop("undecided", None)  # versions before 0.2.0 do not know it
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")


@pytest.fixture
def ats(restartable_server: Server) -> Iterator[psycopg.Connection]:
    """The ATS's database `ats`, with the role `cdc_sync`."""
    with psycopg.connect(restartable_server.dsn, autocommit=True) as dba:
        dba.execute("CREATE DATABASE ats")
    with psycopg.connect(restartable_server.dsn_for("ats"), autocommit=True) as connection:
        connection.execute(ATS.read_bytes())
        yield connection


@pytest.fixture
def host(tmp_path: Path, restartable_server: Server, hellowork: HelloWork) -> Iterator[Host]:
    made = Host(tmp_path, restartable_server, hellowork)
    try:
        yield made
    finally:
        made.kill()


def change(ats: psycopg.Connection, hellowork: HelloWork, application_id: str, status: str) -> None:
    """Change an application, and wait for the call."""
    update(ats, application_id, status)
    wait_until(
        lambda: [told for told, _ in hellowork.told(application_id)][-1:] == [status], f"{application_id}: {status}"
    )


def update(ats: psycopg.Connection, application_id: str, status: str) -> None:
    """Change an application."""
    ats.execute(
        "UPDATE applications SET status = %s, updated_at = now() WHERE hellowork_id = %s", (status, application_id)
    )


def waits(host: Host) -> dict[str, int]:
    """How many entries are pending, held and dead-lettered."""
    report = json.loads(host.terminal.run("cdc-sync status --json").stdout)
    return {state: report["watches"][0][state] for state in ("pending", "held", "dead_letters")}


def test_the_service_is_configured_and_started(host: Host, ats: psycopg.Connection, hellowork: HelloWork) -> None:
    a_command(host.folder / "bin")
    commands, secrets = steps(PAGE, "Configure and start it")

    host.follow(commands, secrets.text)

    change(ats, hellowork, "hw-1", "interview")
    host.stop()
    assert len(hellowork.calls) == 1


@pytest.mark.parametrize("version", EARLIER)
def test_an_upgrade_and_the_way_back(
    host: Host, ats: psycopg.Connection, hellowork: HelloWork, tmp_path: Path, version: str
) -> None:
    try:
        old = check_out(EARLIER[version], tmp_path / "code")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no repository here that has this version")
    program = host.folder / "bin"

    def install_old(_: str = "") -> None:
        a_command(program, [sys.executable, "-m", "cdc_sync"], old)
        update(ats, "hw-5", "interview")

    def install_new(_: str) -> None:
        a_command(program)
        update(ats, "hw-3", "interview")

    a_command(program, [sys.executable, "-m", "cdc_sync"], old)
    commands, secrets = steps(PAGE, "Configure and start it")
    host.follow(commands, secrets.text)
    change(ats, hellowork, "hw-1", "interview")

    host.install = install_new
    (upgrade,) = steps(PAGE, "Upgrade it")
    host.follow(upgrade)
    change(ats, hellowork, "hw-2", "interview")
    wait_until(lambda: hellowork.told("hw-3"), "what changed during the upgrade")
    assert sorted(call.application_id or "" for call in hellowork.calls) == ["hw-1", "hw-2", "hw-3"]

    (copy,) = (host.folder / "var/backups").iterdir()
    host.terminal.put["cdc-sync-2026-11-26T0900"] = copy.name
    host.install = install_old
    (way_back,) = steps(PAGE, "Back to the old version")
    host.follow(way_back)
    change(ats, hellowork, "hw-4", "interview")
    # The page: the restored store does not have the calls that the new version made, so they are made again.
    again = {"hw-2", "hw-3", "hw-4", "hw-5"}
    wait_until(lambda: {call.application_id for call in hellowork.calls[3:]} == again, "what the first sweep finds")
    host.stop()
    assert len(hellowork.calls) == 3 + len(again)


@pytest.mark.parametrize("database", ["ats", "cdc_sync_store"])
def test_a_store_in_postgresql_is_set_up_and_restored(
    host: Host, ats: psycopg.Connection, hellowork: HelloWork, restartable_server: Server, database: str
) -> None:
    a_command(host.folder / "bin")
    set_up_store(host, ats, restartable_server, database)
    change(ats, hellowork, "hw-1", "interview")
    hellowork.will({"kind": "status", "status": 422, "application_id": "hw-2"})
    update(ats, "hw-2", "interview")
    wait_until(lambda: waits(host)["dead_letters"], "a dead letter")
    host.terminal.run("cdc-sync pause")
    for number in (3, 5, 6, 7, 8):
        update(ats, f"hw-{number}", "interview")
    at_backup = {"pending": 2, "held": 3, "dead_letters": 1}
    wait_until(lambda: waits(host) == at_backup, "what the fuse lets through, and what it holds")

    _, backup, _, restore = steps(PAGE, "Back up the store")
    host.terminal.put |= {"-d ats": f"-d {database}", "store.sql ats": f"store.sql {database}"}
    host.follow(backup)
    for command in ("resume", "fuse release --yes", "dead-letters discard hw-2 --yes"):
        host.terminal.run(f"cdc-sync {command}")
    wait_until(lambda: hellowork.told("hw-3") and hellowork.told("hw-8"), "what was pending and held")
    for number in (1, 2, 3):
        change(ats, hellowork, f"hw-{number}", "hired")
    change(ats, hellowork, "hw-9", "interview")
    host.stop()
    update(ats, "hw-9", "received")
    calls = len(hellowork.calls)
    host.follow(restore)
    assert waits(host) == at_backup

    host.start(ready=False)
    wait_until(lambda: waits(host) == {"pending": 2, "held": 5, "dead_letters": 0}, "what the first sweep finds")
    assert len(hellowork.calls) == calls, "the backup's pause is over"
    host.terminal.run("cdc-sync fuse release --yes")
    host.terminal.run("cdc-sync resume")
    repeated = {f"hw-{number}": "hired" if number < 4 else "interview" for number in (1, 2, 3, 5, 6, 7, 8)}
    wait_until(lambda: len(hellowork.calls) >= calls + len(repeated), "the calls since the backup")
    change(ats, hellowork, "hw-4", "interview")
    later = hellowork.calls[calls:]
    sent = [(call.application_id, call.body["status"]) for call in later if isinstance(call.body, dict)]
    assert sorted(sent) == sorted([*repeated.items(), ("hw-4", "interview")])
    # The page: what was undone in the ATS while no daemon ran stays undetected.
    host.terminal.run("cdc-sync resend hw-9 --yes")
    wait_until(lambda: hellowork.told("hw-9")[-1][0] == "received", "the present state")
    host.terminal.run("cdc-sync check")


def set_up_store(host: Host, ats: psycopg.Connection, server: Server, database: str) -> None:
    """Let the service work with a store in PostgreSQL: in the ATS's database, or in one of its own."""
    store, settings = steps(PAGE, "Several daemons")
    made, scripts = (Step("commands", "\n".join(lines)) for lines in (store.lines[:2], store.lines[2:]))
    state = "state: {backend: postgres}"
    if database != "ats":
        ats.execute("DROP ROLE cdc_sync")
        host.follow(made)
        state = settings.text.replace("store-1,store-2", str(server.folder))
    commands, secrets = steps(PAGE, "Configure and start it")
    host.follow(commands, secrets.text)
    host.stop()
    host.edit(f"{state}\nwatches: {{applications: {{fuse: {{max_changes: 4}}}}}}")
    host.terminal.put["-d cdc_sync_store"] = f"-d {database}"
    host.follow(scripts)
    host.start()
