"""Judges a run by the promises (design, P1 and P2). Pure."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from support.emulated import Call

from torture.ats import Committed, State
from torture.configuration import CONCURRENCY
from torture.evidence import Evidence
from torture.population import AT_FIRST, UNCHANGED

DELETED = "deleted"

_HARMLESS = frozenset({None, "delay", "huge_body", "slow_body"})
"""Faults of processed calls with a late, complete answer."""

_SPOILED = frozenset({"lost_answer", "half_answer"})
"""Faults of the answers to processed calls."""

_FAST = 3.0
"""Seconds for which a sweep may overtake the fast path: the network stalls for two."""

_ADOPTED = " applications known, "
"""The daemon's event at the end of its baseline."""

_LONGEST_ABSENCE = 20.0
"""Seconds within which some sweep has taken place."""


@dataclass(slots=True)
class Repeats:
    """Calls with the state that HelloWork had processed last.

    Attributes:
        unsure: the answer to the first one was lost, spoiled or late.
        contradicted: another state was sent in between, which HelloWork may have processed.
        killed: the daemon was killed in between.
        unexplained: without a reason.
    """

    unsure: int = 0
    contradicted: int = 0
    killed: int = 0
    unexplained: list[str] = field(default_factory=list)


def faults(evidence: Evidence) -> Iterator[str]:
    yield from last_words(evidence)
    yield from stores_opinion(evidence)
    yield from calls_for_nothing(evidence)
    yield from malformed(evidence.calls)
    yield from _concurrent(evidence.calls)
    yield from unreal(evidence)
    yield from _out_of_order(evidence)
    yield from _too_many_repeats(evidence)
    yield from _missed(evidence)
    yield from _repaired(evidence)
    yield from (f"{name}: is a dead letter" for name in evidence.dead)
    yield from _complaints(evidence.log)


def last_words(evidence: Evidence) -> Iterator[str]:
    """HelloWork's last state of each application is the database's."""
    for name in sorted({*evidence.truth, *evidence.state, *AT_FIRST}):
        wanted, body = evidence.truth.get(name), evidence.state.get(name)
        known = _known_without_a_call(evidence, name) if body is None else _state_of(body)
        if wanted is None or wanted.gone:
            # One that came and went between two readings need not be sent.
            if wanted is None and body is None and name not in evidence.snapshots:
                continue
            if known is None or known.status != DELETED:
                yield f"{name}: it is gone ({wanted or 'no row'}), and HelloWork's last state is {known}"
        elif known != wanted:
            yield f"{name}: the database has {wanted}, and HelloWork's last state is {known}"


def _known_without_a_call(evidence: Evidence, name: str) -> State | None:
    """The adopted state, which must have been committed; in half of the runs writers work before the adoption."""
    snapshot = evidence.snapshots.get(name)
    if snapshot is None:
        return None
    until = math.inf if name in AT_FIRST else _adopted_until(evidence.log)
    adopted = State(snapshot.status, snapshot.job_id, gone=False)
    before = [entry.state for entry in evidence.ledger.get(name, ()) if entry.at <= until]
    return adopted if any(state == adopted or (snapshot.deleted and state.gone) for state in before) else None


def _adopted_until(log: str) -> float:
    """The end of the baseline, in seconds since the epoch; -inf without."""
    over = next((line for line in log.splitlines() if _ADOPTED in line), None)
    return -math.inf if over is None else datetime.fromisoformat(json.loads(over)["timestamp"]).timestamp()


def _state_of(body: Mapping[str, object]) -> State:
    return State(str(body["status"]), str(body["jobId"]), gone=False)


def stores_opinion(evidence: Evidence) -> Iterator[str]:
    """The store's snapshots are HelloWork's last states."""
    for name, body in evidence.state.items():
        snapshot = evidence.snapshots.get(name)
        if snapshot is None or (snapshot.status, snapshot.job_id) != (body["status"], body["jobId"]):
            yield f"{name}: HelloWork acknowledged {body}, and the store has {snapshot}"


def calls_for_nothing(evidence: Evidence) -> Iterator[str]:
    """No call for unchanged applications."""
    for name, number in Counter(call.application_id for call in evidence.calls).items():
        if name in UNCHANGED:
            yield f"{name}: it never changed, and HelloWork was called {number} times"


def malformed(calls: Iterable[Call]) -> Iterator[str]:
    """Each call is valid, and has its key."""
    for call in calls:
        if call.violations:
            yield f"{call.application_id}: call {call.number} is wrong: {call.violations}"
        if not call.idempotency_key:
            yield f"{call.application_id}: call {call.number} has no Idempotency-Key"


def _concurrent(calls: Iterable[Call]) -> Iterator[str]:
    for call in calls:
        if call.concurrent:
            yield f"{call.application_id}: call {call.number} came while another one for it was under way"


def unreal(evidence: Evidence) -> Iterator[str]:
    """Each call has a state that was committed before."""
    for call in evidence.calls:
        status, job = status_and_job(call)
        before = [entry for entry in evidence.ledger.get(call.application_id or "", ()) if entry.at <= call.received]
        had_job = any(entry.state.job_id == job for entry in before)
        if not (had_job and any(_has(call, entry.state) for entry in before)):
            yield f"{call.application_id}: call {call.number} has {status}, {job}, which was never committed"


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    yield from map(superseded, late(evidence))


def superseded(call: Call) -> str:
    which = f"{call.application_id}: call {call.number} has {status_and_job(call)}"
    return f"{which}, which had been superseded before the call before it"


def late(evidence: Evidence) -> Iterator[Call]:
    """Calls out of the order of their application's commits."""
    reached: dict[str, int] = {}
    for call in evidence.calls:
        name = call.application_id or ""
        committed = evidence.ledger.get(name, ())
        place = reached.get(name, 0)
        while place < len(committed) and not _has(call, committed[place].state):
            place += 1
        if place < len(committed):
            reached[name] = place
        elif any(_has(call, entry.state) for entry in committed):
            yield call


def _has(call: Call, state: State) -> bool:
    status, job = status_and_job(call)
    return state.gone if status == DELETED else state == State(status, job, gone=False)


def repeats(evidence: Evidence) -> Repeats:
    """Count the repeats by their reason."""
    found = Repeats()
    for first, second, between in repeated(evidence.calls):
        if was_unsure(first):
            found.unsure += 1
        elif any(status_and_job(call) != status_and_job(first) for call in between):
            found.contradicted += 1
        elif any(first.received <= kill <= second.received for kill in evidence.kills):
            found.killed += 1
        else:
            found.unexplained.append(for_no_reason(first, second))
    return found


def repeated(calls: Iterable[Call]) -> Iterator[tuple[Call, Call, Sequence[Call]]]:
    """Pairs of successive processed calls for an application with one state, and the unprocessed calls between."""
    of_application: dict[str, list[Call]] = {}
    for call in calls:
        of_application.setdefault(call.application_id or "", []).append(call)
    for own in of_application.values():
        for first, second in pairwise([call for call in own if _was_taken_in(call)]):
            if status_and_job(first) == status_and_job(second):
                yield first, second, [call for call in own if first.number < call.number < second.number]


def was_unsure(call: Call) -> bool:
    """Whether the daemon saw no good answer."""
    return call.fault in _SPOILED or call.abandoned


def for_no_reason(first: Call, second: Call) -> str:
    repeat = f"call {second.number} repeats call {first.number} ({status_and_job(first)})"
    return f"{first.application_id}: {repeat} for no reason"


def _too_many_repeats(evidence: Evidence) -> Iterator[str]:
    found = repeats(evidence)
    yield from found.unexplained
    if found.killed > CONCURRENCY * len(evidence.kills):
        kills = len(evidence.kills)
        yield f"{found.killed} calls were repeated after {kills} kills and losses of the lead: too many"


def _was_taken_in(call: Call) -> bool:
    return not call.violations and call.fault in {*_HARMLESS, *_SPOILED}


def status_and_job(call: Call) -> tuple[str, str]:
    body = call.body if isinstance(call.body, dict) else {}
    return str(body.get("status")), str(body.get("jobId"))


def _missed(evidence: Evidence) -> Iterator[str]:
    """No sweep found what the fast path should have found long before; a poll cannot see hard deletes."""
    for event in evidence.history:
        if event.detail.get("by") != "sweep":
            continue
        at = event.at / 1000
        before = [entry for entry in evidence.ledger.get(event.application_id, ()) if entry.at <= at]
        if event.event == "suspected":
            # A living one came back during the sweep.
            missed = evidence.mode == "notify" and before[-1].state.gone and _is_old(before[-1:], at)
        else:
            # Another row may be canonical since.
            excused = evidence.mode == "poll" and any(e.state.gone and at - e.at < _LONGEST_ABSENCE for e in before)
            missed = not excused and _is_old([entry for entry in before if _is(entry.state, event.detail["to"])], at)
        if missed:
            yield f"{event.application_id}: only a sweep noticed ({event.event}, {dict(event.detail)})"


def _repaired(evidence: Evidence) -> Iterator[str]:
    """By the daemon's metrics, sweeps of notify mode repaired nothing."""
    if evidence.mode == "notify" and evidence.repairs:
        yield f"sweeps have repaired {dict(evidence.repairs)}"


def _is(state: State, described: Mapping[str, Any]) -> bool:
    """Whether a state is that of the history."""
    if state.gone or described["deleted"]:
        return bool(state.gone and described["deleted"])
    return (state.status, state.job_id) == (described["status"], described["job_id"])


def _is_old(committed: Sequence[Committed], at: float) -> bool:
    """Whether the last one was committed too long ago for a race."""
    return bool(committed) and at - committed[-1].at > _FAST


def _complaints(log: str) -> Iterator[str]:
    """Each line of the log is JSON."""
    for line in log.splitlines():
        try:
            json.loads(line)
        except ValueError:
            yield f"the daemon's log has a line of no known kind: {line}"


def in_order(complaints: Sequence[str], most: int = 30) -> str:
    more = [f"… and {len(complaints) - most} more"] if len(complaints) > most else []
    return "\n".join((*complaints[:most], *more))
