"""The first recorded row of a transaction is guarded by a subtransaction; the rows after it take no transaction id.

What is left unguarded is one INSERT of values that were made inside the guard, into a table that nobody else can lock,
alter or drop until the transaction ends. What can still make it fail is all here, and in docs/for-dbas.md.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import psycopg
import pytest
from support.binaries import server_binaries
from support.postgres import SETTINGS, create_ats
from support.roles import NewRole
from support.sessions import Ats, one, rows, run, sessions
from support.watched import a_config, install_triggers

from cdc_sync.demo.postgres import Server
from cdc_sync.demo.postgres import server as embedded_server

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

    def test_a_block_that_catches_an_error_is_one(self, table: Ats) -> None:
        table.execute(
            "DO $$ BEGIN"
            " BEGIN UPDATE public.applications SET status = 'never' WHERE id = 1; RAISE 'no';"
            " EXCEPTION WHEN OTHERS THEN NULL; END;"
            " UPDATE public.applications SET status = 'hired' WHERE id IN (2, 3); END $$"
        )

        assert sorted(rows(table, RECORDED)) == [("U", ["2"]), ("U", ["3"])]


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

    def test_waits_for_the_log_to_grow_without_the_sessions_lock_timeout(self, table: Ats) -> None:
        table.execute("ALTER TABLE cdc_sync.changes ADD patience text DEFAULT current_setting('lock_timeout')")
        table.execute("SET lock_timeout = '9s'")

        with table.transaction():
            table.execute("UPDATE public.applications SET status = 'hired' WHERE id IN (1, 2, 3)")
            assert one(table, "SHOW lock_timeout") == "9s"

        assert rows(table, "SELECT patience FROM cdc_sync.changes") == [("500ms",), ("0",), ("0",)]

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


class TestFullStorage:
    """The log in a tablespace of its own, on a file system that is full."""

    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        mounted = tmp_path / "small"
        mounted.mkdir()
        tried = subprocess.run(
            ["/usr/bin/env", "mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(mounted)],
            check=False,
            capture_output=True,
        )
        if tried.returncode:
            pytest.skip("only root can mount a small file system")
        try:
            yield mounted
        finally:
            subprocess.run(["/usr/bin/env", "umount", "--lazy", str(mounted)], check=True)

    @pytest.fixture
    def own(self, small: Path) -> Iterator[Server]:
        with embedded_server(server_binaries(), settings=SETTINGS) as own:
            owner = own.folder.stat()
            os.chown(small, owner.st_uid, owner.st_gid)
            for parent in small.parents:
                if parent.stat().st_uid == os.getuid() and parent.is_relative_to(gettempdir()):
                    parent.chmod(parent.stat().st_mode | 0o011)
            create_ats(own.dsn)
            yield own

    def test_fails_a_bulk_and_no_single_change(self, own: Server, small: Path) -> None:
        with sessions(own.dsn) as open_session:
            ats = open_session()
            run(ats, FILL, n="20000")
            install_triggers(ats, a_config())
            run(ats, "CREATE TABLESPACE small LOCATION '{folder}'", folder=str(small))
            ats.execute("ALTER TABLE cdc_sync.changes SET TABLESPACE small")

            with pytest.raises(psycopg.errors.DiskFull):
                ats.execute(CHANGE_ALL.encode())
            run(ats, "UPDATE public.applications SET status = 'hired' WHERE id = 1")

            assert one(ats, "SELECT count(*) FROM public.applications WHERE status <> 'new'") == 1
            assert one(ats, MISSED) + one(ats, COUNT) == 1
