"""The scheduled job that keeps the history within bounds."""

from pathlib import Path

from support.builders import NOW, WATCH, an_observation, some_rules
from support.store_steps import observe

from cdc_sync.daemon.chores import prune
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver

EVENTS = 12_000


async def a_long_history(path: Path) -> Store:
    """One event of each of many applications, a millisecond apart."""
    store = Store(SqliteDriver(path))
    rules = some_rules(max_changes=EVENTS)
    await observe(store, *(an_observation(f"a{number}") for number in range(EVENTS - 1)), rules=rules)
    await observe(store, an_observation("last"), rules=rules, at=NOW + 1)
    return store


async def kept(store: Store, *names: str) -> list[str]:
    """Which of these applications still have a history."""
    return [name for name in names if await store.report.story(name, None, 10)]


class TestPruning:
    async def test_takes_as_many_steps_as_it_needs(self, tmp_path: Path) -> None:
        store = await a_long_history(tmp_path / "state.db")

        await prune(store, NOW + 1)

        assert await kept(store, f"a{EVENTS - 2}", "last") == ["last"]
        assert (await store.report.counts())[WATCH].pending == EVENTS
        await store.driver.close()

    async def test_keeps_no_more_than_allowed_however_young_they_are(self, tmp_path: Path) -> None:
        store = await a_long_history(tmp_path / "state.db")

        await prune(store, 0, keep=500)

        oldest = EVENTS - 500
        assert await kept(store, f"a{oldest - 1}", f"a{oldest}", "last") == [f"a{oldest}", "last"]
        await store.driver.close()
