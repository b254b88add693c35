"""Which columns an expression uses, as PostgreSQL finds them, and what lacks them."""

import pytest
from support.roles import NewRole, dsn_of
from support.sessions import Ats, one, run

from cdc_sync.ats.connection import connected
from cdc_sync.ats.depends_on import Used, used
from cdc_sync.ats.errors import SourceError
from cdc_sync.ats.facts import table_facts
from cdc_sync.config import SqlColumn
from cdc_sync.core.identifiers import QualifiedName

TABLES = """
CREATE TABLE public.candidatures (
    id bigint PRIMARY KEY, "Étape" integer, stage_id integer, hired boolean, step text, at timestamptz, tags text[]);
CREATE TABLE public.stages (id integer PRIMARY KEY, label text);
CREATE FUNCTION public.label_of(public.candidatures) RETURNS text LANGUAGE sql AS 'SELECT $1.step';
CREATE VIEW public.shown AS SELECT id, step AS status FROM public.candidatures;
"""

EVERY = ("id", "Étape", "stage_id", "hired", "step", "at", "tags")


@pytest.fixture(autouse=True)
def _tables(ats: Ats) -> None:
    run(ats, TABLES)


async def found(dsn: str, expression: str, table: str = "candidatures") -> Used:
    async with connected(dsn) as connection:
        facts = await table_facts(connection, QualifiedName("public", table))
        return await used(connection, facts, SqlColumn(sql=expression))


EXPRESSIONS = [
    ("upper(step) -- t.hired", ["step"], []),
    ("CASE WHEN t.hired THEN 'hired, 100%' ELSE t.step END", ["hired", "step"], []),
    ("(SELECT s.label FROM public.stages s WHERE s.id = t.stage_id)", ["stage_id"], ["public.stages"]),
    ("EXISTS (SELECT FROM stages s WHERE s.id = t.stage_id AND t.hired)", ["stage_id", "hired"], ["public.stages"]),
    ("t.tags[1]", ["tags"], []),
    ("'ATS'", [], []),
    ("label_of(t)", list(EVERY), []),
    ("to_jsonb(t.*) ->> 'step'", list(EVERY), []),
    ("ROW(t.id, t.step)", ["id", "step"], []),
]


async def test_an_expression_uses_what_a_view_of_it_depends_on(database: str) -> None:
    for expression, columns, tables in EXPRESSIONS:
        assert await found(database, expression) == Used(tuple(columns), tuple(tables))


async def test_of_a_view_too(database: str) -> None:
    assert (await found(database, "upper(t.status)", "shown")).columns == ("status",)


async def test_nothing_is_left_of_it(ats: Ats, database: str) -> None:
    before = one(ats, "SELECT count(*) FROM pg_class")
    async with connected(database) as connection:
        facts = await table_facts(connection, QualifiedName("public", "candidatures"))
        for _ in range(2):
            await used(connection, facts, SqlColumn(sql="t.step"))
        assert one(ats, "SELECT count(*) FROM pg_class") == before


async def test_a_role_that_may_create_no_temporary_view(ats: Ats, database: str, new_role: NewRole) -> None:
    role = new_role()
    run(ats, "REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC", name=ats.info.dbname)
    with pytest.raises(SourceError, match="permission denied to create temporary tables"):
        await found(dsn_of(database, role), "t.step")
    run(ats, "GRANT TEMPORARY ON DATABASE {name} TO {role}", name=ats.info.dbname, role=role)
    # To create a view takes no right to read the columns.
    assert (await found(dsn_of(database, role), "t.step")).columns == ("step",)


async def test_a_role_whose_transactions_are_read_only(ats: Ats, database: str, new_role: NewRole) -> None:
    role = new_role()
    run(ats, "ALTER ROLE {role} SET default_transaction_read_only = on", role=role)
    assert (await found(dsn_of(database, role), "t.step")).columns == ("step",)
