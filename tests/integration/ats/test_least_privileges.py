"""A role with exactly what `sql grants` prints can do all that the daemon does."""

from pathlib import Path
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import rig
from support.roles import NewRole, dsn_of
from support.sessions import Ats
from support.watched import COLUMNS, a_config, grant, install_triggers, some_config

from cdc_sync.ats.lookout import Bell
from cdc_sync.ats.triggers import Installation
from cdc_sync.config import Config

RELATED = {
    "columns": {
        "source": "source",
        "status": {
            "sql": "coalesce((SELECT r.reason FROM public.rejections r WHERE r.application = t.id), t.status)",
            "depends_on": ["id", "status"],
        },
    },
    "related": [{"table": "public.rejections", "key": ["application"]}],
}


@pytest.fixture
def role(ats: Ats, new_role: NewRole) -> str:
    ats.execute("CREATE TABLE public.rejections (application bigint, reason text, remark text)")
    ats.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC")
    ats.execute("DO $$ BEGIN EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()); END $$")
    return new_role()


def daemons(ats: Ats, database: str, role: str, **watch: Any) -> Config:
    """The configuration of a daemon that logs in as the role, with everything done that a DBA does for it."""
    config = a_config(dsn_of(database, role), **watch)
    install_triggers(ats, config)
    grant(ats, config, role)
    return config


@pytest.mark.parametrize(
    "section",
    [RELATED, {"where": {"sql": "t.source IS NULL", "depends_on": ["source"]}, "extra": {"delay": "deleted_at"}}],
    ids=str,
)
async def test_in_notify_mode(database: str, ats: Ats, role: str, tmp_path: Path, section: dict[str, Any]) -> None:
    for number in range(1, 4):
        insert(ats, number, f"a{number}")
    config = daemons(ats, database, role, **section)
    async with rig(config, tmp_path) as watch:
        assert watch.drain.installed == Installation((), has_log=True)
        await watch.adopt()
        bell = Bell(watch.intake.sessions.pool)
        await bell.follow()
        assert bell.is_armed
        await watch.intake.sessions.lasting.listen(WATCH, watch.drain.rung.set, lambda _: None)
        watch.drain.rung.clear()
        update(ats, 1, status="hired")
        delete(ats, 2)
        await eventually(watch.drain.rung.is_set, "the bell has rung")
        await watch.drain.catch_up()
        assert (await watch.sweep()).repaired == {}
        await watch.pass_grace()
        await bell.disarm()

        assert await watch.deliver() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]


async def test_in_poll_mode(database: str, ats: Ats, role: str, tmp_path: Path) -> None:
    insert(ats, 1, "a1")
    capture = {"mode": "poll", "watermark": "updated_at", "lookback": "0s"}
    config = daemons(ats, database, role, capture=capture)
    async with rig(config, tmp_path) as watch:
        poll = await watch.poll()
        update(ats, 1, status="hired")
        await poll.catch_up()
        assert await watch.deliver() == [("a1", "hired", "J1")]
        delete(ats, 1)
        await watch.sweep(poll)
        await watch.pass_grace()
        assert await watch.deliver() == [("a1", "deleted", "J1")]


async def test_a_watch_without_triggers_adopts_beside_a_schema_that_its_role_may_not_use(
    ats: Ats, database: str, new_role: NewRole, tmp_path: Path
) -> None:
    """The schema belongs to another daemon."""
    others = some_config("", {"others": {"table": "public.others", "key": ["id"], "columns": COLUMNS}})
    ats.execute("CREATE TABLE public.others (LIKE public.applications)")
    install_triggers(ats, others)
    role = new_role()
    ats.execute(f"GRANT SELECT ON public.applications TO {role}".encode())
    insert(ats, 1, "a1")
    async with rig(a_config(dsn_of(database, role)), tmp_path) as watch:
        await watch.adopt()
        update(ats, 1, status="hired")
        await watch.sweep()
        assert await watch.deliver() == [("a1", "hired", "J1")]
