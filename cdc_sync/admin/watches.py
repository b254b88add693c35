"""Which of many watches are shown: those with problems first, those of a name, a page of fifty."""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlencode

from cdc_sync.core.conditions import kind_of, wrong
from cdc_sync.core.watch_names import MOST_LISTED, matches

_T = TypeVar("_T")

FEW = 10
"""Watches that are shown as cards; more are a table with a choice."""

PAGE = 50
"""Watches on a page."""

LONGEST_PATTERN = 200
"""Characters of a pattern of watches' names."""

Show = Literal["all", "problems", "waiting"]
"""All watches, those with problems, or those with pending or held entries."""

_SHOWS: Mapping[str, Show] = {"all": "all", "problems": "problems", "waiting": "waiting"}
_PAGE_NUMBER = re.compile("[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Asked:
    """The choice of a visitor.

    Attributes:
        watch: a part of names, in which % or * stand for any characters; empty: all.
        show: None: those with problems, or all of a name.
        page: from 1 on; beyond the last: the last.
    """

    watch: str = ""
    show: Show | None = None
    page: int = 1

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """The choice of an address, without nonsense."""
        page = query.get("page", "")
        number = int(page) if _PAGE_NUMBER.fullmatch(page) else 1
        return cls(query.get("watch", "").strip(), _SHOWS.get(query.get("show", "")), number)

    def address(self, **changes: Any) -> str:
        """The query of an address for it, with changes."""
        asked = replace(self, **changes)
        parts = {"watch": asked.watch, "show": asked.show or "", "page": str(asked.page) if asked.page > 1 else ""}
        return f"?{urlencode({name: value for name, value in parts.items() if value})}"


def shown(report: Mapping[str, Any], lags: Mapping[str, float], asked: Asked) -> dict[str, Any]:
    """The page's watches, each with its conditions, and counts of the others; `lags` are seconds by watch."""
    troubled, conditions = troubles(report), dict[str, list[Any]]()
    for each in report["conditions"]:
        conditions.setdefault(watch_of(each["name"]), []).append(each)
    watches = [{**each, "conditions": conditions.get(each["watch"], [])} for each in report["watches"]]
    well = [each for each in watches if each["watch"] not in troubled]
    counts = {
        "few": len(watches) <= FEW,
        "number": len(watches),
        "well": len(well),
        "known": sum(each["known"] for each in well),
        "pending": sum(each["pending"] for each in well),
        "oldest_pending_seconds": max((each["oldest_pending_seconds"] or 0 for each in well), default=0),
        "last_change_at": max((each["last_change_at"] or "" for each in well), default=""),
        "lag": max((lags[each["watch"]] for each in well if each["watch"] in lags), default=None),
    }
    if counts["few"]:
        return {**counts, "listed": watches}
    if asked.watch:
        pattern = f"*{asked.watch}*".casefold()
        watches = [each for each in watches if matches(pattern, each["watch"].casefold())]
    named = worst_first(watches, troubled)
    parts: dict[Show, list[Any]] = {
        "all": named,
        "problems": [each for each in named if each["watch"] in troubled],
        "waiting": [each for each in named if each["pending"] or each["held"]],
    }
    show = asked.show or ("all" if asked.watch else "problems")
    pages = -(-len(parts[show]) // PAGE) or 1
    page = min(asked.page, pages)
    return {
        **counts,
        "asked": replace(asked, show=show, page=page),
        "parts": {name: len(part) for name, part in parts.items()},
        "pages": pages,
        "listed": parts[show][PAGE * (page - 1) : PAGE * page],
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
    well = max(troubled.values(), default=0) + 1
    return sorted(watches, key=lambda each: troubled.get(each["watch"], well))


def watch_of(condition: str) -> str:
    """The watch or endpoint in a condition's name; empty: all."""
    return condition[len(kind_of(condition)) + 1 :]


def foremost(reasons: Mapping[str, _T], watches: Container[str]) -> dict[str, _T]:
    """The first ten conditions; of more, those that concern no single watch first."""
    names = first_of(MOST_LISTED, [*reasons], lambda name: watch_of(name) in watches)
    return {name: reasons[name] for name in names}


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


def first_of(most: int, of: Sequence[_T], is_well: Callable[[_T], bool]) -> list[_T]:
    """The first of many, those with problems first; a few in their order."""
    return list(of) if len(of) <= most else sorted(of, key=is_well)[:most]
