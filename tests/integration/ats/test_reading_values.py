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


def give(ats: Ats, type_: str, value: str | None) -> None:
    run(ats, "ALTER TABLE public.applications ADD x {type_}", type_=type_)
    run(ats, "UPDATE public.applications SET x = %s::text::{type_}", [value], type_=type_)


class TestSource:
    @pytest.mark.parametrize(
        ("type_", "value", "expected"),
        [
            ("text", "hellowork.com", '"hellowork.com"'),
            ("text", 'with "quotes" \\ and é', '"with \\"quotes\\" \\\\ and é"'),
            ("text", '{"not": "parsed"}', '"{\\"not\\": \\"parsed\\"}"'),
            ("text", None, None),
            ("json", '{"b": 1, "a": 1.10}', '{"b": 1, "a": 1.10}'),
            ("json", '"text"', '"text"'),
            ("jsonb", '{"b": 1, "a": 1.10}', '{"a": 1.10, "b": 1}'),
            ("jsonb", "null", "null"),
            ("jsonb", None, None),
            ("jsonb", "[1, 2]", "[1, 2]"),
            ("int", "7", "7"),
            ("numeric", "9007199254740993.10", "9007199254740993.10"),
            ("boolean", "true", "true"),
            ("text[]", "{a,b}", '["a","b"]'),
        ],
    )
    async def test_is_json(
        self, database: str, table: Ats, type_: str, value: str | None, expected: str | None
    ) -> None:
        give(table, type_, value)

        assert (await read(database, columns={"source": "x"})).source == expected

    async def test_extra_fields_are_json_in_their_order(self, database: str, table: Ats) -> None:
        give(table, "int", "5")

        row = await read(
            database, extra={"z": "x", "a": {"sql": "t.x * 1.5"}, "none": {"sql": "NULL::int"}, "t": "status"}
        )

        assert row.extra == ("5", "7.5", None, '"s"')

    @pytest.mark.usefixtures("table")
    async def test_may_be_the_same_for_all(self, database: str) -> None:
        columns = {"source": {"sql": "'hellowork.com'"}}

        row = await read(database, columns=columns, extra={"version": {"sql": "'2'"}})

        assert (row.source, row.extra) == ('"hellowork.com"', ('"2"',))


class TestDeleted:
    @pytest.mark.parametrize(
        ("type_", "value", "deleted"),
        [
            ("boolean", "true", True),
            ("boolean", "false", False),
            ("boolean", None, False),
            ("timestamptz", "2024-01-01", True),
            ("timestamptz", None, False),
            ("timestamp", "2024-01-01", True),
            ("date", "infinity", True),
            ("date", None, False),
        ],
    )
    async def test_is_a_boolean_or_a_date(
        self, database: str, table: Ats, type_: str, value: str | None, *, deleted: bool
    ) -> None:
        give(table, type_, value)

        assert (await read(database, columns={"deleted": "x"})).deleted is deleted

    @pytest.mark.parametrize(("value", "deleted"), [("O", True), ("N", False), (None, False)])
    async def test_another_representation_takes_an_expression(
        self, database: str, table: Ats, value: str | None, *, deleted: bool
    ) -> None:
        give(table, "char(1)", value)

        assert (await read(database, columns={"deleted": {"sql": "t.x = 'O'"}})).deleted is deleted

    async def test_nothing_mapped_is_never_deleted(self, database: str, table: Ats) -> None:
        table.execute("UPDATE public.applications SET deleted_at = now()")

        assert not (await read(database, columns={"deleted": None})).deleted


class TestText:
    @pytest.mark.parametrize(
        ("type_", "value", "expected"),
        [
            ("char(12)", "interview", "interview"),
            ("varchar(9)", "interview", "interview"),
            ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("bigint", "9007199254740993", "9007199254740993"),
            ("numeric", "10.50", "10.50"),
            ("boolean", "true", "true"),
            ("mood", "happy", "happy"),
            ("label", "hired", "hired"),
            ("text", " spaces and\nlines ", " spaces and\nlines "),
            ("text", "", ""),
            ("text", None, None),
            ("name", "n", "n"),
            ('"char"', "c", "c"),
        ],
    )
    async def test_is_the_values_own_at_every_place(
        self, database: str, table: Ats, type_: str, value: str | None, expected: str | None
    ) -> None:
        table.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN word AS text; CREATE DOMAIN label AS word"
        )
        give(table, type_, value)

        row = await read(database, columns={"application_id": "x", "status_url": "x", "status": "x", "job_id": "x"})

        assert (row.application_id, row.status, row.job_id) == (expected, expected, expected)

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("t.x ->> 'step'", "50%"),
            ("t.x -> 'step' #>> '{}'", "50%"),
            ("CASE WHEN t.x ->> 'step' LIKE '5_%' THEN '100 %s {} %% done' ELSE '{' END", "100 %s {} %% done"),
            ("(t.x #>> '{inner,deep}')::int % 4", "3"),
            ("t.status -- the label {} % '", "s"),
            ("t.status /* the label ) */", "s"),
            ("'it''s \"quoted\"'", 'it\'s "quoted"'),
            ("(SELECT max(s.label) FROM stages s WHERE s.id = t.stage_id)", "First stage"),
            ("NULL", None),
            ("t.x ? 'step' AND t.x @> '{\"step\": \"50%\"}'", "true"),
        ],
    )
    async def test_may_come_from_an_expression(
        self, database: str, table: Ats, expression: str, expected: str | None
    ) -> None:
        table.execute("CREATE TABLE stages AS SELECT 1 AS id, 'First stage' AS label")
        table.execute("ALTER TABLE public.applications ADD stage_id int DEFAULT 1")
        give(table, "jsonb", '{"step": "50%", "inner": {"deep": 7}}')
        column = {"sql": expression}

        row = await read(database, columns={"status": column}, extra={"again": column})

        assert row.status == expected


@pytest.mark.usefixtures("table")
class TestScope:
    @pytest.mark.parametrize(
        ("where", "in_scope"),
        [
            ("t.status = 's'", True),
            ("t.status = 'other'", False),
            ("t.notes = 's'", False),  # NULL is not true
            ("t.status LIKE 's%' -- all of them", True),
            ("true OR false", True),
            ("EXISTS (SELECT FROM applications a WHERE a.id = t.id)", True),
        ],
    )
    async def test_is_where_the_condition_is_true(self, database: str, where: str, *, in_scope: bool) -> None:
        assert (await read(database, where=where)).in_scope is in_scope

    async def test_is_everywhere_without_a_condition(self, database: str) -> None:
        assert (await read(database)).in_scope


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
