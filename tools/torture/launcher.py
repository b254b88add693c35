"""`cdc-sync` with pages of a few rows, or with death at a named point of the pipeline.

Usage: python -m torture.launcher LIFE ARGUMENTS… LIFE is JSON (see `Life`), the arguments are those of `cdc-sync`. The
texts of `cdc_sync.ats` and `cdc_sync.store` state the costs of a crash at each point. The product's
methods are wrapped here.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial, wraps
from typing import Any

from cdc_sync.ats.intake import Steps, WatchParts
from cdc_sync.ats.notify import ChangeLog, Changes
from cdc_sync.cli import main
from cdc_sync.core.batch import Applied
from cdc_sync.daemon import watching
from cdc_sync.delivery.client import Client
from cdc_sync.store.capture import Capture
from cdc_sync.store.delivery import Delivery

Strike = Callable[[], None]
Method = Callable[..., Awaitable[Any]]

_LATEST_PASSAGE = 40

_SMALL = Steps(adopted=40, confirmed=5, drained=7, polled=23, compared=31, searched=50)
"""Pages that give a small table as many borders as a big one has."""


def _doomed(method: Method, strike: Strike, *, before: bool) -> Method:
    """The method, with a strike before or after it, but not after an empty batch."""

    @wraps(method)
    async def doomed(*arguments: Any, **named: Any) -> Any:
        if before:
            strike()
        result = await method(*arguments, **named)
        is_empty = result in ([], Applied()) or any(isinstance(each, Changes) and not each.number for each in arguments)
        if not (before or is_empty):
            strike()
        return result

    return doomed


POINTS: Mapping[str, tuple[type, str, bool]] = {
    "read, not recorded": (Capture, "apply", True),
    "recorded, not consumed": (Capture, "apply", False),
    "consumed": (ChangeLog, "delete", False),
    "read, not called": (Delivery, "due", False),
    "called": (Client, "call", False),
    "answered, not finished": (Delivery, "complete", True),
    "finished": (Delivery, "complete", False),
}
"""Points of death: a class, its method, and whether before it."""


@dataclass(frozen=True, slots=True)
class Life:
    """The daemon's life.

    Attributes:
        small: whether pages have a few rows.
        point: where it kills itself with -9, if anywhere.
        passage: at the Nth passage there.
    """

    small: bool = False
    point: str | None = None
    passage: int = 1

    @classmethod
    def drawn(cls, chance: random.Random) -> "Life":
        small, doomed = chance.random() < 0.5, chance.random() < 0.4
        point, passage = chance.choice(tuple(POINTS)), 1 + int(_LATEST_PASSAGE * chance.random() ** 3)
        return cls(small, point if doomed else None, passage)

    @property
    def command(self) -> list[str]:
        """The module and its first arguments."""
        return ["cdc_sync"] if self == Life() else ["torture.launcher", json.dumps(asdict(self))]

    def lead(self) -> None:
        """Give this process that life."""
        if self.small:
            setattr(watching, WatchParts.__name__, partial(WatchParts, steps=_SMALL))
        if self.point is not None:
            owner, name, before = POINTS[self.point]
            setattr(owner, name, _doomed(getattr(owner, name), _strike_at(self.passage), before=before))


def _strike_at(passage: int) -> Strike:
    left = passage

    def strike() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


if __name__ == "__main__":
    Life(**json.loads(sys.argv.pop(1))).lead()
    main()
