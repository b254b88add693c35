"""Capture by poll: nothing is missed that carries a time, and the watermark never passes what may still come."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.applications import delete, fill, insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import OpenRig, Rig
from support.sessions import Ats, one, rows, run, sessions
from support.source import Source, keys_of_pages, opened
from support.standby import standby_of
from support.watched import a_config

from cdc_sync.ats.intake import Steps
from cdc_sync.ats.poll import LONGEST_PAUSE, POSITION, PollCapture, WatermarkReader, pause
from cdc_sync.ats.reading import Reader
from cdc_sync.core.events import CaughtUp
from cdc_sync.demo.postgres import Server


@pytest.fixture
def steps() -> Steps:
    """The watermark may move with every poll, instead of now and then."""
    return Steps(look_every=0.0, place_every=0.0)


@asynccontextmanager
async def polling(open_rig: OpenRig, **watch: Any) -> AsyncIterator[tuple[Rig, PollCapture]]:
    """A watch in poll mode, after its baseline."""
    capture = {"mode": "poll", "watermark": "updated_at", "lookback": "0s"}
    async with open_rig(install=False, capture=capture, **watch) as rig:
        yield rig, await rig.poll()


async def moved(poll: PollCapture) -> None:
    """Poll until the watermark has moved: other tests' transactions hold it too."""
    before = poll.watermark

    async def has_moved() -> bool:
        await poll.catch_up()
        return poll.watermark > before

    await eventually(has_moved, "the watermark has moved")


async def test_a_change_becomes_an_entry_though_nothing_is_installed_or_can_be_written(
    ats: Ats, open_rig: OpenRig
) -> None:
    run(ats, "ALTER DATABASE {name} SET default_transaction_read_only = on", name=ats.info.dbname)
    fill(ats, 2)
    async with polling(open_rig) as (rig, _):
        update(ats, 1, status="hired")
        insert(ats, 3, "a3", job_id="J3")

        assert await rig.calls() == [("a1", "hired", "J1"), ("a3", "applied", "J3")]
        (caught_up,) = rig.heard(CaughtUp)
        assert caught_up.watch == "applications"
        assert 0 < caught_up.seconds < 60


async def test_the_watermark_waits_for_it_and_then_goes_on(ats: Ats, other: Ats, open_rig: OpenRig) -> None:
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


async def test_equal_ones_over_several_pages(ats: Ats, open_rig: OpenRig) -> None:
    async with polling(open_rig, steps=Steps(polled=3, look_every=0.0, place_every=0.0)) as (rig, _):
        moment = one(ats, "SELECT clock_timestamp()")
        for number in range(1, 11):
            insert(ats, number, f"a{number}", updated_at=moment)
        assert len(await rig.calls()) == 10

        insert(ats, 0, "a0", updated_at=moment)
        insert(ats, 11, "a11", updated_at=moment)

        assert [id_ for id_, _, _ in await rig.calls()] == ["a0", "a11"]


async def test_none_at_all_is_left_to_the_sweep(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2", updated_at="2024-01-01")
    async with polling(open_rig) as (rig, poll):
        update(ats, 1, status="unmarked", updated_at=None)
        update(ats, 2, status="forgotten", touch=False)
        assert await rig.calls() == []

        assert (await rig.sweep(poll)).repaired == {"status": 2}
        assert await rig.deliver() == [("a1", "unmarked", "J1"), ("a2", "forgotten", "J1")]


async def test_a_poll_that_fails_leaves_the_watermark(ats: Ats, open_rig: OpenRig) -> None:
    async with polling(open_rig) as (rig, poll):
        await moved(poll)
        insert(ats, 1, "a1")
        before = dict(await rig.store.capture.positions(WATCH))
        ats.execute("ALTER TABLE public.applications RENAME TO elsewhere")
        with pytest.raises(Exception, match="does not exist"):
            await poll.catch_up()
        assert await rig.store.capture.positions(WATCH) == before
        ats.execute("ALTER TABLE public.elsewhere RENAME TO applications")

        assert await rig.calls() == [("a1", "applied", "J1")]


async def test_a_soft_deletion_waits_for_its_grace_and_a_hard_one_for_the_sweep(ats: Ats, open_rig: OpenRig) -> None:
    fill(ats, 2)
    async with polling(open_rig) as (rig, poll):
        update(ats, 1, deleted_at="2024-01-01")
        delete(ats, 2)
        assert await rig.calls() == []
        assert await rig.later_calls() == [("a1", "deleted", "J1")]

        assert (await rig.sweep(poll)).repaired == {}, "polls see no hard deletion, so none was missed"
        assert await rig.later_calls() == [("a2", "deleted", "J1")]


# Polls that take long come seldom: a forgotten transaction holds the fence, and each reads all that changed since.


@pytest.mark.parametrize(
    ("every", "took", "expected"), [(2, 0.01, 2), (2, 1, 9), (0.5, 3600, LONGEST_PAUSE), (300, 3600, 300)]
)
def test_a_pause_is_nine_times_as_long_within_limits(every: float, took: float, expected: float) -> None:
    assert pause(every, took) == expected


# Polling a hot standby, which hands out no transaction ids of its own.


@pytest.fixture
def standby(restartable_server: Server) -> Iterator[str]:
    with standby_of(restartable_server) as standby:
        yield standby.dsn


async def test_a_writer_on_the_primary_holds_the_fence(restartable_server: Server, standby: str) -> None:
    with sessions(restartable_server.dsn) as on_primary, sessions(standby) as on_standby:
        ats, slow, restart = on_primary(), on_primary(), on_standby()
        async with opened(a_config(standby)) as source:
            reader = await source.watermark_reader("updated_at")
            with slow.transaction():
                slow.execute("INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('slow', now())")
                writing = int(one(slow, "SELECT txid_current()"))
                began = one(slow, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                ats.execute("INSERT INTO public.applications (hellowork_id, updated_at) VALUES ('quick', now())")
                ats.execute("CHECKPOINT")

                async def knows_of_the_checkpoint() -> bool:
                    restart.execute("CHECKPOINT")
                    return (await reader.look()).xmax > writing

                await eventually(knows_of_the_checkpoint, "the standby has replayed the checkpoint")
                await eventually(source.rows, "the standby has the quick row")
                held = await reader.look()
                assert held.xmin <= writing < held.xmax
                assert held.instant <= began + 10**6

            async def is_past() -> bool:
                ats.execute("SELECT txid_current()")
                return (await reader.look()).xmin >= held.xmax

            await eventually(is_past, "the slow transaction has ended on the standby too")
            page = await reader.page((reader.watermark_at(held.instant - 10 * 10**6),), 10)
            assert [row.application_id for row in page.rows] == ["slow", "quick"]


# The watermark's arithmetic, and pages behind it, in the column's own type.


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


async def a_reader(ats: Ats, source: Source, type_: str, lookback: timedelta = timedelta(0)) -> WatermarkReader:
    run(ats, "ALTER TABLE public.applications ALTER updated_at TYPE {type_} USING NULL", type_=type_)
    # The facts of the table are from before.
    async with opened(a_config(source.connection.info.dsn, timezone=source.watch.timezone)) as again:
        return WatermarkReader(Reader(source.pool, again.mapping), "updated_at", lookback)


@pytest.mark.parametrize(
    ("type_", "timezone", "expected"),
    [
        ("timestamptz", "UTC", "2023-07-10T08:54:30+00:00"),
        ("timestamp", "UTC", "2023-07-10T08:54:30"),
        ("timestamp", "Europe/Paris", "2023-07-10T10:54:30"),
        ("timestamp(3)", "America/New_York", "2023-07-10T04:54:30"),
        ("date", "UTC", "2023-07-10"),
        ("date", "Pacific/Honolulu", "2023-07-09"),
    ],
)
async def test_is_lookback_before_the_fence(database: str, ats: Ats, type_: str, timezone: str, expected: str) -> None:
    fence = microseconds(datetime(2023, 7, 10, 8, 59, 30, 999_999, tzinfo=UTC))
    run(ats, "ALTER DATABASE {name} SET timezone = 'UTC'", name=ats.info.dbname)
    async with opened(a_config(database, timezone=timezone)) as source:
        reader = await a_reader(ats, source, type_, timedelta(minutes=5))

        assert reader.watermark_at(fence) == expected


@pytest.mark.parametrize(
    ("timezone", "noon_before"),
    [
        ("Europe/Paris", "2023-10-28T12:00Z"),
        ("America/New_York", "2023-11-04T12:00Z"),
        ("Australia/Lord_Howe", "2023-04-01T12:00Z"),  # sets its clocks back by half an hour
        ("Antarctica/Troll", "2023-10-28T12:00Z"),  # by two hours
    ],
)
async def test_is_never_ahead_of_a_local_time_that_is_still_to_come(
    database: str, ats: Ats, timezone: str, noon_before: str
) -> None:
    quarters = [datetime.fromisoformat(noon_before) + timedelta(minutes=15 * n) for n in range(96)]
    local = [moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) for moment in quarters]
    assert any(later < earlier for earlier, later in pairwise(local)), "the clocks are set back"
    async with opened(a_config(database, timezone=timezone)) as source:
        reader = await a_reader(ats, source, "timestamp")

        for number, moment in enumerate(quarters):
            watermark = datetime.fromisoformat(reader.watermark_at(microseconds(moment)))
            assert watermark <= min(local[number:])
            assert watermark >= local[number] - timedelta(hours=3)


async def test_the_first_writer_of_an_idle_server_holds_it_too(database: str, other: Ats) -> None:
    """A snapshot's own xmax is that writer's id, and would let it through."""
    async with opened(a_config(database)) as source:
        reader = await source.watermark_reader("updated_at")
        with other.transaction():
            other.execute("SELECT txid_current()")
            during = await reader.look()
            assert (await reader.look()).xmin < during.xmax


class TestPages:
    @pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
    async def test_every_date_can_be_passed(self, database: str, ats: Ats, type_: str) -> None:
        moments = ["-infinity", "4713-01-01 BC", "0044-03-15 BC", "0001-01-01", "2024-01-02", "10000-01-01", "infinity"]
        run(ats, "ALTER TABLE public.applications ALTER updated_at TYPE {type_} USING NULL", type_=type_)
        run(ats, "ALTER DATABASE {name} SET datestyle = 'German'", name=ats.info.dbname)
        for number, moment in enumerate(moments, start=1):
            insert = "INSERT INTO public.applications (id, updated_at) VALUES (%s, %s::text::{type_})"
            run(ats, insert, [number, moment], type_=type_)
        async with opened(a_config(database)) as source:
            reader = await source.watermark_reader("updated_at")

            met = await keys_of_pages(lambda place: reader.page(place, 1), ("-infinity",))

        assert met == [(str(n),) for n in range(1, 8)]

    @pytest.mark.parametrize("size", [1, 2, 10])
    async def test_rows_without_time_or_key_are_left_out(self, database: str, ats: Ats, size: int) -> None:
        ats.execute("CREATE TABLE public.keyed (a int, b int, s text, at timestamptz)")
        ats.execute(
            "INSERT INTO public.keyed (a, b, at) VALUES (1, 1, now()), (1, NULL, now()), (NULL, 2, now()),"
            " (2, 2, NULL), (3, 3, now()), (3, NULL, now() + interval '1 s'), (4, 4, now() + interval '2 s')"
        )
        columns = {"application_id": "s", "status": "s", "job_id": "s", "created": "at", "event_date": None}
        config = a_config(database, table="public.keyed", key=["a", "b"], columns={**columns, "deleted": None})
        async with opened(config) as source:
            reader = await source.watermark_reader("at")

            met = await keys_of_pages(lambda place: reader.page(place, size), ("2000-01-01",))

        assert met == [("1", "1"), ("3", "3"), ("4", "4")]

    async def test_the_index_on_the_watermark_serves(self, database: str, ats: Ats) -> None:
        ats.execute(
            "INSERT INTO public.applications (updated_at)"
            " SELECT now() - n * interval '1 minute' FROM generate_series(1, 5000) n"
        )
        ats.execute("ANALYZE public.applications")
        used = "SELECT coalesce(idx_scan, 0) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%updated_at%'"
        before = one(ats, used)
        (recent,) = rows(ats, "SELECT to_json(now() - interval '5 minutes') #>> '{}'")[0]
        async with opened(a_config(database)) as source:
            page = await (await source.watermark_reader("updated_at")).page((recent,), 10)
        assert 4 <= len(page.rows) <= 5

        await eventually(lambda: one(ats, used) > before, "the index was used")


# The poll against every order in which two transactions of a real server and two polls of it can happen.
