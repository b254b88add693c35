"""What kind of relation a watch names, and what follows for capture.mode notify: only tables have row triggers.

Poll and sweep read every kind. The facts are those of PostgreSQL's documentation, "CREATE TRIGGER".
"""

from dataclasses import dataclass

from psycopg import sql

from cdc_sync.config import Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.columns_of import compared
from cdc_sync.source.recorders import render, template

PARTITIONED_TRIGGERS_SINCE = 110000
"""The first version (`server_version_num`) with row triggers on a partitioned table."""

PARTITIONED_INDEXES_SINCE = 110000
"""The first version with an index, hence a unique key, of a partitioned table as a whole."""

_ANY_VERSION = 10**6


@dataclass(frozen=True, slots=True)
class Untriggered:
    """Why a relation's changes set off no trigger, as the rest of a sentence about it, and what to do instead."""

    reason: str
    remedy: str


_BENEATH = (
    "Name the tables beneath it instead: as the watch's table the one that has the key, the others under related; an "
    "expression of columns may still read the view. Or use capture.mode poll."
)
_BY_KIND = {
    "v": Untriggered("is a view, and a view has no row triggers", _BENEATH),
    "m": Untriggered("is a materialized view, which changes only when it is refreshed and has no triggers", _BENEATH),
    "f": Untriggered(
        "is a foreign table, whose rows change on another server, where no trigger of this one fires",
        "Point database.dsn at the server that has the table. Or use capture.mode poll.",
    ),
}
_PARTITIONED = Untriggered(
    "is a partitioned table, and before PostgreSQL 11 it has no row triggers",
    "Use capture.mode poll; under related, list its partitions instead.",
)


def untriggered(kind: str, version: int) -> Untriggered | None:
    """Say why a relation of this kind (`pg_class.relkind`) sets off no trigger; None if it does.

    Args:
        kind: the relation's kind.
        version: the server's `server_version_num`.
    """
    if kind == "p" and version < PARTITIONED_TRIGGERS_SINCE:
        return _PARTITIONED
    return _BY_KIND.get(kind)


def tables_of(watch: Watch) -> list[QualifiedName]:
    """The tables that a watch has triggers on."""
    return [watch.table, *(related.table for related in watch.related)]


def only_tables(watch: Watch) -> str:
    """The part of the installation script that says so of a watch's tables before PostgreSQL does, with the remedy."""
    depends = compared(watch)
    tables = tables_of(watch)
    kinds = [(kind, _ANY_VERSION, why) for kind, why in _BY_KIND.items()]
    kinds.append(("p", PARTITIONED_TRIGGERS_SINCE, _PARTITIONED))
    lines = [
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, (kind, before, why.reason, why.remedy))))
        for kind, before, why in kinds
    ]
    return render(
        template("only_tables.sql"),
        watched=sql.Literal(str(watch.table)),
        # Of a whole row, the columns that others are generated from are compared too.
        compared=sql.SQL(", ").join(map(sql.Literal, depends.columns if depends.complete else ())),
        tables=sql.SQL(", ").join(sql.Literal(str(table)) for table in tables),
        untriggered=sql.SQL(",\n            ").join(lines),
    )
