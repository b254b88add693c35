"""A row that row-level security hides never becomes a deletion by itself."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.applications import delete, insert, update
from support.eventually import eventually
from support.rig import Rig, rig
from support.roles import NewRole, dsn_of
from support.sessions import Ats, one, run
from support.watched import a_config, grant, install_triggers

from cdc_sync.core.events import RowsHidden, RowsVisible

HIDE_1 = """
CREATE POLICY not_1 ON public.applications USING (id <> 1);
ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY
"""
SHOW = "ALTER TABLE public.applications DISABLE ROW LEVEL SECURITY"
WAITING = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
 WHERE d.datname = current_database() AND NOT l.granted
"""

OpenDaemonsRig: TypeAlias = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def role(new_role: NewRole) -> str:
    """The daemon's, which owns nothing."""
    return new_role()


@pytest.fixture
def open_daemons_rig(database: str, ats: Ats, role: str, tmp_path: Path) -> OpenDaemonsRig:
    def open_daemons_rig(**watch: Any) -> AbstractAsyncContextManager[Rig]:
        config = a_config(dsn_of(database, role), **watch)
        install_triggers(ats, config)
        grant(ats, config, role)
        return rig(config, tmp_path)

    return open_daemons_rig


@pytest.mark.parametrize("columns", [{}, {"application_id": None, "status_url": "status_api_url"}], ids=["id", "url"])
async def test_a_policy_of_a_moment_ago(ats: Ats, open_daemons_rig: OpenDaemonsRig, columns: dict[str, Any]) -> None:
    for number in (1, 2):
        url = f"https://ats-partner.hellowork.com/v1/applications/a{number}/status"
        insert(ats, number, f"a{number}", status_api_url=url)
    async with open_daemons_rig(columns=columns) as watch:
        await watch.adopt()
        run(ats, HIDE_1)
        update(ats, 1, 2, status="hired")
        await watch.sweep()
        assert await watch.pass_grace() == 1

        assert await watch.deliver() == [("a2", "hired", "J1")], "what is seen goes on"
        (held,) = await watch.entries("held")
        assert (held.application_id, held.content.deleted) == ("a1", True)
        assert held.reason is not None
        assert "row-level security of public.applications may hide rows" in held.reason
        (said,) = watch.heard(RowsHidden)
        assert "CREATE POLICY" in said.message


async def test_what_is_seen_again_was_never_gone(ats: Ats, open_daemons_rig: OpenDaemonsRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_daemons_rig() as watch:
        await watch.adopt()
        await watch.look_closer()
        run(ats, HIDE_1)
        await watch.sweep()
        await watch.pass_grace()
        await watch.look_closer()
        await watch.look_closer()
        assert (len(await watch.entries("held")), watch.sweeps_wanted) == (1, 1), "of the new policy"

        run(ats, SHOW)
        await watch.look_closer()
        assert watch.sweeps_wanted == 2
        await watch.sweep()

        assert await watch.entries("held") == []
        assert len(watch.heard(RowsHidden)) == 1
        assert len(watch.heard(RowsVisible)) == 2, "at the beginning, and now"
        delete(ats, 2)
        await watch.drain.catch_up()
        await watch.pass_grace()
        assert await watch.deliver() == [("a2", "deleted", "J1")]


async def test_a_doubt_lasts_until_the_next_look(ats: Ats, open_daemons_rig: OpenDaemonsRig, role: str) -> None:
    # Roles are locked by nothing: this is the remedy that comes between a read and its question.
    insert(ats, 2, "a2")
    run(ats, HIDE_1)
    async with open_daemons_rig() as watch:
        await watch.adopt()
        delete(ats, 2)
        await watch.drain.catch_up()
        run(ats, "ALTER ROLE {role} BYPASSRLS", role=role)
        await watch.pass_grace()
        assert await watch.deliver() == []
        assert len(await watch.entries("held")) == 1


class TestWhileThePolicyChanges:
    """The rows and the question who hid some of them are one transaction, whose locks keep policies as they are."""

    async def test_to_one_that_the_read_waits_for(
        self, ats: Ats, other: Ats, open_daemons_rig: OpenDaemonsRig, role: str
    ) -> None:
        # A snapshot from before the wait would not know the policy that came with the lock.
        run(ats, "ALTER ROLE {role} SET default_transaction_isolation = 'serializable'", role=role)
        insert(ats, 1, "a1")
        async with open_daemons_rig() as watch:
            with ats.transaction():
                run(ats, HIDE_1)
                reading = asyncio.create_task(watch.intake.reader.by_application(["a1"]))
                await eventually(lambda: one(other, WAITING), "the read waits")
            read = await reading

            assert read.rows == []
            assert read.hidden_by

    async def test_to_none_while_the_read_is_under_way(
        self, ats: Ats, other: Ats, open_daemons_rig: OpenDaemonsRig
    ) -> None:
        insert(ats, 1, "a1")
        run(
            ats,
            "CREATE FUNCTION public.slowly_hide() RETURNS boolean LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN false; END'",
        )
        async with open_daemons_rig() as watch:
            run(ats, HIDE_1.replace("id <> 1", "public.slowly_hide()"))
            run(ats, "SELECT pg_advisory_lock(7)")
            reading = asyncio.create_task(watch.intake.reader.by_application(["a1"]))
            await eventually(lambda: one(ats, WAITING) == 1, "the read is under way")
            showing = asyncio.create_task(asyncio.to_thread(run, other, SHOW))
            await eventually(lambda: one(ats, WAITING) == 2, "the policy's end waits for the read's")
            run(ats, "SELECT pg_advisory_unlock(7)")
            read = await reading
            await showing

            assert read.rows == []
            assert read.hidden_by
