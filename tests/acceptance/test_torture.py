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
from torture.verdict import faults, in_order

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


@pytest.mark.parametrize(
    ("differently", "expected"),
    [
        ({"truth": {"hw-1": State("OFFER", "job-1", gone=False)}}, "the database has"),
        ({"snapshots": {"hw-1": acknowledged("SEEN")}}, "and the store has"),
        ({"calls": [*GOOD.calls, a_call(9, "SEEN", "still-1")]}, "it never changed"),
        ({"calls": [a_call(3, "SEEN"), a_call(4, "HIRED", concurrent=True)]}, "another one for it was under way"),
        ({"calls": [a_call(3, "NEVER"), a_call(4, "HIRED")]}, "never committed"),
        ({"calls": [a_call(3, "HIRED"), a_call(4, "SEEN"), a_call(5, "HIRED")]}, "superseded"),
        ({"calls": [*GOOD.calls, a_call(5, "HIRED")]}, "for no reason"),
    ],
)
def test_bad_evidence_is_bad(nothing_else: None, differently: Mapping[str, Any], expected: str) -> None:
    assert any(expected in complaint for complaint in verdict(**differently))
