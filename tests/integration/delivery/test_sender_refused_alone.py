"""Our credentials are refused for some applications only: these hold nobody up.

How it goes on for weeks, and what wrong credentials look like beside it: `unit/core/test_refused_alone.py`.
"""

from collections.abc import Sequence

import pytest
from support.builders import HOUR
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Status
from support.sending import SLOW, Delivery

from cdc_sync.core.replies import FAILURES_TO_OPEN

REFUSED = tuple(f"refused{number}" for number in range(8))
OTHERS = tuple(f"a{number:02}" for number in range(20))
WEEK = 7 * 24 * HOUR


def refuse(hellowork: Emulator, ids: Sequence[str], code: int = 403) -> None:
    """Refuse our credentials for these applications, for ever."""
    hellowork.inject(*(Status(status=code, application_id=each, times=None) for each in ids))


async def pending(desk: Delivery) -> set[str]:
    return {entry.application_id for entry in await desk.store.report.entries("pending", None, 1000)}


async def test_all_others_are_delivered(desk: Delivery, hellowork: Emulator) -> None:
    refuse(hellowork, REFUSED)
    await desk.queue(hellowork.url, *REFUSED, *OTHERS)

    async with desk.sending(concurrency=4):
        await eventually(lambda: len(hellowork.state) == len(OTHERS), "all others are acknowledged")

    assert await pending(desk) == set(REFUSED)
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
