"""Whether the triggers of a watch are there, enabled, and what this version would install."""

import psycopg

from cdc_sync.config import Watch
from cdc_sync.source.connection import Connection
from cdc_sync.source.errors import translate
from cdc_sync.source.scripts import sections

_INSTALLED = """
SELECT p.proname::text, pg_catalog.obj_description(p.oid, 'pg_proc'),
       count(t.oid) FILTER (WHERE t.tgenabled IN ('O', 'A')), count(t.oid)
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  LEFT JOIN pg_catalog.pg_trigger t ON t.tgfoid = p.oid AND NOT t.tgisinternal
 WHERE n.nspname = 'cdc_sync' AND p.proname = ANY (%s)
 GROUP BY p.oid, p.proname
"""

_TRIGGERS_PER_TABLE = 3


async def problems(connection: Connection, name: str, watch: Watch) -> list[str]:
    """What is wrong with a watch's triggers, in words; empty if nothing is.

    Raises:
        SourceError: the catalog cannot be read.
    """
    wanted = dict(sections(name, watch))
    try:
        rows = await (await connection.execute(_INSTALLED, (list(wanted),))).fetchall()
    except psycopg.Error as error:
        raise translate(error, "looking for the triggers") from error
    installed = {function: (comment, enabled, total) for function, comment, enabled, total in rows}
    found: list[str] = []
    for function, section in wanted.items():
        comment, enabled, total = installed.get(function, (None, 0, 0))
        if total < _TRIGGERS_PER_TABLE:
            found.append(f"the triggers of cdc_sync.{function} are not installed")
        elif enabled < _TRIGGERS_PER_TABLE:
            found.append(f"triggers of cdc_sync.{function} are disabled")
        elif comment != installed_as(section):
            found.append(f"cdc_sync.{function} was installed by another version or configuration")
    return found


def installed_as(section: str) -> str:
    """The comment that a rendered section gives its function."""
    mark = "IS 'cdc-sync "
    return section[section.rindex(mark) + len("IS '") :].rstrip().rstrip(";").rstrip("'")
