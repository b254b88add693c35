"""README, docs/getting-started.md and docs/operations.md: their commands work as they stand there, in their order.

A page that drifts from the program fails here. Left out is what installs programs: `make test` does that itself. The
Debian package is installed in tests/systemd.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from support.daemon_process import Finished, free_port
from support.hellowork_server import HelloWork
from support.installation import API_KEY, merged
from support.reader import ROOT, Step, Terminal, a_command, steps
from support.waiting import wait_until

from cdc_sync.demo.postgres import Server

README, GUIDE = ROOT / "README.md", ROOT / "docs" / "getting-started.md"
ATS = ROOT / "config" / "compose" / "ats.sql"

EMULATOR = "127.0.0.1:8080"
HELLOWORK = "https://ats-partner.hellowork.com"
TITLES = (
    "1. Install it",
    "2. Let it write a first configuration",
    "3. Start the emulator",
    "4. Check, and let the DBA install the triggers",
    "5. See what it would do",
    "6. Adopt what is there",
    "7. Change something, and look before it is sent",
    "8. Run it",
    "9. The first real call",
)

INSTALLATION = ["python3 -m venv venv && . venv/bin/activate", "pip install ."]
WATCHING = "watching"

# Each command is a program that begins anew, dozens in a row.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Desk:
    """A reader's: an ATS, a folder, and terminals.

    Attributes:
        folder: of the terminals.
        ats: a session of the ATS.
        emulator: where an emulator of the reader's own may listen.
    """

    folder: Path
    ats: psycopg.Connection
    emulator: str
    terminal: Callable[[], Terminal]

    def edit(self, piece: str | dict[str, Any]) -> None:
        """Write a piece of configuration into config.yaml, as a person does in an editor; values that are there go."""
        file = self.folder / "config.yaml"
        written = yaml.safe_load(piece) if isinstance(piece, str) else piece
        document = merged(yaml.safe_load(file.read_text(encoding="utf-8")), written)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def run(self, step: Step) -> None:
        """Run statements in the ATS's database, one by one as psql does."""
        assert step.kind == "sql"
        for statement in step.lines:
            self.ats.execute(statement.encode())


@pytest.fixture
def desk(tmp_path: Path, restartable_server: Server, hellowork: HelloWork) -> Iterator[Desk]:
    """The server has the database `ats` and the role `cdc_sync`; HelloWork is on this machine."""
    with psycopg.connect(restartable_server.dsn, autocommit=True) as dba:
        dba.execute("CREATE DATABASE ats")
    folder, emulator = tmp_path / "desk", f"127.0.0.1:{free_port()}"
    folder.mkdir()
    path = [a_command(tmp_path / "bin"), restartable_server.binaries.folder]
    put = {EMULATOR: emulator, "@host/": "@/", " -h host ": " ", "…": API_KEY}
    server = {"PGHOST": str(restartable_server.folder), "PGUSER": "postgres"}

    def terminal() -> Terminal:
        return Terminal(folder, server, path=path, put=put)

    with psycopg.connect(restartable_server.dsn_for("ats"), autocommit=True) as ats:
        ats.execute(ATS.read_bytes())
        yield Desk(folder, ats, emulator, terminal)


def test_the_first_set_up_of_the_readme(desk: Desk, hellowork: HelloWork) -> None:
    (block,) = steps(README, "First set-up")
    install, init, *lines = block.lines
    assert "pip install ." in install
    terminal = desk.terminal()

    terminal.run(init)
    columns = {"application_id": "hellowork_id", "status": "status", "job_id": "job_id"}
    desk.edit({"undecided": [], "watches": {"applications": {"columns": columns}}})
    desk.edit({"hellowork": {"base_url": hellowork.url, "headers": {"X-Api-Key": "${HELLOWORK_API_KEY}"}}})
    desk.edit({"admin": {"listen": None}})
    for line in lines:
        if line.startswith(("cdc-sync run --dry-run", "cdc-sync run  ")):
            with terminal.running(line) as daemon:
                daemon.wait_for(WATCHING)
                if "--dry-run" not in line:
                    desk.ats.execute("UPDATE applications SET status = 'interview' WHERE hellowork_id = 'hw-1'")
                    wait_until(lambda: hellowork.told("hw-1") == [("interview", "job-2")], "the call")
        else:
            ended = terminal.run(line)
            if "run --once" in line:
                assert "10 applications known, 0 calls" in ended.output

    assert {"cdc-sync check", "cdc-sync run --once", "cdc-sync plan"} <= {
        line.partition("#")[0].strip() for line in lines
    }
    # An ordinary user may write nowhere else.
    assert (desk.folder / "state.db").exists()


def test_getting_started(desk: Desk, hellowork: HelloWork) -> None:
    page = {title[0]: steps(GUIDE, title) for title in TITLES}
    first = desk.terminal()

    assert page["1"][0].lines[:2] == INSTALLATION
    first.run(page["1"][0].lines[2])

    init, excerpt, edit, environment = page["2"]
    assert first.follow(init).stderr == init.output
    assert excerpt.text in (desk.folder / "config.yaml").read_text(encoding="utf-8")
    desk.edit(edit.text.replace(EMULATOR, desk.emulator))
    desk.edit({"admin": {"listen": None}})
    *set_up, validate = environment.lines
    assert "HELLOWORK_API_KEY is not set" in first.run("cdc-sync --config config.yaml config validate", code=78).stderr
    for line in set_up:
        first.run(line)
    first.run(validate)

    activate, *others, emulator = page["3"][0].lines
    assert INSTALLATION[0].endswith(activate)
    second = desk.terminal()
    for line in others:
        second.run(line)
    with second.running(emulator) as running:
        running.wait_for(f"listening on http://{desk.emulator} ")
        with_the_emulator(desk, first, page)

    replace, real, steps_again = page["9"]
    first.follow(replace)
    desk.edit(real.text.replace(HELLOWORK, hellowork.url))
    export, check, once, plan, once_more, run = steps_again.lines
    for line in (export, check):
        first.run(line)
    assert " applications known, 0 calls" in first.run(once).output
    assert first.run(plan).stdout == "Nothing would be sent.\n"
    desk.ats.execute("UPDATE applications SET status = 'rejected' WHERE hellowork_id = 'hw-4'")
    assert "hw-4" in first.run(plan).stdout
    assert "1 sent, 0 to try again, 0 given up" in first.run(once_more).stdout
    with first.running(run) as daemon:
        daemon.wait_for(WATCHING)
    assert [call.application_id for call in hellowork.calls] == ["hw-4"]


def with_the_emulator(desk: Desk, first: Terminal, page: Mapping[str, list[Step]]) -> None:
    """Sections 4 to 8."""
    checked, installed = page["4"]
    assert last_line(first.follow(checked)) == last_line(checked)
    assert last_line(first.follow(installed)) == last_line(installed)

    (dry_run,), (once,) = page["5"], page["6"]
    with first.running(dry_run.lines[0]) as daemon:
        daemon.wait_for(WATCHING)
        assert "10 applications known, 0 calls" in daemon.output
    assert last_line(first.follow(once)) == last_line(once)

    change, plan = page["7"]
    desk.run(change)
    assert first.follow(plan).stdout == plan.output.partition("would POST")[0]
    with first.running("cdc-sync run --dry-run") as daemon:
        daemon.wait_for(f"would POST http://{desk.emulator}/v1/applications/hw-1/status")

    run, change, explain = page["8"]
    third = desk.terminal()
    for line in page["3"][0].lines[1:2]:
        third.run(line)
    with first.running(run.lines[0]) as daemon:
        daemon.wait_for('"application_id": "hw-1"')
        desk.run(change)
        daemon.wait_for('"application_id": "hw-2"')
        daemon.wait_for('"application_id": "hw-3"')
        assert third.follow(explain).stdout.endswith("nothing is pending\n")


def last_line(shown: Step | Finished) -> str:
    """The last line of what a page shows, or of what a command has printed."""
    text = shown.output if isinstance(shown, Step) else shown.stdout
    return text.splitlines()[-1]
