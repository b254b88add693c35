"""What `cdc-sync check` shows, of watches, tenants and databases."""

import asyncio

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


async def test_what_no_server_and_no_host_should_say_is_a_finding() -> None:
    """A date beyond Python's; a host that is no name."""
    answer = b"HTTP/1.1 200 OK\r\nDate: Wed, 02 Dec 99999999999999 10:00:00 GMT\r\nContent-Length: 0\r\n\r\n"

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    findings: list[Finding] = []
    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        hosts = ["ats..example.com"]
        await check_endpoint(a_config({"hellowork": {"base_url": url, "allowed_hosts": hosts}}), findings.append)

    states = [(each.check, each.state) for each in findings]
    assert states == [("endpoint", "ok"), ("endpoint", "failed"), ("headers", "ok")]
