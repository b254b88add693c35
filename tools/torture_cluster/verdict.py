"""Judges a run at HelloWork; pure. `torture.verdict` has the common parts."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from support.emulated import Call
from torture import verdict
from torture.configuration import CONCURRENCY, TIMEOUT
from torture.evidence import Evidence

from torture_cluster.faults import Span
from torture_cluster.machine import DAEMONS

_AFTERMATH = 6.0
"""Seconds after a fault in which delayed packets arrive and answers get lost."""

_LOST_BEFORE = 1.0
"""Seconds before the standby fell behind in which a commit may have missed it."""

_LOSS_SHOWS_WITHIN = 30.0
"""Seconds after a lossy failover in which the store may repeat what it lost."""

_TAKE_OVER = 20.0
"""Seconds for a take-over: the other's lease of 15, a look each second, a start."""

_SLOW = 15.0
"""Seconds for which a change may wait without any fault, on a loaded machine."""

_EXPLAIN_REPEATS = frozenset(
    {"sink-silence", "store-silence", "partition", "stop", "kill", "failover", "lossy-failover"}
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


def faults(evidence: Evidence, spans: Sequence[Span], leads: int) -> Mapping[str, list[str]]:
    """The complaints, by kind; `leads`: how often a daemon took the lead."""
    unseen = _gone_unseen(evidence, spans)
    kinds = {
        "older after newer": map(verdict.superseded, inexcusably_late(evidence, spans)),
        "overlapping calls": _too_many_overlaps(evidence.calls, leads - 1),
        "never committed": verdict.unreal(evidence),
        "sent though unchanged": verdict.calls_for_nothing(evidence),
        "wrong in the end": _of_others(verdict.last_words(evidence), unseen),
        "wrong in the store": _of_others(verdict.stores_opinion(evidence), unseen),
        "malformed": verdict.malformed(evidence.calls),
        "dead letters": (f"{name}: is a dead letter" for name in evidence.dead),
        "stuck": _stuck(evidence, spans),
        "repeats": _too_many_repeats(evidence, spans),
    }
    found = {kind: list(complaints) for kind, complaints in kinds.items()}
    return {kind: complaints for kind, complaints in found.items() if complaints}


def inexcusably_late(evidence: Evidence, spans: Sequence[Span]) -> list[Call]:
    """Late calls, except those of a store that lost data."""
    excused = {call.number for call in excusably_late(evidence, spans)}
    return [call for call in verdict.late(evidence) if call.number not in excused]


def _gone_unseen(evidence: Evidence, spans: Sequence[Span]) -> set[str]:
    """Gone applications of which a store lost a call: it may have an earlier end."""
    losses = [span for span in spans if span.fault == "lossy-failover"]
    return {
        call.application_id or ""
        for call in evidence.calls
        if any(span.begin - _LOST_BEFORE <= call.received <= span.end for span in losses)
        and getattr(evidence.truth.get(call.application_id or ""), "gone", True)
    }


def _of_others(complaints: Iterable[str], names: Collection[str]) -> list[str]:
    return [complaint for complaint in complaints if complaint.partition(":")[0] not in names]


def excusably_late(evidence: Evidence, spans: Sequence[Span]) -> list[Call]:
    """Late calls of entries that the newer, lost call had replaced."""
    losses = [span for span in spans if span.fault == "lossy-failover"]
    return [
        late
        for late in verdict.late(evidence)
        for forgotten in losses
        if late.received <= forgotten.end + _LOSS_SHOWS_WITHIN
        and any(
            call.application_id == late.application_id and forgotten.begin <= call.received <= forgotten.end
            for call in evidence.calls
            if call.number < late.number
        )
    ]


def overlaps(calls: Sequence[Call]) -> list[str]:
    """The calls that came while another one of their application was under way, at most for the timeout."""
    found = []
    before: dict[str, list[Call]] = {}
    for call in calls:
        own = before.setdefault(call.application_id or "", [])
        for other in own if call.concurrent else ():
            end = other.received + min(TIMEOUT, TIMEOUT if other.duration is None else other.duration)
            if call.received < end:
                found.append(f"{call.application_id}: call {call.number} came while call {other.number} was under way")
        own.append(call)
    return found


def _too_many_overlaps(calls: Sequence[Call], take_overs: int) -> Iterator[str]:
    """Each take-over explains one."""
    found = overlaps(calls)
    if len(found) > take_overs:
        yield from found


def ended_without_reason(ends: Sequence[int], spans: Sequence[Span]) -> list[str]:
    """A daemon ends by its alarm only if it was stopped: an outage of the store ends nobody."""
    stops = Counter(span.number for span in spans if span.fault == "stop")
    return [
        f"daemon {number + 1} was stopped {stops[number]} times, and ended by its alarm {times} times"
        for number, times in enumerate(ends)
        if times > stops[number]
    ]


def lateness(evidence: Evidence) -> Iterator[tuple[float, Call]]:
    """Seconds from each numbered state's commit to its first call."""
    committed: dict[tuple[str, str, str], float] = {}
    for name, entries in evidence.ledger.items():
        for entry in entries:
            committed.setdefault((name, entry.state.status, entry.state.job_id), entry.at)
    for call in evidence.calls:
        status, job = verdict.status_and_job(call)
        at = committed.pop((call.application_id or "", status, job), None)
        if at is not None and status[1:].isdigit():
            yield call.received - at, call


def _stuck(evidence: Evidence, spans: Sequence[Span]) -> Iterator[str]:
    """No change waits for long beside a daemon without a fault; each fault then may cost a take-over."""
    for seconds, call in lateness(evidence):
        began = call.received - seconds
        meanwhile = [span for span in spans if span.begin <= call.received and began <= span.end + _AFTERMATH]
        befallen = {span.number for span in meanwhile}
        well = set(range(len(DAEMONS))) - befallen
        if seconds > _SLOW + _TAKE_OVER * len(meanwhile) and well and None not in befallen:
            late = f"{call.application_id}: call {call.number} came {seconds:.0f} s late"
            yield f"{late}, and nothing befell daemon {min(well) + 1}"


def repeats(evidence: Evidence, spans: Sequence[Span]) -> Repeats:
    """Count the repeats by their reason."""
    found = Repeats()
    reasons = [span for span in spans if span.fault in _EXPLAIN_REPEATS]
    for first, second, between in verdict.repeated(evidence.calls):
        at_the_time = {
            span.fault for span in reasons if span.begin <= second.received and first.received <= span.end + _AFTERMATH
        }
        if verdict.was_unsure(first):
            found.reasons["unsure answer"] += 1
        elif any(verdict.status_and_job(call) != verdict.status_and_job(first) for call in between):
            found.reasons["another call between"] += 1
        elif at_the_time:
            found.reasons[" or ".join(sorted(at_the_time))] += 1
        else:
            found.unexplained.append(verdict.for_no_reason(first, second))
    return found


def _too_many_repeats(evidence: Evidence, spans: Sequence[Span]) -> Iterator[str]:
    found = repeats(evidence, spans)
    yield from found.unexplained
    number, most = found.reasons.total(), len(DAEMONS) * CONCURRENCY * len(spans)
    excused = found.reasons["unsure answer"] + found.reasons["another call between"]
    if number - excused > most:
        yield f"{number - excused} calls were repeated after {len(spans)} blows, which explain {most} at most"
