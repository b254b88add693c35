"""Which lanes of the outbox are to be read, when, and how much of each.

A lane is an endpoint and a watch. An endpoint has room in memory for its part of eight times `concurrency` entries; one
that admits no call keeps its probe alone. The lanes of an endpoint take turns.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from cdc_sync.core.outbox import Lane
from cdc_sync.delivery.endpoints import Endpoint, Endpoints

_ROOM = 8
"""Times `concurrency`: entries in memory whose calls have not begun."""

_LEAST = 2
"""An endpoint's share of the room, however many there are."""

AT_ONCE = 0
"""An early time."""


@dataclass(slots=True)
class Lanes:
    """See the module's text.

    Attributes:
        may_send: whether a watch may send now.
        unread: when to read each lane, in the order of their turns.
        share: of the room, for each endpoint.
        more_due: whether something is due that had no room.
        next_at: when something else is due.
    """

    endpoints: Endpoints
    may_send: Callable[[str], bool]
    unread: dict[Lane, int] = field(default_factory=dict)
    share: int = 0
    more_due: bool = False
    next_at: float = math.inf

    def read_at(self, lane: Lane, at: int) -> None:
        """Read a lane at that time, or earlier."""
        self.unread[lane] = min(at, self.unread.get(lane, at))
        self.next_at = min(self.next_at, at)

    def is_unread(self, lane: Lane, now: int) -> bool:
        """Whether something of a lane is due that was not read."""
        return self.unread.get(lane, math.inf) <= now

    def is_low(self, endpoint: Endpoint) -> bool:
        """Whether to read more for an endpoint."""
        return self.more_due and 2 * len(endpoint.ready) <= self.share

    def waits(self, lane: Lane) -> bool:
        """Whether a lane sends nothing now."""
        endpoint, watch = lane
        return not (self.may_send(watch) and self.endpoints.is_configured(endpoint))

    def now(self) -> int:
        """Until when entries are due."""
        return min(self.endpoints.clock(), self.endpoints.until)

    def limits(self, loaded: Collection[Endpoint]) -> dict[Lane, int]:
        """How much to read now; `loaded` endpoints have entries in memory."""
        now, due = self.now(), defaultdict[Endpoint, list[Lane]](list)
        self.next_at, self.more_due = math.inf, False
        for lane, at in self.unread.items():
            if self.waits(lane):
                continue
            if self._is_due(at, now):
                due[self.endpoints.of(lane)].append(lane)
            elif at <= self.endpoints.until:
                self.next_at = min(self.next_at, at)
        room = _ROOM * self.endpoints.settings.concurrency
        self.share = max(room // max(len({*due, *loaded}), 1), _LEAST)
        return {lane: limit for endpoint, lanes in due.items() for lane, limit in self._dealt(endpoint, lanes)}

    def _dealt(self, endpoint: Endpoint, lanes: list[Lane]) -> Iterable[tuple[Lane, int]]:
        """How much to read of an endpoint's lanes: as much of each, or of the first ones.

        Nothing while half of its share is in memory: small reads cost as much as large ones.
        """
        now = self.endpoints.clock()
        admitted = self.endpoints.admits(endpoint, now)
        if admitted == "none":
            if now < endpoint.health.until <= self.endpoints.until:
                self.next_at = min(self.next_at, endpoint.health.until)
            return ()
        room = self.share - len(endpoint.ready)
        if admitted == "probe":
            room = 0 if endpoint.ready else 1
        elif 2 * room < self.share:
            self.more_due = True
            return ()
        limit = max(room // len(lanes), 1)
        return [(lane, limit) for lane in lanes[:room]]

    def _is_due(self, at: int, now: int) -> bool:
        return at <= now or at > self.endpoints.clock() + self.endpoints.settings.horizon
