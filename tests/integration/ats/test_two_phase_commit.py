"""An ATS that commits in two phases (XA): PostgreSQL does not prepare a transaction that has notified."""

import time
from collections.abc import Iterator

import pytest
from support.binaries import server_binaries
from support.postgres import SETTINGS, create_ats
from support.sessions import Ats, OpenSession, one, sessions
from support.watched import a_config, install_triggers

from cdc_sync.ats.check import check_database
from cdc_sync.ats.connection import pooled
from cdc_sync.ats.lookout import Bell
from cdc_sync.ats.notify import have_ended, take_id
from cdc_sync.core.findings import Finding
from cdc_sync.demo.postgres import server as embedded_server

COUNT = "SELECT count(*) FROM cdc_sync.changes"


@pytest.fixture(scope="module")
def two_phase_server() -> Iterator[str]:
    with embedded_server(server_binaries(), settings={**SETTINGS, "max_prepared_transactions": "5"}) as own:
        create_ats(own.dsn)
        yield own.dsn


@pytest.fixture
def open_own_session(two_phase_server: str) -> Iterator[OpenSession]:
    with sessions(two_phase_server) as open_session:
        yield open_session


def prepare_a_change(session: Ats, wakeup: str) -> None:
    install_triggers(session, a_config(capture={"wakeup": wakeup}))
    session.execute("BEGIN; INSERT INTO public.applications (hellowork_id) VALUES ('a1'), ('a2')")
    session.execute("PREPARE TRANSACTION 'first phase'")


async def test_works_without_wakeup_and_holds_the_fence(two_phase_server: str, open_own_session: OpenSession) -> None:
    ats = open_own_session()
    prepare_a_change(ats, "none")
    async with pooled(two_phase_server) as pool:
        taken = await take_id(pool)
        assert not await have_ended(pool, taken)
        assert one(ats, COUNT) == 0
        # The session goes on with transactions of its own, whose first rows are guarded again.
        ats.execute("INSERT INTO public.applications (hellowork_id) VALUES ('a3')")
        assert one(ats, COUNT) == 1

        ats.execute("COMMIT PREPARED 'first phase'")

        assert await have_ended(pool, taken)
        assert one(ats, COUNT) == 3


async def test_works_with_wakeup_though_a_bell_was_left_armed(
    two_phase_server: str, open_own_session: OpenSession
) -> None:
    """As by a daemon that was killed before the server was restarted with prepared transactions allowed."""
    ats = open_own_session()
    async with pooled(two_phase_server) as pool:
        bell = Bell(pool)
        install_triggers(ats, a_config())
        await bell.follow()

        prepare_a_change(ats, "notify")

        ats.execute("ROLLBACK PREPARED 'first phase'")
        await bell.disarm()


async def test_a_check_says_what_follows_for_the_wakeup(two_phase_server: str, open_own_session: OpenSession) -> None:
    config = a_config(two_phase_server)
    install_triggers(open_own_session(), config)
    findings: list[Finding] = []
    await check_database(config, lambda: time.time_ns() // 1_000_000, findings.append)

    (found,) = (finding for finding in findings if finding.check == "prepared-transactions")
    assert found.state == "warning"
    assert "capture.wakeup: none" in (found.remedy or "")
