"""What was measured: as a table, as JSON, and as the tables of docs/for-dbas.md."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from trigger_cost.bystanders import Paid
from trigger_cost.measuring import Figure

_HEAD_OF_PAID = ("what others pay", "bare", "rung", "added", "rung ÷ bare")
_PAID_IN_DOCUMENT = ("what is paid", "without triggers", "with", "added", "ratio")
_HEAD_OF_DOCUMENT = (
    "the application's work",
    "clients",
    "`wakeup`",
    "without, per second",
    "ratio",
    "extremes",
    "aim",
    "added CPU time",
)
_HEAD = ("workload", "clients", "wakeup", "bare/s", "ratio", "spread", "target", "added µs", "CPU µs", "per")


def as_json(facts: Mapping[str, object], figures: Sequence[Figure], paid: Sequence[Paid] = ()) -> str:
    """One object: `facts`, and lists of `figures` and of the `bystanders`' costs."""
    lines = [{**asdict(figure), "missed": figure.missed} for figure in figures]
    return json.dumps({"facts": facts, "figures": lines, "bystanders": [asdict(each) for each in paid]}, indent=2)


def as_table(facts: Mapping[str, object], figures: Sequence[Figure], paid: Sequence[Paid] = ()) -> str:
    """A table for people; a missed target is marked."""
    others = ["", *_aligned([_HEAD_OF_PAID, *map(_line_of_paid, paid)])] if paid else []
    return "\n".join([*_said(facts), "", *_aligned([_HEAD, *map(_line, figures)]), *others])


def as_markdown(figures: Sequence[Figure], paid: Sequence[Paid]) -> str:
    """The measured tables of docs/for-dbas.md."""
    tables: list[str] = []
    if figures:
        tables.append(_markdown([_HEAD_OF_DOCUMENT, *map(_line_of_document, figures)]))
    if paid:
        tables.append(_markdown([_PAID_IN_DOCUMENT, *map(_line_of_paid, paid)]))
    return "\n\n".join(tables)


def _line_of_document(figure: Figure) -> tuple[str, ...]:
    row, aim = figure.per == "row", ""
    if figure.target is not None:
        most = f"≤ {figure.target:g} µs more per row: {figure.added:.1f}" if row else f"≤ {figure.target:.2f}"
        aim = f"{most}, {'missed' if figure.missed else 'held'}"
    return (
        figure.workload,
        str(figure.clients),
        "notify" if figure.variant == "rung" else "none",
        f"{figure.bare_rate:,.0f}" + (" rows" if row else ""),
        f"{figure.ratio:.2f}",
        f"{figure.least:.2f} … {figure.greatest:.2f}",
        aim,
        f"{figure.added_cpu:.1f} µs per row" if row else f"{figure.added_cpu:.0f} µs",
    )


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))


def _said(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{name}: {value}"


def _line(figure: Figure) -> tuple[str, ...]:
    most = "" if figure.target is None else f"≤ {figure.target:g}{' µs' if figure.per == 'row' else ''}"
    return (
        figure.workload,
        str(figure.clients),
        "notify" if figure.variant == "rung" else "none",
        f"{figure.bare_rate:,.0f}",
        f"{figure.ratio:.2f}",
        f"{figure.least:.2f} … {figure.greatest:.2f}",
        f"{most} MISSED" if figure.missed else most,
        f"{figure.added:.1f}",
        f"{figure.added_cpu:.1f}",
        figure.per,
    )


def _line_of_paid(paid: Paid) -> tuple[str, ...]:
    if paid.bare is None or paid.watched is None:
        return (paid.what, _number(paid.bare), _number(paid.watched), "", "")
    ratio = f"{paid.watched / paid.bare:.2f}" if paid.bare else ""
    return (paid.what, _number(paid.bare), _number(paid.watched), _number(paid.watched - paid.bare), ratio)


def _number(value: float | None) -> str:
    if value is None:
        return "?"  # this server does not count it
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
