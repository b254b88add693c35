"""Whether capture.mode notify has what it needs, and which changes its triggers do not record.

- PostgreSQL copies row triggers to partitions, not to other inheriting tables. For logical replication only triggers
  that are enabled ALWAYS fire.
- TRUNCATE, ATTACH, DETACH and DROP of a partition (or INHERIT and its like) fire no trigger of the table. They change
  the tables or files that are read with it (`lookout.Watched.state`).
- Unrecorded changes are counted in a sequence (`lookout.Watched.missed`), maybe too many: no rollback undoes it. It
  counts before the commit, so a sweep first waits for the present writers (`notify.all_ended`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from cdc_sync.ats.connection import Connection, asking, rows_of
from cdc_sync.ats.errors import reason, unwritable
from cdc_sync.ats.expressions import catalog, undeclared
from cdc_sync.ats.facts import oid_of
from cdc_sync.ats.recorders import function_of, missed_of, tables_of
from cdc_sync.ats.verifying import verify
from cdc_sync.config import Watch

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
    """What is installed for one watch.

    Attributes:
        problems: in words.
        has_log: whether there is a log to read.
    """

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
    objects = tuple(await verified(connection, verify({name: watch}, is_all=False)))
    async with asking("looking for what the triggers do not see"):
        oids = [await oid_of(connection, table) for table in tables_of(watch)]
        unseen = await rows_of(connection, catalog("unseen"), {"tables": [oid for oid in oids if oid]})
    needed = {"cdc_sync.changes", f"cdc_sync.{missed_of(name)}", f"cdc_sync.{function_of(name)}"}
    has_log = all(each.state != "missing" for each in objects if each.name in needed)
    return Installation(_problems_of(watch, objects, unseen), has_log)


def _problems_of(watch: Watch, objects: Sequence[Verified], unseen: Collection[Sequence[str]]) -> tuple[str, ...]:
    problems = list[str]()
    if places := undeclared(watch):  # what would be installed is unknown
        problems.append(reason("depends-on-missing", places=", ".join(places)))
        # Of related tables, too: in earlier versions each had a function of its own.
        own = [each for each in objects if each.table == str(watch.table) and each.state != "different"]
        objects = [*own, *(each for each in objects if each.function is None)]
    return tuple(dict.fromkeys((*problems, *_problems(objects), *_blind_spots(watch, unseen))))


async def left_over(connection: Connection, watches: Mapping[str, Watch]) -> list[str]:
    """Other watches than these, as far as they are in notify mode, for which something is installed."""
    found = await verified(connection, verify(watches))
    return sorted({each.watch for each in found if each.state == "left over" and each.watch is not None})


def _blind_spots(watch: Watch, unseen: Collection[Sequence[str]]) -> Iterator[str]:
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
