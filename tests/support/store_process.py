"""A process of its own that works on a store, for tests that watch it, starve it or kill it.

`python -m support.store_process WORK PATH [NUMBER]`, where the work is one of:

record: adopt applications 0, 1, 2, … for ever, several at once; each id is printed when its record has returned.
starve: the same, but files may not grow beyond NUMBER bytes; prints the error, and one more id after the limit is gone.
lock: take the store's lock, say so and wait to be ended.
glance: ask who holds the lock, for ever.
"""

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.sqlite.schema import holder_of, locked
from support.builders import a_baseline, an_observation, some_rules
from support.modules import running

_AT_ONCE = 8


def store_process(work: str, path: Path, *number: int) -> AbstractContextManager["subprocess.Popen[str]"]:
    """Run one with its output in a pipe, and leave nothing of it behind."""
    return running(__name__, work, path, *number)


async def _record_for_ever(store: Store, numbers: Iterator[int]) -> None:
    for number in numbers:
        await _record_one(store, str(number))


async def _record_one(store: Store, application_id: str) -> None:
    await store.capture.apply(some_rules(), a_baseline(an_observation(application_id)))
    print(application_id, flush=True)


async def _record(path: Path) -> None:
    store = Store(SqliteDriver(path))
    numbers = count()
    await asyncio.gather(*(_record_for_ever(store, numbers) for _ in range(_AT_ONCE)))


async def _starve(path: Path, limit: int) -> None:
    store = Store(SqliteDriver(path))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        await _record_for_ever(store, count())
    except StoreError as error:
        print(error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await _record_one(store, "after")
    await store.driver.close()


def _lock(path: Path) -> None:
    with locked(path):
        print("locked", flush=True)
        signal.pause()


def _glance(path: Path) -> None:
    print("glancing", flush=True)
    while True:
        holder_of(path)


def main(work: str, path: Path, *numbers: str) -> None:
    match work:
        case "record":
            asyncio.run(_record(path))
        case "starve":
            asyncio.run(_starve(path, *map(int, numbers)))
        case "lock":
            _lock(path)
        case "glance":
            _glance(path)
        case _:
            sys.exit(f"unknown work: {work}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
