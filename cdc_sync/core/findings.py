"""The findings of `cdc-sync check`: one for each precondition, with the remedy if it does not hold.

Also: a database's place, and a query's plan.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

State = Literal["ok", "warning", "failed"]
"""`warning`: it works, but slower or less reliably. `failed`: it does not work correctly."""


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        check: its name, which scripts may rely on.
        remedy: commands or SQL to paste, or what to configure.
        watch: None for what all watches share.
        database: its name, if there are several.
    """

    check: str
    state: State
    message: str
    remedy: str | None = None
    watch: str | None = None
    database: str | None = None


Texts: TypeAlias = Mapping[str, Mapping[str, Mapping[str, str]]]
"""By check and result: the message under its state, and the remedy; `{name}` stands for a fact."""


def found(texts: Texts, name: str, remedy: str | None = None, *, watch: str | None = None, **facts: object) -> Finding:
    """A finding with one of the texts; `facts` are the text's values.

    `name` is the check, and behind a `/` its result. `remedy` is given if it depends on the case.
    """
    check, _, what = name.partition("/")
    text = {key: each.format(watch=watch, **facts) for key, each in texts[check][what].items()}
    state = next(state for state in get_args(State) if state in text)
    return Finding(check, state, text[state], remedy or text.get("remedy"), watch)


Tell: TypeAlias = Callable[[Finding], None]
"""At once: a check that waits for a timeout must not delay those before it."""


# A physical copy (a standby, a restored disk snapshot) has the database's name and system identifier. So the store also
# remembers the hosts.


def host_name(host: str, port: str) -> str:
    """A host and port in one spelling: sockets and loopback are one host."""
    host = host.strip().lower().rstrip(".")
    is_here = not host or host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"}
    return f"{'localhost' if is_here else host}:{port or '5432'}"


# How a plan (`EXPLAIN (FORMAT JSON)`, made with sequential scans and sorts forbidden, whatever the table's present
# size) uses indexes. Sub-selects of the configuration's expressions do not count.

Plan: TypeAlias = Mapping[str, Any]
"""A node: "Node Type", its properties, and the nodes below it in "Plans"."""

_ELSEWHERE = frozenset({"SubPlan", "InitPlan"})


def plan_seeks(plan: Plan, leading: Mapping[str, str | None]) -> bool:
    """Whether every table is entered through an index by a condition on the index's first column.

    A condition on a later column makes PostgreSQL read the whole index. `leading` has each index's first column, as SQL
    writes it; None for an expression.
    """
    return all(any(_narrows(node, leading) for node in _nodes(scan)) for scan in _scans(plan))


def plan_names(plan: Plan, what: Literal["Index Name", "Schema"]) -> list[str]:
    """The names of the indexes in a plan, or in a verbose one of its tables' schemas."""
    return sorted({node[what] for node in _nodes(plan) if what in node})


def plan_is_in_order(plan: Plan) -> bool:
    """Whether rows come in the query's order without a sort, so that a page costs only a page.

    Row-level security that lets no row through leaves a plan that reads no table.
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
    """Whether a node finds its place in an index; a bitmap's nodes are below the scan."""
    condition = node.get("Index Cond")
    if condition is None:
        return False
    column = leading.get(node["Index Name"])
    return column is None or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", condition) is not None
