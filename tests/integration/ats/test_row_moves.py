"""An application is its id, not its row: rows come, go, double and change their ids."""

import pytest
from support.applications import delete, insert, update
from support.rig import OpenRig, Rig
from support.sessions import Ats
from support.store_steps import events_of, known_one

from cdc_sync.core.events import Decided


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
