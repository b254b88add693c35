"""A database's tables, and labels behind foreign keys, for `cdc-sync init`; no daemon loads this module."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import NamedTuple

from psycopg.sql import Identifier

from cdc_sync.config.meanings import is_personal, place_among
from cdc_sync.core.identifiers import QualifiedName, usable, written

from .connection import Connection, rows_of
from .errors import SourceError
from .expressions import catalog, composed, sections
from .expressions import table as quoted
from .facts import READABLE, Column, ServerFacts, asking_shortly, described, server_facts

_MOST_LABELS, _MOST_TABLES = 12, 5000
_LANGUAGES = ("fr_FR", "en_US")


class Table(NamedTuple):
    """A table, partitioned table or view.

    Attributes:
        kind: `pg_class.relkind`.
        rows: the planner's estimate; None if it was never analysed.
        key: the columns of the primary key, else of another unique index without NULLs.
    """

    name: QualifiedName
    kind: str
    rows: int | None
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def is_table(self) -> bool:
        """Whether it can have triggers."""
        return self.kind in {"r", "p"}

    @property
    def size(self) -> str:
        """How many rows it has, for people."""
        return "an unknown number of rows, never analysed" if self.rows is None else f"about {self.rows} rows"

    @property
    def has_people(self) -> bool:
        """Whether it has a column of a person; a mere name may be anything's."""
        return any(is_personal(each.name) for each in self.columns if each.name.lower() not in {"name", "nom"})

    def column(self, name: str) -> Column | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Survey(ServerFacts):
    """A database and its tables, without PostgreSQL's own and names that cannot be configured (`left_out`)."""

    tables: tuple[Table, ...]
    left_out: tuple[str, ...]


async def survey(connection: Connection, called: str = "") -> Survey:
    """Look at a database: of very many tables at the first ones, and at those of this name."""
    looking = {"kinds": list(READABLE), "named": called.lower(), "most": _MOST_TABLES}
    async with asking_shortly(connection, "looking at the database's tables"):
        server = await server_facts(connection)
        relations = await rows_of(connection, catalog("relations"), looking)
        facts = await described(connection, [oid for oid, *_ in relations])
    tables: list[Table] = []
    left_out: list[str] = []
    for oid, schema, table, kind, rows in [each for each in relations if each[0] in facts]:
        columns, unique = facts[oid]
        name = QualifiedName(schema, table)
        if not (usable(schema) and usable(table)):
            left_out.append(str(name))
            continue
        left_out += sorted(f"{name}.{written(column)}" for column in columns if not usable(column))
        named = tuple(column for name, column in columns.items() if usable(name))
        if not named:
            continue
        key = next((key for key in unique if all(columns[each].not_null and usable(each) for each in key)), ())
        tables.append(Table(name, kind, rows, tuple(key), named))
    return Survey(**asdict(server), tables=tuple(tables), left_out=tuple(left_out))


class Label(NamedTuple):
    """The label to which a foreign key leads: its column and table, and the expression over the row that reads it."""

    sql: str
    table: QualifiedName
    column: str


def label_behind(column: Column, tables: Iterable[Table]) -> Label | None:
    """The label behind a column's foreign key; None if there is none, or it leads to people."""
    reference = column.reference
    lookup = next((table for table in tables if reference and table.name == reference.table), None)
    if reference is None or lookup is None or lookup.has_people:
        return None
    texts = [each for each in lookup.columns if each.kind in {"text", "json"} and lookup.key != (each.name,)]
    untyped = [each for each in reversed(texts) if "type" not in each.name.lower()]
    places = {place: each for each in untyped if (place := place_among(each.name, "labels")) is not None}
    if not places:
        return None
    label = places[min(places)]
    value = f"s.{written(label.name)}"
    if label.kind == "json":  # a translated label (Odoo): one text for each language
        value = f"coalesce({', '.join(f'{value} ->> {language!r}' for language in _LANGUAGES)})"
    where = f"s.{written(reference.key)} = t.{written(column.name)}"
    return Label(f"(SELECT {value} FROM {lookup.name} s WHERE {where})", lookup.name, label.name)  # noqa: S608 - for a file


async def some_values(connection: Connection, table: QualifiedName, column: str) -> list[str]:
    """Some different values of a column, as far as we may read them."""
    query = composed(
        sections("reading.sql")["values"], column=Identifier(column), table=quoted(table), most=_MOST_LABELS
    )
    # `init` comes before the grants.
    with suppress(SourceError):
        async with asking_shortly(connection, f"looking at the values of {written(column)}"):
            return [value for (value,) in await rows_of(connection, query)]
    return []
