"""A sweep that is interrupted goes on where it was, and is not believed to have seen everything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats, end_sessions, one, run
from support.watched import a_config

from cdc_sync.core.events import Event, SweepDone
from cdc_sync.core.rows import Key
from cdc_sync.daemon.once import run_once
from cdc_sync.pipeline.database import Steps
from cdc_sync.pipeline.sweep import FINISHED, POSITION, Sweep
from cdc_sync.source.errors import SourceError
from cdc_sync.source.reading import Digests, Page, Read

ROWS = 10
STEPS = 19
"""Of a sweep that repairs `harm`: the digests of three pages, and for two of them a reading of what is not as it was,
two turns of the fast path, and the reading that is applied; and twice a reading of what was not met and a turn of the
fast path for two windows of the search."""
FIRST_PAGE = 5
"""The last step before the first page is done: the second's digests are made while it is compared."""


@pytest.fixture
def steps() -> Steps:
    """Small pages, and a position that is kept after each."""
    return Steps(adopted=3, compared=3, searched=4, save_every=0.0, save_share=0)


class Interrupted:
    """A sweep whose connections the server ends before its step number `at`; counts steps and rows.

    Steps are what uses the database: a page's digests, a turn of the fast path, a reading of what differs.
    """

    def __init__(self, rig: Rig, ats: Ats, at: int | None = None) -> None:
        self._rig = rig
        self._ats = ats
        self._at = at
        self.steps = 0
        self.rows = 0
        self.before_pages: Callable[[], None] = nothing

    async def run(self, patched: pytest.MonkeyPatch) -> SweepDone:
        reader, digests = self._rig.intake.reader, self._rig.intake.reader.digests

        async def counted(after: Key | None, size: int, shape: str) -> Digests:
            self.before_pages()
            found: Digests = await self._step(lambda: digests(after, size, shape))
            self.rows += found.rows
            return found

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
        return await Sweep(rig.capture, lambda: self._step(rig.drain.catch_up), nothing).run()

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


async def interrupted(rig: Rig, ats: Ats, at: int) -> Interrupted:
    """A sweep that gets as far as step `at`."""
    sweeping = Interrupted(rig, ats, at)
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SourceError) as raised:
        await sweeping.run(patched)
    assert raised.value.kind == "unreachable"
    return sweeping


def harm(ats: Ats) -> None:
    """On the first page, on the last one, and in two windows of the search for what is gone."""
    update(ats, 1, status="hired")
    update(ats, 9, job_id="J2")
    delete(ats, 2, 6)


@pytest.mark.parametrize("at", range(STEPS))
async def test_at_any_step_it_goes_on_and_repairs_everything_once(ats: Ats, open_rig: OpenRig, at: int) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        harm(ats)
        first = await interrupted(rig, ats, at)
    async with open_rig() as rig:
        rest = Interrupted(rig, ats)
        with pytest.MonkeyPatch.context() as patched:
            done = await rest.run(patched)

        assert done.rows == ROWS - 2
        assert done.resumed == (at > FIRST_PAGE)
        assert first.rows + rest.rows <= ROWS - 2 + 2 * 3, (
            "at most two pages are read twice: one, and the one read ahead"
        )
        assert (await rig.store.operation.repairs())[WATCH] == {"status": 1, "job": 1, "gone": 2}
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a9"]
        await rig.pass_grace()
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a2", "a6"]
        assert (await rig.store.capture.positions(WATCH))[POSITION] == FINISHED
        whole = await rig.sweep()
        assert (whole.rows, whole.resumed, whole.repaired) == (ROWS - 2, False, {})


async def test_the_steps_are_all_there_are(ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        harm(ats)
        sweeping = Interrupted(rig, ats)

        done = await sweeping.run(monkeypatch)

        assert (sweeping.steps, done.resumed) == (STEPS, False)
        assert done.repaired == {"status": 1, "job": 1, "gone": 2}


async def test_what_happened_behind_it_is_found_by_the_next_one(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        await interrupted(rig, ats, at=2)
    update(ats, 1, status="hired")
    delete(ats, 2)
    update(ats, 9, status="hired")
    async with open_rig() as rig:
        first = await rig.sweep()
        assert (first.resumed, first.repaired) == (True, {"status": 1})

        second = await rig.sweep()

        assert (second.resumed, second.repaired) == (False, {"status": 1, "gone": 1})


async def test_a_single_run_makes_the_next_one_too(database: str, ats: Ats, open_rig: OpenRig, tmp_path: Path) -> None:
    """Who runs it from a cron job expects it to have seen everything."""
    async with open_rig() as rig:
        await filled(ats, rig)
        await interrupted(rig, ats, at=2)
    update(ats, 1, status="hired")
    config = a_config(database)
    config = config.model_copy(update={"state": config.state.model_copy(update={"path": tmp_path / "state.db"})})
    said: list[Event] = []
    shown: list[str] = []

    await run_once(config, [lambda: {Event: said.append}], shown.append, dry_run=True)

    assert [done.resumed for done in said if isinstance(done, SweepDone)] == [True, False]
    assert ["hired" in call for call in shown] == [True]


async def test_a_row_that_moved_behind_it_is_no_deletion(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        await interrupted(rig, ats, at=2)
    run(ats, "UPDATE public.applications SET id = 0 WHERE id = 9")
    async with open_rig() as rig:
        await rig.sweep()
        assert await rig.store.capture.suspected(WATCH, ["a9"]) == {"a9"}
        await rig.pass_grace()

        assert await rig.deliver() == []
        assert (await rig.sweep()).repaired == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": {"status": {"sql": "t.status", "depends_on": ["status"]}}},
        {"status": {"map": {"applied": "seen"}}},
        {"where": {"sql": "t.notes IS NULL", "depends_on": ["notes"]}},
        {"key": ["hellowork_id"]},
        {"timezone": "Asia/Tokyo", "columns": {"event_date": "noted_at"}},
    ],
)
async def test_what_was_compared_otherwise_is_compared_again(
    ats: Ats, open_rig: OpenRig, changed: dict[str, Any]
) -> None:
    run(ats, "ALTER TABLE public.applications ADD noted_at timestamp")
    async with open_rig() as rig:
        await filled(ats, rig)
        await interrupted(rig, ats, at=2)
    async with open_rig(install=False, **changed) as rig:
        rest = Interrupted(rig, ats)
        with pytest.MonkeyPatch.context() as patched:
            assert not (await rest.run(patched)).resumed

        assert rest.rows == ROWS


async def test_a_place_that_is_no_text_of_ours_is_as_good_as_none(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        await interrupted(rig, ats, at=2)
        await rig.intake.place({POSITION: (await rig.store.capture.positions(WATCH))[POSITION][:-30]})
    async with open_rig() as rig:
        done = await rig.sweep()

        assert (done.resumed, done.rows) == (False, ROWS)
        assert (await rig.store.capture.positions(WATCH))[POSITION] == FINISHED


async def test_skips_that_an_earlier_part_met_are_kept(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig() as rig:
        await filled(ats, rig)
        update(ats, 1, 9, status=None)
        assert (await rig.sweep()).rows == ROWS
        assert [skip.key for skip in await rig.store.report.skipped(WATCH, 9)] == [("1",), ("9",)]
        await interrupted(rig, ats, at=3)
        delete(ats, 9)
    async with open_rig() as rig:
        assert (await rig.sweep()).resumed

        assert ("1",) in [skip.key for skip in await rig.store.report.skipped(WATCH, 9)]
        await rig.sweep()
        assert [skip.key for skip in await rig.store.report.skipped(WATCH, 9)] == [("1",)]


class TestCost:
    async def test_one_that_is_quick_keeps_no_place(self, ats: Ats, open_rig: OpenRig, steps: Steps) -> None:
        async with open_rig(steps=replace(steps, save_every=60.0)) as rig:
            await filled(ats, rig)

            await rig.sweep()

            assert POSITION not in await rig.store.capture.positions(WATCH)

    async def test_keeping_it_takes_a_share_of_the_time(
        self, ats: Ats, open_rig: OpenRig, steps: Steps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_rig(steps=replace(steps, save_share=1_000_000)) as rig:
            await filled(ats, rig)
            places: list[object] = []
            place = rig.intake.place

            async def counted(positions: dict[str, str]) -> None:
                places.append(positions)
                await place(positions)

            monkeypatch.setattr(rig.intake, "place", counted)
            await rig.sweep()

            assert len(places) == 2, "the first page's, and the end"


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
