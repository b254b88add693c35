"""An edit of `key` to other columns: no row has the keys of before that the store and the change log hold."""

from support.applications import delete, insert, update
from support.rig import OpenRig
from support.sessions import Ats

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
