"""Whether capture.mode notify has what it needs, and which changes its triggers do not record.

`verify` is the query of `cdc-sync sql verify`, which the daemon and `check` run too.

- PostgreSQL copies row triggers to partitions, not to other inheriting tables. For logical replication only triggers
  that are enabled ALWAYS fire.
- TRUNCATE, ATTACH, DETACH and DROP of a partition (or INHERIT and its like) fire no trigger of the table. They change
  the tables or files that are read with it (`lookout.Watched.state`).
- Unrecorded changes are counted in a sequence (`lookout.Watched.missed`), maybe too many: no rollback undoes it. It
  counts before the commit, so a sweep first waits for the present writers (`notify.all_ended`).
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats.connection import Connection, asking, rows_of
from cdc_sync.ats.errors import reason, unwritable
from cdc_sync.ats.expressions import among, catalog, composed, render, template, undeclared
from cdc_sync.ats.facts import oid_of
from cdc_sync.ats.recorders import (
    BELL,
    TRIGGERS,
    Recorder,
    bell_of,
    function_of,
    missed_of,
    noticed,
    recorder,
    tables_of,
    tables_of_all,
)
from cdc_sync.ats.scripts import TenantFunction
from cdc_sync.config import Watch
from cdc_sync.core.visible import visible

# The queries.

_OF_RECORDER = '{} t {{"search_path=pg_catalog, pg_temp"}}'
_OF_TENANTS = '{} f {{client_min_messages=warning,quote_all_identifiers=off,"search_path=pg_catalog, pg_temp"}}'


class _Wanted(NamedTuple):
    """An object as `verify.sql` expects it.

    Attributes:
        made: what is compared of it.
        fires: `tgenabled` of a table's and its partitions' triggers, as a regular expression.
    """

    watch: str | None
    kind: str
    name: str
    function: str | None = None
    on_table: str | None = None
    made: str = ""
    fires: str | None = None
    may_be_missing: bool = False


_NOTHING = f"({', '.join(['NULL::text'] * (len(_Wanted._fields) - 1))}, true)"


def verify(
    watches: Mapping[str, Watch], for_tenants: Collection[TenantFunction] | None = None, *, is_all: bool = True
) -> str:
    """The query that compares what is installed with what `install` would install.

    Others' objects are ignored unless `is_all`. The functions `for_tenants` may be missing; without a list of them they
    are not looked at.
    """
    watches = noticed(watches)
    wanted = [each for name, watch in watches.items() for each in _of_watch(recorder(name, watch))]
    if wanted:
        wanted = [_Wanted(None, "table", "changes"), _Wanted(None, "sequence", BELL), *wanted]
    for each in for_tenants or ():
        made = _OF_TENANTS.format(_md5(each.body))
        wanted.append(_Wanted(None, "function", each.name, each.name, made=made, may_be_missing=True))
    of_functions = composed("~ {}", "^record_" if for_tenants is None else "^(record|install)_")
    if not is_all:
        of_functions = among(map(function_of, watches))
    lines = ",\n    ".join(map(_line, wanted)) or _NOTHING
    return render(template("verify.sql"), wanted=sql.SQL(lines), of_functions=of_functions)


def _line(of: _Wanted) -> str:
    found = (of.watch, of.kind, of.name, of.function, of.on_table, of.made, of.fires, of.may_be_missing)
    return composed("({})", map(sql.Literal, found)).as_string()


def _of_watch(of: Recorder) -> Iterator[_Wanted]:
    yield _Wanted(of.watch, "sequence", missed_of(of.watch))
    made = _OF_RECORDER.format(_md5(of.body))
    yield _Wanted(of.watch, "function", of.function, of.function, str(of.triggers[0].table), made)
    for trigger in of.triggers:
        made = " ".join([str(TRIGGERS[trigger.kind]), *([f"{trigger.argument}\\000"] if trigger.argument else [])])
        fires = "^A$" if of.always else "^[OA]+$"
        yield _Wanted(of.watch, "trigger", trigger.name, of.function, str(trigger.table), made, fires)


def _md5(body: str) -> str:
    # Line ends as they are here, in case the script went through a file of Windows.
    return hashlib.md5(body.replace("\r", "").encode(), usedforsecurity=False).hexdigest()


def absent(watch: str | None = None) -> str:
    """The query of all that is installed, or of one watch's objects, whatever is configured."""
    functions = relations = schema = composed("true")
    if watch is not None:
        functions = composed("regexp_replace(p.proname, '[$]\\d+$', '') = {}", function_of(watch))
        relations = composed("c.relname {}", among([missed_of(watch), bell_of(watch)]))
        schema = composed("false")
    what = sql.SQL("cdc-sync" if watch is None else f"the watch {visible(watch)}")
    return render(template("absent.sql"), what=what, functions=functions, relations=relations, schema=schema)


def as_script(query: str, watches: Mapping[str, Watch]) -> str:
    """A query of `verify` or `absent` for these watches, for psql."""
    return own_path.in_transaction(query, tables_of_all(watches))


# What they find.

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
    """Run a query of `verify` or `absent`."""
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
