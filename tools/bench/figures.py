"""What was measured, beside its bare loop and its budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of a figure: of its ratio to the bare loop, or of its value.

    Attributes:
        of: which of the two.
        least: the bound of a miss.
        goal: the wanted bound.
        more: whether more is better.
    """

    of: Literal["ratio", "value"]
    least: float
    goal: float
    more: bool = False

    def is_met(self, figure: "Figure", bound: float) -> bool:
        """Whether a figure reaches one of the bounds."""
        found = figure.ratio if self.of == "ratio" else figure.value
        if found is None:
            raise AssertionError(f"{figure.measure} has no {self.of}")
        return found >= bound if self.more else found <= bound

    def in_words(self, bound: float, unit: str) -> str:
        """The text of a bound in the table."""
        text = f"{'≥' if self.more else '≤'} {bound:g}"
        return f"ratio {text}" if self.of == "ratio" else f"{text} {unit}"


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

    @property
    def missed(self) -> bool:
        """Whether there is a budget whose least is not met."""
        return self.budget is not None and not self.budget.is_met(self, self.budget.least)

    @property
    def reached(self) -> bool:
        """Whether there is a budget whose goal is met."""
        return self.budget is not None and self.budget.is_met(self, self.budget.goal)


def beside(measure: str, unit: str, rounds: Sequence[tuple[float, float]], budget: Budget | None = None) -> Figure:
    """A figure from rounds of (cdc-sync, bare loop)."""
    return Figure(
        measure=measure,
        unit=unit,
        value=median(ours for ours, _ in rounds),
        bare=median(bare for _, bare in rounds),
        ratio=median(ours / bare for ours, bare in rounds),
        rounds=tuple(rounds),
        budget=budget,
    )


def ratio_at_most(least: float, goal: float) -> Budget:
    return Budget("ratio", least, goal)


def ratio_at_least(least: float, goal: float) -> Budget:
    return Budget("ratio", least, goal, more=True)


def at_most(least: float, goal: float | None = None) -> Budget:
    return Budget("value", least, least if goal is None else goal)
