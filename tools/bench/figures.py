"""What was measured, beside its bare loop and its budget."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        measure: what was measured.
        unit: of `value` and `bare`.
        value: cdc-sync's figure, the median over the rounds.
        bare: the bare loop's, None if there is none.
        ratio: cdc-sync's figure divided by the bare loop's in the same round; the median.
        budget: what is demanded of `value` or `ratio`: "ratio ≤ 2"; empty if nothing.
    """

    measure: str
    unit: str
    value: float
    bare: float | None = None
    ratio: float | None = None
    budget: str = ""

    def line(self) -> tuple[str, ...]:
        """Its cells in the table; a missed budget is marked."""
        demanded = self.budget
        if demanded:
            of, sign, bound = demanded.split()
            found = (self.ratio if of == "ratio" else self.value) or 0.0
            is_met = found <= float(bound) if sign == "≤" else found >= float(bound)
            demanded += "" if is_met else " MISSED"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.measure, self.unit, _number(self.bare), _number(self.value), ratio, demanded


def beside(measure: str, unit: str, rounds: Sequence[tuple[float, float]], budget: str = "") -> Figure:
    """A figure from rounds of (cdc-sync, bare loop)."""
    ours, bare = (median(column) for column in zip(*rounds, strict=True))
    return Figure(measure, unit, ours, bare, median(a / b for a, b in rounds), budget)


def as_table(facts: Mapping[str, object], figures: Iterable[Figure]) -> str:
    """A Markdown table."""
    lines = [("measure", "unit", "bare loop", "cdc-sync", "ratio", "least"), *(each.line() for each in figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    rows = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*(f"{name}: {value}" for name, value in facts.items()), "", *(f"| {row} |" for row in rows)])


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
