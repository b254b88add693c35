"""What of a configuration belongs to the process, so that only a restart can change it."""

from typing import Any

import pytest
from support.configurations import a_config

from cdc_sync.daemon.running import changes_that_need_a_restart

SHARED = {"state.backend": "postgres", "database.dsn": "host=ats"}
SEVERAL = {
    "state.backend": "postgres",
    "databases.one.dsn": "host=ats",
    "databases.two.dsn": "host=b",
    "watches.applications.database": "one",
}
APART = {**SHARED, "state.dsn": "host=state"}


@pytest.mark.parametrize(
    ("now", "then", "named"),
    [
        (SHARED, {**SHARED, "database.dsn": "host=other"}, ["the store's DSN"]),
        (SHARED, {**SHARED, "state.dsn": "host=ats"}, []),
        (APART, {**APART, "state.dsn": "host=new"}, ["the store's DSN"]),
        (SHARED, {"state.backend": "postgres", "databases.main.dsn": "host=ats"}, []),
        (SHARED, {**SEVERAL, "state.dsn": "host=ats"}, []),
        ({**SEVERAL, "state.dsn": "host=s"}, {**SEVERAL, "state.dsn": "host=s", "databases.two.dsn": "host=new"}, []),
    ],
    ids=[
        "the store is there",
        "named now",
        "the store moves",
        "the database has a name",
        "there are several",
        "one of several moves",
    ],
)
def test_the_database_of_the_store(now: dict[str, Any], then: dict[str, Any], named: list[str]) -> None:
    lines = changes_that_need_a_restart(a_config(now), a_config(then))

    assert [line.split(" cannot")[0] for line in lines] == named
