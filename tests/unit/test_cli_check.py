"""What `cdc-sync check` shows, of a few watches and of many."""

import pytest
from support.configurations import a_config

from cdc_sync.cli.check import Report, of_database
from cdc_sync.core.findings import Finding
from cdc_sync.core.watch_names import MOST_LISTED

DATABASES = {name: {"dsn": f"postgresql:///{name}"} for name in ("north", "south")}


@pytest.mark.parametrize(("number", "shown"), [(3, 3), (50, 0)])
def test_of_many_watches_what_is_ok_is_counted(number: int, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"applications@tenant_{each}" for each in range(number)]
    report = Report(shows=True)
    report.many = names if number > MOST_LISTED else ()
    for name in names:
        report.tell(Finding("columns", "ok", "the columns fit", None, name))
    report.tell(Finding("triggers", "failed", "no trigger", "install them", names[1]))
    report.tell(Finding("server", "ok", "the columns fit"))
    printed = capsys.readouterr().out
    assert printed.count("the columns fit") == shown + 1
    assert "applications@tenant_1 triggers: no trigger" in printed
    assert len(report.findings) == number + 2


def test_of_several_databases_a_remedy_names_the_one() -> None:
    findings: list[Finding] = []
    remedy = "cdc-sync sql install > install.sql\nset database.dsn; cdc-sync sql grants --store"

    config = a_config({"database": None, "databases": DATABASES, "watches.applications.database": "north"})
    of_database(findings.append, config, "north", Finding("triggers", "failed", "none is there", remedy))

    assert findings[0].remedy == (
        "cdc-sync sql install --database north > install.sql\nset databases.north.dsn; cdc-sync sql grants --store"
    )
