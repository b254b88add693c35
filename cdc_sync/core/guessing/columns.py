"""The columns that could be a thing, best first."""

from dataclasses import dataclass

from cdc_sync.core.guessing.meanings import LABELS, MEANINGS, Meaning
from cdc_sync.core.guessing.names import says, weight, words
from cdc_sync.core.guessing.schema import Column, Table

_FEW = 60
"""Different values that a status may have; a job has more, and a person's name far more."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A column, how much speaks for it, and what."""

    column: Column
    score: int
    reasons: tuple[str, ...]


def candidates(table: Table, field: str) -> list[Scored]:
    """The columns of a table that could be a thing of the configuration (a key of `MEANINGS`), best first."""
    meaning = MEANINGS[field]
    scored = [_score(table, column, field, meaning) for column in table.columns if _is_possible(table, column, field)]
    # Of equal ones the first in the table's order.
    return sorted((one for one in scored if one.score >= meaning.least), key=lambda one: -one.score)


def label_of(table: Table) -> Column | None:
    """The column of a lookup table that has what people read."""
    named = [
        (weight(words(column.name), LABELS), column) for column in table.columns if column.kind in {"text", "json"}
    ]
    best = max(named, key=lambda one: one[0], default=None)
    return best[1] if best is not None and best[0] > 0 else None


def _is_possible(table: Table, column: Column, field: str) -> bool:
    meaning = MEANINGS[field]
    if column.kind not in meaning.kinds or says(words(column.name), meaning.never):
        return False
    if field == "application_id":
        # The ATS's own number is none of HelloWork's, and neither is another table's.
        return table.key != (column.name,) and column.reference is None
    return True


def _score(table: Table, column: Column, field: str, meaning: Meaning) -> Scored:
    said = weight(words(column.name), meaning.words)
    evidence = dict(_evidence(table, column, field)) if said else {}
    return Scored(column, said + sum(evidence.values()), ("its name", *evidence))


def _evidence(table: Table, column: Column, field: str) -> list[tuple[str, int]]:
    """What else speaks for a column, or against it, and how much."""
    facts = {
        "application_id": [("it is unique", 2, column.unique), ("it is indexed", 1, column.indexed)],
        "status": [
            ("it leads to another table", 2, column.reference is not None),
            ("it is an enumeration", 2, column.kind == "enum"),
            (f"it has about {column.distinct} different values", 1, 1 < (column.distinct or 0) <= _FEW),
            (f"it has about {column.distinct} different values, many for a status", -3, (column.distinct or 0) > _FEW),
        ],
        "job_id": [
            ("it leads to another table", 2, column.reference is not None),
            ("it is indexed", 1, column.indexed),
        ],
        "created": [("it is never NULL", 1, column.not_null), *_precision(column)],
        "event_date": _precision(column),
        "watermark": [("it is indexed", 1, column.indexed), ("it is never NULL", 1, column.not_null)],
    }
    return [(text, number) for text, number, holds in facts.get(field, []) if holds and table.columns]


def _precision(column: Column) -> list[tuple[str, int, bool]]:
    return [
        ("it has a time zone", 1, column.kind == "timestamptz"),
        ("it has no time of day", -2, column.kind == "date"),
    ]
