"""A sweep that is interrupted starts again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats, end_sessions, one

from cdc_sync.ats.database import Steps
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.reading import Page, Read
from cdc_sync.ats.sweep import Sweep
from cdc_sync.core.events import SweepDone
from cdc_sync.core.rows import Key

ROWS = 10


@pytest.fixture
def steps() -> Steps:
    """Small pages."""
    return Steps(adopted=3, compared=3, searched=4)


class Interrupted:
    """A sweep whose connections the server ends before its step number `at`; counts steps.

    Steps are what uses the database: a page's digests, a turn of the fast path, a reading of what differs.
    """

    def __init__(self, rig: Rig, ats: Ats, at: int | None = None) -> None:
        self._rig = rig
        self._ats = ats
        self._at = at
        self.steps = 0
        self.before_pages: Callable[[], None] = nothing

    async def run(self, patched: pytest.MonkeyPatch) -> SweepDone:
        reader, digests = self._rig.intake.reader, self._rig.intake.reader.digests

        async def counted(after: Key | None, size: int, shape: str) -> Any:
            self.before_pages()
            return await self._step(lambda: digests(after, size, shape))

        patched.setattr(reader, "digests", counted)
        parts_by_key = reader.parts_by_key

        async def parts(
            keys: Collection[Key], *, confirming: bool = False, shape: str | None = None
        ) -> AsyncIterator[tuple[Read, list[Key]]]:
            await self._step(lambda: asyncio.sleep(0))
            async for part in parts_by_key(keys, confirming=confirming, shape=shape):
                yield part

        patched.setattr(reader, "parts_by_key", parts)
        rig = self._rig
        return await Sweep(rig.capture, lambda: self._step(rig.drain.catch_up)).run()

    async def _step(self, do: Callable[[], Awaitable[Any]]) -> Any:
        if self.steps == self._at:
            end_sessions(self._ats, "datname = current_database() AND application_name = 'cdc-sync'")
        self.steps += 1
        return await do()


async def filled(ats: Ats, rig: Rig, number: int = ROWS) -> None:
    """That many applications, adopted, and the triggers disabled: only sweeps find what happens."""
    for id_ in range(1, number + 1):
        insert(ats, id_, f"a{id_}")
    await rig.adopt()
    await rig.drain.catch_up()
    ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")


async def interrupted(rig: Rig, ats: Ats, at: int) -> None:
    """A sweep that gets as far as step `at`."""
    sweeping = Interrupted(rig, ats, at)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SourceError) as raised:
        await sweeping.run(patched)
    assert raised.value.kind == "unreachable"


def harm(ats: Ats) -> None:
    """On the first page, on the last one, and in two windows of the search for what is gone."""
    update(ats, 1, status="hired")
    update(ats, 9, job_id="J2")
    delete(ats, 2, 6)


@pytest.mark.parametrize("at", [0, 4, 8, 12])
async def test_after_any_step_it_repairs_everything_once(ats: Ats, open_rig: OpenRig, at: int) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        harm(ats)
        await interrupted(rig, ats, at)
    async with open_rig() as rig:
        done = await rig.sweep()

        assert done.rows == ROWS - 2
        assert (await rig.store.operation.repairs())[WATCH] == {"status": 1, "job": 1, "gone": 2}
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a9"]
        await rig.pass_grace()
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a2", "a6"]
        whole = await rig.sweep()
        assert (whole.rows, whole.repaired) == (ROWS - 2, {})


async def test_no_transaction_outlives_a_page(ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the baseline's either: nothing that would keep VACUUM from cleaning up after the ATS."""
    open_ones: list[int] = []

    def look() -> None:
        open_ones.append(
            one(
                ats,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'cdc-sync' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)",
            )
        )

    async with open_rig() as rig:
        with monkeypatch.context() as patched:
            page = rig.intake.reader.page

            async def watched(after: Key | None, size: int, shape: str) -> Page:
                look()
                return await page(after, size, shape)

            patched.setattr(rig.intake.reader, "page", watched)
            await filled(ats, rig)
        harm(ats)
        sweeping = Interrupted(rig, ats)
        sweeping.before_pages = look
        await sweeping.run(monkeypatch)

    assert open_ones == [0] * 7, "four pages of the baseline, three of the sweep"
