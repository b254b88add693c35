"""Operators' requests in a store under test."""

from typing import TypeVar

from cdc_sync.core.events import PersonActed
from cdc_sync.store import Store
from cdc_sync.store.acts import Captured, Forget, Request
from cdc_sync.store.requests import DEADLINE, add_request, execute_next, read_answer, remove_request

A = TypeVar("A")


async def executed(store: Store, request: Request[A], captured: Captured = None) -> A:
    """Add a request, execute all that wait, and return its answer."""
    id_ = await add_request(store, request, DEADLINE)
    while await execute_next(store, captured):
        pass
    answer = await remove_request(store, id_)
    assert answer is not None
    return read_answer(request, answer)


async def forgotten(store: Store, watch: str, by: PersonActed, captured: Captured = None) -> bool:
    """Forget a watch, as the command does; returns whether there was anything."""
    found = False
    while await executed(store, Forget(watch, by), captured):
        found = True
    return found
