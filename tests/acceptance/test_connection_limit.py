"""Few connections: the role's CONNECTION LIMIT, and a server that has none left."""

import json

from psycopg import sql
from support.installation import Installation


def limit(installation: Installation, connections: int) -> None:
    """Let the daemon's role have so many sessions."""
    statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    installation.ats.execute(statement.format(sql.Identifier(installation.role), sql.Literal(connections)))


def test_a_daemon_that_gets_no_connection_says_what_the_server_says(installation: Installation) -> None:
    limit(installation, 1)
    with installation.daemon(ready=False) as daemon:
        reason = daemon.wait_until_not_ready("too many connections for role")
        assert "CONNECTION LIMIT" in reason
        limit(installation, 2)
        daemon.wait_until_ready()
        installation.settle(daemon)
        assert daemon.stop() == 0


def test_check_and_validate_count_the_connections_that_a_configuration_needs(notify: Installation) -> None:
    def finding() -> dict[str, str]:
        findings = json.loads(notify.run("check", "--json").stdout)
        (found,) = [each for each in findings if each["check"] == "connections"]
        return {name: str(value) for name, value in found.items()}

    assert "takes 2 to 5 connections" in notify.run("config", "validate").stdout
    assert finding()["state"] == "ok"
    second = {**notify.document["watches"]["applications"]}
    notify.configure(watches={"second": second}, database={"pool": 9})
    assert "takes 2 to 10 connections" in notify.run("config", "validate").stdout
    limit(notify, 2)
    found = finding()
    assert found["state"] == "ok"
    assert "CONNECTION LIMIT" in found["message"]
