"""What records the changes of a watch: a function, and triggers on its table and on each related one.

The function's text is all that depends on the configuration's columns. `verify` is the query of `cdc-sync sql verify`,
which the daemon and `check` run too.

- PostgreSQL copies row triggers to partitions, not to other inheriting tables. For logical replication only triggers
  that are enabled ALWAYS fire.
- TRUNCATE, ATTACH, DETACH and DROP of a partition (or INHERIT and its like) fire no trigger of the table. They change
  the tables or files that are read with it (`lookout.Watched.state`).
- Unrecorded changes are counted in a sequence (`lookout.Watched.missed`), maybe too many: no rollback undoes it. It
  counts before the commit, so a sweep first waits for the present writers (`notify.all_ended`).
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from textwrap import indent
from typing import NamedTuple

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from cdc_sync.config import Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR
from cdc_sync.packaged import data

from .connection import Connection, asking, rows_of
from .errors import reason, unwritable
from .expressions import Columns, Part, among, catalog, compared, composed, render, sections, template, undeclared
from .expressions import table as quoted
from .facts import relations

TRIGGERS = {"row": 29, "truncate": 32}
"""A table's triggers, by the last part of their names, with their `pg_trigger.tgtype`."""

BELL = "bell"
"""The sequence with the time (seconds since the epoch) until which an idle daemon wants to be rung."""

LONGEST_LABEL = 40
"""Characters: PostgreSQL keeps 63 of `cdc_sync_…$12_truncate`."""

_OWN_LABEL = re.compile(r"[a-z][a-z0-9_]*(@[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?)?")

_HASHED, _DIGITS = "$0x", 14

_PARTS = sections("parts.sql")

PARTITIONED_SINCE = 110000
"""The first version (`server_version_num`) with row triggers and indexes on partitioned tables."""


class Untriggered(NamedTuple):
    """Why relations of a kind fire no trigger before a version: the rest of a sentence, and a remedy."""

    before: int
    reason: str
    remedy: str


class Recorded(NamedTuple):
    """How the rows of one table are recorded: its key, the columns that count (None: all), and its number.

    The watched one has the number 0; its triggers give the function no argument, the others' their number.
    """

    table: QualifiedName
    key: tuple[str, ...]
    changed: Columns
    number: int

    @property
    def argument(self) -> str:
        """What its triggers give the function."""
        return str(self.number or "")


def recorded_tables(watch: Watch) -> list[Recorded]:
    """The tables with triggers of a watch."""
    tables = [Recorded(watch.table, watch.key, compared(watch), 0)]
    for number, of_related in enumerate(watch.related, start=1):
        named = tuple(dict.fromkeys((*of_related.key, *of_related.columns))) if of_related.columns else None
        tables.append(Recorded(of_related.table, of_related.key, named, number))
    return tables


def noticed(watches: Mapping[str, Watch]) -> dict[str, Watch]:
    """The watches in notify mode."""
    return {name: watch for name, watch in watches.items() if watch.capture.needs_log}


def tables_of(watch: Watch) -> list[QualifiedName]:
    """Their names."""
    return [watch.table, *(related.table for related in watch.related)]


def tables_of_all(watches: Mapping[str, Watch]) -> list[QualifiedName]:
    """The tables with triggers of these watches, each once."""
    return list(dict.fromkeys(table for watch in watches.values() for table in tables_of(watch)))


def relations_of(name: str, watch: Watch) -> list[QualifiedName]:
    """The relations that the recording of a watch's changes depends on."""
    return [*tables_of(watch), QualifiedName("cdc_sync", "changes"), QualifiedName("cdc_sync", missed_of(name))]


def untriggered(kind: str, version: int) -> Untriggered | None:
    """Why a `pg_class.relkind` fires no trigger on this `server_version_num`; None if it does."""
    about = data("ats/untriggered.yaml").get(kind)
    return Untriggered(*about) if about and version < about[0] else None


def label_of(watch: str) -> str:
    """A watch's name in the names of its functions, triggers, sequences and settings, which need no quotes.

    A name of at most 40 characters without need of quotes has `$` for `@` and `.` (`applications$tenant_42`). Any other
    is cut to its allowed characters, with a part of its SHA-256: `applications_tenant_a$0x1f0c…`.
    """
    if len(watch) <= LONGEST_LABEL and _OWN_LABEL.fullmatch(watch):
        return watch.replace(SEPARATOR, "$").replace(".", "$")
    digest = hashlib.sha256(watch.encode()).hexdigest()[:_DIGITS]
    readable = re.sub("[^a-z0-9_]+", "_", watch.lower())[: LONGEST_LABEL - len(_HASHED) - _DIGITS]
    return f"{readable}{_HASHED}{digest}"


def function_of(watch: str) -> str:
    """A watch's function. Earlier versions had others for related tables, with `$` and a number behind."""
    return f"record_{label_of(watch)}"


def trigger_of(watch: str, kind: str, number: int) -> str:
    """A trigger of a watch on one of its tables; related tables have a number."""
    return f"cdc_sync_{label_of(watch)}{f'${number}' if number else ''}_{kind}"


def bell_of(watch: str) -> str:
    """The bell that earlier versions installed for a watch."""
    return f"bell_{label_of(watch)}"


def missed_of(watch: str) -> str:
    """The sequence that counts a watch's unrecorded changes."""
    return f"missed_{label_of(watch)}"


def function_body(name: str, watch: Watch) -> str:
    """The text of a watch's function, between the quotes."""
    tables = recorded_tables(watch)
    # Of several, by the table on which the trigger stands.
    keys = _keys(tables[0]) if len(tables) == 1 else "".join(map(_branch, tables)) + "        END IF;\n"
    return render(
        template("recorder_body.sql"),
        watch=name,
        label=SQL(label_of(name)),
        missed=SQL(missed_of(name)),
        max_backlog=watch.capture.max_backlog,
        keys=SQL(keys),
        ring=composed(_PARTS["ring"] + "\n", watch=name) if watch.capture.wakeup == "notify" else SQL(""),
    )


def _branch(of: Recorded) -> str:
    test = f"ELSIF TG_ARGV[0] = '{of.number}'" if of.number else "IF TG_NARGS = 0"
    shown = visible(quoted(of.table).as_string())
    return f"        {test} THEN -- {shown}\n" + indent(_keys(of), " " * 4)


def _keys(of: Recorded) -> str:
    """What returns if no column that counts has changed, and else finds the row's key and its former one."""
    parts = dict[str, Part]()
    for row in ("OLD", "NEW"):
        name = row.lower()
        parts[name], parts[f"{name}_place"] = _row(row, of.changed), _row(row, of.key)
        parts[f"{name}_key"] = [composed(_PARTS["key_text"], each) for each in _of_row(row, of.key)]
    return render(_PARTS["keys" if of.key else "any_key"] + "\n", **parts)


def _row(row: str, columns: Columns) -> Composable:
    """The columns that count, as a record: `*=` compares stored bytes, also of types without equality (json, point)."""
    return SQL(row) if columns is None else composed("ROW({})::record", _of_row(row, columns))


def _of_row(row: str, columns: Iterable[str]) -> list[Composed]:
    return [composed(f"{row}.{{}}", Identifier(name)) for name in columns]


# The queries of what is installed.

_OF_RECORDER = '{} t {{"search_path=pg_catalog, pg_temp"}}'
_OF_TENANTS = '{} f {{client_min_messages=warning,quote_all_identifiers=off,"search_path=pg_catalog, pg_temp"}}'


class _Wanted(NamedTuple):
    """An object as `verify.sql` expects it: a row of its list, in this order.

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


def verify(watches: Mapping[str, Watch], for_tenants: Mapping[str, str] | None = None, *, is_all: bool = True) -> str:
    """The query that compares what is installed with what `install` would install.

    Others' objects are ignored unless `is_all`. The functions `for_tenants` may be missing (their texts by name);
    without them no such function is looked at.
    """
    watches = noticed(watches)
    wanted = [each for name, watch in watches.items() for each in _of_watch(name, watch)]
    for kind, name in (("table", "changes"), ("sequence", BELL)):
        wanted.append(_Wanted(None, kind, name, may_be_missing=not watches))
    for name, body in (for_tenants or {}).items():
        made = _OF_TENANTS.format(_md5(body))
        wanted.append(_Wanted(None, "function", name, name, made=made, may_be_missing=True))
    of_functions = composed("~ {}", "^record_" if for_tenants is None else "^(record|install)_")
    if not is_all:
        of_functions = among(map(function_of, watches))
    lines = ",\n    ".join(composed("({})", map(Literal, each)).as_string() for each in wanted)
    return render(template("verify.sql"), wanted=SQL(lines), of_functions=of_functions)


def _of_watch(watch_name: str, watch: Watch) -> Iterator[_Wanted]:
    function = function_of(watch_name)
    yield _Wanted(watch_name, "sequence", missed_of(watch_name))
    made = _OF_RECORDER.format(_md5(function_body(watch_name, watch)))
    yield _Wanted(watch_name, "function", function, function, str(watch.table), made)
    fires = "^A$" if watch.capture.replicated else "^[OA]+$"
    for recorded in recorded_tables(watch):
        argument = f" {recorded.argument}\\000" if recorded.argument else ""
        for kind, type_ in TRIGGERS.items():
            name = trigger_of(watch_name, kind, recorded.number)
            yield _Wanted(watch_name, "trigger", name, function, str(recorded.table), f"{type_}{argument}", fires)


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
    what = SQL("cdc-sync" if watch is None else f"the watch {visible(watch)}")
    return render(template("absent.sql"), what=what, functions=functions, relations=relations, schema=schema)


# What they find.

_PROBLEMS = frozenset({"missing", "disabled", "different"})
"""States of a function and its triggers that are problems."""


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
    objects = await verified(connection, verify({name: watch}, is_all=False))
    async with asking("looking for what the triggers do not see"):
        oids = [oid for table in tables_of(watch) for oid, *_ in await relations(connection, table)]
        unseen = await rows_of(connection, catalog("unseen"), {"tables": oids})
    needed = {"cdc_sync.changes", f"cdc_sync.{missed_of(name)}", f"cdc_sync.{function_of(name)}"}
    has_log = all(each.state != "missing" for each in objects if each.name in needed)
    return Installation(_problems_of(watch, objects, unseen), has_log)


def _problems_of(watch: Watch, objects: Sequence[Verified], unseen: Collection[Sequence[str]]) -> tuple[str, ...]:
    problems, table = list[str](), str(watch.table)
    if places := undeclared(watch):  # what would be installed is unknown, and whether related tables had their own
        problems.append(reason("depends-on-missing", places=", ".join(places)))
        objects = [of for of in objects if of.function is None or (of.table == table and of.state != "different")]
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
    for each in found:
        if each.function is not None and each.state in _PROBLEMS:
            yield reason(f"triggers-{each.state}", function=each.function, table=each.table)
    # Without any function nothing was ever installed, which has been reported.
    is_installed = any(each.kind == "function" and each.state != "missing" for each in found)
    for each in found:
        if is_installed and each.function is None and each.state == "missing":
            yield reason("object-not-there", kind=each.kind, name=each.name)
        if each.kind == "table" and each.state == "different":
            yield reason("log-different")
