"""The trigger definitions of a watch: a recording function with triggers for its table and for each related one.

Their comment, a fingerprint, shows the daemon and `cdc-sync sql verify` what this version and configuration would
install. A replaced trigger has none; of functions the body is compared too.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.config import Watch
from cdc_sync.config.tenants import SEPARATOR
from cdc_sync.config.watch import Related
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.core.visible import visible
from cdc_sync.source import expressions
from cdc_sync.source.errors import texts
from cdc_sync.source.expressions import Dependencies, compared, composed, render, sections, template

TRIGGERS = ("row", "truncate")
"""A recorder's triggers, by the last part of their names."""

# The log's operation: the first letter of INSERT, UPDATE, DELETE or TRUNCATE. A row of a related table with a key
# updates its watched rows.
_OWN_OPERATION = 'TG_OP::pg_catalog."char"'
_RELATED_OPERATION = "CASE WHEN row_key IS NULL THEN 'T' ELSE 'U' END"
_UNKEYED_OPERATION = "'T'"

LONGEST_LABEL = 40
"""Characters: PostgreSQL keeps 63 of `cdc_sync_…$12_truncate`."""

_OWN_LABEL = re.compile(r"[a-z][a-z0-9_]*(@[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?)?")

_BETWEEN = "\n\nCREATE TRIGGER "
"""What separates a recorder's function from its triggers; no name in them has a line break."""

_HASHED, _DIGITS = "$0x", 14

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


class _Depends(NamedTuple):
    """What a recorder's text depends on beside names; `number` is the related table's, 0 for the watched one."""

    changed: Dependencies
    key: tuple[str, ...]
    number: int
    max_backlog: int
    wakeup: str


@dataclass(frozen=True, slots=True)
class Recorder:
    """One table's function and triggers.

    Attributes:
        always: whether the triggers fire for replicated changes too.
        body: the function's text between the quotes.
        script: the statements that create all of it.
        fingerprint: the comment of the function and of each trigger.
    """

    watch: str
    function: str
    table: QualifiedName
    always: bool
    body: str
    script: str
    fingerprint: str

    @property
    def commented_script(self) -> str:
        """`script` and the comments, of which each line is a statement."""
        table, comment = expressions.table(self.table), self.fingerprint
        function, triggers = self.script.split(_BETWEEN, maxsplit=1)
        of_function = render("COMMENT ON FUNCTION cdc_sync.{}() IS {};", sql.Identifier(self.function), comment)
        lines = [f"CREATE TRIGGER {triggers}"]
        for kind in TRIGGERS:
            trigger = sql.Identifier(trigger_of(self.function, kind))
            if self.always:
                lines.append(render("ALTER TABLE {} ENABLE ALWAYS TRIGGER {};", table, trigger))
            lines.append(render("COMMENT ON TRIGGER {} ON {} IS {};", trigger, table, comment))
        return f"{function}\n{of_function}\n\n" + own_path.naming(self.table, "\n".join([*lines, ""]))


def recorders(name: str, watch: Watch) -> list[Recorder]:
    """A watch's trigger definitions: its table's, then each related one's."""
    related = [
        _recorder(name, watch, each, _compared_of_related(each), number)
        for number, each in enumerate(watch.related, start=1)
    ]
    return [_recorder(name, watch, watch, compared(watch), 0), *related]


def _compared_of_related(related: Related) -> Dependencies:
    """The columns of a related table that count, and its key; all if none is named."""
    if not related.columns:
        return Dependencies((), complete=False)
    return Dependencies(tuple(dict.fromkeys((*related.key, *related.columns))), complete=True)


def functions_of(name: str, watch: Watch) -> list[str]:
    """A watch's recording functions: its table's, then each related one's."""
    return [function_of(name, number) for number in range(len(watch.related) + 1)]


def _recorder(name: str, watch: Watch, of: Watch | Related, changed: Dependencies, number: int) -> Recorder:
    depends = _Depends(changed, of.key, number, watch.capture.max_backlog, watch.capture.wakeup)
    function, body, script = _texts(name, of.table, depends)
    template, separator, _ = name.partition(SEPARATOR)
    digest = _digest(template, of.table.name, depends) if separator else _digest_of(script)
    # If the function's name has not the watch's, `verify` reads it here.
    fingerprint = f"cdc-sync {digest} {name}" if _HASHED in function else f"cdc-sync {digest}"
    return Recorder(name, function, of.table, watch.capture.replicated, body, script, fingerprint)


@lru_cache
def _digest(template: str, table: str, depends: _Depends) -> str:
    *_, script = _texts(f"{template}{SEPARATOR}tenant", QualifiedName(None, table), depends)
    return _digest_of(script)


def _digest_of(script: str) -> str:
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


def function_of(watch: str, number: int = 0) -> str:
    """A watch's function; those of related tables end with `$` and their number, as no label does."""
    return f"record_{label_of(watch)}" + (f"${number}" if number else "")


def trigger_of(function: str, kind: str) -> str:
    """One of a function's triggers."""
    return f"{function.replace('record_', 'cdc_sync_', 1)}_{kind}"


def bell_of(watch: str) -> str:
    """A watch's doorbell."""
    return f"bell_{label_of(watch)}"


def missed_of(watch: str) -> str:
    """The sequence that counts a watch's unrecorded changes."""
    return f"missed_{label_of(watch)}"


def sequences_of(watch: str) -> tuple[str, str]:
    """A watch's sequences."""
    return bell_of(watch), missed_of(watch)


def _texts(name: str, table: QualifiedName, depends: _Depends) -> tuple[str, str, str]:
    """The function's name, its body, and the statements that create it with its triggers."""
    changed, key, number, max_backlog, wakeup = depends
    function = function_of(name, number)
    operation = _OWN_OPERATION if number == 0 else _RELATED_OPERATION if key else _UNKEYED_OPERATION
    bell = sql.Identifier(bell_of(name))
    wakes, parts = wakeup == "notify", sections("parts.sql")
    body = render(
        template("recorder_body.sql"),
        changed=_changed(changed),
        max_backlog=max_backlog,
        half_of_it=max_backlog // 2,
        setting=sql.SQL(label_of(name)),
        functions=sql.SQL(function_of(name).replace("$", "[$]")),
        bell=bell,
        missed=sql.Identifier(missed_of(name)),
        watch=name,
        # Functions of earlier versions have another mark.
        mark=sql.SQL(f"mark_{function}"),
        former_operation="U" if number else "K",
        operation=sql.SQL(operation),
        keys=sql.SQL(_keys(key) if key else ""),
        once=sql.SQL("" if key else parts["once"] + "\n"),
        declared=sql.SQL("    rings boolean;\n" if wakes else ""),
        wake=composed(parts["wake"] + "\n", bell=bell) if wakes else sql.SQL(""),
        ring=composed("\n" + parts["ring"], watch=name) if wakes else sql.SQL(""),
    )
    script = render(
        template("recorder.sql"),
        # In comments, which a line break would end.
        watch_name=sql.SQL(visible(name)),
        table=expressions.table(table),
        shown=sql.SQL(visible(expressions.table(table).as_string())),
        role=sql.SQL(", whose rows change what an application of the watch is" if number else ""),
        function=sql.Identifier(function),
        body=sql.SQL(body),
        **{f"trigger_{kind}": sql.Identifier(trigger_of(function, kind)) for kind in TRIGGERS},
    )
    return function, body, script


def _changed(dependencies: Dependencies) -> sql.Composable:
    """Whether an UPDATE has changed one of these columns.

    `*<>` compares stored bytes, also of types without equality (json, point) or with one that ignores case (citext).
    """
    if not dependencies.complete:
        return sql.SQL("OLD OPERATOR(pg_catalog.*<>) NEW")
    # Without the casts it would be a row-wise comparison, which knows only =, < and their like.
    rows = [composed("ROW({})::pg_catalog.record", _of_row(row, dependencies.columns)) for row in ("OLD", "NEW")]
    return sql.SQL(" OPERATOR(pg_catalog.*<>) ").join(rows)


def _keys(columns: tuple[str, ...]) -> str:
    old_key, new_key = (list(map(expressions.key_text, _of_row(row, columns))) for row in ("OLD", "NEW"))
    keys, is_changed = sections("parts.sql")["keys"] + "\n", _changed(Dependencies(columns, complete=True))
    equal = sql.SQL('{}::pg_catalog.text OPERATOR(pg_catalog.=) {}::pg_catalog.text COLLATE pg_catalog."C"')
    pairs = zip(*(_of_row(row, columns) for row in ("OLD", "NEW")), strict=True)
    same_text = sql.SQL(" AND ").join(equal.format(old, new) for old, new in pairs)
    return render(keys, old_key=old_key, new_key=new_key, key_changed=is_changed, same_text=same_text)


def _of_row(row: str, columns: Iterable[str]) -> list[sql.Composed]:
    return [composed(f"{row}.{{}}", sql.Identifier(name)) for name in columns]
