"""A page goes to the records that it names, and never through all of a watch's: a million of them take minutes."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from cdc_sync.store.sqlite.schema import connect
from cdc_sync.store.statements import statements


def steps_of(folder: Path, name: str, parameters: Mapping[str, object] | Sequence[str]) -> list[str]:
    """The steps of a statement's plan."""
    with closing(connect(folder / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')[name].text}", parameters)
        return [detail for *_, detail in plan]


def through_all(steps: list[str]) -> list[str]:
    """Those that go through all of a table."""
    return [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]


@pytest.mark.parametrize("name", ["compare", "before", "current", "elsewhere"])
def test_the_page_comes_first(tmp_path: Path, name: str) -> None:
    parameters = {"watch": "w", **dict.fromkeys(("digests", "rows", "ids", "ends", "watches"), "[]")}
    steps = [step for step in steps_of(tmp_path, name, parameters) if step.startswith(("SCAN", "SEARCH"))]

    assert "VIRTUAL TABLE" in steps[0] or "_key (watch=? AND row_key=?)" in steps[0] or "(watch=? AND a" in steps[0]
    assert through_all(steps) == []


def test_of_a_thousand_watches_an_application_is_found_by_its_id(tmp_path: Path) -> None:
    steps = steps_of(tmp_path, "elsewhere", {"watch": "w", "ids": "[]", "watches": "[]"})

    assert [step for step in steps if "snapshot_application (application_id=?)" in step], steps


@pytest.mark.parametrize(
    ("name", "parameters", "step"),
    [
        ("skipped_of_each", {"watches": '["w"]', "limit": 1}, "SEARCH k USING PRIMARY KEY (watch=? AND row_key=?)"),
        ("entries_after", {"watch": "w", "after": "hw-1", "limit": 1}, "SEARCH o USING PRIMARY KEY"),
    ],
)
def test_a_limit_is_reached_in_the_order_of_the_primary_key(
    tmp_path: Path, name: str, parameters: Mapping[str, object], step: str
) -> None:
    steps = steps_of(tmp_path, name, parameters)

    assert [each for each in steps if step in each], steps
    assert not [each for each in steps if "TEMP B-TREE" in each], steps


def test_a_search_goes_by_an_index_and_sorts_nothing(tmp_path: Path) -> None:
    steps = steps_of(tmp_path, "hits", {"watches": '["w"]', "id": "hw", "keys": "[]", "limit": 1})

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
    steps = steps_of(tmp_path, name, ["[]"])

    assert [step for step in steps if step.startswith("SEARCH")]
    assert through_all(steps) == []
