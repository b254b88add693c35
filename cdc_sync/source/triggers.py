"""Whether the triggers of a watch are there, enabled, and what this version would install."""

import psycopg

from cdc_sync.config import Watch
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import translate
from cdc_sync.source.scripts import sections

# On the watched table itself, since triggers stay with a table that is renamed. Partitions have copies of them, each of
# which can be disabled by itself.
_INSTALLED = """
SELECT wanted.function, pg_catalog.obj_description(p.oid, 'pg_proc'),
       count(t.oid) FILTER (WHERE t.tgrelid = pg_catalog.to_regclass(wanted.relation)),
       count(t.oid) FILTER (WHERE t.tgenabled NOT IN ('O', 'A'))
  FROM unnest(%s::text[], %s::text[]) AS wanted (function, relation)
  JOIN pg_catalog.pg_proc p ON p.proname = wanted.function
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'cdc_sync'
  LEFT JOIN pg_catalog.pg_trigger t ON t.tgfoid = p.oid AND NOT t.tgisinternal
 GROUP BY wanted.function, p.oid
"""

_TRIGGERS_PER_TABLE = 3


async def problems(connection: Connection, name: str, watch: Watch) -> list[str]:
    """What is wrong with a watch's triggers, in words; empty if nothing is.

    Raises:
        SourceError: the catalog cannot be read.
    """
    wanted = dict(sections(name, watch))
    tables = [str(watch.table), *(str(related.table) for related in watch.related)]
    try:
        rows = await (await connection.execute(_INSTALLED, (list(wanted), tables))).fetchall()
    except psycopg.Error as error:
        raise translate(error, "looking for the triggers") from error
    installed = {function: (comment, triggers, disabled) for function, comment, triggers, disabled in rows}
    found: list[str] = []
    for (function, section), table in zip(wanted.items(), tables, strict=True):
        comment, triggers, disabled = installed.get(function, (None, 0, 0))
        if triggers < _TRIGGERS_PER_TABLE:
            found.append(f"the triggers of cdc_sync.{function} are not installed on {table}")
        elif disabled:
            found.append(f"triggers of cdc_sync.{function} are disabled")
        elif comment != installed_as(section):
            found.append(f"cdc_sync.{function} was installed by another version or configuration")
    return found


def installed_as(section: str) -> str:
    """The comment that a rendered section gives its function."""
    mark = "IS 'cdc-sync "
    return section[section.rindex(mark) + len("IS '") :].rstrip().rstrip(";").rstrip("'")
