"""The scheduled jobs that remove what is too old."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from support.builders import NOW, WATCH, an_observation, some_rules
from support.store_steps import acknowledge, adopt, begin_calls, observe

from cdc_sync.ats.errors import SourceError
from cdc_sync.daemon import chores
from cdc_sync.daemon.chores import forget_deleted, prune
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
    async def test_keeps_no_more_than_allowed_however_young_they_are(self, tmp_path: Path) -> None:
        store = await a_long_history(tmp_path / "state.db")

        await prune(store, 0, keep=500)

        oldest = EVENTS - 500
        assert await kept(store, f"a{oldest - 1}", f"a{oldest}", "last") == [f"a{oldest}", "last"]
        await store.driver.close()


async def delete(store: Store, *ids: str, watch: str = WATCH, at: int = NOW) -> None:
    """Let HelloWork acknowledge that applications are deleted."""
    await adopt(store, *ids, watch=watch)
    rows = [an_observation(id_, deleted=True) for id_ in ids]
    await observe(store, *rows, rules=some_rules(watch, max_changes=len(ids), max_deletions=len(ids)), at=at)
    await acknowledge(store, *await begin_calls(store, at, limit=len(ids)), at=at)


async def known(store: Store, *ids: str) -> list[str]:
    """Which of these applications the store knows anything of."""
    return [id_ for id_ in ids if await store.report.records(id_, None) or await store.report.story(id_, None, 1)]


async def no_row(_: str, __: Sequence[str]) -> Collection[str]:
    """The ATS has no row of any application."""
    return ()


class TestForgettingDeleted:
    async def test_it_goes_in_steps(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chores, "_FORGOTTEN_AT_ONCE", 2)
        monkeypatch.setattr(chores, "NUMBERS", 3)
        ids, asked = [f"a{number}" for number in range(7)], list[int]()
        await delete(store, *ids)

        async def ask(_: str, some: Sequence[str]) -> Collection[str]:
            asked.append(len(some))
            return ()

        await forget_deleted(store, NOW + 1, with_row=ask)

        assert await known(store, *ids) == []
        assert (sum(asked) >= len(ids), max(asked)) == (True, 2)

    async def test_what_has_a_row_stays(self, store: Store) -> None:
        await delete(store, "a1", "a2")

        async def a_row(_: str, __: Sequence[str]) -> Collection[str]:
            return ["a2"]

        await forget_deleted(store, NOW + 1, with_row=a_row)

        assert await known(store, "a1", "a2") == ["a2"]

    async def test_what_is_back_meanwhile_stays(self, store: Store) -> None:
        await delete(store, "a1")

        async def ask(_: str, __: Sequence[str]) -> Collection[str]:
            await observe(store, an_observation("a1", "hired"), at=NOW + 2)
            return ()

        await forget_deleted(store, NOW + 1, with_row=ask)

        assert await known(store, "a1") == ["a1"]
        assert (await store.report.counts())[WATCH].pending == 1

    async def test_a_watch_that_cannot_be_read_leaves_the_others_alone(self, store: Store) -> None:
        await delete(store, "a1")
        await delete(store, "b1", watch="other")

        async def ask(watch: str, _: Sequence[str]) -> Collection[str]:
            if watch == WATCH:
                raise SourceError("no route to host", "lost")
            return ()

        await forget_deleted(store, NOW + 1, with_row=ask)

        assert await known(store, "a1", "b1") == ["a1"]
