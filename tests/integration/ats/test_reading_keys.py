"""Keys and ids in types and collations with rules of their own, and keys that no row can have."""

from typing import Any

import pytest
from support.eventually import eventually
from support.extensions import create_extension
from support.sessions import Ats, one, rows, run
from support.source import keys_of_pages, opened
from support.watched import a_config

from cdc_sync.ats.reading import Read
from cdc_sync.config import Config
from cdc_sync.core.rows import Key

SCANNED = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'keyed'"
BY_INDEX = "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'keyed'"

WORDS = ["", " 10", "9", "A1", "Ab", "b", "Ba", "É", "e", "Éa", "a-b", "aC", "_", "œuf", "-", "'", "%", "\\"]


def keyed(database: str, *key: str, **columns: Any) -> Config:
    mapped = {"application_id": "s", "status": "s", "job_id": "s", "created": {"sql": "now()"}, **columns}
    return a_config(
        database, table="public.keyed", key=list(key), columns={**mapped, "deleted": None, "event_date": None}
    )


async def walk(database: str, size: int, *key: str) -> list[Key]:
    async with opened(keyed(database, *key)) as source:
        return await keys_of_pages(lambda after: source.reader.page(after, size))


def fill(ats: Ats, words: list[str]) -> None:
    ats.cursor().executemany("INSERT INTO public.keyed (k, s) VALUES (%s, 'x')", [[word] for word in words])


@pytest.mark.parametrize("collation", ["default", "C"])
async def test_a_walk_meets_every_text_key_once(database: str, ats: Ats, collation: str) -> None:
    run(ats, 'CREATE TABLE public.keyed (k text COLLATE "{collation}" PRIMARY KEY, s text)', collation=collation)
    fill(ats, WORDS)

    met = [await walk(database, size, "k") for size in (1, 3, len(WORDS), 100)]

    assert met == [rows(ats, "SELECT k FROM public.keyed ORDER BY k")] * 4


@pytest.mark.parametrize("schema", ["public", "extensions"])
async def test_citext_is_walked_and_found_by_indexes_wherever_its_operators_are(
    database: str, ats: Ats, schema: str
) -> None:
    run(ats, "CREATE SCHEMA IF NOT EXISTS {schema}", schema=schema)
    create_extension(ats, "citext", schema)
    run(ats, "CREATE TABLE public.keyed (k {schema}.citext PRIMARY KEY, s {schema}.citext UNIQUE)", schema=schema)
    ats.execute("INSERT INTO public.keyed SELECT 'k' || i, 's' || i FROM generate_series(1, 2000) AS i")
    ats.execute("ANALYZE public.keyed")
    config = keyed(database, "k", status={"sql": "t.s::text"}, job_id={"sql": "t.s::text"})

    async with opened(config) as source:
        by_key = await source.reader.by_key([("k7",), ("k1999",)])
        by_id = await source.reader.by_application(["s8"])

    assert {row.key for row in (*by_key.rows, *by_id.rows)} == {("k7",), ("k1999",), ("k8",)}
    await eventually(lambda: one(ats, BY_INDEX) >= 2, "the counts of scans")
    assert one(ats, SCANNED) == 0
    assert len(set(await walk(database, 500, "k"))) == 2000


# A related table may keep keys in another type, and beside them other things.


@pytest.mark.parametrize(
    ("type_", "real", "others"),
    [
        ("int", "7", ["abc", "", "99999999999", "7.5", "-"]),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", ["7", "a0eebc99"]),
        ("mood", "happy", ["HAPPY", "none"]),
        ("numeric(4,2)", "7.00", ["12345", "NULL"]),
        ("date", "2024-01-02", ["soon", "2024-02-30"]),
    ],
)
async def test_keys_of_no_row_keep_nothing_from_being_read(
    database: str, ats: Ats, type_: str, real: str, others: list[str]
) -> None:
    ats.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    run(ats, "CREATE TABLE public.keyed (k {type_} PRIMARY KEY, s text)", type_=type_)
    run(ats, "INSERT INTO public.keyed VALUES (%s::text::{type_}, 'x')", [real], type_=type_)

    async with opened(keyed(database, "k")) as source:
        found = await source.reader.by_key([(key,) for key in [*others, real, *others]])
        none = await source.reader.by_key([(key,) for key in others])

    assert [row.key for row in found.rows] == [(real,)]
    assert none.rows == []


async def test_keys_of_several_columns_that_fit_no_row(database: str, ats: Ats) -> None:
    ats.execute("CREATE TABLE public.keyed (a int, b text, c uuid, s text)")
    uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    ats.execute("INSERT INTO public.keyed VALUES (1, 'x', %s), (2, 'y', %s)", [uuid, uuid])

    async with opened(keyed(database, "a", "b", "c")) as source:
        found = await source.reader.by_key([("1", "x", "1"), ("one", "x", uuid), ("2", "y", uuid), ("3", "z", "")])

    assert [row.key for row in found.rows] == [("2", "y", uuid)]


async def test_an_id_that_stands_in_a_url_only_need_not_fit_the_column(database: str, ats: Ats) -> None:
    ats.execute("ALTER TABLE public.applications ALTER hellowork_id TYPE bigint USING NULL")
    url = "https://ats-partner.hellowork.com/v1/applications/{}/status"
    ats.cursor().executemany(
        "INSERT INTO public.applications (id, hellowork_id, status_api_url) VALUES (%s, %s, %s)",
        [(1, 77, None), (2, None, url.format("5f3c-a")), (3, None, url.format("78"))],
    )
    columns = {"application_id": "hellowork_id", "status_url": "status_api_url"}

    async with opened(a_config(database, columns=columns)) as source:
        found = await source.reader.by_application(["77", "5f3c-a", "78"])

    assert sorted(row.key for row in found.rows) == [("1",), ("2",), ("3",)]


# Walks in key order, rows by key, rows by application.


ID = "A/é 1"
BASE = "https://ats-partner.hellowork.com/v1/applications/"


@pytest.fixture
def table(ats: Ats) -> Ats:
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
async def test_by_a_column_or_an_expression(database: str, columns: dict[str, Any]) -> None:
    async with opened(a_config(database, columns=columns)) as source:
        found = await source.reader.by_application([ID, "b", "unknown"])

    assert [row.key for row in found.rows] == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize("strings", ["on", "off"])
async def test_by_the_status_url_however_it_is_written(database: str, table: Ats, strings: str) -> None:
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


def fill_with_large_rows(ats: Ats) -> None:
    """Rows of which the last third is large."""
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, updated_at, source)"
        " SELECT i, 'a' || i, 's', 'j', now(), now(), CASE WHEN i > %s THEN repeat('x', %s) END"
        "   FROM generate_series(1, %s) AS i",
        (NUMBER // 3, SIZE, NUMBER),
    )


def keys_within_bounds(read: Read) -> list[Key]:
    assert sum(len(row.source or "") for row in read.rows) < MOST
    return [row.key for row in read.rows]


async def test_walking_large_rows(database: str, ats: Ats) -> None:
    fill_with_large_rows(ats)
    async with opened(a_config(database)) as source:
        for shape in (None, SHAPE):
            page = await source.reader.page(None, 1_000, shape)
            met = keys_within_bounds(page)
            while page.last is not None:
                page = await source.reader.page(page.last, 1_000, shape)
                met += keys_within_bounds(page)
            assert met == KEYS


async def test_large_rows_by_key(database: str, ats: Ats) -> None:
    fill_with_large_rows(ats)
    gone = [(str(-number),) for number in range(1, 100)]
    async with opened(a_config(database)) as source:
        met: list[Key] = []
        answered: list[Key] = []
        async for read, keys in source.reader.parts_by_key([*gone, *KEYS]):
            met += keys_within_bounds(read)
            answered += keys
            assert {row.key for row in read.rows} <= set(keys)
        assert sorted(met) == sorted(KEYS)
        assert sorted(answered) == sorted([*gone, *KEYS])

        assert sorted(row.key for row in (await source.reader.by_key(KEYS)).rows) == sorted(KEYS)


async def test_polling_large_rows(database: str, ats: Ats) -> None:
    fill_with_large_rows(ats)
    async with opened(a_config(database)) as source:
        reader = await source.watermark_reader("updated_at")
        place: Key | None = ("2024-01-01",)
        met: list[Key] = []
        while place is not None:
            page = await reader.page(place, 2_000)
            met += keys_within_bounds(Read(page.rows, page.at))
            place = page.last
        assert met == KEYS
