"""What `cdc-sync check` shows, of watches, tenants and databases."""

import pytest
from support.configurations import a_config

from cdc_sync.cli.check import check_endpoint, of_database, show
from cdc_sync.core.findings import Finding

DATABASES = {name: {"dsn": f"postgresql:///{name}"} for name in ("north", "south")}


def test_of_tenants_only_what_is_not_ok_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for watch in ("applications", None, "applications@tenant_1", "applications@tenant_2"):
        show(Finding("columns", "ok", "the columns fit", None, watch))
    show(Finding("triggers", "failed", "no trigger", "install them", "applications@tenant_1"))
    printed = capsys.readouterr().out
    assert printed.count("the columns fit") == 2
    assert "applications@tenant_1 triggers: no trigger" in printed


def test_of_several_databases_a_remedy_names_the_one() -> None:
    findings: list[Finding] = []
    remedy = "cdc-sync sql install > install.sql\nset database.dsn; cdc-sync sql grants --store"

    config = a_config({"database": None, "databases": DATABASES, "watches.applications.database": "north"})
    of_database(findings.append, config, "north", Finding("triggers", "failed", "none is there", remedy))

    assert findings[0].remedy == (
        "cdc-sync sql install --database north > install.sql\nset databases.north.dsn; cdc-sync sql grants --store"
    )


async def test_a_host_that_is_no_name_is_a_finding() -> None:
    findings: list[Finding] = []
    here = {"base_url": "http://127.0.0.1:1", "allowed_hosts": ["ats..example.com"]}
    await check_endpoint(a_config({"hellowork": here}), findings.append)

    states = [(each.check, each.state) for each in findings]
    assert states == [("endpoint", "failed"), ("endpoint", "failed"), ("headers", "ok")]
