"""What is known of tables and columns: names, types, keys, indexes and the planner's figures, but nothing of a row."""

from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.identifiers import QualifiedName

Kind = Literal["text", "number", "uuid", "enum", "json", "boolean", "timestamptz", "timestamp", "date", "other"]

INSTANTS: frozenset[Kind] = frozenset({"timestamptz", "timestamp", "date"})

_TYPES: dict[Kind, frozenset[str]] = {
    "text": frozenset({"text", "character", "character varying", "citext", "name"}),
    "number": frozenset({"smallint", "integer", "bigint", "numeric"}),
    "uuid": frozenset({"uuid"}),
    "json": frozenset({"json", "jsonb"}),
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
}


@dataclass(frozen=True, slots=True)
class Reference:
    """Another table that a column leads to, by its key."""

    table: QualifiedName
    key: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: as the catalog has it.
        type: as SQL writes it, domains followed down.
        is_enum: whether the type is an enumeration.
        not_null: whether it is never NULL.
        unique: whether an index makes it unique by itself.
        indexed: whether an index begins with it.
        reference: where a foreign key leads.
        distinct: how many different values the planner believes in; None if it does not know.
    """

    name: str
    type: str
    is_enum: bool = False
    not_null: bool = False
    unique: bool = False
    indexed: bool = False
    reference: Reference | None = None
    distinct: int | None = None

    @property
    def kind(self) -> Kind:
        """What sort of value it has."""
        if self.is_enum:
            return "enum"
        if self.type.startswith("timestamp"):
            return "timestamptz" if self.type.endswith("with time zone") else "timestamp"
        name = self.type.partition("(")[0]
        return next((kind for kind, types in _TYPES.items() if name in types), "other")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, partitioned table or view.

    Attributes:
        name: schema and name, as the catalog has them.
        kind: `pg_class.relkind`.
        rows: the planner's estimate.
        key: the primary key's columns, else those of another unique index without NULLs; empty if there is none.
        columns: in the table's order.
    """

    name: QualifiedName
    kind: str
    rows: int
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def is_table(self) -> bool:
        """Whether it can have triggers."""
        return self.kind in {"r", "p"}

    def column(self, name: str) -> Column | None:
        """A column by its name."""
        return next((column for column in self.columns if column.name == name), None)
