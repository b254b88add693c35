"""An endpoint that refuses us, asks us to wait, or is down: left alone as a whole, and asked by single calls."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from math import isclose
from pathlib import Path

import pytest
from support import acting
from support.builders import HOUR, SECOND, WATCH, a_batch, an_observation, some_rules
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Delay, Fault, Reset, Status
from support.sending import LOOPBACK, QUICK, SETTINGS, SLOW, Delivery, delivery

from cdc_sync.core.conditions import NONE, Conditions, fold
from cdc_sync.core.events import EndpointChanged, Event, SendingPaused, SendingResumed
from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import ALL_ENDPOINTS, FAILURES_TO_OPEN, Reply
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.delivery.endpoints import Endpoints
from cdc_sync.delivery.memory import Lanes, Memory
from cdc_sync.delivery.sender import Sender
from cdc_sync.wall_clock import wall_clock

IDS = tuple(f"a{number:02}" for number in range(20))
MANY = tuple(f"a{number:02}" for number in range(80))


def modes(desk: Delivery) -> list[str]:
    """The endpoint's modes, in order; that each new sender tells again what it finds does not count."""
    return [mode for mode, _ in groupby(change.mode for change in desk.of_type(EndpointChanged))]


def conditions(observed: Iterable[Event]) -> Conditions:
    found = NONE
    for observation in observed:
        found = fold(found, observation)
    return found


def for_ever(fault: Fault) -> Fault:
    return fault.model_copy(update={"times": None})


REFUSED = Status(status=401)
THROTTLED = Status(status=429, headers={"Retry-After": "60"})


async def test_while_paused_it_gets_one_call_at_a_time(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=403, times=6))
    await desk.queue(hellowork.url, *IDS)

    async with desk.sending(concurrency=1):
        await eventually(desk.is_settled, "everything is acknowledged")

    assert [call.status for call in hellowork.calls] == [403] * 6 + [200] * len(IDS)
    assert modes(desk) == ["paused", "healthy"]
    assert conditions(desk.observed) == NONE


async def test_a_pause_is_known_after_a_restart(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(for_ever(REFUSED))
    async with delivery(tmp_path / "state.db") as desk:
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=SLOW, concurrency=1)

    async with delivery(tmp_path / "state.db") as desk:
        async with desk.sending(policy=SLOW):
            await eventually(lambda: desk.outbox.looks >= 2, "the sender has looked twice")
        assert len(hellowork.calls) == 2, "each start asks once"
        # Whoever keeps account of what is wrong hears of it, too.
        ((name, wrong),) = conditions(desk.observed).items()
        assert name == f"endpoint {hellowork.url}"
        assert wrong.startswith("paused: HTTP 401")


async def test_a_pause_is_over_after_a_restart_with_credentials_that_are_accepted(
    desk: Delivery, hellowork: Emulator
) -> None:
    hellowork.inject(REFUSED)
    await desk.queue(hellowork.url, *IDS)
    await desk.send_once(policy=SLOW, concurrency=1)
    assert len(hellowork.calls) == 1

    await desk.send_once(policy=SLOW)

    assert await desk.is_settled()
    assert modes(desk)[-1] == "healthy"


async def test_the_whole_endpoint_waits_as_told(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(THROTTLED)
    await desk.queue(hellowork.url, *IDS)
    await desk.send_once(concurrency=1)
    desk.clock.ahead = 59 * SECOND
    await desk.send_once()
    assert len(hellowork.calls) == 1
    desk.clock.ahead = 61 * SECOND

    await desk.send_once()

    assert await desk.is_settled()
    assert modes(desk) == ["throttled", "healthy"]


# After an outage much waits, and what has just got up must not be knocked over by it.


@pytest.mark.parametrize("fault", [REFUSED, THROTTLED, Status(status=503)], ids=lambda fault: str(fault.status))
async def test_after_trouble_calls_become_more_as_they_are_answered(
    desk: Delivery, hellowork: Emulator, fault: Status
) -> None:
    trouble = FAILURES_TO_OPEN if fault.status == 503 else 1
    hellowork.inject(fault.model_copy(update={"times": trouble}), for_ever(Delay(seconds=0.1)))
    await desk.queue(hellowork.url, *MANY)
    await desk.send_once(policy=SLOW, concurrency=1)
    desk.clock.ahead = 2 * HOUR

    await desk.send_once(policy=SLOW)

    assert await desk.is_settled()
    assert_gentle(desk.caller.starts[trouble:], desk.settings.concurrency)


def assert_gentle(starts: Sequence[tuple[int, int]], concurrency: int) -> None:
    """Never more calls at once than were answered since, and in the end as many as allowed."""
    first = starts[0][1]
    assert all(at_once <= max(ended - first, 1) for at_once, ended in starts), starts
    assert max(at_once for at_once, _ in starts) == concurrency


@pytest.mark.parametrize("retried", [False, True])
async def test_an_entry_goes_where_base_url_is_now(desk: Delivery, hellowork: Emulator, *, retried: bool) -> None:
    """`base_url` was corrected, or HelloWork's address changed, while entries waited."""
    await desk.queue("https://mistyped.example", "a1")
    if retried:
        await desk.send_once()
        assert [entry.state for entry in await desk.store.report.entries("dead", None, 2)] == ["dead"]
        await acting.retry_dead(desk.store, None, desk.clock())

    await desk.send_once(built={WATCH: hellowork.url})

    assert [call.application_id for call in hellowork.calls] == ["a1"]
    assert await desk.is_settled()
    snapshot = (await desk.store.capture.known(WATCH, ["a1"]))["a1"].snapshot
    assert snapshot is not None
    assert snapshot.url.startswith(hellowork.url)


# `run_once`: what is due now is tried once, and then it ends, whatever HelloWork does.


def called(hellowork: Emulator) -> list[str]:
    return sorted(call.application_id or "" for call in hellowork.calls)


@pytest.mark.parametrize("fault", [Status(status=404), Status(status=400)], ids=lambda fault: str(fault.status))
async def test_what_is_answered_is_not_tried_a_second_time(desk: Delivery, hellowork: Emulator, fault: Status) -> None:
    hellowork.inject(for_ever(fault))
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(policy=QUICK)

    assert called(hellowork) == list(IDS)


@pytest.mark.parametrize("fault", [Status(status=401), Status(status=429), Reset()], ids=str)
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_an_endpoint_that_does_not_work_is_not_tried_for_ever(
    desk: Delivery, hellowork: Emulator, fault: Fault, concurrency: int
) -> None:
    hellowork.inject(for_ever(fault))
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(policy=QUICK, concurrency=concurrency)

    assert 1 <= len(hellowork.calls) <= FAILURES_TO_OPEN + concurrency - 1
    assert len(set(called(hellowork))) == len(hellowork.calls)
    assert len(await desk.store.report.entries("pending", None, 100)) == len(IDS)


# An operator has paused sending, as a whole or to one endpoint.


@pytest.mark.parametrize("whole", [True, False])
async def test_while_sending_is_paused_no_call_begins(desk: Delivery, hellowork: Emulator, *, whole: bool) -> None:
    hellowork.inject(Delay(seconds=0.2, times=None))
    await desk.queue(hellowork.url, *IDS)
    name = ALL_ENDPOINTS if whole else endpoint_of(hellowork.url)
    async with desk.sending(concurrency=2) as sender:
        await hellowork.wait_for_calls(2, timeout=60)
        sender.pause({name})
        calls = len(hellowork.calls)
        await desk.queue(hellowork.url, "new")
        await eventually(lambda: not sender.under_way, "the calls under way end")
        looks = desk.outbox.looks
        await eventually(lambda: desk.outbox.looks > looks + 1, "the sender has looked twice")
        assert len(hellowork.calls) == calls
        assert {entry.attempts for entry in await desk.store.report.entries("pending", None, 100)} == {0}

        hellowork.forget()
        hellowork.faults.clear()
        sender.pause(())
        await eventually(desk.is_settled, "everything is acknowledged")

    assert desk.of_type(SendingPaused) == [SendingPaused(name or None)]
    assert desk.of_type(SendingResumed) == [SendingResumed(name or None)]


# Our credentials are refused for some applications only: these hold nobody up.


OF_OTHERS = tuple(f"refused{number}" for number in range(8))
OTHERS = tuple(f"a{number:02}" for number in range(20))
WEEK = 7 * 24 * HOUR


async def pending(desk: Delivery) -> set[str]:
    return {entry.application_id for entry in await desk.store.report.entries("pending", None, 1000)}


async def test_all_others_are_delivered(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(*(Status(status=403, application_id=each, times=None) for each in OF_OTHERS))
    await desk.queue(hellowork.url, *OF_OTHERS, *OTHERS)

    async with desk.sending(concurrency=4):
        await eventually(lambda: len(hellowork.state) == len(OTHERS), "all others are acknowledged")

    assert await pending(desk) == set(OF_OTHERS)
    assert not any(call.concurrent for call in hellowork.calls)


@pytest.mark.parametrize("fault", [Status(status=401), Status(status=503)], ids=lambda fault: str(fault.status))
async def test_a_week_in_which_the_endpoint_was_left_alone_is_no_time_of_trying(
    desk: Delivery, hellowork: Emulator, fault: Status
) -> None:
    is_refused = fault.status == 401
    hellowork.inject(fault.model_copy(update={"times": FAILURES_TO_OPEN}))
    await desk.queue(hellowork.url, *OTHERS)
    await desk.send_once(policy=SLOW, concurrency=FAILURES_TO_OPEN if is_refused else 1)
    assert (await desk.health(hellowork.url)).mode == ("paused" if is_refused else "open")
    tried = [entry.application_id for entry in await desk.store.report.entries("pending", None, 100) if entry.attempts]
    assert len(tried) == FAILURES_TO_OPEN
    for each in tried:
        hellowork.inject(Status(status=500, application_id=each))
    desk.clock.ahead += WEEK + 2 * HOUR

    await desk.send_once(policy=SLOW, concurrency=1)

    assert {call.application_id for call in hellowork.calls if call.status == 500} == set(tried)
    assert await desk.store.report.entries("dead", None, 1) == []


# The rate limit: calls are spaced evenly, whatever the concurrency.


RATE = 25.0
COUNT = 20


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_no_more_calls_than_allowed_and_not_many_fewer(
    desk: Delivery, hellowork: Emulator, concurrency: int
) -> None:
    await desk.queue(hellowork.url, *(f"a{number}" for number in range(COUNT)))

    async with desk.sending(concurrency=concurrency, rate=RATE):
        await eventually(desk.is_settled, "everything is acknowledged")

    assert len(hellowork.calls) == COUNT
    took = hellowork.calls[-1].received - hellowork.calls[0].received
    even = (COUNT - 1) / RATE
    # The first may arrive late; without a rate, all would arrive at once.
    assert 0.5 * even < took < 5 * even


class Paced:
    """An endpoint with a rate limit, and a monotonic clock that a test moves."""

    def __init__(self, rate: float) -> None:
        self.now = 1000.0
        self.endpoints = Endpoints(replace(SETTINGS, rate=rate), wall_clock, lambda: self.now)
        self.endpoint = self.endpoints.of(("https://one.example:443", "w"))

    def may_call(self, now: float) -> bool:
        self.now = now
        return self.endpoints.may_call(self.endpoint)

    def call(self) -> None:
        assert self.may_call(self.now)
        self.endpoints.begin(self.endpoint)
        self.endpoints.end(self.endpoint, 0.0)


def test_one_call_then_the_next_one_in_its_time() -> None:
    paced = Paced(rate=4.0)

    paced.call()

    assert paced.endpoints.may_call(paced.endpoints.of(("https://other.example:443", "w"))), (
        "each has a rate of its own"
    )
    assert [paced.may_call(moment) for moment in (1000.0, 1000.2, 1000.25)] == [False, False, True]


def test_the_sender_waits_for_the_next_call_s_time_and_no_longer() -> None:
    paced = Paced(rate=4.0)
    memory = Memory(paced.endpoints, Lanes(paced.endpoints, lambda _: True))

    paced.call()
    memory.loaded[paced.endpoint] = None
    paced.now = 1000.2

    assert isclose(memory.seconds_left(), 0.05)


def test_late_calls_do_not_lower_the_rate() -> None:
    paced = Paced(rate=10.0)
    for _ in range(100):
        paced.call()
        paced.now = paced.endpoint.may_call_at + 0.03

    assert paced.now - 1000.0 < 100 / 10.0 + 0.2


# A customer whose key is refused, and one whose endpoint is slow, cost a third one nothing.


EACH = 2_000
CUSTOMERS = "refused", "slow", "well"


class Customers:
    """HelloWork for three customers: it refuses one, takes 30 seconds for another, and a millisecond for the third."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        self.calls[entry.watch] += 1
        await asyncio.sleep(30 if entry.watch == "slow" else 0.001)
        self.answered[entry.watch] += 1
        return Reply(401 if entry.watch == "refused" else 200), ""


async def seconds_of(desk: Delivery, customers: Customers, *watches: str) -> tuple[float, Sender]:
    """How long it takes until the customer is served to whom nothing bad happens, last of these."""
    settings = replace(desk.settings, policy=SLOW, accounts=frozenset(CUSTOMERS))
    sender = Sender(desk.store.delivery, customers, settings, desk.observed.append, desk.clock, look_every=HOUR)
    running = asyncio.create_task(sender.run())
    served = customers.answered["well"] + EACH
    for watch in watches:
        rules = replace(some_rules(watch, max_changes=100_000), allowed=LOOPBACK)
        ids = [f"{watch}-{number}-{served}" for number in range(EACH)]
        rows = [an_observation(id_, base_url="http://127.0.0.1:1", account=watch) for id_ in ids]
        await desk.store.capture.apply(rules, a_batch(*rows, now=desk.clock()), sender)
        if watch != "well":
            await eventually(partial(customers.calls.get, watch), "its calls have begun")
    begun = time.monotonic()
    await eventually(lambda: customers.answered["well"] >= served, "it is served", within=25)
    seconds = time.monotonic() - begun
    await sender.stop(grace=0.0 if "slow" in watches else None)
    await running
    return seconds, sender


async def test_a_third_customer_goes_at_full_speed(desk: Delivery) -> None:
    customers = Customers()
    alone, _ = await seconds_of(desk, customers, "well")

    together, sender = await seconds_of(desk, customers, *CUSTOMERS)

    # The machine may have other work at one of the times. A slow call takes thirty seconds.
    assert together < 3 * alone + 5, (alone, together)
    half = desk.settings.concurrency // 2
    assert customers.calls["slow"] <= half, "a slow one takes half of the calls at most"
    assert customers.calls["refused"] <= half, "those that had begun when the first was refused"
    in_memory = Counter(entry.watch for entry in sender._memory.entries.values())
    assert in_memory["refused"] == 0, "what cannot be sent takes no room"


# Whatever lets a call go out wakes the sender: it depends on no regular look at the outbox.


@pytest.fixture
def unlooking(desk: Delivery) -> Delivery:
    # Looking inside: the regular looks would hide a wake-up that is missing.
    desk.look_every = 600.0
    return desk


@pytest.mark.parametrize("concurrency", [1, 4, 100])
async def test_the_end_of_a_call(unlooking: Delivery, hellowork: Emulator, concurrency: int) -> None:
    await unlooking.queue(hellowork.url, *IDS)

    async with unlooking.sending(concurrency=concurrency):
        await eventually(unlooking.is_settled, "everything is acknowledged")


async def test_the_end_of_a_call_that_a_slow_store_has_not_written_yet(
    unlooking: Delivery, hellowork: Emulator
) -> None:
    await unlooking.queue(hellowork.url, *IDS[:3])
    unlooking.outbox.complete_may_begin.clear()
    async with unlooking.sending(concurrency=1):
        await hellowork.wait_for_calls(3, timeout=60)
        assert unlooking.outbox.completions == 1
        unlooking.outbox.complete_may_begin.set()


@pytest.mark.parametrize("status", [503, 404, 429, 401])
async def test_the_end_of_a_wait(unlooking: Delivery, hellowork: Emulator, status: int) -> None:
    hellowork.inject(Status(status=status))
    await unlooking.queue(hellowork.url, "a1")

    async with unlooking.sending(policy=QUICK):
        await eventually(unlooking.is_settled, "it is acknowledged")
