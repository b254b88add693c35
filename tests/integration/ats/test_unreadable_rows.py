"""Rows on which an expression fails: what is read of them and of the others."""

from typing import Any

import pytest
from support.applications import insert
from support.sessions import Ats, run
from support.source import opened
from support.watched import a_config

from cdc_sync.ats import unreadable
from cdc_sync.ats.connection import Pool, Rows
from cdc_sync.ats.errors import SourceError
from cdc_sync.core.rows import Row

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


async def test_a_page_that_cannot_be_read_is_read_row_by_row_once(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_many(ats, 150)
    spoil(ats, "id IN (10, 50, 99)")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        statements = Statements(monkeypatch)

        page = await source.reader.page(None, 150)

        assert len(page.rows) == 150
        assert bad(page.rows) == {"10", "50", "99"}
        # The page, its keys, their rows together, and each; the six pieces of each bad one, and a row that is read.
        assert statements.since() <= 3 + 150 + 3 * (6 + 2)
        again = await source.reader.page(None, 150)
        assert bad(again.rows) == {"10", "50", "99"}
        assert statements.since() <= 3 + 3 * (1 + 6), "it is known which rows to read alone"


async def test_too_many_unreadable_rows_stop_the_watch(
    database: str, ats: Ats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable, "_MOST", 25)
    insert_many(ats, 60)
    spoil(ats, "id <= 25")
    async with opened(a_config(database, columns=FRAGILE)) as source:
        first = await source.reader.page(None, 24)
        with pytest.raises(SourceError) as raised:
            await source.reader.page(first.last, 24)
        assert raised.value.message.endswith(
            "25 rows cannot be read. Of the row 25: it cannot be read: division by zero."
        )


async def test_bytes_that_are_no_text_are_a_rows_own_where_the_database_knows_its_encoding(
    database: str, ats: Ats
) -> None:
    insert(ats, 1, "a1", notes="e9")
    insert(ats, 2, "a2", notes="41")
    columns = {"status": {"sql": "convert_from(decode(t.notes, 'hex'), 'UTF8')"}}
    async with opened(a_config(database, columns=columns)) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "A"
        assert bad_row.unreadable == "it cannot be read: invalid byte sequence for encoding …: …"


CHECKED = """
CREATE OR REPLACE FUNCTION public.checked(note text) RETURNS text LANGUAGE plpgsql AS $$BEGIN
    IF note = 'bad' THEN RAISE 'no status for "%"', note USING ERRCODE = '{sqlstate}'; END IF;
    RETURN 'fine';
END$$
"""


async def test_an_error_of_a_functions_own_sqlstate_is_its_rows_own_and_one_of_the_servers_is_not(
    database: str, ats: Ats
) -> None:
    run(ats, CHECKED, sqlstate="HW001")
    insert(ats, 1, "a1", notes="bad")
    insert(ats, 2, "a2", notes="good")
    config = a_config(database, columns={"status": {"sql": "public.checked(t.notes)"}})
    async with opened(config) as source:
        bad_row, row = sorted(await source.rows(), key=lambda row: row.key)

        assert row.status == "fine"
        assert bad_row.unreadable == "it cannot be read: no status for …"
        run(ats, CHECKED, sqlstate="53200")
        with pytest.raises(SourceError, match="no status for"):
            await source.reader.by_key([("1",), ("2",)])

    run(ats, CHECKED, sqlstate="HW001")
    run(ats, "UPDATE public.applications SET notes = 'bad'")
    async with opened(config) as source:
        with pytest.raises(SourceError, match="No row that was tried can be read"):
            await source.reader.page(None, 10)


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
            assert {row.application_id for row in read.rows} == {"a2400", "a3"}
        statements = Statements(monkeypatch)
        await source.reader.by_application(["a2400"])
        assert statements.since() <= 30, "it is known which rows to leave out"
