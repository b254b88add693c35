"""The ATS and the configuration of the stores that were left behind."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql

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


def put_back(ats: psycopg.Connection, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """The rows that were there when the daemon was killed."""
    for table, values in rows.items():
        statement = sql.SQL("INSERT INTO {0} SELECT * FROM jsonb_populate_recordset(NULL::{0}, %s)")
        ats.execute(statement.format(sql.Identifier("public", table)), (json.dumps(values),))
