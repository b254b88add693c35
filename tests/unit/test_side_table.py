"""Which expressions look a value up in a side table."""

from typing import Any

import pytest
from support.watched import COLUMNS, a_watch, some_config

from cdc_sync.ats.expressions import SideTable, side_table
from cdc_sync.config import PlainColumn
from cdc_sync.config.tenants import Tenant, expanded
from cdc_sync.core.identifiers import QualifiedName


def found(expression: str, *key: str, table: str = "public.links", side_key: tuple[str, ...] = ()) -> SideTable | None:
    watch: dict[str, Any] = {"key": list(key or ("id",))}
    columns = {"application_id": {"sql": expression, "depends_on": list(key or ("id",))}}
    related = [{"table": table, "key": list(side_key or ("application",))}]
    watched = a_watch(columns=columns, related=related, **watch)
    return side_table(watched, watched.columns.application_id)


def test_a_value_that_is_looked_up_by_the_key() -> None:
    expression = "(SELECT l.hw FROM public.links l WHERE l.application = t.id)"
    assert found(expression) == SideTable(QualifiedName("public", "links"), "hw", ("application",))


def test_a_value_that_is_looked_up_by_a_key_of_several_columns_with_odd_names() -> None:
    expression = """(SELECT l."Id" FROM "ATS".links l WHERE l.y = t.year AND l."N°" = t.no)"""
    expected = SideTable(QualifiedName("ATS", "links"), "Id", ("y", "N°"))
    assert found(expression, "year", "no", table='"ATS".links', side_key=("y", '"N°"')) == expected


def test_a_table_of_each_tenant() -> None:
    sql = "(SELECT l.hw FROM {schema}.links l WHERE l.application = t.id)"
    columns = {**COLUMNS, "application_id": {"sql": sql, "depends_on": ["id"]}}
    related = [{"table": "links", "key": ["application"]}]
    template = {"for_each": {"schemas": "%"}, "table": "a", "key": ["id"], "columns": columns, "related": related}
    tenants = {"customers": [Tenant(None, "customer_1")]}
    watched = expanded(some_config("", {"customers": template}), tenants, str)[0].watches["customers@customer_1"]

    expected = SideTable(QualifiedName("customer_1", "links"), "hw", ("application",))
    assert side_table(watched, watched.columns.application_id) == expected


def test_a_table_that_is_not_related_is_none() -> None:
    assert found("(SELECT l.hw FROM public.links l WHERE l.application = t.id)", table="public.others") is None


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT max(l.hw) FROM public.links l WHERE l.application = t.id)",
        "(SELECT l.hw FROM public.links l WHERE l.application = t.id OR l.old = t.id)",
        "(SELECT l.hw FROM public.links l WHERE l.application = t.candidate_id)",
        "(SELECT l.hw FROM public.links l WHERE l.application = l.id)",
        "(SELECT t.hw FROM public.links t WHERE t.application = t.id)",
        "(SELECT l.hw FROM public.links l JOIN jobs j ON j.id = l.job WHERE l.application = t.id)",
        "coalesce((SELECT l.hw FROM public.links l WHERE l.application = t.id), 'x')",
    ],
)
def test_whatever_else_is_evaluated_row_by_row(expression: str) -> None:
    assert found(expression) is None


def test_a_column_is_none_and_of_a_composite_key_every_part_counts() -> None:
    assert side_table(a_watch(), PlainColumn(name="hellowork_id")) is None
    part = "(SELECT l.hw FROM public.links l WHERE l.no = t.no)"
    assert found(part, "year", "no", side_key=("year", "no")) is None
