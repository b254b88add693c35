"""The decision, against the design's four rules written a second time, over every case of a small world."""

from itertools import product

import pytest
from support.builders import TRANSITIONS, a_known_entry

from cdc_sync.core.content import Content, Kind
from cdc_sync.core.diff import Decision, Enqueue, decide, transition
from cdc_sync.core.outbox import Entry
from cdc_sync.core.rows import FirstStatus

CONTENTS = [
    Content(status, job_id, deleted, 0, 0, None, None, "https://ats-partner.hellowork.com/v1/applications/1/status")
    for status, job_id, deleted in product(("s1", "s2"), ("j1", "j2"), (False, True))
]
A, B, C = CONTENTS[0], CONTENTS[4], CONTENTS[6]
TOLD = [None, *CONTENTS]
WAITING = [None, *(a_known_entry(content, attempted=each) for content, each in product(CONTENTS, (False, True)))]
CHOICES: tuple[FirstStatus, ...] = ("send", "adopt")


def what(content: Content) -> tuple[str, str, bool]:
    return content.status, content.job_id, content.deleted


def by_the_rules(observed: Content, told: Content | None, waiting: Entry | None, first_status: FirstStatus) -> str:
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
    ("told", "waiting", "observed", "kinds"),
    [
        (A, None, B, {"status"}),
        (A, None, C, {"status", "job"}),
        (A, a_known_entry(B, attempted=True), A, {"status"}),
        (A, a_known_entry(B, attempted=False), C, {"status", "job"}),
        (None, a_known_entry(B, attempted=False), A, {"first"}),
        (None, None, A, {"first"}),
    ],
)
def test_a_decision_says_what_is_other_than_was_acknowledged(
    told: Content | None, waiting: Entry | None, observed: Content, kinds: set[Kind]
) -> None:
    assert decide(observed, told, waiting, "send") == Enqueue(frozenset(kinds))


@pytest.mark.parametrize(
    ("waiting", "sent", "said"),
    [(B, B, True), (B._replace(event_date=5), B, True), (A, B, False), (B._replace(deleted=True), B, False)],
)
def test_an_acknowledgement_also_says_the_same_content_queued_meanwhile(
    waiting: Content, sent: Content, *, said: bool
) -> None:
    assert waiting.same_as(sent) is said


@pytest.mark.parametrize(("told", "observed", "expected"), TRANSITIONS)
def test_a_transition_has_a_name_for_people(told: Content | None, observed: Content, expected: str) -> None:
    assert transition(told, observed) == expected
