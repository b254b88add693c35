"""Which expressions look a value up in a side table."""

from typing import Any

import pytest
from support.watched import a_watch

from cdc_sync.ats.expressions import SideTable, side_table
from cdc_sync.config import PlainColumn
from cdc_sync.core.identifiers import QualifiedName


def found(expression: str, *key: str) -> SideTable | None:
    watch: dict[str, Any] = {"key": list(key or ("id",))}
    columns = {"application_id": {"sql": expression, "depends_on": list(key or ("id",))}}
    watched = a_watch(columns=columns, **watch)
    return side_table(watched, watched.columns.application_id)


@pytest.mark.parametrize(
    ("expression", "key", "expected"),
    [
        (
            "(SELECT l.hw FROM public.links l WHERE l.application = t.id)",
            ["id"],
            SideTable(QualifiedName("public", "links"), "hw", ("application",)),
        ),
        (
            'select L.HW from links AS l\n where T.ID = l."N°"',
            ["id"],
            SideTable(QualifiedName(None, "links"), "hw", ("N°",)),
        ),
        (
            '(SELECT l.hw FROM "ATS".links l WHERE l.no = t.no AND t.year = l.y)',
            ["year", "no"],
            SideTable(QualifiedName("ATS", "links"), "hw", ("y", "no")),
        ),
    ],
)
def test_a_value_that_is_looked_up_by_the_key(expression: str, key: list[str], expected: SideTable) -> None:
    assert found(expression, *key) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT max(l.hw) FROM links l WHERE l.application = t.id)",
        "(SELECT l.hw FROM links l WHERE l.application = t.id LIMIT 1)",
        "(SELECT l.hw FROM links l WHERE l.application = t.id OR l.old = t.id)",
        "(SELECT l.hw FROM links l WHERE l.application = t.id AND l.old = t.id)",
        "(SELECT l.hw FROM links l WHERE l.application = t.candidate_id)",
        "(SELECT l.hw FROM links l WHERE l.application = l.id)",
        "(SELECT m.hw FROM links l WHERE l.application = t.id)",
        "(SELECT t.hw FROM links t WHERE t.application = t.id)",
        "(SELECT l.hw FROM links l JOIN jobs j ON j.id = l.job WHERE l.application = t.id)",
        "(SELECT links.hw FROM ONLY links WHERE links.application = t.id)",
        "coalesce((SELECT l.hw FROM links l WHERE l.application = t.id), 'x')",
        "upper(t.hw)",
    ],
)
def test_whatever_else_is_evaluated_row_by_row(expression: str) -> None:
    assert found(expression) is None


def test_a_column_is_none_and_of_a_composite_key_every_part_counts() -> None:
    assert side_table(a_watch(), PlainColumn(name="hellowork_id")) is None
    assert found("(SELECT l.hw FROM links l WHERE l.no = t.no)", "year", "no") is None
