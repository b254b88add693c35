"""A table that logical replication feeds, or that is written with `session_replication_role = replica`.

Ordinary triggers do not fire for such changes; those that are enabled ALWAYS do (`capture.replicated`).
"""

from collections.abc import Iterator

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.postgres import Cluster
from support.replication import publisher_of
from support.rig import OpenRig
from support.sessions import Ats, one, run
from support.versions import major

from cdc_sync.ats.lookout import Bell


class TestFedByLogicalReplication:
    @pytest.fixture
    def publisher(self, cluster: Cluster, ats: Ats) -> Iterator[Ats]:
        with publisher_of(cluster, ats) as publisher:
            yield publisher

    async def test_every_change_is_captured(self, ats: Ats, publisher: Ats, open_rig: OpenRig) -> None:
        async with open_rig(capture={"replicated": True}) as watch:
            assert watch.trigger_problems == ()
            await watch.adopt()
            bell = Bell(watch.intake.sessions.pool)
            await bell.follow()
            await watch.intake.sessions.lasting.listen(WATCH, watch.drain.rung.set, lambda _: None)
            watch.drain.rung.clear()

            insert(publisher, 1, "a1")
            insert(publisher, 2, "a2")
            if major(publisher) >= 11:  # 10 does not deliver what a worker of replication notifies
                await eventually(watch.drain.rung.is_set, "what replication brings rings the bell")
            await eventually(lambda: one(ats, COUNT) == 2, "both rows are here")
            await watch.drain.catch_up()
            assert await watch.deliver() == [("a1", "applied", "J1"), ("a2", "applied", "J1")]

            update(publisher, 1, status="hired")
            delete(publisher, 2)
            await eventually(lambda: one(ats, COUNT) == 1, "the deletion is here")
            await watch.drain.catch_up()
            await watch.pass_grace()
            assert await watch.deliver() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]

            run(publisher, "TRUNCATE public.applications")
            if major(publisher) >= 11:  # 10 does not replicate it
                await eventually(lambda: one(ats, COUNT) == 0, "it is empty here, too")
                await watch.drain.catch_up()
                assert watch.sweeps_wanted == 1

    async def test_sweeps_find_what_ordinary_triggers_do_not_see(
        self, ats: Ats, publisher: Ats, open_rig: OpenRig
    ) -> None:
        async with open_rig() as watch:
            (problem,) = watch.trigger_problems
            assert problem.startswith("public.applications is fed by logical replication")
            assert problem.endswith("set capture.replicated: true")
            await watch.adopt()
            insert(publisher, 1, "a1")
            await eventually(lambda: one(ats, COUNT) == 1, "the row is here")
            await watch.drain.catch_up()
            assert await watch.deliver() == []

            await watch.sweep()

            assert await watch.deliver() == [("a1", "applied", "J1")]


COUNT = "SELECT count(*) FROM public.applications"
