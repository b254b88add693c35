"""Whether HelloWork received exactly what it should have."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from cdc_sync.core.visible import visible
from cdc_sync.demo.scenario import Step, Told
from cdc_sync.emulator import Call

_OK = 200


@dataclass(frozen=True, slots=True)
class Received:
    """A call that HelloWork received.

    Attributes:
        told: what it said.
        at: when it was complete, in seconds since the epoch.
        answered: the HTTP status of the answer; None if there was none.
        violations: what HelloWork would refuse about it.
    """

    told: Told
    at: float
    answered: int | None = _OK
    violations: tuple[str, ...] = ()

    @classmethod
    def from_call(cls, call: Call) -> "Received":
        """What an emulator's call said."""
        body = call.body if isinstance(call.body, dict) else {}
        told = Told(call.application_id or call.path, str(body.get("status")), str(body.get("jobId")))
        return cls(told, call.received, call.status, call.violations)

    @property
    def is_good(self) -> bool:
        """Whether HelloWork took it, and finds no fault with it."""
        return self.answered == _OK and not self.violations

    @property
    def objection(self) -> str:
        """What is wrong with it, in brackets; empty if nothing is."""
        if self.is_good:
            return ""
        return f" ({'; '.join((f'answered {self.answered}', *self.violations))})"

    def __str__(self) -> str:
        return visible(f"{self.told}{self.objection}")


def differences(expected: Iterable[Told], received: Iterable[Received]) -> list[str]:
    """The applications of which HelloWork heard something else than it should have, in words; empty if there is none.

    Each is to have had the same calls, in the same order, and not one more.
    """
    wanted: defaultdict[str, list[Told]] = defaultdict(list)
    for told in expected:
        wanted[told.application_id].append(told)
    heard: defaultdict[str, list[Received]] = defaultdict(list)
    for call in received:
        heard[call.told.application_id].append(call)
    found = []
    for each in sorted(wanted.keys() | heard.keys()):
        if [call.told for call in heard[each]] != wanted[each] or not all(call.is_good for call in heard[each]):
            should = " → ".join(told.said for told in wanted[each]) or "nothing"
            did = " → ".join(f"{call.told.said}{call.objection}" for call in heard[each]) or "nothing"
            found.append(visible(f"{each}: expected {should}; received {did}"))
    return found


@dataclass(frozen=True, slots=True)
class Played:
    """A step that was played.

    Attributes:
        step: which.
        received: the calls that arrived meanwhile.
        since: when its last act began, in seconds since the epoch.
        completed: whether all that had to follow did follow in time.
    """

    step: Step
    received: tuple[Received, ...]
    since: float
    completed: bool

    @property
    def is_good(self) -> bool:
        """Whether exactly the expected calls arrived."""
        return self.completed and not differences(self.step.expected, self.received)
