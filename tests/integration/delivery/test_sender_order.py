"""Who is called when: one call at a time for an application, its newest state, and a fair share for every endpoint."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from support.emulated import Call, Emulator, EmulatorOptions
from support.eventually import eventually
from support.faults import Delay, Hang
from support.sending import SLOW, Delivery
from support.store_steps import entry_of, told_status


def statuses(calls: Sequence[Call]) -> list[object]:
    return [call.body["status"] for call in calls if isinstance(call.body, dict)]


class TestWhileACallIsUnderWay:
    """Its application changes again."""

    @pytest.fixture
    async def desk(self, desk: Delivery, hellowork: Emulator) -> Delivery:
        hellowork.inject(Delay(seconds=1))
        await desk.queue(hellowork.url, "a1", status="seen")
        return desk

    async def test_the_newest_state_waits_for_its_end(self, desk: Delivery, hellowork: Emulator) -> None:
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            for status in ("interview", "offred", "hired"):
                await desk.queue(hellowork.url, "a1", status=status)
            await eventually(desk.is_settled, "everything is acknowledged")

        assert statuses(hellowork.calls) == ["seen", "hired"]
        assert not any(call.concurrent for call in hellowork.calls)
        assert await told_status(desk.store) == "hired"

    async def test_what_is_undone_meanwhile_is_told(self, desk: Delivery, hellowork: Emulator) -> None:
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            await desk.queue(hellowork.url, "a1", status="applied")
            await eventually(desk.is_settled, "everything is acknowledged")

        assert statuses(hellowork.calls) == ["seen", "applied"]

    async def test_what_comes_to_the_same_is_not_told_twice(self, desk: Delivery, hellowork: Emulator) -> None:
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            for status in ("applied", "seen"):
                await desk.queue(hellowork.url, "a1", status=status)
            await eventually(lambda: entry_is_gone(desk), "the first call is acknowledged")

        assert statuses(hellowork.calls) == ["seen"]
        assert await told_status(desk.store) == "seen"

    async def test_others_are_not_kept_waiting(self, desk: Delivery, hellowork: Emulator) -> None:
        async with desk.sending():
            await hellowork.wait_for_calls(1, timeout=60)
            await desk.queue(hellowork.url, "a2")
            calls = await hellowork.wait_for_calls(2, timeout=60)

            assert calls[0].duration is None

    async def test_if_it_fails_the_newer_one_need_not_wait_long(self, desk: Delivery, hellowork: Emulator) -> None:
        hellowork.faults.clear()
        hellowork.inject(Hang(seconds=1))
        async with desk.sending(policy=SLOW):
            await hellowork.wait_for_calls(1, timeout=60)
            await desk.queue(hellowork.url, "a1", status="hired")
            await eventually(desk.is_settled, "the newer one is acknowledged")

        assert statuses(hellowork.calls) == ["seen", "hired"]
        assert not any(call.concurrent for call in hellowork.calls)


async def entry_is_gone(desk: Delivery) -> bool:
    return await entry_of(desk.store) is None


class TestConcurrency:
    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_is_used_and_never_exceeded(self, desk: Delivery, concurrency: int) -> None:
        async with Emulator(EmulatorOptions(latency=0.05)) as slow:
            await desk.queue(slow.url, *(f"a{number}" for number in range(6 * concurrency)))
            async with desk.sending(concurrency=concurrency):
                await eventually(desk.is_settled, "everything is acknowledged")

            assert len(slow.calls) == 6 * concurrency
        assert desk.caller.most == concurrency

    async def test_is_shared_by_all_endpoints(self, desk: Delivery) -> None:
        options = EmulatorOptions(latency=0.05)
        async with Emulator(options) as one, Emulator(options) as other:
            for hellowork in (one, other):
                await desk.queue(hellowork.url, *(f"{hellowork.url[-5:]}-{number}" for number in range(8)))
            async with desk.sending(concurrency=4):
                await eventually(desk.is_settled, "everything is acknowledged")

        assert desk.caller.most == 4


class TestSeveralEndpoints:
    async def test_one_with_nothing_to_send_takes_nothing_from_the_other(self, desk: Delivery) -> None:
        async with Emulator() as one, Emulator() as other:
            for hellowork in (one, other, one, other):
                await desk.queue(hellowork.url, f"{hellowork.url[-5:]}-{time.monotonic_ns()}")
                await desk.send_once()

            assert (len(one.calls), len(other.calls)) == (2, 2)
            assert await desk.is_settled()

    async def test_one_that_is_down_does_not_stop_the_other(self, desk: Delivery, hellowork: Emulator) -> None:
        async with Emulator() as gone:
            pass
        await desk.queue(gone.url, *(f"gone-{number}" for number in range(40)))
        await desk.queue(hellowork.url, *(f"here-{number}" for number in range(40)))

        async with desk.sending(concurrency=4):
            await hellowork.wait_for_calls(40, timeout=60)

        assert len(await desk.store.report.entries("pending", None, 100)) == 40

    async def test_one_that_refuses_us_does_not_stop_the_other(self, desk: Delivery, hellowork: Emulator) -> None:
        async with Emulator(EmulatorOptions(required_headers={"X-Api-Key": "another"})) as strict:
            await desk.queue(strict.url, *(f"strict-{number}" for number in range(10)))
            await desk.queue(hellowork.url, *(f"here-{number}" for number in range(10)))
            async with desk.sending(concurrency=2):
                await hellowork.wait_for_calls(10, timeout=60)

            assert (await desk.health(strict.url)).mode == "paused"
            assert (await desk.health(hellowork.url)).mode == "healthy"

    @pytest.mark.parametrize("concurrency", [1, 2, 4])
    @pytest.mark.parametrize("slow_is_listed_first", [True, False])
    async def test_one_that_is_slow_leaves_the_other_its_share(
        self, desk: Delivery, concurrency: int, *, slow_is_listed_first: bool
    ) -> None:
        async with Emulator() as one, Emulator() as other:
            slow, quick = sorted((one, other), key=lambda each: each.url, reverse=not slow_is_listed_first)
            slow.inject(Delay(seconds=0.1, times=None))
            await desk.queue(slow.url, *(f"slow-{number}" for number in range(40)))
            await desk.queue(quick.url, *(f"quick-{number}" for number in range(5)))
            async with desk.sending(concurrency=concurrency):
                await quick.wait_for_calls(5, timeout=60)

            # Turn by turn at worst: a slow call for each quick one, and those that began before.
            assert len(slow.calls) <= 5 + concurrency

    async def test_one_with_a_backlog_does_not_hide_what_comes_to_the_other(self, desk: Delivery) -> None:
        async with Emulator(EmulatorOptions(latency=0.02)) as busy, Emulator() as other:
            await desk.queue(busy.url, *(f"busy-{number}" for number in range(500)))
            async with desk.sending(concurrency=2):
                await busy.wait_for_calls(1, timeout=60)
                await desk.queue(other.url, "other")
                await other.wait_for_calls(1, timeout=60)
                assert len(busy.calls) < 400

    async def test_one_gets_all_that_the_other_does_not_need(self, desk: Delivery) -> None:
        options = EmulatorOptions(latency=0.1)
        async with Emulator(options) as one, Emulator(options) as other:
            await desk.queue(one.url, "one")
            await desk.queue(other.url, *(f"other-{number}" for number in range(24)))
            async with desk.sending(concurrency=8):
                await eventually(desk.is_settled, "everything is acknowledged")

        assert desk.caller.most == 8


async def test_the_longest_due_goes_first(desk: Delivery, hellowork: Emulator) -> None:
    for number in range(5):
        await desk.queue(hellowork.url, f"a{number}")
        await asyncio.sleep(0.002)

    await desk.send_once(concurrency=1)

    assert [call.application_id for call in hellowork.calls] == [f"a{number}" for number in range(5)]
