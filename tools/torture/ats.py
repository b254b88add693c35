"""The ATS's database: its making, its truth, and everything that ever was true in it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from support import install_script
from support.postgres import create_ats

from cdc_sync.ats.discovery import discover
from cdc_sync.ats.scripts import grants
from cdc_sync.config import load
from cdc_sync.store.postgres import schema as store_scripts
from torture.population import AT_FIRST, FIRST, STATUSES

ROLE = "cdc_sync"

_LEDGER, _TRIGGERS, _SPLIT, _TENANT, _TRUTH = (
    part.partition("\n")[2] for part in (Path(__file__).parent / "ats.sql").read_text().split("-- part: ")[1:]
)


@dataclass(frozen=True, slots=True)
class State:
    """A row's state."""

    status: str
    job_id: str
    gone: bool


@dataclass(frozen=True, slots=True)
class Committed:
    """Committed just after `at`, in seconds since the epoch."""

    state: State
    at: float


def tenants(number: int) -> list[str]:
    """The schemas of so many tenants."""
    return [f"tenant_{each:02}" for each in range(number)]


def prepare(dsn: str, number_of_tenants: int = 0) -> None:
    """Make the schema, the ledger and the first applications.

    Each tenant has a schema with a table, and all rows of its applications. The ATS works on the table that these
    inherit from, which hands new rows over to them.
    """
    create_ats(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute(f"{_LEDGER}{_TRIGGERS}".encode())
        if number_of_tenants:
            connection.execute(sql.SQL(_SPLIT).format(tenants=number_of_tenants))
        for tenant in tenants(number_of_tenants):
            connection.execute(sql.SQL(_TENANT).format(tenant=sql.Identifier(tenant)))
            connection.execute(_TRIGGERS.replace("public.applications", f"{tenant}.applications").encode())
        connection.execute(
            "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"
            " SELECT name, %s, %s, now() - interval '1 day', now() - interval '1 hour' FROM unnest(%s::text[]) AS name",
            (*FIRST, sorted(AT_FIRST)),
        )


def install(dsn: str, file: Path) -> None:
    """Install as a DBA: the daemon's role, triggers and privileges, for each tenant of a template."""
    create_role(dsn)
    config = load(file, {})
    if config.templates:
        config = asyncio.run(discover(config)).config
    with psycopg.connect(dsn, autocommit=True) as dba:
        dba.execute(install_script.install(config).encode())
        dba.execute(grants(config, ROLE).encode())


def create_role(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as dba:
        dba.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))


def install_store(dsn: str) -> None:
    """The same for the store's tables, without the role."""
    with psycopg.connect(dsn, autocommit=True) as dba:
        dba.execute(store_scripts.install().encode())
        dba.execute(store_scripts.grants(ROLE).encode())


def wrap_up(dsn: str) -> None:
    """Give every row a status: all can be reported."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "UPDATE public.applications SET status = %s, updated_at = clock_timestamp() WHERE status IS NULL",
            (STATUSES[0],),
        )


def truth(dsn: str) -> dict[str, State]:
    """The present state of every application with a row."""
    with psycopg.connect(dsn) as connection:
        return {name: State(*columns) for name, *columns in connection.execute(_TRUTH).fetchall()}


def ledger(dsn: str) -> dict[str, list[Committed]]:
    """The committed states of each application's rows, in order of time."""
    committed: dict[str, list[Committed]] = {}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT application, status, job_id, gone, extract(epoch FROM at)::float8 FROM public.ledger ORDER BY at"
        )
        for name, status, job_id, gone, at in rows:
            committed.setdefault(name, []).append(Committed(State(status or "", job_id, gone), at))
    return committed


def unread(dsn: str) -> int:
    """The length of the change log; 0 without one."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT to_regclass('cdc_sync.changes') IS NOT NULL").fetchone()
        if row is None or not row[0]:
            return 0
        (number,) = connection.execute("SELECT count(*) FROM cdc_sync.changes").fetchone() or (0,)
        return int(number)
