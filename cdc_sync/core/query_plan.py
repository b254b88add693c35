"""Whether a query's plan, as `EXPLAIN (FORMAT JSON)` gives it, makes use of an index.

The plan is asked for with sequential scans and sorts forbidden, so that it tells what the indexes allow, whatever size
the table has today. What stands in sub-selects of the configuration's expressions (SubPlan, InitPlan) is another
matter: only the way to the rows counts.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Plan: TypeAlias = Mapping[str, Any]
"""A node of a plan: "Node Type", its properties, and the nodes below it in "Plans"."""

_ELSEWHERE = frozenset({"SubPlan", "InitPlan"})


def seeks(plan: Plan, leading: Mapping[str, str | None]) -> bool:
    """Whether every table is entered through an index by a condition on what the index begins with.

    A condition on a later part of an index leaves the whole index to be read.

    Args:
        plan: the query's plan.
        leading: of each index in it, the column that it begins with, as SQL writes it; None for an expression.
    """
    return all(any(_narrows(node, leading) for node in _nodes(scan)) for scan in _scans(plan))


def indexes(plan: Plan) -> frozenset[str]:
    """The names of the indexes that a plan makes use of."""
    return frozenset(node["Index Name"] for node in _nodes(plan) if "Index Name" in node)


def is_in_order(plan: Plan) -> bool:
    """Whether rows come in the order that the query asks for, so that a page costs a page and no sort of the rest.

    A plan that reads no table at all (row-level security lets no row through) has nothing to sort.
    """
    reads = next(_scans(plan), None) is not None
    return not (reads and any(node["Node Type"] in {"Sort", "Seq Scan"} for node in _nodes(plan)))


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        if below.get("Parent Relationship") not in _ELSEWHERE:
            yield from _nodes(below)


def _scans(plan: Plan) -> Iterator[Plan]:
    return (node for node in _nodes(plan) if "Relation Name" in node)


def _narrows(node: Plan, leading: Mapping[str, str | None]) -> bool:
    """Whether a node finds its place in an index; the nodes of a bitmap stand below the scan."""
    condition = node.get("Index Cond")
    if condition is None:
        return False
    column = leading.get(node["Index Name"])
    return column is None or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", condition) is not None
