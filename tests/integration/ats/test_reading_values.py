"""What a row's values become: text, JSON, deleted or not, in scope or not."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.applications import insert, update
from support.builders import WATCH
from support.sessions import Ats, one, run
from support.source import Source, opened
from support.versions import needs
from support.watched import a_config

from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.mapping import DIGEST_LENGTH, keys_of
from cdc_sync.config import ConfigurationError
from cdc_sync.config.models import watch_rules
from cdc_sync.core.rows import Observation, Reportable, Row, Unreportable, interpret


@pytest.fixture
def table(ats: Ats) -> Ats:
    """One row, with a column `x` to be given a type."""
    ats.execute(
        "INSERT INTO public.applications (hellowork_id, status, job_id, created_at) VALUES ('a1', 's', 'j', now())"
    )
    return ats


async def read(database: str, **section: Any) -> Row:
    async with opened(a_config(database, **section)) as source:
        return await source.row()


JSON = [
    ("text", 'with "quotes" \\ and é', '"with \\"quotes\\" \\\\ and é"'),
    ("json", '{"b": 1, "a": 1.10}', '{"b": 1, "a": 1.10}'),
    ("jsonb", '{"b": 1, "a": 1.10}', '{"a": 1.10, "b": 1}'),
    ("jsonb", "null", "null"),
    ("numeric", "9007199254740993.10", "9007199254740993.10"),
    ("boolean", "true", "true"),
    ("text[]", "{a,b}", '["a","b"]'),
    ("int", None, None),
]


async def test_source_and_extra_fields_are_json_in_their_order(database: str, table: Ats) -> None:
    for number, (type_, value, _) in enumerate(JSON):
        run(table, "ALTER TABLE public.applications ADD x{n} {type_}", n=str(number), type_=type_)
        run(table, "UPDATE public.applications SET x{n} = %s::text::{type_}", [value], n=str(number), type_=type_)
    expected = tuple(json for _, _, json in JSON)
    numbers = range(len(JSON))

    row = await read(database, columns={"source": "x0"}, extra={f"f{n}": f"x{n}" for n in numbers})

    assert row.source == expected[0]
    assert row.extra == expected


TEXTS = [
    ("char(12)", "interview", "interview"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bigint", "9007199254740993", "9007199254740993"),
    ("boolean", "true", "true"),
    ("mood", "happy", "happy"),
    ("label", "hired", "hired"),
    ("text", " spaces and\nlines ", " spaces and\nlines "),
    ("text", None, None),
    ('"char"', "c", "c"),
]


async def test_a_text_is_the_values_own_at_every_place(database: str, table: Ats) -> None:
    table.execute("CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN word AS text; CREATE DOMAIN label AS word")
    for type_, value, expected in TEXTS:
        run(table, "ALTER TABLE public.applications DROP IF EXISTS x, ADD x {type_}", type_=type_)
        run(table, "UPDATE public.applications SET x = %s::text::{type_}", [value], type_=type_)

        row = await read(database, columns={"application_id": "x", "status_url": "x", "status": "x", "job_id": "x"})

        assert (row.application_id, row.status, row.job_id) == (expected, expected, expected)


EXPRESSIONS = {
    "t.x ->> 'step'": "50%",
    "CASE WHEN t.x ->> 'step' LIKE '5_%' THEN '100 %s {} %% done' ELSE '{' END": "100 %s {} %% done",
    "t.status -- the label {} % '": "s",
    "'it''s \"quoted\"'": 'it\'s "quoted"',
    "(SELECT max(s.label) FROM stages s WHERE s.id = t.id)": "First stage",
    "t.x ? 'step' AND t.x @> '{\"step\": \"50%\"}'": "true",
}


async def test_a_text_may_come_from_an_expression(database: str, table: Ats) -> None:
    table.execute("CREATE TABLE stages AS SELECT id, 'First stage' AS label FROM public.applications")
    table.execute('ALTER TABLE public.applications ADD x jsonb DEFAULT \'{"step": "50%"}\'')
    for expression, expected in EXPRESSIONS.items():
        column = {"sql": expression}

        row = await read(database, columns={"status": column}, extra={"again": column})

        assert row.status == expected


SCOPES = {
    "t.status = 's'": True,
    "t.notes = 's'": False,  # NULL is not true
    "t.status LIKE 's%' -- all of them": True,
    "EXISTS (SELECT FROM applications a WHERE a.id = t.id)": True,
}


@pytest.mark.usefixtures("table")
async def test_a_row_is_in_scope_where_the_condition_is_true(database: str) -> None:
    for where, in_scope in SCOPES.items():
        assert (await read(database, where=where)).in_scope is in_scope, where


# Dates of every type become instants, whatever the session's settings are.


PARIS = "Europe/Paris"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def read_date(database: str, ats: Ats, type_: str, value: str | None, timezone: str = "UTC") -> Row:
    """The row whose creation date has this type and value."""
    run(ats, "ALTER TABLE public.applications ALTER created_at TYPE {type_} USING NULL", type_=type_)
    ats.execute("TRUNCATE public.applications")
    insert = "INSERT INTO public.applications (hellowork_id, status, job_id, created_at) VALUES ('a1', 's', 'j', %s)"
    run(ats, insert, [value])
    async with opened(a_config(database, timezone=timezone)) as source:
        return await source.row()


def meant(row: Row) -> Observation:
    return interpret(row, watch_rules(a_config(), WATCH), 0)


INSTANTS = [
    ("timestamptz", "2023-01-10 09:00:00.123456+00", "UTC", "2023-01-10T09:00:00.123456"),
    ("timestamptz", "2023-01-10 09:00:00+05:30", PARIS, "2023-01-10T03:30:00"),
    ("timestamp", "2023-01-10 09:00", PARIS, "2023-01-10T08:00"),
    ("timestamp", "2023-07-10 09:00", PARIS, "2023-07-10T07:00"),
    # The last hour of summer time comes twice; the second one is meant.
    ("timestamp", "2023-10-29 01:59:59", PARIS, "2023-10-28T23:59:59"),
    ("timestamp", "2023-10-29 02:30", PARIS, "2023-10-29T01:30"),
    ("timestamp", "2023-10-29 03:00", PARIS, "2023-10-29T02:00"),
    # The first hour of summer time does not exist; it is moved forward.
    ("timestamp", "2023-03-26 01:59:59", PARIS, "2023-03-26T00:59:59"),
    ("timestamp", "2023-03-26 02:30", PARIS, "2023-03-26T01:30"),
    ("timestamp", "2023-03-26 03:00", PARIS, "2023-03-26T01:00"),
    ("date", "2023-07-10", PARIS, "2023-07-09T22:00"),
    ("timestamptz", "1969-12-31 23:59:59.999999+00", "UTC", "1969-12-31T23:59:59.999999"),
    ("timestamptz", "0001-01-01 00:00+00", "UTC", "0001-01-01T00:00"),
    ("timestamptz", "9999-12-31 23:59:59.999999+00", "UTC", "9999-12-31T23:59:59.999999"),
]


async def test_each_type_is_an_instant(database: str, ats: Ats) -> None:
    for type_, value, timezone, expected in INSTANTS:
        row = await read_date(database, ats, type_, value, timezone)

        assert row.created is not None
        assert EPOCH + timedelta(microseconds=int(row.created)) == datetime.fromisoformat(expected).replace(tzinfo=UTC)
        assert isinstance(meant(row), Reportable)


UNSENDABLE = [
    ("timestamptz", "infinity"),
    ("timestamptz", "10000-01-01 00:00+00"),
    ("timestamptz", "0044-03-15 12:00+00 BC"),
    ("timestamptz", "294276-12-31 23:59:59+00"),
    ("date", "4713-01-01 BC"),
]


async def test_a_date_that_cannot_be_sent_is_that_rows_own_trouble(database: str, ats: Ats) -> None:
    for type_, value in UNSENDABLE:
        reading = meant(await read_date(database, ats, type_, value, "Asia/Tokyo"))

        assert isinstance(reading, Unreportable)
        assert reading.reason == "its creation date is infinite, or its year is outside 1 to 9999"


async def test_a_zone_is_the_same_to_the_server_whatever_its_name_looks_like(ats: Ats) -> None:
    """Some names without a place are abbreviations to PostgreSQL; the configuration refuses those that differ."""
    meant = 0
    for name in sorted(name for name in available_timezones() if "/" not in name):
        try:
            summer = one(ats, "SELECT timestamp '2015-07-15 12:00' AT TIME ZONE %s AT TIME ZONE 'UTC'", [name])
        except psycopg.errors.InvalidParameterValue:
            continue  # not known to this server; see below
        expected = datetime(2015, 7, 15, 12, tzinfo=ZoneInfo(name)).astimezone(UTC).replace(tzinfo=None)
        try:
            a_config(timezone=name)
        except ConfigurationError:
            assert summer != expected, name
        else:
            assert summer == expected, name
        meant += 1
    assert meant > 10


async def test_a_zone_that_the_server_does_not_know_is_told_once_and_with_the_remedy(database: str) -> None:
    config = a_config(database)
    watch = config.watches[WATCH].model_copy(update={"timezone": "Europe/Atlantis"})

    with pytest.raises(SourceError, match="does not know the time zone Europe/Atlantis") as raised:
        async with opened(config.model_copy(update={"watches": {WATCH: watch}})):
            pass

    assert raised.value.kind == "misconfigured"
    assert "pg_timezone_names" in str(raised.value)


SETTINGS: list[dict[str, Any]] = [
    {"datestyle": "German, DMY"},
    {"datestyle": "SQL, MDY"},
    {"timezone": "Asia/Kolkata"},
    {"timezone": "America/St_Johns", "datestyle": "SQL, DMY"},
    {"extra_float_digits": "0"},
    {"bytea_output": "escape"},
    {"search_path": "''"},
    {"client_encoding": "latin1"},
    {"standard_conforming_strings": "off", "backslash_quote": "on"},
    {"default_transaction_isolation": "serializable"},
]


async def digests(source: Source) -> str:
    found = await source.reader.digests(None, 10, "of the test")
    assert found is not None
    return found.text


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
async def test_no_setting_of_the_session_matters(database: str, ats: Ats, settings: dict[str, str]) -> None:
    ats.execute(
        "CREATE TABLE public.dated (d date, ts timestamp, n int, id text, z timestamptz, f float8, x jsonb,"
        " PRIMARY KEY (d, ts, n))"
    )
    ats.execute(
        "INSERT INTO public.dated VALUES ('2024-02-03', '2024-02-03 04:05:06.789', 1, 'é', '2024-07-01 12:00+00',"
        """ 12345.5, '{"at": "2024-01-01", "é": 1.10}')"""
    )
    columns = {"application_id": "id", "status": "f", "job_id": "n", "created": "d", "event_date": "ts", "source": "x"}
    config = a_config(
        database,
        table="public.dated",
        key=["d", "ts", "n"],
        columns={**columns, "deleted": None},
        timezone=PARIS,
        extra={"when": "z", "day": "d", "delay": "f"},
        where="t.z > '2024-01-01'",
    )
    async with opened(config) as source:
        (usual,) = await source.rows()
        usual_digests = await digests(source)
    assert usual.key == ("2024-02-03", "2024-02-03T04:05:06.789", "1")
    assert usual.extra == ('"2024-07-01T12:00:00.000Z"', '"2024-02-03"', "12345.5")

    for name, value in settings.items():
        alter = "DO $do$ BEGIN EXECUTE format('ALTER DATABASE %I SET {name} = {value}', current_database()); END $do$"
        quoted = value if value.startswith("'") else f"'{value}'"
        run(ats, alter, name=name, value=quoted.replace("'", "''"))

    async with opened(config) as source:
        assert await source.rows() == [usual]
        assert await digests(source) == usual_digests
        assert (await source.reader.by_key([usual.key])).rows == [usual]
        assert (await source.reader.by_application(["é"])).rows == [usual]
        assert (await source.reader.page(usual.key, 10)).rows == []
        poll = await source.watermark_reader("ts")
        page = await poll.page((poll.watermark_at(1_700_000_000_000_000),), 1)
        assert page.rows == [usual]
        assert page.last is not None
        assert (await poll.page(page.last, 1)).rows == []


# Digests of rows: the same for rows that say the same, others for all that a comparison depends on.


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
            {"status": "hired"},
            {"status": None},
            {"status": ""},
            {"job_id": "J2"},
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


async def test_a_row_without_an_id_and_one_out_of_scope(database: str, ats: Ats) -> None:
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
