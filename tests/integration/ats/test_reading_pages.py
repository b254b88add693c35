"""Walks in key order, rows by key, rows by application."""

from typing import Any

import pytest
from support.sessions import Ats, rows, run
from support.source import Source, opened
from support.watched import a_config

from cdc_sync.ats.reading import Read
from cdc_sync.config import Config
from cdc_sync.core.rows import Key

WORDS = ["", " 10", "9", "A", "B", "Z", "_", "a", "a b", "a-b", "ab", "b", "É", "é", "ÿ", "œuf", "-", "'", "%", "\\"]


async def walk(source: Source, size: int) -> list[Key]:
    """The keys of all pages."""
    keys: list[Key] = []
    after: Key | None = None
    while True:
        page = await source.reader.page(after, size)
        keys += [row.key for row in page.rows]
        if page.last is None:
            return keys
        assert len(page.rows) == size
        after = page.last


def keyed(database: str, *key: str, table: str = "public.keyed") -> Config:
    columns = {"application_id": "s", "status": "s", "job_id": "s", "created": {"sql": "now()"}, "deleted": None}
    return a_config(database, table=table, key=list(key), columns={**columns, "event_date": None})


class TestWalk:
    @pytest.mark.parametrize("collation", ["default", "C"])
    async def test_meets_every_text_key_once(self, database: str, ats: Ats, collation: str) -> None:
        run(ats, 'CREATE TABLE public.keyed (k text COLLATE "{collation}" PRIMARY KEY, s text)', collation=collation)
        ats.cursor().executemany("INSERT INTO public.keyed VALUES (%s, 'x')", [[word] for word in WORDS])

        async with opened(keyed(database, "k")) as source:
            met = [await walk(source, size) for size in (1, 3, len(WORDS), 100)]

        assert met == [rows(ats, "SELECT k FROM public.keyed ORDER BY k")] * 4


ID = "A/é 1"
BASE = "https://ats-partner.hellowork.com/v1/applications/"


class TestByApplication:
    @pytest.fixture
    def table(self, ats: Ats) -> Ats:
        ats.cursor().executemany(
            "INSERT INTO public.applications (id, hellowork_id, status_api_url) VALUES (%s, %s, %s)",
            [
                (1, ID, f"{BASE}A%2F%C3%A9%201/status"),
                (2, "b", f"{BASE}b/status/"),
                (3, ID, f"{BASE}A%2f%c3%a9%201/status?token=x"),
                (4, None, None),
                (5, "", "https://elsewhere.example/"),
                (6, "a/é 1", f"{BASE}a%2F%C3%A9%201/status"),
            ],
        )
        return ats

    @pytest.mark.parametrize(
        "columns",
        [
            {"application_id": {"sql": "t.hellowork_id || ''"}},
            {"application_id": {"sql": "nullif(t.hellowork_id, '%') -- the id"}},
        ],
    )
    @pytest.mark.usefixtures("table")
    async def test_by_a_column_or_an_expression(self, database: str, columns: dict[str, Any]) -> None:
        async with opened(a_config(database, columns=columns)) as source:
            found = await source.reader.by_application([ID, "b", "unknown"])

        assert [row.key for row in found.rows] == [("1",), ("2",), ("3",)]

    @pytest.mark.parametrize("strings", ["on", "off"])
    async def test_by_the_status_url_however_it_is_written(self, database: str, table: Ats, strings: str) -> None:
        alter = "ALTER DATABASE {name} SET standard_conforming_strings = {strings}"
        run(table, alter, name=table.info.dbname, strings=strings)
        columns = {"application_id": None, "status_url": "status_api_url"}
        async with opened(a_config(database, columns=columns)) as source:
            found = await source.reader.by_application([ID, "b", "unknown"])

        # The caller tells apart what only differs in case.
        assert [row.key for row in found.rows if row.key != ("6",)] == [("1",), ("2",), ("3",)]


# Pages are bounded in bytes: by whatever way rows are read, each comes once, and few large ones come at a time.


NUMBER = 300
SIZE = 60_000
MOST = 4_000_000 + 2 * SIZE
KEYS: list[Key] = [(str(number),) for number in range(1, NUMBER + 1)]
SHAPE = "shape"


def fill(ats: Ats) -> None:
    """Rows of which the last third is large."""
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, updated_at, source)"
        " SELECT i, 'a' || i, 's', 'j', now(), now(), CASE WHEN i > %s THEN repeat('x', %s) END"
        "   FROM generate_series(1, %s) AS i",
        (NUMBER // 3, SIZE, NUMBER),
    )


def keys_of(read: Read) -> list[Key]:
    assert sum(len(row.source or "") for row in read.rows) < MOST
    return [row.key for row in read.rows]


async def test_walking(database: str, ats: Ats) -> None:
    fill(ats)
    async with opened(a_config(database)) as source:
        for shape in (None, SHAPE):
            page = await source.reader.page(None, 1_000, shape)
            met = keys_of(page)
            while page.last is not None:
                page = await source.reader.page(page.last, 1_000, shape)
                met += keys_of(page)
            assert met == KEYS


async def test_by_key(database: str, ats: Ats) -> None:
    fill(ats)
    gone = [(str(-number),) for number in range(1, 100)]
    async with opened(a_config(database)) as source:
        met: list[Key] = []
        answered: list[Key] = []
        async for read, keys in source.reader.parts_by_key([*gone, *KEYS]):
            met += keys_of(read)
            answered += keys
            assert {row.key for row in read.rows} <= set(keys)
        assert sorted(met) == sorted(KEYS)
        assert sorted(answered) == sorted([*gone, *KEYS])

        assert sorted(row.key for row in (await source.reader.by_key(KEYS)).rows) == sorted(KEYS)


async def test_polling(database: str, ats: Ats) -> None:
    fill(ats)
    async with opened(a_config(database)) as source:
        reader = await source.watermark_reader("updated_at")
        place: Key | None = ("2024-01-01",)
        met: list[Key] = []
        while place is not None:
            page = await reader.page(place, 2_000)
            met += keys_of(Read(page.rows, page.at))
            place = page.last
        assert met == KEYS
