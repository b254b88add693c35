"""What the store's logic needs of a database: a transaction that runs statements by name, and a few facts.

The logic (`capture`, `delivery`, `operation`, `report`) is coroutines over this. The SQLite driver runs one in its
thread, from beginning to end without suspending it; the PostgreSQL driver awaits its server.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from cdc_sync.store.clock import Clock

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


class Driver(Protocol):
    """One of the two databases.

    Attributes:
        name: how the store is named for people: a path, or a DSN without its password.
        clock: see `Store.clock`.
        moves: see `Store.moves`.
        wake: called when another process may have left entries due.
    """

    name: str
    clock: Clock
    moves: int
    wake: Callable[[], None]

    @property
    def claims(self) -> "Claims | None":
        """This daemon's claims on a shared store; None if one daemon has the store, and whatever is claimed there."""

    async def transact(self, work: Work[T]) -> T:
        """Run work in one transaction; returns what it returns, once that is durable.

        It may be run more than once before it is durable.

        Raises:
            StoreError: it failed, and nothing of it is kept, unless the answer to the commit was lost.
        """

    async def separately(self, work: Work[T]) -> T:
        """Run work of which each statement may be a transaction of its own, as soon as it is sent."""

    async def daemon(self) -> int:
        """This daemon's number among those that share the store, kept alive from now on."""

    def expect(self, longest_call: float) -> None:
        """See `Store.expect`."""

    async def release_claims(self) -> None:
        """See `Store.release_claims`."""

    async def check_place(self) -> None:
        """See `Store.check_place`."""

    async def close(self) -> None:
        """See `Store.close`."""
