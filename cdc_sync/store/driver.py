"""What the store's logic (`capture`, `delivery`, `operation`, `report`) needs of a database: see decision 18."""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.watch_names import matches
from cdc_sync.store.clock import Clock
from cdc_sync.store.encoding import as_json

T = TypeVar("T")

Row = Sequence[Any]


class Transaction(Protocol):
    """Runs statements of `sql/` by name, all or none of them."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """A statement's rows. A list is for `@in`; a list of tuples for `@pairs`, by their first two items."""

    async def run(self, name: str, /, **parameters: Any) -> object:
        """Run a statement without a result."""

    async def count(self, name: str, /, **parameters: Any) -> int:
        """Run a statement that changes rows; returns how many."""

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """Run a statement for many rows, in the order of its columns."""


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


async def about(transaction: Transaction, name: str) -> str | None:
    """One of the store's notes about itself."""
    rows = await transaction.rows("about", name=name)
    return str(rows[0][0]) if rows else None


async def noted(transaction: Transaction, name: str, empty: str) -> Any:
    """A JSON note of the store, `empty` at first."""
    return json.loads(await about(transaction, name) or empty)


async def add_history(transaction: Transaction, lines: Iterable[HistoryEntry]) -> None:
    """Write lines of applications' histories."""
    await transaction.write("add_history", [(*line[:-1], as_json(line.detail)) for line in lines])


async def watches_of(transaction: Transaction, watch: str | Collection[str] | None) -> list[str]:
    """These watches, this one, or those that match this pattern; None: all in the store."""
    if watch is not None and not isinstance(watch, str):
        return list(watch)
    if watch is not None and not {"%", "*"}.intersection(watch):
        return [watch]
    names = sorted([name for (name,) in await transaction.rows("watches")])
    if watch is None:
        return names
    return [watch] if watch in names else [name for name in names if matches(watch, name)]


Run = Callable[[Work[Any]], Awaitable[Any]]
"""Runs work in one transaction; returns its result once it is durable."""

Effect = Callable[[T | None], None]
"""What a job does to memory: called in the event loop with its result, None if it failed, in the order of the jobs.

It is bound to the job, never to its caller, which may have been cancelled.
"""


def no_effect(_: object) -> None:
    """Nothing in memory depends on the job."""


class Driver(ABC):
    """What each database does in its own way.

    Attributes:
        name: for people: a path, or a DSN without its password.
        is_read_only: whether it refuses to write: then it also remembers nothing of what it finds.
        clock: for due times: the `now` of batches and ends of calls. Operators' requests have people's time.
    """

    is_read_only: bool = False
    clock: Clock

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def transact(self, work: Work[T], effect: Effect[T] = no_effect) -> T:
        """Run work in one transaction, perhaps several times; returns its result once it is durable.

        `effect` is called in the event loop, in the order of the transactions, also if the caller was cancelled.

        Raises:
            StoreError: nothing of it is kept, unless the answer to the commit was lost.
        """

    async def ask(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """A statement's rows."""
        return await self.transact(lambda t: t.rows(name, **parameters))

    async def note(self, name: str) -> str | None:
        """See `about`."""
        return await self.transact(lambda t: about(t, name))

    @abstractmethod
    async def leads(self) -> bool:
        """Whether the daemon of the leader's row has the lock."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun, and close the store."""
