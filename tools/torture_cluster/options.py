"""A run's options."""

from dataclasses import dataclass

from torture.options import Mode, Options

FAULTS = (
    "sink-silence",
    "database-silence",
    "store-silence",
    "partition",
    "stop",
    "kill",
    "clock",
    "lag",
    "failover",
    "lossy-failover",
    "weather",
)
"""See `faults`."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How a run goes.

    Attributes:
        common: mode, seconds, seed and writers.
        faults: some of `FAULTS`.
        watches: how many share the table's rows.
        tenants: schemas with a table each, watched by a template; 0: one table, no template.
    """

    common: Options
    faults: frozenset[str] = frozenset(FAULTS)
    watches: int = 1
    tenants: int = 0

    @property
    def mode(self) -> Mode:
        return self.common.mode

    @property
    def replicas(self) -> bool:
        """Whether daemons read the ATS's standbys."""
        return self.mode == "poll" and "lag" in self.faults
