"""The torture of several hosts, shortened (`make torture-cluster` takes longer), and that it can tell."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.emulated import Call
from torture.ats import Committed, State
from torture.evidence import Evidence
from torture.options import Mode
from torture_cluster import machine
from torture_cluster.faults import Span
from torture_cluster.verdict import ended_without_reason, excusably_late, faults, repeats

from cdc_sync.core.content import Content

SHORT = ("--seconds", "17")
"""The plan of this seed has each fault at least once in it, and silences that outlast every timeout."""
MANY = ("--tenants", "20", "--seconds", "12", "--only", "kill", "stop", "weather")
"""Many customers, whose leader is killed or stopped."""
SEED = 20_261_126


@pytest.fixture
def a_machine() -> None:
    if reason := machine.missing(clocks=True):
        pytest.skip(f"no machine of several hosts can be made: {reason}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "more"),
    [("notify", ("--watches", "4", *SHORT)), ("poll", SHORT), ("notify", MANY)],
    ids=["notify", "poll", "tenants"],
)
def test_the_promises_hold_on_several_hosts(a_machine: None, mode: Mode, more: Sequence[str]) -> None:
    arguments = ("--mode", mode, *more, "--seed", str(SEED))
    ended = subprocess.run(
        (sys.executable, "-m", "torture_cluster", *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout


def a_call(number: int, status: str, **differently: Any) -> Call:
    call = Call(
        number=number,
        received=float(number),
        method="POST",
        path="/v1/applications/hw-1/status",
        application_id="hw-1",
        headers={},
        idempotency_key="key",
        body={"status": status, "jobId": "job-1"},
        raw="",
        violations=(),
        concurrent=False,
        status=200,
        duration=0.1,
    )
    return replace(call, **differently)


def acknowledged(status: str, *, deleted: bool = False) -> Content:
    return Content(status, "job-1", deleted, 0, 0, None, None, "")


def complaints(evidence: Evidence, *spans: Span, leads: int = 1) -> list[str]:
    return [complaint for found in faults(evidence, spans, leads).values() for complaint in found]


GOOD = Evidence(
    mode="notify",
    truth={"hw-1": State("S2", "job-1", gone=False)},
    ledger={"hw-1": [Committed(State(f"S{at}", "job-1", gone=False), float(at)) for at in (1, 2)]},
    calls=[a_call(3, "S1"), a_call(4, "S2")],
    state={"hw-1": {"status": "S2", "jobId": "job-1"}},
    snapshots={"hw-1": acknowledged("S2")},
    kills=(),
    history=(),
    repairs={},
    dead=[],
    log="",
)


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torture.verdict.AT_FIRST", frozenset({"hw-1"}))


def test_good_evidence_is_good() -> None:
    assert complaints(GOOD) == []


@pytest.mark.parametrize(
    ("differently", "expected"),
    [
        ({"calls": [a_call(3, "S2"), a_call(4, "S1"), a_call(5, "S2")]}, "superseded"),
        ({"calls": [a_call(3, "S1"), a_call(4, "S2", received=3.05, concurrent=True)]}, "call 3 was under way"),
        ({"calls": [a_call(3, "S1", duration=None), a_call(4, "S2", concurrent=True)]}, "call 3 was under way"),
        ({"calls": [a_call(3, "S3"), a_call(4, "S2")]}, "never committed"),
        ({"calls": [*GOOD.calls, a_call(9, "S1", application_id="still-1")]}, "it never changed"),
        ({"calls": [*GOOD.calls, a_call(5, "S2")]}, "for no reason"),
        ({"truth": {"hw-1": State("S1", "job-1", gone=False)}}, "the database has"),
        ({"snapshots": {"hw-1": None}}, "and the store has"),
        ({"dead": ["hw-1"]}, "dead letter"),
    ],
)
def test_bad_evidence_is_bad(differently: dict[str, Any], expected: str) -> None:
    assert any(expected in complaint for complaint in complaints(replace(GOOD, **differently)))


def test_nobody_waits_for_a_call_beyond_its_timeout() -> None:
    given_up = replace(GOOD, calls=[a_call(3, "S1", duration=None), a_call(6, "S2", concurrent=True)])

    assert complaints(given_up) == []


def test_only_a_store_that_was_made_to_forget_excuses_what_is_late() -> None:
    late = replace(GOOD, calls=[a_call(3, "S2"), a_call(4, "S1"), a_call(5, "S2")])
    failover, loss, another = Span("failover", 2, 3), Span("lossy-failover", 2, 3), Span("lossy-failover", 1, 2)

    assert any("superseded" in complaint for complaint in complaints(late, failover))
    assert any("superseded" in complaint for complaint in complaints(late, another))
    assert not any("superseded" in complaint for complaint in complaints(late, loss))
    assert [call.number for call in excusably_late(late, [loss])] == [4]


def test_each_take_over_excuses_one_overlap() -> None:
    at_once = replace(GOOD, calls=[a_call(3, "S1"), a_call(4, "S2", received=3.05, concurrent=True)])
    twice = replace(at_once, calls=[*at_once.calls, a_call(5, "S2", received=3.1, concurrent=True, duration=0.0)])

    assert any("under way" in complaint for complaint in complaints(at_once, leads=1))
    assert not any("under way" in complaint for complaint in complaints(at_once, leads=2))
    assert any("under way" in complaint for complaint in complaints(twice, leads=2))


def test_only_a_daemon_that_was_stopped_may_end_by_its_alarm() -> None:
    assert ended_without_reason([0, 1, 0], [Span("stop", 1, 20, 1)]) == []
    assert ended_without_reason([0, 1, 0], [Span("stop", 1, 20, 0)])
    assert ended_without_reason([0, 2, 0], [Span("stop", 1, 20, 1)])
    assert ended_without_reason([1, 0, 0], [Span("store-silence", 1, 20, 0)])


def test_a_store_that_was_made_to_forget_may_not_see_that_an_application_is_gone_again() -> None:
    gone = replace(
        GOOD, truth={}, ledger={"hw-1": [*GOOD.ledger["hw-1"], Committed(State("S2", "job-1", gone=True), 5)]}
    )

    assert any("it is gone" in complaint for complaint in complaints(gone, Span("failover", 3, 5)))
    assert complaints(gone, Span("lossy-failover", 3, 5)) == []


def test_a_change_waits_only_for_take_overs_unless_all_daemons_are_in_trouble() -> None:
    waited = replace(GOOD, calls=[a_call(3, "S1"), a_call(4, "S2", received=59.0)])
    stopped = [Span("stop", 2, 58, number) for number in range(3)]

    assert any("57 s late" in complaint for complaint in complaints(waited, *stopped[:2]))
    assert complaints(waited, *stopped) == complaints(waited, Span("failover", 2, 3)) == []
    again = Span("kill", 30, 30, 0)
    assert complaints(waited, *stopped[:2], again) == []


def test_repeats_are_explained_by_what_was_the_matter_and_bounded() -> None:
    again = replace(GOOD, calls=[*GOOD.calls, a_call(5, "S2")])
    for_ever = replace(GOOD, calls=[a_call(number, "S2") for number in range(3, 103)])

    assert repeats(again, [Span("kill", 4.5, 4.6)]).reasons == {"kill": 1}
    assert repeats(again, [Span("kill", 6, 7)]).unexplained
    assert repeats(again, [Span("lag", 4, 5), Span("clock", 4, 5), Span("database-silence", 4, 5)]).unexplained
    assert any("calls were repeated" in complaint for complaint in complaints(for_ever, Span("stop", 0, 200)))
