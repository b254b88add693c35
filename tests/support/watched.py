"""A watch as people configure it, and the DBA's scripts for it, run as a DBA runs them."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg

from cdc_sync.ats.scripts import grants, uninstall
from cdc_sync.config import Config, Watch, parse
from support.builders import WATCH
from support.install_script import install

COLUMNS: Mapping[str, Any] = {
    "application_id": "hellowork_id",
    "status": "status",
    "job_id": "job_id",
    "created": "created_at",
    "event_date": "updated_at",
    "deleted": "deleted_at",
}
"""The mapping of `ats.sql`'s table."""


def a_config(dsn: str = "", *, columns: Mapping[str, Any] | None = None, **watch: Any) -> Config:
    """One watch on `ats.sql`'s table, or on what is given instead; a column of None is left out."""
    mapped = {name: column for name, column in {**COLUMNS, **(columns or {})}.items() if column is not None}
    return some_config(dsn, {WATCH: {"table": "public.applications", "key": ["id"], "columns": mapped, **watch}})


def a_watch(*, columns: Mapping[str, Any] | None = None, **watch: Any) -> Watch:
    return a_config(columns=columns, **watch).watches[WATCH]


def some_config(dsn: str, watches: Mapping[str, Any]) -> Config:
    document = {"database": {"dsn": dsn or "postgresql:///ats"}, "watches": watches}
    return parse(json.dumps(document), name="the test's configuration", environ={})


def run_script(connection: psycopg.Connection, script: str) -> None:
    """Run a whole script in one go, as psql does with a file."""
    connection.execute(script.encode())


def install_triggers(connection: psycopg.Connection, config: Config) -> None:
    run_script(connection, install(config))


def uninstall_triggers(connection: psycopg.Connection, watch: str | None = None) -> None:
    """What `cdc-sync sql uninstall` prints, of everything or of one watch."""
    run_script(connection, uninstall(watch))


def grant(connection: psycopg.Connection, config: Config, role: str) -> None:
    run_script(connection, grants(config, role))
