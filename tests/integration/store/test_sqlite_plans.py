"""A page goes to the records that it names, and never through all of a watch's: a million of them take minutes."""

from contextlib import closing
from pathlib import Path

import pytest

from cdc_sync.store.sqlite.schema import connect
from cdc_sync.store.statements import statements


@pytest.mark.parametrize("name", ["compare", "unseen", "known", "before"])
def test_the_page_comes_first(tmp_path: Path, name: str) -> None:
    parameters = {"watch": "w", **dict.fromkeys(("digests", "rows", "numbers", "ids", "keys"), "[]")}
    with closing(connect(tmp_path / "state.db")) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements('sqlite')[name].text}", parameters).fetchall()

    steps = [detail for *_, detail in plan if detail.startswith(("SCAN", "SEARCH"))]
    assert "VIRTUAL TABLE" in steps[0] or "_key (watch=? AND row_key=?)" in steps[0] or "(watch=? AND a" in steps[0]
    assert not [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step], steps
