"""Scripts look up names in pg_catalog only; the login's own path finds the tables without a schema."""

import pytest

from cdc_sync import own_path
from cdc_sync.core.identifiers import QualifiedName

NAMED = QualifiedName("ats", "applications")
BARE = QualifiedName(None, "applications")
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED;"
PIN = "SET LOCAL search_path = pg_catalog, pg_temp;"


@pytest.mark.parametrize("tables", [[], [NAMED]])
def test_the_path_is_pinned_before_the_first_name_is_looked_up(tables: list[QualifiedName]) -> None:
    assert own_path.begin(tables).splitlines() == [BEGIN, PIN]


def test_the_own_path_is_kept_first_if_a_table_has_no_schema() -> None:
    begin = own_path.begin([NAMED, BARE]).splitlines()

    assert begin[0] == BEGIN
    assert begin[-1] == PIN
    assert any("cdc_sync.own_schemas" in line for line in begin)
    assert not any(line.startswith("SELECT") for line in begin)  # psql would print its rows


def test_only_a_table_without_a_schema_is_named_on_the_own_path() -> None:
    statement = "GRANT SELECT ON applications TO daemon;"

    assert own_path.naming(NAMED, statement) == statement
    *before, named, last = own_path.naming(BARE, statement).splitlines()
    assert (named, last) == (statement, PIN)
    assert not any(line.startswith("SELECT") for line in before)
