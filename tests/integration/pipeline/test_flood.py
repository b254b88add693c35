"""While the ATS works flat out, the drain leaves the database to it; and never forgets anything over that."""

import asyncio
import time

import pytest
from support.applications import insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats, one, run

from cdc_sync.core import flood
from cdc_sync.pipeline import drain as drain_module
from cdc_sync.pipeline.doorbell import Doorbell
from cdc_sync.pipeline.drain import Drain
from cdc_sync.source.bell import Bell

IDS = 50_000
"""So many that they are a flood over half a minute too, on whatever machine."""


def write_flat_out(ats: Ats) -> None:
    """What the ids tell of many transactions: each subtransaction that writes takes one."""
    ats.execute("CREATE TEMP TABLE IF NOT EXISTS written (n int)")
    run(
        ats,
        "DO $$BEGIN FOR n IN 1..{ids} LOOP"
        " BEGIN INSERT INTO written VALUES (n); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END$$",
        ids=str(IDS),
    )


async def in_a_flood(rig: Rig, ats: Ats) -> None:
    await rig.adopt()
    await rig.drain.step()
    for _ in range(2):
        write_flat_out(ats)
        await asyncio.sleep(flood.WINDOW)
        await rig.drain.step()
    write_flat_out(ats)


async def test_it_stands_back_until_the_flood_is_over(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await in_a_flood(rig, ats)
        update(ats, 1, status="hired")

        await rig.drain.step()

        assert rig.drain.breath > 0
        assert [entry.application_id for entry in await rig.entries()] == ["a1"], "what was read is recorded first"
        # Two windows, unless tests beside this one write as fast to the same server for a moment.
        for _ in range(50):
            await asyncio.sleep(flood.WINDOW)
            await rig.drain.step()
            if rig.drain.breath == 0:
                break
        assert rig.drain.breath == 0


async def test_the_ats_has_the_database_to_itself_between_batches(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "BATCH", 1)
    for number in (1, 2, 3):
        insert(ats, number, f"a{number}")
    async with open_rig() as rig:
        await in_a_flood(rig, ats)
        doorbell = Doorbell(rig.drain, Bell(rig.connected.pool, WATCH), 60.0, time.monotonic)
        update(ats, 1, 2, 3, status="hired")

        wait = await doorbell.turn()

        assert wait == rig.drain.breath > 0
        assert not doorbell.is_asleep
        assert len(await rig.entries()) == 1
        await rig.drain.catch_up()
        assert len(await rig.entries()) == 3, "who asks for all of it gets all of it"


async def test_it_rests_no_longer_than_the_flood_lasts(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await in_a_flood(rig, ats)
        await rig.drain.step()
        rig.drain.breath = long = 100 * flood.WINDOW
        begun = time.monotonic()

        await rig.drain.rest(long)

        # Two windows, and some more where tests beside this one write to the same server.
        assert time.monotonic() - begun < long / 2
        begun = time.monotonic()
        rig.drain.breath = 0.0
        await rig.drain.rest(3 * flood.WINDOW)
        assert time.monotonic() - begun >= 3 * flood.WINDOW, "what is no standing back is slept through"


async def test_a_log_that_nears_its_limit_is_emptied_at_full_speed(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        update(ats, 1, status="hired")
        limit = one(ats, "SELECT 4 * pg_relation_size('cdc_sync.changes')")
        rig.drain = Drain(rig.intake, rig.connected.log, rig.want_sweep, limit)
        await in_a_flood(rig, ats)

        await rig.drain.step()

        assert limit > 0
        assert rig.drain.breath == 0
