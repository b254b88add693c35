"""A watch that nobody works does not fill the log that all watches share: its triggers stop after a day."""

from collections.abc import AsyncIterator

import pytest
from support.builders import WATCH
from support.doorbell import Doorbell
from support.sessions import Ats, OpenSession, one, rows, run
from support.watched import a_config, install_triggers

from cdc_sync.source.connection import Pool, pooled

DAY = 86_400
RECORDED = "SELECT watch, count(*) FROM cdc_sync.changes GROUP BY watch ORDER BY watch"
MISSED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cdc_sync.missed_left"
INSERT = "INSERT INTO public.applications (status) VALUES ('new')"


def worked(ats: Ats, watch: str, ago: int) -> None:
    """Say that a watch was worked last so many seconds ago."""
    setting = "SELECT setval('cdc_sync.bell_{watch}', floor(extract(epoch FROM clock_timestamp()))::bigint - {ago})"
    ats.execute(setting.format(watch=watch, ago=ago).encode())


@pytest.fixture
def two(ats: Ats) -> Ats:
    """Triggers of two watches on one table."""
    config = a_config()
    install_triggers(ats, config.model_copy(update={"watches": dict.fromkeys((WATCH, "left"), config.watches[WATCH])}))
    return ats


def test_its_triggers_stop_and_count_what_they_leave_out(two: Ats) -> None:
    worked(two, WATCH, 60)
    worked(two, "left", DAY + 60)

    two.execute(INSERT)
    two.execute(INSERT)
    two.execute(INSERT)

    assert rows(two, RECORDED) == [(WATCH, 3)]
    assert one(two, MISSED) == 3


@pytest.mark.parametrize("ago", [60, DAY - 60])
def test_not_before_a_day_is_over(two: Ats, ago: int) -> None:
    worked(two, WATCH, 60)
    worked(two, "left", ago)

    two.execute(INSERT)

    assert rows(two, RECORDED) == [(WATCH, 1), ("left", 1)]


def test_not_while_no_other_is_worked_either(two: Ats) -> None:
    """The daemon is away: the log keeps what it can, for all."""
    worked(two, WATCH, DAY + 60)
    worked(two, "left", 30 * DAY)

    two.execute(INSERT)
    two.execute(INSERT)

    assert rows(two, RECORDED) == [(WATCH, 2), ("left", 2)]


@pytest.mark.parametrize("ago", [None, 0])
def test_not_where_the_bell_says_nothing(two: Ats, ago: int | None) -> None:
    """It was never set, or an earlier version left it at zero."""
    worked(two, WATCH, 60)
    if ago is not None:
        run(two, "SELECT setval('cdc_sync.bell_left', 0)")

    two.execute(INSERT)

    assert rows(two, RECORDED) == [(WATCH, 1), ("left", 1)]


def test_they_go_on_when_it_is_worked_again(two: Ats, open_session: OpenSession) -> None:
    worked(two, WATCH, 60)
    worked(two, "left", DAY + 60)
    two.execute(INSERT)
    worked(two, "left", 0)

    open_session().execute(INSERT)
    two.execute("SELECT set_config('cdc_sync.failed_left', '', false)")  # what lasts ten seconds
    two.execute(INSERT)

    assert rows(two, RECORDED) == [(WATCH, 3), ("left", 2)]


class TestDaemon:
    """What it says by the bell."""

    AGO = "SELECT extract(epoch FROM clock_timestamp()) - last_value FROM cdc_sync.bell_applications"

    @pytest.fixture
    async def pool(self, database: str, ats: Ats) -> AsyncIterator[Pool]:
        install_triggers(ats, a_config())
        async with pooled(database) as pool:
            yield pool

    async def test_it_works_the_watch(self, pool: Pool, ats: Ats) -> None:
        bell = Doorbell(pool, WATCH)
        await bell.worked(begins=False)
        assert one(ats, "SELECT NOT is_called FROM cdc_sync.bell_applications"), "nobody has adopted anything yet"
        for ago in (DAY, 3601):
            worked(ats, WATCH, ago)
            await bell.worked()
            assert 0 < one(ats, self.AGO) < 10
        await bell.disarm()
        assert 0 < one(ats, self.AGO) < 10

    async def test_an_armed_bell_stays_armed(self, pool: Pool, ats: Ats) -> None:
        bell = Doorbell(pool, WATCH)
        await bell.arm()
        await Doorbell(pool, WATCH).worked()
        assert one(ats, self.AGO) < -50
