"""The design's table "What a reply means", row by row: what is in the outbox afterwards, and what is told of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import HOUR, MINUTE, SECOND, WATCH
from support.emulated import Emulator, EmulatorOptions
from support.eventually import eventually
from support.faults import Delay, Fault, HalfAnswer, Html, LostAnswer, Reset, Status
from support.sending import SETTINGS, SLOW, Delivery, an_entry, delivery
from support.store_steps import entry_of, events_of, story_of, told_status, waiting_entry

from cdc_sync.core.batch import Applied
from cdc_sync.core.events import CallEnded, EndpointChanged, Event, StoreFailed, StoreRecovered
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Lane
from cdc_sync.core.replies import Finished, Health, RetryPolicy
from cdc_sync.core.status_url import AllowedHosts
from cdc_sync.delivery.client import Client
from cdc_sync.delivery.sender import Sender
from cdc_sync.store import delivery as store_delivery
from cdc_sync.store.driver import Driver, Effect

KEEPS_AT_IT = replace(SLOW, give_up_after=HOUR, not_found_for=MINUTE)


def status(code: int, **headers: str) -> Status:
    return Status(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})


def name_of(fault: object) -> str:
    return f"{fault.kind}-{getattr(fault, 'status', '')}" if isinstance(fault, Fault) else ""


async def attempt(desk: Delivery, hellowork: Emulator, *faults: Fault, policy: RetryPolicy = KEEPS_AT_IT) -> None:
    """One application's change from `applied` to `seen`, sent once for each fault."""
    await desk.queue(hellowork.url, "a1")
    hellowork.inject(*faults)
    for _ in faults:
        await desk.send_once(policy=policy)
        # Past any wait of the entry and its endpoint.
        desk.clock.ahead += HOUR + MINUTE
    assert hellowork.faults == []


async def events(desk: Delivery) -> list[str]:
    return [event.event for event in await story_of(desk.store)]


async def test_acknowledged(desk: Delivery, hellowork: Emulator) -> None:
    await attempt(desk, hellowork, status(200, Retry_After="60"))

    assert await told_status(desk.store) == "seen"
    assert await entry_of(desk.store) is None
    assert await events(desk) == ["queued", "acknowledged"]
    assert (await desk.health(hellowork.url)).mode == "healthy"
    assert [(end.outcome, end.attempt) for end in desk.of_type(CallEnded)] == [("acknowledged", 1)]


async def test_who_finds_a_result_in_the_store_finds_the_call_reported(
    desk: Delivery, hellowork: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported, complete = list[int](), desk.outbox.complete

    async def completing(
        finished: Sequence[Finished], health: Mapping[str, Health], effect: Effect[dict[Lane, int]]
    ) -> dict[Lane, int]:
        reported.append(len(desk.of_type(CallEnded)))
        return await complete(finished, health, effect)

    monkeypatch.setattr(desk.outbox, "complete", completing)
    await attempt(desk, hellowork, status(200))

    assert reported == [1]


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (status(429, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        # The endpoint's own backoff: at least half of `retry.first`.
        (status(429), HOUR // 2, HOUR),
    ],
    ids=name_of,
)
async def test_throttled(desk: Delivery, hellowork: Emulator, fault: Fault, least: int, most: int) -> None:
    await desk.queue(hellowork.url, "a1")
    hellowork.inject(fault)
    before = desk.clock()

    await desk.send_once(policy=KEEPS_AT_IT)

    health = await desk.health(hellowork.url)
    assert health.mode == "throttled"
    assert before + least <= health.until <= desk.clock() + most
    assert (await waiting_entry(desk.store)).due_at <= desk.clock()
    assert [change.mode for change in desk.of_type(EndpointChanged)] == ["throttled"]


@pytest.mark.parametrize("fault", [status(503), Reset(), LostAnswer(), HalfAnswer(), Html()], ids=name_of)
async def test_a_call_that_failed_for_now_is_tried_again(desk: Delivery, hellowork: Emulator, fault: Fault) -> None:
    await desk.queue(hellowork.url, "a1")
    hellowork.inject(fault)

    await desk.send_once(policy=KEEPS_AT_IT)

    entry = await waiting_entry(desk.store)
    assert (entry.state, entry.attempts, entry.attempted) == ("pending", 1, True)
    health = await desk.health(hellowork.url)
    assert (health.mode, health.failures) == ("healthy", 1)
    assert await told_status(desk.store) == "applied"
    assert await events(desk) == ["queued", "answered"]
    assert [end.outcome for end in desk.of_type(CallEnded)] == ["retry"]
    assert desk.of_type(EndpointChanged) == []


async def test_failed_for_too_long_it_becomes_a_dead_letter(desk: Delivery, hellowork: Emulator) -> None:
    desk.chance = lambda: 0.5

    await attempt(desk, hellowork, status(503), status(502), policy=replace(KEEPS_AT_IT, give_up_after=HOUR // 2))

    entry = await waiting_entry(desk.store)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert entry.reason.startswith("given up after 2 attempts: HTTP 502")


async def test_a_rejected_call_becomes_a_dead_letter_at_once(desk: Delivery, hellowork: Emulator) -> None:
    await attempt(desk, hellowork, status(422))

    entry = await waiting_entry(desk.store)
    assert (entry.state, entry.attempts) == ("dead", 1)
    assert entry.reason is not None
    assert entry.reason.startswith("HTTP 422: ")
    assert await events(desk) == ["queued", "dead-lettered"]
    assert await told_status(desk.store) == "applied"
    assert (await desk.health(hellowork.url)).mode == "healthy"
    assert [end.outcome for end in desk.of_type(CallEnded)] == ["dead"]


async def test_a_host_that_is_not_allowed_is_not_called(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")

    await desk.send_once(allowed=AllowedHosts(frozenset({"ats-partner.hellowork.com"})))

    assert hellowork.calls == []
    entry = await waiting_entry(desk.store)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert f"may not be called: its origin {hellowork.url} is neither base_url's" in entry.reason


async def test_the_story_tells_what_was_answered(desk: Delivery, hellowork: Emulator) -> None:
    await attempt(desk, hellowork, Status(status=503, body={"message": "busy"}))

    (event,) = [event for event in await story_of(desk.store) if event.event == "answered"]
    assert event.watch == WATCH
    detail = dict(event.detail)
    seconds, again_at = detail.pop("seconds"), detail.pop("again_at")
    assert seconds > 0
    assert again_at > event.at
    assert detail == {
        "status": 503,
        "reason": 'HTTP 503: {"message": "busy"}',
        "code": "http-answer",
        "values": {"status": 503, "answer": '{"message": "busy"}'},
        "body": '{"message": "busy"}',
        "attempt": 1,
        "to": {"status": "seen", "job_id": "J1", "deleted": False},
    }


# Trying again: the same call, at a time that outlives the process, until it is known what became of it.


VERY_SLOW = replace(SLOW, first=1000 * HOUR, max=1000 * HOUR, give_up_after=10_000 * HOUR)
"""Drawn from a thousand hours, a wait is too long for any test but once in ten million times."""


async def test_the_wait_outlives_the_process(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=503))
    async with delivery(tmp_path / "state.db") as desk:
        await desk.queue(hellowork.url, "a1")
        await desk.send_once(policy=VERY_SLOW)
        before = await waiting_entry(desk.store)

    async with delivery(tmp_path / "state.db") as desk:
        async with desk.sending(policy=VERY_SLOW):
            await eventually(lambda: desk.outbox.looks >= 2, "the sender has looked twice")
        assert await waiting_entry(desk.store) == before
        assert len(hellowork.calls) == 1

        desk.clock.ahead = VERY_SLOW.max
        await desk.send_once(policy=VERY_SLOW)
        assert await told_status(desk.store) == "seen"


async def test_a_wait_that_only_a_wrong_clock_can_have_set_is_no_wait(desk: Delivery, hellowork: Emulator) -> None:
    desk.clock.ahead = 1_000_000 * HOUR
    hellowork.inject(Status(status=503))
    await desk.queue(hellowork.url, "a1")
    await desk.send_once(policy=SLOW)
    desk.clock.ahead = 0

    await desk.store.delivery.hasten([WATCH], desk.clock(), desk.clock() + HOUR)  # as each start does
    await desk.send_once(policy=SLOW)

    assert await told_status(desk.store) == "seen"


# A store that fails: nothing is sent that could not be recorded, and nothing is lost.


IDS = tuple(f"a{number:02}" for number in range(20))


@pytest.fixture(autouse=True)
def _short_breaks(desk: Delivery) -> None:
    # Looking inside: what matters is that there is a break between two tries, not that it takes a second.
    desk.store_retry = 0.3


def of_the_store(desk: Delivery) -> list[Event]:
    return [each for each in desk.observed if isinstance(each, StoreFailed | StoreRecovered)]


FAILED, RECOVERED = StoreFailed("the disk is full", code="store-unusable"), StoreRecovered()


async def test_while_ends_cannot_be_written_nothing_new_begins(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.outbox.fails = {"complete"}
    async with desk.sending(concurrency=2):
        await eventually(lambda: desk.outbox.completions >= 2, "two tries to write an end")
        calls = len(hellowork.calls)
        # No more than were free when the first end failed.
        assert calls <= 4
        await eventually(lambda: desk.outbox.completions >= 3, "one more")
        assert len(hellowork.calls) == calls
        assert of_the_store(desk) == [FAILED]
        desk.outbox.fails = set()
        await eventually(desk.is_settled, "everything is acknowledged")

    assert sorted(call.application_id or "" for call in hellowork.calls) == list(IDS)
    assert of_the_store(desk) == [FAILED, RECOVERED]


async def test_its_end_waits_for_what_cannot_be_written(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")
    desk.outbox.fails = {"complete"}
    async with desk.sending() as sender:
        await eventually(lambda: desk.outbox.completions >= 1, "a try to write an end")
        stopping = asyncio.create_task(sender.stop())
        await eventually(lambda: desk.outbox.completions >= 2, "another one")
        desk.outbox.fails = set()
        assert not await stopping

    assert await desk.is_settled()


@pytest.mark.parametrize("step", ["read", "look"])
async def test_it_goes_on_as_soon_as_the_store_can_be_read(desk: Delivery, hellowork: Emulator, step: str) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.outbox.fails = {step}
    count: Callable[[], int] = lambda: desk.outbox.reads if step == "read" else desk.outbox.looks  # noqa: E731
    async with desk.sending():
        await eventually(lambda: count() >= 2, "two tries")
        assert hellowork.calls == []
        assert of_the_store(desk) == [FAILED]
        desk.outbox.fails = set()
        await eventually(desk.is_settled, "everything is acknowledged")

    assert len(hellowork.calls) == len(IDS)
    assert of_the_store(desk) == [FAILED, RECOVERED]


class Recovering(store_delivery.Delivery):
    """An empty store: the second look at it fails, and the third one is answered when a test says so."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.looks = 0
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def lanes(self) -> dict[Lane, int]:
        self.looks += 1
        if self.looks == 2:
            raise StoreError("store-unusable", "the disk is full")
        if self.looks == 3:
            self.is_asked.set()
            await self.may_answer.wait()
        return {}


async def test_what_is_enqueued_while_the_store_recovers_is_called(
    desk: Delivery, client: Client, hellowork: Emulator
) -> None:
    """The only worker's place is free at once, when it has found that it may not call."""
    outbox = Recovering(desk.store.driver)
    sender = Sender(
        outbox, client, replace(SETTINGS, concurrency=1), lambda _: None, look_every=HOUR / SECOND, store_retry=0.0
    )
    running = asyncio.create_task(sender.run())
    await eventually(lambda: outbox.looks == 1, "the first look")
    sender.look()
    await outbox.is_asked.wait()

    applying = sender.begin_apply(WATCH, ["a1"])
    sender.end_apply(applying, Applied(entries=[an_entry(base_url=hellowork.url)]))
    outbox.may_answer.set()

    await hellowork.wait_for_calls(1, timeout=5)
    await sender.stop()
    await running


@pytest.mark.parametrize("step", ["read", "complete", "look"])
async def test_a_single_run_ends_with_the_stores_failure(desk: Delivery, hellowork: Emulator, step: str) -> None:
    await desk.queue(hellowork.url, *IDS)
    desk.outbox.fails = {step}

    with pytest.raises(StoreError, match=r"^the disk is full$"):
        await desk.send_once()

    desk.outbox.fails = set()
    await desk.store.delivery.begin_sending()
    await desk.send_once()
    assert await desk.is_settled()
    assert {call.application_id for call in hellowork.calls} == set(IDS)


# The sender's end: what is under way is finished and written down, and nothing new is begun.


async def test_what_is_under_way_is_finished_and_written_down(desk: Delivery) -> None:
    async with Emulator(EmulatorOptions(latency=1)) as slow:
        await desk.queue(slow.url, *IDS)
        async with desk.sending(concurrency=4) as sender:
            await slow.wait_for_calls(4, timeout=60)
            assert sender.under_way == 4

        assert sender.under_way == 0
        assert len(slow.calls) == 4
        sent = {call.application_id for call in slow.calls}
        waiting = await desk.store.report.entries("pending", None, 100)
        assert {entry.application_id for entry in waiting} == set(IDS) - sent
        assert not any(entry.attempted for entry in waiting)


async def test_stopped_before_it_began_it_sends_nothing(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")
    sender = desk.sender()

    async with asyncio.timeout(20):
        assert not await sender.stop()
        await sender.run()

    assert hellowork.calls == []
    assert await events_of(desk.store) == ["queued"]


async def test_given_up_it_leaves_what_was_under_way_to_the_next(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(Delay(seconds=60, application_id=IDS[0]))
    await desk.queue(hellowork.url, *IDS)
    sender = desk.sender()
    running = asyncio.create_task(sender.run())
    await eventually(lambda: _has_left(desk, 1), "all but one are acknowledged")

    assert await sender.stop(grace=0.05), "a call is cut off"
    await running

    await desk.store.delivery.begin_sending()
    (left,) = await desk.store.report.entries("pending", None, 100)
    assert (left.application_id, left.attempted) == (IDS[0], True)
    await desk.send_once()
    assert await desk.is_settled()


async def _has_left(desk: Delivery, number: int) -> bool:
    return len(await desk.store.report.entries("pending", None, 100)) == number
