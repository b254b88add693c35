"""docs/operations.md: a schema is renamed by the commands as they stand there, while the daemon runs."""

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from support.binaries import server_binaries
from support.hellowork_server import HelloWork
from support.installation import Installation, a_watch, an_installation, calls_are
from support.reader import ROOT, Terminal, a_command, steps
from support.sessions import rows
from support.watched import run_script

BLOCKS = [step.lines for step in steps(ROOT / "docs" / "operations.md", "Renaming a customer's schema")]
# Each command is a program that begins anew.
pytestmark = pytest.mark.timeout(240)

BEFORE, AFTER = "applications@customer_42", "applications@customer_43"


@pytest.fixture
def vendor(tmp_path: Path, database: str, hellowork: HelloWork) -> Iterator[Installation]:
    """An ATS with the customers 41 and 42, each with one application; the daemon's role may read."""
    with an_installation(tmp_path, database, "notify", hellowork) as made:
        for customer in ("customer_41", "customer_42"):
            made.ats.execute(
                sql.SQL(
                    "CREATE SCHEMA {0}; CREATE TABLE {0}.applications (LIKE public.applications INCLUDING ALL);"
                    "INSERT INTO {0}.applications (hellowork_id, status, job_id, created_at, updated_at)"
                    " VALUES ({1}, 'NEW', 'job-1', now(), now())"
                ).format(sql.Identifier(customer), sql.Literal(customer))
            )
        template = {**a_watch("notify"), "table": "applications", "for_each": {"schemas": r"customer\_%"}}
        template["capture"]["sweep"] = "1h"
        made.document["watches"] = {"applications": template}
        made.configure()
        yield made


@pytest.fixture
def terminal(vendor: Installation, tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """The reader's, on the host of the daemon; `ats` is the ATS's database."""
    variables = {**vendor.variables, "CDC_SYNC_CONFIG": str(vendor.config)}
    folder = tmp_path_factory.mktemp("desk")  # a terminal's variables are in it
    path = [a_command(folder / "bin"), server_binaries().folder]
    return Terminal(folder, variables, path=path, put={"sudo ": "", "-d ats": f"-d '{vendor.dsn}'"})


def follow(terminal: Terminal, block: list[str]) -> str:
    """Run a block's lines; returns what they wrote."""
    written = ""
    for line in block:
        # There is no terminal to ask on.
        written += terminal.run(f"{line} --yes" if " forget " in line else line).stdout
    return written


def change(vendor: Installation, customer: str, status: str) -> None:
    query = sql.SQL("UPDATE {}.applications SET status = {}, updated_at = clock_timestamp()")
    vendor.ats.execute(query.format(sql.Identifier(customer), status))


def test_a_schema_is_renamed_while_the_daemon_runs(vendor: Installation, terminal: Terminal) -> None:
    stopped, replaced, begun, forgotten = BLOCKS
    run = partial(follow, terminal)
    for script in ("install", "grants"):
        with psycopg.connect(vendor.dsn, autocommit=True) as dba:
            run_script(dba, terminal.run(f"cdc-sync sql {script}").stdout.replace("\\set ON_ERROR_STOP on\n", ""))
    with vendor.daemon() as daemon:
        change(vendor, "customer_42", "SEEN")
        calls_are(daemon, vendor.hellowork, "customer_42", "SEEN")
        vendor.quiet(daemon)
        assert BEFORE in run(stopped)

        run(replaced)
        daemon.send_signal(signal.SIGHUP)  # in place of the wait
        daemon.wait_until(lambda: any(each["watch"] == AFTER for each in daemon.events_named("watching")), AFTER, 60)
        assert AFTER in run(begun)
        change(vendor, "customer_43", "INTERVIEW")
        change(vendor, "customer_41", "SEEN")
        calls_are(daemon, vendor.hellowork, "customer_42", "SEEN", "INTERVIEW")
        calls_are(daemon, vendor.hellowork, "customer_41", "SEEN")

        run(forgotten)
        daemon.wait_until(lambda: BEFORE not in json.dumps(daemon.report()), "what was there before is forgotten")
        daemon.wait_until_ready()
        assert rows(vendor.ats, "SELECT tgname FROM pg_trigger WHERE tgname LIKE '%customer_42%'") == []
        daemon.wait_until(lambda: vendor.unread() == 0, "an empty change log")
