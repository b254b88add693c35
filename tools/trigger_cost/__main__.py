"""The command line, and what is measured."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from command_line import parser_of, say
from psycopg import sql
from support.binaries import binaries_in, server_binaries

from cdc_sync.ats import scripts
from cdc_sync.config import load
from cdc_sync.demo.postgres import Binaries, PostgresError, Server
from cdc_sync.demo.postgres import server as postgres_server

TABLES = ("bare", "watched")
"""A table without triggers, and an equal one with them."""

_SETTINGS = {"fsync": "off", "full_page_writes": "off", "dynamic_shared_memory_type": "mmap"}
_WARM_UP = 20
_COUNTED = 200
_SINGLE = {
    "update, no watched column": "UPDATE {table} SET notes = 'n{id}', updated_at = now() WHERE id = {id}",
    "update, watched column": "UPDATE {table} SET status = 's{id}', updated_at = now() WHERE id = {id}",
    "insert": "INSERT INTO {table} (hellowork_id, status, updated_at) VALUES ('h{id}', 'NEW', now())",
}
_BULK = "bulk update, watched column, per row"


_BULK_UPDATE = "UPDATE {table} SET status = 'b' || random(), updated_at = now() WHERE id <= {rows}"
_BULK_ROWS = 2_000
_IDS_OF = 20_000
"""Rows of the bulk update whose transaction ids are counted."""

_NEXT_ID = "SELECT txid_snapshot_xmax(txid_current_snapshot())"


class ValgrindMissingError(Exception):
    """There is no valgrind."""


@dataclass(frozen=True, slots=True)
class Paid:
    """`what`, without triggers and with them."""

    what: str
    bare: float
    watched: float

    def __str__(self) -> str:
        ratio = f"{self.watched / self.bare:.2f}"
        return f"| {self.what} | {self.bare:,.2f} | {self.watched:,.2f} | {self.watched - self.bare:,.2f} | {ratio} |"


def main() -> int:
    parser = parser_of("trigger_cost")
    parser.add_argument("--pgbin", metavar="FOLDER", help="the bin folder of the server to measure")
    given = parser.parse_args()
    try:
        binaries = binaries_in(given.pgbin, "--pgbin") if given.pgbin else server_binaries()
        say("| what is paid | without triggers | with | added | ratio |\n| --- | --- | --- | --- | --- |")
        for paid in (*instructions(binaries), ids_of_a_bulk(binaries, _IDS_OF)):
            say(str(paid))
    except (PostgresError, ValgrindMissingError, ValueError) as error:
        sys.stderr.write(f"trigger_cost: {error}\n")
        return 1
    return 0


def ids_of_a_bulk(binaries: Binaries, rows: int) -> Paid:
    """The transaction ids of one UPDATE of many rows."""
    with watched_server(binaries, rows, {"autovacuum": "off"}) as (_, dba):
        used = []
        for table in TABLES:
            before = _one(dba)
            dba.execute(sql.SQL(_BULK_UPDATE).format(table=sql.Identifier("public", table), rows=rows))
            used.append(_one(dba) - before)
    return Paid(f"transaction ids of an update of {rows:,} rows", *used)


def _one(dba: psycopg.Connection[Any]) -> int:
    row = dba.execute(_NEXT_ID).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def watched_server(
    binaries: Binaries, rows: int, settings: Mapping[str, str]
) -> Iterator[tuple[Server, psycopg.Connection[Any]]]:
    """A server with the tables and triggers, without a daemon; and a superuser's session."""
    with (
        postgres_server(binaries, settings=settings) as server,
        psycopg.connect(server.dsn, autocommit=True) as dba,
        tempfile.TemporaryDirectory() as folder,
    ):
        dba.execute("CREATE ROLE ats LOGIN")
        template = sql.SQL((Path(__file__).parent / "tables.sql").read_text(encoding="utf-8"))
        for table in TABLES:
            name = sql.Identifier("public", table)
            dba.execute(template.format(table=name, name=sql.Literal(table), rows=sql.Literal(rows)))
        config = Path(folder) / "config.yaml"
        config.write_text(_CONFIG.format(folder=folder))
        dba.execute(scripts.install(load(config, {})).encode())
        yield server, dba


_CONFIG = """
database: {{dsn: "dbname=nowhere"}}
hellowork: {{base_url: "http://127.0.0.1:1"}}
state: {{path: "{folder}/state.db"}}
watches:
  watched:
    table: public.watched
    key: [id]
    columns:
      {{application_id: hellowork_id, status: status, job_id: job_id, created: created_at, event_date: updated_at}}
    capture: {{mode: notify}}
"""


def instructions(binaries: Binaries) -> list[Paid]:
    """Count them.

    Raises:
        ValgrindMissingError: there is none.
        PostgresError: the server failed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ValgrindMissingError("this needs valgrind; install it, for instance: apt-get install valgrind")
    with watched_server(binaries, _BULK_ROWS, _SETTINGS) as (server, dba):
        dba.close()
        server.stop()
        counted = [_count(valgrind, server, table, _BULK_ROWS) for table in TABLES]
    return [
        Paid(f"thousands of instructions: {name}", *(round(each[name] / 1000, 1) for each in counted))
        for name in counted[0]
    ]


def _count(valgrind: str, server: Server, table: str, rows: int) -> dict[str, float]:
    """The instructions of one change, by workload."""
    out = server.folder / f"{table}.callgrind"
    command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={out}", "--log-file=/dev/null"]
    command += ["--dump-before=RequestCheckpoint", "--dump-after=RequestCheckpoint"]
    command += [str(server.binaries.folder / "postgres"), "--single", "-D", str(server.folder / "data")]
    command += [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
    owner = server.folder.stat()
    # PostgreSQL refuses root.
    user, group = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (None, None)
    ran = subprocess.run(
        [*command, "postgres"],
        input="\n".join([*_script(f"public.{table}", rows), ""]),
        capture_output=True,
        text=True,
        check=False,
        cwd=server.folder,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "LD_LIBRARY_PATH": str(server.binaries.libraries)},
        user=user,
        group=group,
        extra_groups=None if user is None else (),
    )
    if ran.returncode or "ERROR:" in ran.stderr:
        raise PostgresError(f"postgres under {valgrind} failed:\n{ran.stderr}")
    # Each workload makes four files: warm-up, CHECKPOINT, work, CHECKPOINT.
    totals = [_total(out.with_name(f"{out.name}.{number}")) for number in range(3, 4 * len(_SINGLE) + 4, 4)]
    changes = [*[_COUNTED] * len(_SINGLE), rows]
    return {name: total / each for name, total, each in zip([*_SINGLE, _BULK], totals, changes, strict=True)}


def _script(table: str, rows: int) -> Iterator[str]:
    """The server's input: one statement a line."""
    for statement in _SINGLE.values():
        for number in range(1, _WARM_UP + _COUNTED + 1):
            yield statement.format(table=table, id=number)
            if number == _WARM_UP:
                yield "CHECKPOINT"
        yield "CHECKPOINT"
    yield _BULK_UPDATE.format(table=table, rows=rows)
    yield f"VACUUM {table}"
    yield "CHECKPOINT"
    yield _BULK_UPDATE.format(table=table, rows=rows)
    yield "CHECKPOINT"


def _total(callgrind: Path) -> int:
    found = re.search(r"^totals: (\d+)$", callgrind.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{callgrind} has no totals"
    return int(found[1])


if __name__ == "__main__":
    sys.exit(main())
