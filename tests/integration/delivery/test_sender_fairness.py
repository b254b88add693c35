"""A customer whose key is refused, and one whose endpoint is slow, cost a third one nothing."""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from functools import partial

from support.builders import HOUR, a_batch, an_observation, some_rules
from support.eventually import eventually
from support.sending import LOOPBACK, SLOW, Delivery

from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Reply
from cdc_sync.delivery.sender import Sender

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
    in_memory = Counter(entry.watch for entry in sender._memory.entries.values())
    assert in_memory["refused"] == 0, "what cannot be sent takes no room"
