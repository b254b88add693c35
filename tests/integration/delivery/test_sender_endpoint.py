"""An endpoint that refuses us, asks us to wait, or is down: left alone as a whole, and asked by single calls."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from support import acting
from support.builders import HOUR, SECOND, WATCH
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Delay, Fault, Html, Reset, Status
from support.sending import QUICK, SLOW, Delivery, delivery

from cdc_sync.core.conditions import NONE, Conditions, fold
from cdc_sync.core.events import EndpointChanged, Event, SendingPaused, SendingResumed
from cdc_sync.core.replies import ALL_ENDPOINTS, FAILURES_TO_OPEN
from cdc_sync.core.status_url import endpoint_of

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


async def test_asks_with_one_call_at_a_time_until_the_credentials_are_right(
    desk: Delivery, hellowork: Emulator
) -> None:
    hellowork.inject(Status(status=403, times=6))
    await desk.queue(hellowork.url, *IDS)

    async with desk.sending(concurrency=1):
        await eventually(desk.is_settled, "everything is acknowledged")

    assert [call.status for call in hellowork.calls] == [403] * 6 + [200] * len(IDS)
    assert modes(desk) == ["paused", "healthy"]
    assert conditions(desk.observed) == NONE


async def test_is_known_after_a_restart(tmp_path: Path, hellowork: Emulator) -> None:
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


@pytest.mark.parametrize("once", [True, False])
async def test_is_over_after_a_restart_with_credentials_that_are_accepted(
    desk: Delivery, hellowork: Emulator, *, once: bool
) -> None:
    hellowork.inject(REFUSED)
    await desk.queue(hellowork.url, *IDS)
    await desk.send_once(policy=SLOW, concurrency=1)
    assert len(hellowork.calls) == 1

    if once:
        await desk.send_once(policy=SLOW)
    else:
        async with desk.sending(policy=SLOW):
            await eventually(desk.is_settled, "everything is acknowledged")

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


async def test_opens_after_several_failures_in_a_row(desk: Delivery, hellowork: Emulator) -> None:
    hellowork.inject(for_ever(Reset()))
    await desk.queue(hellowork.url, *IDS)

    await desk.send_once(policy=SLOW, concurrency=1)

    assert len(hellowork.calls) == FAILURES_TO_OPEN
    assert modes(desk) == ["open"]
    health = await desk.health(hellowork.url)
    assert (health.mode, health.failures) == ("open", FAILURES_TO_OPEN)
    assert health.reason == "the connection was lost before the answer"
    # Those that got no call of their own are as good as new.
    untouched = [entry for entry in await desk.store.report.entries("pending", None, 100) if not entry.attempted]
    assert len(untouched) == len(IDS) - FAILURES_TO_OPEN


# After an outage much waits, and what has just got up must not be knocked over by it.


@pytest.mark.parametrize("fault", [REFUSED, THROTTLED, Status(status=503)], ids=lambda fault: str(fault.status))
async def test_calls_become_more_as_they_are_answered(desk: Delivery, hellowork: Emulator, fault: Status) -> None:
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


class TestWhatWasQueuedForAnotherBaseUrl:
    """`base_url` was corrected, or HelloWork's address changed, while entries waited."""

    GONE = "https://mistyped.example"

    async def test_goes_where_it_is_now(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(self.GONE, "a1")

        await desk.send_once(built={WATCH: hellowork.url})

        assert [call.application_id for call in hellowork.calls] == ["a1"]
        assert await desk.is_settled()
        snapshot = (await desk.store.capture.known(WATCH, ["a1"]))["a1"].snapshot
        assert snapshot is not None
        assert snapshot.url.startswith(hellowork.url)

    @pytest.mark.parametrize("again", ["retried", "resent"])
    async def test_does_so_too_when_a_person_asks_for_it(self, desk: Delivery, hellowork: Emulator, again: str) -> None:
        await desk.queue(self.GONE, "a1")
        if again == "retried":
            await desk.send_once()
            assert [entry.state for entry in await desk.store.report.entries("dead", None, 2)] == ["dead"]
            await acting.retry_dead(desk.store, None, desk.clock())
        else:
            await acting.discard(desk.store, "pending", None, desk.clock())
            await acting.resend(desk.store, None, ["a1"], desk.clock())

        await desk.send_once(built={WATCH: hellowork.url})

        assert [call.application_id for call in hellowork.calls] == ["a1"]


# `run_once`: what is due now is tried once, and then it ends, whatever HelloWork does.


def called(hellowork: Emulator) -> list[str]:
    return sorted(call.application_id or "" for call in hellowork.calls)


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


# An operator has paused sending, as a whole or to one endpoint.


@pytest.mark.parametrize("whole", [True, False])
async def test_no_call_begins(desk: Delivery, hellowork: Emulator, *, whole: bool) -> None:
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


async def test_another_endpoint_is_called(desk: Delivery, hellowork: Emulator) -> None:
    async with Emulator() as other:
        await desk.queue(hellowork.url, "here")
        await desk.queue(other.url, "there")
        sender = desk.sender()
        sender.pause({endpoint_of(hellowork.url)})

        await sender.run_once()

        assert (len(hellowork.calls), len(other.calls)) == (0, 1)


# Our credentials are refused for some applications only: these hold nobody up.


OF_OTHERS = tuple(f"refused{number}" for number in range(8))
OTHERS = tuple(f"a{number:02}" for number in range(20))
WEEK = 7 * 24 * HOUR


def refuse(hellowork: Emulator, ids: Sequence[str], code: int = 403) -> None:
    """Refuse our credentials for these applications, for ever."""
    hellowork.inject(*(Status(status=code, application_id=each, times=None) for each in ids))


async def pending(desk: Delivery) -> set[str]:
    return {entry.application_id for entry in await desk.store.report.entries("pending", None, 1000)}


async def test_all_others_are_delivered(desk: Delivery, hellowork: Emulator) -> None:
    refuse(hellowork, OF_OTHERS)
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
