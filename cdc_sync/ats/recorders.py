"""What records the changes of a watch: a function, and triggers on its table and on each related one.

Their comment, a fingerprint, shows the daemon and `cdc-sync sql verify` what this version and configuration would
install. A replaced trigger has none; of functions the body is compared too.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from textwrap import indent
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.ats import expressions
from cdc_sync.ats.errors import texts
from cdc_sync.ats.expressions import Dependencies, compared, composed, render, sections, template
from cdc_sync.config import Watch
from cdc_sync.config.watch import Related
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import SEPARATOR

TRIGGERS = ("row", "truncate")
"""The triggers of a table, by the last part of their names."""

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
    """Why relations of a kind fire no trigger `before` a version: the rest of a sentence, and a remedy."""

    kind: str
    before: int
    reason: str
    remedy: str


def _untriggered() -> list[Untriggered]:
    return [Untriggered(kind, *about) for kind, about in texts("untriggered.yaml").items()]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger: its name, and its table."""

    name: str
    table: QualifiedName


@dataclass(frozen=True, slots=True)
class Recorder:
    """A watch's function and triggers.

    Attributes:
        always: whether the triggers fire for replicated changes too.
        body: the function's text between the quotes.
        script: the statements that create all of it.
        fingerprint: the comment of the function and of each trigger.
    """

    watch: str
    function: str
    triggers: tuple[Trigger, ...]
    always: bool
    body: str
    script: str
    fingerprint: str


class _Recorded(NamedTuple):
    """How the rows of one table are recorded: its key, the columns that count, and its number (0: the watched one)."""

    table: QualifiedName
    key: tuple[str, ...]
    changed: Dependencies
    number: int


class _Depends(NamedTuple):
    """What a recorder's text depends on beside the watch's name."""

    tables: tuple[_Recorded, ...]
    max_backlog: int
    rings: bool


def _compared_of_related(related: Related) -> Dependencies:
    """The columns of a related table that count, and its key; all if none is named."""
    if not related.columns:
        return Dependencies((), complete=False)
    return Dependencies(tuple(dict.fromkeys((*related.key, *related.columns))), complete=True)


def recorder(name: str, watch: Watch) -> Recorder:
    """What records a watch's changes."""
    capture = watch.capture
    own = _Recorded(watch.table, watch.key, compared(watch), 0)
    related = [
        _Recorded(of.table, of.key, _compared_of_related(of), number)
        for number, of in enumerate(watch.related, start=1)
    ]
    depends = _Depends((own, *related), capture.max_backlog, capture.wakeup == "notify")
    function, body = function_of(name), _body(name, depends)
    # If the function's name has not the watch's, `verify` reads it here.
    named = f" {name}" if _HASHED in function else ""
    fingerprint = f"cdc-sync {_digest(name, depends)}{named}"
    triggers = [Trigger(trigger_of(name, kind, of.number), of.table) for of in depends.tables for kind in TRIGGERS]
    script = "".join(_script(name, depends, body, fingerprint, always=capture.replicated))
    return Recorder(name, function, tuple(triggers), capture.replicated, body, script, fingerprint)


def _digest(name: str, depends: _Depends) -> str:
    """A digest of all that is installed for a watch; all tenants of a template have the same."""
    template, separator, _ = name.partition(SEPARATOR)
    if not separator:
        return _digest_of(name, depends)
    tables = [of._replace(table=QualifiedName(None, of.table.name)) for of in depends.tables]
    return _digest_of(f"{template}{SEPARATOR}tenant", depends._replace(tables=tuple(tables)))


@lru_cache
def _digest_of(name: str, depends: _Depends) -> str:
    script = "".join(_script(name, depends, _body(name, depends), "", always=False))
    return hashlib.sha256(script.encode()).hexdigest()[:16]


def tables_of(watch: Watch) -> list[QualifiedName]:
    """The tables with triggers of a watch."""
    return [watch.table, *(related.table for related in watch.related)]


def untriggered(kind: str, version: int) -> Untriggered | None:
    """Why a `pg_class.relkind` fires no trigger on this `server_version_num`; None if it does."""
    return next((each for each in _untriggered() if each.kind == kind and version < each.before), None)


def only_tables(watch: Watch) -> str:
    """The part of the installation script that refuses relations without triggers."""
    columns = [(watch.table, compared(watch).columns), *((each.table, each.columns) for each in watch.related)]
    is_compared = [
        composed("a.attrelid = {} AND a.attname IN ({})", own_path.oid_of(table), map(sql.Literal, names))
        for table, names in columns
        if names
    ]
    lines = [composed("({})", map(sql.Literal, each)) for each in _untriggered()]
    return render(
        template("only_tables.sql"),
        compared=sql.SQL("\n            OR ").join(is_compared),
        tables=[own_path.oid_of(each) for each in tables_of(watch)],
        untriggered=sql.SQL(",\n            ").join(lines),
    )


def label_of(watch: str) -> str:
    """A watch's name in the names of its functions, triggers, sequences and settings.

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


def trigger_of(watch: str, kind: str, number: int = 0) -> str:
    """A trigger of a watch on one of its tables; related tables have a number."""
    return f"cdc_sync_{label_of(watch)}{f'${number}' if number else ''}_{kind}"


def bell_of(watch: str) -> str:
    """The bell that earlier versions installed for a watch."""
    return f"bell_{label_of(watch)}"


def missed_of(watch: str) -> str:
    """The sequence that counts a watch's unrecorded changes."""
    return f"missed_{label_of(watch)}"


def _body(name: str, depends: _Depends) -> str:
    """The function's text."""
    tables = depends.tables
    keys = _keys(tables[0]) if len(tables) == 1 else _keys_of_several(tables)
    return render(
        template("recorder_body.sql"),
        watch=name,
        label=sql.SQL(label_of(name)),
        missed=sql.Identifier(missed_of(name)),
        max_backlog=depends.max_backlog,
        keys=sql.SQL(keys),
        ring=composed(_PARTS["ring"] + "\n", watch=name) if depends.rings else sql.SQL(""),
    )


def _keys_of_several(tables: Iterable[_Recorded]) -> str:
    """What finds the keys, by the table on which the trigger stands."""
    return "".join(map(_branch, tables)) + "        END IF;\n"


def _branch(of: _Recorded) -> str:
    test = f"ELSIF TG_ARGV[0] = '{of.number}'" if of.number else "IF TG_NARGS = 0"
    shown = visible(expressions.table(of.table).as_string())
    return f"        {test} THEN -- {shown}\n" + indent(_keys(of), " " * 4)


def _keys(of: _Recorded) -> str:
    """What returns if no column that counts has changed, and else finds the row's key and its former one."""
    part = _PARTS["keys" if of.key else "any_key"] + "\n"
    rows = {"old": _row("OLD", of.changed), "new": _row("NEW", of.changed)}
    new_key, old_key = (list(map(expressions.key_text, _of_row(row, of.key))) for row in ("NEW", "OLD"))
    return render(part, **rows, new_key=new_key, old_key=old_key)


def _script(name: str, depends: _Depends, body: str, comment: str, *, always: bool) -> Iterator[str]:
    """The statements that create a watch's function and its triggers."""
    function = sql.Identifier(function_of(name))
    yield render(template("recorder.sql"), function=function, body=sql.SQL(body), comment=comment)
    for of in depends.tables:
        table, names = expressions.table(of.table), {kind: trigger_of(name, kind, of.number) for kind in TRIGGERS}
        triggers = {kind: sql.Identifier(trigger) for kind, trigger in names.items()}
        number = sql.SQL(str(of.number) if of.number else "")
        about = {"table": table, "function": function, "number": number, "comment": sql.Literal(comment)}
        statements = render(template("triggers.sql"), **about, **triggers)
        if always:
            each = [render("ALTER TABLE {} ENABLE ALWAYS TRIGGER {};\n", table, one) for one in triggers.values()]
            statements += "".join(each)
        yield "\n" + own_path.naming(of.table, statements)


def _row(row: str, dependencies: Dependencies) -> sql.Composable:
    """The columns that count, as a record: `*=` compares stored bytes, also of types without equality (json, point)."""
    if not dependencies.complete:
        return sql.SQL(row)
    return composed("ROW({})::record", _of_row(row, dependencies.columns))


def _of_row(row: str, columns: Iterable[str]) -> list[sql.Composed]:
    return [composed(f"{row}.{{}}", sql.Identifier(name)) for name in columns]
