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
from torture.configuration import CONCURRENCY, TIMEOUT
from torture.evidence import Evidence
from torture.faults import Span
from torture.population import AT_FIRST, UNCHANGED

DELETED = "deleted"

_HARMLESS = frozenset({None, "delay", "slow_body"})
"""Faults of processed calls with a late, complete answer."""

_SPOILED = frozenset({"lost_answer", "half_answer"})
"""Faults of the answers to processed calls."""

_FAST = 3.0
"""Seconds for which a sweep may overtake the fast path: the network stalls for two."""

_ADOPTED = " applications known, "
"""The daemon's event at the end of its baseline."""

_LONGEST_ABSENCE = 20.0
"""Seconds within which some sweep has taken place."""

_LOST_BEFORE = 1.0
"""Seconds before the standby fell behind in which a commit may have missed it."""

_LOSS_SHOWS_WITHIN = 30.0
"""Seconds after a lossy failover in which the store may repeat what it lost."""

_TAKE_OVER = 20.0
"""Seconds for a take-over: the other's lease of 15, a look each second, a start."""

_SLOW = 15.0
"""Seconds for which a change may wait without any fault, on a loaded machine."""

_MAY_LOSE_A_RESULT = frozenset(
    {"sink-silence", "store-silence", "partition", "stop", "kill", "lost lead", "failover", "lossy-failover"}
)
"""Faults in which a daemon may miss an acknowledgement."""


@dataclass(slots=True)
class Repeats:
    """Calls with the state that HelloWork had processed last.

    Attributes:
        reasons: their numbers, by reason: an unsure answer, another call between, a fault of that time.
        unexplained: without a reason.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)


def faults(evidence: Evidence) -> dict[str, list[str]]:
    """The complaints, by kind."""
    kinds: Mapping[str, Iterable[str]] = {
        "wrong in the end": _last_words(evidence),
        "wrong in the store": _stores_opinion(evidence),
        "sent though unchanged": _calls_for_nothing(evidence),
        "malformed": _malformed(evidence.calls),
        "overlapping calls": _too_many_overlaps(evidence),
        "never committed": _unreal(evidence),
        "older after newer": _out_of_order(evidence),
        "repeats": _too_many_repeats(evidence),
        "only a sweep noticed": _missed(evidence),
        "dead letters": (f"{name}: is a dead letter" for name in evidence.dead),
        "stuck": _stuck(evidence),
        "ended without being stopped": _ended_without_reason(evidence),
        "log": _complaints(evidence.log),
    }
    found = {kind: list(complaints) for kind, complaints in kinds.items()}
    return {kind: complaints for kind, complaints in found.items() if complaints}


# The last states.


def _last_words(evidence: Evidence) -> Iterator[str]:
    """HelloWork's last state of each application is the database's."""
    unseen = _gone_unseen(evidence)
    for name in sorted({*evidence.truth, *evidence.state, *AT_FIRST} - unseen):
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


def _stores_opinion(evidence: Evidence) -> Iterator[str]:
    """The store's snapshots are HelloWork's last states."""
    unseen = _gone_unseen(evidence)
    for name, body in evidence.state.items():
        snapshot = evidence.snapshots.get(name)
        is_same = snapshot is not None and (snapshot.status, snapshot.job_id) == (body["status"], body["jobId"])
        if not is_same and name not in unseen:
            yield f"{name}: HelloWork acknowledged {body}, and the store has {snapshot}"


def _losses(evidence: Evidence) -> list[Span]:
    """When the store lost data."""
    return [span for span in evidence.spans if span.fault == "lossy-failover"]


def _gone_unseen(evidence: Evidence) -> set[str]:
    """Gone applications of which a store lost a call: it may have an earlier end."""
    return {
        call.application_id or ""
        for call in evidence.calls
        if any(span.begin - _LOST_BEFORE <= call.received <= span.end for span in _losses(evidence))
        and getattr(evidence.truth.get(call.application_id or ""), "gone", True)
    }


# Each call.


def _calls_for_nothing(evidence: Evidence) -> Iterator[str]:
    """No call for unchanged applications."""
    for name, number in Counter(call.application_id for call in evidence.calls).items():
        if name in UNCHANGED:
            yield f"{name}: it never changed, and HelloWork was called {number} times"


def _malformed(calls: Iterable[Call]) -> Iterator[str]:
    """Each call is valid, and has its key."""
    for call in calls:
        if call.violations:
            yield f"{call.application_id}: call {call.number} is wrong: {call.violations}"
        if not call.idempotency_key:
            yield f"{call.application_id}: call {call.number} has no Idempotency-Key"


def _unreal(evidence: Evidence) -> Iterator[str]:
    """Each call has a state that was committed before."""
    for call in evidence.calls:
        status, job = _status_and_job(call)
        before = [entry for entry in evidence.ledger.get(call.application_id or "", ()) if entry.at <= call.received]
        had_job = any(entry.state.job_id == job for entry in before)
        if not (had_job and any(_has(call, entry.state) for entry in before)):
            yield f"{call.application_id}: call {call.number} has {status}, {job}, which was never committed"


def _status_and_job(call: Call) -> tuple[str, str]:
    body = call.body if isinstance(call.body, dict) else {}
    return str(body.get("status")), str(body.get("jobId"))


def _has(call: Call, state: State) -> bool:
    status, job = _status_and_job(call)
    return state.gone if status == DELETED else state == State(status, job, gone=False)


# The calls of one application.


def _of_applications(calls: Iterable[Call]) -> Iterable[list[Call]]:
    found: dict[str, list[Call]] = {}
    for call in calls:
        found.setdefault(call.application_id or "", []).append(call)
    return found.values()


def overlaps(evidence: Evidence) -> list[str]:
    """The calls that came while another one of their application was under way.

    What a cut network holds up is under way for the timeout at most; a single daemon has no such network.
    """
    found = []
    for own in _of_applications(evidence.calls):
        for place, call in enumerate(own):
            until = [each.received + min(TIMEOUT, each.duration or TIMEOUT) for each in own[:place]]
            if call.concurrent and (evidence.is_alone or call.received < max(until, default=0)):
                found.append(f"{call.application_id}: call {call.number} came while another one was under way")
    return found


def _too_many_overlaps(evidence: Evidence) -> Iterator[str]:
    """Each take-over by another daemon explains one."""
    found, take_overs = overlaps(evidence), 0 if evidence.is_alone else sum(evidence.led) - 1
    if len(found) > take_overs:
        yield from found


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    excused = {call.number for call in excusably_late(evidence)}
    for call in _late(evidence):
        if call.number not in excused:
            which = f"{call.application_id}: call {call.number} has {_status_and_job(call)}"
            yield f"{which}, which had been superseded before the call before it"


def excusably_late(evidence: Evidence) -> list[Call]:
    """Late calls of entries that a newer call had replaced which the store lost."""
    return [
        late
        for late in _late(evidence)
        for forgotten in _losses(evidence)
        if late.received <= forgotten.end + _LOSS_SHOWS_WITHIN
        and any(
            call.application_id == late.application_id and forgotten.begin <= call.received <= forgotten.end
            for call in evidence.calls
            if call.number < late.number
        )
    ]


def _late(evidence: Evidence) -> Iterator[Call]:
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


def repeats(evidence: Evidence) -> Repeats:
    """Count the repeats by their reason."""
    found = Repeats()
    for first, second, between in _repeated(evidence.calls):
        at_the_time = {
            span.fault
            for span in _possible_losses(evidence)
            if span.begin <= second.received and first.received <= span.end + evidence.aftermath
        }
        if first.fault in _SPOILED or first.abandoned:
            found.reasons["unsure answer"] += 1
        elif any(_status_and_job(call) != _status_and_job(first) for call in between):
            found.reasons["another call between"] += 1
        elif at_the_time:
            found.reasons[" or ".join(sorted(at_the_time))] += 1
        else:
            repeat = f"call {second.number} repeats call {first.number} ({_status_and_job(first)})"
            found.unexplained.append(f"{first.application_id}: {repeat} for no reason")
    return found


def _possible_losses(evidence: Evidence) -> list[Span]:
    return [span for span in evidence.spans if span.fault in _MAY_LOSE_A_RESULT]


def _repeated(calls: Iterable[Call]) -> Iterator[tuple[Call, Call, Sequence[Call]]]:
    """Pairs of successive processed calls for an application with one state, and the unprocessed calls between."""
    for own in _of_applications(calls):
        processed = [call for call in own if not call.violations and call.fault in {*_HARMLESS, *_SPOILED}]
        for first, second in pairwise(processed):
            if _status_and_job(first) == _status_and_job(second):
                yield first, second, [call for call in own if first.number < call.number < second.number]


def _too_many_repeats(evidence: Evidence) -> Iterator[str]:
    found = repeats(evidence)
    yield from found.unexplained
    excused = found.reasons["unsure answer"] + found.reasons["another call between"]
    number, blows = found.reasons.total() - excused, len(_possible_losses(evidence))
    most = len(evidence.led) * CONCURRENCY * blows
    if number > most:
        yield f"{number} calls were repeated after {blows} blows, which explain {most} at most"


# The ways of a change.


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


def _is(state: State, described: Mapping[str, Any]) -> bool:
    """Whether a state is that of the history."""
    if state.gone or described["deleted"]:
        return bool(state.gone and described["deleted"])
    return (state.status, state.job_id) == (described["status"], described["job_id"])


def _is_old(committed: Sequence[Committed], at: float) -> bool:
    """Whether the last one was committed too long ago for a race."""
    return bool(committed) and at - committed[-1].at > _FAST


def lateness(evidence: Evidence) -> Iterator[tuple[float, Call]]:
    """Seconds from each numbered state's commit to its first call."""
    committed: dict[tuple[str, str, str], float] = {}
    for name, entries in evidence.ledger.items():
        for entry in entries:
            committed.setdefault((name, entry.state.status, entry.state.job_id), entry.at)
    for call in evidence.calls:
        status, job = _status_and_job(call)
        at = committed.pop((call.application_id or "", status, job), None)
        if at is not None and status[1:].isdigit():
            yield call.received - at, call


def _stuck(evidence: Evidence) -> Iterator[str]:
    """No change waits for long beside a daemon without a fault; each fault then may cost a take-over."""
    for seconds, call in lateness(evidence):
        began = call.received - seconds
        meanwhile = [
            span for span in evidence.spans if span.begin <= call.received and began <= span.end + evidence.aftermath
        ]
        befallen = {span.number for span in meanwhile}
        well = set(range(len(evidence.led))) - befallen
        if seconds > _SLOW + _TAKE_OVER * len(meanwhile) and well and None not in befallen:
            late = f"{call.application_id}: call {call.number} came {seconds:.0f} s late"
            yield f"{late}, and nothing befell daemon {min(well) + 1}"


def _ended_without_reason(evidence: Evidence) -> Iterator[str]:
    """A daemon ends by its alarm only if it was stopped: an outage of the store ends nobody."""
    stops = Counter(span.number for span in evidence.spans if span.fault == "stop")
    for number, times in enumerate(evidence.frozen):
        if times > stops[number]:
            yield f"daemon {number + 1} was stopped {stops[number]} times, and ended by its alarm {times} times"


def _complaints(log: str) -> Iterator[str]:
    """Each line of the log is JSON."""
    for line in log.splitlines():
        try:
            json.loads(line)
        except ValueError:
            yield f"the daemon's log has a line of no known kind: {line}"
