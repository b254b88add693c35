"""The side table of HelloWork's ids for an ATS without them: its script."""

from collections.abc import Sequence
from typing import NamedTuple

from psycopg import sql

from cdc_sync import own_path
from cdc_sync.config import Watch
from cdc_sync.config.yaml_text import block
from cdc_sync.core.identifiers import LONGEST, QualifiedName, written
from cdc_sync.core.visible import visible

from .expressions import SideTable, composed, name, render, side_table, template
from .scripts import granting
from .statements import id_in_url

_SUFFIX = "_hellowork"


class IdTable(NamedTuple):
    """Where a watch has HelloWork's ids, or could have (not `is_configured`), and maybe status URLs."""

    side: SideTable
    url: str | None
    is_configured: bool

    @classmethod
    def of(cls, watch: Watch) -> "IdTable":
        """The table that the watch reads, else the one that it could have."""
        side = side_table(watch, watch.columns.application_id)
        if side is None:
            name = watch.table.name.encode()[: LONGEST - len(_SUFFIX)].decode(errors="ignore") + _SUFFIX
            side = SideTable(QualifiedName(watch.table.schema, name), "hellowork_id", watch.key)
            return cls(side, "status_url", is_configured=False)
        url = side_table(watch, watch.columns.status_url)
        has_url = url is not None and (url.table, url.key) == (side.table, side.key)
        return cls(side, url.column if url is not None and has_url else None, is_configured=True)

    def configuration(self, watch: Watch) -> str:
        """The watch's keys for this table, as YAML."""
        keys = zip(self.side.key, watch.key, strict=True)
        on = " AND ".join(f"h.{written(own)} = t.{written(key)}" for own, key in keys)
        looked_up = "(SELECT h.{column} FROM {table} h WHERE {on})"
        columns = {"application_id": self.side.column, "status_url": self.url}
        mapped = {
            field: {
                "sql": looked_up.format(column=written(column), table=self.side.table, on=on),
                "depends_on": list(map(written, watch.key)),  # YAML would refer to the same list
            }
            for field, column in columns.items()
            if column is not None
        }
        related = [{"table": str(self.side.table), "key": list(map(written, self.side.key))}]
        return block({"columns": mapped, "related": related})


def script(watch: Watch, role: str) -> str:
    """The script that creates a watch's side table, for the daemon's role to read."""
    ids = IdTable.of(watch)
    to_fill = granting(ids.side.table, "SELECT, INSERT, UPDATE", (), sql.Identifier("the_writer"))
    daemon_reads = (*ids.side.key, ids.side.column, *([] if ids.url is None else [ids.url]))
    granted = granting(ids.side.table, "SELECT", daemon_reads, sql.Identifier(role))
    made = render(
        template("id_table.sql"),
        **_statements(ids, watch.key),
        side=sql.SQL(visible(str(ids.side.table))),
        watched=sql.SQL(visible(str(watch.table))),
        writer=sql.SQL("\n".join(f"--             {visible(line)}" for line in to_fill)),
        begin=sql.SQL(own_path.begin([watch.table, ids.side.table])),
        watched_name=own_path.existing(watch.table),
        side_name=own_path.new_name(ids.side.table),
        side_oid=own_path.oid_of(ids.side.table),
        grants=sql.SQL(own_path.naming(ids.side.table, "\n".join(granted)).rstrip()),
    )
    if ids.is_configured:
        return made
    wanted = "".join(f"--   {visible(line)}\n" for line in ids.configuration(watch).splitlines())
    return f"{made}\n-- In the watch's configuration, then `cdc-sync sql install` once more in notify mode:\n{wanted}"


def _statements(ids: IdTable, watched_key: Sequence[str]) -> dict[str, str]:
    """What makes the table, as formats for `format()`: the first %s is the side table, the other the watched one."""
    value, key, own_key = name(ids.side.column), [*map(name, ids.side.key)], [*map(name, watched_key)]
    columns = [composed("{} AS {}", own, side) for own, side in zip(own_key, key, strict=True)]
    columns.append(composed("''::text AS {}", value))
    alter = composed("ALTER TABLE %s ADD PRIMARY KEY ({}), ALTER {} SET NOT NULL, ADD UNIQUE ({})", key, value, value)
    if ids.url is not None:
        url = name(ids.url)
        columns.append(composed("''::text AS {}", url))
        alter = composed("{}; CREATE INDEX ON %1$s ({})", alter, id_in_url(url))
    refers = "ALTER TABLE %s ADD FOREIGN KEY ({}) REFERENCES %s ({}) ON UPDATE CASCADE ON DELETE CASCADE"
    return {
        "create": composed("CREATE TABLE %s AS SELECT {} FROM %s WITH NO DATA", columns).as_string(),
        "alter": alter.as_string(),
        "refer": composed(refers, key, own_key).as_string(),
    }
