"""One of the ATS's sessions: random transactions of every kind (`works.yaml`)."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import AsyncConnection
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure

from torture.population import ABORTED, BUSY, COSMETIC, JOBS, STATUSES, WATCHED

_WORKS: Mapping[str, Mapping[str, Any]] = yaml.safe_load(Path(__file__).with_name("works.yaml").read_text())

_SESSION = "-c lock_timeout=300ms"
"""A long transaction of one writer must not stop the others."""

_RECONNECT_AFTER = 0.05

_LONG = "take long"
_UNDO = "undo"

# ATSs' `updated_at`: of the statement, the transaction, in whole seconds, by a slow clock, rarely by a fast one.
_NOW = ("clock_timestamp()", "now()", "date_trunc('second', clock_timestamp())", "clock_timestamp() - interval '1.5 s'")
_TOMORROW = "clock_timestamp() + interval '1 day'"
_RARELY = 0.01

_BUSY = 0.2
"""The share of changes of a few applications."""

_NEWS = ("status = {status}", "job_id = {job}", "status = {status}, job_id = {job}")
_TOUCHES = ("notes = md5(random()::text)", "status = status", "job_id = job_id", "source = md5(random()::text)")
_VERBS = {
    "UPDATE": "UPDATE public.applications SET",
    "DELETE": "DELETE FROM public.applications WHERE",
    "INSERT": "INSERT INTO public.applications (hellowork_id, status, job_id, created_at, updated_at)",
}
_NUMBERED = "'S' || nextval('public.change_number')"
_IS_CONTENDED = (LockNotAvailable, SerializationFailure, DeadlockDetected)
_LEVELS = (psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ)


class Draw(dict[str, str]):
    """What the statements of one work name in braces. Each is drawn anew, except `one` and `new`."""

    def __init__(self, chance: random.Random, names: list[str], new: str, *, numbered: bool) -> None:
        super().__init__(_VERBS)
        one_of, sample = chance.choice, chance.sample
        weights = (7, 0, 3) if numbered else (5, 2, 2)
        self._names, self._new = names, new
        self._draws: Mapping[str, Callable[[], str]] = {
            "any": lambda: f"'{one_of(BUSY if chance.random() < _BUSY else names)}'",
            "one": lambda: self["any"],
            "new": lambda: f"'{new}'",
            "never": lambda: f"'never-{chance.random()}'",
            "aborted": lambda: f"'{one_of(ABORTED)}'",
            "any_or_cosmetic": lambda: one_of((self["any"], *(f"'{each}'" for each in sample(COSMETIC, 2)))),
            "three": lambda: _array(sample(names, 3)),
            "five": lambda: _array(sample(names, 5)),
            "forty": lambda: _array(sample(names, 40)),
            "everything": lambda: _array([*COSMETIC, *names]),
            "status": lambda: _NUMBERED if numbered else f"'{one_of(STATUSES)}'",
            "job": lambda: f"'{one_of(JOBS)}'",
            "news": lambda: chance.choices(_NEWS, weights)[0].format_map(self),
            "perhaps_news": lambda: f"{self['news']}, " if numbered or chance.random() < 0.5 else "",
            "rest": lambda: "{status}, {job}, clock_timestamp(), clock_timestamp()".format_map(self),
            "touch": lambda: one_of(_TOUCHES) + one_of(("", f", {self['when']}")),
            "when": lambda: f"updated_at = {_TOMORROW if chance.random() < _RARELY else one_of(_NOW)}",
        }

    def __missing__(self, name: str) -> str:
        found = self._draws[name]()
        if name in {"one", "new"}:
            self[name] = found
        if name == "new":
            self._names.append(self._new)
        return found


def _array(names: Sequence[str]) -> str:
    return f"'{{{','.join(names)}}}'"


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
        self._names = list(WATCHED)
        weights = {name: work["weight"] for name, work in _WORKS.items() if not (numbered and name == _UNDO)}
        self._weights = weights if number else {_LONG: 1}

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
        (name,) = self._chance.choices([*self._weights], [*self._weights.values()])
        await ats.set_isolation_level(self._chance.choices(_LEVELS, (9, 1))[0])
        new = f"new-{self._number}-{self.done.total()}"
        draw = Draw(self._chance, self._names, new, numbered=self._numbered)
        try:
            await self._take(ats, _WORKS[name]["steps"], draw)
        except _IS_CONTENDED:
            self.done["contended"] += 1
        else:
            self.done[name] += 1

    async def _take(self, ats: AsyncConnection, steps: Sequence[Any], draw: Draw) -> None:
        chance = self._chance
        for step in steps:
            match step:
                case {"pause": seconds}:
                    await asyncio.sleep(chance.choice(seconds))
                case {"repeat": times, "steps": steps_again}:
                    await self._take(ats, steps_again * chance.choice(times), draw)
                case {"sometimes": share, "steps": further}:
                    await self._take(ats, further if chance.random() < share else (), draw)
                case {"transaction": within}:
                    async with ats.transaction():
                        await self._take(ats, within, draw)
                case {"rollback": within}:
                    async with ats.transaction(force_rollback=chance.random() < step.get("share", 1)):
                        await self._take(ats, within, draw)
                case _:
                    await ats.execute(step.format_map(draw).encode())
