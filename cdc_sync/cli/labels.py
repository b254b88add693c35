"""`cdc-sync labels`: the ATS's labels, and what is sent for each."""

import asyncio
from collections import Counter
from difflib import get_close_matches
from typing import Any

import typer
from psycopg import sql
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, invocation, no_such_watch, print_json
from cdc_sync.config import Config
from cdc_sync.config.rules import watch_rules
from cdc_sync.core.findings import Finding
from cdc_sync.core.hellowork_statuses import MEANINGS, is_bare_number, meant
from cdc_sync.core.rows import map_status
from cdc_sync.core.rules import StatusRules
from cdc_sync.source.connection import Connection, asking, connected
from cdc_sync.source.facts import table_facts
from cdc_sync.source.mapping import Mapping

_MOST = 1_000
"""Labels of a watch beside those of status.map, the most frequent ones: a column with more is no status."""

_SHOWN = 10
"""So many numbers are named."""

_COUNT = """
SELECT * FROM (SELECT {label} AS label, pg_catalog.count(*) AS number FROM {table} WHERE {scope} GROUP BY 1) AS counted
 ORDER BY coalesce(pg_catalog.btrim(label::text), '') = '' OR label::text = ANY ({mapped}::text[]) DESC, number DESC
 LIMIT {most}
"""


def labels(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show each label of the status column, how many rows have it, and what is sent for it. Reads no other column."""
    config = invocation(context).config()
    if watch is not None and watch not in config.watches:
        raise no_such_watch(config, watch)
    found = asyncio.run(_labels(config, [watch] if watch else list(config.watches)))
    if as_json:
        print_json(found)
    else:
        show_labels(found)


async def _labels(config: Config, names: list[str]) -> list[dict[str, Any]]:
    async with connected(config.database.dsn.get_secret_value()) as connection:
        return [item for name in names for item in await labels_of(connection, config, name)]


async def labels_of(connection: Connection, config: Config, name: str) -> list[dict[str, Any]]:
    """The labels of a watch's status, the most frequent first, then those of status.map that no row has.

    Raises:
        SourceError: they cannot be read.
    """
    watch, rules = config.watches[name], watch_rules(config, name).status
    mapping = await Mapping.prepare(connection, watch, await table_facts(connection, watch.table))
    query = sql.SQL(_COUNT).format(
        label=mapping.expressions["columns.status"],
        table=mapping.table,
        scope=mapping.scope,
        mapped=sql.Literal(list(rules.map)),
        most=_MOST + len(rules.map),
    )
    async with asking(f"counting the labels of {watch.table}"):
        rows = await (await connection.execute(query)).fetchall()
    counts: Counter[str] = Counter()
    for label, number in rows:
        # As `map_status` has it: NULL and blanks are one label.
        counts["" if label is None or label.isspace() else label] += number
    found = [_item(name, rules, label, number) for label, number in sorted(counts.items(), key=_by_rows)]
    return found + [_item(name, rules, label, 0) for label in rules.map if label not in counts]


def show_labels(found: list[dict[str, Any]]) -> None:
    """Print labels as a table."""
    table = Table("watch", "label", "rows", "sent", "in status.map", "remark")
    for item in found:
        sent = item["sent"] or {"ignore": "nothing (status.unmapped)", "dead-letter": "nothing: a dead letter"}.get(
            item["action"], "nothing: a row without a status cannot be reported"
        )
        label = item["label"] or "(NULL or blank)"
        table.add_row(item["watch"], label, str(item["rows"]), sent, "yes" if item["mapped"] else "", _remark(item))
    console.print(table)


def judged(watch: str, found: list[dict[str, Any]]) -> Finding:
    """Whether each label of status.map is a row's, and no row's number is sent as it is."""
    there = [item["label"] for item in found if item["rows"]]
    absent = [item["label"] for item in found if not item["rows"]]
    sent = [item["label"] for item in found if item["rows"] and not item["mapped"] and item["action"] == "send"]
    numbers = [label for label in sent if is_bare_number(label)]
    messages, remedies = list[str](), list[str]()
    if numbers:
        messages.append(f"rows have numbers that are sent as they are: {', '.join(map(repr, numbers[:_SHOWN]))}")
        remedies.append("Read the label by an expression, or map each value in status.map.")
    if absent:
        close = {label: get_close_matches(label, there, n=1) for label in absent}
        hints = [f"{label} → {similar[0]}?" for label, similar in close.items() if similar]
        messages.append(f"no row has these labels of status.map: {', '.join(map(repr, absent))}")
        remedies += hints or ["Is each spelled as in the ATS?"]
    if messages:
        return Finding("labels", "warning", "; ".join(messages), "\n".join(remedies), watch)
    message = f"rows have {len(there)} label(s), among them every one of status.map"
    return Finding("labels", "ok", message, None, watch)


def _by_rows(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]


def _item(watch: str, rules: StatusRules, label: str, rows: int) -> dict[str, Any]:
    mapped = map_status(rules, label)
    if mapped is None:
        action = "ignore"
    elif mapped.refused is not None:
        action = "dead-letter"
    else:
        action = "send" if mapped.status else "skip"
    sent = mapped.status if mapped is not None and action == "send" else None
    return {
        "watch": watch,
        "label": label,
        "rows": rows,
        "action": action,
        "sent": sent,
        "mapped": label in rules.map,
        "hellowork_status": sent in MEANINGS,
    }


def _remark(item: dict[str, Any]) -> str:
    remarks = []
    if item["rows"] == 0:
        remarks.append("no row has it")
    if item["hellowork_status"]:
        remarks.append("HelloWork's own")
    elif item["sent"] and (code := meant(item["sent"])):
        remarks.append(f"HelloWork writes {code}")
    return "; ".join(remarks)
