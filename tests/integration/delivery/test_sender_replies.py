"""The design's table "What a reply means", row by row: what is in the outbox afterwards, and what is told of it."""

from dataclasses import replace

import pytest
from support.builders import HOUR, MINUTE, SECOND, WATCH
from support.emulated import Emulator
from support.faults import Fault, HalfAnswer, Html, LostAnswer, Redirect, Reset, Status
from support.sending import SLOW, Delivery
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


@pytest.mark.parametrize(
    "fault", [status(200), status(201), status(204), status(299), status(200, Retry_After="60")], ids=name_of
)
async def test_acknowledged(desk: Delivery, hellowork: Emulator, fault: Fault) -> None:
    await attempt(desk, hellowork, fault)

    assert await told_status(desk.store) == "seen"
    assert await entry_of(desk.store) is None
    assert await events(desk) == ["queued", "acknowledged"]
    assert (await desk.health(hellowork.url)).mode == "healthy"
    assert [(end.outcome, end.attempt) for end in desk.of_type(CallEnded)] == [("acknowledged", 1)]


class TestNotFound:
    async def test_then_becomes_a_dead_letter(self, desk: Delivery, hellowork: Emulator) -> None:
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


@pytest.mark.parametrize("code", [401, 403, 407])
async def test_refused_credentials_pause_the_endpoint_and_cost_nothing(
    desk: Delivery, hellowork: Emulator, code: int
) -> None:
    await attempt(desk, hellowork, *[status(code)] * 4)

    entry = await waiting_entry(desk.store)
    assert (entry.state, entry.attempts) == ("pending", 4)
    health = await desk.health(hellowork.url)
    assert (health.mode, health.failures) == ("paused", 4)
    assert health.reason is not None
    assert health.reason.startswith(f"HTTP {code}")
    changes = [change.mode for change in desk.of_type(EndpointChanged)]
    assert changes[0] == "paused"


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (status(429, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(503, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(400, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(302, Retry_After="7"), 7 * SECOND, 7 * SECOND),
        (status(503, Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), HOUR, HOUR),
        (status(429, Retry_After="99999999"), HOUR, HOUR),
        # The endpoint's own backoff: at least half of `retry.first`.
        (status(429), HOUR // 2, HOUR),
        (status(429, Retry_After="0"), HOUR // 2, HOUR),
        (status(429, Retry_After="soon"), HOUR // 2, HOUR),
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
    *map(status, (408, 425, 500, 502, 503, 504, 599, 600, 999)),
    status(503, Retry_After="soon"),
    Reset(),
    LostAnswer(),
    HalfAnswer(),
    Html(),
    status(201, Content_Type="Text/HTML"),
    *map(status, (300, 304)),
    Redirect(location="https://example.com/"),
]


class TestUnavailable:
    @pytest.mark.parametrize("fault", UNAVAILABLE, ids=name_of)
    async def test_is_tried_again(self, desk: Delivery, hellowork: Emulator, fault: Fault) -> None:
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

    async def test_for_too_long_becomes_a_dead_letter(self, desk: Delivery, hellowork: Emulator) -> None:
        desk.chance = lambda: 0.5

        await attempt(desk, hellowork, status(503), status(502), policy=replace(KEEPS_AT_IT, give_up_after=HOUR // 2))

        entry = await waiting_entry(desk.store)
        assert entry.state == "dead"
        assert entry.reason is not None
        assert entry.reason.startswith("given up after 2 attempts: HTTP 502")


class TestRejected:
    @pytest.mark.parametrize("code", [400, 402, 405, 409, 410, 413, 415, 422, 451, 499])
    async def test_becomes_a_dead_letter_at_once(self, desk: Delivery, hellowork: Emulator, code: int) -> None:
        await attempt(desk, hellowork, status(code))

        entry = await waiting_entry(desk.store)
        assert (entry.state, entry.attempts) == ("dead", 1)
        assert entry.reason is not None
        assert entry.reason.startswith(f"HTTP {code}: ")
        assert await events(desk) == ["queued", "dead-lettered"]
        assert await told_status(desk.store) == "applied"
        assert (await desk.health(hellowork.url)).mode == "healthy"
        assert [end.outcome for end in desk.of_type(CallEnded)] == ["dead"]


class TestRefusedHost:
    async def test_is_not_called_but_becomes_a_dead_letter(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, "a1")

        await desk.send_once(allowed=AllowedHosts(frozenset({"ats-partner.hellowork.com"})))

        assert hellowork.calls == []
        entry = await waiting_entry(desk.store)
        assert entry.state == "dead"
        assert entry.reason is not None
        assert f"may not be called: its origin {hellowork.url} is neither base_url's" in entry.reason

    @pytest.mark.parametrize(
        "application_id",
        [
            "a/../hw-6",
            "../../admin",
            "%2e%2e/hw-6",
            "/hw-6",
            "a\\..\\hw-6",
            "4" * 301,
            "é" * 301,
            "%2525252541",
            "%" + "25" * 4_000,
        ],
    )
    async def test_nor_is_an_id_called_that_was_queued_before_it_was_refused(
        self, desk: Delivery, hellowork: Emulator, application_id: str
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
