"""Few connections: the role's CONNECTION LIMIT, and a server that has none left."""

from psycopg import sql
from support.installation import Installation


def limit(installation: Installation, connections: int) -> None:
    """Let the daemon's role have so many sessions."""
    statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    installation.ats.execute(statement.format(sql.Identifier(installation.role), sql.Literal(connections)))


def test_a_daemon_that_gets_no_connection_says_what_the_server_says(notify: Installation) -> None:
    limit(notify, 1)
    with notify.daemon(ready=False) as daemon:
        reason = daemon.wait_until_not_ready("too many connections for role")
        assert "CONNECTION LIMIT" in reason
        limit(notify, 2)
        daemon.wait_until_ready()
        notify.settle(daemon)
