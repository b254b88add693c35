"""What the store's logic needs of a database: a transaction that runs statements by name, and a few facts.

The logic (`capture`, `delivery`, `operation`, `report`) is coroutines over this: see decision 18.
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
"""The number of the only daemon of an unshared store."""

EntryId = tuple[str, str]
"""Watch and application id."""

Row = Sequence[Any]


class Transaction(Protocol):
    """Runs statements of `sql/` by name, all or none of them."""

    async def rows(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """A statement's rows. A list is for `@in`; a list of tuples, by their first two items, for `@pairs`."""

    async def run(self, name: str, /, **parameters: Any) -> object:
        """Run a statement without a result."""

    async def count(self, name: str, /, **parameters: Any) -> int:
        """Run a statement that changes rows; returns how many."""

    async def write(self, name: str, rows: Sequence[Row]) -> None:
        """Run a statement for many rows, each in the order of its columns."""


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


async def about(transaction: Transaction, name: str) -> str | None:
    """One of the store's notes about itself."""
    rows = await transaction.rows("about", name=name)
    return str(rows[0][0]) if rows else None


async def locked(transaction: Transaction, name: str, empty: str) -> Any:
    """A JSON note of the store, `empty` at first, locked until the transaction ends."""
    await transaction.run("set_about_first", name=name, value=empty)
    return json.loads((await transaction.rows("lock_about", name=name))[0][0])


async def watches_of(transaction: Transaction, watch: str | Collection[str] | None) -> list[str]:
    """This watch, the watches that match a pattern, or these; None: all in the store."""
    if watch is not None and not isinstance(watch, str):
        return list(watch)
    if watch is not None and not {"%", "*"}.intersection(watch):
        return [watch]
    names = sorted([name for (name,) in await transaction.rows("watches")])
    if watch is None:
        return names
    return [watch] if watch in names else [name for name in names if matches(watch, name)]


class Driver(Protocol):
    """What each database does in its own way; the store's logic is built on it.

    Attributes:
        name: the store for people: a path, or a DSN without its password.
        clock: for due times: the `now` of batches, claims and ends. Operators' requests have people's time.
        moves: how often the answering server changed or restarted. The last commits may be missing there.
        wake: called when another process may have left entries due, as far as is known.
        withheld: watches without claims: their database is not confirmed yet.
        is_woken: whether `wake` is called for all that others leave due, lost notifications apart.
        claims: this daemon's claims on a shared store; else None.
    """

    name: str
    clock: Clock
    moves: int = 0
    wake: Callable[[], None]
    withheld: Collection[str] = ()
    is_woken: bool = False
    claims: "Claims | None"

    async def transact(self, work: Work[T]) -> T:
        """Run work in one transaction; returns its result once it is durable.

        The work may run several times.

        Raises:
            StoreError: it failed, and nothing of it is kept, unless the answer to the commit was lost.
        """

    async def ask(self, name: str, /, **parameters: Any) -> list[tuple[Any, ...]]:
        """A statement's rows, in a transaction of its own."""
        return await self.transact(lambda t: t.rows(name, **parameters))

    async def note(self, name: str) -> str | None:
        """See `about`."""
        return await self.transact(lambda t: about(t, name))

    async def separately(self, work: Work[T]) -> T:
        """Run work in which each statement may be a transaction of its own, committed at once."""

    async def daemon(self) -> int:
        """This daemon's number among those that share the store; its lease is renewed from now on."""

    async def daemons(self) -> list[tuple[str, int]]:
        """The daemons at work, the oldest first: host and process id (0 if unknown)."""

    def expect(self, longest_call: float) -> None:
        """From now on, the bytes of a call may leave this host for so many seconds."""

    async def rightful_lease(self, watch: str) -> Lease | None:
        """The lease of the daemon that has the watch, or should have it; None if this one should take it."""

    async def stand_by(self, watch: str, known: Lease, within: float, able: Callable[[], bool]) -> Lease | None:
        """Wait until this daemon should try to take a watch that another one has, however long that takes.

        Args:
            watch: its name.
            known: the holder, as `take` found it.
            within: seconds after which one of the watches with this holder should try in any case.
            able: whether the watch's database can be reached; otherwise this daemon does not get the watch.

        Returns None when it should try, or the new holder if that is not `known`.
        """

    def withdraw(self, watch: str) -> None:
        """This daemon no longer waits for the watch."""

    def capturing(self, watch: str, end: Callable[[], None]) -> AbstractContextManager[None]:
        """Around this daemon's capture of a watch; `end` is called when another daemon should capture it instead."""

    async def release_claims(self) -> None:
        """Take the claims of dead daemons for attempts with an unknown end, and free them."""

    async def check_place(self) -> None:
        """Check that the next start will find what is written now.

        Raises:
            StoreError: the store was deleted or replaced.
        """

    async def close(self) -> None:
        """Finish what was begun, and close the store."""
