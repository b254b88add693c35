"""The store and the core against a small world, in any order of events that hypothesis can think of.

Applications change, capture reads and records them (late, repeatedly, but always what is there when it reads), calls
begin, are heard or not, answered or not, people intervene, the process dies between any two steps. Beside it stands a
model of what may be believed of HelloWork, kept without the code under test; the promises are stated in its terms:

P1: with everything delivered, HelloWork's last word on an application is the world's.
P2: no call tells HelloWork what it certainly knows already.

A sweep passes over a row by its digest only if the row says what HelloWork is taken to know and nothing is pending.
"""

import asyncio
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import acting
from support.builders import LANE, NOW, SECOND, WATCH, a_baseline, a_batch, a_content, some_rules
from support.store_backends import Backend, PostgresBackend, SqliteBackend
from support.store_steps import Begun

from cdc_sync.core.batch import ApplyResult, Resolved
from cdc_sync.core.content import Content
from cdc_sync.core.outbox import Entry, EntryState, Verified, Wanted
from cdc_sync.core.replies import Finished, Meaning, RetryPolicy, begun, result_of
from cdc_sync.core.rows import Reportable
from cdc_sync.store.encoding import key_text

T = TypeVar("T")

EXISTING = ("a1", "a2")
LATER = "a3"
APPLICATIONS = (*EXISTING, LATER)

STATUSES = ("A", "B", "settling", "refused")
JOBS = ("J1", "J2")
RULES = some_rules(settle={"settling": 5 * SECOND}, max_changes=3, max_deletions=1, window=10 * SECOND)
RETRY = RetryPolicy(first=SECOND, max=10 * SECOND, give_up_after=60 * SECOND, not_found_for=20 * SECOND)
HORIZON = 15 * SECOND
"""Longer than any wait above."""
HEARD: list[Meaning] = [Meaning("acknowledged"), Meaning("unavailable")]
UNHEARD: list[Meaning] = [
    Meaning("unavailable"),
    Meaning("not found"),
    Meaning("rejected"),
    Meaning("throttled", None),
    Meaning("refused credentials"),
]

Seen = Literal["at once", "late", "by a sweep", "later"]
"""How capture meets a change; `late`: what it records was read just before."""
SEEN = st.sampled_from(["at once", "late", "by a sweep", "later"])

INTERVENTIONS: Mapping[EntryState, list[str]] = {
    "pending": ["resend"],
    "held": ["release", "discard", "resend"],
    "dead": ["retry", "discard", "resend"],
}


@dataclass(frozen=True)
class State:
    """What is compared of a content."""

    status: str
    job_id: str = JOBS[0]
    deleted: bool = False

    @classmethod
    def of(cls, content: Content) -> "State":
        return cls(content.status, content.job_id, content.deleted)

    @property
    def digest(self) -> str:
        """Of a row that says this."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


@dataclass
class Application:
    """One application: in the world, in HelloWork, and what may be believed.

    Attributes:
        now: the world's state.
        recorded: the states that capture recorded, in order.
        heard: HelloWork's last word on it.
        sure: what HelloWork certainly knows; after a baseline or a discard, what it is taken to know.
        unsure: what it was sent since then without saying that it heard it, or a person wants to be sent once more.
        let_go: from a discard until HelloWork's next acknowledgement.
    """

    now: State
    recorded: list[State] = field(default_factory=list)
    heard: State | None = None
    sure: State | None = None
    unsure: set[State] = field(default_factory=set)
    let_go: bool = False


@dataclass(frozen=True)
class Call:
    """A call under way."""

    entry: Entry

    @property
    def state(self) -> State:
        return State.of(self.entry.content)


class Deliveries(RuleBasedStateMachine):
    """See the module's text."""

    def __init__(self, empty: Callable[[], Backend]) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.backend = empty()
        self.store = self.run(self.backend.open())
        self.now = NOW
        self.applications: dict[str, Application] = {}
        self.calls: dict[str, Call] = {}
        self.waiting: dict[str, Entry] = {}
        """The outbox before the step, as the store tells it."""

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(step)

    def teardown(self) -> None:
        if sys.exception() is None:  # or the promise that was found broken would be hidden by another
            self.all_is_quiet()
        self.run(self.store.driver.close())
        self.runner.close()

    # The world and capture

    @initialize(status=st.sampled_from(["A", "B"]))
    def first_start(self, status: str) -> None:
        self.applications = {one: Application(State(status)) for one in EXISTING}
        observations = [self.observation(one, application.now) for one, application in self.applications.items()]
        self.run(self.store.capture.apply(RULES, a_baseline(*observations, now=self.now)))
        for application in self.applications.values():
            application.recorded.append(application.now)
            application.sure = application.heard = application.now

    @rule(data=st.data(), seen=SEEN)
    def application_changes(self, data: st.DataObject, seen: Seen) -> None:
        one = data.draw(self.an_application())
        application = self.applications.setdefault(one, Application(State("A")))
        read = application.now
        application.now = data.draw(self.next_states(one))
        match seen:
            case "at once":
                self.record({one: application.now})
            case "late":
                self.record({one: read})
            case "by a sweep":
                self.record({each: of_each.now for each, of_each in self.applications.items()})
            case "later":
                pass

    @rule()
    def sweep_verifies(self) -> None:
        recorded = {one: of.recorded[-1] for one, of in self.applications.items() if of.recorded}
        verified = [
            Verified(one, (one,), state.digest, self.observation(one, state).content) for one, state in recorded.items()
        ]
        self.run(self.store.capture.verify(WATCH, verified))
        passed = self.passed_over()
        for one, state in recorded.items():
            if one not in self.waiting and self.applications[one].sure == state:
                assert state in passed[one], "what has been verified is passed over"

    # Delivery

    @precondition(lambda self: self.in_state("pending") != sorted(self.calls))
    @rule(
        limit=st.integers(1, 3),
        clock=st.sampled_from([0, SECOND, 5 * SECOND, 30 * SECOND, -SECOND, -60 * SECOND]),
        probing=st.booleans(),
    )
    def due_calls_begin(self, limit: int, clock: int, probing: bool) -> None:  # noqa: FBT001 - drawn
        self.now += clock
        self.run(self.store.delivery.hasten([WATCH], self.now, self.now + HORIZON))  # as a start does after such a move
        self.begin_calls(limit, probing=probing)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), is_heard=st.booleans(), chance=st.sampled_from([0.0, 0.5, 0.99]))
    def call_is_answered(self, data: st.DataObject, is_heard: bool, chance: float) -> None:  # noqa: FBT001 - drawn
        one = data.draw(st.sampled_from(sorted(self.calls)))
        for _ in range(data.draw(st.integers(0, 2))):  # what happens while it is under way
            self.applications[one].now = data.draw(self.next_states(one))
            self.record({one: self.applications[one].now})
        meaning = data.draw(st.sampled_from(HEARD if is_heard else UNHEARD))
        self.end(one, meaning, is_heard=is_heard, chance=chance)

    @precondition(lambda self: self.calls)
    @rule(heard=st.sets(st.sampled_from(APPLICATIONS)))
    def process_dies_and_starts_again(self, heard: set[str]) -> None:
        for one in heard & self.calls.keys():
            self.applications[one].heard = self.calls[one].state
        self.calls = {}
        for one in self.in_state("pending"):  # nobody remembers which of them had begun
            self.applications[one].unsure.add(State.of(self.waiting[one].content))
        self.run(self.store.driver.close())
        self.store = self.run(self.backend.open())
        self.run(self.store.delivery.begin_sending())

    # People

    @rule(data=st.data())
    def somebody_intervenes(self, data: st.DataObject) -> None:
        one = data.draw(self.an_application())
        entry = self.waiting.get(one)
        match entry and data.draw(st.sampled_from(INTERVENTIONS[entry.state])):
            case "retry":
                self.run(acting.retry_dead(self.store, WATCH, self.now, ids=[one]))
            case "release":
                self.run(acting.release_held(self.store, None, self.now, limit=1))
            case "discard":
                assert entry is not None
                self.discard(entry)
            case _:
                self.resend(one)

    @invariant()
    def belief_holds(self) -> None:
        self.look()
        known = self.run(self.store.capture.known(WATCH, APPLICATIONS))
        assert known.keys() == {one for one, application in self.applications.items() if application.recorded}
        for one, of_one in known.items():
            application = self.applications[one]
            assert of_one.latest is not None
            assert State.of(of_one.latest) == application.recorded[-1], "what was recorded will be told"
            assert (None if of_one.snapshot is None else State.of(of_one.snapshot)) == application.sure
            if of_one.entry is None:
                assert not application.unsure, "what may have been heard is never dropped"
                assert application.let_go or application.heard == application.sure
            else:
                assert (of_one.entry.attempted or one in self.calls) == bool(application.unsure)
                self.is_worth_a_call(application, State.of(of_one.entry.content))

    @invariant()
    def sweep_misses_nothing(self) -> None:
        for one, states in self.passed_over().items():
            application = self.applications[one]
            assert states <= set(application.recorded[-1:])
            assert states <= {application.sure}
            assert one not in self.waiting or not states

    def all_is_quiet(self) -> None:
        """Capture has seen everything, people released what was held, and HelloWork hears and answers everything."""
        everything = {one: application.now for one, application in self.applications.items()}
        self.record(everything)
        self.run(acting.release_held(self.store, None, self.now))
        for _ in range(2):  # before HORIZON what the clock's moves put off, after it what waits for its time
            self.begin_calls()
            for one in list(self.calls):
                self.end(one, Meaning("acknowledged"), is_heard=True)
            self.now += HORIZON

        self.look()
        assert self.in_state("pending", "held") == []
        for one, application in self.applications.items():
            assert one in self.waiting or application.let_go or application.heard == application.now, "P1"
        assert not self.record(everything)

    # What the rules are made of

    def an_application(self) -> st.SearchStrategy[str]:
        """Any, but rather one with a call under way: there mistakes could hide."""
        return st.sampled_from([*sorted(self.calls), *sorted(self.calls), *APPLICATIONS])

    def next_states(self, one: str) -> st.SearchStrategy[State]:
        """Any state, but rather one of before, and most of all what is just being told."""
        application = self.applications[one]
        now, told = application.now, application.sure
        under_way = [self.calls[one].state] * 2 if one in self.calls else []
        earlier = [now if told is None else told, *under_way, *application.recorded[-2:]]
        others = [replace(now, status=status, deleted=False) for status in STATUSES]
        others += [replace(now, job_id=job_id) for job_id in JOBS]
        return st.sampled_from(earlier) | st.sampled_from([*others, replace(now, deleted=True)])

    def observation(self, one: str, state: State) -> Reportable:
        content = a_content(state.status, state.job_id, application_id=one, deleted=state.deleted, event_date=self.now)
        return Reportable(one, (one,), content, "not to be sent" if state.status == "refused" else None)

    def passed_over(self) -> dict[str, set[State]]:
        """The states of each application of which a sweep would not read the row."""
        rows = [(one, state) for one, application in self.applications.items() for state in set(application.recorded)]
        page = json.dumps([state.digest + key_text((one,)) for one, state in rows])
        numbers = self.run(self.store.capture.compare(WATCH, page))
        found: dict[str, set[State]] = {one: set() for one in self.applications}
        for (one, state), number in zip(rows, numbers, strict=True):
            if number > 0:
                found[one].add(state)
        return found

    def discard(self, entry: Entry) -> None:
        if entry.application_id in self.calls:
            return  # what its call brings is not known yet
        if self.run(acting.discard(self.store, entry.state, WATCH, self.now, ids=[entry.application_id])):
            application = self.applications[entry.application_id]
            application.sure = State.of(entry.content)
            application.unsure = set()
            application.let_go = True

    def resend(self, one: str) -> None:
        for _, resent in self.run(acting.resend(self.store, WATCH, [one], self.now)):
            self.look()
            self.applications[resent].unsure.add(State.of(self.waiting[resent].content))

    def look(self) -> None:
        self.waiting = {entry.application_id: entry for entry in self.run(self.outbox())}

    async def outbox(self) -> list[Entry]:
        states: tuple[EntryState, ...] = ("pending", "held", "dead")
        lists = await asyncio.gather(*(self.store.report.entries(state, None, len(APPLICATIONS)) for state in states))
        return list(chain.from_iterable(lists))

    def in_state(self, *states: EntryState) -> list[str]:
        return sorted(one for one, entry in self.waiting.items() if entry.state in states)

    def record(self, states: dict[str, State], found: Sequence[Resolved] = ()) -> list[ApplyResult]:
        """Capture meets these states, as what it has `found`, or else in rows."""
        for one, state in states.items():
            self.applications[one].recorded.append(state)
        held = self.in_state("held")
        rows = [self.observation(one, state) for one, state in states.items()]
        under_way = Begun(*(call.entry for call in self.calls.values()))
        batch = a_batch(*(found or rows), now=self.now, origin="deletion")
        news = list(self.run(self.store.capture.apply(RULES, batch, under_way)).results)
        self.look()
        assert not set(held) & set(self.in_state("pending")), "only people release what is held"
        return news

    def due(self, limit: int, *, probing: bool) -> list[Entry]:
        # Of those that are due at the same time, which one comes first depends on where their rows lie: no repetition
        # would be the same.
        due = [self.waiting[one].due_at for one in self.in_state("pending")]
        limit = limit if len(set(due)) == len(due) else len(due)
        wanted = {LANE: Wanted(limit, list(self.calls), probing)}
        found = self.run(self.store.delivery.due(wanted, self.now))
        return [begun(entry, self.now) for entry in found.entries[LANE]]

    def confirm_deletions(self) -> None:
        """A fresh read answers what a person's release let seem gone."""
        suspected = self.run(self.store.capture.suspected(WATCH, APPLICATIONS))
        assert not suspected & {entry.application_id for entry in self.due(len(APPLICATIONS), probing=False)}
        for one in sorted(suspected):
            now = self.applications[one].now
            self.record({one: now}, [Resolved(one, self.now, self.observation(one, now), frozenset({(one,)}))])

    def begin_calls(self, limit: int = len(APPLICATIONS), *, probing: bool = False) -> None:
        self.look()
        self.confirm_deletions()
        for entry in self.due(limit, probing=probing):
            one, call = entry.application_id, Call(entry)
            application = self.applications[one]
            assert one in self.in_state("pending")
            assert one not in self.calls, "one call at a time per application"
            assert call.state in application.recorded, "only what was really there is told"
            self.is_worth_a_call(application, call.state)
            application.unsure.add(call.state)
            self.calls[one] = call

    def is_worth_a_call(self, application: Application, state: State) -> None:
        certain = None if application.unsure else application.sure
        assert state != certain, "P2"

    def end(self, one: str, meaning: Meaning, *, is_heard: bool, chance: float = 0.0) -> None:
        call, application = self.calls.pop(one), self.applications[one]
        outcome = result_of(call.entry, meaning, "a reply", RETRY, now=self.now, chance=chance)
        self.look()
        before = self.waiting.get(one)
        assert before is not None, "what may have been heard is never dropped"
        self.run(self.store.delivery.complete([Finished(call.entry, outcome, {"reason": "timed out"}, self.now)], {}))
        self.look()
        if meaning.kind != "acknowledged" and before.revision != call.entry.revision:
            assert self.waiting.get(one) == before, "what was put in its place has a fate of its own"
        if is_heard:
            application.heard = call.state
        if meaning.kind == "acknowledged":
            application.sure = call.state
            application.unsure = set()
            application.let_go = False


pytestmark = pytest.mark.timeout(600)  # a failure is made as small as can be first, which takes minutes


EXAMPLES = settings().max_examples
"""More with `--hypothesis-profile=long`, for a search of an hour."""


def test_the_embedded_store_keeps_the_promises(tmp_path: Path) -> None:
    def empty() -> Backend:
        return SqliteBackend(Path(tempfile.mkdtemp(dir=tmp_path)))

    in_any_order = settings(max_examples=4 * EXAMPLES // 5, stateful_step_count=50, deadline=None)
    _check(empty, in_any_order)


def test_the_shared_store_keeps_the_promises(store_database: str) -> None:
    # Fewer: its steps take longer, and what is decided in them is the same code.
    in_any_order = settings(max_examples=EXAMPLES // 5, stateful_step_count=40, deadline=None)
    _check(lambda: PostgresBackend(store_database), in_any_order)


def _check(empty: Callable[[], Backend], how: settings) -> None:
    class OnThisStore(Deliveries):
        def __init__(self) -> None:
            super().__init__(empty)

    run_state_machine_as_test(OnThisStore, settings=how)
