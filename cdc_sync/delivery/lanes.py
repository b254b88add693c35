"""Which lanes of the outbox are to be read, when, and how much of each.

A lane is an endpoint and a watch. An endpoint has room in memory for its part of eight times `concurrency` entries; one
that admits no call keeps its probe alone. The lanes of an endpoint take turns.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cdc_sync.core.outbox import Lane
from cdc_sync.core.replies import Admission
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
    """

    endpoints: Endpoints
    may_send: Callable[[str], bool]
    unread: dict[Lane, int] = field(default_factory=dict)
    share: int = 0

    def read_at(self, lane: Lane, at: int) -> None:
        """Read a lane at that time, or earlier. A time beyond the horizon comes from a wrong clock: at once."""
        if at > self.endpoints.clock() + self.endpoints.settings.horizon:
            at = AT_ONCE
        if at <= self.endpoints.until:
            self.unread[lane] = min(at, self.unread.get(lane, at))

    def next_at(self) -> float:
        """When a lane is due, or its endpoint admits calls again, of those that wait for their time."""
        now = self.endpoints.clock()
        lanes = [(lane, at) for lane, at in self.unread.items() if not self.waits(lane)]
        times = [max(at, self.endpoints.of(lane).health.until) for lane, at in lanes]
        return min((at for at in times if at > now), default=math.inf)

    def waits(self, lane: Lane) -> bool:
        """Whether a lane's watch is withheld, or its account is not configured."""
        endpoint, watch = lane
        return not (self.may_send(watch) and self.endpoints.is_configured(endpoint))

    def admits(self, lane: Lane) -> Admission:
        """What may be sent of a lane now."""
        return "none" if self.waits(lane) else self.endpoints.admits(self.endpoints.of(lane))

    def limits(self, loaded: Collection[Endpoint]) -> dict[Lane, int]:
        """How much to read now; `loaded` endpoints have entries in memory."""
        now, due = self.endpoints.now(), defaultdict[Endpoint, list[Lane]](list)
        for lane, at in self.unread.items():
            if at <= now and self.admits(lane) != "none":
                due[self.endpoints.of(lane)].append(lane)
        room = _ROOM * self.endpoints.settings.concurrency
        self.share = max(room // max(len({*due, *loaded}), 1), _LEAST)
        limits = dict[Lane, int]()
        for endpoint, lanes in due.items():
            if room := self._room(endpoint):
                limits.update(dict.fromkeys(lanes[:room], max(room // len(lanes), 1)))
        return limits

    def _room(self, endpoint: Endpoint) -> int:
        """For how many entries of an endpoint; none while half of its share is taken: few cost as much as many."""
        if self.endpoints.admits(endpoint) == "probe":
            return 0 if endpoint.ready else 1
        room = self.share - len(endpoint.ready)
        return 0 if 2 * room < self.share else room
