"""Other watches' tables are asked while tenants go: what was begun is answered of the watches that there were."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from support.applications import insert
from support.builders import a_baseline, an_observation, some_rules
from support.sessions import Ats
from support.store_steps import adopt
from support.watched import COLUMNS, some_config

from cdc_sync.ats.rows_elsewhere import OtherWatches
from cdc_sync.config import Config
from cdc_sync.config.models import account_of
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver

GOING, STAYING = "going", "staying"
ANSWERS: Mapping[str, object] = {
    "with_row": {"a1"},
    "present": ["a1"],
    "with_live_row": ({"a1": "unknown"}, frozenset()),
}


@pytest.fixture
def config(database: str) -> Config:
    """Two watches of one account."""
    table = {"table": "public.applications", "key": ["id"], "columns": COLUMNS}
    return some_config(database, {GOING: table, STAYING: table})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(SqliteDriver(tmp_path / "state.db"))
    yield store
    await store.driver.close()


@pytest.mark.parametrize("asked", ANSWERS)
async def test_a_watch_may_go_while_its_table_is_asked(asked: str, ats: Ats, config: Config, store: Store) -> None:
    insert(ats, 1, "a1")
    await adopt(store, "a1", watch=GOING)
    others = OtherWatches(config, store)
    if asked == "with_live_row":
        asking = asyncio.create_task(others.with_live_row(STAYING, {"a1": str(account_of(config, STAYING))}))
    else:
        asking = asyncio.create_task(getattr(others, asked)(GOING, ["a1"]))
    await asyncio.sleep(0)
    others.use(config.with_watches({STAYING: config.watches[STAYING]}))

    found = await asking
    assert (list(found) if asked == "present" else found) == ANSWERS[asked]


async def test_what_another_table_has_is_not_ended_again(ats: Ats, config: Config, store: Store) -> None:
    insert(ats, 1, "a1")
    await adopt(store, "a1", watch=GOING)
    await store.capture.apply(some_rules(STAYING), a_baseline(an_observation("a1", deleted=True)))

    assert await OtherWatches(config, store).present(STAYING, ["a1"]) == {}
