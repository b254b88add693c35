"""What the triggers cost the ATS: instructions of its server for a statement.

Neither the machine nor other work on it changes these figures. valgrind's callgrind counts in a single-user server, on
tables and triggers of an ordinary server, without a daemon and with a disarmed bell. Every statement is a transaction.
Each workload stands between two CHECKPOINTs, whose function makes callgrind write its counts.

Two things differ from production. Full pages are never written to the WAL: their number would be random. And the server
is some fifty times slower, so a bulk update looks at the log's size, as each hundredth of a second, every few rows.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from support import install_script

from bench.figures import Figure, beside
from bench.site import TABLE, Options, Rig
from cdc_sync.config import load
from cdc_sync.demo.postgres import Binaries, PostgresError, Server
from cdc_sync.demo.postgres import server as postgres_server

_TABLES = ("bare", "watched")
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

_CONFIG = Path(__file__).with_name("triggers.yaml").read_text(encoding="utf-8")


def triggers(rig: Rig, _: Options) -> list[Figure]:
    """What is paid with triggers, beside a table without them.

    Raises:
        ValueError: there is no valgrind.
        PostgresError: the server failed.
    """
    binaries, valgrind = rig.binaries, shutil.which("valgrind")
    if valgrind is None:
        raise ValueError("the row `trigger` needs valgrind; install it, for instance: apt-get install valgrind")
    with _watched_server(binaries) as server:
        server.stop()
        bare, watched = (_count(valgrind, server, table) for table in _TABLES)
    return [beside(f"trigger: {name}", "k instructions", [(watched[name], bare[name])]) for name in bare]


@contextmanager
def _watched_server(binaries: Binaries) -> Iterator[Server]:
    """A server with the tables and triggers, without a daemon."""
    with postgres_server(binaries, settings=_SETTINGS) as server:
        with psycopg.connect(server.dsn, autocommit=True) as dba, tempfile.TemporaryDirectory() as folder:
            for table in _TABLES:
                name = sql.Identifier("public", table)
                dba.execute(TABLE.format(table=name, name=sql.Literal(table), rows=sql.Literal(_BULK_ROWS)))
                dba.execute(sql.SQL("ANALYZE {}").format(name))
            config = Path(folder) / "config.yaml"
            config.write_text(_CONFIG.format(folder=folder))
            dba.execute(install_script.install(load(config, {})).encode())
        yield server


def _count(valgrind: str, server: Server, table: str) -> dict[str, float]:
    """The thousands of instructions of one change, by workload."""
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
        input="\n".join([*_script(f"public.{table}"), ""]),
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
    changes = [*[_COUNTED] * len(_SINGLE), _BULK_ROWS]
    return {name: total / each / 1000 for name, total, each in zip([*_SINGLE, _BULK], totals, changes, strict=True)}


def _script(table: str) -> Iterator[str]:
    """The server's input: one statement a line."""
    for statement in _SINGLE.values():
        for number in range(1, _WARM_UP + _COUNTED + 1):
            yield statement.format(table=table, id=number)
            if number == _WARM_UP:
                yield "CHECKPOINT"
        yield "CHECKPOINT"
    bulk = _BULK_UPDATE.format(table=table, rows=_BULK_ROWS)
    yield from (bulk, f"VACUUM {table}", "CHECKPOINT", bulk, "CHECKPOINT")


def _total(callgrind: Path) -> int:
    found = re.search(r"^totals: (\d+)$", callgrind.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{callgrind} has no totals"
    return int(found[1])
