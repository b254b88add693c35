"""The ATS's work, and what a trigger may cost it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Variant = Literal["bare", "rung", "unrung"]
"""A table: without triggers; with those of `wakeup: notify`; with those of `wakeup: none`."""

VARIANTS: tuple[Variant, ...] = ("bare", "rung", "unrung")


@dataclass(frozen=True, slots=True)
class Workload:
    """Transactions of one statement.

    Attributes:
        name: in the report.
        script: pgbench's; `{table}` and `{rows}` are replaced.
        recorded: whether the triggers record each.
        most: targets of `Figure.ratio`, by variant and number of clients.
    """

    name: str
    script: str
    recorded: bool
    most: Mapping[tuple[Variant, int], float] = field(default_factory=lambda: MappingProxyType({}))


WORKLOADS = (
    Workload(
        "update, no watched column",
        "\\set id random(1, {rows})\n\\set note random(1, 1000000000)\n"
        "UPDATE {table} SET notes = 'n' || :note, updated_at = now() WHERE id = :id;\n",
        recorded=False,
        most={("rung", 1): 1.10, ("rung", 8): 1.10, ("unrung", 1): 1.10, ("unrung", 8): 1.10},
    ),
    Workload(
        "update, watched column",
        # Never the same status: each is a change.
        "\\set id random(1, {rows})\n\\set status random(1, 1000000000000)\n"
        "UPDATE {table} SET status = 's' || :status, updated_at = now() WHERE id = :id;\n",
        recorded=True,
        most={("rung", 1): 1.25, ("rung", 8): 1.50, ("unrung", 8): 1.40},
    ),
    Workload(
        "insert",
        "\\set job random(1, 500)\n"
        "INSERT INTO {table} (hellowork_id, status, job_id, created_at, updated_at)"
        " VALUES (md5(random()::text), 'NEW', 'job-' || :job, now(), now());\n",
        recorded=True,
    ),
)

BULK = "UPDATE {table} SET status = 'b' || random(), updated_at = now() WHERE id <= {rows}"
"""One statement that changes a watched column of every row that was there at first."""

BULK_NAME = "bulk update, watched column"

MOST_PER_ROW = 12.0
"""Microseconds more for each row of a bulk update."""
