"""The design's table "What a reply means", row by row: what is in the outbox afterwards, and what is told of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import HOUR, MINUTE, SECOND, WATCH
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Fault, HalfAnswer, Html, LostAnswer, Redirect, Reset, Status
from support.sending import SLOW, Delivery, delivery
from support.store_steps import entry_of, story_of, told_status, waiting_entry

from cdc_sync.core.events import CallEnded, EndpointChanged
from cdc_sync.core.replies import RetryPolicy
from cdc_sync.core.status_url import AllowedHosts

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


@pytest.mark.parametrize("fault", [status(200), status(204), status(200, Retry_After="60")], ids=name_of)
async def test_acknowledged(desk: Delivery, hellowork: Emulator, fault: Fault) -> None:
    await attempt(desk, hellowork, fault)

    assert await told_status(desk.store) == "seen"
    assert await entry_of(desk.store) is None
    assert await events(desk) == ["queued", "acknowledged"]
    assert (await desk.health(hellowork.url)).mode == "healthy"
    assert [(end.outcome, end.attempt) for end in desk.of_type(CallEnded)] == [("acknowledged", 1)]


async def test_then_becomes_a_dead_letter(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.known = frozenset()
    await desk.queue(hellowork.url, "a1")
    await desk.send_once(policy=KEEPS_AT_IT)
    desk.clock.ahead += HOUR

    await desk.send_once(policy=KEEPS_AT_IT)

    entry = await waiting_entry(desk.store)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert entry.reason.startswith("HelloWork still does not know the application: HTTP 404")
    assert await events(desk) == ["queued", "answered", "dead-lettered"]


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (status(429, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(400, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(429, Retry_After="99999999"), HOUR, HOUR),
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


UNAVAILABLE = [
    *map(status, (408, 425, 500, 503, 999)),
    Reset(),
    LostAnswer(),
    HalfAnswer(),
    Html(),
    status(201, Content_Type="Text/HTML"),
    Redirect(location="https://example.com/"),
]


@pytest.mark.parametrize("fault", UNAVAILABLE, ids=name_of)
async def test_is_tried_again(desk: Delivery, hellowork: Emulator, fault: Fault) -> None:
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


async def test_for_too_long_becomes_a_dead_letter(desk: Delivery, hellowork: Emulator) -> None:
    desk.chance = lambda: 0.5

    await attempt(desk, hellowork, status(503), status(502), policy=replace(KEEPS_AT_IT, give_up_after=HOUR // 2))

    entry = await waiting_entry(desk.store)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert entry.reason.startswith("given up after 2 attempts: HTTP 502")


@pytest.mark.parametrize("code", [400, 410, 422, 499])
async def test_becomes_a_dead_letter_at_once(desk: Delivery, hellowork: Emulator, code: int) -> None:
    await attempt(desk, hellowork, status(code))

    entry = await waiting_entry(desk.store)
    assert (entry.state, entry.attempts) == ("dead", 1)
    assert entry.reason is not None
    assert entry.reason.startswith(f"HTTP {code}: ")
    assert await events(desk) == ["queued", "dead-lettered"]
    assert await told_status(desk.store) == "applied"
    assert (await desk.health(hellowork.url)).mode == "healthy"
    assert [end.outcome for end in desk.of_type(CallEnded)] == ["dead"]


async def test_is_not_called_but_becomes_a_dead_letter(desk: Delivery, hellowork: Emulator) -> None:
    await desk.queue(hellowork.url, "a1")

    await desk.send_once(allowed=AllowedHosts(frozenset({"ats-partner.hellowork.com"})))

    assert hellowork.calls == []
    entry = await waiting_entry(desk.store)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert f"may not be called: its origin {hellowork.url} is neither base_url's" in entry.reason


@pytest.mark.parametrize(
    "application_id",
    ["../../admin", "4" * 301, "%2525252541"],
)
async def test_nor_is_an_id_called_that_was_queued_before_it_was_refused(
    desk: Delivery, hellowork: Emulator, application_id: str
) -> None:
    await desk.queue(hellowork.url, application_id)

    await desk.send_once()

    assert hellowork.calls == []
    entry = await waiting_entry(desk.store, application_id)
    assert entry.state == "dead"
    assert entry.reason is not None
    assert entry.reason.startswith(f"the URL {entry.content.url!r} may not be called: ")


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
        await desk.send_once(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max)
        before = await waiting_entry(desk.store)

    async with delivery(tmp_path / "state.db") as desk:
        async with desk.sending(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max):
            await eventually(lambda: desk.outbox.looks >= 2, "the sender has looked twice")
        assert await waiting_entry(desk.store) == before
        assert len(hellowork.calls) == 1

        desk.clock.ahead = VERY_SLOW.max
        await desk.send_once(policy=VERY_SLOW, horizon=2 * VERY_SLOW.max)
        assert await told_status(desk.store) == "seen"


async def test_a_wait_that_only_a_wrong_clock_can_have_set_is_no_wait(desk: Delivery, hellowork: Emulator) -> None:
    desk.clock.ahead = 1_000_000 * HOUR
    hellowork.inject(Status(status=503))
    await desk.queue(hellowork.url, "a1")
    await desk.send_once(policy=SLOW)
    desk.clock.ahead = 0

    await desk.send_once(policy=SLOW)

    assert await told_status(desk.store) == "seen"


async def test_every_try_is_the_same_request(tmp_path: Path, hellowork: Emulator) -> None:
    hellowork.inject(Status(status=503), Reset(), LostAnswer(), Status(status=404), Status(status=429))
    for _ in range(6):
        async with delivery(tmp_path / "state.db") as desk:
            if not hellowork.calls:
                await desk.queue(hellowork.url, "a1")
            desk.clock.ahead = len(hellowork.calls) * MINUTE
            await desk.send_once()

    assert len(hellowork.calls) == 6
    assert len({(call.idempotency_key, call.raw, call.path) for call in hellowork.calls}) == 1
    assert hellowork.calls[0].idempotency_key
