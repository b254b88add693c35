"""Deletions are believed after their grace, and after a fresh read that agrees."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.eventually import eventually
from support.rig import OpenRig, rig
from support.sessions import Ats
from support.watched import a_config

from cdc_sync.ats.database import Steps


class TestHard:
    async def test_is_told_with_the_last_known_job(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", "interview", job_id="J7")
        async with open_rig() as rig:
            await rig.adopt()
            delete(ats, 1)
            await rig.drain.catch_up()
            assert await rig.deletions.confirm_due() == 0, "not before the grace is over"
            assert await rig.deliver() == []

            assert await rig.pass_grace() == 1

            (entry,) = await rig.entries()
            assert entry.kinds == {"deleted", "status"}
            assert await rig.deliver() == [("a1", "deleted", "J7")]
            assert await rig.pass_grace() == 0

    async def test_goes_where_base_url_is_now(self, ats: Ats, database: str, tmp_path: Path, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as before:
            await before.adopt()
        config = a_config(database)
        moved = config.hellowork.model_copy(update={"base_url": "https://moved.example"})

        async with rig(config.model_copy(update={"hellowork": moved}), tmp_path) as after:
            delete(ats, 1)
            await after.drain.catch_up()
            await after.pass_grace()

            (entry,) = await after.entries()
            assert (entry.state, entry.content.url) == ("pending", "https://moved.example/v1/applications/a1/status")

    async def test_survives_a_restart_and_is_confirmed_in_batches(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        insert(ats, 2, "a2")
        async with open_rig() as rig:
            await rig.adopt()
            delete(ats, 1, 2)
            await rig.drain.catch_up()

        async with open_rig(steps=Steps(confirmed=1)) as rig:
            assert await rig.pass_grace() == 2
            assert await rig.deliver() == [("a1", "deleted", "J1"), ("a2", "deleted", "J1")]


class TestSoft:
    @pytest.mark.parametrize("column", ["deleted_at", "gone"])
    async def test_waits_for_its_grace(self, ats: Ats, open_rig: OpenRig, column: str) -> None:
        ats.execute("ALTER TABLE public.applications ADD gone boolean")
        insert(ats, 1, "a1")
        async with open_rig(columns={"deleted": column}) as rig:
            await rig.adopt()
            gone: dict[str, Any] = {column: True if column == "gone" else "2024-01-01"}
            update(ats, 1, **gone)
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]
            assert (await rig.sweep()).repaired == {}


class TestScope:
    async def test_a_row_that_leaves_where_is_no_deletion(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}) as rig:
            await rig.adopt()
            update(ats, 1, notes="test")
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert await rig.deliver() == []
            assert (await rig.sweep()).repaired == {}

            update(ats, 1, status="hired")
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            update(ats, 1, notes=None)
            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "hired", "J1")]

    async def test_a_row_that_loses_its_id_is_no_deletion(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, hellowork_id=None)
            await rig.drain.catch_up()

            assert await rig.pass_grace() == 1

            assert await rig.deliver() == []


class TestLoop:
    async def test_notices_that_the_clock_was_set_forward(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert(ats, 1, "a1")
        async with open_rig(deletion_grace="1h") as rig:
            await rig.adopt()
            delete(ats, 1)
            await rig.drain.catch_up()
            deletions, confirm_due = rig.deletions, rig.deletions.confirm_due

            async def confirm_due_before_the_clock_goes_forward() -> int:
                answered = await confirm_due()
                rig.clock.forward(3_600_001)
                return answered

            monkeypatch.setattr(deletions, "confirm_due", confirm_due_before_the_clock_goes_forward)
            task = asyncio.create_task(deletions.confirm())

            await eventually(rig.entries, "the entry")

            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
