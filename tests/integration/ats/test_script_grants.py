"""The grants give the daemon's role what it needs and nothing else."""

from typing import Any

import psycopg
import pytest
from support.roles import NewRole
from support.sessions import Ats, OpenSession, rows, run
from support.watched import a_config, grant, install_triggers

from cdc_sync.ats.granting import grants
from cdc_sync.config import Config

MAY_READ = """
SELECT attname::text FROM pg_attribute
 WHERE attrelid = 'public.applications'::regclass AND attnum > 0
   AND has_column_privilege(%s, attrelid, attnum, 'SELECT')
 ORDER BY attnum
"""


@pytest.fixture
def role(new_role: NewRole) -> str:
    return new_role()


def granted(ats: Ats, config: Config, role: str) -> list[str]:
    """The columns of the table that the role may read."""
    ats.execute("REVOKE ALL ON public.applications FROM PUBLIC")
    install_triggers(ats, config)
    grant(ats, config, role)
    return [name for (name,) in rows(ats, MAY_READ, [role])]


MINIMAL = {"event_date": None, "deleted": None}
"""A mapping of hellowork_id, status, job_id and created_at."""


@pytest.mark.parametrize(
    ("section", "more"),
    [
        ({}, set()),
        ({"where": {"sql": "t.notes IS NULL", "depends_on": ["notes"]}}, {"notes"}),
        ({"columns": {"source": "source"}}, {"source"}),
        ({"columns": {"deleted": "deleted_at"}}, {"deleted_at"}),
        ({"columns": {"event_date": {"sql": "at(notes)", "depends_on": ["notes"]}}}, {"notes"}),
        ({"extra": {"delay": "notes"}}, {"notes"}),
        ({"capture": {"mode": "poll", "watermark": "updated_at"}}, {"updated_at"}),
        ({"columns": {"status_url": "status_api_url"}}, {"status_api_url"}),
    ],
)
def test_columns_that_are_used_and_no_others(ats: Ats, role: str, section: dict[str, Any], more: set[str]) -> None:
    config = a_config(**{**section, "columns": {**MINIMAL, **section.get("columns", {})}})

    assert set(granted(ats, config, role)) == {"id", "hellowork_id", "status", "job_id", "created_at"} | more


def test_personal_data_cannot_be_read(ats: Ats, role: str, open_session: OpenSession) -> None:
    granted(ats, a_config(), role)
    daemon = open_session(user=role, password=role)

    daemon.execute("SELECT status FROM public.applications")
    for query in ("SELECT notes FROM public.applications", "SELECT * FROM public.applications"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(daemon, query)


def test_nothing_can_be_changed_but_the_log_consumed(ats: Ats, role: str, open_session: OpenSession) -> None:
    granted(ats, a_config(), role)
    daemon = open_session(user=role, password=role)
    for statement in ("UPDATE public.applications SET status = 'x'", "CREATE TABLE cdc_sync.mine (id int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run(daemon, statement)


def test_related_tables_can_be_read_whole(ats: Ats, role: str, open_session: OpenSession) -> None:
    ats.execute("CREATE TABLE public.rejections (application_id bigint, undone_at date, comment text)")
    rejected = "EXISTS (SELECT FROM public.rejections r WHERE r.application_id = t.id AND r.undone_at IS NULL)"
    status = {"sql": f"CASE WHEN {rejected} THEN 'rejected' ELSE t.status END", "depends_on": ["id", "status"]}
    config = a_config(columns={"status": status}, related=[{"table": "public.rejections", "key": ["application_id"]}])
    granted(ats, config, role)
    daemon = open_session(user=role, password=role)

    run(daemon, "SELECT {status} FROM public.applications t", status=str(status["sql"]))
    run(daemon, "SELECT comment FROM public.rejections")


def test_an_expression_without_depends_on_costs_the_whole_table(ats: Ats, role: str) -> None:
    config = a_config(columns={"source": {"sql": "upper(t.source)"}})

    assert "has no depends_on" in grants(config, role)
    assert "notes" in granted(ats, config, role)
