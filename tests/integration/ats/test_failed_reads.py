"""A read that fails is never a deletion; one that succeeds on a table that is suddenly empty is a mass deletion."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import Nothing, OpenRig, Rig, rig
from support.roles import NewRole, dsn_of
from support.sessions import Ats, end_sessions, one, run
from support.watched import a_config, grant, install_triggers

from cdc_sync.ats.database import Steps
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.reading import Digests
from cdc_sync.core.rows import Key

ROWS = 8

HARMS: dict[str, tuple[str | None, str | None]] = {
    "the table is renamed": (
        "ALTER TABLE public.applications RENAME TO elsewhere",
        "ALTER TABLE public.elsewhere RENAME TO applications",
    ),
    "a privilege is revoked": (
        "REVOKE SELECT (hellowork_id) ON public.applications FROM {role}",
        "GRANT SELECT (hellowork_id) ON public.applications TO {role}",
    ),
    "the connections are ended": (None, None),
}
"""What breaks the reading, and what mends it; where no SQL stands, the role's sessions are ended."""

Reading: TypeAlias = Callable[[Rig, Callable[[], None]], Awaitable[object]]
"""Reads the table, and lets it be harmed before."""


async def sweep_in_the_middle(watch: Rig, harm: Callable[[], None]) -> None:
    digests, is_harmed = watch.intake.reader.digests, False

    async def harmed(after: Key | None, size: int, shape: str) -> Digests | None:
        nonlocal is_harmed
        if after is not None and not is_harmed:
            is_harmed = True
            harm()
        return await digests(after, size, shape)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watch.intake.reader, "digests", harmed)
        await watch.sweep(Nothing())


async def drain(watch: Rig, harm: Callable[[], None]) -> None:
    harm()
    await watch.drain.catch_up()


async def poll_in_the_middle(watch: Rig, harm: Callable[[], None]) -> None:
    poll = await watch.poll()
    harm()
    await poll.catch_up()


async def confirmation(watch: Rig, harm: Callable[[], None]) -> None:
    await watch.sweep(Nothing())
    harm()
    await watch.pass_grace()


READINGS: dict[str, tuple[str, Reading]] = {
    "sweep": ("poll", sweep_in_the_middle),
    "drain": ("notify", drain),
    "poll": ("poll", poll_in_the_middle),
    "confirmation": ("notify", confirmation),
}


@pytest.fixture
def steps() -> Steps:
    return Steps(compared=3, polled=3)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("reading", READINGS)
async def test_a_read_that_fails_is_no_deletion(
    database: str, ats: Ats, new_role: NewRole, tmp_path: Path, steps: Steps, *, reading: str, harm: str
) -> None:
    mode, read = READINGS[reading]
    breaks, mends = HARMS[harm]
    role = new_role()
    ats.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    capture = {"mode": mode, "watermark": "updated_at"}
    config = a_config(dsn_of(database, role), capture=capture)
    install_triggers(ats, a_config(database))
    grant(ats, config, role)
    for number in range(1, ROWS + 1):
        insert(ats, number, f"a{number}")

    def harm_it() -> None:
        if breaks:
            run(ats, breaks, role=role)
        else:
            end_sessions(ats, "usename = %s", [role])

    async with rig(config, tmp_path, steps) as watch:
        await watch.adopt()
        delete(ats, ROWS)
        before = one(ats, "SELECT count(*) FROM cdc_sync.changes")

        with pytest.raises(SourceError):
            await read(watch, harm_it)

        assert await watch.entries() == []
        assert (await watch.store.report.counts())[WATCH].suspected == (reading == "confirmation")
        assert one(ats, "SELECT count(*) FROM cdc_sync.changes") == before
    if mends:
        run(ats, mends, role=role)
    async with rig(config, tmp_path, steps) as watch:
        await watch.sweep(Nothing())
        await watch.pass_grace()

        assert [id_ for id_, _, _ in await watch.deliver()] == [f"a{ROWS}"]


@pytest.mark.parametrize(
    "how",
    [
        "DELETE FROM public.applications",
        "TRUNCATE public.applications",
        "ALTER TABLE public.applications RENAME TO old; CREATE TABLE public.applications (LIKE public.old)",
    ],
)
@pytest.mark.parametrize("mode", ["notify", "poll"])
async def test_an_empty_table_goes_through_the_fuse(ats: Ats, open_rig: OpenRig, mode: str, how: str) -> None:
    capture = {"mode": mode, "watermark": "updated_at"}
    for number in range(1, ROWS + 1):
        insert(ats, number, f"a{number}")
    async with open_rig(install=mode == "notify", capture=capture, fuse={"max_deletions": 2}) as watch:
        await watch.adopt()
        run(ats, how)
        if mode == "notify":
            await watch.drain.catch_up()
        await watch.sweep(Nothing())
        await watch.pass_grace()

        assert len(await watch.deliver()) == 2
        assert len(await watch.entries("held")) == ROWS - 2
        assert "more than 2 deletions" in ((await watch.store.operation.fuses())[WATCH].reason or "")


async def test_a_table_that_is_back_before_a_person_looks_takes_its_deletions_back(ats: Ats, open_rig: OpenRig) -> None:
    """As after a reload by DELETE and INSERT, or a restore."""
    for number in range(1, ROWS + 1):
        insert(ats, number, f"a{number}")
    async with open_rig(install=False, fuse={"max_deletions": 2}) as watch:
        await watch.adopt()
        run(ats, "ALTER TABLE public.applications RENAME TO old; CREATE TABLE public.applications (LIKE public.old)")
        await watch.sweep(Nothing())
        await watch.pass_grace()
        assert len(await watch.entries("held")) == ROWS - 2
        run(ats, "INSERT INTO public.applications SELECT * FROM public.old")
        update(ats, 1, status="applied")

        await watch.sweep(Nothing())

        assert await watch.entries("held") == []
        assert await watch.deliver() == []
