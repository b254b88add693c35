"""Which of many watches are shown: those with problems first, those of a name, a page of fifty."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeVar

from cdc_sync.core.conditions import kind_of, wrong
from cdc_sync.core.watch_names import MOST_LISTED, matches

_T = TypeVar("_T")

FEW = 10
"""More watches are shown as a choice, and share their metrics."""

PAGE = 50
"""Watches on a page."""

LONGEST_PATTERN = 200
"""Characters of a pattern of watches' names."""

_LONGEST_NUMBER = 6


def table(report: Mapping[str, Any], lags: Mapping[str, float], asked: Mapping[str, str]) -> dict[str, Any]:
    """The page's watches, those with problems first; `lags` are seconds by watch.

    With more than ten only those with problems, and one row of numbers for the others, unless a visitor asked for a
    part of names (`watch`) or for all (`show`), fifty a page (`page`).
    """
    troubled = troubles(report)
    of_watch: dict[str, list[Any]] = {each["watch"]: [] for each in report["watches"]}
    for each in report["conditions"]:
        of_watch.setdefault(watch_of(each["name"]), []).append(each)
    rows = [
        {**each, "lag": lags.get(each["watch"]), "conditions": of_watch[each["watch"]]}
        for each in worst_first(report["watches"], troubled)
    ]
    name, is_many = asked.get("watch", "").strip(), len(rows) > FEW
    shows_problems = is_many and not name and asked.get("show") != "all"
    chosen = rows
    if is_many and name:
        chosen = [each for each in rows if matches(f"*{name}*".casefold(), each["watch"].casefold())]
    elif shows_problems:
        chosen = rows[: len(troubled)]
    pages = -(-len(chosen) // PAGE) or 1
    page = min(_page_number(asked.get("page", "")), pages)
    return {
        "number": len(rows),
        "problems": len(troubled),
        "is_many": is_many,
        "name": name,
        "shows_problems": shows_problems,
        "page": page,
        "pages": pages,
        "rows": chosen[PAGE * (page - 1) : PAGE * page],
        "well": _sum(rows[len(troubled) :]) if shows_problems else None,
    }


def _page_number(text: str) -> int:
    return max(int(text), 1) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 1


def _sum(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A row of numbers for several watches; None without any."""
    each = list(rows)
    if not each:
        return None
    totals = {name: sum(row[name] for row in each) for name in ("known", "pending", "held", "dead_letters")}
    worst = {name: max((row[name] or 0 for row in each), default=0) for name in ("lag", "oldest_pending_seconds")}
    return {"number": len(each), **totals, **worst, "last_change_at": max(row["last_change_at"] or "" for row in each)}


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
    well = max(troubled.values(), default=0) + 1
    return sorted(watches, key=lambda each: troubled.get(each["watch"], well))


def watch_of(condition: str) -> str:
    """The watch or endpoint in a condition's name; empty: all."""
    return condition[len(kind_of(condition)) + 1 :]


def foremost(reasons: Mapping[str, _T], watches: Container[str]) -> dict[str, _T]:
    """The first ten conditions, those that concern no single watch before others."""
    names = sorted(reasons, key=lambda name: watch_of(name) in watches)
    return {name: reasons[name] for name in names[:MOST_LISTED]}


def part_of(report: Mapping[str, Any], pattern: str | None, *, problems: bool) -> dict[str, Any]:
    """The report on the watches of a pattern (None: all), or on those with problems among them."""
    troubled = troubles(report) if problems else None
    kept = {
        each["watch"]
        for each in report["watches"]
        if (pattern is None or matches(pattern, each["watch"])) and (troubled is None or each["watch"] in troubled)
    }
    lists = ("watches", "last_failures", "skipped_rows")
    return {**report, **{name: [each for each in report[name] if each["watch"] in kept] for name in lists}}
