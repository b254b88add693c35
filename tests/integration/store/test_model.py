"""The store and the core against a small world, in any order of events that hypothesis can think of.

Applications change, capture reads and records them (late, repeatedly, but always what is there when it reads), calls
are claimed, heard or not, answered or not, people intervene, the process dies between any two steps. Beside it stands a
model of what may be believed of HelloWork, kept without the code under test; the promises are stated in its terms:

P1: with everything delivered, HelloWork's last word on an application is the world's.
P2: no call tells HelloWork what it certainly knows already.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.builders import ENDPOINT, NOW, SECOND, WATCH, a_baseline, a_batch, a_content, some_rules

from cdc_sync.core.content import Content
from cdc_sync.core.delivery import fate
from cdc_sync.core.outbox import Entry, EntryState, Sighting
from cdc_sync.core.reply import (
    Acknowledged,
    CredentialsRefused,
    Meaning,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from cdc_sync.core.retry import RetryPolicy
from cdc_sync.store.protocol import Finished
from cdc_sync.store.sqlite import SqliteStore

T = TypeVar("T")

EXISTING = ("a1", "a2")
LATER = "a3"
APPLICATIONS = (*EXISTING, LATER)

STATUSES = ("A", "B", "settling", "refused")
RULES = some_rules(settle={"settling": 5 * SECOND}, max_changes=3, max_deletions=1, window=10 * SECOND)
RETRY = RetryPolicy(first=SECOND, max=10 * SECOND, give_up_after=60 * SECOND, not_found_for=20 * SECOND)
HORIZON = 15 * SECOND
"""Longer than any wait above."""


@dataclass(frozen=True)
class State:
    """What is compared of a content."""

    status: str
    job_id: str = "J1"
    deleted: bool = False

    @classmethod
    def of(cls, content: Content) -> "State":
        return cls(content.status, content.job_id, content.deleted)


@dataclass
class Application:
    """One application: in the world, in HelloWork, and what may be believed.

    `sure` is what HelloWork certainly knows (or, after a baseline or a discard, is taken to know); `unsure` is what it
    was sent since then without saying that it heard it. `let_go` is true from a discard until HelloWork's next word.
    """

    now: State
    heard: State | None = None
    sure: State | None = None
    unsure: set[State] = field(default_factory=set)
    met: set[State] = field(default_factory=set)
    asked_for: State | None = None
    let_go: bool = False


@dataclass
class Call:
    """A call under way."""

    entry: Entry
    heard: bool = False


class Deliveries(RuleBasedStateMachine):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self.open()
        self.now = NOW
        self.applications: dict[str, Application] = {}
        self.read: dict[str, State] = {}
        self.calls: dict[str, Call] = {}

    def open(self) -> SqliteStore:
        return SqliteStore(Path(self.folder.name) / "state.db")

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(step)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()

    # The world

    @initialize(status=st.sampled_from(["A", "B"]))
    def first_start(self, status: str) -> None:
        self.applications = {one: Application(State(status)) for one in EXISTING}
        self.run(self.store.record(RULES, a_baseline(*map(self.sighting, EXISTING), now=self.now)))
        for application in self.applications.values():
            application.met = {application.now}
            application.sure = application.heard = application.now

    @rule(one=st.sampled_from(EXISTING), status=st.sampled_from(STATUSES))
    def status_changes(self, one: str, status: str) -> None:
        application = self.applications[one]
        application.now = State(status, application.now.job_id)

    @rule(one=st.sampled_from(EXISTING), job_id=st.sampled_from(["J1", "J2"]))
    def job_changes(self, one: str, job_id: str) -> None:
        application = self.applications[one]
        application.now = State(application.now.status, job_id, application.now.deleted)

    @rule(one=st.sampled_from(EXISTING))
    def is_deleted(self, one: str) -> None:
        application = self.applications[one]
        application.now = State("deleted", application.now.job_id, deleted=True)

    @rule(one=st.sampled_from(EXISTING))
    def is_undone(self, one: str) -> None:
        application = self.applications[one]
        if application.sure is not None:
            application.now = application.sure

    @rule(status=st.sampled_from(STATUSES))
    def later_one_appears_or_changes(self, status: str) -> None:
        self.applications.setdefault(LATER, Application(State(status))).now = State(status)

    @rule(wait=st.sampled_from([1, SECOND, 5 * SECOND, 30 * SECOND]))
    def time_passes(self, wait: int) -> None:
        self.now += wait

    @rule(jump=st.sampled_from([SECOND, 60 * SECOND]))
    def clock_is_set_back(self, jump: int) -> None:
        self.now -= jump

    # Capture

    @rule(which=st.sets(st.sampled_from(APPLICATIONS), min_size=1))
    def rows_are_read(self, which: set[str]) -> None:
        self.read |= {one: self.applications[one].now for one in which & self.applications.keys()}

    @precondition(lambda self: self.read)
    @rule()
    def what_was_read_is_recorded(self) -> None:
        self.record(self.read)
        self.read = {}

    @rule(which=st.sets(st.sampled_from(APPLICATIONS), min_size=1))
    def rows_are_read_and_recorded(self, which: set[str]) -> None:
        self.rows_are_read(which)
        self.what_was_read_is_recorded()

    # Delivery

    @rule(limit=st.integers(1, 3))
    def due_calls_begin(self, limit: int) -> None:
        for entry in self.run(self.store.claim(self.now, HORIZON, {ENDPOINT: limit})):
            self.begin(entry)

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def hellowork_hears(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(sorted(self.calls))))

    @precondition(lambda self: any(call.heard for call in self.calls.values()))
    @rule(data=st.data(), is_lost=st.booleans(), chance=st.sampled_from([0.0, 0.5, 0.99]))
    def heard_call_ends(self, data: st.DataObject, is_lost: bool, chance: float) -> None:  # noqa: FBT001 - drawn
        one = data.draw(st.sampled_from(sorted(one for one, call in self.calls.items() if call.heard)))
        self.end(one, Unavailable() if is_lost else Acknowledged(), chance)

    @precondition(lambda self: not all(call.heard for call in self.calls.values()))
    @rule(
        data=st.data(),
        meaning=st.sampled_from([Unavailable(), NotFound(), Rejected(), Throttled(None), CredentialsRefused()]),
        chance=st.sampled_from([0.0, 0.5, 0.99]),
    )
    def unheard_call_ends(self, data: st.DataObject, meaning: Meaning, chance: float) -> None:
        one = data.draw(st.sampled_from(sorted(one for one, call in self.calls.items() if not call.heard)))
        self.end(one, meaning, chance)

    @rule()
    def process_dies_and_starts_again(self) -> None:
        self.calls = {}
        self.read = {}
        self.run(self.store.close())
        self.store = self.open()
        self.run(self.store.release_claims())

    # People

    @rule(one=st.sampled_from(APPLICATIONS))
    def dead_letter_is_retried(self, one: str) -> None:
        self.run(self.store.retry_dead(WATCH, [one], self.now))

    @rule(limit=st.sampled_from([None, 1]))
    def held_entries_are_released(self, limit: int | None) -> None:
        self.run(self.store.release_held(None, self.now, None, limit))

    @rule(state=st.sampled_from(["held", "dead"]), one=st.sampled_from(APPLICATIONS))
    def entry_is_discarded(self, state: EntryState, one: str) -> None:
        waiting = {entry.application_id: entry for entry in self.entries(state)}
        for _, discarded in self.run(self.store.discard(state, WATCH, [one], now=self.now)):
            application = self.applications[discarded]
            application.sure = State.of(waiting[discarded].content)
            application.unsure = set()
            application.let_go = True

    @rule(one=st.sampled_from(APPLICATIONS))
    def last_word_is_resent(self, one: str) -> None:
        waiting = {entry.application_id for entry in self.entries("pending")}
        for _, resent in self.run(self.store.resend(WATCH, [one], self.now)):
            if resent not in waiting:
                self.applications[resent].asked_for = self.applications[resent].sure

    # The promises

    @rule()
    def all_is_quiet(self) -> None:
        """Capture has seen everything, people released what was held, and HelloWork hears and answers everything."""
        for one in list(self.calls):
            self.hear(one)
            self.end(one, Acknowledged())
        self.record({one: application.now for one, application in self.applications.items()})
        self.run(self.store.release_held(None, self.now, None, None))
        self.everything_due_is_delivered()
        self.now += HORIZON
        self.everything_due_is_delivered()

        assert self.entries("pending") == self.entries("held") == []
        dead = {entry.application_id for entry in self.entries("dead")}
        for one, application in self.applications.items():
            assert one in dead or application.let_go or application.heard == application.now
        assert not self.record({one: application.now for one, application in self.applications.items()})

    @invariant()
    def belief_holds(self) -> None:
        known = self.run(self.store.known(WATCH, APPLICATIONS))
        for one, application in self.applications.items():
            if one not in known:
                assert not application.met, "what was recorded is there"
                continue
            told, waiting = known[one].told, known[one].waiting
            assert (None if told is None else State.of(told)) == application.sure
            if waiting is None:
                application.asked_for = None
                assert not application.unsure, "what may have been heard is never dropped"
                assert application.let_go or application.heard == application.sure
            else:
                assert waiting.attempted == bool(application.unsure)

    # What the rules are made of

    def sighting(self, one: str, state: State | None = None) -> Sighting:
        state = state or self.applications[one].now
        content = a_content(
            state.status, state.job_id, application_id=one, deleted=state.deleted, event_date=self.now
        )
        return Sighting(one, (one,), content, "not to be sent" if state.status == "refused" else None)

    def record(self, states: dict[str, State]) -> bool:
        """Record observations; whether any was news."""
        for one, state in states.items():
            self.applications[one].met.add(state)
        sightings = [self.sighting(one, state) for one, state in states.items()]
        return bool(self.run(self.store.record(RULES, a_batch(*sightings, now=self.now))))

    def begin(self, entry: Entry) -> None:
        one, state = entry.application_id, State.of(entry.content)
        application = self.applications[one]
        assert one not in self.calls, "one call at a time per application"
        assert state in application.met, "only what was really there is told"
        assert application.unsure or state != application.sure or state == application.asked_for, "P2"
        application.unsure.add(state)
        self.calls[one] = Call(entry)

    def everything_due_is_delivered(self) -> None:
        for entry in self.run(self.store.claim(self.now, HORIZON, {ENDPOINT: len(APPLICATIONS)})):
            self.begin(entry)
            self.hear(entry.application_id)
            self.end(entry.application_id, Acknowledged())

    def hear(self, one: str) -> None:
        call = self.calls[one]
        call.heard = True
        self.applications[one].heard = State.of(call.entry.content)

    def end(self, one: str, meaning: Meaning, chance: float = 0.0) -> None:
        entry = self.calls.pop(one).entry
        outcome = fate(entry, meaning, "a reply", RETRY, now=self.now, chance=chance)
        self.run(self.store.finish([Finished(entry, outcome, {}, self.now)], {}))
        if isinstance(meaning, Acknowledged):
            application = self.applications[one]
            application.sure = State.of(entry.content)
            application.unsure = set()
            application.let_go = False

    def entries(self, state: EntryState) -> Iterable[Entry]:
        return self.run(self.store.entries(state, None, len(APPLICATIONS)))


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
