"""Operators' requests: what a command asks of the store's leader, a row of the table `request` each.

Who holds the store's lock executes the waiting requests in their order: the leader, or without one the command itself.
Each is executed and answered in one transaction. So a process that dies before the commit has done nothing, and the
next holder of the lock executes the request, if it has not expired; nobody executes an answered one.

A command removes its request in the end. If that had no answer, it is never executed. A killed command leaves its
request, which is executed before its deadline or never, by the clock of the store's database alone.

A kind is a dataclass of `acts`: its fields are the arguments, checked when they are read, since a command may be of
another version than the leader.
"""

import json
from collections.abc import Awaitable, Callable
from functools import cache, partial
from typing import Any, Final, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from cdc_sync.core.failures import OperationError, StoreError
from cdc_sync.store import Store
from cdc_sync.store.acts import KINDS, Captured, Discard, Release, Request, Resend, Retry, perform
from cdc_sync.store.driver import Transaction
from cdc_sync.store.encoding import as_json
from cdc_sync.store.errors import message

A = TypeVar("A")

DEADLINE: Final = 30.0
"""Seconds after which a request is not executed any more."""


_NAMES = {kind: name for name, kind in KINDS.items()}

_ENTRIES = Release, Discard, Retry, Resend


@cache
def _arguments(kind: type[Request[Any]]) -> TypeAdapter[Request[Any]]:
    return TypeAdapter(kind)


async def add_request(store: Store, request: Request[Any], within: float) -> str:
    """Add a request that expires after so many seconds; returns its id."""
    kind, id_ = type(request), uuid4().hex
    facts = {"what": _NAMES[kind], "arguments": _arguments(kind).dump_json(request).decode()}
    await store.driver.transact(lambda t: t.run("add_request", id=id_, **facts, within=round(within * 1000)))
    return id_


async def remove_request(store: Store, id_: str) -> str | None:
    """Remove a request; returns its answer. Without one it is never executed.

    While the request is being executed, this waits.
    """

    async def work(transaction: Transaction) -> str | None:
        await transaction.run("lock_request", id=id_)
        rows = await transaction.rows("answer_to", id=id_)
        await transaction.run("remove_request", id=id_)
        return rows[0][0] if rows else None

    return await store.driver.transact(work)


async def is_answered(store: Store, id_: str) -> bool:
    """Whether a request has been answered, or is gone."""
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


async def execute_next(store: Store, captured: Captured) -> bool:
    """Execute and answer the oldest waiting request; returns False if there is none.

    Only who holds the store's lock may do this; `captured`: see there.

    Raises:
        StoreError: the store failed, and the request waits.
    """
    clock = store.driver.clock
    performing = partial(perform, clock=clock, now=clock.for_people(), captured=captured)
    return await store.driver.transact(partial(_execute_next, performing=performing))


_Performing = Callable[[Transaction, Request[Any]], Awaitable[Any]]


async def _execute_next(transaction: Transaction, performing: _Performing) -> bool:
    rows = await transaction.rows("next_request")
    if not rows:
        return False
    id_, what, arguments, is_in_time = rows[0]
    if is_in_time:
        answer = await _answer(transaction, what, arguments, performing)
        await transaction.run("answer_request", id=id_, answer=as_json(answer))
    else:
        await transaction.run("remove_request", id=id_)
    return True


async def _answer(transaction: Transaction, what: str, arguments: str, performing: _Performing) -> dict[str, Any]:
    try:
        request = _arguments(KINDS[what]).validate_json(arguments)
    except (KeyError, ValidationError):
        return {"refused": message("request-unknown", what=what)}
    try:
        return {"done": await performing(transaction, request)}
    except StoreError:
        raise
    except OperationError as error:
        return {"refused": str(error)}
