"""Reads recordings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median, median_low
from typing import Any, TypeAlias

Function: TypeAlias = tuple[str, str, int]
"""File, qualified name, line."""

_STILL = 50_000_000
"""Nanoseconds without work that mean rest."""

_AROUND = ("BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


_ALWAYS = ("statements", "waits", "notified", "requests")
"""What every change leaves in a recording; `functions` and `jobs` are recorded on request."""


def without_news(recorded: dict[str, Any], *, with_functions: bool) -> list[str]:
    """The parts of a recording whose hooks found nothing: they no longer fit what they hook into."""
    expected = (*_ALWAYS, "functions", "jobs") if with_functions else _ALWAYS
    return [name for name in expected if not recorded[name]]


@dataclass(frozen=True, slots=True)
class Statement:
    """Its time in nanoseconds, `ats` or `store`, its text in one line."""

    begun: int
    ended: int
    where: str
    text: str

    @property
    def is_around(self) -> bool:
        """Whether it begins or ends a transaction or a savepoint."""
        return self.text.upper().startswith(_AROUND) and ";" not in self.text


class Trace:
    """One change, from the sending of COMMIT until the daemon rests after its call.

    `recorded` is of `hooks`; `committed` and `arrived` are when COMMIT was sent, and the call arrived.
    """

    def __init__(self, recorded: dict[str, Any], committed: int, arrived: int) -> None:
        self.committed, self.arrived = committed, arrived
        functions: list[tuple[int, Function]] = [(at, tuple(function)) for at, function in recorded["functions"]]
        statements = sorted(
            (
                Statement(begun, ended, where, " ".join(text.split()))
                for begun, ended, where, text in recorded["statements"]
            ),
            key=lambda each: each.begun,
        )
        self.rests = _rest(arrived, [at for at, _ in functions] + [each.ended for each in statements])
        self.functions = list(dict.fromkeys(function for at, function in functions if committed <= at <= self.rests))
        self.until_call = {function for at, function in functions if committed <= at <= arrived}
        self.jobs: list[str] = [name for at, name in recorded["jobs"] if committed <= at <= self.rests]
        self.statements = [each for each in statements if committed < each.ended <= self.rests]
        self.waits: list[tuple[int, int, str, bool]] = [tuple(each) for each in recorded["waits"]]
        self.requests: list[tuple[int, int]] = [(begun, ended) for begun, ended in recorded["requests"]]
        # A notification may arrive before its writer knows of the commit.
        self.notified = min((at for at in recorded["notified"] if committed <= at <= arrived), default=committed)

    def of(self, where: str, *, around: bool) -> list[Statement]:
        """One database's statements: those around transactions, or the others."""
        return [each for each in self.statements if each.where == where and each.is_around == around]


def _rest(arrived: int, moments: Iterable[int]) -> int:
    """The last moment before a while without any."""
    last = arrived
    for at in sorted(each for each in moments if each > arrived):
        if at - last > _STILL:
            break
        last = at
    return last


def common(traces: Sequence[Trace]) -> set[Function]:
    """What most changes met."""
    return _in_most([trace.functions for trace in traces])


def until_call(traces: Sequence[Trace]) -> set[Function]:
    """What most changes met before the call arrived."""
    return _in_most([trace.until_call for trace in traces])


def _in_most(found: Sequence[Iterable[Function]]) -> set[Function]:
    met = [each for functions in found for each in functions]
    return {each for each in set(met) if met.count(each) * 2 > len(found)}


def now_and_then(traces: Sequence[Trace]) -> set[Function]:
    """What fewer met."""
    return {each for trace in traces for each in trace.functions} - common(traces)


def jobs(traces: Sequence[Trace]) -> dict[str, int]:
    """How often most changes come to each store job."""
    names = dict.fromkeys(name for trace in traces for name in trace.jobs)
    found = {name: median_low(trace.jobs.count(name) for trace in traces) for name in names}
    return {name: number for name, number in found.items() if number}


def typical(traces: Sequence[Trace]) -> Trace:
    """The change nearest to the path."""
    path = common(traces)
    return min(traces, key=lambda each: (len(path.symmetric_difference(each.functions)), len(each.statements)))


def middle(values: Iterable[float]) -> float:
    return median(list(values))


STEPS = (
    "notification: COMMIT sent → the daemon has it",
    "statements on the ATS's database",
    "store: statements",
    "store: commit (a pipeline's is among the statements)",
    "call: request begun → it has arrived",
    "the daemon's own code, and waiting for its turn",
)


def times(trace: Trace) -> list[float]:
    """Milliseconds of each of `STEPS`; overlaps count once."""
    begin = trace.notified
    spans = [
        [(begun, ended) for begun, ended, where, _ in trace.waits if where == "ats"],
        [(begun, ended) for begun, ended, where, commits in trace.waits if where == "store" and not commits],
        [(begun, ended) for begun, ended, where, commits in trace.waits if where == "store" and commits],
        [span for span in trace.requests if span[0] <= trace.arrived <= span[1]],
    ]
    found = [begin - trace.committed]
    covered: list[tuple[int, int]] = []
    for each in reversed(spans):  # the change waits for a request or flush under way
        before = _length(covered, begin, trace.arrived)
        covered += each
        found.insert(1, _length(covered, begin, trace.arrived) - before)
    found.append(trace.arrived - begin - _length(covered, begin, trace.arrived))
    return [each / 1e6 for each in found]


def _length(spans: Iterable[tuple[int, int]], begin: int, end: int) -> int:
    """The covered part of the interval."""
    total, reached = 0, begin
    for first, last in sorted(spans):
        total += max(min(last, end) - max(first, reached), 0)
        reached = max(reached, min(last, end))
    return total
