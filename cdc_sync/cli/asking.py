"""What a command wants done: asked of the leader, or done under the store's lock where nobody leads.

Either way it is a request in the store (see `Operation`). The command looks for its answer, and tries the lock each
second: the leader may end meanwhile, or another command may have had the lock.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

import typer

from cdc_sync.config import Config
from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.acts import DEADLINE, Request, read_answer
from cdc_sync.store.errors import store_error
from cdc_sync.store.opening import opened_alone, opened_beside

from .context import acting

A = TypeVar("A")

_LOOKS_EVERY = 0.05
"""Seconds between two looks for an answer."""

_LOOKS = 20
"""Looks between two tries of the lock."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A command's requests, one after the other.

    Attributes:
        config: the configuration, with the tenants that the store knows.
        store: the store, for reading, and for requests.
        action: the command's name, for the record.
        on: what it is about, for the record.
    """

    config: Config
    store: Store
    action: str
    on: str | None

    async def ask(self, kind: Callable[..., Request[A]], *arguments: object) -> A:
        """Have a request of a kind executed, for this process's user; returns its answer.

        Raises:
            OperationError: it was refused.
            StoreError: the store cannot be used; or the leader has not answered (`request-unanswered`), and never will.
        """
        request = kind(*arguments, acting(self.store, self.action, self.on))
        id_, why = uuid4().hex, store_error("request-unanswered", seconds=round(DEADLINE))
        try:
            await self.store.operation.add_request(id_, request, DEADLINE)
        except StoreError:
            if self.store.driver.lost is None:
                raise  # the store has refused it: nothing was asked
        try:
            await self._wait_for_answer(id_)
        except StoreError as error:
            why = error
        finally:
            answer = await self._take_back(id_)
        if answer is None:
            raise why
        found: A = read_answer(answer)
        return found

    async def _wait_for_answer(self, id_: str) -> None:
        """Wait until a request is answered, or the deadline."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            await self._execute_if_nobody_leads()
            for _ in range(_LOOKS):
                if await self.store.operation.is_answered(id_):
                    return
                await asyncio.sleep(_LOOKS_EVERY)

    async def _take_back(self, id_: str) -> str | None:
        """Remove a request; returns its answer. This command's session may have ended: then by a new one."""
        try:
            return await self.store.operation.remove_request(id_)
        except StoreError:
            try:
                async with opened_beside(self.config, "requests") as store:
                    return await store.operation.remove_request(id_)
            except StoreError as error:
                raise store_error("request-unanswered/lost", seconds=round(DEADLINE), reason=error.message) from error

    async def _execute_if_nobody_leads(self) -> None:
        try:
            async with opened_alone(self.config) as store:
                while await store.operation.execute_next(captured=None):
                    pass
        except StoreError as error:
            if error.code != "store-in-use":
                raise


@asynccontextmanager
async def asking(config: Config, context: typer.Context, on: str | None) -> AsyncIterator[Asking]:
    """A command's way to change the store; see `Asking`. A person is asked before: the store may change its place then.

    Raises:
        StoreError: the store cannot be used, does not exist yet, or was not set up by this version.
    """
    async with opened_beside(config, "requests") as store:
        yield Asking(config, store, str(context.info_name), on)
