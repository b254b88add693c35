"""`cdc-sync labels`: the ATS's labels, and what is sent for each."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import typer
from psycopg import sql
from rich.table import Table

from cdc_sync.cli.console import console
from cdc_sync.cli.context import JsonOption, WatchOption, chosen, configured, print_json
from cdc_sync.config import Config
from cdc_sync.config.rules import watch_rules
from cdc_sync.core.findings import Finding
from cdc_sync.core.hellowork_statuses import MEANINGS, is_bare_number, meant
from cdc_sync.core.rows import map_status
from cdc_sync.core.rules import StatusRules
from cdc_sync.source.connection import asking, connected
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

_NOTHING = {
    "ignore": "nothing (status.unmapped)",
    "dead-letter": "nothing: a dead letter",
    "skip": "nothing: a row without a status cannot be reported",
}


def labels(context: typer.Context, watch: WatchOption = None, as_json: JsonOption = False) -> None:
    """Show each label of the status column, how many rows have it, and what is sent for it. Reads no other column."""
    config = configured(context)
    found = asyncio.run(labels_of(config.database.dsn.get_secret_value(), config, chosen(config, watch)))
    if as_json:
        print_json(found)
    else:
        show_labels(found)


async def labels_of(dsn: str, config: Config, names: Iterable[str]) -> list[dict[str, Any]]:
    """The labels of watches' statuses, each's most frequent first, then those of status.map that no row has.

    Raises:
        SourceError: they cannot be read.
    """
    found: list[dict[str, Any]] = []
    async with connected(dsn) as connection:
        for name in names:
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
            in_order = sorted(counts.items(), key=lambda counted: (-counted[1], counted[0]))
            found += [_item(name, rules, *counted) for counted in in_order]
            found += [_item(name, rules, label, 0) for label in rules.map if label not in counts]
    return found


def _item(watch: str, rules: StatusRules, label: str, rows: int) -> dict[str, Any]:
    action, sent = "ignore", None
    if (mapped := map_status(rules, label)) is not None:
        action = "dead-letter" if mapped.refused is not None else "send" if mapped.status else "skip"
        sent = mapped.status if action == "send" else None
    return {
        "watch": watch,
        "label": label,
        "rows": rows,
        "action": action,
        "sent": sent,
        "mapped": label in rules.map,
        "hellowork_status": sent in MEANINGS,
    }


def show_labels(found: list[dict[str, Any]]) -> None:
    """Print labels as a table."""
    table = Table("watch", "label", "rows", "sent", "in status.map", "remark")
    for item in found:
        remarks = [] if item["rows"] else ["no row has it"]
        if item["hellowork_status"]:
            remarks.append("HelloWork's own")
        elif item["sent"] and (code := meant(item["sent"])):
            remarks.append(f"HelloWork writes {code}")
        label, sent = item["label"] or "(NULL or blank)", item["sent"] or _NOTHING[item["action"]]
        mapped = "yes" if item["mapped"] else ""
        table.add_row(item["watch"], label, str(item["rows"]), sent, mapped, "; ".join(remarks))
    console.print(table)


def judged(watch: str, found: list[dict[str, Any]]) -> Finding:
    """Whether each label of status.map is a row's, and no row's number is sent as it is."""
    there = [item["label"] for item in found if item["rows"]]
    absent = [item["label"] for item in found if not item["rows"]]
    sent = [item["label"] for item in found if item["rows"] and not item["mapped"] and item["action"] == "send"]
    messages, remedies = list[str](), list[str]()
    if numbers := [repr(label) for label in sent if is_bare_number(label)]:
        messages.append(f"rows have numbers that are sent as they are: {', '.join(numbers[:_SHOWN])}")
        remedies.append("Read the label by an expression, or map each value in status.map.")
    if absent:
        close = {label: get_close_matches(label, there, n=1) for label in absent}
        messages.append(f"no row has these labels of status.map: {', '.join(map(repr, absent))}")
        hints = [f"{label} → {similar[0]}?" for label, similar in close.items() if similar]
        remedies += hints or ["Is each spelled as in the ATS?"]
    if messages:
        return Finding("labels", "warning", "; ".join(messages), "\n".join(remedies), watch)
    message = f"rows have {len(there)} label(s), among them every one of status.map"
    return Finding("labels", "ok", message, None, watch)
