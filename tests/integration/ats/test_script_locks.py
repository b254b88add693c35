"""The scripts lock several tables, one after the other, and nobody fails for it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from support.sessions import Ats, OpenSession, one, rows
from support.versions import needs
from support.waiting import wait_until
from support.watched import COLUMNS, a_config, install_triggers, some_config, uninstall_triggers

from cdc_sync.ats.scripts import install, uninstall

RELATED = [{"table": "public.rejections", "key": ["application_id"]}]

LOCKS = """
SELECT c.relname::text, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
   AND l.mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')
"""
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"


@pytest.fixture(autouse=True)
def rejections(ats: Ats) -> None:
    ats.execute("CREATE TABLE public.rejections (application_id bigint)")


@pytest.fixture
def in_background(open_session: OpenSession) -> Iterator[Callable[[str], tuple[int, Future[Any]]]]:
    """Run a script as a DBA does, and go on: its session's process, and what becomes of it."""
    with ThreadPoolExecutor() as pool:

        def start(script: str) -> tuple[int, Future[Any]]:
            dba = open_session()
            return dba.info.backend_pid, pool.submit(dba.execute, script.encode())

        yield start


def waits_for(ats: Ats, pid: int, table: str) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted AND relation = %s::regclass"
    return bool(one(ats, query, [pid, table]))


def locked(dba: Ats, script: str) -> dict[str, str]:
    """What a script has locked when it has nothing but its end to come."""
    dba.execute(script.replace("\nCOMMIT;\n", "").encode())
    found = dict(sorted(rows(dba, LOCKS), reverse=True))  # the stronger mode, if a table has two
    dba.execute("ROLLBACK")
    return found


# A while is longer than deadlock_timeout: the script has looked for a cycle by then, and found none.
@pytest.mark.parametrize("later", [0, 1.3], ids=["at once", "after a while"])
@pytest.mark.parametrize("script", ["install", "install again", "uninstall"])
def test_the_ats_may_hold_one_table_and_go_on_to_another(
    ats: Ats,
    other: Ats,
    in_background: Callable[[str], tuple[int, Future[Any]]],
    script: str,
    later: float,
) -> None:
    config = a_config(related=RELATED)
    if script != "install":
        install_triggers(ats, config)
    other.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")

    pid, script_ends = in_background(uninstall() if script == "uninstall" else install(config))
    wait_until(lambda: waits_for(ats, pid, "public.rejections"), "the script waits for the second table")
    time.sleep(later)
    # It would be a deadlock, and the server end one of both, if the script kept the first table.
    other.execute("INSERT INTO public.applications (id) VALUES (1); COMMIT")

    script_ends.result()
    assert one(ats, TRIGGERS) == (0 if script == "uninstall" else 4)


def test_it_gives_up_if_a_table_stays_busy(ats: Ats, other: Ats) -> None:
    other.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")

    with pytest.raises(psycopg.errors.LockNotAvailable):
        install_triggers(ats, a_config(related=RELATED))

    ats.execute("ROLLBACK")
    assert one(ats, "SELECT to_regnamespace('cdc_sync')") is None
    other.execute("INSERT INTO public.applications (id) VALUES (1); COMMIT")


def test_everything_is_locked_in_the_mode_that_it_will_need(ats: Ats) -> None:
    config = a_config(related=RELATED)
    first = locked(ats, install(config))
    install_triggers(ats, config)
    again = locked(ats, install(config))

    shared = {"applications": "ShareRowExclusiveLock", "rejections": "ShareRowExclusiveLock"}
    assert {table: first[table] for table in shared} == shared
    # The log, which lacks nothing, is left to those who record.
    assert again == dict.fromkeys(shared, "AccessExclusiveLock")
    assert locked(ats, uninstall("applications")) == again
    assert locked(ats, uninstall()) == again


def test_so_is_what_the_watch_had_before(ats: Ats, other: Ats) -> None:
    install_triggers(ats, a_config(related=RELATED))
    other.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")
    started = time.monotonic()

    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        install_triggers(ats, a_config())

    assert "LOCK TABLE ONLY public.rejections IN ACCESS EXCLUSIVE MODE" in (refused.value.diag.context or "")
    assert time.monotonic() - started < 30, "half a second behind the first table, then three before it"


def test_the_log_of_an_earlier_version_is_waited_for_last_and_shortly(ats: Ats, other: Ats) -> None:
    config = a_config()
    install_triggers(ats, config)
    ats.execute("ALTER TABLE cdc_sync.changes REPLICA IDENTITY DEFAULT")
    other.execute("BEGIN; LOCK TABLE cdc_sync.changes IN ROW EXCLUSIVE MODE")

    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        install_triggers(ats, config)
    assert "LOCK TABLE ONLY cdc_sync.changes" in (refused.value.diag.context or "")
    ats.execute("ROLLBACK")
    other.execute("COMMIT")
    install_triggers(ats, config)

    assert one(ats, "SELECT relreplident::text FROM pg_class WHERE oid = 'cdc_sync.changes'::regclass") == "f"


def test_partitions_are_locked_one_by_one(ats: Ats, other: Ats) -> None:
    needs(ats, 11, "row triggers on partitioned tables")
    ats.execute("CREATE TABLE parts (id int, status text) PARTITION BY LIST (id)")
    ats.execute("CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1) PARTITION BY LIST (id)")
    ats.execute("CREATE TABLE part_1_1 PARTITION OF part_1 FOR VALUES IN (1)")
    columns = {"application_id": "id", "status": "status", "job_id": "status", "created": {"sql": "now()"}}
    config = some_config("", {"w": {"table": "parts", "key": ["id"], "columns": columns}})
    parts = {"parts", "part_1", "part_1_1"}

    first = locked(ats, install(config))
    assert {table: first[table] for table in parts} == dict.fromkeys(parts, "ShareRowExclusiveLock")

    install_triggers(ats, config)
    assert locked(ats, install(config)) == dict.fromkeys(parts, "AccessExclusiveLock")
    other.execute("BEGIN; INSERT INTO part_1_1 VALUES (1)")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        install_triggers(ats, config)
    ats.execute("ROLLBACK")
    other.execute("INSERT INTO parts VALUES (1); COMMIT")


def test_a_table_that_inherits_is_left_alone(ats: Ats) -> None:
    ats.execute("CREATE TABLE public.archived () INHERITS (public.applications)")

    assert "archived" not in locked(ats, install(a_config()))


def test_names_that_need_quotes_and_tables_of_two_watches(ats: Ats) -> None:
    ats.execute('CREATE SCHEMA "Ä b"; CREATE TABLE "Ä b"."t "" %s" (LIKE public.applications)')
    odd = {"table": '"Ä b"."t "" %s"', "key": ["id"], "columns": dict(COLUMNS)}
    config = some_config("", {"one": odd, "two": odd})
    ats.execute("SET search_path = ''")

    install_triggers(ats, config)
    assert list(locked(ats, install(config))) == ['t " %s']
    uninstall_triggers(ats)

    assert one(ats, TRIGGERS) == 0
