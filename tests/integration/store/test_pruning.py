"""The scheduled jobs that remove what is too old."""

from collections.abc import Collection, Sequence

import pytest
from support.builders import NOW, WATCH, an_observation, some_rules
from support.store_steps import acknowledge, adopt, begin_calls, observe

from cdc_sync.ats.errors import SourceError
from cdc_sync.daemon import chores
from cdc_sync.daemon.chores import forget_deleted, prune
from cdc_sync.store import Store


async def test_of_a_history_that_is_too_long_the_newest_is_kept_whatever_its_age(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_PRUNED_AT_ONCE", 3)
    ids = [f"a{number}" for number in range(6)]
    for number, id_ in enumerate(ids):
        await observe(store, an_observation(id_), at=NOW + number)

    await prune(store, NOW, keep=2)

    assert [id_ for id_ in ids if await store.report.story(id_, 10)] == ["a4", "a5"]


async def delete(store: Store, *ids: str, watch: str = WATCH, at: int = NOW) -> None:
    """Let HelloWork acknowledge that applications are deleted."""
    await adopt(store, *ids, watch=watch)
    rows = [an_observation(id_, deleted=True) for id_ in ids]
    await observe(store, *rows, rules=some_rules(watch, max_changes=len(ids), max_deletions=len(ids)), at=at)
    await acknowledge(store, *await begin_calls(store, at, limit=len(ids)), at=at)


async def known(store: Store, *ids: str) -> list[str]:
    """Which of these applications the store knows anything of."""
    return [id_ for id_ in ids if await store.report.records(id_, None) or await store.report.story(id_, 1)]


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
