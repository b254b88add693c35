"""A daemon of this version starts on a store that an earlier one left behind: see `tests/old_stores`."""

import asyncio
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from old_stores import DIRECT_PORT, FIXTURES, OLD_STORES, PORT, OldStore
from old_stores.programs import EARLIER, check_out, run_old, schema_of
from old_stores.scenario import TABLES, create_tables, document, put_back
from support.daemon_process import COMMAND, DaemonProcess, free_port, run_to_end
from support.dumping import dump, restore
from support.emulated import EmulatorOptions
from support.hellowork_server import HelloWork, hellowork
from support.install_script import install
from support.postgres import Cluster, fresh_database
from support.upgrading import OldFile, OldSchema
from support.waiting import wait_until

from cdc_sync.config import parse
from cdc_sync.store.statements import SCHEMA, Database

BY_BACKEND = [[old for old in OLD_STORES if old.backend == backend] for backend in ("sqlite", "postgres")]
ENDS = [old for stores in BY_BACKEND for old in (stores[0], stores[-1])]
"""The oldest and the newest of each kind; `tests/integration/store/test_migration.py` has those between them."""


def install_script(config: Path) -> str:
    """The present triggers for an earlier version's configuration, of which `where` gets its columns."""
    text = config.read_text(encoding="utf-8")
    where = yaml.safe_load(text)["watches"]["applications"]["where"]
    declared = json.dumps({"sql": where, "depends_on": ["notes"]})
    return install(parse(text.replace(f"where: {where}", f"where: {declared}"), name="old", environ={}))


class Upgraded:
    """The ATS as it was when the old daemon was killed, and its store."""

    def __init__(self, old: OldStore, folder: Path, dsn: str, state_dsn: str) -> None:
        self.folder = folder
        self.dsn = dsn
        self.port = free_port()
        self.config = folder / "config.yaml"
        self.data: OldFile | OldSchema
        place: dict[str, Any] = {"path": str(folder / "state.db")}
        if old.backend == "sqlite":
            self.data = OldFile(old, folder)
        else:
            place = {"backend": "postgres", "dsn": state_dsn}
            self.data = OldSchema(old, state_dsn)
        self.config.write_text(yaml.safe_dump(document(old, dsn, place, self.port)), encoding="utf-8")
        with psycopg.connect(dsn, autocommit=True) as ats:
            create_tables(ats)
            put_back(ats, old.then().rows)
            ats.execute(install_script(self.config).encode())

    def command(self, *arguments: str) -> str:
        """What a command says, which must succeed."""
        ended = run_to_end([*COMMAND, "--config", str(self.config), *arguments], {})
        assert ended.code == 0, ended.stderr
        return ended.stdout

    def daemon(self, name: str) -> DaemonProcess:
        """A daemon of this version."""
        command = ["--config", str(self.config), "run"]
        return DaemonProcess(command, {}, self.folder / name, self.port, "", forked=True)


@dataclass(frozen=True, slots=True)
class Refusing:
    """An old store, and the commit of a program that refuses it once it is up to date."""

    old: OldStore
    commit: str
    name: str


def refusing(backend: Database) -> list[Refusing]:
    """The earlier releases, with the oldest store that is brought up to date."""
    oldest = next(old for old in OLD_STORES if old.backend == backend and old.schema < SCHEMA)
    return [Refusing(oldest, commit, f"{version}-{backend}") for version, commit in EARLIER.items()]


def program_of(commit: str, folder: Path) -> Mapping[str, str]:
    """The program of a commit, as `check_out` returns it; without it the test is skipped."""
    try:
        return check_out(commit, folder / "code")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no repository here that has this version")


@pytest.fixture
def upgraded(old: OldStore, tmp_path: Path, cluster: Cluster) -> Iterator[Upgraded]:
    with ExitStack() as stack:
        dsn, state_dsn = (stack.enter_context(fresh_database(cluster)) for _ in range(2))
        yield Upgraded(old, tmp_path, dsn, state_dsn)


@contextmanager
def turn_at(host: str, within: float = 60.0) -> Iterator[None]:
    """Have the address of a store's endpoints alone.

    The address is a part of the store, so every test that listens there needs the same one: in another worker, or in
    another run on this machine. They take turns.
    """
    with socket.socket(socket.AF_UNIX) as reservation:

        def is_ours() -> bool:
            with suppress(OSError):
                reservation.bind(f"\0cdc-sync-tests-{host}")
                return True
            return False

        wait_until(is_ours, f"the turn at {host}", within)
        yield


@pytest.fixture
def endpoints(old: OldStore) -> Iterator[list[HelloWork]]:
    """HelloWork where it was for the old daemon."""
    with ExitStack() as stack:
        stack.enter_context(turn_at(old.host))
        yield [
            stack.enter_context(hellowork(EmulatorOptions(host=old.host, port=port))) for port in (PORT, DIRECT_PORT)
        ]


def made(endpoints: list[HelloWork]) -> list[tuple[str, str, str]]:
    """Path, body and idempotency key of each call, sorted."""
    calls = [call for endpoint in endpoints for call in endpoint.calls]
    return sorted((call.path, call.raw, call.idempotency_key or "") for call in calls)


@pytest.mark.parametrize("old", ENDS, ids=lambda old: old.name)
def test_what_was_pending_is_sent_as_the_old_version_would_have_sent_it_and_nothing_else(
    old: OldStore, upgraded: Upgraded, endpoints: list[HelloWork]
) -> None:
    # These tables are on another server than the old daemon's were: after a move an operator does the same.
    upgraded.command("adopt-database", "--yes")
    daemon = upgraded.daemon("run")
    try:
        daemon.wait_until(lambda: daemon.readiness()[0], "the admin server")
        daemon.wait_for_report(
            lambda report: not any(watch["pending"] or watch["suspected_deletions"] for watch in report["watches"]),
            "nothing pending",
        )
        daemon.wait_until(
            lambda: {event["watch"] for event in daemon.events_named("swept")} == set(TABLES), "a sweep of every watch"
        )
        sweeps = len(daemon.events_named("swept"))
        daemon.wait_for_event("swept", sweeps + 2)
        report = daemon.report()
    finally:
        daemon.kill()

    assert made(endpoints) == sorted(map(tuple, old.then().calls))
    assert {watch["watch"]: (watch["held"], watch["dead_letters"]) for watch in report["watches"]} == {
        "applications": (0, 1),
        "direct": (0, 0),
        "polled": (3, 0),
    }
    assert upgraded.data.schema() == SCHEMA
    paused = {old.paused} if old.has_decisions else set()
    assert {event["endpoint"] for event in daemon.events_named("sending is paused")} == paused


@pytest.mark.parametrize("old", ENDS, ids=lambda old: old.name)
def test_a_call_that_was_under_way_is_repeated_though_its_row_went_back(
    old: OldStore, upgraded: Upgraded, endpoints: list[HelloWork]
) -> None:
    """Nobody knows whether HelloWork has the state that the killed daemon was sending."""
    with psycopg.connect(upgraded.dsn, autocommit=True) as ats:
        ats.execute("UPDATE applications SET status = 'Nouveau' WHERE hellowork_id = 'applications-8'")
    upgraded.command("adopt-database", "--yes")
    daemon = upgraded.daemon("run")
    try:
        daemon.wait_until(lambda: endpoints[0].told("applications-8"), "the state that the row went back to")
    finally:
        daemon.kill()

    assert set(endpoints[0].told("applications-8")) == {("Nouveau", "job-0")}


@pytest.mark.parametrize(
    ("old", "commit"),
    [pytest.param(each.old, each.commit, id=each.name) for each in (*refusing("sqlite"), *refusing("postgres"))],
)
def test_an_earlier_version_refuses_it_afterwards_and_says_what_to_do(
    old: OldStore, commit: str, upgraded: Upgraded, tmp_path: Path
) -> None:
    code = program_of(commit, tmp_path)
    if schema_of(code, old.backend) == SCHEMA:
        pytest.skip("this version has the same schema")
    asyncio.run(open_once(upgraded.data))
    before = upgraded.data.tables()

    refused = run_old(code, upgraded.config, "run")

    assert refused.returncode == 1
    assert "was written by a newer cdc-sync" in " ".join(f"{refused.stdout}{refused.stderr}".split())
    assert upgraded.data.tables() == before


def test_the_backup_of_a_shared_store_is_the_way_back(database: str, tmp_path: Path) -> None:
    """As docs/operations.md has it, with the triggers' own relations in the same schema."""
    old = [old for old in OLD_STORES if old.backend == "postgres"][-1]
    code = program_of(old.commit, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(document(old, database, {"backend": "postgres"}, free_port())))
    with psycopg.connect(database, autocommit=True) as dba:
        create_tables(dba)
        data = OldSchema(old, database)
        dba.execute(install_script(config).encode())
        before = data.tables()
        others = [f"--exclude-table=cdc_sync.{name}*" for name in ("changes", "bell_", "missed_")]
        backup = dump(database, "--data-only", "--table=cdc_sync.*", *others)
        assert backup.returncode == 0, backup.stderr
        asyncio.run(open_once(data))

        dba.execute(run_old(code, config, "sql", "uninstall", "--store").stdout.encode())
        dba.execute(run_old(code, config, "sql", "install", "--store").stdout.encode())
        dba.execute("DELETE FROM cdc_sync.about")
        restore(database, backup.stdout)

    # The old version's script left the tables that it does not know.
    assert {name: rows for name, rows in data.tables().items() if name in before} == before
    assert run_old(code, config, "status", "--json").returncode == 0
    asyncio.run(open_once(data))


@pytest.mark.parametrize("file", sorted(FIXTURES.glob("config-*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_of_an_earlier_version_with_every_key_is_valid(file: Path) -> None:
    """The annotated examples, as the versions printed them whose commits the files name."""
    ended = run_to_end([*COMMAND, "config", "validate", str(file)], {"HELLOWORK_API_KEY": "key"})

    assert (ended.code, ended.stderr) == (0, "")


async def open_once(data: OldFile | OldSchema) -> None:
    await (await data.open()).driver.close()
