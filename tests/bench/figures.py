"""What was measured, beside its bare loop and its target."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, slots=True)
class Target:
    """What is demanded of a figure: of its ratio to the bare loop, or of its value."""

    of: Literal["ratio", "value"]
    bound: float
    least: bool = False

    def is_met(self, figure: "Figure") -> bool:
        """Whether a figure is as demanded."""
        found = figure.ratio if self.of == "ratio" else figure.value
        if found is None:
            raise AssertionError(f"{figure.measure} has no {self.of}")
        return found >= self.bound if self.least else found <= self.bound

    def in_words(self, unit: str) -> str:
        """As it stands in the table."""
        bound = f"{'≥' if self.least else '≤'} {self.bound:g}"
        return f"ratio {bound}" if self.of == "ratio" else f"{bound} {unit}"


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
        target: what is demanded, None if nothing.
    """

    measure: str
    unit: str
    value: float
    bare: float | None = None
    ratio: float | None = None
    rounds: Sequence[tuple[float, float]] = ()
    target: Target | None = None

    @property
    def missed(self) -> bool:
        """Whether a target is set and not met."""
        return self.target is not None and not self.target.is_met(self)


def beside(measure: str, unit: str, rounds: Sequence[tuple[float, float]], target: Target | None = None) -> Figure:
    """A figure from rounds of (cdc-sync, bare loop)."""
    return Figure(
        measure=measure,
        unit=unit,
        value=median(ours for ours, _ in rounds),
        bare=median(bare for _, bare in rounds),
        ratio=median(ours / bare for ours, bare in rounds),
        rounds=tuple(rounds),
        target=target,
    )


def most(bound: float) -> Target:
    """The ratio may be this at most."""
    return Target("ratio", bound)


def at_least(bound: float) -> Target:
    """The ratio must be this at least."""
    return Target("ratio", bound, least=True)


def no_more_than(bound: float) -> Target:
    """The value itself may be this at most."""
    return Target("value", bound)
