"""An application is its id, not its row: rows come, go, double and change their ids."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import OpenRig, Rig
from support.sessions import Ats
from support.store_steps import events_of, known_one

from cdc_sync.ats.database import Steps
from cdc_sync.ats.intake import Intake
from cdc_sync.core.batch import Applied, Calls
from cdc_sync.core.events import Decided
from cdc_sync.core.outbox import Applying


async def settled(rig: Rig) -> None:
    """Whatever is repeated now changes nothing, is said to nobody and is no repair."""
    said = len(rig.heard(Decided))
    for _ in range(3):
        assert (await rig.sweep()).repaired == {}
        await rig.pass_grace()
    assert await rig.deliver() == []
    assert len(rig.heard(Decided)) == said


class TestMove:
    """A candidate goes to another job: the row is deleted, and another inserted."""

    async def test_in_one_transaction(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", "interview")
        async with open_rig() as rig:
            await rig.adopt()
            with ats.transaction():
                delete(ats, 1)
                insert(ats, 2, "a1", "interview", job_id="J2")

            await rig.drain.catch_up()

            assert await rig.deliver() == [("a1", "interview", "J2")]
            assert (await known_one(rig.store)).key == ("2",)
            await settled(rig)
            assert "suspected" not in await events_of(rig.store)

    async def test_in_two_transactions_within_the_grace(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            delete(ats, 1)
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            insert(ats, 2, "a1", job_id="J2")
            await rig.drain.catch_up()

            assert await rig.deliver() == [("a1", "applied", "J2")]
            assert await rig.pass_grace() == 1
            await settled(rig)

    async def test_of_two_applications_that_swap_rows(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", job_id="J1")
        insert(ats, 2, "a2", job_id="J2")
        async with open_rig() as rig:
            await rig.adopt()
            ats.execute("UPDATE public.applications SET hellowork_id = CASE id WHEN 1 THEN 'a2' ELSE 'a1' END")
            await rig.drain.catch_up()

            assert await rig.deliver() == [("a1", "applied", "J2"), ("a2", "applied", "J1")]
            await settled(rig)


class TestDuplicates:
    """Several rows with one id: one of them speaks, and always the same one."""

    async def test_of_live_rows_the_one_created_last_speaks(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", job_id="newer", created_at="2024-02-01")
        insert(ats, 2, "a1", job_id="older", created_at="2024-01-01")
        async with open_rig() as rig:
            await rig.adopt()
            assert await rig.told("a1") == {"a1": ("applied", "newer")}
            await settled(rig)

            update(ats, 2, status="edited")
            await rig.drain.catch_up()
            assert await rig.deliver() == []
            delete(ats, 1)
            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "edited", "older")]
            await settled(rig)

    async def test_equal_ones_do_not_flicker(self, ats: Ats, open_rig: OpenRig) -> None:
        for number in (1, 2):
            insert(ats, number, "a1", job_id=f"J{number}", created_at="2024-01-01")
        async with open_rig() as rig:
            await rig.adopt()
            assert await rig.told("a1") == {"a1": ("applied", "J2")}
            for number in (1, 2):
                ats.execute("UPDATE public.applications SET deleted_at = NULL, notes = 'x' WHERE id = %s", [number])
                await rig.intake.keys({(str(number),): 0}, "notify")

            assert await rig.deliver() == []
            await settled(rig)

    async def test_the_last_of_them_to_go_takes_the_application_along(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1", created_at="2024-01-01")
        insert(ats, 2, "a1", created_at="2024-01-02")
        async with open_rig() as rig:
            await rig.adopt()
            for number in (2, 1):
                assert await rig.deliver() == []
                delete(ats, number)
                await rig.drain.catch_up()
                await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]
            await settled(rig)


class TestIds:
    async def test_a_row_whose_key_changes_is_the_same_application(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            ats.execute("UPDATE public.applications SET id = 77")
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []
            assert (await known_one(rig.store)).key == ("77",)
            await settled(rig)

    async def test_a_row_that_gets_another_id_leaves_one_application_and_begins_another(
        self, ats: Ats, open_rig: OpenRig
    ) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, hellowork_id="a2")
            await rig.drain.catch_up()
            assert await rig.deliver() == [("a2", "applied", "J1")]
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1")]
            await settled(rig)

    @pytest.mark.parametrize("id_", [None, ".."])
    async def test_a_row_that_loses_its_id_is_no_deletion(self, ats: Ats, open_rig: OpenRig, id_: str | None) -> None:
        insert(ats, 1, "a1")
        async with open_rig() as rig:
            await rig.adopt()
            update(ats, 1, hellowork_id=id_)
            await rig.drain.catch_up()
            await rig.pass_grace()

            assert await rig.deliver() == []
            await settled(rig)


# Deletions are believed after their grace, and after a fresh read that agrees.


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


# An edit of `key` to other columns: no row has the keys of before that the store and the change log hold.


KEY = ["id", "hellowork_id"]


async def test_changes_that_were_recorded_before_it_are_found_by_the_sweep(ats: Ats, open_rig: OpenRig) -> None:
    for number in (1, 2):
        insert(ats, number, f"a{number}")
    async with open_rig() as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        delete(ats, 2)
    async with open_rig(install=False, key=KEY) as rig:
        await rig.adopt()
        await rig.drain.catch_up()
        await rig.sweep()
        await rig.pass_grace()

        assert await rig.deliver() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]


# Each step of capture is one apply, beside which no call of its applications begins.


class Deliveries(Calls):
    """A sender of which only its part in an apply is there."""

    def __init__(self) -> None:
        self.begun: list[Applying] = []
        self.ended: list[tuple[Applying, Applied | None]] = []

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        assert watch == WATCH
        applying = Applying(watch, application_ids)
        self.begun.append(applying)
        return applying

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        self.ended.append((applying, applied))

    @property
    def of(self) -> list[list[str]]:
        """The applications of each apply that has ended."""
        assert self.begun == [applying for applying, _ in self.ended]
        return [sorted(applying.application_ids) for applying in self.begun]


def intake_of(rig: Rig, deliveries: Deliveries) -> Intake:
    return Intake(replace(rig.intake.parts, calls=deliveries), rig.intake.sessions, rig.intake.reader.mapping)


async def test_what_all_rows_together_tell_is_a_second_one(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig() as rig:
        await rig.adopt()
        delete(ats, 1)
        insert(ats, 3, "a1", job_id="J2")
        update(ats, 2, status="hired")
        deliveries = Deliveries()

        results = await intake_of(rig, deliveries).keys({("1",): 0, ("2",): 0, ("3",): 0}, "notify")

        assert deliveries.of == [["a1", "a2"], ["a1"]]
        assert [result.application_id for result in results] == ["a2", "a1"]
        assert await rig.deliver() == [("a1", "applied", "J2"), ("a2", "hired", "J1")]
