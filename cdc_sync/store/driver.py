"""What the store's logic needs of a database: a transaction that runs statements by name, and a few facts.

The logic (`capture`, `delivery`, `operation`, `report`) is coroutines over this. The SQLite store runs one in its
thread, from beginning to end without suspending it; the PostgreSQL store awaits its server.
"""

import json
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cdc_sync.core.watch_names import matches
from cdc_sync.store.clock import Clock
from cdc_sync.store.protocol import Lease

if TYPE_CHECKING:
    from cdc_sync.store.postgres.claims import Claims

T = TypeVar("T")

ALONE: Final = 1
"""The number of the one daemon that has a store which is not shared."""

Whose = tuple[str, str]
"""Watch and application id."""

Row = Sequence[Any]


class Transaction(Protocol):
    """Runs statements of `sql/` by name, all or none of them."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement gives. A list is for `@in`, one of tuples for `@pairs`, by their first two."""

    async def run(self, name: str, /, **parameters: Any) -> object:
        """Run a statement that gives nothing that matters."""

    async def count(self, name: str, /, **parameters: Any) -> int:
        """Run a statement that changes rows; returns how many."""

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """Run a statement for many rows, in the order of the columns that it names."""


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


async def about(transaction: Transaction, name: str) -> str | None:
    """One of the store's notes about itself."""
    rows = await transaction.rows("about", name=name)
    return str(rows[0][0]) if rows else None


async def locked(transaction: Transaction, name: str, empty: str) -> Any:
    """A note of the store, in JSON, `empty` at first; nobody else changes it before the transaction ends."""
    await transaction.run("set_about_first", name=name, value=empty)
    return json.loads((await transaction.rows("lock_about", name=name))[0][0])


async def watches_of(transaction: Transaction, watch: str | Collection[str] | None) -> list[str]:
    """That watch, or those that a pattern means, or these; None: all that the store knows."""
    if watch is not None and not isinstance(watch, str):
        return list(watch)
    if watch is not None and not {"%", "*"}.intersection(watch):
        return [watch]
    names = sorted([name for (name,) in await transaction.rows("watches")])
    if watch is None:
        return names
    return [watch] if watch in names else [name for name in names if matches(watch, name)]


class Driver(Protocol):
    """What each of the two databases does in its own way; the store's logic is built on it.

    Attributes:
        name: how the store is named for people: a path, or a DSN without its password.
        clock: decides when something is due: its readings are the `now` of batches, claims and ends of attempts. What
            an operator asks for comes with the time that people read, and what is written for people is by that one.
        moves: how often another server answered than before, or the same after a restart. What was committed last may
            be missing there.
        wake: called when another process may have left entries due, as far as that is heard of.
        withheld: the watches of which nothing is claimed: it is not known yet whether their database is the right one.
        is_woken: whether `wake` is called for all that others leave due, but for what is lost on its way.
        claims: this daemon's claims on a shared store; None if one daemon has the store, and whatever is claimed there.
    """

    name: str
    clock: Clock
    moves: int
    wake: Callable[[], None]
    withheld: Collection[str]
    is_woken: bool
    claims: "Claims | None"

    async def transact(self, work: Work[T]) -> T:
        """Run work in one transaction; returns what it returns, once that is durable.

        It may be run more than once before it is durable.

        Raises:
            StoreError: it failed, and nothing of it is kept, unless the answer to the commit was lost.
        """

    async def ask(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement gives, in a transaction of its own."""
        return await self.transact(lambda t: t.rows(name, **parameters))

    async def note(self, name: str) -> str | None:
        """See `about`."""
        return await self.transact(lambda t: about(t, name))

    async def separately(self, work: Work[T]) -> T:
        """Run work of which each statement may be a transaction of its own, as soon as it is sent."""

    async def daemon(self) -> int:
        """This daemon's number among those that share the store, kept alive from now on."""

    async def daemons(self) -> list[tuple[str, int]]:
        """The daemons that work on the store, the oldest first: host and process id (0 if it is unknown)."""

    def expect(self, longest_call: float) -> None:
        """The bytes of a call may leave this host for so many seconds from now on."""

    async def whose_turn(self, watch: str) -> Lease | None:
        """Whose the watch is, or should be, instead of this daemon's; None if this one should take it."""

    async def stand_by(self, watch: str, known: Lease, within: float, able: Callable[[], bool]) -> Lease | None:
        """Wait until this daemon should try to take a watch that another one has, however long that takes.

        Args:
            watch: the watch's name.
            known: who has it, as `take` found it.
            within: seconds after which the daemon should try in any case, by one of the watches that wait for the same.
            able: whether the watch's database can be reached; what cannot be is not left to this daemon.

        Returns None when it should try, or who has it now if that is somebody else than `known`.
        """

    def withdraw(self, watch: str) -> None:
        """This daemon waits for the watch no more."""

    def capturing(self, watch: str, end: Callable[[], None]) -> AbstractContextManager[None]:
        """While this daemon captures a watch; `end` is called when another one should instead."""

    async def release_claims(self) -> None:
        """Take the claims of daemons that died for attempts whose end nobody knows, and free them."""

    async def check_place(self) -> None:
        """Find out whether what is written can be found again at the next start.

        Raises:
            StoreError: it cannot: the store was deleted or replaced.
        """

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""
