"""What can be chosen about a run."""

import random
from dataclasses import dataclass
from typing import Literal

Mode = Literal["notify", "poll"]
Backend = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is asked for.

    Attributes:
        mode: how the daemon captures.
        seconds: how long things happen; the start and the settling come on top.
        seed: makes one plan differ from another.
        writers: sessions of the ATS at work.
        store: where the daemon keeps its state: a file, or the ATS's database, which then is restarted and cut off.
    """

    mode: Mode = "notify"
    seconds: float = 120
    seed: int = 0
    writers: int = 4
    store: Backend = "sqlite"

    def chance(self, part: str) -> random.Random:
        """The generator of one part: what it draws depends on no other part."""
        return random.Random(f"{self.seed}/{part}")  # noqa: S311 - repeatable, not secret
