"""Looks at a database for all its watches, by one statement each; idle watches query nothing (decision 21).

- **a look** at the change log shows which watches have changes, and which transactions have ended: when an idle watch
  wants one, and ten times a second while one becomes idle.
- **a round** renews the bells' leases, counts unrecorded changes, and reads a digest of what each watch depends on: if
  that is new, the watch looks closer.
- **polls** ask together which of their tables have a row to read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Container, Coroutine, Hashable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from psycopg_pool import PoolTimeout

from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.changelog import LEASE, Bell, Bells
from cdc_sync.source.connection import Connection, Pool, Rows, rows_of, with_position
from cdc_sync.source.errors import SourceError, translate
from cdc_sync.source.expressions import arrays, sections, template
from cdc_sync.source.facts import ServerFacts, server_facts
from cdc_sync.source.recorders import sequences_of

T = TypeVar("T")

_SQL = sections("lookout.sql")

_LOOK_EVERY = 0.1
"""Least seconds between looks at the whole log."""

_LOOK_AT_LEAST_EVERY = 2.0

_LOOK = with_position(sql.SQL(_SQL["look"]), 2)

_STATES = _SQL["states"].replace("{not_ours}", template("not_ours.sql").rstrip().replace("%", "%%"))

ROUND = LEASE / 3
"""Most seconds between rounds: if one cannot renew a lease, the next one can."""

_ANY = with_position(sql.SQL("{any}"), 1)

FEW = 4
"""Fewest polling watches for a common statement: it is one more where there are rows."""

_AT_ONCE = 25
"""Tables of one statement, which locks them and their indexes until it ends."""

_READING = "reading the change log cdc_sync.changes"
_POLLING = "looking for changed rows"
_ASKING = "looking for what the watches depend on"


@dataclass(frozen=True, slots=True)
class Look:
    """What one snapshot shows of the whole log: the `watches` with changes, found in `took` seconds.

    Every transaction below `oldest` has ended.
    """

    oldest: int
    watches: frozenset[str]
    took: float


class State(NamedTuple):
    """Digests of what the catalog has of a watch.

    Attributes:
        storage: its tables and what is read with them: files, definitions of views.
        setup: what decides which changes are recorded: functions, triggers, sequences.
        policies: what row-level security may hide, anywhere in the database.
        log: the change log and the watch's sequences beside it; other ones if they were dropped and created again.
    """

    storage: str | None
    setup: str | None
    policies: str | None
    log: str | None


_UNKNOWN = State(None, None, None, None)


@dataclass(slots=True, eq=False)
class Watched:
    """One watch, as the lookout knows it.

    Attributes:
        tables: those whose rows it depends on.
        functions: those that record their changes.
        within: most seconds until it learns of changes around it.
        bell: its doorbell; None if it has none, or leaves it alone.
        looked: called with looks, at least `every` so many seconds; None while it needs none.
        rechecks: whether it looks closer after each round.
        changed: set when there is something to look closer at.
    """

    name: str
    tables: Collection[QualifiedName]
    functions: Collection[str]
    within: float
    state: State = _UNKNOWN
    bell: Bell | None = None
    looked: Callable[[Look], None] | None = None
    every: float = ROUND
    rechecks: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    next_look: float = 0.0
    error: Exception | None = None

    @property
    def becomes_idle(self) -> bool:
        """Whether it waits until every change rings."""
        return self.looked is not None and self.bell is not None and self.bell.needs_a_look

    def is_concerned(self, look: Look) -> bool:
        """Whether a look concerns it before its time; once it is idle, its bell rings instead."""
        bell = self.bell
        if bell is None or not (self.becomes_idle or bell.refused):
            return False
        return bell.refused or self.name in look.watches or (bell.fence is not None and look.oldest > bell.fence)

    async def has_changed(self) -> None:
        """Wait for something to look closer at; raises the lookout's error."""
        await self.changed.wait()
        self.changed.clear()
        if self.error is not None:
            raise self.error

    def fail(self, error: Exception) -> None:
        """Let the watch know of an error."""
        self.error = error
        self.changed.set()


class Lookout:
    """Looks for many watches; `server` is as of the last round.

    Raises:
        SourceError: by each method, if the database cannot answer.
    """

    def __init__(self, pool: Pool, server: ServerFacts) -> None:
        self.server = server
        self.bells = Bells(pool)
        self._pool = pool
        self._watched: dict[str, Watched] = {}
        self._hurry = asyncio.Event()
        self._look_at = self._round_at = time.monotonic() + ROUND
        self._pause = _LOOK_EVERY
        # They wait for their states.
        self._asking: set[Watched] = set()
        self._lock = asyncio.Lock()
        self._shared: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}
        # The next statement of `is_any`, and its answer.
        self._questions: list[tuple[str, str]] = []
        self._answer: asyncio.Task[Container[int]] | None = None

    @property
    def is_of_many(self) -> bool:
        """Whether common questions pay."""
        return len(self._watched) >= FEW

    async def join(self, watched: Watched) -> None:
        """Add a watch, and find out its state."""
        self._watched[watched.name] = watched
        self._round_at = min(self._round_at, time.monotonic() + watched.within)
        self._expect(self._round_at)
        await self.refresh(watched)

    def leave(self, watched: Watched) -> None:
        """Remove a watch."""
        if self._watched.get(watched.name) is watched:
            del self._watched[watched.name]
        self._asking.discard(watched)

    def rest(self, watched: Watched, every: float) -> None:
        """Let a watch wait for looks, at least one every so many seconds."""
        now = time.monotonic()
        watched.every, watched.next_look = every, now + every
        self._expect(now if watched.becomes_idle else now + every)

    async def refresh(self, watched: Watched) -> None:
        """Find out a watch's state, by one statement for all that ask at the same time."""
        self._asking.add(watched)
        async with self._lock:
            if watched in self._asking:
                asked, self._asking = self._asking, set()
                try:
                    await self._find_states(asked)
                except BaseException:
                    # Each of the others finds out itself.
                    self._asking |= asked - {watched}
                    raise

    async def ask(self, what: Hashable, within: float, asking: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer to a question of all watches, asked once in so many seconds."""
        now = time.monotonic()
        since, task = self._shared.get(what, (0.0, None))
        if task is None or now - since >= within or (task.done() and (task.cancelled() or task.exception())):
            self._shared = {key: one for key, one in self._shared.items() if now - one[0] < ROUND}
            # A context without `connection.READS`: it is quick.
            task = asyncio.create_task(asking(), name="asking for all watches", context=Context())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._shared[what] = now, task
        answer: T = await asyncio.shield(task)
        return answer

    async def is_any(self, query: str, parameter: str, within: float) -> bool:
        """Whether a query finds any row, by one statement with those of the next so many seconds.

        Also true if they are few, or fail together: then each watch finds out itself.
        """
        if self._answer is None:
            self._questions = []
            self._answer = asyncio.create_task(
                self._answered(self._questions, within), name="polling for all watches", context=Context()
            )
        answer, number = self._answer, len(self._questions)
        self._questions.append((query, parameter))
        if number + 1 == _AT_ONCE:
            self._answer = None
        return number in await asyncio.shield(answer)

    async def _answered(self, questions: list[tuple[str, str]], within: float) -> Container[int]:
        """The numbers of the questions whose answer is yes."""
        await asyncio.sleep(within)
        if self._questions is questions:
            self._answer = None
        every = range(len(questions))
        if len(questions) < FEW:
            return every
        whole = " UNION ALL ".join(f"SELECT {number} WHERE EXISTS ({questions[number][0]})" for number in every)

        async def ask(connection: Connection) -> Rows:
            try:
                return await rows_of(connection, _ANY.replace("{any}", whole), [mark for _, mark in questions])
            except psycopg.errors.LockNotAvailable as error:
                # Without a cause it is not repeated: all would wait for the lock on one watch's table.
                raise translate(error, _POLLING) from None

        try:
            return {row[0] for row in await self._pool.read(_POLLING, ask)}
        except (SourceError, OSError):
            return every

    async def run(self) -> None:
        """Look for ever, and report failures to the watches that rely on it."""
        while True:
            await self._is_due()
            if time.monotonic() >= self._round_at:
                self._round_at = time.monotonic() + min([ROUND, *(one.within for one in self._watched.values())])
                await self._attempt(self.renew, lambda one: one.bell is not None)
                await self._attempt(self.go_round, lambda _: True)
            await self._attempt(self.look, lambda one: one.looked is not None)
            # A watch that reads the log itself now may not ask again when it rests.
            now = time.monotonic()
            wanted = [now + one.every if one.looked is None else one.next_look for one in self._watched.values()]
            self._look_at = min([self._round_at, *wanted])

    async def look(self) -> None:
        """Update the bells that wait for it, and wake the watches that a look at the log concerns."""
        resting = [one for one in self._watched.values() if one.looked is not None]
        if not resting:
            return
        await self._update_bells([one for one in resting if one.bell is not None and one.bell.is_waiting])
        look = await self._look()
        now = time.monotonic()
        for one in resting:
            # At half of its time already, so that not each watch needs a look of its own.
            is_due = now >= one.next_look - one.every / 2
            if one.looked is not None and (is_due or one.is_concerned(look)):
                one.looked(look)
                one.next_look = now + one.every

    async def renew(self) -> None:
        """Renew the bells' leases, and count unrecorded changes."""
        await self._update_bells(self._watched.values())

    async def go_round(self) -> None:
        """Look for what has changed around the watches."""
        if not self._watched:
            return
        async with self._lock:
            await self._find_states(self._watched.values())
        before, self.server = self.server, await self._pool.ask("asking how the server is set up", server_facts)
        for one in self._watched.values():
            if one.rechecks or self.server != before:
                one.changed.set()

    async def _is_due(self) -> None:
        await asyncio.sleep(self._pause)
        while not any(one.becomes_idle for one in self._watched.values()):
            self._hurry.clear()
            try:
                async with asyncio.timeout(max(min(self._look_at, self._round_at) - time.monotonic(), 0)):
                    await self._hurry.wait()
            except TimeoutError:
                return

    def _expect(self, at: float) -> None:
        """Look at this moment at the latest."""
        if at < self._look_at:
            self._look_at = at
            self._hurry.set()

    async def _attempt(self, work: Callable[[], Awaitable[None]], whom: Callable[[Watched], bool]) -> None:
        """Do some work; the watches that rely on it get its error."""
        try:
            try:
                await work()
            except SourceError as error:
                # Again if its connection was lost, or a sequence was dropped meanwhile.
                if not isinstance(error.__cause__, psycopg.Error) or isinstance(error.__cause__, PoolTimeout):
                    raise
                await work()
        except (SourceError, OSError) as error:
            for one in filter(whom, list(self._watched.values())):
                one.fail(error)

    async def _update_bells(self, whom: Collection[Watched]) -> None:
        bells = {one.bell: one for one in whom if one.bell is not None}
        await self.bells.update(bells)
        for bell, one in bells.items():
            if bell.error is not None:
                one.fail(bell.error)

    async def _find_states(self, whom: Collection[Watched]) -> None:
        whom = list(whom)
        tables = [(one.name, table.schema, table.name) for one in whom for table in one.tables]
        functions = [(one.name, function) for one in whom for function in one.functions]
        sequences = [(one.name, each) for one in whom if one.functions for each in sequences_of(one.name)]
        parameters = {
            "watches": [one.name for one in whom],
            **arrays(("with_table", "schemas", "tables"), tables),
            **arrays(("with_function", "functions"), functions),
            **arrays(("with_sequence", "sequences"), sequences),
        }
        rows = await self._pool.fetch(_STATES, parameters, _ASKING)
        found = {watch: State(*state) for watch, *state in rows}
        for one in whom:
            if one.state != found[one.name]:
                one.state = found[one.name]
                one.changed.set()

    async def _look(self) -> Look:
        begun = time.monotonic()
        ((oldest, watches, _),) = await self._pool.read(_READING, partial(rows_of, query=_LOOK))
        took = time.monotonic() - begun
        # It reads the whole log with its dead rows: a fifth of the time at most.
        self._pause = min(max(_LOOK_EVERY, 4 * took), _LOOK_AT_LEAST_EVERY)
        return Look(int(oldest), frozenset(watches), took)
