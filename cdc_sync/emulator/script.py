"""The faults that wait for their calls. Pure: no clock, no socket; the draws are a function of seed and call."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from cdc_sync.emulator.errors import FaultError
from cdc_sync.emulator.faults import Fault, Random, describe

MAX_FAULTS = 100_000
"""That wait at once: each call looks through them."""

_MAX_COUNTED = 100_000
"""Applications of which a random fault knows how many calls there were; beyond them it begins anew."""


@dataclass(slots=True, eq=False)
class _Line:
    fault: Fault
    left: int | None
    calls: Counter[str] = field(default_factory=Counter)


class FaultScript:
    """Faults in the order in which they were asked for; each call takes the first one that fits it."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Put faults behind those that wait already.

        Raises:
            FaultError: They would be too many; none is put there.
        """
        lines = [_Line(fault, fault.times) for fault in faults]
        if len(self._lines) + len(lines) > MAX_FAULTS:
            raise FaultError(f"more than {MAX_FAULTS} faults would wait; remove some, or let one have `times`")
        self._lines += lines

    def clear(self) -> None:
        """Remove every fault."""
        self._lines.clear()

    def pending(self) -> list[dict[str, object]]:
        """The faults as JSON, `times` being what is left of it."""
        return [{**describe(line.fault), "times": line.left} for line in self._lines]

    def take(self, application_id: str) -> Fault | None:
        """The fault for a call of this application, which is thereby used once."""
        for line in self._lines:
            if line.fault.application_id not in {None, application_id}:
                continue
            fault: Fault | None = line.fault
            if isinstance(fault, Random):
                fault = _draw(fault, application_id, line.calls)
            if fault is not None:
                self._use(line)
                return fault
        return None

    def _use(self, line: _Line) -> None:
        if line.left is not None:
            line.left -= 1
            if line.left == 0:
                self._lines.remove(line)


def _draw(chance: Random, application_id: str, calls: Counter[str]) -> Fault | None:
    if len(calls) >= _MAX_COUNTED and application_id not in calls:
        calls.clear()
    before = calls[application_id]
    calls[application_id] += 1
    # A generator per call, seeded with text: a shared one would make each draw depend on the order of arrival.
    dice = random.Random(f"{chance.seed}/{application_id}/{before}")  # noqa: S311 - repeatable, not secret
    return dice.choice(chance.kinds) if dice.random() < chance.rate else None
