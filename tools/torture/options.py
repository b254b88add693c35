"""A run's options."""

import random
from dataclasses import dataclass
from typing import Literal

Mode = Literal["notify", "poll"]
Backend = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes.

    Attributes:
        mode: how the daemons capture.
        seconds: how long things happen, without start and settling.
        seed: of the plan.
        store: a file, or the ATS's database, which is restarted and cut off; on several hosts a server of its own.
        hosts: whether there are three daemons, each on a host.
        faults: some of `faults.ON_HOSTS`; a single daemon has all of `faults.ALONE`.
        tenants: schemas with a table each, watched by a template; 0: one table, no template; on several hosts.
    """

    mode: Mode = "notify"
    seconds: float = 120
    seed: int = 0
    store: Backend = "sqlite"
    hosts: bool = False
    faults: frozenset[str] = frozenset()
    tenants: int = 0

    @property
    def replicas(self) -> bool:
        """Whether daemons read the ATS's standbys."""
        return self.mode == "poll" and "lag" in self.faults

    def chance(self, part: str) -> random.Random:
        """The generator of one part."""
        return random.Random(f"{self.seed}/{part}")  # noqa: S311 - repeatable, not secret
