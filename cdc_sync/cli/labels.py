"""`cdc-sync labels`: of the ATS's status column."""

from collections import Counter

import typer
from psycopg import sql

from cdc_sync.admin.watches import Json
from cdc_sync.ats.connection import asking, connected, rows_on_own_path
from cdc_sync.ats.facts import table_facts
from cdc_sync.ats.mapping import Mapping
from cdc_sync.cli.console import print_table
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json, with_tenants
from cdc_sync.config import Config
from cdc_sync.config.meanings import code_meant
from cdc_sync.config.models import watch_rules
from cdc_sync.core.rows import StatusRules, map_status

_MOST = 1_000
"""Most labels of a watch beside status.map's: a column with more is no status."""

_COUNT = """
SELECT * FROM (SELECT {label} AS label, pg_catalog.count(*) AS number FROM {table} WHERE {scope} GROUP BY 1) AS counted
 ORDER BY coalesce(pg_catalog.btrim(label::text), '') OPERATOR(pg_catalog.=) ''
          OR label::text OPERATOR(pg_catalog.=) ANY (%s::text[]) DESC, number DESC
 LIMIT {most}
"""

_NOTHING = {
    "ignore": "nothing (status.unmapped)",
    "dead-letter": "nothing: a dead letter",
    "skip": "nothing: a row without a status cannot be reported",
}
"""What the table shows instead of a status, by the action."""


async def labels(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show each label of the status column, how many rows have it, and what is sent for it. Reads no other column."""
    config = await with_tenants(configured(context), watch)
    found = [item for name in chosen(config, watch) for item in await _labels_of(config, name)]
    if as_json:
        print_json(found)
    else:
        print_table(("watch", "label", "rows", "sent", "in status.map", "remark"), map(_cells, found))


async def _labels_of(config: Config, name: str) -> list[Json]:
    """A watch's labels, the most frequent first, status.map's without rows last. Raises `SourceError`."""
    watch, rules = config.watches[name], watch_rules(config, name).status
    database = config.all_databases[config.database_name(name)]
    async with connected(database.dsn.get_secret_value()) as connection:
        mapping = await Mapping.prepare(connection, watch, await table_facts(connection, watch.table))
        label, most = mapping.expressions["columns.status"], _MOST + len(rules.map)
        query = sql.SQL(_COUNT).format(label=label, table=mapping.table, scope=mapping.scope, most=most)
        async with asking(f"counting the labels of {watch.table}"):
            rows = await rows_on_own_path(connection, query, (list(rules.map),))
    counts = Counter(dict.fromkeys(rules.map, 0))
    for text, number in rows:
        # As in `map_status`, NULL and blanks are one label.
        counts["" if text is None or text.isspace() else text] += number
    in_order = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
    return [{"watch": name, **_item(rules, *counted)} for counted in in_order]


def _item(rules: StatusRules, label: str, rows: int) -> Json:
    action, sent, mapped = "ignore", None, map_status(rules, label)
    if mapped is not None:
        status, refused = mapped
        action = "dead-letter" if refused is not None else "send" if status else "skip"
        sent = status if action == "send" else None
    return {"label": label, "rows": rows, "action": action, "sent": sent, "mapped": label in rules.map}


def _cells(item: Json) -> tuple[object, ...]:
    label, sent = item["label"] or "(NULL or blank)", item["sent"] or _NOTHING[item["action"]]
    code = item["sent"] and code_meant(item["sent"])
    remark = f"HelloWork writes {code}" if code else None if item["rows"] else "no row has it"
    return item["watch"], label, item["rows"], sent, "yes" if item["mapped"] else "", remark
