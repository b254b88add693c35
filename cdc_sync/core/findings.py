"""What `cdc-sync check` finds: one finding for each precondition, with the remedy if it does not hold.

And how what is looked at is judged: the disk, clocks, whose database it is, a query's plan.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from cdc_sync.core.observations import WatchUnconfigured

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
    """

    check: str
    state: State
    message: str
    remedy: str | None = None
    watch: str | None = None


Tell: TypeAlias = Callable[[Finding], None]
"""Takes each finding as soon as there is one: a check that waits for a timeout must not hide those before it."""

LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB, and its log what is written in a burst."""

TOO_LITTLE_SPACE = 64 * 2**20
"""Bytes with which the next mass change would fill the disk."""

_UNCONFIGURED = (
    "the store knows a watch that the configuration does not have: was it removed, or renamed? What waits of it is "
    "still sent, but its changes are watched no more. A renamed watch begins anew: its baseline takes the rows as "
    "told, so what had changed before and was not read yet is told to nobody"
)

_IF_RENAMED = (
    "If it was renamed, give it its name back and reload: a sweep finds what was missed. If it was removed for good, "
    "only what is held or dead is to be decided about"
)

UNCONFIGURED = f"{_UNCONFIGURED}. {_IF_RENAMED}"
"""The line of the log about a watch that the store knows and the configuration does not have."""


def check_disk_space(free: int, folder: str) -> Finding:
    """The finding about `free` bytes on the disk of a folder."""
    state: State = "failed" if free < TOO_LITTLE_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    remedy = None if state == "ok" else f"df -h {folder}   # free some space there"
    return Finding("store-space", state, f"{free // 2**20:,} MiB free on the disk of {folder}", remedy)


def check_unconfigured(found: Sequence[WatchUnconfigured]) -> list[Finding]:
    """The findings about the watches that a store knows and the configuration does not have.

    Such a watch was removed, which is harmless, or renamed, which is not: under its new name it is another watch, whose
    baseline takes rows as told that had changed by then and were not read yet. Only a person can tell which.
    """
    if not found:
        return [Finding("store-watches", "ok", "the store knows no watch that the configuration does not have")]
    findings = []
    for one in found:
        message = (
            f"{_UNCONFIGURED}. The store holds of it: applications known {one.known}, pending {one.pending}, "
            f"held {one.held}, dead letters {one.dead}, suspected deletions {one.suspected}"
        )
        remedy = f"{_IF_RENAMED}."
        if one.held:
            remedy += f"\ncdc-sync fuse show --watch {one.watch}   # then release or discard"
        if one.dead:
            remedy += f"\ncdc-sync dead-letters list --watch {one.watch}   # then retry or discard"
        findings.append(Finding("store-watches", "warning", message, remedy, one.watch))
    return findings


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


# Whether the store belongs to the database that the configuration names. Its identity is its name, the cluster's
# system identifier, and where it is: a physical copy (a standby of its own, a restored snapshot of a disk) has the
# other two. So the store remembers under which hosts the database was reached.


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


def elsewhere(identity: str, before: Whereabouts, now: Whereabouts) -> str:
    """Why a database of the store's identity is taken for another one."""
    return (
        f"The store belongs to the database {identity} on {before}, but database.dsn leads to {now}: a physical copy "
        f"(a standby, a restored backup, a disk snapshot), or the same by another name. Nothing is sent, since "
        f"HelloWork would get a copy's states. Correct database.dsn; or, if this database has taken over, stop the "
        f"daemon and run `cdc-sync adopt-database`. Give a copy for tests a store of its own (state.path, state.dsn)."
    )


def check_identity(bound: str | None, found: str, why_not: str | None = None) -> Finding:
    """The finding about whose database the store belongs to.

    Args:
        bound: the identity that the store remembers; None if it remembers none yet.
        found: the database's.
        why_not: why it is another database though the identity is the same; None if it is not.
    """
    if bound is None:
        return Finding("identity", "ok", f"the store belongs to no database yet; the first start binds it to {found}")
    if bound == found and why_not is None:
        return Finding("identity", "ok", f"the store belongs to this database, {found}")
    another = (
        f"the store belongs to the database {bound}, and database.dsn leads to {found}: a restored copy, a renamed "
        f"clone or another cluster. The daemon refuses to send from it."
    )
    remedy = (
        "Correct database.dsn; or, if this database is meant, give it a store of its own, or let it take this one "
        "over: cdc-sync adopt-database"
    )
    return Finding("identity", "failed", why_not or another, remedy)


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
