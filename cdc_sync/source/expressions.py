"""Composing SQL from identifiers and from the configuration's own expressions.

Two kinds of text meet in a statement: names, which are always quoted, and expressions that the configuration gives as
SQL (`columns.*.sql`, `where`), which are the operator's own code and are put in as they are, in brackets. Nothing from
a row ever becomes part of a statement.
"""

import re
from urllib.parse import quote

from psycopg import sql

from cdc_sync.config import Column, PlainColumn
from cdc_sync.core.identifiers import QualifiedName


def fragment(text: str) -> sql.SQL:
    """SQL of ours or of the configuration as part of a statement that takes parameters: `%` stands for itself."""
    return sql.SQL(text.replace("%", "%%"))


def table(qualified: QualifiedName) -> sql.Composable:
    """A table's name, quoted, for a script: there `%` has no meaning of its own."""
    return sql.Identifier(*([] if qualified.schema is None else [qualified.schema]), qualified.name)


def name(*parts: str) -> sql.Identifier:
    """A name, quoted, as part of a statement that takes parameters: `%` stands for itself."""
    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def column(column_name: str) -> sql.Composed:
    """A column of the watch's table, which every statement calls `t`."""
    return sql.SQL("t.{}").format(name(column_name))


_SAME_IN_EVERY_SESSION = re.compile(r"smallint|integer|bigint|uuid|text|character varying(\(\d+\))?")
_SAME_AS_JSON = re.compile(
    r"numeric(\(\d+,-?\d+\))?|character(\(\d+\))?|boolean|date|timestamp(\(\d\))? without time zone"
)


def key_text(value: sql.Composable, type_: str = "") -> sql.Composed:
    """A key column's value as text, the same in every session as far as may be: by `::text` a date follows DateStyle.

    Where the type is known to be one that knows no such settings, `::text` gives the same, in much less time.
    """
    if _SAME_IN_EVERY_SESSION.fullmatch(type_):
        return sql.SQL("{}::text").format(value)
    return sql.SQL("(pg_catalog.to_json({}) OPERATOR(pg_catalog.#>>) '{{}}')").format(value)


def may_depend_on_session(type_: str) -> bool:
    """Whether settings of a session may change the `key_text` of this type, as TimeZone does of a timestamptz.

    A type that is not known to be written in one way is taken for one that is not.
    """
    return not (_SAME_IN_EVERY_SESSION.fullmatch(type_) or _SAME_AS_JSON.fullmatch(type_))


def expression(mapped: Column) -> sql.Composed:
    """A mapped column, or expression, over `t`."""
    if isinstance(mapped, PlainColumn):
        return column(mapped.name)
    # The line break ends a comment that the expression may end with.
    return sql.SQL("({}\n)").format(fragment(mapped.sql))


def spellings_in_url(application_id: str) -> set[str]:
    """How an id may be written inside a status URL: as it is, and percent-encoded in either common way."""
    return {application_id, quote(application_id, safe=""), quote(application_id, safe="!$&'()*+,;=:@")}
