"""Looks for the templates' tenants, and reports changes in what is wrong with them."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from cdc_sync.ats.connection import Pool
from cdc_sync.ats.discovery import Discovery, discover
from cdc_sync.config import Config
from cdc_sync.config.tenants import unused_overrides
from cdc_sync.core import events
from cdc_sync.core.watch_names import SEPARATOR
from cdc_sync.daemon.lasting import Lasting

LOOK_FOR_TENANTS = 30.0
"""Seconds between two looks: a new customer's first application takes longer."""

LOOK_AGAIN = 5.0
"""Seconds until the next look after a database could not be queried."""


class Tenants:
    """The findings of the last look for tenants.

    Attributes:
        look_at: when to look again, by the event loop's clock.
        refused: the watches of tenants that have none.
    """

    def __init__(self, emit: events.Emit) -> None:
        self.look_at = 0.0
        self.refused: Collection[str] = ()
        self._refused = Lasting(emit, events.TenantAccepted)
        self._unknown = Lasting(emit, events.TenantsKnown)
        self._missing = Lasting(emit)
        self._unused = Lasting(emit)

    async def look(
        self, config: Config, known: Iterable[str], pools: Mapping[str, Pool] = MappingProxyType({})
    ) -> Config:
        """The configuration with its present tenants; see `discover`."""
        found = await discover(config, known, pools)
        self.look_at = asyncio.get_running_loop().time() + (LOOK_AGAIN if found.unasked else LOOK_FOR_TENANTS)
        return self.report(found)

    def report(self, found: Discovery) -> Config:
        """Report the changes since the last look; returns the configuration."""
        config, self.refused = found.config, found.refused.keys()
        self._refused.are({watch: events.TenantRefused(watch, why) for watch, why in found.refused.items()})
        self._unknown.are({name: events.TenantsUnknown(name, error.message) for name, error in found.unasked.items()})
        if found.unasked:
            return config
        watches = (*config.watches, *found.refused)
        with_tenants = {name.partition(SEPARATOR)[0] for name in watches}
        self._missing.are({name: events.TenantsMissing(name) for name in config.templates if name not in with_tenants})
        unused = unused_overrides(config, watches)
        self._unused.are({name: events.OverridesUnused(name, tenants) for name, tenants in unused.items()})
        return config
