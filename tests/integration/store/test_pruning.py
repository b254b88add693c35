"""The scheduled job that keeps the history within bounds."""

from pathlib import Path

from support.builders import NOW, WATCH, an_observation, some_rules
from support.store_steps import observe

from cdc_sync.daemon import pruning
from cdc_sync.store.sqlite import SqliteStore

EVENTS = 12_000


async def a_long_history(path: Path) -> SqliteStore:
    """One event of each of many applications, a millisecond apart."""
    store = SqliteStore(path)
    rules = some_rules(max_changes=EVENTS)
    await observe(store, *(an_observation(f"a{number}") for number in range(EVENTS - 1)), rules=rules)
    await observe(store, an_observation("last"), rules=rules, at=NOW + 1)
    return store


class TestPruning:
    async def test_takes_as_many_steps_as_it_needs(self, tmp_path: Path) -> None:
        store = await a_long_history(tmp_path / "state.db")

        assert await pruning.prune(store, NOW + 1) == EVENTS - 1

        assert [event.application_id for event in await store.recent(10)] == ["last"]
        assert (await store.counts())[WATCH].pending == EVENTS
        await store.close()

    async def test_keeps_no_more_than_allowed_however_young_they_are(self, tmp_path: Path) -> None:
        store = await a_long_history(tmp_path / "state.db")

        assert await pruning.prune(store, 0, keep=500) == EVENTS - 500

        assert len(await store.recent(EVENTS)) == 500
        await store.close()
