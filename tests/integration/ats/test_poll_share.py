"""Polls that take long come seldom: a forgotten transaction holds the fence, and each reads all that changed since."""

import asyncio
import time

import pytest
from support.applications import insert, update
from support.eventually import eventually
from support.rig import OpenRig
from support.sessions import Ats

from cdc_sync.ats.poll import LONGEST_PAUSE, pause
from cdc_sync.core.events import CaughtUp

_SLOW = """
CREATE FUNCTION public.drag(status text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.02);
    RETURN status;
END $$
"""


@pytest.mark.parametrize(
    ("every", "took", "expected"), [(2, 0.01, 2), (2, 1, 9), (0.5, 3600, LONGEST_PAUSE), (300, 3600, 300)]
)
def test_a_pause_is_nine_times_as_long_within_limits(every: float, took: float, expected: float) -> None:
    assert pause(every, took) == expected


async def test_while_a_transaction_holds_the_fence(ats: Ats, other: Ats, open_rig: OpenRig) -> None:
    ats.execute(_SLOW)
    insert(ats, 0, "a0")
    capture = {"mode": "poll", "watermark": "updated_at", "lookback": "0s", "poll_interval": "10ms"}
    status = {"sql": "public.drag(t.status)", "depends_on": ["status"]}
    async with open_rig(install=False, capture=capture, columns={"status": status}) as rig:
        poll = await rig.poll()
        with other.transaction():
            update(other, 0, status="forgotten")
            for number in range(1, 11):
                insert(ats, number, f"a{number}")
            before = len(rig.heard(CaughtUp))
            polling = asyncio.create_task(poll.run())
            await eventually(lambda: len(rig.heard(CaughtUp)) > before, "the first poll")
            first = time.monotonic()
            await eventually(lambda: len(rig.heard(CaughtUp)) > before + 1, "the second one")
            waited = time.monotonic() - first
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    # Each reads ten rows, in a fifth of a second and more.
    assert waited > 1
