"""What `cdc-sync check` finds: one finding for each precondition, with the remedy if it does not hold.

And how what is looked at is judged: clocks, where a database is, a query's plan.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

State = Literal["ok", "warning", "failed"]
"""`warning`: it works, but slower or with less certainty than it could. `failed`: it does not work, or not right."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check.

    Attributes:
        check: its name, which scripts may rely on.
        state: whether the precondition holds.
        message: what was found, in one line.
        remedy: commands or SQL to paste, or what to write where; None if there is nothing to do.
        watch: the watch that it is about; None for what all of them share.
        database: the database that it is about, by its name; None if there is only one, or it is about no database.
    """

    check: str
    state: State
    message: str
    remedy: str | None = None
    watch: str | None = None
    database: str | None = None


Texts: TypeAlias = Mapping[str, Mapping[str, Mapping[str, str]]]
"""By check and by what was found: the state with its message, and the remedy; `{name}` stands for a fact."""


def found(texts: Texts, name: str, remedy: str | None = None, *, watch: str | None = None, **facts: object) -> Finding:
    """A finding with one of the texts.

    Args:
        texts: the texts.
        name: the check, and behind a `/` what was found.
        remedy: the remedy, where it is made for the case.
        watch: the watch that it is about.
        facts: what the text is about.
    """
    check, _, what = name.partition("/")
    text = {key: each.format(watch=watch, **facts) for key, each in texts[check][what].items()}
    state = next(state for state in get_args(State) if state in text)
    return Finding(check, state, text[state], remedy or text.get("remedy"), watch)


Tell: TypeAlias = Callable[[Finding], None]
"""Takes each finding as soon as there is one: a check that waits for a timeout must not hide those before it."""


# How far another clock is from ours, by one exchange. The other clock was read at some moment between two readings of
# ours, so it is off by at least what lies outside of them: a slow answer alone is no skew.

WORTH_SAYING = 2_000
"""Milliseconds beyond which a skew is told. Dates in a call come from the database and so carry its skew along."""

_CLOCK_REMEDY = "timedatectl set-ntp true   # on the machine whose clock is wrong; `timedatectl status` tells which"


def clock_skew(theirs: int, before: int, after: int, resolution: int = 0) -> int:
    """By how many milliseconds at least their clock is ahead of ours (negative: behind); 0 if it may be right.

    Args:
        theirs: their reading, rounded down to `resolution`; all in milliseconds since the epoch.
        before: ours before the question was sent.
        after: ours after the answer had come.
        resolution: in which steps they tell it.
    """
    if theirs > after:
        return theirs - after
    return min(theirs + resolution - before, 0)


def check_clock(check: str, whose: str, found: int) -> Finding:
    """The finding about a clock.

    Args:
        check: the check's name.
        whose: whose clock it is, as the beginning of a sentence.
        found: what `clock_skew` gave.
    """
    if abs(found) <= WORTH_SAYING:
        return Finding(check, "ok", f"{whose} and this machine's clock agree")
    side = "ahead of" if found > 0 else "behind"
    return Finding(
        check,
        "warning",
        f"{whose} is {abs(found) / 1000:.0f} s {side} this machine's. Nothing is lost by it, but dates, waits and "
        f"certificates are judged by clocks.",
        _CLOCK_REMEDY,
    )


# Where a database is. Its identity is its name, the cluster's system identifier, and where it is: a physical copy (a
# standby of its own, a restored snapshot of a disk) has the other two. So the store remembers under which hosts the
# database was reached.


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a database was reached.

    Attributes:
        hosts: those that the configuration names, each with its port, or the folder of a socket in a host's place.
        started: when the server was started that answered, in microseconds since the epoch. A server that runs has this
            in common with no other, and with no copy: it proves that a new name is one more of the same server.
    """

    hosts: tuple[str, ...]
    started: str

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> "Whereabouts":
        """The inverse of `to_text`."""
        fields = json.loads(text)
        return cls(tuple(fields["hosts"]), fields["started"])

    def has(self, other: "Whereabouts") -> bool:
        """Whether another one shares a host or the running server, and so is the same database."""
        return self.started == other.started or not set(self.hosts).isdisjoint(other.hosts)

    def joined(self, other: "Whereabouts") -> "Whereabouts":
        """Another one's server, under the hosts of both."""
        return Whereabouts(tuple(dict.fromkeys((*self.hosts, *other.hosts))), other.started)

    def __str__(self) -> str:
        """The hosts, for people."""
        return ", ".join(self.hosts)


# Whether a query's plan, as `EXPLAIN (FORMAT JSON)` gives it, makes use of an index. The plan is asked for with
# sequential scans and sorts forbidden, so that it tells what the indexes allow, whatever size the table has today. What
# stands in sub-selects of the configuration's expressions (SubPlan, InitPlan) is another matter: only the way to the
# rows counts.

Plan: TypeAlias = Mapping[str, Any]
"""A node of a plan: "Node Type", its properties, and the nodes below it in "Plans"."""

_ELSEWHERE = frozenset({"SubPlan", "InitPlan"})


def plan_seeks(plan: Plan, leading: Mapping[str, str | None]) -> bool:
    """Whether every table is entered through an index by a condition on what the index begins with.

    A condition on a later part of an index leaves the whole index to be read.

    Args:
        plan: the query's plan.
        leading: of each index in it, the column that it begins with, as SQL writes it; None for an expression.
    """
    return all(any(_narrows(node, leading) for node in _nodes(scan)) for scan in _scans(plan))


def plan_indexes(plan: Plan) -> frozenset[str]:
    """The names of the indexes that a plan makes use of."""
    return frozenset(node["Index Name"] for node in _nodes(plan) if "Index Name" in node)


def plan_is_in_order(plan: Plan) -> bool:
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
