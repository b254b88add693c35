"""The scripts lock several tables, one after the other, and nobody fails for it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from support.install_script import install
from support.roles import NewRole
from support.sessions import Ats, OpenSession, one, rows
from support.versions import needs
from support.watched import a_config, install_triggers, run_script, some_config

from cdc_sync.ats.scripts import grants, uninstall

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
def dba(open_session: OpenSession) -> Iterator[Callable[[str], Future[Any]]]:
    """Run a script as a DBA does, and go on."""
    with ThreadPoolExecutor() as pool:
        yield lambda script: pool.submit(open_session().execute, script.encode())


@pytest.fixture
def at_once(open_session: OpenSession) -> Callable[[list[str]], None]:
    """Run scripts at once, each in a session of its own."""

    def run(scripts: list[str]) -> None:
        sessions = [open_session() for _ in scripts]
        with ThreadPoolExecutor(len(scripts)) as pool:
            list(pool.map(run_script, sessions, scripts))

    return run


def locked(dba: Ats, script: str) -> dict[str, str]:
    """What a script has locked when it has nothing but its end to come."""
    dba.execute(script.replace("\nCOMMIT;\n", "").encode())
    found = dict(sorted(rows(dba, LOCKS), reverse=True))  # the stronger mode, if a table has two
    dba.execute("ROLLBACK")
    return found


@pytest.mark.parametrize("script", ["install", "install again", "uninstall"])
def test_the_ats_may_hold_one_table_and_go_on_to_another(
    ats: Ats, other: Ats, dba: Callable[[str], Future[Any]], script: str
) -> None:
    config = a_config(related=RELATED)
    if script != "install":
        install_triggers(ats, config)
    other.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")

    script_ends = dba(uninstall() if script == "uninstall" else install(config))
    # It would be a deadlock, and the server end one of both, if the script kept the first table and waited.
    other.execute("INSERT INTO public.applications (id) VALUES (1); COMMIT")

    with suppress(psycopg.errors.LockNotAvailable):
        script_ends.result()
    run_script(ats, uninstall() if script == "uninstall" else install(config))
    assert one(ats, TRIGGERS) == (0 if script == "uninstall" else 4)


def test_scripts_that_run_at_once_take_turns(ats: Ats, new_role: NewRole, at_once: Callable[[list[str]], None]) -> None:
    ats.execute("CREATE TABLE public.others (LIKE public.applications INCLUDING ALL)")
    configs = [a_config(table=table) for table in ("public.applications", "public.others")]
    role = new_role()

    at_once([install(config) for config in configs] * 4)
    assert one(ats, TRIGGERS) == 2  # of the last one

    at_once([grants(a_config(), role), install(a_config())] * 4)
    at_once([uninstall()] * 4)
    assert one(ats, TRIGGERS) == 0


def test_it_gives_up_if_a_table_stays_busy(ats: Ats, other: Ats) -> None:
    other.execute("BEGIN; INSERT INTO public.rejections VALUES (1)")

    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        install_triggers(ats, a_config(related=RELATED))

    assert f"public.rejections by process {other.info.backend_pid} (" in (refused.value.diag.message_detail or "")
    ats.execute("ROLLBACK")
    assert one(ats, "SELECT to_regnamespace('cdc_sync')") is None
    other.execute("INSERT INTO public.applications (id) VALUES (1); COMMIT")


def test_uninstalling_names_who_keeps_the_log(ats: Ats, other: Ats) -> None:
    install_triggers(ats, a_config())
    other.execute("BEGIN; SELECT FROM cdc_sync.changes")

    with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
        run_script(ats, uninstall())

    assert f"cdc_sync.changes by process {other.info.backend_pid} (" in (refused.value.diag.message_detail or "")


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
