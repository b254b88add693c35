"""From whom row-level security may hide rows: PostgreSQL's own behaviour is the measure.

Each case also counts the rows that the role really sees in a table where every policy that is not `true` hides one.
"""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from support.roles import NewRole, dsn_of
from support.sessions import Ats, run
from support.source import opened
from support.versions import needs
from support.watched import a_config

from cdc_sync.ats.row_security import Hiding

TABLE = "public.applications"
ENABLE = "ALTER TABLE public.applications ENABLE ROW LEVEL SECURITY;"
FORCE = "ALTER TABLE public.applications FORCE ROW LEVEL SECURITY;"
MOST = "CREATE POLICY most ON public.applications USING (id <> 2);"
ALL = "CREATE POLICY everything ON public.applications FOR SELECT TO {role} USING (true);"
NARROW = "CREATE POLICY narrow ON public.applications AS RESTRICTIVE TO {role} USING (id <> 2);"


@pytest.fixture
def role(ats: Ats, new_role: NewRole) -> str:
    """A role that may read two applications, 1 and 2."""
    name = new_role()
    run(ats, "INSERT INTO public.applications (id, hellowork_id) VALUES (1, 'a1'), (2, 'a2')")
    run(ats, "GRANT USAGE ON SCHEMA public TO {role}; GRANT SELECT ON public.applications TO {role}", role=name)
    return name


Prepare: TypeAlias = Callable[[str], None]


@pytest.fixture
def prepare(ats: Ats, role: str, new_role: NewRole) -> Prepare:
    """Runs statements in which `{role}` stands for that role, and `{other}` for another one."""
    other = new_role()
    return lambda statements: run(ats, statements or "SELECT", role=role, other=other)


async def looked_at(database: str, role: str, table: str = TABLE) -> tuple[frozenset[Hiding], int]:
    """Whose policies may hide rows from a role, and how many rows it sees."""
    async with opened(a_config(dsn_of(database, role), table=table)) as source:
        return await source.reader.hidden_by(), len(await source.rows())


@pytest.mark.parametrize(
    "statements",
    [
        "",
        MOST,
        ENABLE + MOST + "ALTER TABLE public.applications OWNER TO {role};",
        ENABLE + MOST + "ALTER ROLE {role} BYPASSRLS;",
        ENABLE + FORCE + ALL + "ALTER TABLE public.applications OWNER TO {role};",
        ENABLE + MOST + ALL,
        ENABLE + "CREATE POLICY everything ON public.applications USING (true);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE TO postgres USING (false);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE USING (true);",
        ENABLE + ALL + "CREATE POLICY narrow ON public.applications AS RESTRICTIVE FOR UPDATE USING (false);",
        ENABLE + "CREATE POLICY everything ON public.applications TO {other} USING (true); GRANT {other} TO {role};",
    ],
)
async def test_nothing_is_hidden(database: str, role: str, prepare: Prepare, statements: str) -> None:
    prepare(statements)

    assert await looked_at(database, role) == (frozenset(), 2)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (ENABLE, ((), 0)),
        (ENABLE + MOST, ((), 1)),
        (ENABLE + MOST + FORCE + "ALTER TABLE public.applications OWNER TO {role};", ((), 1)),
        (ENABLE + ALL + NARROW, (("narrow",), 1)),
        (ENABLE + "CREATE POLICY everything ON public.applications FOR UPDATE USING (true);", ((), 0)),
        (ENABLE + "CREATE POLICY everything ON public.applications TO {other} USING (true);", ((), 0)),
        # What only happens to hide nothing is not known to.
        (ENABLE + "CREATE POLICY equal ON public.applications FOR SELECT USING (id = id);", ((), 2)),
    ],
)
async def test_something_may_be_hidden(
    database: str, role: str, prepare: Prepare, statements: str, expected: tuple[tuple[str, ...], int]
) -> None:
    prepare(statements)
    restrictive, seen = expected

    assert await looked_at(database, role) == (frozenset({Hiding(TABLE, role, restrictive)}), seen)


class TestAView:
    """Under a view the rights of its owner count, under one with `security_invoker` those of whoever reads."""

    async def test_of_the_tables_owner_hides_nothing(self, database: str, ats: Ats, role: str) -> None:
        run(ats, ENABLE + MOST + "REVOKE ALL ON public.applications FROM {role};" + VIEW, role=role)

        assert await looked_at(database, role, "public.v") == (frozenset(), 2)

    async def test_of_somebody_who_is_subject_may_hide(
        self, database: str, ats: Ats, role: str, new_role: NewRole
    ) -> None:
        owner = new_role()
        run(ats, ENABLE + MOST + ALL + VIEW, role=role)
        run(ats, "GRANT SELECT ON public.applications TO {owner}; ALTER VIEW public.v OWNER TO {owner}", owner=owner)

        assert await looked_at(database, role, "public.v") == (frozenset({Hiding(TABLE, owner, ())}), 1)

    async def test_with_the_rights_of_whoever_reads(self, database: str, ats: Ats, role: str) -> None:
        needs(ats, 15, "security_invoker of views")
        run(ats, ENABLE + MOST + VIEW + "ALTER VIEW public.v SET (security_invoker = on)", role=role)
        assert await looked_at(database, role, "public.v") == (frozenset({Hiding(TABLE, role, ())}), 1)

        run(ats, ALL, role=role)
        assert await looked_at(database, role, "public.v") == (frozenset(), 2)


VIEW = "CREATE VIEW public.v AS SELECT * FROM public.applications; GRANT SELECT ON public.v TO {role};"


async def test_a_partition_is_under_its_parents_policies_alone(database: str, ats: Ats, role: str) -> None:
    run(
        ats,
        "ALTER TABLE public.applications RENAME TO old;"
        "CREATE TABLE public.applications (LIKE old) PARTITION BY RANGE (id);"
        "CREATE TABLE public.part PARTITION OF public.applications FOR VALUES FROM (0) TO (10);"
        "INSERT INTO public.applications SELECT * FROM old;"
        "ALTER TABLE public.part ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON public.applications TO {role}",
        role=role,
    )
    assert await looked_at(database, role) == (frozenset(), 2)

    run(ats, ENABLE)
    assert await looked_at(database, role) == (frozenset({Hiding(TABLE, role, ())}), 0)


async def test_a_lookup_table_of_an_expression_counts(database: str, ats: Ats, role: str) -> None:
    run(
        ats,
        "CREATE TABLE public.stages (id int); ALTER TABLE public.stages ENABLE ROW LEVEL SECURITY;"
        "GRANT SELECT ON public.stages TO {role}",
        role=role,
    )
    gone = {"sql": "NOT EXISTS (SELECT FROM public.stages s WHERE s.id = t.id)"}

    async with opened(a_config(dsn_of(database, role), columns={"deleted": gone})) as source:
        assert await source.reader.hidden_by() == frozenset({Hiding("public.stages", role, ())})


class TestTheRemedy:
    async def test_works(self, database: str, ats: Ats, role: str) -> None:
        run(ats, 'ALTER TABLE public.applications RENAME TO "Cand ""i"" dats"')
        run(ats, 'ALTER TABLE "Cand ""i"" dats" ENABLE ROW LEVEL SECURITY')
        table = 'public."Cand ""i"" dats"'
        ((hiding,), seen) = await looked_at(database, role, table)
        assert seen == 0

        ats.execute(hiding.remedy.encode())

        assert await looked_at(database, role, table) == (frozenset(), 2)
