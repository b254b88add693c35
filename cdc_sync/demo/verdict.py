"""Whether HelloWork received exactly what it should have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cdc_sync.core.visible import visible
from cdc_sync.demo.scenario import Told
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


@dataclass(frozen=True, slots=True)
class Difference:
    """An application of which HelloWork heard something else than it should have; both in order."""

    application_id: str
    expected: tuple[Told, ...]
    received: tuple[Received, ...]

    def __str__(self) -> str:
        expected = " → ".join(told.said for told in self.expected)
        received = " → ".join(f"{call.told.said}{call.objection}" for call in self.received)
        return visible(f"{self.application_id}: expected {expected or 'nothing'}; received {received or 'nothing'}")


def differences(expected: Iterable[Told], received: Iterable[Received]) -> list[Difference]:
    """Compare per application: the same calls, in the same order, and not one more. Empty if all is as it should be."""
    wanted: dict[str, list[Told]] = {}
    for told in expected:
        wanted.setdefault(told.application_id, []).append(told)
    heard: dict[str, list[Received]] = {}
    for call in received:
        heard.setdefault(call.told.application_id, []).append(call)
    return [
        Difference(application_id, tuple(want), tuple(got))
        for application_id in sorted(wanted.keys() | heard.keys())
        if not _agree(want := wanted.get(application_id, []), got := heard.get(application_id, []))
    ]


def _agree(expected: Sequence[Told], received: Sequence[Received]) -> bool:
    return [call.told for call in received] == list(expected) and all(call.is_good for call in received)
