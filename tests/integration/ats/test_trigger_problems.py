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


@pytest.mark.parametrize("trigger", ["row", "truncate"])
async def test_one_is_missing(database: str, installed: Ats, trigger: str) -> None:
    run(installed, "DROP TRIGGER cdc_sync_applications_{trigger} ON public.applications", trigger=trigger)

    assert await problems(database, related=RELATED) == [NOT_INSTALLED]


@pytest.mark.parametrize(
    "how",
    [
        "DISABLE TRIGGER ALL",
        "ENABLE REPLICA TRIGGER cdc_sync_applications_row",
    ],
)
async def test_some_are_disabled(database: str, installed: Ats, how: str) -> None:
    run(installed, "ALTER TABLE public.applications {how}", how=how)

    assert await problems(database, related=RELATED) == [DISABLED]


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


async def test_the_table_was_replaced_by_another_of_its_name(database: str, installed: Ats) -> None:
    installed.execute("ALTER TABLE public.applications RENAME TO applications_old")
    installed.execute("CREATE TABLE public.applications (LIKE public.applications_old INCLUDING ALL)")

    assert await problems(database, related=RELATED) == [NOT_INSTALLED]


async def test_any_role_can_look(database: str, installed: Ats, new_role: NewRole) -> None:
    assert await problems(dsn_of(database, new_role()), related=RELATED) == []


class TestInheritance:
    @pytest.fixture
    def heir(self, installed: Ats) -> Ats:
        run(installed, 'CREATE TABLE public."Old ones" () INHERITS (public.applications)')
        run(installed, 'CREATE TABLE public.older () INHERITS (public."Old ones")')
        return installed

    async def test_every_heir_needs_triggers_of_its_own(self, database: str, heir: Ats) -> None:
        not_fired = "inherits from public.applications, whose triggers do not fire for it; list it under related, as"

        assert await problems(database, related=RELATED) == [
            f'public."Old ones" {not_fired} {{table: public."Old ones", key: [id]}}',
            f"public.older {not_fired} {{table: public.older, key: [id]}}",
        ]
