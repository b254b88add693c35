"""`run_once`: what is due now is tried once, and then it ends, whatever HelloWork does."""

import time
from pathlib import Path

import pytest
from support.builders import HOUR, SECOND, a_batch, an_observation, some_rules
from support.emulated import Emulator
from support.faults import Fault, Hang, Html, Reset, Status
from support.sending import QUICK, Delivery, delivery
from support.store_steps import events_of

from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import FAILURES_TO_OPEN, Reply
from cdc_sync.delivery.sender import Sender

IDS = tuple(f"a{number:02}" for number in range(20))


def called(hellowork: Emulator) -> list[str]:
    return sorted(call.application_id or "" for call in hellowork.calls)


def for_ever(fault: Fault) -> Fault:
    return fault.model_copy(update={"times": None})


async def test_with_nothing_to_do(desk: Delivery) -> None:
    await desk.send_once()

    assert desk.outbox.asked <= 2


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_everything_is_sent_once(desk: Delivery, hellowork: Emulator, concurrency: int) -> None:
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(concurrency=concurrency)

    assert called(hellowork) == list(IDS)
    assert await desk.is_settled()


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


async def test_an_endpoint_that_never_answers(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(for_ever(Hang()))
    async with delivery(tmp_path / "state.db", patience=1) as desk:
        await desk.queue(hellowork.url, *IDS)

        await desk.send_once(concurrency=10)

        # Those that began at once, and those that took the places of the first to fail.
        assert 10 <= len(hellowork.calls) < 10 + FAILURES_TO_OPEN
        assert (await desk.health(hellowork.url)).mode == "open"
        assert desk.outbox.asked < 50


async def test_what_is_not_due_yet_is_left_alone(desk: Delivery, hellowork: Emulator) -> None:
    rules = some_rules(settle={"seen": HOUR})
    observation = an_observation("a1", "seen", base_url=hellowork.url)
    await desk.store.capture.apply(rules, a_batch(observation, now=desk.clock()))

    await desk.send_once()

    assert hellowork.calls == []
    assert await events_of(desk.store) == ["queued"]


async def test_of_two_endpoints_one_is_down(desk: Delivery, hellowork: Emulator) -> None:
    async with Emulator() as gone:
        pass
    await desk.queue(gone.url, *(f"gone-{number}" for number in range(20)))
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(concurrency=2)

    assert called(hellowork) == list(IDS)
    assert len(await desk.store.report.entries("pending", None, 100)) == 20


async def test_a_slow_rate_is_waited_for_without_looking_all_the_time(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS[:3])
    started = time.monotonic()

    await desk.send_once(rate=4.0)

    assert time.monotonic() - started > 0.4
    assert called(hellowork) == list(IDS[:3])
    assert desk.outbox.asked < 30


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


class Slow:
    """A caller whose calls take long, and fail: each moves the clock."""

    def __init__(self, desk: Delivery, reply: Reply, takes: int) -> None:
        self.desk, self.reply, self.takes = desk, reply, takes
        self.called: list[str] = []

    async def call(self, entry: Entry) -> tuple[Reply, str]:
        """See `Caller`."""
        self.called.append(entry.application_id)
        self.desk.clock.ahead += self.takes
        return self.reply, ""


@pytest.mark.parametrize("reply", [Reply(503), Reply(401), Reply(429, retry_after="1")], ids=str)
async def test_an_endpoint_that_stops_working_in_a_long_run_is_left_alone(desk: Delivery, reply: Reply) -> None:
    desk.caller = slow = Slow(desk, reply, 30 * SECOND)  # type: ignore[assignment] # a caller too
    await desk.queue("http://127.0.0.1:1", *IDS)

    await desk.send_once(policy=QUICK, concurrency=1)

    assert len(slow.called) == (FAILURES_TO_OPEN if reply.status == 503 else 1)


async def test_what_failed_is_not_tried_again_though_the_run_takes_longer_than_any_wait(desk: Delivery) -> None:
    desk.caller = slow = Slow(desk, Reply(404), desk.settings.horizon + HOUR)  # type: ignore[assignment] # a caller too
    await desk.queue("http://127.0.0.1:1", *IDS)

    await desk.send_once(policy=QUICK)

    assert sorted(slow.called) == list(IDS)


async def test_an_endpoint_that_a_wrong_clock_silenced_is_tried(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.clock.ahead = 30 * HOUR
    hellowork.inject(Status(status=401))
    await desk.send_once(policy=QUICK, concurrency=1)
    desk.clock.ahead = 0

    await desk.send_once(policy=QUICK)

    assert len(hellowork.calls) == 1 + len(IDS)
