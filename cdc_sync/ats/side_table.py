"""The side table of HelloWork's ids for an ATS without them: its script."""

from collections.abc import Sequence

from psycopg.sql import SQL, Identifier

from cdc_sync import own_path
from cdc_sync.config import Watch
from cdc_sync.config.yaml_text import block
from cdc_sync.core.identifiers import LONGEST, QualifiedName, written
from cdc_sync.core.visible import visible

from .expressions import composed, name, render, template
from .mapping import id_in_url
from .scripts import granting

_SUFFIX, _ID, _URL = "_hellowork", "hellowork_id", "status_url"


def side_table_of(watched: QualifiedName) -> QualifiedName:
    """Where HelloWork's ids, and status URLs, of a table's rows could be."""
    beginning = watched.name.encode()[: LONGEST - len(_SUFFIX)].decode(errors="ignore")
    return QualifiedName(watched.schema, beginning + _SUFFIX)


def configuration(watch: Watch) -> str:
    """The watch's keys for this table, as YAML."""
    table, key = side_table_of(watch.table), list(map(written, watch.key))
    on = " AND ".join(f"h.{name} = t.{name}" for name in key)
    mapped = {
        # YAML would refer to the same list.
        field: {"sql": f"(SELECT h.{column} FROM {table} h WHERE {on})", "depends_on": [*key]}  # noqa: S608 - for a file
        for field, column in {"application_id": _ID, "status_url": _URL}.items()
    }
    return block({"columns": mapped, "related": [{"table": str(table), "key": key}]})


def script(watch: Watch, role: str) -> str:
    """The script that creates a watch's side table, for the daemon's role to read."""
    table = side_table_of(watch.table)
    granted = granting(table, (*watch.key, _ID, _URL), Identifier(role))
    made = render(
        template("id_table.sql"),
        **_statements(watch.key),
        side=SQL(visible(str(table))),
        watched=SQL(visible(str(watch.table))),
        begin=SQL(own_path.begin([watch.table, table])),
        watched_name=own_path.existing(watch.table),
        side_name=own_path.new_name(table),
        side_oid=own_path.oid_of(table),
        grants=SQL(own_path.naming(table, "\n".join(granted)).rstrip()),
    )
    wanted = "".join(f"--   {visible(line)}\n" for line in configuration(watch).splitlines())
    return f"{made}\n-- In the watch's configuration, then `cdc-sync sql install` once more in notify mode:\n{wanted}"


def _statements(key: Sequence[str]) -> dict[str, str]:
    """What makes the table, as formats for `format()`: the first %s is the side table, the other the watched one."""
    columns = [*map(name, key)]
    copied = [*columns, *(composed("''::text AS {}", name(each)) for each in (_ID, _URL))]
    unique = "ALTER TABLE %s ADD PRIMARY KEY ({}), ALTER {} SET NOT NULL, ADD UNIQUE ({})"
    alter = composed(f"{unique}; CREATE INDEX ON %1$s ({{}})", columns, name(_ID), name(_ID), id_in_url(name(_URL)))
    refers = "ALTER TABLE %s ADD FOREIGN KEY ({}) REFERENCES %s ({}) ON UPDATE CASCADE ON DELETE CASCADE"
    return {
        "create": composed("CREATE TABLE %s AS SELECT {} FROM %s WITH NO DATA", copied).as_string(),
        "alter": alter.as_string(),
        "refer": composed(refers, columns, columns).as_string(),
    }
