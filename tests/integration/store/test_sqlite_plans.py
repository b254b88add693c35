"""A page goes to the records that it names, and never through all of a watch's: a million of them take minutes."""

from contextlib import closing
from pathlib import Path

import pytest

from cdc_sync.store.sqlite.schema import connect
from cdc_sync.store.statements import statements


@pytest.mark.parametrize("name", ["compare", "before", "current", "known_elsewhere"])
def test_the_page_comes_first(tmp_path: Path, name: str) -> None:
    parameters = {"watch": "w", **dict.fromkeys(("digests", "rows", "ids", "ends", "watches"), "[]")}
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')[name].text}", parameters).fetchall()

    steps = [detail for *_, detail in plan if detail.startswith(("SCAN", "SEARCH"))]
    assert "VIRTUAL TABLE" in steps[0] or "_key (watch=? AND row_key=?)" in steps[0] or "(watch=? AND a" in steps[0]
    assert not [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step], steps


@pytest.mark.parametrize("name", ["known_elsewhere", "rivals"])
def test_of_a_thousand_watches_an_application_is_found_by_its_id(tmp_path: Path, name: str) -> None:
    parameters = {"watch": "w", "ids": "[]", "watches": "[]"}
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')[name].text}", parameters).fetchall()

    steps = [detail for *_, detail in plan]
    assert [step for step in steps if "snapshot_application (application_id=?)" in step], steps


def test_of_many_skipped_rows_only_the_wanted_ones_are_read(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "state.db")) as connection:
        text = statements("sqlite")["skipped_of_each"].text
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", {"watches": '["w"]', "limit": 1}).fetchall()

    steps = [detail for *_, detail in plan]
    assert [step for step in steps if "SEARCH k USING PRIMARY KEY (watch=? AND row_key=?)" in step], steps
    assert not [step for step in steps if "TEMP B-TREE" in step], steps


def test_a_page_of_entries_is_read_in_the_order_of_the_primary_key(tmp_path: Path) -> None:
    parameters = {"watch": "w", "after": "hw-1", "limit": 1}
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')['entries_after'].text}", parameters)
        steps = [detail for *_, detail in plan]

    assert [step for step in steps if step.startswith("SEARCH o USING PRIMARY KEY")], steps
    assert not [step for step in steps if "TEMP B-TREE" in step], steps


def test_a_search_goes_by_an_index_and_sorts_nothing(tmp_path: Path) -> None:
    parameters = {"watches": '["w"]', "id": "hw", "keys": "[]"}
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')['hits'].text}", parameters).fetchall()

    steps = [detail for *_, detail in plan]
    assert len([step for step in steps if step.startswith("SEARCH")]) == 4
    assert not [step for step in steps if "TEMP B-TREE FOR ORDER" in step], steps
    assert not [step for step in steps if step.startswith(("SCAN snapshot", "SCAN skipped"))], steps


_OF_RECORDS = [
    name
    for name, statement in statements("sqlite").items()
    if statement.columns and not statement.text.startswith("INSERT")
]


@pytest.mark.parametrize("name", _OF_RECORDS)
def test_a_row_is_written_by_its_key(tmp_path: Path, name: str) -> None:
    statement = statements("sqlite")[name]
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.text}", [None] * len(statement.columns)).fetchall()

    steps = [detail for *_, detail in plan if detail.startswith(("SCAN", "SEARCH"))]
    assert [step for step in steps if step.startswith("SEARCH")]
    assert not [step for step in steps if step.startswith("SCAN") and not _of_values(step)], steps


def _of_values(step: str) -> bool:
    return step == "SCAN x" or "CONSTANT ROW" in step or "VALUES CLAUSE" in step
