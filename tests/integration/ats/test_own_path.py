"""A table that the configuration names without a schema is looked up in the login's own search_path."""

from typing import Any

from support.sessions import Ats, one

from cdc_sync.ats import expressions

_OTHERS = 300

MAKE_OTHERS = f"""
DO $$ BEGIN
    FOR number IN 1 .. {_OTHERS} LOOP
        EXECUTE format('CREATE SCHEMA customer_%s CREATE TABLE applications ()', number);
    END LOOP;
END $$
"""


def rows_handled(plan: dict[str, Any]) -> int:
    """How many rows a plan's steps have given to each other, in all."""
    own = plan["Actual Rows"] * plan["Actual Loops"]
    return int(own) + sum(map(rows_handled, plan.get("Plans", ())))


def test_it_is_found_among_many_of_its_name(ats: Ats) -> None:
    ats.execute("SELECT set_config('cdc_sync.own_schemas', '{pg_catalog,public}', false)")
    ats.execute(MAKE_OTHERS)
    relation = expressions.sections("catalog.sql")["relation"]
    of = {"name": "applications", "schema": None}

    ((found, schema, *_),) = ats.execute(relation, of).fetchall()
    plans = one(ats, f"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) {relation}", of)

    assert (found, schema) == (one(ats, "SELECT 'public.applications'::regclass::oid"), "public")
    # Some for each of them, and not for each pair.
    assert rows_handled(plans[0]["Plan"]) < 20 * _OTHERS
