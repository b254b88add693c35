"""Reports changes in what is wrong with the templates' tenants."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cdc_sync.ats.discovery import Discovery
from cdc_sync.config import Config
from cdc_sync.config.tenants import unused_overrides
from cdc_sync.core import events
from cdc_sync.core.watch_names import SEPARATOR

LOOK_FOR_TENANTS = 30.0
"""Seconds between two looks: a new customer's first application takes longer."""

LOOK_AGAIN = 5.0
"""Seconds until the next look after a database could not be queried."""


@dataclass(slots=True)
class TenantNews:
    """The findings of the last look for tenants.

    Attributes:
        observe: receives the problems and their ends.
        refused: why tenants have no watch, by the watch's name.
    """

    observe: events.Emit
    refused: Mapping[str, str] = field(default_factory=dict, init=False)
    _unasked: Mapping[str, str] = field(default_factory=dict, init=False)
    _empty: Collection[str] = field(default=(), init=False)
    _unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict, init=False)

    def report(self, found: Discovery) -> Config:
        """Report the changes since the last look; returns the configuration."""
        config = found.config
        unasked = {database: error.message for database, error in found.unasked.items()}
        for watch, message in _news(self.refused, found.refused):
            self.observe(events.TenantRefused(watch, message))
        for watch in self.refused.keys() - found.refused.keys():
            self.observe(events.TenantAccepted(watch))
        for database, message in _news(self._unasked, unasked):
            self.observe(events.TenantsUnknown(database, message))
        for database in self._unasked.keys() - unasked.keys():
            self.observe(events.TenantsKnown(database))
        has_tenants = {name.partition(SEPARATOR)[0] for name in (*config.watches, *found.refused)}
        empty = () if unasked else [name for name in config.templates if name not in has_tenants]
        for template in empty:
            if template not in self._empty:
                self.observe(events.TenantsMissing(template))
        unused = {} if unasked else unused_overrides(config, (*config.watches, *found.refused))
        for template, tenants in unused.items():
            if self._unused.get(template) != tenants:
                self.observe(events.OverridesUnused(template, tenants))
        self.refused, self._unasked, self._empty, self._unused = found.refused, unasked, empty, unused
        return config


def look_after(found: Discovery) -> float:
    """Seconds until the next look."""
    return LOOK_AGAIN if found.unasked else LOOK_FOR_TENANTS


def _news(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, message) for name, message in now.items() if before.get(name) != message]
