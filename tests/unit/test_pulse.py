"""The heart beats while the event loop turns."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cdc_sync.core.events import Event, HeartBeat
from cdc_sync.daemon.pulse import beat_for_ever
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver


@asynccontextmanager
async def beating(store: Store, said: list[Event]) -> AsyncIterator[None]:
    """A heart at work, in a hurry."""
    heart = asyncio.create_task(beat_for_ever(lambda: store, said.append, every=0.01))
    try:
        yield
    finally:
        await end([heart])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is observed is a list
            await asyncio.sleep(0.005)


async def test_the_heart_beats_with_what_is_pending(tmp_path: Path) -> None:
    said: list[Event] = []
    store = Store(SqliteDriver(tmp_path / "state.db"))
    async with beating(store, said):
        await until(lambda: len(said) >= 3)
        assert set(said) == {HeartBeat(0)}
    await store.driver.close()


async def test_a_store_that_fails_does_not_stop_the_heart(tmp_path: Path) -> None:
    said: list[Event] = []
    store = Store(SqliteDriver(tmp_path / "state.db"))
    await store.driver.close()
    async with beating(store, said):
        await until(lambda: HeartBeat(None) in said)


async def test_a_daemon_that_has_no_store_beats() -> None:
    """It stands by, or its store is down: a restart would not help."""
    said: list[Event] = []
    heart = asyncio.create_task(beat_for_ever(lambda: None, said.append, every=0.01))
    await until(lambda: len(said) >= 2)
    await end([heart])

    assert set(said) == {HeartBeat(None)}


async def test_a_store_that_never_answers_stops_the_heart(tmp_path: Path) -> None:
    said: list[Event] = []
    driver = SqliteDriver(tmp_path / "state.db")
    driver._thread.end()  # what is handed in behind its end is never taken up
    async with beating(Store(driver), said):
        await asyncio.sleep(0.05)
        assert said == []
