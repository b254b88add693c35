"""What it costs to find the rows on which an expression fails, and what is read of them and of the others."""

from itertools import count
from typing import Any

import pytest
from support.applications import insert
from support.sessions import Ats, run
from support.source import Source, opened
from support.watched import a_config

from cdc_sync.core.rows import Row
from cdc_sync.source.connection import Pool, Rows
from cdc_sync.source.errors import SourceError
from cdc_sync.source.unreadable import NOT_ISOLATED

FRAGILE: dict[str, Any] = {
    "status": {"sql": "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text ELSE t.status END"}
}


def insert_many(ats: Ats, number: int) -> None:
    run(
        ats,
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at, updated_at)"
        " SELECT i, 'a' || i, 's', 'j', now(), now() FROM generate_series(1, %s) AS i",
        [number],
    )


def spoil(ats: Ats, condition: str) -> None:
    run(ats, "UPDATE public.applications SET notes = 'bad' WHERE {condition}", condition=condition)


class Statements:
    """Counts the statements that read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        read = Pool.read

        async def counted(*arguments: Any) -> Rows:
            self.number += 1
            return await read(*arguments)

        monkeypatch.setattr(Pool, "read", counted)

    def since(self) -> int:
        """How many there were since the last call."""
        number, self.number = self.number, 0
        return number


def bad(rows: list[Row]) -> set[str]:
    return {row.key[0] for row in rows if row.unreadable}


async def test_some_statements_more_for_each_bad_row_and_few_when_it_is_met_again(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_many(ats, 1000)
    spoil(ats, "id IN (10, 500, 990)")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        statements = Statements(monkeypatch)

        page = await source.reader.page(None, 1000)

        assert len(page.rows) == 1000
        assert bad(page.rows) == {"10", "500", "990"}
        # The page, its keys, what cannot be a key; by halves to each row; its ten expressions, once for all of a kind.
        assert statements.since() <= 5 + 3 * 2 * 11 + 15
        again = await source.reader.page(None, 1000)
        assert bad(again.rows) == {"10", "500", "990"}
        assert statements.since() <= 5 + 3 * 3


async def test_thousands_of_bad_rows_in_a_row_cost_two_statements_each(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import of long ago, at the head of the table: no row of the page can be read, but the table's last ones."""
    insert_many(ats, 1200)
    spoil(ats, "id <= 1000")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        statements = Statements(monkeypatch)

        page = await source.reader.page(None, 1000)

        assert len(bad(page.rows)) == 1000
        assert page.last == ("1000",)
        assert statements.since() <= 4 * 1000


async def test_too_many_to_be_told_apart_at_once_are_told_apart_time_after_time(database: str, ats: Ats) -> None:
    """The change log's transaction is open meanwhile, and ends after a minute."""
    insert_many(ats, 64)
    spoil(ats, "id % 8 = 0")
    worst = {str(id_) for id_ in range(8, 65, 8)}
    ticks = count()
    async with opened(a_config(database, columns=FRAGILE), clock=lambda: float(next(ticks))) as source:
        keys = [(str(number),) for number in range(1, 65)]
        left: list[int] = []
        while True:
            read = await source.reader.by_key(keys)
            assert {row.key for row in read.rows} == set(keys), "none is taken for one that is gone"
            left.append(sum(row.unreadable == NOT_ISOLATED for row in read.rows))
            if not left[-1]:
                break

        assert left[0] > 0, "the time is over before all are isolated"
        assert left == sorted(set(left), reverse=True), "each time some more are"
        assert bad(read.rows) == worst


async def test_what_can_be_read_of_a_bad_row_is(database: str, ats: Ats) -> None:
    insert(ats, 1, "a1", notes="bad", deleted_at="2024-01-01")
    insert(ats, 2, "a2")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        (row,) = (await source.reader.by_application(["a1"])).rows

        assert (row.key, row.application_id, row.job_id, row.deleted) == (("1",), "a1", "J1", True)
        assert row.status is None
        assert row.unreadable == "columns.status cannot be read: division by zero"


async def test_bytes_that_are_no_text_are_a_rows_own_where_the_database_knows_its_encoding(
    database: str, ats: Ats
) -> None:
    insert(ats, 1, "a1", notes="e9")
    insert(ats, 2, "a2", notes="41")
    columns = {"status": {"sql": "convert_from(decode(t.notes, 'hex'), 'UTF8')"}}
    async with opened(a_config(database, columns=columns)) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "A"
        assert bad_row.unreadable == "columns.status cannot be read: invalid byte sequence for encoding …: …"


@pytest.mark.parametrize("code", ["HW001", "45000", "U0001"])
async def test_an_error_of_a_functions_own_sqlstate_is_its_rows_own(database: str, ats: Ats, code: str) -> None:
    run(
        ats,
        "CREATE FUNCTION public.checked(note text) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN IF note = 'bad' THEN RAISE 'no status for \"%\"', note USING ERRCODE = '{code}'; END IF;"
        " RETURN 'fine'; END$$",
        code=code,
    )
    insert(ats, 1, "a1", notes="bad")
    insert(ats, 2, "a2", notes="good")
    config = a_config(database, columns={"status": {"sql": "public.checked(t.notes)"}})
    async with opened(config) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "fine"
        assert bad_row.unreadable == "columns.status cannot be read: no status for …"

    run(ats, "UPDATE public.applications SET notes = 'bad'")
    async with opened(config) as source:
        with pytest.raises(SourceError, match="A function that columns or where call raises an error") as raised:
            await source.reader.page(None, 10)
        assert raised.value.code == "function-raised"


async def test_several_expressions_that_fail_are_all_named(database: str, ats: Ats) -> None:
    insert(ats, 1, "a1", notes="bad")
    insert(ats, 2, "a2")
    columns = {**FRAGILE, "job_id": FRAGILE["status"]}
    async with opened(a_config(database, columns=columns)) as source:
        read = await source.reader.by_key([("1",), ("2",)])

        assert [row.unreadable for row in read.rows if row.unreadable] == [
            "columns.status, columns.job_id cannot be read: division by zero"
        ]


@pytest.mark.parametrize("composite", [False, True])
async def test_an_application_is_found_among_rows_whose_id_cannot_be_read(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch, *, composite: bool
) -> None:
    insert_many(ats, 2500)
    spoil(ats, "id IN (1, 1700)")
    id_ = "CASE t.notes WHEN 'bad' THEN (1 / (length(t.notes) - 3))::text ELSE t.hellowork_id END"
    key = ["id", "hellowork_id"] if composite else ["id"]
    async with opened(a_config(database, key=key, columns={"application_id": {"sql": id_}})) as source:
        for _ in range(2):
            read = await source.reader.by_application(["a2400", "a3"])
            assert {row.application_id for row in read.rows} == {"a2400", "a3", None}
            assert bad(read.rows) == {"1", "1700"}
        statements = Statements(monkeypatch)
        await source.reader.by_application(["a2400"])
        assert statements.since() <= 15, "it is known which rows to leave out"


async def test_a_row_that_is_corrected_is_read_as_any_other(database: str, ats: Ats) -> None:
    insert_many(ats, 3)
    spoil(ats, "id = 2")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        assert bad((await source.reader.page(None, 10)).rows) == {"2"}
        run(ats, "UPDATE public.applications SET notes = NULL")
        assert bad(await source.rows()) == set()


async def test_another_error_stays_one(database: str, ats: Ats) -> None:
    insert_many(ats, 3)
    spoil(ats, "id = 2")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        await source.reader.page(None, 10)
        run(ats, "ALTER TABLE public.applications RENAME job_id TO job")
        with pytest.raises(SourceError, match="does not exist"):
            await source.reader.page(None, 10)


async def test_no_row_that_can_be_read_is_the_configurations_fault(database: str, ats: Ats) -> None:
    insert_many(ats, 100)
    spoil(ats, "true")

    async def complaint(source: Source) -> str:
        with pytest.raises(SourceError) as raised:
            await source.reader.page(None, 50)
        return raised.value.message

    async with opened(a_config(database, columns=FRAGILE)) as source:
        assert (await complaint(source)).endswith(
            "No row that was tried can be read. In the row 1, columns.status cannot be read: division by zero."
        )
