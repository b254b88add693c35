"""Finds the tenants, and with them the configuration that the daemon and the commands use."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from cdc_sync.config import Config, Watch
from cdc_sync.config.tenants import Tenant, expanded, tenants_named

from .connection import Pool, asking, connected
from .errors import SourceError, refused_by_system
from .facts import schemas_of_tenants

_WITHIN = 10.0
"""Seconds."""

_LOOKING = "looking for tenants"


class Discovery(NamedTuple):
    """The result of a look for tenants.

    Attributes:
        refused: why some tenants have no watch, by the watch's name.
        unasked: why databases could not be queried, by name.
    """

    config: Config
    refused: Mapping[str, str]
    unasked: Mapping[str, SourceError]


async def discover(
    config: Config, known: Iterable[str] = (), pools: Mapping[str, Pool | None] = MappingProxyType({})
) -> Discovery:
    """Look for the tenants of a configuration's templates: one statement for each database with tenant schemas.

    If a database cannot be queried, its `known` watches stay. Databases without a pool get a connection.
    """
    earlier, found = tenants_named(config, known), defaultdict[str, list[Tenant]](list)
    asked = defaultdict[str, dict[str, Watch]](dict)
    unasked: dict[str, SourceError] = {}
    for name, template in config.templates.items():
        for database in config.databases_of(template):
            if template.tenants.schemas is not None:
                asked[database][name] = template
            else:
                found[name].append(Tenant(database, None))

    async def look(database: str) -> None:
        templates = asked[database]
        try:
            answer = await _ask(config.dsn_of(database), pools.get(database), templates)
        except (SourceError, OSError) as error:
            unasked[database] = error if isinstance(error, SourceError) else refused_by_system(error)
            for name in templates:
                found[name] += [tenant for tenant in earlier[name] if tenant.database in (None, database)]
            return
        for name, schema in answer:
            found[name].append(Tenant(database if templates[name].tenants.databases else None, schema))

    await asyncio.gather(*map(look, asked))
    with_tenants, refused = expanded(config, found, config.reveal)
    return Discovery(with_tenants, refused, unasked)


async def _ask(dsn: str, pool: Pool | None, templates: Mapping[str, Watch]) -> list[tuple[str, str]]:
    ask = partial(schemas_of_tenants, templates=templates)
    # With connecting and waiting for a lock: a start, a reload and the end wait for this.
    async with asking(_LOOKING, _WITHIN):
        if pool is not None:
            return await pool.ask(_LOOKING, ask)
        async with connected(dsn) as connection:
            return await ask(connection)
