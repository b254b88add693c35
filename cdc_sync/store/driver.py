"""What the store's logic (`capture`, `delivery`, `operation`, `report`) needs of a database: see decision 18."""

import json
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cdc_sync.core.failures import StoreError
from cdc_sync.core.watch_names import matches
from cdc_sync.store.clock import Clock
from cdc_sync.store.protocol import Lease

if TYPE_CHECKING:
    from cdc_sync.store.postgres.claims import Claims

T = TypeVar("T")

ALONE: Final = 1
"""The number of the only daemon of an unshared store."""

EntryId = tuple[str, str]
"""Watch and application id."""

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

Run = Callable[[Work[Any]], Awaitable[Any]]
"""Runs work in one transaction; returns its result once it is durable."""


async def about(transaction: Transaction, name: str) -> str | None:
    """One of the store's notes about itself."""
    rows = await transaction.rows("about", name=name)
    return str(rows[0][0]) if rows else None


async def locked(transaction: Transaction, name: str, empty: str) -> Any:
    """A JSON note of the store, `empty` at first, locked until the transaction ends."""
    await transaction.run("set_about_first", name=name, value=empty)
    return json.loads((await transaction.rows("lock_about", name=name))[0][0])


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


class Driver(Protocol):
    """What each database does in its own way.

    Attributes:
        name: for people: a path, or a DSN without its password.
        clock: for due times: the `now` of batches, claims and ends. Operators' requests have people's time.
        moves: how often the server changed or restarted, perhaps without the last commits.
        wake: called when another process may have left entries due.
        withheld: watches without claims: their database is not recognised yet.
        is_woken: whether `wake` is called for all that others leave due, lost notifications apart.
        claims: this daemon's claims on a shared store; else None.
        not_taken_over: why this daemon cannot take over from one whose lease has lapsed; None if it can.
    """

    name: str
    clock: Clock
    moves: int = 0
    wake: Callable[[], None]
    withheld: Collection[str] = ()
    is_woken: bool = False
    claims: "Claims | None"
    not_taken_over: StoreError | None = None

    async def transact(self, work: Work[T]) -> T:
        """Run work in one transaction, perhaps several times; returns its result once it is durable.

        Raises:
            StoreError: nothing of it is kept, unless the answer to the commit was lost.
        """

    async def ask(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """A statement's rows."""
        return await self.transact(lambda t: t.rows(name, **parameters))

    async def note(self, name: str) -> str | None:
        """See `about`."""
        return await self.transact(lambda t: about(t, name))

    async def daemon(self) -> int:
        """This daemon's number; its lease is renewed from now on."""

    async def daemons(self) -> list[tuple[str, int]]:
        """The daemons at work, the oldest first: host, and process id (0 if unknown)."""

    def expect(self, longest_call: float) -> None:
        """From now on, a call's bytes may leave this host for so many seconds."""

    async def rightful_lease(self, watch: str) -> Lease | None:
        """The lease of the daemon that has the watch, or should take it; None if this one should."""

    async def stand_by(self, watch: str, known: Lease, within: float, able: Callable[[], bool]) -> Lease | None:
        """Wait until this daemon should try to take another one's watch (None), or the holder is not `known` any more.

        One of the `known` holder's watches tries after `within` seconds in any case. While this daemon is not `able` to
        reach the database, it does not get the watch.
        """

    def withdraw(self, watch: str) -> None:
        """This daemon no longer waits for the watch."""

    def capturing(self, watch: str, end: Callable[[], None]) -> AbstractContextManager[None]:
        """Around this daemon's capture of a watch; `end` is called when another daemon should capture it."""

    async def release_claims(self) -> None:
        """Free the claims of dead daemons, as attempts with an unknown end."""

    async def check_place(self) -> None:
        """Check that the next start will find what is written now.

        Raises:
            StoreError: it will not: the store was deleted or replaced.
        """

    async def close(self) -> None:
        """Finish what was begun, and close the store."""
