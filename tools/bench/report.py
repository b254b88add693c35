"""The table, and the JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from bench.figures import Figure

_HEAD = ("measure", "unit", "bare loop", "cdc-sync", "ratio", "least", "goal")


def as_json(facts: Mapping[str, object], figures: Sequence[Figure]) -> dict[str, object]:
    """`facts`, and a list of `figures` with all their rounds."""
    return {
        "facts": facts,
        "figures": [{**asdict(figure), "missed": figure.missed, "reached": figure.reached} for figure in figures],
    }


def as_table(facts: Mapping[str, object], figures: Sequence[Figure]) -> str:
    """A Markdown table; a missed budget is marked."""
    lines = [_HEAD, *map(_line, figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [_row(line, widths) for line in lines]
    rule = "|".join(["", *("-" * (width + 2) for width in widths), ""])
    return "\n".join([*_said(facts), "", aligned[0], rule, *aligned[1:]])


def in_short(figure: Figure) -> str:
    """One figure on a line."""
    _, unit, bare, value, ratio, least, goal = _line(figure)
    parts = [f"  {figure.measure}: {value} {unit}"]
    parts += [f"bare loop {bare}"] if bare else []
    parts += [f"ratio {ratio}"] if ratio else []
    parts += [f"least {least}", f"goal {goal}"] if least else []
    return ", ".join(parts)


def _said(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{name}: {value}"


def _line(figure: Figure) -> tuple[str, ...]:
    least = goal = ""
    if figure.budget is not None:
        least = figure.budget.in_words(figure.budget.least, figure.unit) + (" MISSED" if figure.missed else "")
        goal = figure.budget.in_words(figure.budget.goal, figure.unit) + (" reached" if figure.reached else "")
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return (figure.measure, figure.unit, _number(figure.bare), _number(figure.value), ratio, least, goal)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


def _row(line: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(text.ljust(width) for text, width in zip(line, widths, strict=True))} |"
