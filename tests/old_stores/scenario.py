"""What happened before each of the stores was left behind: one of everything that a store can hold."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql
from support.hellowork_server import HelloWork

from old_stores import DECIDED, DIRECT_PORT, PORT, OldStore

TABLES = ("applications", "direct", "polled")
"""Each has a watch of the same name."""

_TABLES = """
CREATE TABLE public.{0} (
    id bigint PRIMARY KEY, hellowork_id text, status_api_url text, status text, job_id text, created_at timestamptz,
    updated_at timestamptz, source text, deleted_at timestamptz, notes text
);
CREATE INDEX ON public.{0} (updated_at);
CREATE INDEX ON public.{0} (hellowork_id);
"""
_PATIENCE = 90.0
_IS_BASELINE = "SELECT count(*) = 42 FROM snapshot"

Command = Callable[..., None]
"""Runs a command of the program beside its daemon; it must succeed."""

Ask = Callable[[str], Any]
"""The one value that a query gives of the store as it is, in which tables have no schema; None if it fails."""


def create_tables(ats: psycopg.Connection) -> None:
    """The ATS's tables."""
    ats.execute("DROP TABLE IF EXISTS public.applications")  # the one that tests usually have
    for table in TABLES:
        ats.execute(_TABLES.format(table).encode())


def document(old: OldStore, dsn: str, state: Mapping[str, Any], admin_port: int) -> dict[str, Any]:
    """The configuration. What it does not name has always been the default."""
    own = {"hellowork": {"headers": {"Authorization": "of direct"}}} if old.has_decisions else {}
    columns = {
        "application_id": "hellowork_id",
        "status": "status",
        "job_id": "job_id",
        "created": "created_at",
        "event_date": "updated_at",
        "source": "source",
        "deleted": "deleted_at",
    }
    condition = "t.notes IS DISTINCT FROM 'interne'"
    watch = {"key": ["id"], "columns": columns, "deletion_grace": "25s"}
    notify = {"mode": "notify", "sweep": "1h", "drain_interval": "1s"}
    return {
        "database": {"dsn": dsn},
        "hellowork": {
            "base_url": f"http://{old.host}:{PORT}",
            "allowed_hosts": [f"{old.host}:{DIRECT_PORT}"],
            "timeout": "15s",
            "retry": {"first": "1s", "max": "4s"},
        },
        "state": dict(state),
        "admin": {"listen": f"127.0.0.1:{admin_port}"},
        "log": {"level": "debug", "format": "json"},
        "watches": {
            "applications": {
                **watch,
                "table": "public.applications",
                "where": {"sql": condition, "depends_on": ["notes"]} if old.schema > DECIDED else condition,
                "extra": {"commentaire": "notes"},
                "capture": notify,
            },
            "direct": {
                **watch,
                **own,
                "table": "public.direct",
                "columns": {**columns, "status_url": "status_api_url"},
                "capture": notify,
            },
            "polled": {
                **watch,
                "table": "public.polled",
                "capture": {"mode": "poll", "poll_interval": "200ms", "watermark": "updated_at", "sweep": "1s"},
                "fuse": {"max_changes": 3},
            },
        },
    }


def fill(ats: psycopg.Connection, host: str) -> None:
    """The rows that are there at the first start."""
    sources = (None, "Jobboard à façon", json.dumps({"channel": "Réseau 🎣", "id": 1.50}, ensure_ascii=False))
    for table, number in (("applications", 24), ("direct", 8), ("polled", 10)):
        for key in range(1, number + 1):
            id_ = f"{table}-{key}"
            url = f"http://{host}:{DIRECT_PORT}/v1/applications/{id_}/status" if table == "direct" else None
            _insert(ats, table, key, id_, status_api_url=url, source=sources[key % 3], notes=f'note "{key}" — ça\\va')


def put_back(ats: psycopg.Connection, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """The rows that were there when the daemon was killed."""
    for table, values in rows.items():
        statement = sql.SQL("INSERT INTO {0} SELECT * FROM jsonb_populate_recordset(NULL::{0}, %s)")
        ats.execute(statement.format(sql.Identifier("public", table)), (json.dumps(values),))


def discard(ats: psycopg.Connection, ask: Ask, api: HelloWork, command: Command) -> None:
    """A person discards a dead letter, while the daemon runs."""
    _until(ask, _IS_BASELINE, "the baseline")
    api.will({"kind": "status", "status": 400, "application_id": "applications-11", "times": None})
    _change(ats, "applications", 11, status="Refusé")
    _until(ask, "SELECT count(*) = 1 FROM outbox WHERE state = 'dead'", "the dead letter to be discarded")
    command("dead-letters", "discard", "--yes", "applications-11")
    api.will_work()


def live(ats: psycopg.Connection, ask: Ask, api: HelloWork, direct: HelloWork, host: str) -> None:
    """Everything that happens while the daemon runs; returns when the store has one of everything."""
    _until(ask, _IS_BASELINE, "the baseline")
    for key in (1, 2, 3):
        _change(ats, "applications", key, status=f"Présélectionné·e {key} 🎉")
    _change(ats, "applications", 4, job_id="poste n° 2")
    _change(ats, "direct", 1, status="Entretien")
    _insert(ats, "applications", 101, "applications-101", source="Cooptation", notes=None)
    _change(ats, "direct", 6, deleted_at="2026-01-01 03:04:05+00")
    # No timestamp tells of it: a sweep repairs it.
    ats.execute("UPDATE public.polled SET status = 'Vu' WHERE id = 9")
    _until(
        ask,
        "SELECT count(*) = 6 AND (SELECT count(*) = 0 FROM outbox) FROM snapshot"
        " WHERE status LIKE 'Pr%' OR status IN ('Entretien', 'Vu', 'deleted')",
        "the first acknowledgements",
    )
    _until(ask, "SELECT count(*) > 0 FROM repair", "what a sweep repaired")

    api.will(
        {"kind": "status", "status": 400, "application_id": "applications-5", "times": None},
        {"kind": "status", "status": 500, "application_id": "applications-6", "times": None},
        {"kind": "status", "status": 404, "application_id": "applications-7", "times": None},
        {"kind": "hang", "application_id": "applications-8", "times": None},
    )
    direct.will({"kind": "status", "status": 401, "times": None})
    for key in (5, 6, 7):
        _change(ats, "applications", key, status="Refusé")
    _until(ask, "SELECT count(*) = 1 FROM outbox WHERE state = 'dead'", "the dead letter")
    _until(ask, "SELECT count(*) = 2 FROM outbox WHERE state = 'pending' AND attempts > 1", "what is tried again")
    _change(ats, "direct", 2, status="Rejeté")
    _until(ask, "SELECT count(*) = 1 FROM outbox WHERE watch = 'direct' AND attempts > 0", "what was refused")
    for key in (3, 4):
        _change(ats, "direct", key, status="Embauché", source=None)
    _change(ats, "direct", 5, deleted_at="2026-01-02 03:04:05+00")
    _insert(
        ats,
        "direct",
        102,
        "direct-102",
        status_api_url=f"http://{host}:{DIRECT_PORT}/v1/applications/direct-102/status",
    )
    for key in range(1, 6):
        _change(ats, "polled", key, status="Archivé")
    _insert(ats, "applications", 103, "applications-103", status=None)
    _change(ats, "applications", 9, notes="interne")
    _until(ask, "SELECT count(*) > 2 FROM outbox WHERE state = 'held'", "what the fuse holds")
    _until(ask, "SELECT count(*) = 1 FROM skipped WHERE application_id = 'applications-103'", "the row without status")
    _until(ask, "SELECT count(*) = 1 FROM snapshot WHERE application_id = 'applications-9' AND NOT in_scope", "scope")
    _until(ask, "SELECT count(*) > 2 FROM outbox WHERE watch = 'direct' AND attempts = 0", "what was never tried")
    _delete(ats, "applications", 10)
    _until(ask, "SELECT count(*) = 1 FROM suspicion", "the suspicion")
    _change(ats, "applications", 8, status="Accepté", notes=None)
    deadline = time.monotonic() + _PATIENCE
    while not api.calls_for("applications-8"):
        _wait(deadline, "the call that hangs")


def _insert(ats: psycopg.Connection, table: str, key: int, id_: str, **columns: Any) -> None:
    values = {
        "id": key,
        "hellowork_id": id_,
        "status": "Nouveau",
        "job_id": f"job-{key % 4}",
        "created_at": "2025-11-30 09:00:00.5+01",
        "updated_at": "2025-12-01 10:00:00+01",
        **columns,
    }
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier("public", table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(map(sql.Literal, values.values())),
    )
    ats.execute(statement)


def _change(ats: psycopg.Connection, table: str, key: int, **columns: Any) -> None:
    put = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in columns.items()]
    changed = ats.execute(
        sql.SQL("UPDATE {} SET updated_at = clock_timestamp(), {} WHERE id = {}").format(
            sql.Identifier("public", table), sql.SQL(", ").join(put), sql.Literal(key)
        )
    )
    assert changed.rowcount == 1


def _delete(ats: psycopg.Connection, table: str, key: int) -> None:
    ats.execute(sql.SQL("DELETE FROM {} WHERE id = {}").format(sql.Identifier("public", table), sql.Literal(key)))


def _until(ask: Ask, query: str, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ask(query):
        _wait(deadline, what)


def _wait(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(what)
    time.sleep(0.05)
