"""A loop that rests is no loop that hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from support.builders import WATCH

from cdc_sync.core.events import ChangesRead, Dispatch, Event, HeartBeat, LoopsRecovered, LoopsStalled
from cdc_sync.daemon.pulse import CAPTURE, STEP_OF_DATABASE, SWEEPS, Pulse, beat_for_ever
from cdc_sync.event_loop import end
from cdc_sync.store import Store
from cdc_sync.store.sqlite import SqliteDriver


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_rests_as_long_as_it_said_does_not_hang() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat("sweeps", 3600.0, watch=WATCH)
    clock.now += 3600.0
    assert pulse.stalled() == ()
    clock.now += 0.1
    assert pulse.stalled() == (f"sweeps {WATCH}",)


def test_a_loop_that_has_ended_does_not_hang() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat("sender", 1.0)
    pulse.beat(CAPTURE, 1.0, watch=WATCH)
    pulse.rest(WATCH)
    pulse.rest("nobody")
    clock.now += 2.0
    assert pulse.stalled() == ("sender",)


def test_a_batch_of_a_long_catching_up_is_a_step() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat(CAPTURE, 30.0 + STEP_OF_DATABASE, watch=WATCH)
    Dispatch(pulse.handlers).emit(ChangesRead(WATCH, "notify", 1000))
    clock.now += 30.0 + STEP_OF_DATABASE
    assert pulse.stalled() == (), "a batch shortens no rest"
    Dispatch(pulse.handlers).emit(ChangesRead(WATCH, "sweep", 1000))
    Dispatch(pulse.handlers).emit(HeartBeat(0))
    clock.now += 1.0
    assert pulse.stalled() == (f"{CAPTURE} {WATCH}",), "what a sweep reads is no step of capture"
    Dispatch(pulse.handlers).emit(ChangesRead(WATCH, "notify", 1000))
    assert pulse.stalled() == ()


def test_and_one_of_the_sweep_that_waits_for_it() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat(SWEEPS, STEP_OF_DATABASE, watch=WATCH)
    for _ in range(3):
        clock.now += STEP_OF_DATABASE
        Dispatch(pulse.handlers).emit(ChangesRead(WATCH, "notify", 1000))
    assert pulse.stalled() == ()
    clock.now += STEP_OF_DATABASE + 1.0
    assert pulse.stalled() == (f"{SWEEPS} {WATCH}",)


def test_batches_of_a_watch_without_capture_are_nobodys_steps() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    Dispatch(pulse.handlers).emit(ChangesRead(WATCH, "poll", 1000))
    clock.now += 2 * STEP_OF_DATABASE
    assert pulse.stalled() == ()


@asynccontextmanager
async def beating(pulse: Pulse, store: Store, said: list[Event]) -> AsyncIterator[None]:
    """A heart at work, in a hurry."""
    heart = asyncio.create_task(beat_for_ever(pulse, lambda: store, said.append, every=0.01))
    try:
        yield
    finally:
        await end([heart])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is observed is a list
            await asyncio.sleep(0.005)


async def test_the_heart_beats_as_long_as_every_loop_gets_round(tmp_path: Path) -> None:
    clock, said = Clock(), list[Event]()
    pulse, store = Pulse(clock), Store(SqliteDriver(tmp_path / "state.db"))
    async with beating(pulse, store, said):
        pulse.beat("sender", 60.0)
        await until(lambda: len(said) >= 3)
        assert set(said) == {HeartBeat(0)}
        clock.now += 61.0
        await until(lambda: LoopsStalled(("sender",)) in said)
        silent_from = len(said)
        await asyncio.sleep(0.1)
        assert len(said) == silent_from, "neither beats nor says it again"
        pulse.beat("sender", 60.0)
        await until(lambda: said[-1] == HeartBeat(0))
        assert said[silent_from] == LoopsRecovered()
    await store.driver.close()


async def test_a_store_that_fails_is_no_hang(tmp_path: Path) -> None:
    said: list[Event] = []
    store = Store(SqliteDriver(tmp_path / "state.db"))
    await store.driver.close()
    async with beating(Pulse(), store, said):
        await until(lambda: HeartBeat(None) in said)


async def test_a_daemon_that_has_no_store_beats() -> None:
    """It stands by, or its store is down: a restart would not help."""
    said: list[Event] = []
    heart = asyncio.create_task(beat_for_ever(Pulse(), lambda: None, said.append, every=0.01))
    await until(lambda: len(said) >= 2)
    await end([heart])

    assert set(said) == {HeartBeat(None)}


async def test_a_store_that_never_answers_stops_the_heart_and_is_said_to_hang(tmp_path: Path) -> None:
    clock, said = Clock(), list[Event]()
    pulse, driver = Pulse(clock), SqliteDriver(tmp_path / "state.db")
    await driver.close()
    # What was handed in behind the end of the thread's work is never taken up.
    driver._thread._closed = False
    async with beating(pulse, Store(driver), said):
        await asyncio.sleep(0.05)
        assert said == []
        clock.now += 100.0
        assert pulse.stalled() == ("heart",)
