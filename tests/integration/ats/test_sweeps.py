"""The sweep finds what nothing else has found, counts it by cause, and counts nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import Nothing, OpenRig, Rig, nothing
from support.sessions import Ats, end_sessions, one, run

from cdc_sync.ats import intake as intake_module
from cdc_sync.ats.database import SWEEPS_AT_ONCE
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.intake import Steps
from cdc_sync.ats.notify import NotifyCapture
from cdc_sync.ats.reading import Digests, Read
from cdc_sync.ats.sweep import Sweep
from cdc_sync.ats.triggers import Installation
from cdc_sync.core.events import SweepDone
from cdc_sync.core.rows import Key
from cdc_sync.daemon.watching import WatchWorker


@pytest.fixture
def steps() -> Steps:
    return Steps(adopted=3, compared=3, searched=4)


def off(ats: Ats) -> None:
    """Somebody has disabled the triggers."""
    ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")


class Overtaken:
    """A fast path before and after whose turn something happens."""

    def __init__(self, rig: Rig, happen: Callable[[], None], before: Callable[[], None] = nothing) -> None:
        self._rig = rig
        self._happen = happen
        self._before = before

    async def catch_up(self) -> None:
        self._before()
        await self._rig.drain.catch_up()
        self._happen()


async def test_each_cause_of_a_repair_is_counted(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 10)
    async with open_rig() as rig:
        update(ats, 10, status="hired")
        await rig.drain.catch_up()
        off(ats)
        update(ats, 10, status="applied")  # undone before it was sent
        update(ats, 1, 2, status="hired")
        update(ats, 3, job_id="J2")
        update(ats, 4, status="hired", job_id="J2")
        insert(ats, 11, "a11")
        delete(ats, 5, 6, 7)
        update(ats, 8, notes="no news")

        done = await rig.sweep()

        assert done.repaired == {"status": 3, "job": 2, "first": 1, "gone": 3, "undone": 1}
        assert done.rows == 8
        assert (await rig.store.operation.repairs())[WATCH] == done.repaired
        assert rig.heard(SweepDone) == [done]
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a11", "a2", "a3", "a4"]
        assert [id_ for id_, _, _ in await rig.later_calls()] == ["a5", "a6", "a7"]


@contextmanager
def behind_each_page(rig: Rig, change: Callable[[int], Awaitable[None]]) -> Iterator[None]:
    """Change something behind each page of digests, by its number."""
    digests, numbers = rig.intake.reader.digests, count()

    async def eventful(*arguments: object) -> object:
        found = await digests(*arguments)  # type: ignore[arg-type] # passed on as they come
        await change(next(numbers))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.intake.reader, "digests", eventful)
        yield


async def test_what_changes_while_a_sweep_walks_is_no_repair(ats: Ats, open_rig: OpenRig) -> None:
    """Behind it, ahead of it, and under its feet."""
    fill(ats, 10)

    async def change(page: int) -> None:
        match page:
            case 0:
                update(ats, 1, 9, status="hired")
                delete(ats, 2, 8)
            case 1:
                insert(ats, 0, "a0")
                insert(ats, 20, "a20")
                ats.execute("UPDATE public.applications SET id = 30 WHERE id = 3")

    async with open_rig() as rig:
        with behind_each_page(rig, change):
            assert (await rig.sweep()).repaired == {}

        assert [id_ for id_, _, _ in await rig.calls()] == ["a0", "a1", "a20", "a9"]
        assert [id_ for id_, _, _ in await rig.later_calls()] == ["a2", "a8"]
        assert (await rig.sweep()).repaired == {}


@pytest.mark.parametrize("seen", [True, False])
async def test_rows_that_move_out_of_a_sweeps_way_are_no_repair(ats: Ats, open_rig: OpenRig, *, seen: bool) -> None:
    """To the part done, and behind the end; the fast path sees it at once, or only when it is asked to."""
    fill(ats, 9)
    async with open_rig() as rig:

        async def change(page: int) -> None:
            match page:
                case 0:
                    ats.execute("UPDATE public.applications SET id = 0 WHERE id = 8")
                case 1:
                    delete(ats, 7)
                case 2:
                    insert(ats, 20, "a7", job_id="J2")
                    if seen:
                        await rig.drain.catch_up()

        with behind_each_page(rig, change):
            assert (await rig.sweep()).repaired == {}

        assert await rig.store.capture.suspected(WATCH, ["a7", "a8"]) == set()
        assert await rig.deliver() == [("a7", "applied", "J2")]
        assert await rig.later_calls() == []


async def test_what_the_capture_named_is_repaired_all_the_same(ats: Ats, open_rig: OpenRig) -> None:
    """It was recorded once, and changed without the triggers before the sweep read it."""
    fill(ats, 10)
    async with open_rig() as rig:
        update(ats, 4, status="recorded")

        def unrecorded() -> None:
            off(ats)
            update(ats, 4, status="unrecorded")

        await rig.sweep(Overtaken(rig, unrecorded, lambda: update(ats, 4, status="seen")))

        assert ("a4", "unrecorded", "J1") in await rig.deliver()


async def test_what_was_captured_while_a_page_began_is_no_repair(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row no longer represents its application: a sweep always reads it, and here with a later change."""
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        insert(ats, 2, "a1", status="seen")
        await rig.drain.catch_up()
        assert (await rig.sweep()).repaired == {}

        reader = rig.intake.reader
        digests, by_application = reader.digests, reader.by_application
        has_begun, sweeps = asyncio.Event(), list[asyncio.Task[SweepDone]]()
        overtaken = Overtaken(rig, lambda: update(ats, 2, status="hired"))

        async def begun(after: Key | None, size: int, shape: str) -> Digests | None:
            has_begun.set()
            return await digests(after, size, shape)

        async def overtaking(application_ids: Collection[str]) -> Read:
            if not sweeps:
                sweeps.append(asyncio.create_task(rig.sweep(overtaken)))
                await has_begun.wait()
            return await by_application(application_ids)

        monkeypatch.setattr(reader, "digests", begun)
        monkeypatch.setattr(reader, "by_application", overtaking)
        update(ats, 1, job_id="J2")
        await rig.drain.catch_up()

        assert (await sweeps[0]).repaired == {}


async def test_what_changed_before_the_sweep_read_it_is_no_repair(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row no longer represents its application: a sweep always reads it, and the other one with it."""
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        insert(ats, 2, "a1", status="seen")
        await rig.drain.catch_up()
        assert (await rig.sweep()).repaired == {}
        by_application = rig.intake.reader.by_application

        async def changed_before(application_ids: Collection[str]) -> Read:
            update(ats, 2, status="hired")
            return await by_application(application_ids)

        monkeypatch.setattr(rig.intake.reader, "by_application", changed_before)

        assert (await rig.sweep()).repaired == {}

        assert ("a1", "hired", "J1") in await rig.deliver()


# A sweep that is interrupted starts again.


ROWS = 10


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
        sweep = Sweep(rig.capture)
        sweep.catch_up = lambda: self._step(rig.drain.catch_up)
        return await sweep.run()

    async def _step(self, do: Callable[[], Awaitable[Any]]) -> Any:
        if self.steps == self._at:
            end_sessions(self._ats, "datname = current_database() AND application_name = 'cdc-sync'")
        self.steps += 1
        return await do()


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


@pytest.mark.parametrize("at", [0, 4, 8, 11])
async def test_after_any_step_it_repairs_everything_once(ats: Ats, open_rig: OpenRig, at: int) -> None:
    fill(ats, ROWS)
    async with open_rig() as rig:
        off(ats)
        harm(ats)
        await interrupted(rig, ats, at)
    async with open_rig() as rig:
        done = await rig.sweep()

        assert done.rows == ROWS - 2
        # An interruption may lose a count.
        counted = (await rig.store.operation.repairs())[WATCH]
        assert counted.items() <= {"status": 1, "job": 1, "gone": 2}.items()
        assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a9"]
        assert [id_ for id_, _, _ in await rig.later_calls()] == ["a2", "a6"]
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

    fill(ats, ROWS)
    async with open_rig(adopt=False) as rig:
        with monkeypatch.context() as patched:
            page = rig.intake.reader.page

            async def watched(after: Key | None, size: int, shape: str) -> Read:
                look()
                return await page(after, size, shape)

            patched.setattr(rig.intake.reader, "page", watched)
            await rig.adopt()
        off(ats)
        harm(ats)
        sweeping = Interrupted(rig, ats)
        sweeping.before_pages = look
        await sweeping.run(monkeypatch)

    assert open_ones == [0] * 7, "four pages of the baseline, three of the sweep"


# What a sweep finds because it was asked for was not missed; what is found by any other one was.


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


async def test_only_the_sweep_that_was_asked_for_finds_what_it_was_asked_for(staged: Ats, open_rig: OpenRig) -> None:
    async with open_rig(**STAGED) as rig:
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


async def test_of_one_that_was_asked_for_while_another_was_under_way_the_next_one_finds_the_rest(
    staged: Ats, open_rig: OpenRig
) -> None:
    async with open_rig(**STAGED) as rig:
        change_unnoticed(
            staged, 2
        )  # on the first page: the fast path takes its turn then, and the second is read ahead
        stages = iter([(1, 9)])
        asked = Overtaken(rig, nothing, lambda: rename(staged, *next(stages, ())))
        assert (await rig.sweep(asked)).repaired == {"asked_for": 2}
        assert (await rig.sweep()).repaired == {"asked_for": 1}
        change_unnoticed(staged, 6)
        assert (await rig.sweep()).repaired == {"job": 1}


# A sweep passes over rows that are as they were, and over nothing else.


NUMBER = 12


@dataclass
class Reads:
    """Keys of rows that a sweep read, but for their digests."""

    rig: Rig
    keys: set[str] = field(default_factory=set)
    before: Callable[[], None] = nothing

    async def sweep(self) -> SweepDone:
        reader = self.rig.intake.reader
        page, parts = reader.page, reader.parts_by_key
        self.keys = set()

        async def walked(after: Key | None, size: int, shape: str) -> Read:
            self.before()
            found = await page(after, size, shape)
            self.keys |= {row.key[0] for row in found.rows}
            return found

        async def by_key(
            keys: Collection[Key], *, confirming: bool = False, shape: str | None = None
        ) -> AsyncIterator[tuple[Read, list[Key]]]:
            if shape is not None:
                self.before()
            async for read, answered in parts(keys, confirming=confirming, shape=shape):
                self.keys |= {row.key[0] for row in read.rows}
                yield read, answered

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reader, "page", walked)
            patched.setattr(reader, "parts_by_key", by_key)
            return await self.rig.sweep(Nothing())


async def test_a_row_that_changed_is_read_until_it_is_told(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, NUMBER)
    async with open_rig(install=False) as rig:
        reads = Reads(rig)
        update(ats, 3, status="hired")

        assert (await reads.sweep()).repaired == {"status": 1}
        assert reads.keys == {"3"}
        await reads.sweep()
        assert reads.keys == {"3"}, "it waits"
        await rig.deliver()
        await reads.sweep()
        assert reads.keys == {"3"}, "what was sent is compared once, and verified"
        await reads.sweep()
        assert reads.keys == set()


async def test_a_change_that_was_told_and_is_undone_unseen_is_found(ats: Ats, open_rig: OpenRig) -> None:
    """The row is as it was when it was verified, and HelloWork knows something else."""
    fill(ats, NUMBER)
    async with open_rig() as rig:
        update(ats, 3, status="hired")
        assert await rig.calls() == [("a3", "hired", "J1")]
        off(ats)
        update(ats, 3, status="applied")

        assert (await rig.sweep()).repaired == {"status": 1}
        assert await rig.deliver() == [("a3", "applied", "J1")]


async def test_what_is_read_is_read_in_parts(ats: Ats, open_rig: OpenRig) -> None:
    changed = (1, 2, 3, 4, 6, 7, 8)
    fill(ats, NUMBER)
    async with open_rig(install=False, steps=Steps(compared=5, read=2)) as rig:
        reads = Reads(rig)
        update(ats, *changed, 11, 12, status="hired")

        done = await reads.sweep()

        assert (done.rows, done.repaired) == (NUMBER, {"status": len(changed) + 2})
        assert [(call[0], call[1]) for call in await rig.deliver()] == sorted(
            (f"a{id_}", "hired") for id_ in (*changed, 11, 12)
        )
        for _ in range(2):
            assert (await reads.sweep()).repaired == {}
        assert reads.keys == set()


@pytest.mark.parametrize(("then", "counted"), [({"status": "applied"}, {}), ({"status": "rejected"}, {"status": 1})])
async def test_a_row_that_changes_between_its_digest_and_its_reading(
    ats: Ats, open_rig: OpenRig, then: dict[str, Any], counted: dict[str, int]
) -> None:
    fill(ats, NUMBER)
    async with open_rig(install=False) as rig:
        reads = Reads(rig)
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
        "another version",
        {"status": {"map": {"applied": "seen"}}},
        {"columns": {"job_id": {"sql": "t.job_id || ''", "depends_on": ["job_id"]}}},
    ],
)
async def test_another_configuration_or_version_compares_every_row(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any] | str
) -> None:
    fill(ats, NUMBER)
    async with open_rig(install=False):
        pass
    if isinstance(changed, str):
        monkeypatch.setattr(intake_module, "__version__", changed)
    async with open_rig(install=False, **(changed if isinstance(changed, dict) else {})) as rig:
        reads = Reads(rig)
        await reads.sweep()

        assert len(reads.keys) == NUMBER
        await rig.deliver()
        await reads.sweep()
        await reads.sweep()
        assert reads.keys == set()


async def test_rows_whose_label_is_ignored(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, NUMBER)
    async with open_rig(install=False, status={"map": {"applied": "seen"}, "unmapped": "ignore"}) as rig:
        reads = Reads(rig)
        update(ats, 3, status="internal")
        await reads.sweep()
        assert reads.keys == {"3"}

        await reads.sweep()

        assert reads.keys == set()
        delete(ats, 3)
        assert (await reads.sweep()).repaired == {"gone": 1}


# A sweep never takes more than a tenth of the time, however short its interval and however often it is interrupted.


PAGES = 20
NEARLY = 0.9
"""Clocks are read at slightly different moments."""


class Paged:
    """When pages were asked for, and given."""

    def __init__(self, rig: Rig, patched: pytest.MonkeyPatch) -> None:
        self.asked: list[float] = []
        self.given: list[float] = []
        digests, clock = rig.intake.reader.digests, asyncio.get_running_loop().time

        async def timed(after: Key | None, size: int, shape: str) -> Digests | None:
            self.asked.append(clock())
            found = await digests(after, size, shape)
            self.given.append(clock())
            return found

        patched.setattr(rig.intake.reader, "digests", timed)


@asynccontextmanager
async def sweeping(worker: WatchWorker, rig: Rig) -> AsyncIterator[None]:
    """The worker's sweeps, as long as it is connected."""
    task = asyncio.create_task(worker._sweeps(NotifyCapture(rig.intake, Installation((), has_log=False))))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("wanted", [False, True])
async def test_a_sweep_takes_a_tenth_of_the_time_at_most(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch, *, wanted: bool
) -> None:
    fill(ats, PAGES * 3 - 1)
    async with open_rig(install=False, capture={"sweep": "1h" if wanted else "1ms"}) as rig:
        paged = Paged(rig, monkeypatch)
        worker = WatchWorker(rig.intake.parts)
        async with sweeping(worker, rig):
            await eventually(lambda: rig.heard(SweepDone), "a sweep")
            if wanted:
                worker._sweep_wanted.set()
            await eventually(lambda: len(paged.asked) > PAGES, "the next one's first page")

        took = paged.given[PAGES - 1] - paged.asked[0]
        assert paged.asked[PAGES] - paged.asked[0] >= 10 * took * NEARLY


async def test_a_sweep_that_is_asked_for_during_another_one_follows_it(
    open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_rig(install=False, capture={"sweep": "1000h"}) as rig:
        worker, sweep, begun = WatchWorker(rig.intake.parts), Sweep.run, list[Sweep]()

        async def asked_for_meanwhile(each: Sweep) -> SweepDone:
            if not begun:
                worker._sweep_wanted.set()
            begun.append(each)
            return await sweep(each)

        monkeypatch.setattr(Sweep, "run", asked_for_meanwhile)
        async with sweeping(worker, rig):
            await eventually(lambda: len(rig.heard(SweepDone)) == 2, "a second sweep")


async def test_of_one_database_few_watches_sweep_at_once(open_rig: OpenRig) -> None:
    async with open_rig(install=False, capture={"sweep": "1h"}) as rig:
        turns = rig.intake.parts.database.sweeping
        for _ in range(SWEEPS_AT_ONCE):
            await turns.acquire()
        async with sweeping(WatchWorker(rig.intake.parts), rig):
            await asyncio.sleep(0.2)
            assert not rig.heard(SweepDone)

            turns.release()

            await eventually(lambda: rig.heard(SweepDone), "a sweep")
        assert not turns.locked(), "whoever is interrupted gives its turn back"
