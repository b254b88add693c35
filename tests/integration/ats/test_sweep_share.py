"""A sweep never takes more than a tenth of the time, however short its interval and however often it is interrupted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from support.eventually import eventually
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.ats.database import SWEEPS_AT_ONCE, Steps
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.reading import Digests
from cdc_sync.ats.triggers import Installation
from cdc_sync.core.events import SweepDone
from cdc_sync.core.rows import Key
from cdc_sync.daemon.watching import WatchWorker

PAGES = 60
NEARLY = 0.9
"""Clocks are read at slightly different moments."""


@pytest.fixture
def steps() -> Steps:
    return Steps(compared=10)


class Paged:
    """When pages were asked for, and given; the one after number `last` never comes."""

    def __init__(self, rig: Rig, patched: pytest.MonkeyPatch, last: int = -1) -> None:
        self.asked: list[float] = []
        self.given: list[float] = []
        digests, clock = rig.intake.reader.digests, asyncio.get_running_loop().time

        async def timed(after: Key | None, size: int, shape: str) -> Digests | None:
            self.asked.append(clock())
            if len(self.asked) == last + 1:
                await asyncio.Event().wait()
            found = await digests(after, size, shape)
            self.given.append(clock())
            return found

        patched.setattr(rig.intake.reader, "digests", timed)


@asynccontextmanager
async def sweeping(worker: WatchWorker, rig: Rig) -> AsyncIterator[None]:
    """The worker's sweeps, as long as it is connected."""
    task = asyncio.create_task(worker._sweeps(NotifyCapture(rig.intake, Installation((), has_log=False))))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def filled(ats: Ats) -> None:
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
        " SELECT n, 'a' || n, 's', 'j', now() FROM generate_series(1, %s) n",
        [PAGES * 10 - 1],
    )


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("wanted", [False, True])
async def test_between_sweeps(
    open_rig: OpenRig,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async with open_rig(install=False, capture={"sweep": "1h" if wanted else "1ms"}) as rig:
        await rig.adopt()
        paged = Paged(rig, monkeypatch)
        worker = WatchWorker(rig.intake.parts)
        async with sweeping(worker, rig):
            await eventually(lambda: rig.heard(SweepDone), "a sweep")
            if wanted:
                worker.want_sweep()
            await eventually(lambda: len(paged.asked) > PAGES, "the next one's first page")

        took = paged.given[PAGES - 1] - paged.asked[0]
        assert paged.asked[PAGES] - paged.asked[0] >= 10 * took * NEARLY


async def test_of_one_database_few_watches_sweep_at_once(open_rig: OpenRig) -> None:
    async with open_rig(install=False, capture={"sweep": "1h"}) as rig:
        await rig.adopt()
        turns = rig.intake.parts.database.sweeping
        for _ in range(SWEEPS_AT_ONCE):
            await turns.acquire()
        async with sweeping(WatchWorker(rig.intake.parts), rig):
            await asyncio.sleep(0.2)
            assert not rig.heard(SweepDone)

            turns.release()

            await eventually(lambda: rig.heard(SweepDone), "a sweep")
        assert not turns.locked(), "whoever is interrupted gives its turn back"
