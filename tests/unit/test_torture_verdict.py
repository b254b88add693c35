"""The torture's verdict: each kind of complaint, from evidence with one thing wrong."""

from dataclasses import replace
from typing import Any

import pytest
from support.builders import a_content
from support.emulated import Call
from torture import verdict
from torture.ats import Committed, State
from torture.evidence import Evidence
from torture.faults import Span
from torture.population import STILL

from cdc_sync.core.batch import HistoryEntry


def a_call(number: int, status: str, received: float, **other: Any) -> Call:
    call = Call(received, "POST", "/", "new-1", "key", {"status": status, "jobId": "J1"}, "", (), 200, number, {})
    return replace(call, **{"duration": 0.1, **other})


def committed(status: str, at: float) -> Committed:
    return Committed(State(status, "J1", gone=False), at)


GOOD = Evidence(
    mode="notify",
    truth={"new-1": State("S2", "J1", gone=False)},
    ledger={"new-1": [committed("S1", 1), committed("S2", 2)]},
    calls=[a_call(1, "S1", 1.5), a_call(2, "S2", 2.5)],
    state={"new-1": {"status": "S2", "jobId": "J1"}},
    snapshots={"new-1": a_content("S2")},
    history=[],
    dead=[],
    spans=[],
    aftermath=0,
    led=[1],
    frozen=[0],
    log='{"event": "stopped"}\n',
)
FIRST, SECOND = GOOD.calls
BY_SWEEP = HistoryEntry(
    60_000, "w", "new-1", "queued", {"by": "sweep", "to": {"status": "S2", "job_id": "J1", "deleted": False}}
)
LATE = replace(SECOND, received=60)

WRONG: dict[str, dict[str, Any]] = {
    "wrong in the end": {"truth": {"new-1": State("S1", "J1", gone=False)}},
    "wrong in the store": {"snapshots": {"new-1": a_content("S1")}},
    "sent though unchanged": {"calls": [*GOOD.calls, replace(FIRST, application_id=STILL[0], number=3)]},
    "malformed": {"calls": [FIRST, replace(SECOND, idempotency_key=None)]},
    "overlapping calls": {"calls": [FIRST, replace(SECOND, concurrent=True)]},
    "never committed": {"calls": [*GOOD.calls, a_call(3, "S9", 3)]},
    "older after newer": {"calls": [SECOND, replace(FIRST, number=3, received=3)]},
    "repeats": {"calls": [*GOOD.calls, replace(SECOND, number=3, received=3)]},
    "only a sweep noticed": {"history": [BY_SWEEP]},
    "dead letters": {"dead": ["new-1"]},
    "stuck": {"calls": [FIRST, LATE]},
    "ended without being stopped": {"frozen": [1]},
    "log": {"log": "Traceback"},
}


def test_all_is_well() -> None:
    assert verdict.faults(GOOD) == {}


@pytest.mark.parametrize("kind", WRONG)
def test_each_fault_is_found(kind: str) -> None:
    assert kind in verdict.faults(replace(GOOD, **WRONG[kind]))


def test_a_kill_excuses_a_repeat_of_its_time_alone() -> None:
    repeated = replace(GOOD, calls=[*GOOD.calls, replace(SECOND, number=3, received=3)])

    assert verdict.faults(replace(repeated, spans=[Span("kill", 2.7, 2.7, 0)])) == {}
    assert "repeats" in verdict.faults(replace(repeated, spans=[Span("kill", 2.4, 2.4, 0)]))
    assert "repeats" in verdict.faults(replace(repeated, spans=[Span("network", 2.7, 2.7)]))
