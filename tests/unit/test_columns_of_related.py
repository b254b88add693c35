"""Which columns of another table an expression reads."""

import pytest
from support.watched import a_watch

from cdc_sync.core.identifiers import parse_qualified
from cdc_sync.source.expressions import Dependencies, columns_in, columns_of_related

STAGE = "SELECT s.label FROM public.stage s WHERE s.id = t.stage_id"


def found(*expressions: str, table: str = "public.stage", where: str | None = None) -> Dependencies:
    columns = {
        name: {"sql": text, "depends_on": []} for name, text in zip(("status", "job_id"), expressions, strict=False)
    }
    return columns_of_related(a_watch(columns=columns, where=where), parse_qualified(table))


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        (f"({STAGE})", ["label", "id"]),
        (
            "(select S.Label from Public.Stage as S where s.ID = t.stage_id order by s.label desc limit 1)",
            ["label", "id"],
        ),
        ('(SELECT s."the ""name""" FROM "public"."stage" s)', ['the "name"']),
        ("(SELECT s.name ->> 'fr_FR' FROM stage s)", ["name"]),
        (
            "CASE WHEN EXISTS (SELECT FROM public.stage s WHERE s.id = t.id AND s.gone IS NULL) THEN 'x' END",
            ["id", "gone"],
        ),
        ("(SELECT j.a FROM job j JOIN public.stage s ON s.job_id = j.id)", ["job_id"]),
        ("(SELECT coalesce(s.a::text, 'b.c') FROM public.stage s /* s.d */ -- s.e\n)", ["a"]),
        ("(SELECT max(s.a) FROM public.stage s GROUP BY s.b)", ["a", "b"]),
    ],
)
def test_columns_that_are_named_by_an_alias(expression: str, columns: list[str]) -> None:
    assert found(expression) == Dependencies(tuple(columns), complete=True)


@pytest.mark.parametrize(
    "expression",
    [
        "(SELECT label FROM public.stage s WHERE s.id = t.stage_id)",
        "(SELECT s.* FROM public.stage s)",
        "(SELECT s FROM public.stage s)",
        "(SELECT stage.label FROM public.stage)",
        "(SELECT s.label FROM job j, public.stage s)",
        "label_of(t.stage_id)",
        "(SELECT s.label FROM archive.stage s)",
        "(SELECT count(*) FROM public.stage s)",
    ],
)
def test_whatever_else_may_be_any_column(expression: str) -> None:
    assert not found(expression).complete


def test_every_expression_counts() -> None:
    assert found(f"({STAGE})", "(SELECT s.job FROM public.stage s)", where="EXISTS (SELECT s.x FROM stage s)") == (
        Dependencies(("label", "id", "job", "x"), complete=True)
    )
    assert not found(f"({STAGE})", "(SELECT job FROM public.stage s)").complete
    assert not found(f"({STAGE})", "(SELECT stage.job FROM public.stage WHERE stage.x)").complete


def test_a_whole_row_is_no_column() -> None:
    assert columns_in("to_jsonb(t.*)") == Dependencies((), complete=False)


@pytest.mark.parametrize(
    "name", ["date", "time", "timestamp", "timestamptz", "interval", "at", "zone", "unknown", "first", "last", "by"]
)
def test_a_word_that_may_be_a_column_is_one_where_sql_takes_it_for_one(name: str) -> None:
    assert not columns_in(f"{name} > t.a").complete
    assert not columns_in(f"t.a IS NULL AND {name.upper()} IS NOT NULL").complete
    assert not found("(SELECT max(s.a) FROM public.stage s WHERE word IS NULL)".replace("word", name)).complete


@pytest.mark.parametrize(
    "text",
    [
        "t.a > 1 AND between = 'x'",
        "t.a > 1 AND NOT Between IN ('x', 'y')",
        "t.a > 1 AND between IS NULL",
        "t.a > 1 AND (between || 'x') > 'y' AND t.a < 9",
        "t.a > 1 AND between -1 > 0",
        "t.a > 1 AND exists = 'x'",
        "t.a > 1 AND κατάσταση = 'x'",
        "t.a > 1 AND état IS NULL",
        "t.a > 1 AND €uro IS NULL",
    ],
)
def test_a_column_is_found_by_any_name_that_sql_takes(text: str) -> None:
    assert columns_in(text) == Dependencies(("a",), complete=False)


@pytest.mark.parametrize("name", ["κατάσταση", "état", "a$1", "_$", "B€", "٣"])
def test_a_column_s_name_may_have_any_letter_and_dollars(name: str) -> None:
    assert columns_in(f"t.{name} = 'x'") == Dependencies((name.replace("B", "b"),), complete=True)
    assert found("(SELECT s.word FROM stage s)".replace("word", name)) == Dependencies(
        (name.replace("B", "b"),), complete=True
    )


def test_a_single_byte_database_may_fold_another_letter() -> None:
    assert not columns_in("t.É = 'x'").complete
    assert columns_in("t.\"É\" = 'x'") == Dependencies(("É",), complete=True)


@pytest.mark.parametrize(
    "text",
    [
        "t.a BETWEEN 1 AND t.b",
        "t.a NOT between SYMMETRIC t.b AND 'x'",
        "t.a BETWEEN -1.5 AND t.b",
        "t.a BETWEEN - t.a AND t.b",
        "t.a between(1) AND (t.b)",
        "t.a BETWEEN\n  now() - interval '1 day' AND t.b",
        "t.a BETWEEN CASE WHEN true THEN 1 ELSE 2 END AND t.b",
        "t.a BETWEEN null AND left(t.b, 2)",
    ],
)
def test_between_is_no_column_in_its_phrase(text: str) -> None:
    assert columns_in(text) == Dependencies(("a", "b"), complete=True)


@pytest.mark.parametrize(
    "text",
    [
        "t.a > DATE '2024-01-01' AND t.b < timestamptz'2025-01-01'",
        "t.a AT TIME ZONE 'UTC' > now() - interval '1 day' AND t.b::date < t.a::timestamp at  time zone 'UTC'",
        "(t.a = 1) IS UNKNOWN OR (t.b = 1) IS NOT unknown",
        "CAST(t.a AS date) = cast(t.b as Timestamp)",
    ],
)
def test_words_of_types_and_phrases_are_no_columns(text: str) -> None:
    assert columns_in(text) == Dependencies(("a", "b"), complete=True)


def test_a_sorted_or_grouped_lookup_names_its_columns() -> None:
    assert found("(SELECT s.a FROM public.stage s GROUP BY s.a ORDER BY s.b DESC NULLS LAST LIMIT 1)") == (
        Dependencies(("a", "b"), complete=True)
    )


def test_a_column_ends_where_its_name_ends() -> None:
    assert columns_in("(t.address).city").columns == ("address",)
    assert "addres" not in columns_in("t.address.city").columns


@pytest.mark.parametrize("text", ["row_number() OVER (ORDER BY t.id)", "array_agg(t.id order  by 1 NULLS FIRST)"])
def test_an_expression_that_sorts_may_read_other_rows(text: str) -> None:
    assert columns_in(text) == Dependencies(("id",), complete=False)
