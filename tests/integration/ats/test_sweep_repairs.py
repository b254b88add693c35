"""The sweep finds what nothing else has found, counts it by cause, and counts nothing else."""

from collections.abc import Callable

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.rig import Nothing, OpenRig, Rig, nothing
from support.sessions import Ats

from cdc_sync.ats import intake as intake_module
from cdc_sync.ats import sweep as sweep_module
from cdc_sync.ats.database import Steps
from cdc_sync.core.events import SweepDone
from cdc_sync.core.rows import Observation, Row, WatchRules
from cdc_sync.core.rows import interpret as interpret_row


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
            off(ats)
            update(ats, 1, 2, status="hired")
            update(ats, 3, job_id="J2")
            update(ats, 4, status="hired", job_id="J2")
            insert(ats, 11, "a11")
            delete(ats, 5, 6, 7)
            update(ats, 8, notes="no news")

            done = await rig.sweep()

            assert done.repaired == {"status": 3, "job": 2, "first": 1, "gone": 3}
            assert done.rows == 8
            assert (await rig.store.operation.repairs())[WATCH] == done.repaired
            assert rig.heard(SweepDone) == [done]
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a11", "a2", "a3", "a4"]
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a5", "a6", "a7"]

    async def test_a_change_undone_before_it_was_sent(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 1, status="hired")
            await rig.drain.catch_up()
            off(ats)
            update(ats, 1, status="applied")

            assert (await rig.sweep()).repaired == {"undone": 1}
            assert await rig.deliver() == []

    async def test_a_soft_deletion(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            off(ats)
            update(ats, 1, 5, deleted_at="2024-01-01")

            assert (await rig.sweep()).repaired == {"deleted": 2}
            assert (await rig.sweep()).repaired == {}
            assert await rig.deliver() == []
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a1", "a5"]
            assert (await rig.sweep()).repaired == {}

    async def test_a_row_that_came_back(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 1, deleted_at="2024-01-01")
            await rig.drain.catch_up()
            await rig.pass_grace()
            await rig.deliver()
            off(ats)
            update(ats, 1, deleted_at=None)

            assert (await rig.sweep()).repaired == {"status": 1}
            assert await rig.deliver() == [("a1", "applied", "J1")]

    async def test_a_row_that_got_another_id(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            off(ats)
            update(ats, 1, hellowork_id="b1")

            await rig.sweep()
            await rig.pass_grace()

            assert await rig.deliver() == [("a1", "deleted", "J1"), ("b1", "applied", "J1")]
            assert (await rig.sweep()).repaired == {}

    async def test_one_that_is_new_and_is_only_adopted(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(first_status="adopt") as rig:
            await filled(ats, rig)
            off(ats)
            insert(ats, 11, "a11")

            assert (await rig.sweep()).repaired == {"first": 1}
            assert await rig.deliver() == []

    async def test_a_missed_row_is_read_twice(
        self, ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            await rig.sweep()
            off(ats)
            update(ats, 5, status="hired")
            interpreted: list[str] = []

            def interpret(row: Row, rules: WatchRules, changed_at: int) -> Observation:
                interpreted.append(row.key[0])
                return interpret_row(row, rules, changed_at)

            for module in (sweep_module, intake_module):
                monkeypatch.setattr(module, "interpret", interpret)

            assert (await rig.sweep()).repaired == {"status": 1}
            assert interpreted == ["5", "5"]

    async def test_repeated_ones_add_up(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            off(ats)
            for status in ("one", "two"):
                update(ats, 1, status=status)
                await rig.sweep()

            assert (await rig.store.operation.repairs())[WATCH] == {"status": 2}


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

    async def test_what_changes_after_the_fast_paths_turn(self, ats: Ats, open_rig: OpenRig) -> None:
        """The key is looked at again because of one change, and another has come by then."""
        async with open_rig() as rig:
            await filled(ats, rig)
            update(ats, 1, status="hired")

            assert (await rig.sweep(Overtaken(rig, lambda: update(ats, 1, status="rejected")))).repaired == {}

            await rig.drain.catch_up()
            assert await rig.deliver() == [("a1", "rejected", "J1")]

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

    async def test_a_row_that_comes_back_and_goes_again(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            delete(ats, 5)
            busy = Overtaken(rig, lambda: delete(ats, 5), lambda: insert(ats, 5, "a5"))

            assert (await rig.sweep(busy)).repaired == {}

            await rig.drain.catch_up()
            await rig.pass_grace()
            assert [id_ for id_, _, _ in await rig.deliver()] == ["a5"]

    async def test_a_suspicion_is_counted_once(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            await filled(ats, rig)
            off(ats)
            delete(ats, 5)

            assert (await rig.sweep()).repaired == {"gone": 1}
            assert (await rig.sweep()).repaired == {}

    async def test_held_and_dead_entries_are_as_good_as_sent(self, ats: Ats, open_rig: OpenRig) -> None:
        async with open_rig(fuse={"max_changes": 1, "max_deletions": 1}) as rig:
            await filled(ats, rig)
            update(ats, 1, 2, 3, status="hired")
            delete(ats, 4, 5, 6)
            await rig.drain.catch_up()
            await rig.pass_grace()
            assert len(await rig.entries("held")) == 5

            assert (await rig.sweep()).repaired == {}

    async def test_an_empty_table_and_an_empty_store(self, open_rig: OpenRig) -> None:
        async with open_rig() as rig:
            done = await rig.sweep()

        assert (done.rows, done.repaired) == (0, {})


async def test_alone_without_any_fast_path(ats: Ats, open_rig: OpenRig) -> None:
    """As in notify mode before the triggers are installed."""
    for number in (1, 2, 3):
        insert(ats, number, f"a{number}")
    async with open_rig(install=False) as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        delete(ats, 2)

        assert (await rig.sweep(Nothing())).repaired == {"status": 1, "gone": 1}
        await rig.pass_grace()
        assert await rig.deliver() == [("a1", "hired", "J1"), ("a2", "deleted", "J1")]


async def test_many_rows_in_pages_of_the_usual_size(ats: Ats, open_rig: OpenRig) -> None:
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
        " SELECT n, 'a' || n, 's', 'j', now() FROM generate_series(1, 5000) n"
    )
    async with open_rig(steps=Steps()) as rig:
        await rig.adopt()
        off(ats)
        ats.execute("UPDATE public.applications SET status = 't' WHERE id % 1000 = 7")
        ats.execute("DELETE FROM public.applications WHERE id % 1000 = 999")

        done = await rig.sweep()

        assert (done.rows, done.repaired) == (4995, {"status": 5, "gone": 5})


async def test_a_row_that_is_corrected_corrects_what_waits_and_was_not_missed(ats: Ats, open_rig: OpenRig) -> None:
    """Not in its status: no trigger records it, and nothing is to be told for it alone."""
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        await rig.drain.catch_up()
        (before,) = await rig.entries()
        update(ats, 1, created_at="2020-01-02T03:04:05Z")

        assert (await rig.sweep()).repaired == {}

        (entry,) = await rig.entries()
        assert entry.content.created == 1_577_934_245_000 != before.content.created
        assert await rig.deliver() == [("a1", "hired", "J1")]
