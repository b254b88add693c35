"""Which of many watches are shown: those with problems first, those of a name."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeAlias

from cdc_sync.core.conditions import kind_of, wrong
from cdc_sync.core.watch_names import MOST_LISTED, matches

Json: TypeAlias = dict[str, Any]
"""What programs read: the status report, or a part of it, or of an application's story."""

FEW = 10
"""More watches are shown as a choice, and share their metrics."""

SHOWN = 50
"""Watches on the page, unless all are asked for."""

LONGEST_PATTERN = 200
"""Characters of a pattern of watches' names: `fnmatch` keeps thousands of them."""


def table(report: Json, asked: Mapping[str, str]) -> Json:
    """The page's watches, those with problems first.

    With more than ten only those with problems, unless a visitor asked for a part of names (`watch`) or for all
    (`show`).
    """
    troubled = troubles(report)
    rows = worst_first(report["watches"], troubled)
    is_many, name, shows_all = len(rows) > FEW, asked.get("watch", "").strip(), asked.get("show") == "all"
    shows_problems = is_many and not name and not shows_all
    found = rows
    if shows_problems:
        found = rows[: len(troubled)]
    elif is_many and name:
        found = [each for each in rows if matches(f"*{name}*".casefold(), each["watch"].casefold())]
    conditions = defaultdict[str, list[Any]](list)
    for each in report["conditions"]:
        conditions[watch_of(each["name"])].append(each)
    return {
        "number": len(rows),
        "problems": len(troubled),
        "is_many": is_many,
        "name": name,
        "shows_problems": shows_problems,
        "rows": found if shows_all else found[:SHOWN],
        "conditions": conditions,
        "more": 0 if shows_all else len(found) - SHOWN,
    }


def troubles(report: Json) -> dict[str, int]:
    """The watches that need a person: 0 if changes do not arrive, 1 if they do.

    0: a condition, held entries. 1: dead letters, event dates that are whole hours off, no longer configured, begun
    over another store's work.
    """
    reasons = {each["name"]: each["message"] for each in report["conditions"]}
    stuck, undecided = ({watch_of(name) for name in some} for some in (wrong(reasons), reasons))
    found = {}
    for watch in report["watches"]:
        name = watch["watch"]
        if name in stuck or watch["held"] or watch["fuse"] == "blown":
            found[name] = 0
        elif name in undecided or watch["dead_letters"] or not watch["configured"] or watch["over_earlier_work"]:
            found[name] = 1
    return found


def worst_first(watches: Iterable[Json], troubled: Mapping[str, int]) -> list[Json]:
    """A report's watches, those of `troubles` first."""
    return sorted(watches, key=lambda each: troubled.get(each["watch"], 2))


def watch_of(condition: str) -> str:
    """The watch or endpoint in a condition's name; empty: all."""
    return condition[len(kind_of(condition)) + 1 :]


def foremost(names: Iterable[str], watches: Container[str]) -> list[str]:
    """The first ten conditions, those that concern no single watch before others."""
    return sorted(names, key=lambda name: watch_of(name) in watches)[:MOST_LISTED]


def part_of(report: Json, pattern: str | None, *, problems: bool) -> Json:
    """The report on the watches of a pattern (None: all), or on those with problems among them."""
    kept = {each["watch"] for each in report["watches"] if pattern is None or matches(pattern, each["watch"])}
    if problems:
        kept &= troubles(report).keys()
    lists = ("watches", "last_failures", "skipped_rows")
    return {**report, **{name: [each for each in report[name] if each["watch"] in kept] for name in lists}}
