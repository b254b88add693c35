"""Operators' requests: what a command asks of the store's leader, a row of the table `request` each.

Who holds the store's lock executes the waiting requests in their order: the leader, or without one the command itself.
Each is executed and answered in one transaction. So a process that dies before the commit has done nothing, and the
next holder of the lock executes the request, if it has not expired; nobody executes an answered one.

A command removes its request in the end. If that had no answer, it is never executed. A killed command leaves its
request, which is executed before its deadline or never, by the clock of the store's database alone.

A kind is a dataclass in `KINDS`: its fields are the arguments, checked when they are read, since a command may be of
another version than the leader.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cdc_sync.core.events import PersonActed
from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.core.outbox import EntryState
from cdc_sync.store import Store, operation
from cdc_sync.store.driver import EntryId, Run, Transaction
from cdc_sync.store.encoding import as_json
from cdc_sync.store.errors import message
from cdc_sync.store.operation import Captured, Moment, Selection
from cdc_sync.store.protocol import Only

A = TypeVar("A")

DEADLINE: Final = 30.0
"""Seconds after which a request is not executed any more."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the store's lock: when it acts, and what it captures."""

    at: Moment
    captured: Captured


_NO_OTHERS = ConfigDict(extra="forbid")
"""A newer command's argument may restrict what is meant, and must not be ignored."""


class Request(ABC, Generic[A]):
    """A kind of request, with its arguments; `A` is its answer."""

    __pydantic_config__ = _NO_OTHERS

    @abstractmethod
    async def execute(self, transaction: Transaction, holder: Holder) -> A:
        """Execute it in the transaction that also keeps the answer.

        Raises:
            OperationError: it is refused, and nothing of it is kept.
        """


@dataclass(frozen=True)
class Chosen:
    """Which entries are meant: see `Selection`. Of each group of held entries: its watch, transition and number."""

    __pydantic_config__ = _NO_OTHERS

    ids: tuple[str, ...] | None = None
    only: Only | None = None
    transition: str | None = None
    limit: int | None = None
    groups: tuple[tuple[str, str, int], ...] | None = None
    entries: tuple[EntryId, ...] | None = None

    @classmethod
    def of(cls, selection: Selection) -> "Chosen":
        """A selection as arguments."""
        ids, groups, entries = selection.get("ids"), selection.get("groups"), selection.get("entries")
        return cls(
            ids=None if ids is None else tuple(ids),
            only=selection.get("only"),
            transition=selection.get("transition"),
            limit=selection.get("limit"),
            groups=tuple((*of, number) for of, number in groups.items()) if groups else None,
            entries=None if entries is None else tuple(entries),
        )

    @property
    def selection(self) -> Selection:
        """The selection that these arguments are of."""
        return {
            "ids": self.ids,
            "only": self.only,
            "transition": self.transition,
            "limit": self.limit,
            "groups": {(watch, what): number for watch, what, number in self.groups or ()},
            "entries": self.entries,
        }


@dataclass(frozen=True)
class Release(Request[list[EntryId]]):
    """Let some held entries be sent; the answer is which."""

    watch: str | None
    chosen: Chosen
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        return await operation.release(transaction, holder.at, self.watch, self.chosen.selection, self.by)


@dataclass(frozen=True)
class Discard(Request[list[EntryId]]):
    """Take some held or dead entries as acknowledged; the answer is which."""

    state: EntryState
    watch: str | None
    chosen: Chosen
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        selection = self.chosen.selection
        return await operation.discard(transaction, holder.at, self.state, self.watch, selection, self.by)


@dataclass(frozen=True)
class Retry(Request[list[EntryId]]):
    """Send dead letters again; the answer is which."""

    entries: tuple[EntryId, ...]
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        return await operation.retry(transaction, holder.at, self.entries, self.by)


@dataclass(frozen=True)
class Resend(Request[list[EntryId]]):
    """Send applications' last acknowledged states once more; the answer is which are sent."""

    watch: str
    ids: tuple[str, ...]
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[EntryId]:
        """See `Request`."""
        return await operation.resend(transaction, holder.at, self.watch, self.ids, self.by)


@dataclass(frozen=True)
class Forget(Request[bool]):
    """Begin to forget a watch; the answer is whether there was anything. `ForgetRest` follows."""

    watch: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> bool:
        """See `Request`."""
        return await operation.forget(transaction, self.watch, holder.captured, self.by)


@dataclass(frozen=True)
class ForgetRest(Request[bool]):
    """Forget some more of a watch; the answer is whether anything is left."""

    watch: str

    async def execute(self, transaction: Transaction, holder: Holder) -> bool:
        """See `Request`."""
        return await operation.forget_rest(transaction, self.watch, holder.captured)


@dataclass(frozen=True)
class Pause(Request[list[str]]):
    """Pause sending to an endpoint; the answer is which are paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[str]:  # noqa: ARG002 - see `Request`
        """See `Request`."""
        await operation.record(transaction, self.by, 1)
        return sorted(await operation.pause(transaction, self.endpoint))


@dataclass(frozen=True)
class Resume(Request[list[str]]):
    """Resume sending to an endpoint, or to all; the answer is which are still paused."""

    endpoint: str
    by: PersonActed

    async def execute(self, transaction: Transaction, holder: Holder) -> list[str]:  # noqa: ARG002 - see `Request`
        """See `Request`."""
        await operation.record(transaction, self.by, 1)
        return sorted(await operation.resume(transaction, self.endpoint))


KINDS: Final[dict[str, type[Request[Any]]]] = {
    "release": Release,
    "discard": Discard,
    "retry": Retry,
    "resend": Resend,
    "forget": Forget,
    "forget-rest": ForgetRest,
    "pause": Pause,
    "resume": Resume,
}
"""All kinds, by the name in the table: there are no others."""

_NAMES = {kind: name for name, kind in KINDS.items()}

_ENTRIES = Release, Discard, Retry, Resend


@cache
def _arguments(kind: type[Request[Any]]) -> TypeAdapter[Request[Any]]:
    return TypeAdapter(kind)


class RequestTable:
    """The commands' side of the table: they add a request, and remove it. `run` is `Driver.transact`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def add(self, request: Request[Any], within: float) -> str:
        """Add a request that expires after so many seconds; returns its id."""
        kind, id_ = type(request), uuid4().hex
        facts = {"what": _NAMES[kind], "arguments": _arguments(kind).dump_json(request).decode()}
        await self._run(lambda t: t.run("add_request", id=id_, **facts, within=round(within * 1000)))
        return id_

    async def remove(self, id_: str) -> str | None:
        """Remove a request; returns its answer. Without one it is never executed.

        While the request is being executed, this waits.
        """

        async def work(transaction: Transaction) -> str | None:
            rows = await transaction.rows("lock_request", id=id_)
            await transaction.run("remove_request", id=id_)
            return rows[0][0] if rows else None

        found: str | None = await self._run(work)
        return found


async def is_answered(store: Store, id_: str) -> bool:
    """Whether a request has been answered, or is gone; the store may be open for reading only."""
    rows = await store.driver.ask("answer_to", id=id_)
    return not rows or rows[0][0] is not None


def read_answer(request: Request[A], answer: str) -> A:
    """What a request's answer says.

    Raises:
        OperationError: the request was refused.
    """
    found = json.loads(answer)
    if "refused" in found:
        raise OperationError(found["refused"])
    done = found["done"]
    return [tuple(each) for each in done] if isinstance(request, _ENTRIES) else done  # type: ignore[return-value]


class _RefusedError(Exception):
    """A request was refused after its transaction had begun to write."""

    def __init__(self, id_: str, why: str) -> None:
        super().__init__(why)
        self.id = id_
        self.why = why


async def execute_next(store: Store, captured: Captured) -> bool:
    """Execute and answer the oldest waiting request; returns False if there is none.

    Only who holds the store's lock may do this; `captured`: see there.

    Raises:
        StoreError: the store failed, and the request waits.
    """
    clock = store.driver.clock
    at = operation.moment(clock, clock.for_people())
    try:
        return await store.driver.transact(partial(_execute_next, holder=Holder(at, captured)))
    except _RefusedError as error:
        # In another transaction: that of the request is undone.
        facts = {"id": error.id, "answer": as_json({"refused": error.why})}
        await store.driver.transact(lambda t: t.run("answer_request", **facts))
        return True


async def _execute_next(transaction: Transaction, holder: Holder) -> bool:
    rows = await transaction.rows("next_request")
    if not rows:
        return False
    id_, what, arguments, is_in_time = rows[0]
    if is_in_time:
        answer = await _answer(transaction, id_, what, arguments, holder)
        await transaction.run("answer_request", id=id_, answer=as_json(answer))
    else:
        await transaction.run("remove_request", id=id_)
    return True


async def _answer(transaction: Transaction, id_: str, what: str, arguments: str, holder: Holder) -> dict[str, Any]:
    try:
        request = _arguments(KINDS[what]).validate_json(arguments)
    except (KeyError, ValidationError):
        return {"refused": message("request-unknown", what=what)}
    try:
        return {"done": await request.execute(transaction, holder)}
    except StoreError:
        raise
    except OperationError as error:
        raise _RefusedError(id_, str(error)) from error
