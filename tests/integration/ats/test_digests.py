"""Digests of rows: the same for rows that say the same, others for all that a comparison depends on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from support.applications import insert, update
from support.sessions import Ats, rows, run
from support.source import Source, opened
from support.versions import needs
from support.watched import a_config

from cdc_sync.ats.mapping import DIGEST_LENGTH, keys_of
from cdc_sync.core.rows import Key
from cdc_sync.store.encoding import key_text

SHAPE = "of the test"


async def elements(source: Source, shape: str = SHAPE) -> list[str]:
    page = await source.reader.digests(None, 100, shape)
    assert page is not None
    found: list[str] = json.loads(page.text)
    assert (page.rows, page.last) == (len(found), None)
    return found


async def only(source: Source) -> str:
    (element,) = await elements(source)
    return element


@asynccontextmanager
async def with_settings(database: str, **settings: str) -> AsyncIterator[Source]:
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    async with opened(a_config(make_conninfo(database, options=options))) as source:
        yield source


@pytest.fixture
def one_row(ats: Ats) -> None:
    insert(ats, 1, "a1", created_at="2024-01-01", updated_at="2024-01-02")


@pytest.mark.usefixtures("one_row")
class TestWhatCounts:
    @pytest.mark.parametrize(
        "change",
        [
            {"hellowork_id": "a2"},
            {"hellowork_id": ""},
            {"status": "hired"},
            {"status": None},
            {"status": ""},
            {"job_id": "J2"},
            {"job_id": None},
            {"created_at": None},
            {"created_at": "infinity"},
            {"deleted_at": "2024-01-01"},
        ],
    )
    async def test_what_a_reading_depends_on(self, database: str, ats: Ats, change: dict[str, Any]) -> None:
        async with opened(a_config(database)) as source:
            before = await only(source)
            update(ats, 1, touch=False, **change)

            assert await only(source) != before
            update(ats, 1, touch=False, hellowork_id="a1", status="applied", job_id="J1", deleted_at=None)
            update(ats, 1, touch=False, created_at="2024-01-01")
            assert await only(source) == before

    @pytest.mark.parametrize("field", ["source", "extra"])
    async def test_a_text_that_grows_too_long_to_be_told(self, database: str, ats: Ats, field: str) -> None:
        mapped = {"columns": {"source": "notes"}} if field == "source" else {"extra": {"x": {"column": "notes"}}}
        async with opened(a_config(database, **mapped)) as source:
            update(ats, 1, notes="é" * 99_998)
            before = await only(source)
            update(ats, 1, notes="é" * 99_999)

            assert await only(source) != before

    async def test_what_rides_along_does_not(self, database: str, ats: Ats) -> None:
        async with opened(a_config(database)) as source:
            before = await only(source)
            update(ats, 1, notes="other")

            assert await only(source) == before

    async def test_where_one_text_ends_and_the_next_begins(self, database: str, ats: Ats) -> None:
        async with opened(a_config(database)) as source:
            met: set[str] = set()
            for status, job_id in (("a", "b"), ("ab", ""), ("a,b", ""), ("", "a,b"), ('a","b', ""), ("a", ",b")):
                update(ats, 1, status=status, job_id=job_id)
                met.add(await only(source))

            assert len(met) == 6

    async def test_the_shape(self, database: str) -> None:
        async with opened(a_config(database)) as source:
            assert await elements(source, "another") != await elements(source)

    async def test_the_same_in_every_session(self, database: str) -> None:
        async with opened(a_config(database)) as source:
            usual = await only(source)
        settings = {
            "DateStyle": "SQL,DMY",
            "TimeZone": "Asia/Tokyo",
            "bytea_output": "escape",
            "IntervalStyle": "iso_8601",
        }
        async with with_settings(database, **settings) as source:
            assert await only(source) == usual


@pytest.mark.usefixtures("one_row")
async def test_the_row_itself_comes_with_the_same_digest(database: str) -> None:
    async with opened(a_config(database)) as source:
        digest = (await only(source))[:DIGEST_LENGTH]

        ((found, _),) = [part async for part in source.reader.parts_by_key([("1",), ("2",)], shape=SHAPE)]
        (read,) = found.rows
        (walked,) = (await source.reader.page(None, 9, SHAPE)).rows
        (plain,) = (await source.reader.page(None, 9)).rows

    assert read == walked
    assert (read.digest, plain.digest) == (digest, None)


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        ("text", ['a"b', "\\", "é🎉", "7", "", "\x01\x1f\x7f\t\n\r\b\f", "a/b", "\u2028"]),
        ("varchar(9)", ["x", "é"]),
        ("bigint", ["-1", "9007199254740993"]),
        ("uuid", ["00000000-0000-4000-8000-00000000abcd"]),
        ("date", ["2024-02-01"]),
        ("numeric", ["1.50"]),
        ("boolean", ["true"]),
        ("varchar(9)[]", ['{a,"b c"}']),
        ("char(3)", ["a"]),
    ],
)
@pytest.mark.parametrize("composite", [False, True])
async def test_a_key_is_written_as_the_store_writes_it(
    database: str, ats: Ats, type_: str, values: list[str], *, composite: bool
) -> None:
    ats.execute(f"CREATE TABLE public.keyed (k {type_} NOT NULL, l integer NOT NULL DEFAULT 7, s text)")
    ats.cursor().executemany("INSERT INTO public.keyed (k, s) VALUES (%s, 'x')", [[value] for value in values])
    columns = {"application_id": "s", "status": "s", "job_id": "s", "created": {"sql": "now()"}}
    config = a_config(
        database,
        table="public.keyed",
        key=["k", "l"] if composite else ["k"],
        columns={**columns, "deleted": None, "event_date": None},
    )
    async with opened(config) as source:
        keys = [row.key for row in await source.rows()]
        page = await source.reader.digests(None, 100, SHAPE)

        assert page is not None
        assert sorted(key[:1] for key in keys) == sorted(rows(ats, "SELECT to_json(k) #>> '{}' FROM public.keyed"))
        assert [text[DIGEST_LENGTH:] for text in json.loads(page.text)] == [key_text(key) for key in keys]
        assert keys_of(page.text, list(range(len(keys)))) == keys


@pytest.mark.parametrize("size", [1, 2, 5, 6])
async def test_pages_meet_every_row(database: str, ats: Ats, size: int) -> None:
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with opened(a_config(database)) as source:
        met: list[str] = []
        after: Key | None = None
        for _ in range(6):
            page = await source.reader.digests(after, size, SHAPE)
            assert page is not None
            met += json.loads(page.text)
            after = page.last
            if after is None:
                break

        assert met == await elements(source)
        assert len(met) == 5


class TestOtherRows:
    async def test_a_row_without_an_id_and_one_out_of_scope(self, database: str, ats: Ats) -> None:
        insert(ats, 1, None)
        insert(ats, 2, 'a"2', notes="out")
        insert(ats, 3, None, notes="out")
        insert(ats, 4, "a4", notes="in")
        async with opened(a_config(database, where="t.notes = 'in' -- only these")) as source:
            first, second, third, fourth = await elements(source)

        assert (first, third) == ("n", "n")
        assert second[0] == "o"
        assert json.loads(second[1:]) == ['["2"]', 'a"2']
        assert fourth.endswith('["4"]')
        page = json.dumps([first, second, third, fourth])
        assert keys_of(page, [1, 3]) == [("2",), ("4",)]
        assert keys_of(page, [0]) is None

    async def test_one_out_of_scope_whose_id_is_in_its_url(self, database: str, ats: Ats) -> None:
        insert(ats, 1, None, status_api_url="https://api.hellowork.com/v1/applications/a1/status")
        config = a_config(database, where="false", columns={"status_url": "status_api_url"})
        async with opened(config) as source:
            assert await only(source) == "?"
            assert keys_of('["?"]', [0]) is None


@pytest.mark.usefixtures("one_row")
async def test_a_server_that_refuses_md5(database: str, ats: Ats) -> None:
    """As PostgreSQL does where its OpenSSL is in FIPS mode, which is later than the version that takes no other."""
    needs(ats, 11, "a hash of texts with 64 bits")
    run(ats, "CREATE SCHEMA fips")
    ats.execute(
        "CREATE FUNCTION fips.md5(text) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'could not compute MD5 hash: unsupported' USING ERRCODE = 'XX000'; END$$"
    )
    async with opened(a_config(database)) as source:
        digest = await only(source)
    async with with_settings(database, search_path="fips,pg_catalog,public") as source:
        assert await only(source) == digest
