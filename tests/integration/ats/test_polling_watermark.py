"""The watermark's arithmetic, and pages behind it, in the column's own type."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from support.eventually import eventually
from support.sessions import Ats, one, rows, run
from support.source import Source, opened
from support.watched import a_config

from cdc_sync.ats.poll import WatermarkReader
from cdc_sync.ats.reading import Reader
from cdc_sync.core.rows import Key


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


async def a_reader(ats: Ats, source: Source, type_: str, lookback: timedelta = timedelta(0)) -> WatermarkReader:
    run(ats, "ALTER TABLE public.applications ALTER updated_at TYPE {type_} USING NULL", type_=type_)
    # The facts of the table are from before.
    async with opened(a_config(source.connection.info.dsn, timezone=source.watch.timezone)) as again:
        return WatermarkReader(Reader(source.pool, again.mapping), "updated_at", lookback)


class TestWatermark:
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
    async def test_is_lookback_before_the_fence(
        self, database: str, ats: Ats, type_: str, timezone: str, expected: str
    ) -> None:
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
        self, database: str, ats: Ats, timezone: str, noon_before: str
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


class TestLook:
    async def test_the_first_writer_of_an_idle_server_holds_it_too(self, database: str, other: Ats) -> None:
        """A snapshot's own xmax is that writer's id, and would let it through."""
        async with opened(a_config(database)) as source:
            reader = await source.watermark_reader("updated_at")
            with other.transaction():
                other.execute("SELECT txid_current()")
                during = await reader.look()
                assert (await reader.look()).xmin < during.xmax


class TestPages:
    async def all_keys(self, reader: WatermarkReader, watermark: str, size: int) -> list[Key]:
        keys: list[Key] = []
        place: Key | None = (watermark,)
        while place is not None:
            page = await reader.page(place, size)
            keys += [row.key for row in page.rows]
            place = page.last
        return keys

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

            met = await self.all_keys(reader, "-infinity", 1)

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

            assert await self.all_keys(reader, "2000-01-01", size) == [("1", "1"), ("3", "3"), ("4", "4")]

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
