"""Walking a table takes as much memory for many rows as for few: a page, and a bit for each record."""

import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

from support.rig import Nothing, rig
from support.sessions import Ats
from support.watched import a_config

from cdc_sync.ats.database import Steps

FEW = 3_000
MANY = 20_000
TOLERATED = (MANY - FEW) * 20
"""Bytes of growth. A row's key alone, kept, is more than a hundred.

One page is read while another is applied, and the threads decide how far the two overlap: a baseline's peaks over few
and many rows have differed by 225 kB for that alone. What is tolerated is half as much again.
"""

SMALL = Steps(adopted=500, compared=500, searched=500)
"""Small pages."""


async def test_it_is_flat(database: str, ats: Ats, tmp_path: Path) -> None:
    few = await peaks(database, ats, tmp_path / "few", FEW)
    many = await peaks(database, ats, tmp_path / "many", MANY)

    growth = {walk: many[walk] - few[walk] for walk in few}
    assert all(more < TOLERATED for more in growth.values()), growth


async def peaks(database: str, ats: Ats, folder: Path, number: int) -> dict[str, int]:
    """The most that the baseline and a sweep over so many rows allocate, in bytes."""
    ats.execute("TRUNCATE public.applications")
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
        " SELECT n, 'a' || n, 's', 'j', now() FROM generate_series(1, %s) n",
        [number],
    )
    folder.mkdir()
    async with rig(a_config(database), folder, SMALL) as walking:
        baseline = await peak_of(walking.adopt)
        # In each page one row differs, and one is gone.
        ats.execute("UPDATE public.applications SET status = 't' WHERE id %% 500 = 7", [])
        ats.execute("DELETE FROM public.applications WHERE id %% 500 = 8", [])
        sweep = await peak_of(lambda: walking.sweep(Nothing()))
        assert (await walking.store.operation.repairs())["applications"] == {
            "status": number // 500,
            "gone": number // 500,
        }
    return {"baseline": baseline, "sweep": sweep}


async def peak_of(work: Callable[[], Awaitable[object]]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        await work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
