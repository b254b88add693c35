"""docs/operations.md: set up as a service, upgraded, and back to the old version, by the commands as they stand there.

The host is a folder, and the service is `cdc-sync run`: tests/systemd follows the same page under a booted systemd.
"""

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
                    self._edit(decided)
                case ["systemctl", "stop", "cdc-sync"]:
                    self.stop()
                case ["systemctl", "start", "cdc-sync"] | ["systemctl", "enable", "--now", "cdc-sync"]:
                    self._start()
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

    def _start(self) -> None:
        assert self._service is None
        self._service = self._services.enter_context(self.terminal.running("cdc-sync run"))
        wait_until(self._is_ready, "the service is ready", PATIENCE)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._admin}/readyz", timeout=PATIENCE) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _edit(self, decided: str) -> None:
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
