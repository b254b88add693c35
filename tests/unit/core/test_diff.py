"""The decision, against the design's four rules written a second time, over every case of a small world."""

from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import TRANSITIONS

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Decision, Enqueue, PendingEntry, Unseen, decide, transition

CONTENTS = [
    Content(status, job_id, deleted, 0, 0, None, None, "https://ats-partner.hellowork.com/v1/applications/1/status")
    for status, job_id, deleted in product(("s1", "s2"), ("j1", "j2"), (False, True))
]
A, B, C = CONTENTS[0], CONTENTS[4], CONTENTS[6]
TOLD = [None, *CONTENTS]
WAITING = [None, *(PendingEntry(content, attempted) for content, attempted in product(CONTENTS, (False, True)))]
CHOICES: tuple[Unseen, ...] = ("send", "adopt")


def what(content: Content) -> tuple[str, str, bool]:
    return content.status, content.job_id, content.deleted


def by_the_rules(observed: Content, told: Content | None, waiting: PendingEntry | None, unseen: Unseen) -> str:
    """The design's words, in its order."""
    base = waiting.content if waiting else told
    if base and what(observed) == what(base):
        return "nothing"
    if told and waiting and what(observed) == what(told):
        return "enqueue" if waiting.attempted else "cancel"
    if base is None and unseen == "adopt":
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
        (A, PendingEntry(B, attempted=False), B, "nothing"),
        (A, PendingEntry(B, attempted=True), B, "nothing"),
        (A, PendingEntry(B, attempted=False), A, "cancel"),
        (A, PendingEntry(B, attempted=True), A, Enqueue(frozenset({"status"}))),
        (A, PendingEntry(B, attempted=False), C, Enqueue(frozenset({"status", "job"}))),
        (A, PendingEntry(B, attempted=True), C, Enqueue(frozenset({"status", "job"}))),
        (A, PendingEntry(A, attempted=True), A, "nothing"),
        (None, PendingEntry(B, attempted=False), A, Enqueue(frozenset({"first"}))),
        (None, PendingEntry(B, attempted=True), A, Enqueue(frozenset({"first"}))),
        (None, PendingEntry(B, attempted=True), B, "nothing"),
    ],
)
@pytest.mark.parametrize("unseen", CHOICES)
def test_decisions(
    told: Content | None, waiting: PendingEntry | None, observed: Content, decision: Decision, unseen: Unseen
) -> None:
    assert decide(observed, told, waiting, unseen) == decision


def test_an_application_that_was_never_seen_is_reported_or_adopted_as_configured() -> None:
    assert decide(A, None, None, "send") == Enqueue(frozenset({"first"}))
    assert decide(A, None, None, "adopt") == "adopt"


def test_fields_that_ride_along_are_no_news() -> None:
    touched = A._replace(created=1, event_date=2, source='"other"', extra='{"x": 1}', url="https://elsewhere.example/")

    assert decide(touched, A, None, "send") == "nothing"
    assert decide(touched, B, PendingEntry(A, attempted=True), "send") == "nothing"
    assert decide(touched, A, PendingEntry(B, attempted=False), "send") == "cancel"


def test_a_queued_entry_always_says_why() -> None:
    decisions = [decide(*case) for case in product(CONTENTS, TOLD, WAITING, CHOICES)]

    assert all(decision.kinds for decision in decisions if isinstance(decision, Enqueue))


def test_an_attempted_entry_is_never_cancelled() -> None:
    attempted = [waiting for waiting in WAITING if waiting and waiting.attempted]

    assert not any(decide(*case) == "cancel" for case in product(CONTENTS, TOLD, attempted, CHOICES))


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


@dataclass
class World:
    """One application between an ATS that changes it and a HelloWork that may or may not hear.

    The store's part is written in the fewest words: what a decision does, what a claim marks, what an answer ends.
    """

    told: Content | None = None
    waiting: PendingEntry | None = None
    under_way: Content | None = None
    heard: Content | None = None
    calls: int = 0

    def observe(self, observed: Content, unseen: Unseen) -> Decision:
        decision = decide(observed, self.told, self.waiting, unseen)
        match decision:
            case "adopt":
                self.told = self.heard = observed
            case "cancel":
                self.waiting = None
            case Enqueue():
                self.waiting = PendingEntry(observed, attempted=self.waiting is not None and self.waiting.attempted)
            case "nothing":
                pass
        return decision

    def claim(self) -> None:
        if self.waiting and not self.under_way:
            self.under_way = self.waiting.content
            self.waiting = self.waiting._replace(attempted=True)

    def call(self, *, arrives: bool, answer_arrives: bool) -> None:
        sent, self.under_way = self.under_way, None
        if not sent:
            return
        self.calls += 1
        if not arrives:
            return
        self.heard = sent
        if answer_arrives:
            self.told = sent
            if self.waiting and self.waiting.content.same_as(sent):
                self.waiting = None
            elif self.waiting:
                self.waiting = self.waiting._replace(attempted=False)


Step = tuple[str, Content, bool, bool]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(["observe", "claim", "call", "die"]), st.sampled_from([A, B, C]), st.booleans(), st.booleans()
    ),
    max_size=30,
)


def live(world: World, steps: list[Step], unseen: Unseen) -> Content:
    latest = A
    world.observe(latest, unseen)
    for action, observed, arrives, answer_arrives in steps:
        match action:
            case "observe":
                latest = observed
                world.observe(latest, unseen)
            case "claim":
                world.claim()
            case "call":
                world.call(arrives=arrives, answer_arrives=answer_arrives)
            case "die":
                # The daemon dies with a call under way, which HelloWork may have heard.
                world.call(arrives=arrives, answer_arrives=False)
    return latest


@given(steps=STEPS, unseen=st.sampled_from(CHOICES))
def test_whatever_is_lost_on_the_way_hellowork_ends_up_knowing_the_latest_state(
    steps: list[Step], unseen: Unseen
) -> None:
    world = World()
    latest = live(world, steps, unseen)

    for _ in range(2):  # what is still under way, then what still waits
        world.claim()
        world.call(arrives=True, answer_arrives=True)

    assert world.waiting is None
    assert world.told is not None
    assert what(world.told) == what(latest)
    assert world.heard is not None
    assert what(world.heard) == what(latest)


@given(steps=STEPS, unseen=st.sampled_from(CHOICES))
def test_while_nothing_waits_hellowork_knows_what_we_believe_that_it_knows(steps: list[Step], unseen: Unseen) -> None:
    world = World()
    for count in range(len(steps) + 1):
        world = World()
        live(world, steps[:count], unseen)
        if world.waiting is None:
            assert world.heard == world.told


@given(steps=STEPS, unseen=st.sampled_from(CHOICES))
def test_to_see_the_same_again_is_no_news(steps: list[Step], unseen: Unseen) -> None:
    world = World()
    latest = live(world, steps, unseen)

    assert world.observe(latest, unseen) == "nothing"


@given(detours=st.lists(st.sampled_from([A, B, C]), max_size=10))
def test_what_is_undone_before_it_is_sent_costs_no_call(detours: list[Content]) -> None:
    world = World(told=A, heard=A)

    for observed in [*detours, A]:
        world.observe(observed, "send")
    world.claim()
    world.call(arrives=True, answer_arrives=True)

    assert world.calls == 0


@pytest.mark.parametrize(("told", "observed", "expected"), TRANSITIONS)
def test_a_transition_has_a_name_for_people(told: Content | None, observed: Content, expected: str) -> None:
    assert transition(told, observed) == expected
