"""The rate limit: calls are spaced evenly, whatever the concurrency."""

import asyncio
import math
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from support.builders import HOUR, a_batch, an_observation, some_rules
from support.emulated import Emulator
from support.eventually import eventually
from support.sending import LOOPBACK, SLOW, Delivery

from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Reply
from cdc_sync.delivery.endpoints import Pace
from cdc_sync.delivery.sender import Sender

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


async def test_each_endpoint_has_its_own(desk: Delivery) -> None:
    async with Emulator() as one, Emulator() as other:
        for number in range(5):
            await desk.queue(one.url, f"one-{number}")
            await desk.queue(other.url, f"other-{number}")
        async with desk.sending(rate=2.5):
            await eventually(desk.is_settled, "everything is acknowledged")

        # Each takes 1.6 s, and one rate for both would take 3.6 s.
        first = min(calls[0].received for calls in (one.calls, other.calls))
        last = max(calls[-1].received for calls in (one.calls, other.calls))
        assert last - first < 3.2


def test_one_call_then_the_next_one_in_its_time() -> None:
    pace = Pace()
    assert pace.wait(1000.0) == 0.0
    pace.take(1000.0, 4.0)

    assert math.isclose(pace.wait(1000.2), 0.05)
    assert pace.wait(1000.25) == 0.0


def test_nothing_is_saved_up() -> None:
    pace = Pace()
    pace.take(1000.0, 4.0)

    pace.take(2000.0, 4.0)

    assert math.isclose(pace.wait(2000.0), 0.25)


def test_a_call_that_is_much_too_late_makes_the_next_one_no_earlier() -> None:
    pace = Pace()
    pace.take(1000.0, 1.0)

    pace.take(1001.9, 1.0)

    assert math.isclose(pace.wait(1001.9), 1.0)


def test_late_calls_do_not_lower_the_rate() -> None:
    pace, now = Pace(), 1000.0
    for _ in range(100):
        assert pace.wait(now) == 0.0
        pace.take(now, 10.0)
        now += pace.wait(now) + 0.03

    assert now - 1000.0 < 100 / 10.0 + 0.2


# A customer whose key is refused, and one whose endpoint is slow, cost a third one nothing.


MANY = 2_000
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
    served = customers.answered["well"] + MANY
    for watch in watches:
        rules = replace(some_rules(watch, max_changes=100_000), allowed=LOOPBACK)
        ids = [f"{watch}-{number}-{served}" for number in range(MANY)]
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
    in_memory = Counter(entry.watch for entry in sender._memory.flying.values())
    assert in_memory["refused"] == 0, "what cannot be sent takes no room"


# Many entries and a network that fails in every way: nothing is lost, nothing is doubled, order is kept.


IDS = tuple(f"a{number:04}" for number in range(2_000))


async def test_five_hundred_calls_over_a_bad_network(desk: Delivery, hellowork: Emulator) -> None:
    ids = IDS[:500]
    statuses = [{"kind": "status", "status": status} for status in (503, 404, 429)]
    kinds = [*({"kind": kind} for kind in ("reset", "lost_answer", "half_answer", "html")), *statuses]
    hellowork.inject({"kind": "random", "seed": 4, "rate": 0.1, "kinds": kinds})
    await desk.queue(hellowork.url, *ids)

    async with desk.sending():
        await hellowork.wait_for_calls(50, timeout=60)
        # A third of them change once more in the middle of it.
        await desk.queue(hellowork.url, *ids[::3], status="hired")
        await eventually(desk.is_settled, "everything is acknowledged", within=60)

    wanted = {each: "hired" if number % 3 == 0 else "seen" for number, each in enumerate(ids)}
    assert {each: body["status"] for each, body in hellowork.state.items()} == wanted
    known = await desk.store.capture.known("applications", ids)
    assert {each: one.snapshot and one.snapshot.status for each, one in known.items()} == wanted
    assert not any(call.concurrent for call in hellowork.calls)
    acknowledged = Counter(call.idempotency_key for call in hellowork.calls if call.fault is None)
    assert set(acknowledged.values()) == {1}
