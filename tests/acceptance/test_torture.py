"""The torture, for a quarter of a minute in each mode (`make torture` takes longer), and that it can tell."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from support.emulated import Call
from torture.ats import Committed, State
from torture.evidence import Evidence
from torture.options import Mode, Options
from torture.run import torture
from torture.verdict import faults, in_order, repeats

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content

SECONDS = 14.0
SEED = 20_240_501


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["notify", "poll"])
def test_the_promises_hold_whatever_fails(mode: Mode) -> None:
    outcome = torture(Options(mode, SECONDS, SEED))

    assert not outcome.complaints, f"{in_order(outcome.complaints)}\n{outcome.figures}\n{outcome.tail}"
    # Otherwise nothing was shown.
    assert outcome.figures["calls"]
    assert outcome.figures["daemon's ends"]
    assert outcome.figures["database and network"]


def a_call(number: int, status: str, application: str = "hw-1", job: str = "job-1", **differently: Any) -> Call:
    call = Call(
        number=number,
        received=float(number),
        method="POST",
        path=f"/v1/applications/{application}/status",
        application_id=application,
        headers={},
        idempotency_key="key",
        body={"status": status, "jobId": job},
        raw="",
        violations=(),
        concurrent=False,
        status=200,
        duration=0.1,
    )
    return replace(call, **differently)


def acknowledged(status: str, *, deleted: bool = False) -> Content:
    return Content(status, "job-1", deleted, 0, 0, None, None, "")


def committed(*statuses: str) -> list[Committed]:
    """One state a second; `gone` is none."""
    states = [State("NEW" if status == "gone" else status, "job-1", gone=status == "gone") for status in statuses]
    return [Committed(state, float(at)) for at, state in enumerate(states)]


# NEW at first, then SEEN and HIRED, both acknowledged.
GOOD = Evidence(
    mode="notify",
    truth={"hw-1": State("HIRED", "job-1", gone=False)},
    ledger={"hw-1": committed("NEW", "SEEN", "HIRED")},
    calls=[a_call(3, "SEEN"), a_call(4, "HIRED")],
    state={"hw-1": {"status": "HIRED", "jobId": "job-1"}},
    snapshots={"hw-1": acknowledged("HIRED")},
    kills=[],
    history=[HistoryEntry(1_500, "applications", "hw-1", "queued", {"by": "notify", "to": {}})],
    repairs={},
    dead=[],
    log='{"event": "started"}\n',
)


@pytest.fixture
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torture.verdict.AT_FIRST", frozenset({"hw-1"}))


def verdict(**differently: Any) -> list[str]:
    """What is said of the good evidence once something of it is different."""
    return list(faults(replace(GOOD, **differently)))


def test_good_evidence_is_good(nothing_else: None) -> None:
    assert verdict() == []


def a_sweep_found(event: str = "queued", *, at: int, status: str = "HIRED") -> list[HistoryEntry]:
    to = {"status": status, "job_id": "job-1", "deleted": False}
    return [HistoryEntry(at, "applications", "hw-1", event, {"by": "sweep", "to": to})]


@pytest.mark.parametrize(
    ("differently", "expected"),
    [
        ({"truth": {"hw-1": State("OFFER", "job-1", gone=False)}}, "the database has"),
        ({"truth": {}}, "it is gone"),
        ({"truth": {"hw-1": State("HIRED", "job-1", gone=True)}}, "it is gone"),
        ({"snapshots": {"hw-1": acknowledged("SEEN")}}, "and the store has"),
        ({"calls": [*GOOD.calls, a_call(9, "SEEN", "still-1")]}, "it never changed"),
        ({"calls": [a_call(3, "SEEN"), a_call(4, "HIRED", concurrent=True)]}, "another one for it was under way"),
        ({"calls": [a_call(3, "SEEN"), a_call(4, "HIRED", violations=("bad",))]}, "call 4 is wrong"),
        ({"calls": [a_call(3, "SEEN"), a_call(4, "HIRED", idempotency_key=None)]}, "no Idempotency-Key"),
        ({"calls": [a_call(3, "NEVER"), a_call(4, "HIRED")]}, "never committed"),
        ({"calls": [a_call(3, "deleted"), a_call(4, "HIRED")]}, "never committed"),
        ({"calls": [a_call(3, "SEEN"), a_call(4, "HIRED", received=1.5)]}, "never committed"),
        ({"calls": [a_call(3, "SEEN", job="job-9"), a_call(4, "HIRED")]}, "never committed"),
        ({"calls": [a_call(3, "HIRED"), a_call(4, "SEEN"), a_call(5, "HIRED")]}, "superseded"),
        ({"calls": [*GOOD.calls, a_call(5, "HIRED")]}, "for no reason"),
        ({"history": a_sweep_found(at=5_500)}, "only a sweep noticed"),
        ({"history": a_sweep_found("suspected", at=5_500), "ledger": {"hw-1": committed("gone")}}, "only a sweep"),
        ({"repairs": {"status": 1}}, "sweeps have repaired"),
        ({"dead": ["hw-1"]}, "dead letter"),
        ({"log": "Traceback (most recent call last):\n"}, "no known kind"),
    ],
)
def test_bad_evidence_is_bad(nothing_else: None, differently: Mapping[str, Any], expected: str) -> None:
    assert any(expected in complaint for complaint in verdict(**differently))


@pytest.mark.parametrize(
    "differently",
    [
        # Gone before it was ever read, or acknowledged as deleted.
        {"truth": {}, "state": {}, "snapshots": {}, "calls": []},
        {
            "truth": {},
            "state": {"hw-1": {"status": "deleted", "jobId": "job-1"}},
            "snapshots": {"hw-1": acknowledged("deleted", deleted=True)},
            "calls": [a_call(5, "deleted")],
            "ledger": {"hw-1": committed("NEW", "gone")},
        },
        # A sweep that was only a little quicker; and what a poll cannot see.
        {"history": a_sweep_found(at=4_900)},
        {"history": a_sweep_found("suspected", at=5_500), "ledger": {"hw-1": committed("NEW", "SEEN", "HIRED")}},
        {"history": a_sweep_found(at=5_500), "ledger": {"hw-1": committed("gone", "SEEN", "HIRED")}, "mode": "poll"},
        {"repairs": {"gone": 1}, "mode": "poll"},
    ],
)
def test_what_may_happen_is_not_held_against_anybody(nothing_else: None, differently: Mapping[str, Any]) -> None:
    assert verdict(**differently) == []


@pytest.mark.parametrize(("second", "adopted"), [(0, True), (1, False)])
def test_what_came_before_the_first_look_was_over_may_be_adopted(
    nothing_else: None, second: int, *, adopted: bool
) -> None:
    over = '{"event": "1 applications known, 0 calls", "timestamp": "1970-01-01T00:00:00.500000Z"}\n'
    came = [Committed(State("NEW", "job-1", gone=False), float(second))]

    complaints = verdict(
        truth={"new-1": came[0].state},
        ledger={"new-1": came},
        calls=[],
        state={},
        snapshots={"new-1": acknowledged("NEW")},
        log=over,
    )

    assert (complaints == []) == adopted


def test_each_repeat_has_its_reason() -> None:
    lost = replace(GOOD, calls=[a_call(3, "SEEN", fault="lost_answer"), a_call(4, "SEEN")])
    late = replace(GOOD, calls=[a_call(3, "SEEN", abandoned=True), a_call(4, "SEEN")])
    killed = replace(GOOD, calls=[a_call(3, "SEEN"), a_call(5, "SEEN")], kills=[4.0])
    undone = replace(GOOD, calls=[a_call(3, "SEEN"), a_call(4, "HIRED", fault="reset"), a_call(5, "SEEN")])
    refused = replace(GOOD, calls=[replace(a_call(3, "SEEN"), fault="status", status=503), a_call(4, "SEEN")])

    assert repeats(lost).unsure == repeats(late).unsure == 1
    assert repeats(killed).killed == 1
    assert repeats(undone).contradicted == 1
    assert not any((repeats(refused).unsure, repeats(refused).contradicted, repeats(refused).killed))
    assert not repeats(refused).unexplained
