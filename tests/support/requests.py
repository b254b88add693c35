"""Operators' requests in a store under test."""

from typing import Any, TypeVar
from uuid import uuid4

from cdc_sync.core.events import PersonActed
from cdc_sync.store import Store
from cdc_sync.store.acts import DEADLINE, Captured, Forget, Request, read_answer

A = TypeVar("A")


async def executed(store: Store, request: Request[A], captured: Captured = None) -> A:
    """Add a request, execute all that wait, and return its answer."""
    id_ = uuid4().hex
    await store.operation.add_request(id_, request, DEADLINE)
    while await store.operation.execute_next(captured):
        pass
    answer = await store.operation.remove_request(id_)
    assert answer is not None
    found: Any = read_answer(answer)
    if isinstance(found, list):
        found = [tuple(each) if isinstance(each, list) else each for each in found]
    return found  # type: ignore[no-any-return]


async def forgotten(store: Store, watch: str, by: PersonActed) -> bool:
    """Forget a watch, as the command does; returns whether there was anything."""
    found = False
    while await executed(store, Forget(watch, by)):
        found = True
    return found
