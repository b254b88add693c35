"""Looks for the templates' tenants, and reports what is wrong with them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from cdc_sync.ats.connection import Pool
from cdc_sync.ats.discovery import Discovery, discover
from cdc_sync.config import Config
from cdc_sync.config.tenants import unused_overrides
from cdc_sync.core import events
from cdc_sync.core.failures import StoreError
from cdc_sync.core.watch_names import SEPARATOR
from cdc_sync.daemon.process import Process
from cdc_sync.store import Store

LOOK_FOR_TENANTS = 30.0
"""Seconds between two looks: a new customer's first application takes longer."""

LOOK_AGAIN = 5.0
"""Seconds until the next look after a database could not be queried."""


class Tenants:
    """The tenants of one configuration.

    Attributes:
        found: what the last look has found.
    """

    def __init__(self, process: Process) -> None:
        self._emit = process.emit
        self.found = Discovery(process.config, {}, {})
        self._was_complete = False
        """Whether a look has asked every database."""

    @property
    def next_look_in(self) -> float:
        """Seconds until the next look."""
        return LOOK_AGAIN if self.found.unasked else LOOK_FOR_TENANTS

    async def look_first(self, config: Config, store: Store) -> Config:
        """As `look`; the store knows earlier tenants."""
        known: Iterable[str] = ()
        with suppress(StoreError):  # capture and delivery report it
            known = await store.report.counts()
        return await self.look(config, known)

    async def look(
        self, config: Config, known: Iterable[str], pools: Mapping[str, Pool] = MappingProxyType({})
    ) -> Config:
        """The configuration with its present tenants; see `discover`.

        Reports what is wrong; of what needs no condition, only at the first complete look.
        """
        emit, before = self._emit, self.found
        self.found = found = await discover(config, known, pools)
        for watch, why in found.refused.items():
            emit(events.TenantRefused(watch, why))
        for watch in before.refused.keys() - found.refused.keys():
            emit(events.TenantAccepted(watch))
        for name, error in found.unasked.items():
            emit(events.TenantsUnknown(name, error.message))
        for name in before.unasked.keys() - found.unasked.keys():
            emit(events.TenantsKnown(name))
        if not (found.unasked or self._was_complete):
            self._was_complete = True
            self._report_unused()
        return found.config

    def _report_unused(self) -> None:
        """Report templates without a tenant, and overrides without theirs."""
        config = self.found.config
        watches = (*config.watches, *self.found.refused)
        for name in config.templates.keys() - {name.partition(SEPARATOR)[0] for name in watches}:
            self._emit(events.TenantsMissing(name))
        for name, tenants in unused_overrides(config, watches).items():
            self._emit(events.OverridesUnused(name, tenants))
