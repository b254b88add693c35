"""`run_once`: what is due now is tried once, and then it ends, whatever HelloWork does."""

import time

import pytest
from support.emulated import Emulator
from support.faults import Fault, Hang, Html, Reset, Status
from support.sending import QUICK, Delivery

from cdc_sync.core.replies import FAILURES_TO_OPEN
from cdc_sync.delivery.sender import Sender

IDS = tuple(f"a{number:02}" for number in range(20))


def called(hellowork: Emulator) -> list[str]:
    return sorted(call.application_id or "" for call in hellowork.calls)


def for_ever(fault: Fault) -> Fault:
    return fault.model_copy(update={"times": None})


@pytest.mark.parametrize("fault", [Status(status=404), Status(status=400)], ids=lambda fault: str(fault.status))
async def test_what_is_answered_is_not_tried_a_second_time(desk: Delivery, hellowork: Emulator, fault: Status) -> None:
    hellowork.inject(for_ever(fault))
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(policy=QUICK)

    assert called(hellowork) == list(IDS)


@pytest.mark.parametrize(
    "fault",
    [
        Status(status=401),
        Status(status=429),
        Status(status=429, headers={"Retry-After": "0"}),
        Status(status=503, headers={"Retry-After": "3600"}),
        Status(status=500),
        Status(status=302),
        Html(),
        Reset(),
    ],
    ids=lambda fault: f"{fault.kind}-{getattr(fault, 'status', '')}",
)
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


async def test_a_retry_that_is_due_soon_is_not_waited_for(desk: Delivery, hellowork: Emulator) -> None:
    """One call fails and is due again at once, another takes its time: meanwhile there is nothing to do."""
    hellowork.inject(Status(status=500, times=1), Hang(seconds=1.0, times=1))
    await desk.queue(hellowork.url, *IDS[:2])
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    sender = Sender(
        desk.outbox, desk.caller, desk.settings, desk.observed.append, desk.clock, monotonic=monotonic, chance=lambda: 0
    )
    await sender.run_once()

    assert called(hellowork) == list(IDS[:2])
    assert looks < 40
