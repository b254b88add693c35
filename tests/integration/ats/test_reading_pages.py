"""Walks in key order, rows by key, rows by application."""

from typing import Any

import pytest
from support.eventually import eventually
from support.sessions import Ats, one, rows, run
from support.source import Source, opened
from support.watched import a_config

from cdc_sync.config import Config
from cdc_sync.core.rows import Key

WORDS = ["", " 10", "9", "A", "B", "Z", "_", "a", "a b", "a-b", "ab", "b", "É", "é", "ÿ", "œuf", "-", "'", "%", "\\"]

KEPT = "SELECT to_jsonb(p) ->> 'generic_plans' FROM pg_prepared_statements AS p WHERE statement ~ 'public.*keyed'"


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
    @pytest.mark.parametrize("collation", ["default", "C", "POSIX", "ucs_basic"])
    async def test_meets_every_text_key_once(self, database: str, ats: Ats, collation: str) -> None:
        run(ats, 'CREATE TABLE public.keyed (k text COLLATE "{collation}" PRIMARY KEY, s text)', collation=collation)
        ats.cursor().executemany("INSERT INTO public.keyed VALUES (%s, 'x')", [[word] for word in WORDS])

        async with opened(keyed(database, "k")) as source:
            met = [await walk(source, size) for size in (1, 3, len(WORDS), 100)]

        assert met == [rows(ats, "SELECT k FROM public.keyed ORDER BY k")] * 4

    @pytest.mark.parametrize(
        ("type_", "values"),
        [
            ("int", ["-2", "-1", "0", "9", "10"]),
            ("bigint", ["9007199254740992", "9007199254740993", "9007199254740994"]),
            ("numeric(10,2)", ["-1.50", "2.00", "10.00"]),
            ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            ("mood", ["sad", "happy", "angry"]),
            ("label", ["a", "b", "c"]),
            ("char(4)", ["a   ", "ab  ", "b   "]),
            ("varchar(2)", ["a", "ab", "b"]),
            ("date", ["2023-12-31", "2024-01-02", "2024-02-01"]),
            ("timestamp", ["2024-01-01T00:00:00", "2024-01-01T00:00:00.000001", "2024-01-02T00:00:00"]),
            ("boolean", ["false", "true"]),
        ],
    )
    async def test_follows_the_types_own_order(self, database: str, ats: Ats, type_: str, values: list[str]) -> None:
        ats.execute("CREATE TYPE mood AS ENUM ('sad', 'happy', 'angry'); CREATE DOMAIN label AS text NOT NULL")
        run(ats, "CREATE TABLE public.keyed (k {type_} PRIMARY KEY, s text)", type_=type_)
        for value in reversed(values):
            run(ats, "INSERT INTO public.keyed VALUES (%s::text::{type_}, 'x')", [value], type_=type_)
        keys = [(value,) for value in values]

        async with opened(keyed(database, "k")) as source:
            assert await walk(source, 1) == keys
            assert sorted(row.key for row in (await source.reader.by_key(keys)).rows) == sorted(keys)

    async def test_of_a_key_of_several_columns(self, database: str, ats: Ats) -> None:
        ats.execute("CREATE TABLE public.keyed (a text, b int, c date, s text, PRIMARY KEY (a, b, c))")
        ats.execute(
            "INSERT INTO public.keyed SELECT a, b, c, 'x' FROM unnest('{x,y,Z,é}'::text[]) a,"
            " unnest('{2,10,-1}'::int[]) b, unnest('{2024-01-01,2023-12-31}'::date[]) c"
        )

        async with opened(keyed(database, "a", "b", "c")) as source:
            met = await walk(source, 5)
            found = await source.reader.by_key([*met[3:6], ("x", "99", "2024-01-01")])

        assert met == rows(
            ats, "SELECT a, b::text, to_char(c, 'YYYY-MM-DD') FROM public.keyed k ORDER BY k.a, k.b, k.c"
        )
        assert len(met) == 24
        assert sorted(row.key for row in found.rows) == sorted(met[3:6])

    async def test_leaves_rows_out_that_have_no_key(self, database: str, ats: Ats) -> None:
        ats.execute("CREATE TABLE public.keyed (a int, b int, s text)")
        ats.execute("INSERT INTO public.keyed (a, b) VALUES (1, 1), (1, NULL), (2, NULL), (NULL, 1), (3, 3), (4, NULL)")

        async with opened(keyed(database, "a", "b")) as source:
            assert [await walk(source, size) for size in (1, 2, 3, 9)] == [[("1", "1"), ("3", "3")]] * 4

    async def test_of_an_empty_table_is_one_empty_page(self, database: str) -> None:
        async with opened(a_config(database)) as source:
            page = await source.reader.page(None, 10)

        assert (page.rows, page.last) == ([], None)

    async def test_of_a_view_and_of_partitions(self, database: str, ats: Ats) -> None:
        ats.execute("CREATE TABLE parts (k int, s text) PARTITION BY RANGE (k)")
        ats.execute("CREATE TABLE p0 PARTITION OF parts FOR VALUES FROM (0) TO (15)")
        ats.execute("CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM (15) TO (30)")
        ats.execute("INSERT INTO parts SELECT n, 'x' FROM generate_series(0, 29) n")
        ats.execute("CREATE VIEW shown AS SELECT k, upper(s) AS s FROM parts WHERE k >= 5")

        async with opened(keyed(database, "k", table="parts")) as source:
            assert await walk(source, 7) == [(str(n),) for n in range(30)]
        async with opened(keyed(database, "k", table="shown")) as source:
            assert await walk(source, 7) == [(str(n),) for n in range(5, 30)]

    async def test_tells_the_databases_clock_from_before_the_read(self, database: str, ats: Ats) -> None:
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a1')")
        milliseconds = "SELECT extract(epoch FROM clock_timestamp())::numeric * 1000"

        async with opened(a_config(database)) as source:
            before = one(ats, milliseconds)
            read = await source.reader.page(None, 1)

        assert before - 1 < read.at < one(ats, milliseconds)


ID = "A/é 1"
BASE = "https://ats-partner.hellowork.com/v1/applications/"


class TestByKey:
    @pytest.mark.parametrize("key", [("a",), ("a", "b")])
    async def test_is_parsed_and_planned_once_for_any_number_of_keys(
        self, database: str, ats: Ats, key: tuple[str, ...]
    ) -> None:
        ats.execute("CREATE TABLE public.keyed (a int PRIMARY KEY, b int UNIQUE, s text)")
        ats.execute("INSERT INTO public.keyed SELECT i, i, 'x' FROM generate_series(1, 9) AS i")

        async with opened(keyed(database, *key)) as source:
            for number in [1, 9] * 6:
                keys = [(str(each),) * len(key) for each in range(1, number + 1)]
                assert len((await source.reader.by_key(keys)).rows) == number
            kept = await source.reader.pool.fetch(KEPT, (), "looking")

        # Another minute is another statement.
        assert len(kept) in {1, 2}
        if kept[0] != (None,):  # unknown before PostgreSQL 14
            assert max(int(planned_once) for (planned_once,) in kept) > 0


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
            {"application_id": "hellowork_id"},
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

    @pytest.mark.parametrize(
        ("type_", "id_", "others"),
        [
            ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", ["b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
            ("bigint", "9007199254740993", ["9007199254740992"]),
            ("char(9)", "abc", ["abcd"]),
            ("varchar(9)", "abc", ["ab"]),
            ("label", "abc", ["ab"]),
        ],
    )
    async def test_in_the_columns_own_type(
        self, database: str, ats: Ats, type_: str, id_: str, others: list[str]
    ) -> None:
        ats.execute("CREATE DOMAIN label AS varchar(12)")
        run(ats, "ALTER TABLE public.applications ALTER hellowork_id TYPE {type_} USING NULL", type_=type_)
        for value in [*others, id_]:
            run(ats, "INSERT INTO public.applications (hellowork_id) VALUES (%s)", [value])

        async with opened(a_config(database)) as source:
            found = await source.reader.by_application([id_])

        assert [row.application_id for row in found.rows] == [id_]

    async def test_uses_the_columns_index(self, database: str, table: Ats) -> None:
        table.execute(
            "INSERT INTO public.applications (id, hellowork_id) SELECT n, 'x' || n FROM generate_series(10, 5000) n"
        )
        table.execute("ANALYZE public.applications")
        used = "SELECT coalesce(idx_scan, 0) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%hellowork_id%'"
        before = one(table, used)

        async with opened(a_config(database)) as source:
            await source.reader.by_application(["x77", "x78"])

        await eventually(lambda: one(table, used) > before, "the index was used")

    async def test_where_the_id_is_null_the_one_in_the_url_counts(self, database: str, table: Ats) -> None:
        url = "https://ats-partner.hellowork.com/v1/applications/from-url/status"
        table.execute("UPDATE public.applications SET hellowork_id = NULL, status_api_url = %s WHERE id = 2", [url])
        table.execute("UPDATE public.applications SET hellowork_id = 'x3' WHERE id = 3")
        columns = {"application_id": "hellowork_id", "status_url": "status_api_url"}

        async with opened(a_config(database, columns=columns)) as source:
            (by_key,) = (await source.reader.by_key([("2",)])).rows
            both = (await source.reader.by_application(["from-url", "x3"])).rows

        assert (by_key.application_id, by_key.status_url) == (None, url)
        assert {row.key for row in both} == {("2",), ("3",)}
