"""Deletions are believed after their grace, and after a fresh read that agrees."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import Nothing, OpenRig, Rig, rig
from support.sessions import Ats
from support.store_steps import events_of
from support.watched import a_config, uninstall_triggers

from cdc_sync.ats.database import Elsewhere, Steps, UnreadElsewhereError
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.core.batch import ASKED_AGAIN_AFTER


class UnreadableOthers(OtherWatches):
    """Another watch's table, of a database that does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def with_live_row(self, _: str, __: Collection[str]) -> Elsewhere:
        self.asked += 1
        raise UnreadElsewhereError("no connection")


async def test_deletions_wait_while_another_watchs_table_cannot_be_read(ats: Ats, open_rig: OpenRig) -> None:
    for key in (1, 2, 3):
        insert(ats, key, f"a{key}")
    async with open_rig(steps=Steps(confirmed=1)) as rig:
        await rig.adopt()
        others = UnreadableOthers()
        rig.deletions.parts = replace(rig.intake.parts, others=others)
        for key in (1, 2, 3):
            delete(ats, key)
        await rig.drain.catch_up()

        assert await rig.pass_grace() == 3
        assert others.asked == 3
        assert await rig.deletions.confirm_due() == 0

        rig.clock.forward(ASKED_AGAIN_AFTER + 1000)
        await rig.deletions.confirm_due()
        assert others.asked == 6
        assert await rig.entries() == []


class SlowOthers(UnreadableOthers):
    """One that takes as long as a suspicion waits until it is asked again."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.rig = rig

    async def with_live_row(self, watch: str, ids: Collection[str]) -> Elsewhere:
        self.rig.clock.forward(ASKED_AGAIN_AFTER + 1)
        return await super().with_live_row(watch, ids)


async def test_a_round_ends_though_another_watchs_table_keeps_it_long(ats: Ats, open_rig: OpenRig) -> None:
    for key in (1, 2, 3):
        insert(ats, key, f"a{key}")
    async with open_rig(steps=Steps(confirmed=1)) as rig:
        await rig.adopt()
        others = SlowOthers(rig)
        rig.deletions.parts = replace(rig.intake.parts, others=others)
        for key in (1, 2, 3):
            delete(ats, key)
        await rig.drain.catch_up()

        async with asyncio.timeout(20):
            assert await rig.pass_grace() == 3

        assert others.asked == 3


async def test_nothing_is_asked_of_a_table_for_no_application(open_rig: OpenRig) -> None:
    """Of suspicions without a record, for instance rows that were marked as deleted from the beginning."""
    async with open_rig() as rig:
        assert (await rig.intake.reader.by_application([])).rows == []


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

    async def test_of_one_that_was_never_told_is_none(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1")
            delete(ats, 1)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []
            assert await events_of(rig.store) == []

    async def test_replaces_what_waits(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, status="hired")
            await rig.drain.catch_up()
            delete(ats, 1)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]

    async def test_survives_a_restart(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            delete(ats, 1)
            await rig.drain.catch_up()

        async with open_rig() as rig:
            assert await rig.pass_grace() == 1
            assert await rig.deliver() == [("a1", "deleted", "J1")]

    async def test_is_told_at_the_time_at_which_the_row_went(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            before = rig.clock()
            delete(ats, 1)
            await rig.drain.catch_up()
            after = rig.clock()
            await rig.pass_grace()

            (entry,) = await rig.entries()
            assert before - 1000 <= entry.content.event_date <= after + 1000

    @pytest.mark.parametrize(
        "harm",
        [
            "ALTER TABLE public.applications RENAME TO elsewhere",
            "DROP TABLE public.applications",
            "ALTER TABLE public.applications DROP COLUMN hellowork_id",
        ],
    )
    async def test_a_read_that_fails_is_none(self, ats: Ats, open_rig: OpenRig, harm: str) -> None:
        insert(ats, 1, "a1")
        insert(ats, 2, "a2")
        async with open_rig() as rig:
            await rig.adopt()
            delete(ats, 1)
            await rig.drain.catch_up()
            uninstall_triggers(ats)
            ats.execute(harm.encode())

            with pytest.raises(SourceError):
                await rig.pass_grace()
            with pytest.raises(SourceError):
                await rig.sweep(Nothing())

            assert await rig.entries() == []
            assert (await rig.store.report.counts())[WATCH].suspected == 1

    async def test_many_at_once_are_confirmed_in_batches(self, ats: Ats, open_rig: OpenRig) -> None:
        ats.execute(
            "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
            " SELECT n, 'a' || n, 's', 'j', now() FROM generate_series(1, 1200) n"
        )
        async with open_rig(fuse={"max_deletions": 10_000, "max_changes": 10_000}) as rig:
            await rig.adopt()
            ats.execute("DELETE FROM public.applications")
            await rig.drain.catch_up()

            assert await rig.pass_grace() == 1200
            assert len(await rig.deliver()) == 1200


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

    async def test_undone_within_the_grace_is_no_call(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, deleted_at="2024-01-01")
            await rig.drain.catch_up()
            update(ats, 1, deleted_at=None)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []

    async def test_undone_afterwards_is_told(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", "interview")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, deleted_at="2024-01-01")
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert await rig.deliver() == [("a1", "deleted", "J1")]
            update(ats, 1, deleted_at=None)
            await rig.drain.catch_up()

            assert await rig.deliver() == [("a1", "interview", "J1")]

    async def test_followed_by_a_hard_one_is_one_deletion(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, deleted_at="2024-01-01")
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert len(await rig.deliver()) == 1
            delete(ats, 1)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []
            assert (await rig.sweep()).repaired == {}

    async def test_with_another_change_at_once_is_only_a_deletion(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, deleted_at="2024-01-01", status="archived", job_id="J2")
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J2")]

    async def test_a_change_of_a_deleted_row_is_told_as_what_it_is(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", deleted_at="2024-01-01")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, status="archived")
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert await rig.deliver() == []

            update(ats, 1, job_id="J2")
            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "deleted", "J2")]

    async def test_of_a_row_that_is_new_waits_too(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await rig.adopt()
            insert(ats, 1, "a1", deleted_at="2024-01-01")
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]


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

    async def test_a_row_that_goes_while_out_of_scope_is_none_either(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}) as rig:
            await rig.adopt()
            update(ats, 1, notes="test")
            await rig.drain.catch_up()
            delete(ats, 1)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []
            assert (await rig.sweep()).repaired == {}

    async def test_a_row_that_leaves_scope_and_goes_before_anybody_looks(self, ats: Ats, open_rig: OpenRig) -> None:
        """It cannot be known that it had left: its row is gone, as that of any other deletion."""
        insert(ats, 1, "a1")
        async with open_rig(where={"sql": "t.notes IS NULL", "depends_on": ["notes"]}) as rig:
            await rig.adopt()
            update(ats, 1, notes="test")
            delete(ats, 1)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]


class TestLoop:
    async def test_answers_when_the_grace_is_over_and_not_before(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig(deletion_grace="300ms") as rig:
            await rig.adopt()
            task = asyncio.create_task(rig.deletions.confirm())
            delete(ats, 1)
            await rig.drain.catch_up()
            suspected_at = rig.clock()

            await eventually(rig.entries, "the entry")

            assert rig.clock() - suspected_at >= 250
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

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
