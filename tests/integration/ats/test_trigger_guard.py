"""The first recorded row of a transaction is guarded by a subtransaction; the rows after it take no transaction id.

What is left unguarded is one INSERT of values that were made inside the guard, into a table that nobody else can lock,
alter or drop until the transaction ends. What can still make it fail is all here, and in docs/for-dbas.md.
"""

import psycopg
import pytest
from support.roles import NewRole
from support.sessions import Ats, one, rows, run
from support.watched import a_config, install_triggers

RECORDED = "SELECT operation::text, row_key FROM cdc_sync.changes"
COUNT = "SELECT count(*) FROM cdc_sync.changes"
MISSED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cdc_sync.missed_applications"
IDS = "SELECT count(DISTINCT xmin::text) FROM cdc_sync.changes"
"""The ids that the log's rows were written with: the server's next id counts those of autovacuum, too."""
FILL = "INSERT INTO public.applications (id, status) SELECT i, 'new' FROM generate_series(1, {n}) i"
CHANGE_ALL = "UPDATE public.applications SET status = status || '.'"


@pytest.fixture
def table(ats: Ats) -> Ats:
    run(ats, FILL, n="1000")
    install_triggers(ats, a_config())
    return ats


def ids_used(ats: Ats, *statements: str) -> int:
    """The transaction ids that one transaction takes."""
    with ats.transaction():
        for statement in statements:
            ats.execute(statement.encode())
    used: int = one(ats, IDS)
    return used


class TestTransactionIds:
    @pytest.mark.parametrize(
        "statement", [CHANGE_ALL, "UPDATE public.applications SET id = id + 5000", "DELETE FROM public.applications"]
    )
    def test_a_bulk_takes_one_beside_its_own(self, table: Ats, statement: str) -> None:
        assert ids_used(table, statement) == 2
        assert one(table, COUNT) >= 1000

    def test_a_transaction_of_many_statements_too(self, table: Ats) -> None:
        one_more = (
            "UPDATE public.applications SET status = 'hired' WHERE id = (SELECT min(id) FROM {} WHERE status = 'new')"
        )

        assert ids_used(table, *[one_more.format("public.applications")] * 100) == 2
        assert one(table, COUNT) == 100


class TestSavepoints:
    def test_one_that_is_rolled_back_takes_the_guard_with_it(self, table: Ats, other: Ats) -> None:
        """The lock on the log is gone then, so somebody may take it, and the next row must be guarded again."""
        table.execute("BEGIN; SAVEPOINT one")
        table.execute(CHANGE_ALL.encode())
        table.execute("ROLLBACK TO one")
        other.execute("BEGIN; LOCK TABLE cdc_sync.changes")

        table.execute(CHANGE_ALL.encode())
        table.execute("COMMIT")
        other.execute("COMMIT")

        assert one(table, "SELECT count(*) FROM public.applications WHERE status = 'new.'") == 1000
        assert (one(table, COUNT), one(table, MISSED)) == (0, 1)

    def test_what_came_before_it_is_kept(self, table: Ats) -> None:
        with table.transaction():
            table.execute("UPDATE public.applications SET status = 'hired' WHERE id IN (1, 2)")
            table.execute("SAVEPOINT one; UPDATE public.applications SET status = 'never' WHERE id IN (3, 4)")
            table.execute("ROLLBACK TO one")
            table.execute("UPDATE public.applications SET status = 'hired' WHERE id = 5")
            table.execute("SAVEPOINT two; UPDATE public.applications SET status = 'hired' WHERE id = 6; RELEASE two")

        assert sorted(rows(table, RECORDED)) == [("U", [key]) for key in "1256"]


class TestWhatIsUnguarded:
    def test_nobody_can_lock_or_alter_the_log_meanwhile(self, table: Ats, other: Ats) -> None:
        table.execute("BEGIN")
        table.execute("UPDATE public.applications SET status = 'hired' WHERE id = 1")
        other.execute("SET lock_timeout = '50ms'")

        for harm in (
            "DROP TABLE cdc_sync.changes",
            "ALTER TABLE cdc_sync.changes ADD CHECK (false)",
            "BEGIN; LOCK TABLE cdc_sync.changes IN SHARE MODE",
            "CREATE RULE r AS ON INSERT TO cdc_sync.changes DO INSTEAD NOTHING",
        ):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                run(other, harm)
            other.rollback()

        table.execute(CHANGE_ALL.encode())
        table.execute("COMMIT")
        assert one(table, COUNT) == 1001

    def test_a_right_that_is_revoked_in_mid_transaction_fails_the_statement(
        self, ats: Ats, other: Ats, new_role: NewRole
    ) -> None:
        """PostgreSQL takes no lock for it, so it cannot be excluded: docs/for-dbas.md says so."""
        run(ats, FILL, n="10")
        install_triggers(ats, a_config())
        owner = new_role()
        run(ats, "GRANT CREATE, USAGE ON SCHEMA cdc_sync TO {owner}", owner=owner)
        run(ats, "GRANT ALL ON ALL SEQUENCES IN SCHEMA cdc_sync TO {owner}", owner=owner)
        run(ats, "GRANT INSERT, SELECT ON cdc_sync.changes TO {owner}", owner=owner)
        run(ats, "ALTER FUNCTION cdc_sync.record_applications() OWNER TO {owner}", owner=owner)
        ats.execute("BEGIN; UPDATE public.applications SET status = 'hired' WHERE id = 1")
        run(other, "REVOKE INSERT ON cdc_sync.changes FROM {owner}", owner=owner)

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ats.execute("UPDATE public.applications SET status = 'hired' WHERE id = 2")

        ats.execute("ROLLBACK")
        ats.execute(CHANGE_ALL.encode())  # the first row of a transaction is guarded
        assert one(ats, MISSED) == 1
        ats.execute("ALTER FUNCTION cdc_sync.record_applications() OWNER TO CURRENT_USER")  # its role is dropped

    def test_a_transaction_that_alters_the_log_itself_fails_its_own_statement(self, table: Ats) -> None:
        table.execute("BEGIN; UPDATE public.applications SET status = 'hired' WHERE id = 1")
        table.execute("ALTER TABLE cdc_sync.changes ADD CHECK (false) NOT VALID")

        with pytest.raises(psycopg.errors.CheckViolation):
            table.execute("UPDATE public.applications SET status = 'hired' WHERE id = 2")

        table.execute("ROLLBACK")
        table.execute(CHANGE_ALL.encode())
        assert (one(table, COUNT), one(table, MISSED)) == (1000, 0)
