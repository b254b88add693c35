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
        mode: how the daemon captures.
        seconds: how long things happen, without start and settling.
        seed: of the plan.
        writers: sessions of the ATS.
        store: a file, or the ATS's database, which is restarted and cut off.
    """

    mode: Mode = "notify"
    seconds: float = 120
    seed: int = 0
    writers: int = 4
    store: Backend = "sqlite"

    def chance(self, part: str) -> random.Random:
        """The generator of one part."""
        return random.Random(f"{self.seed}/{part}")  # noqa: S311 - repeatable, not secret
