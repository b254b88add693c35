"""Make the stores anew; see the package's text."""

import gzip
import json
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql
from support.binaries import server_binaries
from support.daemon_process import DaemonProcess, free_port
from support.dumping import dump
from support.emulated import Call, EmulatorOptions
from support.hellowork_server import hellowork
from support.postgres import SETTINGS

from cdc_sync.demo.postgres import Server, server
from old_stores import DECIDED, DIRECT_PORT, FIXTURES, OLD_STORES, PORT, OldStore
from old_stores.programs import check_out, run_old
from old_stores.scenario import TABLES, Ask, Command, create_tables, discard, document, fill, live

_PATIENCE = 120.0
_ANYBODY = "ats-host"
"""What a store has in the place of the name of the machine that made it."""


def main(names: list[str]) -> None:
    """Make those that are named, or all."""
    for store in OLD_STORES:
        if not names or store.name in names:
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="cdc-sync-old-") as folder:
                make(store, Path(folder))
            print(f"{store.name}: {time.monotonic() - started:.0f} s", flush=True)


def make(store: OldStore, folder: Path) -> None:
    """Make one of them."""
    code = check_out(store.commit, folder / "code")
    with ExitStack() as stack:
        own = stack.enter_context(server(server_binaries(), settings=SETTINGS))
        api = stack.enter_context(hellowork(EmulatorOptions(host=store.host, port=PORT)))
        direct = stack.enter_context(hellowork(EmulatorOptions(host=store.host, port=DIRECT_PORT)))
        ats = stack.enter_context(psycopg.connect(own.dsn, autocommit=True))
        ats.execute("CREATE DATABASE state ENCODING 'UTF8' TEMPLATE template0")
        path, port, config = folder / "state.db", free_port(), folder / "config.yaml"
        place: dict[str, Any] = {"path": str(path)}
        if store.backend == "postgres":
            place = {"backend": "postgres", "dsn": own.dsn_for("state")}
        config.write_text(yaml.safe_dump(document(store, own.dsn, place, port)), encoding="utf-8")
        ask, command = asking(own, path, store), commanding(code, config)

        def daemon(name: str) -> DaemonProcess:
            return DaemonProcess(["--config", str(config), "run"], code, folder / name, port, "")

        create_tables(ats)
        fill(ats, store.host)
        install = run_old(code, config, "sql", "install")
        assert install.returncode == 0, install.stderr
        ats.execute(install.stdout.encode())
        first = daemon("first")
        try:
            if store.has_decisions:
                discard(ats, ask, api, command)
            live(ats, ask, api, direct, store.host)
            if store.has_decisions:
                # No daemon has logged it yet when this one is killed.
                command("pause", store.paused)
        except BaseException:
            print(first.tail)
            raise
        finally:
            first.kill()
        keep(store, own, path)
        rows = {table: rows_of(ats, table) for table in TABLES}

        before = {endpoint: len(endpoint.calls) for endpoint in (api, direct)}
        for endpoint in before:
            endpoint.will_work()
        second = daemon("second")
        try:
            wait_until_told(ask)
        except BaseException:
            print(second.tail)
            raise
        finally:
            second.kill()
        calls = sorted(described(call) for endpoint, number in before.items() for call in endpoint.calls[number:])
    then = json.dumps({"rows": rows, "calls": calls}, ensure_ascii=False, indent=1)
    (FIXTURES / f"{store.name}.json").write_text(f"{then}\n", encoding="utf-8")


def asking(own: Server, path: Path, store: OldStore) -> Ask:
    """How a store is asked by hand, whatever is in the middle of writing it."""

    def of_file(query: str) -> Any:
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute(query).fetchone()[0]
        except sqlite3.OperationalError:
            return None

    def of_database(query: str) -> Any:
        try:
            with psycopg.connect(own.dsn_for("state"), options="-c search_path=cdc_sync") as connection:
                row = connection.execute(query.encode()).fetchone()
                return row and row[0]
        except psycopg.errors.UndefinedTable:
            return None

    return of_file if store.backend == "sqlite" else of_database


def commanding(code: Mapping[str, str], config: Path) -> Command:
    """How the program's commands are run beside its daemon."""

    def command(*arguments: str) -> None:
        ended = run_old(code, config, *arguments)
        assert ended.returncode == 0, ended.stderr

    return command


def keep(store: OldStore, own: Server, path: Path) -> None:
    """Write what the killed daemon has left."""
    FIXTURES.mkdir(exist_ok=True)
    if store.backend == "postgres":
        script = dump(own.dsn_for("state"), "--schema=cdc_sync", "--no-owner", "--no-privileges").stdout
        text = script.replace(platform.node(), _ANYBODY)
        (FIXTURES / f"{store.name}.sql").write_text(text, encoding="utf-8")
        return
    # With its log beside it, a store is two files; SQLite makes one of them, as the next start would.
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if store.schema > DECIDED:
            connection.execute("UPDATE leader SET host = ?", (_ANYBODY,))
            connection.commit()
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = copy.read_bytes()
    assert platform.node().encode() not in content
    assert os.uname().nodename.encode() not in content
    (FIXTURES / f"{store.name}.db.gz").write_bytes(gzip.compress(content, mtime=0))


def rows_of(ats: psycopg.Connection, table: str) -> list[dict[str, Any]]:
    """All of a table's rows."""
    query = sql.SQL("SELECT to_jsonb(t) FROM {} t ORDER BY id").format(sql.Identifier("public", table))
    return [row for (row,) in ats.execute(query)]


def wait_until_told(ask: Ask) -> None:
    """Wait until nothing is to be sent any more, the deletion that was suspected included."""
    deadline = time.monotonic() + _PATIENCE
    while ask("SELECT (SELECT count(*) FROM outbox WHERE state = 'pending') + (SELECT count(*) FROM suspicion)") != 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the second daemon")
        time.sleep(0.1)


def described(call: Call) -> tuple[str, str, str]:
    """Path, body and idempotency key."""
    assert call.status == 200
    return call.path, call.raw, call.idempotency_key or ""


if __name__ == "__main__":
    main(sys.argv[1:])
