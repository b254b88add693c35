"""Capture by poll: nothing is missed that carries a time, and the watermark never passes what may still come."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.applications import delete, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import Call, OpenRig, Rig
from support.sessions import Ats, one

from cdc_sync.ats.database import Steps
from cdc_sync.ats.poll import POSITION, PollCapture
from cdc_sync.core.events import CaughtUp


@pytest.fixture
def steps() -> Steps:
    """The watermark may move with every poll, instead of now and then."""
    return Steps(look_every=0.0, place_every=0.0)


@asynccontextmanager
async def polling(open_rig: OpenRig, *, lookback: str = "0s", **watch: Any) -> AsyncIterator[tuple[Rig, PollCapture]]:
    """A watch in poll mode, after its baseline."""
    capture = {"mode": "poll", "watermark": "updated_at", "lookback": lookback}
    async with open_rig(install=False, capture=capture, **watch) as rig:
        yield rig, await rig.poll()


async def calls(rig: Rig, poll: PollCapture) -> list[Call]:
    """What a poll has HelloWork told."""
    await poll.catch_up()
    return await rig.deliver()


async def moved(poll: PollCapture) -> None:
    """Poll until the watermark has moved: other tests' transactions hold it too."""
    before = poll.watermark

    async def has_moved() -> bool:
        await poll.catch_up()
        return poll.watermark > before

    await eventually(has_moved, "the watermark has moved")


async def test_a_change_becomes_an_entry(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with polling(open_rig) as (rig, poll):
        update(ats, 1, status="hired")
        insert(ats, 3, "a3", job_id="J3")

        assert await calls(rig, poll) == [("a1", "hired", "J1"), ("a3", "applied", "J3")]
        (caught_up,) = rig.heard(CaughtUp)
        assert caught_up.watch == "applications"
        assert 0 < caught_up.seconds < 60


async def test_what_is_read_again_is_no_news(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with polling(open_rig, lookback="1h") as (rig, poll):
        update(ats, 1, status="hired")
        assert len(await calls(rig, poll)) == 1
        said = len(rig.said)

        for _ in range(3):
            assert await calls(rig, poll) == []

        assert {type(observation) for observation in rig.said[said:]} == {CaughtUp}, "and is not spoken of"


async def test_nothing_is_installed_and_nothing_written(ats: Ats, open_rig: OpenRig) -> None:
    ats.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
        " current_database()); END $$"
    )
    async with polling(open_rig) as (rig, poll):
        insert(ats, 1, "a1")

        assert await calls(rig, poll) == [("a1", "applied", "J1")]


class TestLateCommits:
    async def test_the_watermark_waits_for_it_and_then_goes_on(self, ats: Ats, other: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        async with polling(open_rig) as (rig, poll):
            with other.transaction():
                update(other, 1, status="late")
                written = one(other, "SELECT to_json(clock_timestamp()) #>> '{}'")
                for _ in range(5):
                    await poll.catch_up()
                assert poll.watermark < written

            await moved(poll)
            await eventually(lambda: passes(poll, written), "the watermark has passed the late row")
            assert await rig.deliver() == [("a1", "late", "J1")]
            assert (await rig.store.capture.positions(WATCH))[POSITION] == poll.watermark


async def passes(poll: PollCapture, moment: str) -> bool:
    await poll.catch_up()
    return poll.watermark > moment


class TestTimes:
    async def test_equal_ones_over_several_pages(self, ats: Ats, open_rig: OpenRig) -> None:
        async with polling(open_rig, steps=Steps(polled=3, look_every=0.0, place_every=0.0)) as (rig, poll):
            moment = one(ats, "SELECT clock_timestamp()")
            for number in range(1, 11):
                insert(ats, number, f"a{number}", updated_at=moment)
            assert len(await calls(rig, poll)) == 10

            insert(ats, 0, "a0", updated_at=moment)
            insert(ats, 11, "a11", updated_at=moment)

            assert [id_ for id_, _, _ in await calls(rig, poll)] == ["a0", "a11"]

    async def test_none_at_all_is_left_to_the_sweep(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        insert(ats, 2, "a2", updated_at="2024-01-01")
        async with polling(open_rig) as (rig, poll):
            update(ats, 1, status="unmarked", updated_at=None)
            update(ats, 2, status="forgotten", touch=False)
            assert await calls(rig, poll) == []

            assert (await rig.sweep(poll)).repaired == {"status": 2}
            assert await rig.deliver() == [("a1", "unmarked", "J1"), ("a2", "forgotten", "J1")]


class TestRestart:
    async def test_goes_on_where_it_was(self, ats: Ats, open_rig: OpenRig) -> None:
        insert(ats, 1, "a1")
        insert(ats, 2, "a2")
        async with polling(open_rig) as (_, poll):
            await moved(poll)
            reached = poll.watermark
        update(ats, 2, status="hired")
        delete(ats, 1)
        async with polling(open_rig) as (rig, poll):
            assert poll.watermark == reached

            assert await calls(rig, poll) == [("a2", "hired", "J1")]
            assert (await rig.sweep(poll)).repaired == {}

    async def test_a_poll_that_fails_leaves_the_watermark(self, ats: Ats, open_rig: OpenRig) -> None:
        async with polling(open_rig) as (rig, poll):
            await moved(poll)
            insert(ats, 1, "a1")
            before = dict(await rig.store.capture.positions(WATCH))
            ats.execute("ALTER TABLE public.applications RENAME TO elsewhere")
            with pytest.raises(Exception, match="does not exist"):
                await poll.catch_up()
            assert await rig.store.capture.positions(WATCH) == before
            ats.execute("ALTER TABLE public.elsewhere RENAME TO applications")

            assert await calls(rig, poll) == [("a1", "applied", "J1")]


async def test_a_soft_deletion_waits_for_its_grace_and_a_hard_one_for_the_sweep(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with polling(open_rig) as (rig, poll):
        update(ats, 1, deleted_at="2024-01-01")
        delete(ats, 2)
        assert await calls(rig, poll) == []
        await rig.pass_grace()
        assert await rig.deliver() == [("a1", "deleted", "J1")]

        assert (await rig.sweep(poll)).repaired == {}, "polls see no hard deletion, so none was missed"
        await rig.pass_grace()
        assert await rig.deliver() == [("a2", "deleted", "J1")]
