"""The sweep finds what nothing else has found, counts it by cause, and counts nothing else."""

from collections.abc import Callable

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats

from cdc_sync.ats.database import Steps
from cdc_sync.core.events import SweepDone


@pytest.fixture
def steps() -> Steps:
    return Steps(compared=3, searched=4)


def off(ats: Ats) -> None:
    """Somebody has disabled the triggers."""
    ats.execute("ALTER TABLE public.applications DISABLE TRIGGER ALL")


async def filled(ats: Ats, rig: Rig, number: int = 10) -> None:
    """That many applications, adopted."""
    for id_ in range(1, number + 1):
        insert(ats, id_, f"a{id_}")
    await rig.adopt()
    await rig.drain.catch_up()


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


class TestRepairs:
    async def test_each_cause_is_counted(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
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
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a5", "a6", "a7"]


class TestNoRepairs:
    async def test_what_the_fast_path_has_is_not_counted(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 1, status="hired")
            insert(ats, 11, "a11")
            delete(ats, 5)
            update(ats, 6, deleted_at="2024-01-01")

            assert (await rig.sweep()).repaired == {}, "the sweep lets it catch up first"

            assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a11"]
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a5", "a6"]

    async def test_what_changes_while_it_walks(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Behind it, ahead of it, and under its feet."""
        async with open_rig() as rig:
            await filled(ats, rig)
            digests, turns = rig.intake.reader.digests, iter(range(10))

            async def eventful(*arguments: object) -> object:
                found = await digests(*arguments)  # type: ignore[arg-type] # passed on as they come
                match next(turns):
                    case 0:
                        update(ats, 1, 9, status="hired")
                        delete(ats, 2, 8)
                    case 1:
                        insert(ats, 0, "a0")
                        insert(ats, 20, "a20")
                        ats.execute("UPDATE public.applications SET id = 30 WHERE id = 3")
                return found

            monkeypatch.setattr(rig.intake.reader, "digests", eventful)
            assert (await rig.sweep()).repaired == {}
            monkeypatch.undo()

            await rig.drain.catch_up()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a0", "a1", "a20", "a9"]
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a2", "a8"]
            assert (await rig.sweep()).repaired == {}

    @pytest.mark.parametrize("seen", [True, False])
    async def test_rows_that_move_out_of_its_way(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch, *, seen: bool
    ) -> None:
        """To the part done, and behind the end; the fast path sees it at once, or only when it is asked to."""
        async with open_rig() as rig:
            await filled(ats, rig, 9)
            digests, turns = rig.intake.reader.digests, iter(range(10))

            async def eventful(*arguments: object) -> object:
                found = await digests(*arguments)  # type: ignore[arg-type] # passed on as they come
                match next(turns):
                    case 0:
                        ats.execute("UPDATE public.applications SET id = 0 WHERE id = 8")
                    case 1:
                        delete(ats, 7)
                    case 2:
                        insert(ats, 20, "a7", job_id="J2")
                        if seen:
                            await rig.drain.catch_up()
                return found

            monkeypatch.setattr(rig.intake.reader, "digests", eventful)
            assert (await rig.sweep()).repaired == {}
            monkeypatch.undo()

            assert next(turns) == 3, "the last page was the third"
            assert await rig.store.capture.suspected(WATCH, ["a7", "a8"]) == set()
            assert await rig.deliver() == [("a7", "applied", "J2")]
            await rig.pass_grace()
            assert await rig.deliver() == []

    async def test_what_changes_before_and_after_the_fast_paths_turn(self, ats: Ats, open_rig: OpenRig) -> None:
        """The row on the page is no longer there; the one that is read has not been consumed yet."""
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 1, status="hired")
            offers = iter(["offer", "second offer", "third offer"])
            busy = Overtaken(
                rig, lambda: update(ats, 1, status="rejected"), lambda: update(ats, 1, status=next(offers))
            )

            assert (await rig.sweep(busy)).repaired == {}

            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "rejected", "J1")]

    async def test_what_the_capture_named_is_repaired_all_the_same(self, ats: Ats, open_rig: OpenRig) -> None:
        """It was recorded once, and changed without the triggers before the sweep read it."""
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 4, status="recorded")

            def unrecorded() -> None:
                off(ats)
                update(ats, 4, status="unrecorded")

            await rig.sweep(Overtaken(rig, unrecorded, lambda: update(ats, 4, status="seen")))

            assert ("a4", "unrecorded", "J1") in await rig.deliver()

    async def test_a_row_that_comes_back_and_goes_again(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            delete(ats, 5)
            busy = Overtaken(rig, lambda: delete(ats, 5), lambda: insert(ats, 5, "a5"))

            assert (await rig.sweep(busy)).repaired == {}

            await rig.drain.catch_up()
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a5"]

    async def test_held_and_dead_entries_are_as_good_as_sent(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(fuse={"max_changes": 1, "max_deletions": 1}) as rig:
            await filled(ats, rig)
            update(ats, 1, 2, 3, status="hired")
            delete(ats, 4, 5, 6)
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert len(await rig.entries("held")) == 5

            assert (await rig.sweep()).repaired == {}
