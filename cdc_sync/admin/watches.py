"""Which of many watches are shown: those with problems first, those of a name."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeVar

from cdc_sync.core.conditions import kind_of, wrong
from cdc_sync.core.watch_names import MOST_LISTED, matches

_T = TypeVar("_T")

FEW = 10
"""More watches are shown as a choice, and share their metrics."""

SHOWN = 50
"""Watches on the page, unless all are asked for."""


LONGEST_PATTERN = 200
"""Characters of a pattern of watches' names: `fnmatch` keeps thousands of them."""


def table(report: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, Any]:
    """The page's watches, those with problems first.

    With more than ten only those with problems, unless a visitor asked for a part of names (`watch`) or for all
    (`show`).
    """
    troubled = troubles(report)
    chosen = worst_first(report["watches"], troubled)
    number, name, shows_all = len(chosen), asked.get("watch", "").strip(), asked.get("show") == "all"
    is_many = number > FEW
    shows_problems = is_many and not name and not shows_all
    if is_many and name:
        chosen = [each for each in chosen if matches(f"*{name}*".casefold(), each["watch"].casefold())]
    elif shows_problems:
        chosen = chosen[: len(troubled)]
    rows = chosen if shows_all else chosen[:SHOWN]
    conditions = defaultdict[str, list[Any]](list)
    for each in report["conditions"]:
        conditions[watch_of(each["name"])].append(each)
    return {
        "number": number,
        "problems": len(troubled),
        "is_many": is_many,
        "name": name,
        "shows_problems": shows_problems,
        "rows": rows,
        "conditions": conditions,
        "more": len(chosen) - len(rows),
    }


def troubles(report: Mapping[str, Any]) -> dict[str, int]:
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


def worst_first(watches: Iterable[dict[str, Any]], troubled: Mapping[str, int]) -> list[dict[str, Any]]:
    """A report's watches, those of `troubles` first."""
    return sorted(watches, key=lambda each: troubled.get(each["watch"], 2))


def watch_of(condition: str) -> str:
    """The watch or endpoint in a condition's name; empty: all."""
    return condition[len(kind_of(condition)) + 1 :]


def foremost(reasons: Mapping[str, _T], watches: Container[str]) -> dict[str, _T]:
    """The first ten conditions, those that concern no single watch before others."""
    names = sorted(reasons, key=lambda name: watch_of(name) in watches)
    return {name: reasons[name] for name in names[:MOST_LISTED]}


def part_of(report: Mapping[str, Any], pattern: str | None, *, problems: bool) -> dict[str, Any]:
    """The report on the watches of a pattern (None: all), or on those with problems among them."""
    kept = {each["watch"] for each in report["watches"] if pattern is None or matches(pattern, each["watch"])}
    if problems:
        kept &= troubles(report).keys()
    lists = ("watches", "last_failures", "skipped_rows")
    return {**report, **{name: [each for each in report[name] if each["watch"] in kept] for name in lists}}
