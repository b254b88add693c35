"""Our credentials are refused for some applications only: these hold nobody up.

How it goes on for weeks, and what wrong credentials look like beside it: `unit/core/test_refused_alone.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from support.builders import HOUR
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Status
from support.sending import SLOW, Delivery, delivery
from support.store_steps import story_of, waiting_entry

from cdc_sync.core.events import EndpointChanged
from cdc_sync.core.replies import FAILURES_TO_OPEN, LONGEST_PAUSE

REFUSED = tuple(f"refused{number}" for number in range(8))
OTHERS = tuple(f"a{number:02}" for number in range(20))
WEEK = 7 * 24 * HOUR


def refuse(hellowork: Emulator, ids: Sequence[str], code: int = 403) -> None:
    """Refuse our credentials for these applications, for ever."""
    hellowork.inject(*(Status(status=code, application_id=each, times=None) for each in ids))


def called(hellowork: Emulator, since: int = 0) -> list[str]:
    return [str(call.application_id) for call in hellowork.calls[since:]]


def pauses(desk: Delivery) -> int:
    return [mode for mode, _ in groupby(change.mode for change in desk.of_type(EndpointChanged))].count("paused")


async def pending(desk: Delivery) -> set[str]:
    return {entry.application_id for entry in await desk.store.report.entries("pending", None, 1000)}


@pytest.mark.parametrize("code", [401, 403, 407])
async def test_the_next_probe_is_for_another_and_opens_the_endpoint(
    desk: Delivery, hellowork: Emulator, code: int
) -> None:
    refuse(hellowork, ["refused0"], code)
    await desk.queue(hellowork.url, "refused0")
    desk.clock.ahead += 1
    await desk.queue(hellowork.url, *OTHERS)
    await desk.send_once(policy=SLOW, concurrency=1)
    assert len(hellowork.calls) == 1
    desk.clock.ahead += LONGEST_PAUSE

    await desk.send_once(policy=SLOW, concurrency=1)

    assert hellowork.calls[1].application_id in OTHERS
    assert hellowork.calls[1].status == 200
    assert len(hellowork.state) == len(OTHERS), "all others come before what was refused"
    assert pauses(desk) == 2, "each call that is refused pauses the endpoint"


async def test_all_others_are_delivered(desk: Delivery, hellowork: Emulator) -> None:
    refuse(hellowork, REFUSED)
    await desk.queue(hellowork.url, *REFUSED, *OTHERS)

    async with desk.sending(concurrency=4):
        await eventually(lambda: len(hellowork.state) == len(OTHERS), "all others are acknowledged")

    assert await pending(desk) == set(REFUSED)
    assert not any(call.concurrent for call in hellowork.calls)


async def test_a_refused_call_waits_by_itself_and_is_never_given_up(desk: Delivery, hellowork: Emulator) -> None:
    policy = replace(SLOW, give_up_after=HOUR)
    refuse(hellowork, ["refused0"])
    await desk.queue(hellowork.url, "refused0")
    await desk.send_once(policy=policy)
    for number in range(3):
        desk.clock.ahead += HOUR
        await desk.queue(hellowork.url, f"a{number}")
        await desk.send_once(policy=policy)
        await desk.send_once(policy=policy)

    entry = await waiting_entry(desk.store, "refused0")

    # Once by each run, which tries the endpoint at once.
    assert (entry.state, entry.attempts) == ("pending", 7)
    assert entry.reason is not None
    assert entry.reason.startswith("HTTP 403")
    assert [event.event for event in await story_of(desk.store, "refused0")] == [
        "queued",
        *("answered",) * 7,
    ]
    assert await pending(desk) == {"refused0"}


async def test_a_pause_outlasts_a_restart_and_the_next_probe_is_for_another(
    tmp_path: Path, hellowork: Emulator
) -> None:
    """As for a cron job that runs `run --once`: each run ends before anything is due again."""
    refuse(hellowork, ["refused0"])
    for run in range(4):
        async with delivery(tmp_path / "state.db") as desk:
            if run == 0:
                await desk.queue(hellowork.url, "refused0")
            desk.clock.ahead = run * 2 * HOUR + 1
            await desk.queue(hellowork.url, f"a{run}")

            await desk.send_once(policy=SLOW, concurrency=1)

            # Each run finds the pause of the one before, and probes with another than the one that was refused.
            assert (await desk.health(hellowork.url)).mode == "paused"
            assert await pending(desk) == {"refused0", f"a{run}"}


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
