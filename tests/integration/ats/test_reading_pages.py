"""Walks in key order, rows by key, rows by application."""

from typing import Any

import pytest
from support.sessions import Ats, rows, run
from support.source import Source, opened
from support.watched import a_config

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
