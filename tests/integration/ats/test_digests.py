"""Digests of rows: the same for rows that say the same, others for all that a comparison depends on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from support.applications import insert, update
from support.sessions import Ats, run
from support.source import Source, opened
from support.versions import needs
from support.watched import a_config

from cdc_sync.ats.mapping import DIGEST_LENGTH, keys_of

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
