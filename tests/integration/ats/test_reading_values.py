"""What a row's values become: text, JSON, deleted or not, in scope or not."""

from typing import Any

import pytest
from support import strange
from support.sessions import Ats, run
from support.source import opened
from support.watched import a_config, some_config

from cdc_sync.core.rows import Row


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


async def test_names_that_need_quotes(database: str, ats: Ats) -> None:
    strange.create(ats)
    strange.insert(ats, 1)
    strange.insert(ats, 2, text="100%s")
    async with opened(some_config(database, {"strange": strange.WATCH_SECTION})) as source:
        first, second = sorted(await source.rows(), key=lambda row: row.key[1])
        found = await source.reader.by_key([first.key, second.key, ("none", "3")])
        mine = await source.reader.by_application(["100%s"])
        rest = await source.reader.page(min(first.key, second.key), 10)

    assert (first.key, first.status, first.job_id) == ((strange.KEY, "1"), "new", "J1")
    assert sorted(row.key for row in found.rows) == sorted([first.key, second.key])
    assert [row.key for row in mine.rows] == [("100%s", "2")]
    assert len(rest.rows) == 1
