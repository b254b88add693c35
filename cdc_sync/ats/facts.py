"""The catalog's answers: the server, where it is reached, and its tables. No row is read."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from psycopg.sql import SQL

from cdc_sync.config import Watch
from cdc_sync.core.findings import host_name
from cdc_sync.core.identifiers import QualifiedName, usable

from .connection import IDENTITY, NOW, Connection, Rows, asking, look_at_own_schemas, rows_of
from .errors import source_error
from .expressions import POSTGRESQLS_OWN, arrays, catalog, composed, sections

Kind = Literal["text", "number", "uuid", "json", "instant", "other"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("text", "character", "character varying", "citext", "name"), "text"),
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric"), "number"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    "uuid": "uuid",
    "date": "instant",
}

READABLE = "rpvmf"
"""Relations with rows (`pg_class.relkind`): tables, partitioned ones, views, materialized ones, foreign tables."""

_SERVER = composed(catalog("server"), identity=IDENTITY, position=NOW)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server behind a connection; position and login do not count in comparisons.

    Attributes:
        version: `server_version_num`, 150004 for 15.4.
        identity: of the database and its cluster.
        position: see `ReplicaPosition`.
        prepares_transactions: whether two-phase commits are possible.
        waits_for_standbys: whether commits may wait for a synchronous standby.
    """

    version: int
    in_recovery: bool
    identity: str
    position: str = field(compare=False)
    prepares_transactions: bool
    waits_for_standbys: bool
    user: str = field(compare=False)
    database: str = field(compare=False)
    timezone: str = field(compare=False)
    is_superuser: bool = field(compare=False)


class Reference(NamedTuple):
    """Another table that a column leads to, by its key."""

    table: QualifiedName
    key: str


class Column(NamedTuple):
    """A column.

    Attributes:
        type: as SQL writes it, domains resolved.
        unique: by an index of its own.
        reference: where a foreign key leads.
        operators: the schema of the operators that compare its type: `pg_catalog`, or an extension's.
        virtual: whether it is generated when it is read (PostgreSQL 18): a trigger sees no value of it.
    """

    name: str
    type: str
    is_enum: bool = False
    unique: bool = False
    reference: Reference | None = None
    not_null: bool = False
    operators: str = POSTGRESQLS_OWN
    virtual: bool = False

    @property
    def kind(self) -> Kind:
        """The kind of its values."""
        plain = self.type.partition("(")[0]
        return "text" if self.is_enum else "instant" if plain.startswith("timestamp") else _KINDS.get(plain, "other")


class TableFacts(NamedTuple):
    """A table in the catalog.

    Attributes:
        oid: another one if the table was created again.
        estimate: the planner's row count, 0 if unknown.
        types: of each column, by name; another text if it has another type or length.
        columns: by name, in their order.
        unique: the columns of each unique index.
    """

    oid: int
    schema: str
    name: str
    kind: str
    estimate: int
    types: dict[str, str]
    columns: Mapping[str, Column]
    unique: Sequence[Sequence[str]]

    @property
    def virtual(self) -> set[str]:
        """The columns that a trigger does not see."""
        return {column.name for column in self.columns.values() if column.virtual}

    @property
    def qualified(self) -> QualifiedName:
        """Its name with its schema."""
        return QualifiedName(self.schema, self.name)


@asynccontextmanager
async def asking_shortly(connection: Connection, doing: str, *, writes: bool = False) -> AsyncIterator[None]:
    """Ask in a short transaction, which waits briefly for locks: read-only, or rolled back if it `writes`."""
    bounds, access = sections("sessions.sql")["bounds"], SQL("READ WRITE" if writes else "READ ONLY")
    async with asking(doing), connection.transaction(force_rollback=writes):
        await connection.execute(composed(bounds, access=access))
        yield


async def server_facts(connection: Connection) -> ServerFacts:
    """Ask the server for its facts."""
    async with asking("asking the server for its version and identity"):
        (row,) = await rows_of(connection, _SERVER)
    return ServerFacts(*row)


Described: TypeAlias = tuple[dict[str, Column], list[list[str]]]
"""A table's columns by name, and those of each unique index, the primary one first."""


async def described(connection: Connection, oids: Sequence[int]) -> dict[int, Described]:
    """What the catalog has of these tables; of a table without columns nothing."""
    # To plan it takes ten times as long as to run it.
    rows = await rows_of(connection, catalog("tables"), {"tables": oids}, prepare=True)
    found = {oid: json.loads(text) for oid, text in rows}
    return {
        oid: ({name: _column(name, unique, **about) for name, about in columns.items()}, unique)
        for oid, (unique, columns) in found.items()
    }


def _column(name: str, unique: list[list[str]], reference: list[str] | None, **about: Any) -> Column:
    leads = None
    if reference is not None and all(map(usable, reference)):
        *table, key = reference
        leads = Reference(QualifiedName(*table), key)
    return Column(name, unique=[name] in unique, reference=leads, **about)


async def relations(connection: Connection, table: QualifiedName) -> Rows:
    """What the catalog has of a table, its oid first; empty if there is none."""
    if table.schema is None:
        await look_at_own_schemas(connection)
    named = {"name": table.name, "schema": table.schema}
    return await rows_of(connection, catalog("relation"), named, prepare=True)


async def table_facts(connection: Connection, table: QualifiedName) -> TableFacts:
    """Look a table up.

    Raises:
        SourceError: there is none, or without a schema none on the login's search_path.
    """
    async with asking(f"looking up the table {table}"):
        found = await relations(connection, table)
        if not found:
            raise source_error("table-missing", table=table)
        ((oid, schema, name, kind, estimate, types),) = found
        columns, unique = (await described(connection, [oid])).get(oid, ({}, []))
        return TableFacts(oid, schema, name, kind, estimate, json.loads(types), columns, unique)


async def schemas_of_tenants(connection: Connection, templates: Mapping[str, Watch]) -> list[tuple[str, str]]:
    """Pairs of a template that looks for schemas and a tenant's, also with a table that we may not read."""
    wanted = [(name, each.tenants.schemas, each.table.name) for name, each in templates.items()]
    parameters = {**arrays(("templates", "patterns", "tables"), wanted), "kinds": list(READABLE)}
    async with asking_shortly(connection, "looking for tenants"):
        rows = await rows_of(connection, catalog("tenants"), parameters)
    return [(template, schema) for template, schema in rows if usable(schema)]


def hosts_of(dsn: str, connection: Connection) -> tuple[str, ...]:
    """The hosts of a DSN, its service or the environment, with ports, in one spelling."""
    given = conninfo_to_dict(dsn)
    # The connection knows all hosts of a service; of the environment's, which psycopg tries one by one, only its own.
    options = connection.pgconn.info if "service" in given else Conninfo.get_defaults()
    others = {option.keyword.decode(): option.val.decode() for option in options if option.val}
    named = (settings.get(name) for settings in (given, others) for name in ("host", "hostaddr"))
    hosts = str(next(filter(None, named), connection.info.host)).split(",")
    ports = str(given.get("port") or others.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return tuple(dict.fromkeys(host_name(host, port) for host, port in zip(hosts, ports, strict=False)))
