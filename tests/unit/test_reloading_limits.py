"""What of a configuration belongs to the process, so that only a restart can change it."""

from typing import Any

import pytest
from support.configurations import a_config

from cdc_sync.daemon.running import changes_that_need_a_restart

SHARED = {"state.backend": "postgres", "database.dsn": "host=ats"}
APART = {**SHARED, "state.dsn": "host=state"}


@pytest.mark.parametrize(
    ("now", "then", "named"),
    [
        ({"database.dsn": "host=ats"}, {"database.dsn": "host=other"}, []),
        (SHARED, {**SHARED, "database.dsn": "host=other"}, ["database.dsn"]),
        (SHARED, {**SHARED, "state.dsn": "host=ats"}, ["state.dsn", "database.dsn"]),
        (APART, {**APART, "database.dsn": "host=other"}, []),
        (APART, {**APART, "state.dsn": "host=new"}, ["state.dsn"]),
    ],
    ids=["the store is a file", "the store is there", "named now", "the store is elsewhere", "the store moves"],
)
def test_the_database_of_the_store(now: dict[str, Any], then: dict[str, Any], named: list[str]) -> None:
    lines = changes_that_need_a_restart(a_config(now), a_config(then))

    assert [line.split(" cannot")[0] for line in lines] == named
