"""The claim-ahead window of the sender, whatever happens at whatever moment.

A machine decides when the store works and answers, what HelloWork replies, what changes meanwhile, and when the process
dies. Nothing runs by itself: the event loop's time is the machine's, and each step is followed by as many turns of the
loop as it takes until nothing moves any more.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.builders import HOUR, WATCH
from support.memory_outbox import FULL, MemoryOutbox
from support.sending import LOOPBACK, SETTINGS

from cdc_sync.core.batch import Applied
from cdc_sync.core.events import CallEnded, Event
from cdc_sync.core.outbox import Entry, Lane, Offer
from cdc_sync.core.replies import (
    ALL_ENDPOINTS,
    FAILURES_TO_OPEN,
    Credentials,
    Finished,
    Health,
    Reply,
    RetryPolicy,
    admits,
    endpoint_name,
    is_paused,
)
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.delivery.endpoints import Endpoint
from cdc_sync.delivery.sender import Sender

BASE_URLS = ("http://127.0.0.1:1001", "http://127.0.0.1:1002")
IDS = tuple(f"a{number:02}" for number in range(24))
STATUSES = ("applied", "seen", "hired")
POLICY = RetryPolicy(first=1000, max=4000, give_up_after=1000 * HOUR, not_found_for=1000 * HOUR)

REPLIES = {
    "acknowledged": Reply(200),
    "unavailable": Reply(503),
    "lost": Reply(failure="no answer within hellowork.timeout"),
    "throttled": Reply(429, retry_after="3"),
    "refused": Reply(401),
}


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until it is moved."""

    moment = 1000.0

    def time(self) -> float:
        return self.moment

    def settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(40):
            self.run_until_complete(asyncio.sleep(0))

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and everything run that it wakes."""
        self.moment += seconds
        self.settle()


@dataclass(eq=False)
class Job:
    """Something that the store was asked for: `work` does it, and `answer` waits for what came of it."""

    work: Callable[[], Any]
    answer: asyncio.Future[Any]
    outcome: Any = None
    error: Exception | None = None

    def do(self, fault: str | None) -> None:
        """Do it, or fail before (`refused`) or after it (`lost`)."""
        if fault != "refused":
            self.outcome = self.work()
        if fault is not None:
            self.error = FULL

    def tell(self) -> None:
        """Let whoever asked go on."""
        if self.answer.done():
            return  # cancelled
        if self.error is None:
            self.answer.set_result(self.outcome)
        else:
            self.answer.set_exception(self.error)


@dataclass
class SteppedOutbox:
    """The outbox, whose jobs are done one after the other, when they are told to; answers may come in another order."""

    memory: MemoryOutbox
    waiting: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    automatic: bool = False
    is_woken: bool = False
    asked: Counter[str] = field(default_factory=Counter)

    async def ask(self, work: Callable[[], Any]) -> Any:
        """Have a job done, in its turn."""
        job = Job(work, asyncio.get_running_loop().create_future())
        self.waiting.append(job)
        if self.automatic:
            self.work_off()
        return await job.answer

    def work_off(self) -> None:
        """Do everything, and answer."""
        while self.waiting:
            self.do(None)
        while self.done:
            self.done.pop(0).tell()

    def do(self, fault: str | None) -> None:
        """Do the next job."""
        job = self.waiting.pop(0)
        job.do(fault)
        self.done.append(job)

    async def claim(
        self, now: int, horizon: int, wanted: Mapping[Lane, int], probing: Collection[Lane] = ()
    ) -> list[Entry]:
        """See `Outbox`."""
        self.asked["claim"] += 1
        assert set(probing) <= set(wanted)
        assert now + horizon
        return await self.ask(lambda: self.memory.claim_now(wanted))  # type: ignore[no-any-return]

    async def unclaim(self, entries: Sequence[Entry]) -> None:
        """See `Outbox`."""
        await self.ask(lambda: self.memory.unclaim_now(entries))

    def holds(self, entry: Entry) -> bool:
        """See `Outbox`."""
        return self.memory.holds(entry)

    async def complete(self, finished: Sequence[Finished], health: Mapping[str, Health]) -> None:
        """See `Outbox`."""
        await self.ask(lambda: self.memory.complete_now(finished, health))

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        """See `Outbox`."""
        self.asked["look"] += 1
        return await self.ask(self.memory.look_now)  # type: ignore[no-any-return]


@dataclass
class Calls:
    """HelloWork's end: each call waits for its reply."""

    machine: "ClaimAhead"
    under_way: dict[str, tuple[Entry, asyncio.Future[Reply]]] = field(default_factory=dict)
    heard: dict[str, list[str]] = field(default_factory=dict)
    automatic: bool = False

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`."""
        self.machine.check_begin(entry)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.under_way[entry.application_id] = (entry, reply)
        if self.automatic:
            self.answer(entry.application_id, "acknowledged")
        try:
            return await reply, ""
        finally:
            del self.under_way[entry.application_id]

    def answer(self, application_id: str, how: str) -> None:
        """Let a call end. Whatever the reply says, HelloWork may have heard it."""
        entry, reply = self.under_way[application_id]
        self.heard.setdefault(application_id, []).append(entry.content.status)
        if not reply.done():
            reply.set_result(REPLIES[how])


class ClaimAhead(RuleBasedStateMachine):
    """A sender, its store, HelloWork, and a pipeline that goes on applying changes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        asyncio.set_event_loop(self.loop)
        self.memory = MemoryOutbox(self.clock)
        self.outbox = SteppedOutbox(self.memory)
        self.calls = Calls(self)
        self.observed: list[Event] = []
        self.void: set[tuple[str, int]] = set()
        """Entries (application, revision) that were withdrawn and touched."""
        self.withdrawn: list[tuple[Offer, set[tuple[str, int]]]] = []
        """By each offer that is not settled."""
        self.applies: set[asyncio.Task[None]] = set()
        self.sender: Sender
        self.running: asyncio.Task[None]
        self.concurrency = 2
        self.rate: float | None = None
        self.paused: tuple[str, ...] = ()
        self.own: dict[str, Credentials] = {}
        self.called: dict[str, str] = {}
        """The endpoint of each application's last call."""

    def clock(self) -> int:
        return int(self.loop.moment * 1000)

    @initialize(
        concurrency=st.integers(1, 4),
        rate=st.sampled_from([None, None, None, 50.0]),
        backlog=st.integers(8, len(IDS)),
    )
    def begin(self, concurrency: int, rate: float | None, backlog: int) -> None:
        self.concurrency, self.rate = concurrency, rate
        for each in IDS[:backlog]:
            self.memory.enqueue(each, "seen", base_url_of(each))
        self.start()
        # Quick answers: so much is claimed ahead.
        self.the_store_works()
        for each in sorted(self.calls.under_way):
            self.calls.answer(each, "acknowledged")
        self.loop.settle()
        self.the_store_works()

    def start(self) -> None:
        self.sender = Sender(
            self.outbox,
            self.calls,
            self.settings_now(),
            self.observed.append,
            self.clock,
            monotonic=self.loop.time,
            chance=lambda: 0.5,
        )
        self.sender.pause(self.paused)
        self.met: set[Endpoint] = set()
        self.running = self.loop.create_task(self.sender.run())
        self.loop.settle()

    def settings_now(self) -> Any:
        return replace(
            SETTINGS, concurrency=self.concurrency, rate=self.rate, policy=POLICY, allowed=LOOPBACK, own=self.own
        )

    def endpoint_of(self, entry: Entry) -> str:
        """The endpoint that a call belongs to now."""
        return endpoint_name(endpoint_of(entry.content.url), self.own[WATCH].owner if self.own else None)

    def check_begin(self, entry: Entry) -> None:
        """A call begins."""
        application_id = entry.application_id
        endpoint = self.endpoint_of(entry)
        assert application_id not in self.calls.under_way, "two calls at once for one application"
        assert (application_id, entry.revision) not in self.void, "it was withdrawn and touched"
        assert not any((application_id, entry.revision) in entries for _, entries in self.withdrawn), "it is withdrawn"
        row = self.memory.rows.get(application_id)
        assert row is not None, "its entry is gone"
        assert row.claimed, "nobody has claimed it"
        others = [each for each in self.calls.under_way if self.called[each] == endpoint]
        self.called[application_id] = endpoint
        assert not is_paused(self.paused, endpoint), "an operator has paused sending to it"
        health = self.sender._endpoints.all[endpoint].health
        assert admits(health, self.clock(), len(others)) != "none", f"the endpoint is {health.mode}"
        assert len(self.calls.under_way) < self.most_at_once

    # Changes.

    @rule(changes=st.dictionaries(st.sampled_from(IDS), st.sampled_from(STATUSES), min_size=1, max_size=12))
    def change(self, changes: dict[str, str]) -> None:
        """A batch is applied: its entries are withdrawn now, and settled when the store has answered."""
        task = self.loop.create_task(self.apply(changes))
        self.applies.add(task)
        task.add_done_callback(self.applies.discard)
        self.loop.settle()

    async def apply(self, changes: Mapping[str, str]) -> None:
        sender = self.sender
        offer = sender.offer(WATCH, list(changes))
        before = {each: self.memory.rows[each].revision for each in offer.unstarted}
        self.withdrawn.append((offer, set(before.items())))
        applied: Applied | None = None
        try:
            applied = await self.outbox.ask(
                lambda: self.memory.apply_now(
                    {each: (status, base_url_of(each)) for each, status in changes.items()}, offer
                )
            )
        except type(FULL):
            applied = None
        finally:
            self.withdrawn = [pair for pair in self.withdrawn if pair[0] is not offer]
            if applied is not None:
                self.void |= {(each, before[each]) for each in applied.touched}
            if sender is self.sender:
                sender.settle(offer, WATCH, applied)

    @rule(application_id=st.sampled_from(IDS), status=st.sampled_from(STATUSES[1:]))
    def an_operator_enqueues(self, application_id: str, status: str) -> None:
        """Another process writes to the outbox: nobody tells the sender."""
        if application_id not in self.memory.rows:
            self.memory.enqueue(application_id, status, base_url_of(application_id))

    @rule(paused=st.sampled_from([(), (), (ALL_ENDPOINTS,), *((endpoint_of(url),) for url in BASE_URLS)]))
    def an_operator_pauses_sending(self, paused: tuple[str, ...]) -> None:
        self.paused = paused
        self.sender.pause(paused)
        self.loop.settle()

    # The store.

    @rule()
    def the_store_works(self) -> None:
        for _ in range(3):
            self.outbox.work_off()
            self.loop.settle()

    @precondition(lambda self: self.outbox.waiting)
    @rule()
    def the_store_does_a_job_and_answers_later(self) -> None:
        self.outbox.do(None)

    @precondition(lambda self: self.outbox.waiting)
    @rule(fault=st.sampled_from(["refused", "lost"]))
    def the_store_fails(self, fault: str) -> None:
        job = self.outbox.waiting[0]
        self.outbox.do(fault if self.may_be_lost(job) else "refused")
        self.outbox.done.pop().tell()
        self.loop.settle()

    def may_be_lost(self, job: Job) -> bool:
        """A claim or an end whose answer is lost is for the store to reconcile, which does not concern the sender."""
        return "unclaim_now" in job.work.__code__.co_names

    @precondition(lambda self: self.outbox.done)
    @rule(data=st.data())
    def the_store_answers(self, data: st.DataObject) -> None:
        job = self.outbox.done.pop(data.draw(st.integers(0, len(self.outbox.done) - 1)))
        job.tell()
        self.loop.settle()

    @rule(lapsed=st.booleans())
    def claims_lapse(self, *, lapsed: bool) -> None:
        self.memory.lapsed = lapsed

    # HelloWork.

    @precondition(lambda self: self.calls.under_way)
    @rule(data=st.data(), how=st.sampled_from(["acknowledged", "acknowledged", *REPLIES]))
    def a_call_ends(self, data: st.DataObject, how: str) -> None:
        self.calls.answer(data.draw(st.sampled_from(sorted(self.calls.under_way))), how)
        self.loop.settle()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.0, 5.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_by(seconds)

    # The process.

    @rule(concurrency=st.integers(1, 4), rate=st.sampled_from([None, 2.0, 50.0]), key=st.sampled_from(["", "", "k"]))
    def it_is_reloaded(self, concurrency: int, rate: float | None, key: str = "") -> None:
        before = self.concurrency
        self.concurrency, self.rate = concurrency, rate
        self.own = {WATCH: Credentials(WATCH, {"X-Api-Key": key})} if key else {}
        self.reloaded_from = max(before, self.reloaded_from)
        self.met.update(self.sender._endpoints.all.values())  # some of them may be gone then
        self.sender.use(self.settings_now())
        self.loop.settle()

    reloaded_from = 0

    @property
    def most_at_once(self) -> int:
        return max(self.concurrency, 1)

    @rule()
    def it_dies_and_starts_again(self) -> None:
        """What the store was asked for may have been done or not: jobs that are not done yet are lost."""
        for task in [self.running, *self.applies]:
            task.cancel()
        self.loop.settle()
        self.outbox.waiting.clear()
        self.outbox.done.clear()
        self.withdrawn.clear()
        self.calls.under_way.clear()
        self.void.clear()
        with suppress(asyncio.CancelledError, BaseExceptionGroup):
            self.loop.run_until_complete(self.running)
        self.memory.restart()
        self.reloaded_from = 0
        self.start()

    # What always holds.

    @invariant()
    def nothing_has_failed(self) -> None:
        if hasattr(self, "running") and self.running.done():
            self.running.result()
            pytest.fail("the sender has ended")

    @invariant()
    def the_window_is_kept(self) -> None:
        if hasattr(self, "sender"):
            endpoints = self.sender._endpoints
            claimed = (
                len(endpoints.ready) + sum(sum(claim.values()) for claim in endpoints.coming) + endpoints.under_way
            )
            assert claimed <= 9 * max(self.concurrency, self.reloaded_from)
            assert len(endpoints.ready) == sum(len(each.ready) for each in endpoints.all.values())
            # A call under way may outlast its endpoint, if nobody has the credentials any more.
            self.met.update(endpoints.all.values())
            assert endpoints.under_way == sum(each.under_way for each in self.met) >= len(self.calls.under_way)

    @invariant()
    def each_claim_has_a_holder(self) -> None:
        """What is claimed is ready, under way, to be completed, to be given back, or on its way from the store."""
        if not hasattr(self, "sender") or self.outbox.waiting or self.outbox.done:
            return
        sender = self.sender
        held = {of[1] for each in sender._endpoints.all.values() for of in each.ready}
        held |= {of[1] for of in sender._endpoints.returning} | {of[1] for of in sender._unfinished}
        assert self.memory.claimed <= held

    def teardown(self) -> None:
        """In the end everything is delivered, or given back: nothing is lost, and the newest state was heard last."""
        if not hasattr(self, "sender"):
            self.loop.close()
            return
        self.memory.lapsed = False
        try:
            self.stop_now()
            assert self.memory.claimed == set(), "what had not begun is given back, the rest is completed"
            self.outbox.automatic = self.calls.automatic = True
            self.rate, self.paused = None, ()
            self.start()
            for _ in range(200):
                if not self.memory.rows:
                    break
                self.loop.pass_by(1.0)
            assert not self.memory.rows, "everything is delivered"
            for application_id, status in self.memory.wanted.items():
                assert self.memory.acknowledged.get(application_id, "applied") == status
                assert (self.calls.heard.get(application_id) or ["applied"])[-1] == status
            self.stop_now()
        finally:
            self.running.cancel()
            self.loop.settle()
            self.loop.close()

    def stop_now(self) -> None:
        """Stop the sender; an apply may still be under way, if not longer than the calls."""
        self.sender.stop()
        begun = dict(self.calls.under_way)
        for _ in range(60):
            if not self.applies:
                break
            self.outbox.work_off()
            self.loop.settle()
        for _ in range(200):
            if self.running.done():
                break
            for application_id in list(self.calls.under_way):
                self.calls.answer(application_id, "acknowledged")
            self.loop.pass_by(0.5)
            self.outbox.work_off()
            self.loop.settle()
            assert self.calls.under_way.keys() <= begun.keys(), "a call began after the stop"
        assert self.running.done(), "the sender ends"
        self.running.result()


def base_url_of(application_id: str) -> str:
    return BASE_URLS[int(application_id[1:]) % 3 == 0]


class TestClaimAhead(ClaimAhead.TestCase):  # type: ignore[misc,valid-type] # made by Hypothesis
    settings = settings(
        max_examples=settings().max_examples * 3 // 5,
        stateful_step_count=settings().stateful_step_count * 6 // 5,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def stage() -> Iterator[ClaimAhead]:
    """Two calls under way (`a10` and `a11`), and `a13`, `a14`, ... ready behind them, all for one endpoint."""
    machine = ClaimAhead()
    machine.concurrency = 2
    for number, each in enumerate(name for name in IDS if base_url_of(name) == BASE_URLS[0]):
        machine.memory.enqueue(each, "seen", BASE_URLS[0], due_at=number)
    machine.start()
    machine.the_store_works()
    for each in sorted(machine.calls.under_way):
        machine.calls.answer(each, "acknowledged")
    machine.loop.settle()
    machine.the_store_works()
    yield machine
    machine.teardown()


def ready(machine: ClaimAhead) -> list[str]:
    """The applications whose entries are ready, in their order."""
    return [of[1] for endpoint in machine.sender._endpoints.all.values() for of in endpoint.ready]


def end_a_call(machine: ClaimAhead, how: str = "acknowledged") -> str:
    """Let the call end that began first; returns whose it was."""
    application_id = next(iter(machine.calls.under_way))
    machine.calls.answer(application_id, how)
    machine.loop.settle()
    return application_id


class TestWhatIsWithdrawn:
    def test_does_not_begin_until_the_apply_has_ended(self, stage: ClaimAhead) -> None:
        first, second, *_ = ready(stage)

        stage.change({first: "seen"})  # what waits already: no news
        end_a_call(stage)

        assert second in stage.calls.under_way
        assert first not in stage.calls.under_way
        stage.the_store_works()
        end_a_call(stage)
        assert first in stage.calls.under_way

    def test_goes_back_to_its_place(self, stage: ClaimAhead) -> None:
        before = ready(stage)

        stage.change({before[1]: "seen", before[2]: "seen"})
        stage.the_store_works()

        assert ready(stage)[: len(before)] == before

    def test_is_never_called_once_it_is_undone(self, stage: ClaimAhead) -> None:
        first = ready(stage)[0]

        stage.change({first: "applied"})
        stage.the_store_works()

        assert first not in ready(stage)
        assert first not in stage.memory.rows, "it counts as never attempted, so it is cancelled"
        for _ in IDS:
            stage.the_store_works()
            if stage.calls.under_way:
                end_a_call(stage)
        assert first not in stage.calls.heard

    def test_is_replaced_by_the_newer_state(self, stage: ClaimAhead) -> None:
        first = ready(stage)[0]

        stage.change({first: "hired"})
        stage.the_store_works()
        while first not in stage.calls.heard:
            end_a_call(stage)
            stage.the_store_works()

        assert stage.calls.heard[first] == ["hired"]

    def test_is_given_back_if_the_apply_fails(self, stage: ClaimAhead) -> None:
        first = ready(stage)[0]

        stage.change({first: "hired"})
        stage.the_store_fails("refused")

        assert first not in ready(stage)
        assert first in stage.memory.claimed
        stage.outbox.work_off()
        assert first not in stage.memory.claimed
        assert not stage.memory.rows[first].attempted

    def test_a_claim_may_be_answered_before_the_apply_that_allowed_it(self, stage: ClaimAhead) -> None:
        first = ready(stage)[0]
        stage.change({first: "hired"})
        stage.the_store_does_a_job_and_answers_later()

        stage.sender._endpoints.put(stage.memory.claim_of(BASE_URLS[0], 1, [first]))
        stage.the_store_works()

        assert ready(stage)[-1] == first, "what was claimed anew is not what was withdrawn"

    def test_belongs_to_the_first_of_two_applies(self, stage: ClaimAhead) -> None:
        first = ready(stage)[0]

        one = stage.sender.offer(WATCH, [first])
        other = stage.sender.offer(WATCH, [first])

        assert one.unstarted == {first}
        assert other.unstarted == frozenset()
        stage.sender.settle(other, WATCH, Applied())
        end_a_call(stage)
        assert first not in stage.calls.under_way
        stage.sender.settle(one, WATCH, Applied())
        end_a_call(stage)
        assert first in stage.calls.under_way

    def test_is_of_the_batchs_watch(self, stage: ClaimAhead) -> None:
        assert stage.sender.offer("another", ready(stage)).unstarted == frozenset()


class TestWhatIsGivenBack:
    @pytest.mark.parametrize("how", ["refused", "throttled"])
    def test_is_what_an_endpoint_that_waits_was_to_get(self, stage: ClaimAhead, how: str) -> None:
        before = ready(stage)
        assert before

        end_a_call(stage, how)
        stage.the_store_works()

        assert ready(stage) == []
        assert stage.memory.claimed == set(stage.calls.under_way)
        assert not any(stage.memory.rows[each].attempts for each in before), "uncounted"

    def test_is_what_a_circuit_that_opens_was_to_get(self, stage: ClaimAhead) -> None:
        for _ in range(FAILURES_TO_OPEN):
            end_a_call(stage, "unavailable")
            stage.the_store_works()

        assert ready(stage) == []
        assert stage.memory.claimed == set(stage.calls.under_way)

    def test_is_all_that_has_not_begun_when_the_sender_stops(self, stage: ClaimAhead) -> None:
        before = ready(stage)
        under_way = set(stage.calls.under_way)

        stage.sender.stop()
        stage.loop.settle()
        stage.the_store_works()

        assert stage.memory.claimed == under_way
        assert not any(stage.memory.rows[each].attempts for each in before)

    def test_is_what_an_apply_claims_after_the_stop(self, stage: ClaimAhead) -> None:
        offer = stage.sender.offer(WATCH, ready(stage)[:1])
        stage.sender.stop()
        stage.loop.settle()
        stage.the_store_works()

        stage.sender.settle(offer, WATCH, Applied())
        stage.stop_now()

        assert stage.memory.claimed == set()

    def test_is_given_back_again_if_it_was_claimed_meanwhile(self, stage: ClaimAhead) -> None:
        """The answer to an unclaim was lost, and the entry was claimed by an apply before it is tried again."""
        end_a_call(stage, "refused")
        assert stage.sender._endpoints.returning
        while "unclaim_now" not in stage.outbox.waiting[0].work.__code__.co_names:
            stage.the_store_does_a_job_and_answers_later()
        stage.the_store_fails("lost")
        entry = next(iter(stage.sender._endpoints.returning.values()))
        stage.memory.rows[entry.application_id].claimed = True

        stage.sender._endpoints.put([entry])

        assert ready(stage) == []
        stage.time_passes(1.0)
        stage.the_store_works()
        assert entry.application_id not in stage.memory.claimed

    def test_is_what_no_longer_holds_its_claim(self, stage: ClaimAhead) -> None:
        before = ready(stage)
        stage.memory.lapsed = True

        end_a_call(stage)
        stage.the_store_works()

        assert not set(before) & set(stage.calls.under_way)
        assert not set(before) & stage.memory.claimed
        assert {each.outcome for each in stage.observed if isinstance(each, CallEnded)} == {"acknowledged", "retry"}

    def test_is_what_will_not_begin_soon_as_calls_take_longer(self, stage: ClaimAhead) -> None:
        before = len(ready(stage))
        stage.loop.pass_by(20.0)

        end_a_call(stage)
        stage.the_store_works()

        assert before > 2 * stage.concurrency
        assert len(ready(stage)) < before

    def test_is_what_a_rate_that_a_reload_brings_will_not_let_begin(self, stage: ClaimAhead) -> None:
        before = len(ready(stage))

        stage.it_is_reloaded(stage.concurrency, 2.0)
        stage.the_store_works()

        assert before > 2
        assert len(ready(stage)) == 2


class TestWhatIsEnqueued:
    def test_is_claimed_by_the_apply_if_a_worker_is_free(self, stage: ClaimAhead) -> None:
        while stage.calls.under_way:
            end_a_call(stage)
            stage.the_store_works()
        claims = stage.outbox.asked["claim"]

        stage.change({IDS[1]: "hired"})
        stage.outbox.work_off()
        stage.loop.settle()

        assert list(stage.calls.under_way) == [IDS[1]]
        assert stage.outbox.asked["claim"] == claims

    def test_while_a_call_is_under_way_is_claimed_at_its_end_without_a_look(self, stage: ClaimAhead) -> None:
        while stage.calls.under_way:
            end_a_call(stage)
            stage.the_store_works()
        stage.change({IDS[1]: "hired"})
        stage.the_store_works()
        assert list(stage.calls.under_way) == [IDS[1]]
        stage.change({IDS[1]: "applied"})
        stage.the_store_works()

        end_a_call(stage)
        stage.the_store_works()

        assert list(stage.calls.under_way) == [IDS[1]]
        assert stage.calls.under_way[IDS[1]][0].content.status == "applied"


class TestTheRateLimit:
    def test_lets_what_an_apply_claims_begin_when_its_turn_comes(self, stage: ClaimAhead) -> None:
        while stage.calls.under_way:
            end_a_call(stage)
            stage.the_store_works()
        stage.it_is_reloaded(2, 25.0)
        stage.change({IDS[1]: "hired"})
        stage.the_store_works()
        end_a_call(stage)
        stage.the_store_works()

        stage.change({IDS[2]: "hired"})
        stage.the_store_works()
        assert ready(stage) == [IDS[2]], "its turn comes in 40 ms"
        stage.time_passes(0.04)

        assert list(stage.calls.under_way) == [IDS[2]]

    def test_lets_what_an_apply_leaves_begin_when_its_turn_comes(self, stage: ClaimAhead) -> None:
        while stage.calls.under_way:
            end_a_call(stage)
            stage.the_store_works()
        stage.it_is_reloaded(2, 25.0)
        stage.change({IDS[1]: "hired"})
        stage.the_store_works()
        end_a_call(stage)
        stage.the_store_works()
        stage.change({IDS[2]: "hired"})
        stage.the_store_works()
        offer = stage.sender.offer(WATCH, [IDS[2]])
        stage.time_passes(0.04)
        assert not stage.calls.under_way

        stage.sender.settle(offer, WATCH, Applied())
        stage.loop.settle()

        assert list(stage.calls.under_way) == [IDS[2]]


class TestAnEndpointThatPauses:
    def test_gets_no_call_in_the_same_turn_of_the_loop(self, stage: ClaimAhead) -> None:
        """An idle worker is woken for an entry, and a refusal arrives before it runs."""
        while stage.calls.under_way:
            end_a_call(stage)
            stage.the_store_works()
        stage.change({IDS[1]: "hired"})
        stage.the_store_works()
        assert list(stage.calls.under_way) == [IDS[1]]
        offer = stage.sender.offer(WATCH, [IDS[2]])
        applied = stage.memory.apply_now({IDS[2]: ("hired", BASE_URLS[0])}, offer)
        assert [entry.application_id for entry in applied.claimed] == [IDS[2]]

        stage.calls.answer(IDS[1], "refused")
        stage.sender.settle(offer, WATCH, applied)
        stage.loop.settle()
        stage.the_store_works()

        stage.nothing_has_failed()
        assert stage.sender._endpoints.all[endpoint_of(BASE_URLS[0])].health.mode == "paused"
        assert not stage.calls.under_way
        assert stage.memory.claimed == set()
        assert stage.memory.rows[IDS[2]].attempts == 0, "uncounted"

    def test_is_not_one_that_refused_the_credentials_of_before_a_reload(self, stage: ClaimAhead) -> None:
        health = stage.sender._endpoints.all[endpoint_of(BASE_URLS[0])].health

        stage.it_is_reloaded(stage.concurrency, None)
        refused = end_a_call(stage, "refused")
        stage.the_store_works()

        assert stage.sender._endpoints.all[endpoint_of(BASE_URLS[0])].health == health
        while len(stage.calls.heard[refused]) == 1:
            end_a_call(stage)
            stage.the_store_works()
        assert stage.memory.acknowledged[refused] == "seen", "it was sent again at once"

    def test_is_one_that_refused_the_credentials_of_after_a_reload(self, stage: ClaimAhead) -> None:
        stage.it_is_reloaded(stage.concurrency, None)
        end_a_call(stage)

        stage.calls.answer(list(stage.calls.under_way)[-1], "refused")
        stage.loop.settle()

        assert stage.sender._endpoints.all[endpoint_of(BASE_URLS[0])].health.mode == "paused"


@pytest.mark.parametrize("moment", ["claimed", "ready", "under way", "answered", "completed"])
def test_a_crash_loses_nothing(moment: str) -> None:
    machine = ClaimAhead()
    for each in IDS[:8]:
        machine.memory.enqueue(each, "seen", base_url_of(each))
    machine.start()
    machine.outbox.do(None)  # the look
    machine.outbox.done.pop().tell()
    machine.loop.settle()
    machine.outbox.do(None)
    if moment != "claimed":
        machine.outbox.done.pop().tell()
        machine.loop.settle()
    if moment in ("answered", "completed"):
        end_a_call(machine)
    if moment == "completed":
        machine.outbox.do(None)

    machine.it_dies_and_starts_again()

    machine.teardown()
