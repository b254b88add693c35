"""Which schemas of a database have a template's table."""

from collections.abc import Mapping

from cdc_sync.config.watch import Watch
from cdc_sync.core.identifiers import usable
from cdc_sync.source.connection import Connection, rows_of
from cdc_sync.source.expressions import catalog
from cdc_sync.source.facts import asking_shortly

_KINDS = "rpvmf"
"""Kinds of relations that can be read."""


async def schemas_of_tenants(connection: Connection, templates: Mapping[str, Watch]) -> list[tuple[str, str]]:
    """The schemas of tenants, each with its template's name, by one statement.

    The catalog shows them to every role: also a tenant with a table that the role may not read, which its watch
    reports.
    """
    patterns = {name: template.for_each.schemas for name, template in templates.items() if template.for_each}
    parameters = {
        "templates": list(patterns),
        "patterns": list(patterns.values()),
        "tables": [templates[name].table.name for name in patterns],
        "kinds": list(_KINDS),
    }
    async with asking_shortly(connection, "looking for tenants"):
        rows = await rows_of(connection, catalog("tenants"), parameters)
    return [(template, schema) for template, schema in rows if usable(schema)]
