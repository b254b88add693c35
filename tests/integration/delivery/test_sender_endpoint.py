"""An endpoint that refuses us, asks us to wait, or is down: left alone as a whole, and asked by single calls."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from support import acting
from support.builders import HOUR, SECOND, WATCH
from support.emulated import Emulator
from support.eventually import eventually
from support.faults import Delay, Fault, Hang, Reset, Status
from support.sending import QUICK, SLOW, Delivery, delivery

from cdc_sync.core.conditions import NONE, Conditions, fold
from cdc_sync.core.events import EndpointChanged, Event
from cdc_sync.core.replies import FAILURES_TO_OPEN, LONGEST_OPEN, LONGEST_PAUSE
from cdc_sync.core.status_url import AllowedHosts

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


class TestPaused:
    async def test_everything_is_kept(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(for_ever(REFUSED))
        await desk.queue(hellowork.url, *IDS)

        await desk.send_once(policy=SLOW, concurrency=4)

        # Those that were under way when the first was refused, and none after.
        assert 1 <= len(hellowork.calls) <= 4
        assert len(await desk.store.report.entries("pending", None, 100)) == len(IDS)
        assert modes(desk) == ["paused"]

    async def test_one_call_asks_whether_it_is_over(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(for_ever(REFUSED))
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=SLOW, concurrency=4)
        hellowork.forget()
        desk.clock.ahead = LONGEST_PAUSE

        await desk.send_once(policy=SLOW, concurrency=4)

        assert len(hellowork.calls) == 1

    async def test_when_the_call_succeeds_all_the_others_follow(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(REFUSED)
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=SLOW, concurrency=1)
        desk.clock.ahead = LONGEST_PAUSE

        await desk.send_once(policy=SLOW)

        assert await desk.is_settled()
        assert len(hellowork.calls) == len(IDS) + 1
        assert not any(call.duration and call.received < hellowork.calls[1].received for call in hellowork.calls[2:])
        assert modes(desk) == ["paused", "healthy"]

    async def test_asks_with_one_call_at_a_time_until_the_credentials_are_right(
        self, desk: Delivery, hellowork: Emulator
    ) -> None:
        hellowork.inject(Status(status=403, times=6))
        await desk.queue(hellowork.url, *IDS)

        async with desk.sending(concurrency=1):
            await eventually(desk.is_settled, "everything is acknowledged")

        assert [call.status for call in hellowork.calls] == [403] * 6 + [200] * len(IDS)
        assert modes(desk) == ["paused", "healthy"]
        assert conditions(desk.observed) == NONE

    async def test_is_known_after_a_restart(self, tmp_path: Path, hellowork: Emulator) -> None:
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
        self, desk: Delivery, hellowork: Emulator, *, once: bool
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

    async def test_is_asked_once_at_each_start(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(for_ever(REFUSED))
        await desk.queue(hellowork.url, *IDS)
        for _ in range(3):
            await desk.send_once(policy=SLOW, concurrency=1)

        assert len(hellowork.calls) == 3
        assert modes(desk) == ["paused"]

    async def test_is_no_concern_after_a_restart_if_nothing_waits_for_it(
        self, desk: Delivery, hellowork: Emulator
    ) -> None:
        hellowork.inject(REFUSED)
        await desk.queue(hellowork.url, "a1")
        await desk.send_once(policy=SLOW)
        await desk.queue(hellowork.url, "a1", status="applied")
        await desk.store.delivery.begin_sending()
        desk.clock.ahead = LONGEST_PAUSE
        await desk.send_once(policy=SLOW, allowed=AllowedHosts(frozenset()))
        desk.observed.clear()

        await desk.send_once(policy=SLOW)

        assert (await desk.health(hellowork.url)).mode == "paused"
        assert conditions(desk.observed) == NONE


class TestThrottled:
    async def test_the_whole_endpoint_waits_as_told(self, desk: Delivery, hellowork: Emulator) -> None:
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

    async def test_it_goes_on_by_itself_when_the_time_is_over(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=503, headers={"Retry-After": "1"}))
        await desk.queue(hellowork.url, *IDS)

        async with desk.sending(concurrency=1):
            await eventually(desk.is_settled, "everything is acknowledged")

        first, second = hellowork.calls[:2]
        assert second.received - first.received > 0.9
        assert len(hellowork.calls) == len(IDS) + 1

    async def test_nobody_looks_at_the_outbox_all_the_time_meanwhile(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(THROTTLED)
        await desk.queue(hellowork.url, *IDS)
        async with desk.sending(concurrency=1):
            await eventually(lambda: modes(desk) == ["throttled"], "the endpoint is throttled")
            before = desk.outbox.looks
            await eventually(lambda: desk.outbox.looks > before + 1, "the sender has looked again")
            asked = desk.outbox.asked
            await eventually(lambda: desk.outbox.looks > before + 2, "the sender has looked once more")
            assert desk.outbox.asked - asked <= 3


class TestOpen:
    async def test_opens_after_several_failures_in_a_row(self, desk: Delivery, hellowork: Emulator) -> None:
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

    async def test_does_not_open_when_one_succeeds_in_between(self, desk: Delivery, hellowork: Emulator) -> None:
        broken = [Status(status=503, application_id=each) for number, each in enumerate(IDS) if number % 5]
        hellowork.inject(*broken)
        await desk.queue(hellowork.url, *IDS)

        await desk.send_once(policy=SLOW, concurrency=1)

        assert len(hellowork.calls) == len(IDS)
        assert modes(desk) == []

    async def test_a_single_call_closes_it_and_the_others_follow(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=502, times=FAILURES_TO_OPEN))
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=SLOW, concurrency=1)
        desk.clock.ahead = 2 * HOUR

        await desk.send_once(policy=SLOW)

        assert await desk.is_settled()
        assert modes(desk) == ["open", "healthy"]
        assert len(hellowork.calls) == len(IDS) + FAILURES_TO_OPEN

    async def test_a_single_call_that_fails_keeps_it_open(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=502, times=FAILURES_TO_OPEN + 1))
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=SLOW, concurrency=1)
        desk.clock.ahead = LONGEST_OPEN

        await desk.send_once(policy=SLOW)

        assert len(hellowork.calls) == FAILURES_TO_OPEN + 1
        assert (await desk.health(hellowork.url)).failures == FAILURES_TO_OPEN + 1
        assert modes(desk) == ["open"]

    async def test_recovers_by_itself(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=503, times=12))
        await desk.queue(hellowork.url, *IDS)

        async with desk.sending():
            await eventually(desk.is_settled, "everything is acknowledged")

        assert {call.application_id for call in hellowork.calls if call.status == 200} == set(IDS)
        assert len(hellowork.calls) == len(IDS) + 12
        assert modes(desk)[0] == "open"
        assert modes(desk)[-1] == "healthy"

    async def test_nobody_looks_at_the_outbox_all_the_time_while_the_single_call_takes_long(
        self, desk: Delivery, hellowork: Emulator
    ) -> None:
        at_once = replace(QUICK, first=1, max=1)
        hellowork.inject(Status(status=502, times=FAILURES_TO_OPEN), Hang(seconds=1.5))
        await desk.queue(hellowork.url, *IDS)
        await desk.send_once(policy=at_once, concurrency=1)

        async with desk.sending(policy=at_once, concurrency=8):
            await hellowork.wait_for_calls(FAILURES_TO_OPEN + 1, timeout=60)
            asked = while_it_takes = desk.outbox.asked

            def has_ended() -> bool:
                nonlocal while_it_takes
                if hellowork.calls[FAILURES_TO_OPEN].duration:
                    return True
                while_it_takes = desk.outbox.asked  # what follows the call's end asks as well, and is not meant
                return False

            await eventually(has_ended, "the end of the single call")
            assert while_it_takes - asked < 10
            await eventually(desk.is_settled, "everything is acknowledged")

        single, *others = hellowork.calls[FAILURES_TO_OPEN:]
        assert single.fault == "hang"
        assert min(call.received for call in others) > single.received + 1.4


class TestReturn:
    """After an outage much waits, and what has just got up must not be knocked over by it."""

    @pytest.mark.parametrize("fault", [REFUSED, THROTTLED, Status(status=503)], ids=lambda fault: str(fault.status))
    async def test_calls_become_more_as_they_are_answered(
        self, desk: Delivery, hellowork: Emulator, fault: Status
    ) -> None:
        trouble = FAILURES_TO_OPEN if fault.status == 503 else 1
        hellowork.inject(fault.model_copy(update={"times": trouble}), for_ever(Delay(seconds=0.1)))
        await desk.queue(hellowork.url, *MANY)
        await desk.send_once(policy=SLOW, concurrency=1)
        desk.clock.ahead = 2 * HOUR

        await desk.send_once(policy=SLOW)

        assert await desk.is_settled()
        assert_gentle(desk.caller.starts[trouble:], desk.settings.concurrency)

    async def test_also_if_nobody_was_restarted_meanwhile(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.inject(Status(status=503, times=20), for_ever(Delay(seconds=0.1)))
        await desk.queue(hellowork.url, *MANY)

        async with desk.sending():
            await eventually(desk.is_settled, "everything is acknowledged")

        last_failure = max(number for number, call in enumerate(hellowork.calls) if call.status == 503)
        assert_gentle(desk.caller.starts[last_failure + 1 :], desk.settings.concurrency)


def assert_gentle(starts: Sequence[tuple[int, int]], concurrency: int) -> None:
    """Never more calls at once than were answered since, and in the end as many as allowed."""
    first = starts[0][1]
    assert all(at_once <= max(ended - first, 1) for at_once, ended in starts), starts
    assert max(at_once for at_once, _ in starts) == concurrency


@pytest.mark.parametrize("fault", [THROTTLED, Status(status=503)], ids=lambda fault: str(fault.status))
async def test_an_endpoint_that_waits_keeps_new_entries(desk: Delivery, hellowork: Emulator, fault: Status) -> None:
    hellowork.inject(fault.model_copy(update={"times": FAILURES_TO_OPEN}))
    await desk.queue(hellowork.url, *IDS)
    await desk.send_once(policy=SLOW, concurrency=1)
    calls = len(hellowork.calls)

    async with desk.sending(policy=SLOW):
        await desk.queue(hellowork.url, "new")
        await eventually(lambda: desk.outbox.looks >= 2, "the sender has looked twice")

    assert len(hellowork.calls) == calls


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

    async def test_stays_where_its_row_said(self, desk: Delivery, hellowork: Emulator) -> None:
        await desk.queue(hellowork.url, "a1")

        await desk.send_once(built={"another watch": self.GONE})

        assert [call.application_id for call in hellowork.calls] == ["a1"]
