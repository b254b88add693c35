"""What a sweep finds because it was asked for was not missed; what is found by any other one was."""

import pytest
from support.applications import insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats, run

from cdc_sync.ats.database import Steps

LABEL = {"sql": "(SELECT s.label FROM public.stages s WHERE s.code = t.status)", "depends_on": ["status"]}
STAGED = {"columns": {"status": LABEL}, "related": [{"table": "public.stages", "key": []}]}


@pytest.fixture
def staged(ats: Ats) -> Ats:
    """Applications in stages with a label each: a1 to a9, in the stages 1 to 9."""
    ats.execute(
        "CREATE TABLE public.stages AS SELECT i::text AS code, 'stage ' || i AS label FROM generate_series(1, 9) i"
    )
    for number in range(1, 10):
        insert(ats, number, f"a{number}", str(number))
    return ats


def rename(ats: Ats, *stages: int) -> None:
    run(ats, "UPDATE public.stages SET label = label || '!' WHERE code::int = ANY (%s)", [list(stages)])


def change_unnoticed(ats: Ats, number: int) -> None:
    """Change a row behind the triggers."""
    ats.execute("SET session_replication_role = replica")
    update(ats, number, job_id="J2")
    ats.execute("RESET session_replication_role")


class Meanwhile:
    """A fast path before whose first turn something happens."""

    def __init__(self, rig: Rig, ats: Ats, *stages: int) -> None:
        self._rig = rig
        self._ats = ats
        self._stages = stages

    async def catch_up(self) -> None:
        """Rename stages, once, and catch up."""
        rename(self._ats, *self._stages)
        self._stages = ()
        await self._rig.drain.catch_up()


@pytest.fixture
def steps() -> Steps:
    """Small pages."""
    return Steps(compared=3)


async def test_only_the_sweep_that_was_asked_for_finds_what_it_was_asked_for(staged: Ats, open_rig: OpenRig) -> None:
    async with open_rig(**STAGED) as rig:
        await rig.adopt()
        change_unnoticed(staged, 1)
        assert (await rig.sweep()).repaired == {"job": 1}
        rename(staged, 2, 3)
        await rig.drain.catch_up()
        rename(staged, 4)
        await rig.drain.catch_up()
        assert (await rig.sweep()).repaired == {"asked_for": 3}
        change_unnoticed(staged, 5)
        assert (await rig.sweep()).repaired == {"job": 1}

        assert await rig.store.operation.repairs() == {WATCH: {"job": 2, "asked_for": 3}}


async def test_one_that_was_asked_for_while_another_was_under_way(staged: Ats, open_rig: OpenRig) -> None:
    """That one may meet what changed, or be past it: it finds a part, and the next one the rest."""
    async with open_rig(**STAGED) as rig:
        await rig.adopt()
        change_unnoticed(
            staged, 2
        )  # on the first page: the fast path takes its turn then, and the second is read ahead
        assert (await rig.sweep(Meanwhile(rig, staged, 1, 9))).repaired == {"asked_for": 2}
        assert (await rig.sweep()).repaired == {"asked_for": 1}
        change_unnoticed(staged, 6)
        assert (await rig.sweep()).repaired == {"job": 1}
