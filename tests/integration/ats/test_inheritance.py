"""A table from which others inherit: their rows are its rows, but its triggers are not theirs."""

import pytest
from support.applications import delete, insert, update
from support.rig import OpenRig
from support.sessions import Ats, run

HEIR = [{"table": "public.archived", "key": ["id"]}]
INSERT = """
INSERT INTO public.archived (id, hellowork_id, status, job_id, created_at) VALUES (7, 'a7', 'new', 'J1', now())
"""


@pytest.fixture
def heir(ats: Ats) -> Ats:
    run(ats, "CREATE TABLE public.archived (PRIMARY KEY (id)) INHERITS (public.applications)")
    run(ats, INSERT)
    return ats


async def test_with_triggers_of_its_own_nothing_is_left_to_sweeps(heir: Ats, open_rig: OpenRig) -> None:
    insert(heir, 1, "a1")
    async with open_rig(related=HEIR) as watch:
        assert watch.trigger_problems == ()
        await watch.adopt()
        update(heir, 1, 7, status="hired")
        await watch.drain.catch_up()
        assert await watch.deliver() == [("a1", "hired", "J1"), ("a7", "hired", "J1")]

        run(heir, "WITH old AS (DELETE FROM ONLY applications RETURNING *) INSERT INTO archived SELECT * FROM old")
        await watch.drain.catch_up()
        delete(heir, 7)
        await watch.drain.catch_up()
        await watch.pass_grace()
        assert await watch.deliver() == [("a7", "deleted", "J1")], "a row that was moved to it is no deletion"
        assert (await watch.sweep()).repaired == {}

        run(heir, "TRUNCATE public.archived")
        await watch.drain.catch_up()
        assert watch.sweeps_wanted == 1
