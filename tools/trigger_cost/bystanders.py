"""What a bulk update of watched rows costs others than the writer: a standby's readers, logical decoding, ids.

A server of its own, without a daemon: the costs are the transaction's. On each table, `bare` first:

- **ids**: the transaction ids of a bulk update.
- **decoding**: a logical slot decodes the bulk: the transactions spilled to disk, and the seconds. Beyond
  `logical_decoding_work_mem` the bulk's own transaction spills without triggers too.
- **standby**: a writer stays open on the primary, one update changes 1,000 rows, ordinary traffic goes on, and a
  standby's sessions read the rows: reads per second, and lookups in `pg_subtrans` (PostgreSQL 13 or newer).
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.standby import Standby, standby_of

from cdc_sync.ats import scripts
from cdc_sync.config import load
from cdc_sync.demo.postgres import Binaries, Server
from cdc_sync.demo.postgres import server as postgres_server
from trigger_cost.options import Options
from trigger_cost.pgbench import Pgbench, find_pgbench
from trigger_cost.workloads import BULK, Variant

_TABLES: tuple[Variant, ...] = ("bare", "rung")
_SETTINGS = {"wal_level": "logical", "fsync": "off", "max_wal_size": "8GB", "max_replication_slots": "5"}
_SLRU_STATISTICS = 130000
_SLOT_STATISTICS = 140000
_WATCHED_AT_ONCE = 1_000
_READ_ROWS = 100
_READERS = 4

_TRAFFIC = "\\set id random(1, {rows})\nUPDATE public.bare SET notes = 'n' || :id, updated_at = now() WHERE id = :id;\n"
_READS = "SELECT count(*), max(notes) FROM public.bare WHERE id <= {rows};\n"


@dataclass(frozen=True, slots=True)
class Paid:
    """`what`, with its unit, without triggers and with them."""

    what: str
    bare: float | None
    watched: float | None


def measure_bystanders(binaries: Binaries, options: Options, tell: Callable[[str], None]) -> list[Paid]:
    pgbench, rows, length = find_pgbench(binaries), 2 * options.rows, options.length
    paid: list[Paid] = []
    with watched_server(binaries, rows, _SETTINGS) as (server, dba):
        version = dba.info.server_version
        tell("transaction ids of a bulk update")
        ids = [_ids_of_bulk(dba, table, rows) for table in _TABLES]
        paid.append(Paid(f"transaction ids of an update of {rows:,} rows", ids[0], ids[1]))
        tell("logical decoding of a bulk update")
        decoded = [_decode_bulk(dba, table, rows, spilled=version >= _SLOT_STATISTICS) for table in _TABLES]
        paid.append(Paid(f"decoding an update of {rows:,} rows: transactions spilled", decoded[0][0], decoded[1][0]))
        paid.append(Paid("the same: seconds", decoded[0][1], decoded[1][1]))
        tell("a standby's readers")
        with standby_of(server) as standby, tempfile.TemporaryDirectory() as folder:
            runs = [
                [_reads(_Scene(server, dba, standby, pgbench, Path(folder), length), table) for table in _TABLES]
                for _ in range(options.rounds)
            ]
        rates = [median(each[table][0] for each in runs) for table in (0, 1)]
        paid.append(Paid("standby: reads/s after a bulk, a writer open", rates[0], rates[1]))
        if version >= _SLRU_STATISTICS:
            lookups = [max(each[table][1] for each in runs) for table in (0, 1)]
            paid.append(Paid("the same: pg_subtrans lookups", lookups[0], lookups[1]))
    return paid


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
        for table in _TABLES:
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
  rung:
    table: public.rung
    key: [id]
    columns:
      {{application_id: hellowork_id, status: status, job_id: job_id, created: created_at, event_date: updated_at}}
    capture: {{mode: notify}}
"""


def _one(connection: psycopg.Connection[Any], query: LiteralString, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row[0]


def _bulk(dba: psycopg.Connection[Any], table: Variant, rows: int) -> None:
    dba.execute(sql.SQL(BULK).format(table=sql.Identifier("public", table), rows=rows))


def _clean(dba: psycopg.Connection[Any], table: Variant) -> None:
    dba.execute("TRUNCATE cdc_sync.changes")
    dba.execute(sql.SQL("VACUUM {}").format(sql.Identifier("public", table)))


def _ids_of_bulk(dba: psycopg.Connection[Any], table: Variant, rows: int) -> float:
    before = _one(dba, "SELECT txid_snapshot_xmax(txid_current_snapshot())")
    _bulk(dba, table, rows)
    used = _one(dba, "SELECT txid_snapshot_xmax(txid_current_snapshot())") - before
    _clean(dba, table)
    return float(used)


def _decode_bulk(
    dba: psycopg.Connection[Any], table: Variant, rows: int, *, spilled: bool
) -> tuple[float | None, float]:
    """The spilled transactions (None: not counted), and the seconds."""
    dba.execute(sql.SQL("CREATE PUBLICATION ats FOR TABLE {}").format(sql.Identifier("public", table)))
    dba.execute("SELECT pg_create_logical_replication_slot('ats', 'pgoutput')")
    try:
        _bulk(dba, table, rows)
        began = time.perf_counter()
        changes = _one(
            dba,
            "SELECT count(*) FROM pg_logical_slot_get_binary_changes("
            "'ats', NULL, NULL, 'proto_version', '1', 'publication_names', 'ats')",
        )
        took = time.perf_counter() - began
        assert changes >= rows, f"only {changes} changes were decoded"
        count = float(_one(dba, "SELECT spill_txns FROM pg_stat_replication_slots")) if spilled else None
    finally:
        dba.execute("SELECT pg_drop_replication_slot('ats')")
        dba.execute("DROP PUBLICATION ats")
        _clean(dba, table)
    return count, took


@dataclass(frozen=True, slots=True)
class _Scene:
    server: Server
    dba: psycopg.Connection[Any]
    standby: Standby
    pgbench: Pgbench
    folder: Path
    length: tuple[str, str]


def _reads(scene: _Scene, table: Variant) -> tuple[float, float]:
    """Reads per second on the standby, and lookups in pg_subtrans there."""
    ats = scene.server.dsn_for("postgres", "ats")
    traffic, reads = scene.folder / "traffic.sql", scene.folder / "reads.sql"
    # On bare rows: only the bulk differs.
    traffic.write_text(_TRAFFIC.format(rows=_READ_ROWS))
    reads.write_text(_READS.format(rows=_READ_ROWS))
    with psycopg.connect(ats) as writer, psycopg.connect(scene.standby.dsn, autocommit=True) as reader:
        writer.execute("INSERT INTO public.bare DEFAULT VALUES")
        bulk = "UPDATE {} SET status = 'c' || random() WHERE id BETWEEN 1 AND {}"
        scene.dba.execute(sql.SQL(bulk).format(_name(table), _WATCHED_AT_ONCE))
        scene.pgbench.run(traffic, ats, 2, scene.length)
        _replay(scene.dba, reader)
        before = _lookups(reader)
        ran = scene.pgbench.run(reads, make_conninfo(scene.standby.dsn), _READERS, scene.length)
        time.sleep(1.0)  # statistics reach the view with a delay
        looked_up = _lookups(reader) - before
        writer.rollback()
    _clean(scene.dba, table)
    return ran.rate, looked_up


def _name(table: str) -> sql.Identifier:
    return sql.Identifier("public", table)


def _replay(primary: psycopg.Connection[Any], standby: psycopg.Connection[Any]) -> None:
    position = _one(primary, "SELECT pg_current_wal_lsn()::text")
    deadline = time.monotonic() + 60
    while not _one(standby, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position):
        assert time.monotonic() < deadline, "the standby does not replay"
        time.sleep(0.05)


def _lookups(standby: psycopg.Connection[Any]) -> float:
    if standby.info.server_version < _SLRU_STATISTICS:
        return 0.0
    query = "SELECT coalesce(sum(blks_hit + blks_read), 0) FROM pg_stat_slru WHERE lower(name) LIKE 'subtrans%%'"
    return float(_one(standby, query))
