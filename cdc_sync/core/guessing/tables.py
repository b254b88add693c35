"""The tables that could hold applications, best first."""

from collections.abc import Iterable
from dataclasses import dataclass

from cdc_sync.core.guessing.columns import candidates
from cdc_sync.core.guessing.meanings import ABOUT_THEM, APPLICATIONS
from cdc_sync.core.guessing.names import says, weight, words
from cdc_sync.core.guessing.schema import Table

_LEAST = 9
_ABOUT_THEM = 9
_VIEW = 3
_MOST_OF_A_FIELD = 10
_REQUIRED = ("status", "job_id", "created")
_IDS = ("application_id", "status_url")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table, and how much speaks for it."""

    table: Table
    score: int


def rank(tables: Iterable[Table]) -> list[Candidate]:
    """Those of the tables that look like a table of applications, best first; of equal ones the bigger first."""
    scored = [Candidate(table, _score(table)) for table in tables]
    found = [candidate for candidate in scored if candidate.score >= _LEAST]
    return sorted(found, key=lambda one: (-one.score, -one.table.rows, str(one.table.name)))


def _score(table: Table) -> int:
    """Its name, and half of what its columns say: each thing that a call needs, and HelloWork's id above all."""
    name = words(table.name.name)
    said = min(weight(name, APPLICATIONS), _MOST_OF_A_FIELD)
    required = sum(_best(table, field) for field in _REQUIRED)
    total = said + (required + max(_best(table, field) for field in _IDS)) // 2
    if says(name, ABOUT_THEM):
        total -= _ABOUT_THEM
    return total if table.is_table else total - _VIEW


def _best(table: Table, field: str) -> int:
    return min(max((one.score for one in candidates(table, field)), default=0), _MOST_OF_A_FIELD)
