"""What was measured, beside its bare loop and its budget; as a table, and as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds `least` and `goal` of a figure: of its ratio to the bare loop, or of its value."""

    of: Literal["ratio", "value"]
    sign: Literal["≤", "≥"]
    least: float
    goal: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        measure: what was measured.
        unit: of `value` and `bare`.
        value: cdc-sync's figure, the median over the rounds.
        bare: the bare loop's, None if there is none.
        ratio: cdc-sync's figure divided by the bare loop's in the same round; the median.
        rounds: each round's two figures, cdc-sync's first.
        budget: what is demanded, None if nothing.
    """

    measure: str
    unit: str
    value: float
    bare: float | None = None
    ratio: float | None = None
    rounds: Sequence[tuple[float, float]] = ()
    budget: Budget | None = None

    def reaches(self, bound: float) -> bool:
        """Whether it reaches a bound of its budget."""
        if self.budget is None:
            return False
        found = self.value if self.budget.of == "value" else self.ratio or 0.0
        return found <= bound if self.budget.sign == "≤" else found >= bound

    @property
    def missed(self) -> bool:
        """Whether there is a budget whose least is not reached."""
        return self.budget is not None and not self.reaches(self.budget.least)

    def line(self) -> tuple[str, ...]:
        """Its cells in the table."""
        budget, least, goal = self.budget, "", ""
        if budget is not None:
            of = "ratio " if budget.of == "ratio" else ""
            least = f"{of}{budget.sign} {budget.least:g}{' MISSED' if self.missed else ''}"
            goal = f"{of}{budget.sign} {budget.goal:g}{' reached' if self.reaches(budget.goal) else ''}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.measure, self.unit, _number(self.bare), _number(self.value), ratio, least, goal


def beside(measure: str, unit: str, rounds: Sequence[tuple[float, float]], budget: Budget | None = None) -> Figure:
    """A figure from rounds of (cdc-sync, bare loop)."""
    ours, bare = (median(column) for column in zip(*rounds, strict=True))
    return Figure(measure, unit, ours, bare, median(a / b for a, b in rounds), tuple(rounds), budget)


def ratio_at_most(least: float, goal: float) -> Budget:
    return Budget("ratio", "≤", least, goal)


def ratio_at_least(least: float, goal: float) -> Budget:
    return Budget("ratio", "≥", least, goal)


def at_most(least: float, goal: float | None = None) -> Budget:
    return Budget("value", "≤", least, least if goal is None else goal)


def as_json(facts: Mapping[str, object], figures: Sequence[Figure]) -> dict[str, Any]:
    """`facts`, and a list of `figures` with all their rounds."""
    return {"facts": facts, "figures": [{**asdict(figure), "missed": figure.missed} for figure in figures]}


def as_table(facts: Mapping[str, object], figures: Iterable[Figure]) -> str:
    """A Markdown table; a missed budget is marked."""
    lines = [("measure", "unit", "bare loop", "cdc-sync", "ratio", "least", "goal"), *(each.line() for each in figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    rows = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*(f"{name}: {value}" for name, value in facts.items()), "", *(f"| {row} |" for row in rows)])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
