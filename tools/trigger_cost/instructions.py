"""The server's instructions for a statement, which other work does not change.

valgrind's callgrind counts them in a single-user server, on tables and triggers of an ordinary server, without a
daemon and with a disarmed bell. Every statement is a transaction. Each workload stands between two CHECKPOINTs, whose
function makes callgrind write its counts.

Two things differ from production. Full pages are never written to the WAL: their number would be random. And the server
is some fifty times slower, so a bulk update looks at the log's size, as each hundredth of a second, every few rows.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from cdc_sync.demo.postgres import Binaries, PostgresFailedError, Server
from trigger_cost.bystanders import Paid, watched_server
from trigger_cost.workloads import BULK, Variant

_TABLES: tuple[Variant, ...] = ("bare", "rung")
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "dynamic_shared_memory_type": "mmap"}
_WARM_UP = 20
_COUNTED = 200
_SINGLE = {
    "update, no watched column": "UPDATE {table} SET notes = 'n{id}', updated_at = now() WHERE id = {id}",
    "update, watched column": "UPDATE {table} SET status = 's{id}', updated_at = now() WHERE id = {id}",
    "insert": "INSERT INTO {table} (hellowork_id, status, updated_at) VALUES ('h{id}', 'NEW', now())",
}
_BULK = "bulk update, watched column, per row"


class ValgrindMissingError(Exception):
    """There is no valgrind."""


def measure_instructions(binaries: Binaries, tell: Callable[[str], None], rows: int = 2_000) -> list[Paid]:
    """Count them.

    Raises:
        ValgrindMissingError: there is none.
        PostgresFailedError: the server failed.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise ValgrindMissingError("--instructions needs valgrind; install it, for instance: apt-get install valgrind")
    with watched_server(binaries, rows, _SETTINGS) as (server, dba):
        dba.close()
        server.stop()
        counted = []
        for table in _TABLES:
            tell(f"{table}, by callgrind")
            counted.append(_count(valgrind, server, table, rows))
    return [
        Paid(f"thousands of instructions: {name}", *(round(each[name] / 1000, 1) for each in counted))
        for name in counted[0]
    ]


def _count(valgrind: str, server: Server, table: Variant, rows: int) -> dict[str, float]:
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
        raise PostgresFailedError(f"postgres under {valgrind} failed:\n{ran.stderr}")
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
    yield BULK.format(table=table, rows=rows)
    yield f"VACUUM {table}"
    yield "CHECKPOINT"
    yield BULK.format(table=table, rows=rows)
    yield "CHECKPOINT"


def _total(callgrind: Path) -> int:
    found = re.search(r"^totals: (\d+)$", callgrind.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, f"{callgrind} has no totals"
    return int(found[1])
