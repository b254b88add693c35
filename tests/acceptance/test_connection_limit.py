"""What the DBA has set for the daemon's role: few connections, or settings that are the role's default."""

import pytest
from psycopg import sql
from support.installation import Installation, plainly


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


@pytest.mark.parametrize(
    "setting", ["lock_timeout = '200ms'", "default_transaction_read_only = on", "array_nulls = off"]
)
def test_the_roles_settings_are_for_others(notify: Installation, setting: str) -> None:
    notify.share_store()
    notify.ats.execute(f"ALTER ROLE {notify.role} SET {setting}")
    with notify.daemon() as daemon:
        notify.settle(daemon)


def test_a_statement_that_the_server_ends_is_not_called_an_unreachable_database(poll: Installation) -> None:
    poll.add_many("hw-", 2)
    poll.configure_watch(where={"sql": "pg_sleep(0.5) IS NOT NULL", "depends_on": []})
    poll.ats.execute(f"ALTER ROLE {poll.role} SET statement_timeout = '300ms'")
    assert "The database ended what was asked" in plainly(poll.run("plan"))
