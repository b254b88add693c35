"""The decision, against the design's four rules written a second time, over every case of a small world."""

from itertools import product

import pytest
from support.builders import TRANSITIONS, a_known_entry

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Decision, Enqueue, decide, transition
from cdc_sync.core.outbox import KnownEntry
from cdc_sync.core.rows import FirstStatus

CONTENTS = [
    Content(status, job_id, deleted, 0, 0, None, None, "https://ats-partner.hellowork.com/v1/applications/1/status")
    for status, job_id, deleted in product(("s1", "s2"), ("j1", "j2"), (False, True))
]
A, B, C = CONTENTS[0], CONTENTS[4], CONTENTS[6]
TOLD = [None, *CONTENTS]
WAITING = [
    None,
    *(a_known_entry(content, attempted=attempted) for content, attempted in product(CONTENTS, (False, True))),
]
CHOICES: tuple[FirstStatus, ...] = ("send", "adopt")


def what(content: Content) -> tuple[str, str, bool]:
    return content.status, content.job_id, content.deleted


def by_the_rules(observed: Content, told: Content | None, waiting: KnownEntry | None, first_status: FirstStatus) -> str:
    """The design's words, in its order."""
    base = waiting.content if waiting else told
    if base and what(observed) == what(base):
        return "nothing"
    if told and waiting and what(observed) == what(told):
        return "enqueue" if waiting.attempted else "cancel"
    if base is None and first_status == "adopt":
        return "adopt"
    return "enqueue"


def kind(decision: Decision) -> str:
    return "enqueue" if isinstance(decision, Enqueue) else decision


def test_every_case_of_a_small_world_is_decided_by_the_rules() -> None:
    cases = list(product(CONTENTS, TOLD, WAITING, CHOICES))

    wrong = [case for case in cases if kind(decide(*case)) != by_the_rules(*case)]

    assert len(cases) == 8 * 9 * 17 * 2
    assert wrong == []


@pytest.mark.parametrize(
    ("told", "waiting", "observed", "decision"),
    [
        (A, None, A, "nothing"),
        (A, None, B, Enqueue(frozenset({"status"}))),
        (A, None, C, Enqueue(frozenset({"status", "job"}))),
        (A, a_known_entry(B, attempted=False), B, "nothing"),
        (A, a_known_entry(B, attempted=True), B, "nothing"),
        (A, a_known_entry(B, attempted=False), A, "cancel"),
        (A, a_known_entry(B, attempted=True), A, Enqueue(frozenset({"status"}))),
        (A, a_known_entry(B, attempted=False), C, Enqueue(frozenset({"status", "job"}))),
        (A, a_known_entry(B, attempted=True), C, Enqueue(frozenset({"status", "job"}))),
        (A, a_known_entry(A, attempted=True), A, "nothing"),
        (None, a_known_entry(B, attempted=False), A, Enqueue(frozenset({"first"}))),
        (None, a_known_entry(B, attempted=True), A, Enqueue(frozenset({"first"}))),
        (None, a_known_entry(B, attempted=True), B, "nothing"),
    ],
)
@pytest.mark.parametrize("first_status", CHOICES)
def test_decisions(
    told: Content | None, waiting: KnownEntry | None, observed: Content, decision: Decision, first_status: FirstStatus
) -> None:
    assert decide(observed, told, waiting, first_status) == decision


def test_an_application_that_was_never_seen_is_reported_or_adopted_as_configured() -> None:
    assert decide(A, None, None, "send") == Enqueue(frozenset({"first"}))
    assert decide(A, None, None, "adopt") == "adopt"


@pytest.mark.parametrize(
    ("waiting", "sent", "said"),
    [
        (B, B, True),
        (B._replace(event_date=5), B, True),
        (A, B, False),
        (B._replace(deleted=True), B, False),
    ],
)
def test_an_acknowledgement_also_says_the_same_content_queued_meanwhile(
    waiting: Content, sent: Content, *, said: bool
) -> None:
    assert waiting.same_as(sent) is said


@pytest.mark.parametrize(("told", "observed", "expected"), TRANSITIONS)
def test_a_transition_has_a_name_for_people(told: Content | None, observed: Content, expected: str) -> None:
    assert transition(told, observed) == expected
