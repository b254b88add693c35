"""Whether capture.mode notify has what it needs, and which changes its triggers do not record.

- PostgreSQL copies row triggers to partitions, not to other inheriting tables. For logical replication only triggers
  that are enabled ALWAYS fire.
- TRUNCATE, ATTACH, DETACH and DROP of a partition (or INHERIT and its like) fire no trigger of the table. They change
  the tables or files that are read with it (`lookout.Watched.state`).
- Unrecorded changes are counted in a sequence (`lookout.Watched.missed`), maybe too many: no rollback undoes it. It
  counts before the commit, so a sweep first waits for the present writers (`changelog.all_ended`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cdc_sync.ats.connection import Connection, asking, rows_of
from cdc_sync.ats.errors import reason, unwritable
from cdc_sync.ats.expressions import arrays, catalog, sections, undeclared
from cdc_sync.ats.recorders import function_of, missed_of, noticed, tables_of
from cdc_sync.ats.verifying import verify
from cdc_sync.config import Watch

_SQL = sections("changelog.sql")

_STATES = ("missing", "disabled", "different")
"""States of a function and its triggers that are problems, the worst first."""


class Verified(NamedTuple):
    """One object and its state, as `sql verify` reports it; `function` is the one that a trigger calls."""

    watch: str | None
    kind: str
    name: str
    table: str | None
    function: str | None
    state: str


class Installation(NamedTuple):
    """What is installed for one watch: its problems, and whether there is a log to read."""

    problems: tuple[str, ...]
    has_log: bool


async def verified(connection: Connection, query: str) -> list[Verified]:
    """Run a query of `verifying.verify`."""
    try:
        # In the server's encoding: in another, a name's last byte might swallow its closing quote.
        text = query.encode(connection.info.encoding)
    except UnicodeEncodeError as error:
        raise unwritable(error) from error
    async with asking("looking for the triggers"):
        return [Verified(*row) for row in await rows_of(connection, text)]


async def installation(connection: Connection, name: str, watch: Watch) -> Installation:
    """Look for the objects of a watch, and for tables with changes that its triggers do not see."""
    triggers = await find_triggers(connection, {name: watch}, is_all=False)
    needed = {"cdc_sync.changes", f"cdc_sync.{missed_of(name)}", f"cdc_sync.{function_of(name)}"}
    own = (each for each in triggers.of(name) if each.name in needed)
    return Installation(triggers.problems(name, watch), has_log=all(each.state != "missing" for each in own))


@dataclass(frozen=True, slots=True)
class Triggers:
    """The objects of watches.

    Attributes:
        objects: by watch; under None those that all need.
        unseen: by watch, why and which tables its triggers do not see.
        left_over: other watches for which something was installed.
    """

    objects: Mapping[str | None, Sequence[Verified]]
    unseen: Mapping[str, Sequence[tuple[str, str]]]
    left_over: Sequence[str]

    def of(self, name: str) -> list[Verified]:
        """The objects that concern a watch."""
        return [*self.objects.get(name, ()), *self.objects.get(None, ())]

    def problems(self, name: str, watch: Watch) -> tuple[str, ...]:
        """The problems of a watch, in words."""
        found, places = self.of(name), undeclared(watch)
        if places:  # what would be installed is unknown
            # Of related tables, too: in earlier versions each had a function of its own.
            own = [each for each in found if each.table == str(watch.table) and each.state != "different"]
            found = [*own, *(each for each in found if each.function is None)]
        problems = (*_undeclared(places), *_problems(found), *_blind_spots(watch, self.unseen.get(name, ())))
        return tuple(dict.fromkeys(problems))


async def find_triggers(connection: Connection, watches: Mapping[str, Watch], *, is_all: bool = True) -> Triggers:
    """Look up the objects of watches, by two statements; without others' unless these are all."""
    objects: dict[str | None, list[Verified]] = defaultdict(list)
    left_over: set[str] = set()
    for each in await verified(connection, verify(watches, is_all=is_all)):
        if each.state != "left over":
            objects[each.watch].append(each)
        elif each.watch is not None:
            left_over.add(each.watch)
    own = [(name, str(table), table == of.table) for name, of in noticed(watches).items() for table in tables_of(of)]
    unseen: dict[str, list[tuple[str, str]]] = defaultdict(list)
    async with asking("looking for what the triggers do not see"):
        about = arrays(("watches", "tables", "roots"), own)
        for name, why, table in await rows_of(connection, catalog("unseen"), about):
            unseen[name].append((why, table))
    return Triggers(objects, unseen, sorted(left_over))


async def worked_before(connection: Connection) -> bool:
    """Whether any daemon has ever armed a bell in this database, or taken changes from the log, which exists."""
    async with asking("looking for an earlier daemon's work"):
        ((has_worked,),) = await rows_of(connection, _SQL["worked_before"])
    return bool(has_worked)


def _undeclared(places: Sequence[str]) -> Iterator[str]:
    if places:
        yield reason("depends-on-missing", places=", ".join(places))


def _blind_spots(watch: Watch, unseen: Sequence[tuple[str, str]]) -> Iterator[str]:
    for why, table in unseen:
        if why == "heir":
            entry = f"{{table: {table}, key: [{', '.join(watch.key)}]}}"
            yield reason("heir-unseen", heir=table, table=watch.table, entry=entry)
        elif not watch.capture.replicated:
            yield reason("replicated-unseen", table=table)


def _problems(found: Sequence[Verified]) -> Iterator[str]:
    for function, table in dict.fromkeys((each.function, each.table) for each in found if each.function is not None):
        states = {each.state for each in found if (each.function, each.table) == (function, table)}
        if state := next((state for state in _STATES if state in states), None):
            yield reason(f"triggers-{state}", function=function, table=table)
    # Without any function nothing was ever installed, which has been reported.
    is_installed = any(each.kind == "function" and each.state != "missing" for each in found)
    for each in found:
        if is_installed and each.function is None and each.state == "missing":
            yield reason("object-not-there", kind=each.kind, name=each.name)
        if each.kind == "table" and each.state == "different":
            yield reason("log-different")
