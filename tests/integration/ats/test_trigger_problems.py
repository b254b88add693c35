"""What the daemon says of the triggers that it finds."""

from typing import Any

import pytest
from support.builders import WATCH
from support.roles import NewRole, dsn_of
from support.sessions import Ats, run
from support.watched import a_config, install_triggers

from cdc_sync.ats import triggers
from cdc_sync.ats.connection import connected
from cdc_sync.config import Watch

RELATED = [{"table": "public.rejections", "key": ["application"]}]
NOT_INSTALLED = "the triggers of cdc_sync.record_applications are not installed on public.applications"
DISABLED = "triggers of cdc_sync.record_applications are disabled"
REPLACED = """
ALTER TABLE public.applications RENAME TO applications_old;
CREATE TABLE public.applications (LIKE public.applications_old INCLUDING ALL)
"""
OUTDATED = "cdc_sync.record_applications was installed by another version or configuration, or edited since"


async def problems(dsn: str, name: str = WATCH, watch: Watch | None = None, **section: Any) -> list[str]:
    async with connected(dsn) as connection:
        found = await triggers.installation(connection, name, watch or a_config(**section).watches[WATCH])
        return list(found.problems)


@pytest.fixture
def installed(ats: Ats) -> Ats:
    ats.execute("CREATE TABLE public.rejections (application bigint)")
    install_triggers(ats, a_config(related=RELATED))
    return ats


async def test_nothing_is_installed(database: str) -> None:
    assert await problems(database) == [NOT_INSTALLED]


async def test_without_depends_on_what_is_installed_goes_on(database: str, installed: Ats) -> None:
    watch: dict[str, Any] = {"related": RELATED, "where": "t.notes IS NULL"}
    missing = "depends_on is missing for where: run `cdc-sync check`, paste the list that it prints, then install again"

    assert await problems(database, **watch) == [missing]
    run(installed, "ALTER TABLE public.applications DISABLE TRIGGER ALL")
    assert await problems(database, **watch) == [missing, DISABLED]


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ("DROP TRIGGER cdc_sync_applications_row ON public.applications", NOT_INSTALLED),
        ("DROP TRIGGER cdc_sync_applications_truncate ON public.applications", NOT_INSTALLED),
        ("ALTER TABLE public.applications DISABLE TRIGGER ALL", DISABLED),
        ("ALTER TABLE public.applications ENABLE REPLICA TRIGGER cdc_sync_applications_row", DISABLED),
        (REPLACED, NOT_INSTALLED),
    ],
)
async def test_one_is_missing_or_disabled(database: str, installed: Ats, harm: str, problem: str) -> None:
    run(installed, harm)

    assert await problems(database, related=RELATED) == [problem]


@pytest.mark.parametrize(
    "section",
    [
        {"columns": {"status": "notes"}},
        {"where": {"sql": "t.notes IS NULL", "depends_on": ["notes"]}},
        {"capture": {"wakeup": "none"}},
        {"capture": {"max_backlog": "1MB"}},
    ],
)
async def test_they_are_those_of_another_configuration(database: str, installed: Ats, section: dict[str, Any]) -> None:
    assert OUTDATED in await problems(database, related=RELATED, **section)


@pytest.mark.usefixtures("installed")
async def test_what_the_triggers_do_not_depend_on_does_not_outdate_them(database: str) -> None:
    others = {"extra": {"delay": "notes"}, "status": {"map": {"new": "sent"}}, "timezone": "Europe/Paris"}

    assert await problems(database, related=RELATED, **others) == []


async def test_any_role_can_look(database: str, installed: Ats, new_role: NewRole) -> None:
    assert await problems(dsn_of(database, new_role()), related=RELATED) == []


async def test_every_heir_needs_triggers_of_its_own(database: str, installed: Ats) -> None:
    run(installed, 'CREATE TABLE public."Old ones" () INHERITS (public.applications)')
    run(installed, 'CREATE TABLE public.older () INHERITS (public."Old ones")')

    first, second = await problems(database, related=RELATED)

    assert '{table: public."Old ones", key: [id]}' in first
    assert "{table: public.older, key: [id]}" in second
