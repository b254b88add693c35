"""What can be chosen about a run."""

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
"""What can befall a run; see `faults` for the meaning of each."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How a run is asked for.

    Attributes:
        common: mode, seconds, seed and writers.
        faults: which of `FAULTS` happen.
        watches: how many watches share the table's rows, and the daemons the watches.
        tenants: how many schemas have a table each, which a template watches; 0 for one table and no template. The last
            daemon then joins the others while they work.
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
        """Whether the ATS has standbys, and daemons that read from them."""
        return self.mode == "poll" and "lag" in self.faults
