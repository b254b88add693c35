"""A sweep passes over rows that are as they were, and over nothing else."""

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.rig import Nothing, OpenRig, Rig, nothing
from support.sessions import Ats

from cdc_sync.ats import intake as intake_module
from cdc_sync.ats.database import Steps
from cdc_sync.ats.reading import Page, Read
from cdc_sync.core.events import SweepDone
from cdc_sync.core.rows import Key

ROWS = 12


@pytest.fixture
def steps() -> Steps:
    return Steps(compared=5)


@dataclass
class Reads:
    """Keys of rows that a sweep read in full."""

    rig: Rig
    keys: list[str] = field(default_factory=list)
    pages: int = 0
    before: Callable[[], None] = nothing

    async def sweep(self) -> SweepDone:
        reader = self.rig.intake.reader
        page, parts = reader.page, reader.parts_by_key
        self.keys, self.pages = [], 0

        async def walked(after: Key | None, size: int, shape: str) -> Page:
            self.before()
            found = await page(after, size, shape)
            self.pages += 1
            self.keys += [row.key[0] for row in found.rows]
            return found

        async def by_key(
            keys: Collection[Key], *, confirming: bool = False, shape: str | None = None
        ) -> AsyncIterator[tuple[Read, list[Key]]]:
            if shape is not None:
                self.before()
            async for read, answered in parts(keys, confirming=confirming, shape=shape):
                self.keys += [] if shape is None else [row.key[0] for row in read.rows]
                yield read, answered

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reader, "page", walked)
            patched.setattr(reader, "parts_by_key", by_key)
            return await self.rig.sweep(Nothing())


async def filled(ats: Ats, rig: Rig) -> Reads:
    for id_ in range(1, ROWS + 1):
        insert(ats, id_, f"a{id_}")
    await rig.adopt()
    return Reads(rig)


async def test_after_a_baseline_no_row_is_read(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(install=False) as rig:
        reads = await filled(ats, rig)

        done = await reads.sweep()

        assert (done.rows, done.repaired, reads.keys) == (ROWS, {}, [])


async def test_a_row_that_changed_is_read_until_it_is_told(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(install=False) as rig:
        reads = await filled(ats, rig)
        update(ats, 3, status="hired")

        assert (await reads.sweep()).repaired == {"status": 1}
        assert reads.keys == ["3"]
        await reads.sweep()
        assert reads.keys == ["3"], "it waits"
        await rig.deliver()
        await reads.sweep()
        assert reads.keys == ["3"], "what was told is compared once, and verified"
        await reads.sweep()
        assert reads.keys == []


async def test_told_and_back_unseen(ats: Ats, open_rig: OpenRig) -> None:
    """The row is as it was when it was verified, and HelloWork knows something else."""
    async with open_rig() as rig:
        await filled(ats, rig)
        await rig.drain.catch_up()
        update(ats, 3, status="hired")
        await rig.drain.catch_up()
        assert await rig.deliver() == [("a3", "hired", "J1")]
        ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")
        update(ats, 3, status="applied")

        assert (await rig.sweep()).repaired == {"status": 1}
        assert await rig.deliver() == [("a3", "applied", "J1")]


async def test_what_is_read_is_read_in_parts(ats: Ats, open_rig: OpenRig) -> None:
    changed = (1, 2, 3, 4, 6, 7, 8)
    async with open_rig(install=False, steps=Steps(compared=5, read=2)) as rig:
        reads = await filled(ats, rig)
        update(ats, *changed, 11, 12, status="hired")

        done = await reads.sweep()

        assert (done.rows, done.repaired) == (ROWS, {"status": len(changed) + 2})
        assert [(call[0], call[1]) for call in await rig.deliver()] == sorted(
            (f"a{id_}", "hired") for id_ in (*changed, 11, 12)
        )
        for _ in range(2):
            assert (await reads.sweep()).repaired == {}
        assert reads.keys == []


@pytest.mark.parametrize(("then", "counted"), [({"status": "applied"}, {}), ({"status": "rejected"}, {"status": 1})])
async def test_a_row_that_changes_between_its_digest_and_its_reading(
    ats: Ats, open_rig: OpenRig, then: dict[str, Any], counted: dict[str, int]
) -> None:
    async with open_rig(install=False) as rig:
        reads = await filled(ats, rig)
        update(ats, 3, status="hired")
        reads.before = lambda: update(ats, 3, **then)

        assert (await reads.sweep()).repaired == counted
        reads.before = nothing
        await rig.deliver()
        await reads.sweep()
        assert await rig.told("a3") == {"a3": (then["status"], "J1")}


@pytest.mark.parametrize(
    "changed",
    [
        {"status": {"map": {"applied": "seen"}}},
        {"where": {"sql": "t.id > 0", "depends_on": ["id"]}},
        {"columns": {"job_id": {"sql": "t.job_id || ''", "depends_on": ["job_id"]}}},
    ],
)
async def test_another_configuration_compares_every_row(ats: Ats, open_rig: OpenRig, changed: dict[str, Any]) -> None:
    async with open_rig(install=False) as rig:
        await filled(ats, rig)
    async with open_rig(install=False, **changed) as rig:
        reads = Reads(rig)
        await reads.sweep()

        assert len(reads.keys) == ROWS
        await rig.deliver()
        await reads.sweep()
        await reads.sweep()
        assert reads.keys == []


async def test_another_version_compares_every_row(ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_rig(install=False) as rig:
        await filled(ats, rig)
    monkeypatch.setattr(intake_module, "__version__", "another")
    async with open_rig(install=False) as rig:
        reads = Reads(rig)
        await reads.sweep()

        assert len(reads.keys) == ROWS


async def test_rows_whose_label_is_ignored(ats: Ats, open_rig: OpenRig) -> None:
    async with open_rig(install=False, status={"map": {"applied": "seen"}, "unmapped": "ignore"}) as rig:
        reads = await filled(ats, rig)
        update(ats, 3, status="internal")
        await reads.sweep()
        assert reads.keys == ["3"]

        await reads.sweep()

        assert reads.keys == []
        delete(ats, 3)
        assert (await reads.sweep()).repaired == {"gone": 1}
