"""The triggers cannot make the ATS's own statement fail, whatever becomes of what they write to."""

import time
from collections.abc import Callable

import psycopg
import pytest
from support.builders import WATCH
from support.roles import NewRole
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers

RECORDED = "SELECT operation::text, row_key FROM cdc_sync.changes"
MISSED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cdc_sync.missed_applications"


@pytest.fixture
def installed(ats: Ats) -> Ats:
    install_triggers(ats, a_config())
    return ats


@pytest.fixture
def warnings(ats: Ats) -> list[str]:
    """What the server warns the ATS's session of."""
    heard: list[str] = []
    ats.add_notice_handler(lambda notice: heard.append(f"{notice.severity}: {notice.message_primary}"))
    return heard


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("DROP TABLE cdc_sync.changes", 'relation "cdc_sync.changes" does not exist'),
        ("ALTER SCHEMA cdc_sync RENAME TO other", "does not exist"),
        ("DROP SEQUENCE cdc_sync.bell", 'relation "cdc_sync.bell" does not exist'),
        ("ALTER TABLE cdc_sync.changes ADD CHECK (false)", "violates check constraint"),
        ("ALTER TABLE cdc_sync.changes ADD extra int NOT NULL", "null value in column"),
    ],
)
def test_failures_become_a_warning(installed: Ats, warnings: list[str], harm: str, reason: str) -> None:
    run(installed, harm)

    installed.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    installed.execute("UPDATE public.applications SET status = 'hired' WHERE id = 1")
    installed.execute("DELETE FROM public.applications WHERE id = 2")
    assert rows(installed, "SELECT id, status FROM public.applications") == [(1, "hired")]
    installed.execute("TRUNCATE public.applications")

    assert len(warnings) == 4  # one for each transaction, and not for each row
    warning, *_ = warnings
    assert warning.startswith("WARNING: cdc_sync: changes of public.applications were not recorded: ")
    assert reason in warning
    if "SCHEMA" not in harm:
        assert one(installed, MISSED) == 4


def test_failures_of_one_watch_do_not_pause_another_in_the_same_session(ats: Ats, warnings: list[str]) -> None:
    config = a_config()
    watches = dict.fromkeys((WATCH, "broken"), config.watches[WATCH])
    install_triggers(ats, config.model_copy(update={"watches": watches}))
    ats.execute("CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$")
    ats.execute(
        "CREATE TRIGGER fails BEFORE INSERT ON cdc_sync.changes FOR EACH ROW"
        " WHEN (NEW.watch = 'broken') EXECUTE PROCEDURE fails()"
    )

    ats.execute("INSERT INTO public.applications (id) VALUES (1), (2)")

    assert rows(ats, RECORDED) == [("I", ["1"]), ("I", ["2"])]
    assert one(ats, MISSED) == 0
    assert len(warnings) == 1


def test_a_related_tables_failure_ends_recording_for_the_whole_watch(ats: Ats, warnings: list[str]) -> None:
    ats.execute("CREATE TABLE public.rejections (application bigint)")
    install_triggers(ats, a_config(related=[{"table": "public.rejections", "key": ["application"]}]))
    ats.execute("ALTER TABLE cdc_sync.changes RENAME TO away")
    ats.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")
    ats.execute("ALTER TABLE cdc_sync.away RENAME TO changes")

    ats.execute("INSERT INTO public.applications (id) VALUES (2); COMMIT")
    ats.execute("INSERT INTO public.applications (id) VALUES (3)")

    assert rows(ats, RECORDED) == [("I", ["3"])]
    assert one(ats, MISSED) == 1
    assert len(warnings) == 1


def test_a_locked_log_is_waited_for_once_in_a_transaction(installed: Ats, other: Ats, warnings: list[str]) -> None:
    other.execute("BEGIN; LOCK TABLE cdc_sync.changes")
    started = time.monotonic()

    installed.execute("INSERT INTO public.applications (status) SELECT 'x' FROM generate_series(1, 100)")

    assert 0.5 <= time.monotonic() - started < 10
    assert one(installed, MISSED) == 1
    (warning,) = warnings
    assert "lock timeout" in warning


@pytest.mark.parametrize(("own", "seen"), [("0", "500ms"), ("20ms", "20ms"), ("9s", "500ms")])
def test_the_first_row_waits_for_the_log_no_longer_than_the_session_and_no_row_after_it_for_any_lock(
    installed: Ats, own: str, seen: str
) -> None:
    installed.execute("ALTER TABLE cdc_sync.changes ADD patience text DEFAULT current_setting('lock_timeout')")
    installed.execute(f"SET lock_timeout = '{own}'")

    installed.execute("INSERT INTO public.applications (id) VALUES (1), (2), (3)")

    assert rows(installed, "SELECT patience FROM cdc_sync.changes") == [(seen,), ("0",), ("0",)]


def test_the_sessions_own_lock_timeout_is_as_it_was(installed: Ats, other: Ats) -> None:
    """Whether a change is recorded, cannot be, or is left out because the log is full."""
    installed.execute("SET lock_timeout = '9s'")
    installed.execute("BEGIN")
    installed.execute("SET LOCAL lock_timeout = '7s'")
    installed.execute("INSERT INTO public.applications (id) VALUES (1), (2)")
    assert one(installed, "SHOW lock_timeout") == "7s"
    installed.execute("COMMIT")
    assert one(installed, "SHOW lock_timeout") == "9s"

    other.execute("ALTER TABLE cdc_sync.changes RENAME TO away")
    installed.execute("UPDATE public.applications SET status = 'x'")
    installed.execute("UPDATE public.applications SET status = 'y'")
    assert one(installed, MISSED) == 2
    assert one(installed, "SHOW lock_timeout") == "9s"


class TestMigrations:
    """What the ATS's own next version may do to its table."""

    @pytest.fixture
    def table(self, installed: Ats) -> Ats:
        installed.execute("INSERT INTO public.applications (id, status, notes) VALUES (1, 'new', 'n')")
        installed.execute("DELETE FROM cdc_sync.changes")
        return installed

    @pytest.mark.parametrize(
        "migration",
        [
            *("ADD COLUMN more text DEFAULT 'x'", "DROP COLUMN notes", "RENAME TO candidacies", "SET SCHEMA archive"),
            *("ALTER status TYPE varchar(99)", "ALTER id TYPE int"),
        ],
    )
    def test_most_are_possible(self, table: Ats, warnings: list[str], migration: str) -> None:
        table.execute("CREATE SCHEMA archive")
        run(table, "ALTER TABLE public.applications {migration}", migration=migration)

        table.execute("SET search_path = public, archive")
        name = "candidacies" if "candidacies" in migration else "applications"
        run(table, "UPDATE {name} SET status = 'hired'", name=name)

        assert rows(table, RECORDED) == [("U", ["1"])]
        assert warnings == []

    @pytest.mark.parametrize("migration", ["DROP status", "RENAME status TO label", "RENAME id TO status_id"])
    def test_a_watched_column_that_is_gone_stops_recording_and_harms_nobody(
        self, table: Ats, warnings: list[str], migration: str
    ) -> None:
        run(table, "ALTER TABLE public.applications {migration}", migration=migration)

        table.execute("UPDATE public.applications SET notes = 'm'")

        assert rows(table, RECORDED) == []
        assert one(table, MISSED) == 1
        (warning,) = warnings
        assert "has no field" in warning

    def test_a_session_that_outlives_a_change_of_type_counts_what_it_cannot_record(
        self, table: Ats, open_session: OpenSession, warnings: list[str]
    ) -> None:
        table.execute("UPDATE public.applications SET status = 'hired'")
        table.execute("DELETE FROM cdc_sync.changes")
        table.execute("ALTER TABLE public.applications ALTER status TYPE varchar(99)")

        table.execute("UPDATE public.applications SET status = 'rejected'")

        assert rows(table, RECORDED) == []
        assert one(table, MISSED) == 1
        (warning,) = warnings
        assert "type of parameter" in warning
        open_session().execute("UPDATE public.applications SET status = 'hired'")
        assert rows(table, RECORDED) == [("U", ["1"])]


# The first recorded row of a transaction is guarded by a subtransaction; the rows after it take no transaction id.


COUNT = "SELECT count(*) FROM cdc_sync.changes"


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


@pytest.mark.parametrize(
    "statement", [CHANGE_ALL, "UPDATE public.applications SET id = id + 5000", "DELETE FROM public.applications"]
)
def test_a_bulk_takes_one_beside_its_own(table: Ats, statement: str) -> None:
    assert ids_used(table, statement) == 2
    assert one(table, COUNT) >= 1000


def test_a_transaction_of_many_statements_too(table: Ats) -> None:
    one_more = (
        "UPDATE public.applications SET status = 'hired' WHERE id = (SELECT min(id) FROM {} WHERE status = 'new')"
    )

    assert ids_used(table, *[one_more.format("public.applications")] * 100) == 2
    assert one(table, COUNT) == 100


def test_a_savepoint_that_is_rolled_back_takes_the_guard_with_it(table: Ats, other: Ats) -> None:
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


def test_what_came_before_a_savepoint_is_kept(table: Ats) -> None:
    with table.transaction():
        table.execute("UPDATE public.applications SET status = 'hired' WHERE id IN (1, 2)")
        table.execute("SAVEPOINT one; UPDATE public.applications SET status = 'never' WHERE id IN (3, 4)")
        table.execute("ROLLBACK TO one")
        table.execute("UPDATE public.applications SET status = 'hired' WHERE id = 5")
        table.execute("SAVEPOINT two; UPDATE public.applications SET status = 'hired' WHERE id = 6; RELEASE two")

    assert sorted(rows(table, RECORDED)) == [("U", [key]) for key in "1256"]


def test_nobody_can_lock_or_alter_the_log_meanwhile(table: Ats, other: Ats) -> None:
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
    ats: Ats, other: Ats, new_role: NewRole
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


def test_a_transaction_that_alters_the_log_itself_fails_its_own_statement(table: Ats) -> None:
    table.execute("BEGIN; UPDATE public.applications SET status = 'hired' WHERE id = 1")
    table.execute("ALTER TABLE cdc_sync.changes ADD CHECK (false) NOT VALID")

    with pytest.raises(psycopg.errors.CheckViolation):
        table.execute("UPDATE public.applications SET status = 'hired' WHERE id = 2")

    table.execute("ROLLBACK")
    table.execute(CHANGE_ALL.encode())
    assert (one(table, COUNT), one(table, MISSED)) == (1000, 0)


# When the triggers ring: only while somebody waits to be woken.


Rung = Callable[[], int]
CHANGE = "UPDATE public.applications SET status = status || '.'"


@pytest.fixture
def rung(ats: Ats, open_session: OpenSession) -> Rung:
    """How often the bell, which is armed, has rung since it was asked last."""
    ats.execute("INSERT INTO public.applications (id, status) VALUES (1, 'new'), (2, 'new')")
    install_triggers(ats, a_config())
    arm(ats, 60)
    listener = open_session()
    listener.execute("LISTEN cdc_sync")

    def count() -> int:
        # A commit queues its notification before it returns, and a reply comes after the notifications before it.
        listener.execute("SELECT")
        return len(list(listener.notifies(timeout=0)))

    return count


def arm(ats: Ats, seconds: int) -> None:
    ats.execute("SELECT setval('cdc_sync.bell', extract(epoch FROM clock_timestamp())::bigint + %s)", [seconds])


def test_what_is_not_recorded_does_not_ring(ats: Ats, rung: Rung) -> None:
    ats.execute("UPDATE public.applications SET notes = 'x'")
    with ats.transaction(force_rollback=True):
        ats.execute(CHANGE)

    assert rung() == 0


def test_a_session_that_has_a_lock_timeout_does_not_ring(ats: Ats, rung: Rung) -> None:
    """In its COMMIT it would wait for NOTIFY's lock for no longer than that, and the COMMIT would fail."""
    ats.execute("SET lock_timeout = '1h'")

    ats.execute(CHANGE)
    assert rung() == 0

    ats.execute("SET lock_timeout = 0")
    ats.execute(CHANGE)
    assert rung() == 1


def test_what_was_rolled_back_to_a_savepoint_rings_with_the_next_change(ats: Ats, rung: Rung) -> None:
    with ats.transaction():
        ats.execute("SAVEPOINT one; UPDATE public.applications SET status = 'never'; ROLLBACK TO one")
        ats.execute(CHANGE)

    assert rung() == 1


def test_without_wakeup_it_never_rings(ats: Ats, rung: Rung) -> None:
    install_triggers(ats, a_config(capture={"wakeup": "none"}))

    ats.execute(CHANGE)

    assert rung() == 0


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_with_an_older_snapshot_sees_the_bell_as_it_is(
    ats: Ats, other: Ats, rung: Rung, level: str
) -> None:
    arm(ats, -1)
    ats.execute(CHANGE)
    assert rung() == 0
    with other.transaction():
        other.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
        other.execute("SELECT count(*) FROM public.applications")
        arm(ats, 60)

        other.execute(CHANGE)

    assert rung() == 1
