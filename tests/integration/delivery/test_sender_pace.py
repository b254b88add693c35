"""The rate limit: calls are spaced evenly, whatever the concurrency."""

import math

import pytest
from support.emulated import Emulator
from support.eventually import eventually
from support.sending import Delivery

from cdc_sync.delivery.endpoints import Pace

RATE = 25.0
COUNT = 20


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_no_more_calls_than_allowed_and_not_many_fewer(
    desk: Delivery, hellowork: Emulator, concurrency: int
) -> None:
    await desk.queue(hellowork.url, *(f"a{number}" for number in range(COUNT)))

    async with desk.sending(concurrency=concurrency, rate=RATE):
        await eventually(desk.is_settled, "everything is acknowledged")

    assert len(hellowork.calls) == COUNT
    took = hellowork.calls[-1].received - hellowork.calls[0].received
    even = (COUNT - 1) / RATE
    # The first may arrive late; without a rate, all would arrive at once.
    assert 0.5 * even < took < 5 * even


async def test_each_endpoint_has_its_own(desk: Delivery) -> None:
    async with Emulator() as one, Emulator() as other:
        for number in range(5):
            await desk.queue(one.url, f"one-{number}")
            await desk.queue(other.url, f"other-{number}")
        async with desk.sending(rate=2.5):
            await eventually(desk.is_settled, "everything is acknowledged")

        # Each takes 1.6 s, and one rate for both would take 3.6 s.
        first = min(calls[0].received for calls in (one.calls, other.calls))
        last = max(calls[-1].received for calls in (one.calls, other.calls))
        assert last - first < 3.2


class TestPace:
    def test_one_call_then_the_next_one_in_its_time(self) -> None:
        pace = Pace()
        assert pace.wait(1000.0) == 0.0
        pace.take(1000.0, 4.0)

        assert math.isclose(pace.wait(1000.2), 0.05)
        assert pace.wait(1000.25) == 0.0

    def test_nothing_is_saved_up(self) -> None:
        pace = Pace()
        pace.take(1000.0, 4.0)

        pace.take(2000.0, 4.0)

        assert math.isclose(pace.wait(2000.0), 0.25)

    def test_a_call_that_is_much_too_late_makes_the_next_one_no_earlier(self) -> None:
        pace = Pace()
        pace.take(1000.0, 1.0)

        pace.take(1001.9, 1.0)

        assert math.isclose(pace.wait(1001.9), 1.0)

    def test_late_calls_do_not_lower_the_rate(self) -> None:
        pace, now = Pace(), 1000.0
        for _ in range(100):
            assert pace.wait(now) == 0.0
            pace.take(now, 10.0)
            now += pace.wait(now) + 0.03

        assert now - 1000.0 < 100 / 10.0 + 0.2
