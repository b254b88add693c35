"""One of the ATS's sessions: random transactions of every kind."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure

from torture.population import ABORTED, BUSY, COSMETIC, JOBS, NEVER, STATUSES, WATCHED

_SESSION = "-c lock_timeout=300ms"
"""A long transaction of one writer must not stop the others."""

_RECONNECT_AFTER = 0.05

# ATSs' `updated_at`: of the statement, the transaction, in whole seconds, by a slow clock, rarely by a fast one.
_NOW = ("clock_timestamp()", "now()", "date_trunc('second', clock_timestamp())", "clock_timestamp() - interval '1.5 s'")
_TOMORROW = "clock_timestamp() + interval '1 day'"
_RARELY = 0.01

_BUSY = 0.2
"""The share of changes of a few applications."""

_NUMBERED = "'S' || nextval('public.change_number')"
_IS_CONTENDED = (LockNotAvailable, SerializationFailure, DeadlockDetected)


class Writer:
    """A session at work.

    Args:
        number: 0 has long transactions only.
        dsn: the ATS's database.
        chance: draws its work.
        longest_pause: seconds between two transactions, at most.
        numbered: whether no state of an application comes twice, nor is undone. So an older state never looks like a
            newer one, and each change differs from what a store remembers that has lost its last second.

    Attributes:
        done: its transactions by kind, and the lost ones: `contended`, `cut off`.
    """

    def __init__(self, number: int, dsn: str, chance: random.Random, *, longest_pause: float, numbered: bool) -> None:
        self.done: Counter[str] = Counter()
        self._number = number
        self._dsn = dsn
        self._chance = chance
        self._longest_pause = longest_pause
        self._numbered = numbered
        self._new = 0
        self._names = list(WATCHED)
        self._works: Mapping[Callable[[AsyncConnection], Awaitable[None]], int] = {
            self._change: 30,
            self._touch: 6,
            self._delete_softly: 5,
            self._undelete: 6,
            self._delete: 3,
            self._insert_again: 8,
            self._move: 4,
            self._move_in_two_steps: 4,
            self._move_and_leave_the_old_row: 2,
            self._apply: 3,
            self._roll_back: 4,
            self._roll_back_a_part: 4,
            self._undo: 0 if numbered else 10,
            self._change_the_key: 2,
            self._blank: 1,
            self._fill: 2,
            self._change_many: 1,
            self._delete_many: 1,
            self._rewrite_everything: 1,
        }

    async def work(self, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                async with await AsyncConnection.connect(self._dsn, autocommit=True, options=_SESSION) as ats:
                    while not over.is_set():
                        await self._something(ats)
                        await asyncio.sleep(self._chance.uniform(0, self._longest_pause))
            except psycopg.OperationalError:
                self.done["cut off"] += 1
                await asyncio.sleep(_RECONNECT_AFTER)

    async def _something(self, ats: AsyncConnection) -> None:
        if self._number == 0:
            work: Callable[[AsyncConnection], Awaitable[None]] = self._take_long
        else:
            (work,) = self._chance.choices(list(self._works), list(self._works.values()))
        await ats.set_isolation_level(
            self._chance.choices(
                (psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ), (9, 1)
            )[0]
        )
        try:
            await work(ats)
        except _IS_CONTENDED:
            self.done["contended"] += 1
        else:
            self.done[work.__name__.removeprefix("_")] += 1

    async def _change(self, ats: AsyncConnection) -> None:
        async with ats.transaction():
            for _ in range(self._chance.choice((1, 1, 1, 2, 5))):
                await self._set(ats, [self._one()], *self._news())

    async def _touch(self, ats: AsyncConnection) -> None:
        names = [self._chance.choice((self._one(), *self._chance.sample(COSMETIC, 2)))]
        assignment = self._chance.choice(
            ("notes = md5(random()::text)", "status = status", "job_id = job_id", "source = md5(random()::text)")
        )
        if self._chance.random() < 0.5:
            await self._set(ats, names, assignment)
        else:  # and without a new `updated_at`
            await self._update(ats, names, assignment)

    async def _delete_softly(self, ats: AsyncConnection) -> None:
        await self._set(ats, [self._one()], "deleted_at = clock_timestamp()")

    async def _undelete(self, ats: AsyncConnection) -> None:
        query = "SELECT hellowork_id FROM public.applications WHERE deleted_at IS NOT NULL ORDER BY random() LIMIT 1"
        row = await (await ats.execute(query)).fetchone()
        if row is not None:
            news = self._news()
            await self._set(
                ats, [row[0]], "deleted_at = NULL", *news[: len(news) if self._numbered else self._chance.randrange(2)]
            )

    async def _delete(self, ats: AsyncConnection) -> None:
        await self._remove(ats, [self._one()])

    async def _insert_again(self, ats: AsyncConnection) -> None:
        name = self._one()
        rows = await ats.execute("SELECT 1 FROM public.applications WHERE hellowork_id = %s", (name,))
        if await rows.fetchone() is None:
            await self._insert(ats, name)

    async def _move(self, ats: AsyncConnection) -> None:
        """Some ATSs move an application to another job by another row."""
        async with ats.transaction():
            await self._move_within(ats, self._one())

    async def _move_in_two_steps(self, ats: AsyncConnection) -> None:
        """In between there is no row, or there are two."""
        name = self._one()
        pause = self._chance.choice((0, 0.01, 0.05, 0.3, 0.6))  # also around the grace of deletions
        if self._chance.random() < 0.7:
            await self._remove(ats, [name])
            await asyncio.sleep(pause)
            await self._insert(ats, name)
        else:
            rows = await ats.execute("SELECT id FROM public.applications WHERE hellowork_id = %s", (name,))
            old = [number for (number,) in await rows.fetchall()]
            await self._insert(ats, name)
            await asyncio.sleep(pause)
            await ats.execute("DELETE FROM public.applications WHERE id = ANY(%s)", (old,))

    async def _move_and_leave_the_old_row(self, ats: AsyncConnection) -> None:
        name = self._one()
        async with ats.transaction():
            await self._set(ats, [name], "deleted_at = coalesce(deleted_at, clock_timestamp())")
            await self._insert(ats, name)

    async def _apply(self, ats: AsyncConnection) -> None:
        """A new application; some are deleted at once."""
        self._new += 1
        name = f"new-{self._number}-{self._new}"
        await self._insert(ats, name)
        if self._chance.random() < 0.3:
            await asyncio.sleep(self._chance.choice((0, 0, 0.02, 0.5)))
            await self._remove(ats, [name])
        self._names.append(name)

    async def _roll_back(self, ats: AsyncConnection) -> None:
        name = self._one()
        async with ats.transaction(force_rollback=True):
            await self._set(ats, [name, self._chance.choice(ABORTED)], f"status = '{NEVER}'")
            if self._chance.random() < 0.3:
                await self._remove(ats, [self._chance.choice(ABORTED)])
                await self._insert(ats, f"never-{self._number}-{self._chance.random()}")

    async def _roll_back_a_part(self, ats: AsyncConnection) -> None:
        async with ats.transaction():
            await self._set(ats, [self._one()], *self._news())
            async with ats.transaction(force_rollback=True):
                await self._set(ats, [self._one(), self._chance.choice(ABORTED)], f"status = '{NEVER}'")

    async def _undo(self, ats: AsyncConnection) -> None:
        """A mis-click."""
        name = self._one()
        await self._set(ats, [name], "source = status", f"status = '{self._chance.choice(STATUSES)}'")
        await asyncio.sleep(self._chance.choice((0, 0.01, 0.1, 0.3)))
        await self._set(ats, [name], "status = coalesce(source, status)")

    async def _change_the_key(self, ats: AsyncConnection) -> None:
        await self._set(ats, [self._one()], "id = nextval(pg_get_serial_sequence('public.applications', 'id'))")

    async def _blank(self, ats: AsyncConnection) -> None:
        """A row that cannot be reported."""
        await self._set(ats, [self._one()], "status = NULL")

    async def _fill(self, ats: AsyncConnection) -> None:
        query = (
            f"UPDATE public.applications SET status = {self._status()}, updated_at = clock_timestamp()"  # noqa: S608 - ours
            " WHERE id IN (SELECT id FROM public.applications WHERE status IS NULL LIMIT 1)"
        )
        await ats.execute(query.encode())

    async def _change_many(self, ats: AsyncConnection) -> None:
        await self._set(ats, self._chance.sample(self._names, 40), *self._news())

    async def _delete_many(self, ats: AsyncConnection) -> None:
        await self._remove(ats, self._chance.sample(self._names, 5))

    async def _rewrite_everything(self, ats: AsyncConnection) -> None:
        """A migration script: rewritten rows, unchanged."""
        await self._set(ats, [*COSMETIC, *self._names], "notes = md5(random()::text)")

    async def _take_long(self, ats: AsyncConnection) -> None:
        chance = self._chance
        async with ats.transaction(force_rollback=chance.random() < 0.1):
            await ats.execute("SELECT 1")
            await asyncio.sleep(chance.choice((0, 0.5, 2)))
            await self._set(ats, chance.sample(self._names, 3), "updated_at = now()", *self._news())
            await asyncio.sleep(chance.choice((0.1, 1, 3)))
            if chance.random() < 0.5:
                await self._move_within(ats, self._one())

    async def _move_within(self, ats: AsyncConnection, name: str) -> None:
        await self._remove(ats, [name])
        await self._insert(ats, name)

    def _one(self) -> str:
        return self._chance.choice(BUSY if self._chance.random() < _BUSY else self._names)

    def _news(self) -> list[str]:
        status, job = f"status = {self._status()}", f"job_id = '{self._chance.choice(JOBS)}'"
        weights = (7, 0, 3) if self._numbered else (5, 2, 2)
        return self._chance.choices(([status], [job], [status, job]), weights)[0]

    def _status(self) -> str:
        return _NUMBERED if self._numbered else f"'{self._chance.choice(STATUSES)}'"

    async def _set(self, ats: AsyncConnection, names: Sequence[str], *assignments: str) -> None:
        given = list(assignments)
        if not any(assignment.startswith("updated_at") for assignment in given):
            now = _TOMORROW if self._chance.random() < _RARELY else self._chance.choice(_NOW)
            given.append(f"updated_at = {now}")
        await self._update(ats, names, *given)

    async def _update(self, ats: AsyncConnection, names: Sequence[str], *assignments: str) -> None:
        query = f"UPDATE public.applications SET {', '.join(assignments)} WHERE hellowork_id = ANY(%s)"  # noqa: S608 - ours
        await ats.execute(query.encode(), (list(names),))

    async def _remove(self, ats: AsyncConnection, names: Sequence[str]) -> None:
        await ats.execute("DELETE FROM public.applications WHERE hellowork_id = ANY(%s)", (list(names),))

    async def _insert(self, ats: AsyncConnection, name: str) -> None:
        query = (
            "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)"  # noqa: S608 - ours
            f" VALUES (%s, {self._status()}, %s, clock_timestamp(), clock_timestamp())"
        )
        await ats.execute(query.encode(), (name, self._chance.choice(JOBS)))
