"""What records the changes of a watch: a function, and triggers on its table and on each related one.

The function's text is all that depends on the configuration's columns: `cdc-sync sql verify` compares it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import indent
from typing import NamedTuple

from psycopg import sql

from cdc_sync.ats import expressions
from cdc_sync.ats.errors import texts
from cdc_sync.ats.expressions import Columns, compared, composed, render, sections, template
from cdc_sync.config import Watch
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

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


class Trigger(NamedTuple):
    """One trigger.

    Attributes:
        argument: what it gives the function: a related table's number, or nothing.
        kind: one of `TRIGGERS`.
    """

    name: str
    table: QualifiedName
    argument: str
    kind: str


class Recorder(NamedTuple):
    """A watch's function and triggers.

    Attributes:
        always: whether the triggers fire for replicated changes too.
        body: the function's text between the quotes.
    """

    watch: str
    function: str
    triggers: tuple[Trigger, ...]
    always: bool
    body: str


class _Recorded(NamedTuple):
    """How the rows of one table are recorded: its key, the columns that count (None: all), and its number.

    The watched one has the number 0.
    """

    table: QualifiedName
    key: tuple[str, ...]
    changed: Columns
    number: int


def recorder(name: str, watch: Watch) -> Recorder:
    """What records a watch's changes."""
    tables, capture = [_Recorded(watch.table, watch.key, compared(watch), 0)], watch.capture
    for number, of_related in enumerate(watch.related, start=1):
        named = tuple(dict.fromkeys((*of_related.key, *of_related.columns))) if of_related.columns else None
        tables.append(_Recorded(of_related.table, of_related.key, named, number))
    triggers = [
        Trigger(trigger_of(name, kind, of.number), of.table, str(of.number or ""), kind)
        for of in tables
        for kind in TRIGGERS
    ]
    body = _body(name, tables, capture.max_backlog, rings=capture.wakeup == "notify")
    return Recorder(name, function_of(name), tuple(triggers), capture.replicated, body)


def noticed(watches: Mapping[str, Watch]) -> dict[str, Watch]:
    """The watches in notify mode."""
    return {name: watch for name, watch in watches.items() if watch.capture.needs.log}


def tables_of(watch: Watch) -> list[QualifiedName]:
    """The tables with triggers of a watch."""
    return [watch.table, *(related.table for related in watch.related)]


def tables_of_all(watches: Mapping[str, Watch]) -> list[QualifiedName]:
    """The tables with triggers of these watches, each once."""
    return list(dict.fromkeys(table for watch in watches.values() for table in tables_of(watch)))


def relations_of(name: str, watch: Watch) -> list[QualifiedName]:
    """The relations that the recording of a watch's changes depends on."""
    return [*tables_of(watch), QualifiedName("cdc_sync", "changes"), QualifiedName("cdc_sync", missed_of(name))]


def untriggered(kind: str, version: int) -> Untriggered | None:
    """Why a `pg_class.relkind` fires no trigger on this `server_version_num`; None if it does."""
    about = texts("untriggered.yaml").get(kind)
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


def _body(name: str, tables: Sequence[_Recorded], max_backlog: int, *, rings: bool) -> str:
    """The function's text."""
    # Of several, by the table on which the trigger stands.
    keys = _keys(tables[0]) if len(tables) == 1 else "".join(map(_branch, tables)) + "        END IF;\n"
    return render(
        template("recorder_body.sql"),
        watch=name,
        label=sql.SQL(label_of(name)),
        missed=sql.SQL(missed_of(name)),
        max_backlog=max_backlog,
        keys=sql.SQL(keys),
        ring=composed(_PARTS["ring"] + "\n", watch=name) if rings else sql.SQL(""),
    )


def _branch(of: _Recorded) -> str:
    test = f"ELSIF TG_ARGV[0] = '{of.number}'" if of.number else "IF TG_NARGS = 0"
    shown = visible(expressions.table(of.table).as_string())
    return f"        {test} THEN -- {shown}\n" + indent(_keys(of), " " * 4)


def _keys(of: _Recorded) -> str:
    """What returns if no column that counts has changed, and else finds the row's key and its former one."""
    part = _PARTS["keys" if of.key else "any_key"] + "\n"
    rows = {"old": _row("OLD", of.changed), "new": _row("NEW", of.changed)}
    places = {f"{row.lower()}_place": _row(row, of.key) for row in ("OLD", "NEW")}
    new_key, old_key = ([composed(_PARTS["key_text"], each) for each in _of_row(row, of.key)] for row in ("NEW", "OLD"))
    return render(part, **rows, **places, new_key=new_key, old_key=old_key)


def _row(row: str, columns: Columns) -> sql.Composable:
    """The columns that count, as a record: `*=` compares stored bytes, also of types without equality (json, point)."""
    return sql.SQL(row) if columns is None else composed("ROW({})::record", _of_row(row, columns))


def _of_row(row: str, columns: Iterable[str]) -> list[sql.Composed]:
    return [composed(f"{row}.{{}}", sql.Identifier(name)) for name in columns]
