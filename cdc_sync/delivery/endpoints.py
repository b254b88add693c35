"""What each endpoint may be sent now: by its health, its pace, and its share of the calls that may be under way.

The free calls are dealt out one by one, each to the endpoint that has the fewest: one that answers slowly, or not at
all, cannot take what another could use.

One that was not healthy comes back gently: it gets one call at once, and one more for each that it answers, so that
their number doubles with each round. What has just got up is not knocked over by all that has waited for it.
"""

import math
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from cdc_sync.core.endpoint import Health, admits, with_other_credentials
from cdc_sync.delivery.pace import Pace


@dataclass(slots=True)
class Endpoint:
    """One endpoint as the sender knows it.

    Attributes:
        health: its state.
        stored: its state in the store, as we last wrote or read it; another one there is another daemon's.
        due_at: when its next entry is due, as far as is known; None if it has none.
        under_way: calls that have begun and not ended.
        last_start: when the last one began, by the monotonic clock.
        pace: when the next one may begin, by the rate limit.
        most: how many calls at once it may get while it comes back; None if as many as anybody.
    """

    health: Health
    stored: Health
    due_at: int | None = None
    under_way: int = 0
    last_start: float = -math.inf
    pace: Pace = field(default_factory=Pace)
    most: int | None = None

    def __post_init__(self) -> None:
        if self.health.mode != "healthy":
            self.most = 1

    def heed(self, health: Health, *, answered: bool) -> None:
        """Take over the health after a reply; `answered`: the reply was one of an endpoint that works."""
        if health.mode != "healthy":
            self.most = 1
        elif self.health.mode == "healthy" and answered and self.most is not None:
            self.most += 1
        self.health = health


class Endpoints:
    """Every endpoint that entries were ever queued for.

    Args:
        concurrency: calls under way at once, to all of them.
        rate: calls per second to one of them; None for no limit.
        horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
    """

    def __init__(self, concurrency: int, rate: float | None, horizon: int) -> None:
        self._concurrency = concurrency
        self._rate = rate
        self._horizon = horizon
        self._all: dict[str, Endpoint] = {}

    def __getitem__(self, name: str) -> Endpoint:
        return self._all[name]

    @property
    def under_way(self) -> int:
        """Calls that have begun and not ended."""
        return sum(endpoint.under_way for endpoint in self._all.values())

    @property
    def free(self) -> int:
        """How many more may begin."""
        return max(self._concurrency - self.under_way, 0)

    def limit(self, concurrency: int, rate: float | None, horizon: int) -> None:
        """Go on with other limits; more calls than are allowed now may be under way for a moment."""
        self._concurrency, self._rate, self._horizon = concurrency, rate, horizon

    def probe_refusing(self) -> None:
        """Let one call go out to each endpoint that refused our credentials: they may be others now."""
        for endpoint in self._all.values():
            endpoint.health = with_other_credentials(endpoint.health)

    def learn(self, found: Mapping[str, tuple[Health, int | None]], unsaved: Container[str]) -> list[str]:
        """Take over what the store knows: of health what another daemon that shares the store has written.

        Args:
            found: health and next due time, by endpoint.
            unsaved: endpoints of whose health we know better than the store.

        Returns the names of those whose mode is news: another one now, or not healthy at first sight. An address where
        nothing waits then may have been given up long ago.
        """
        news: list[str] = []
        for name, (health, due_at) in found.items():
            endpoint = self._all.get(name)
            if endpoint is None:
                endpoint = self._all[name] = Endpoint(health, stored=health)
                if health.mode != "healthy" and due_at is not None:
                    news.append(name)
            elif health != endpoint.stored and name not in unsaved:
                if health.mode != endpoint.health.mode:
                    news.append(name)
                if health.mode != "healthy":
                    # What another daemon has met comes back as gently here.
                    endpoint.most = 1
                endpoint.health = endpoint.stored = health
            endpoint.due_at = due_at
        return news

    def saved(self, written: Mapping[str, Health]) -> None:
        """The store has these states now."""
        for name, health in written.items():
            self._all[name].stored = health

    def expect(self, now: int) -> None:
        """Something was queued, nobody says for which endpoint: each may have something due, until `learn` knows."""
        for endpoint in self._all.values():
            endpoint.due_at = now if endpoint.due_at is None else min(endpoint.due_at, now)

    def begin(self, name: str) -> None:
        """A call begins."""
        now = time.monotonic()
        endpoint = self._all[name]
        endpoint.under_way += 1
        endpoint.last_start = now
        endpoint.pace.take(now, self._rate)

    def end(self, name: str) -> None:
        """A call has ended."""
        self._all[name].under_way -= 1

    def wanted(self, now: int) -> dict[str, int]:
        """How many entries to claim now for each endpoint that has some due, as far as is known."""
        moment = time.monotonic()
        allowed = {
            name: number
            for name, most in self._sendable(now).items()
            if (number := self._all[name].pace.allowance(moment, self._rate, most))
        }
        wanted: Counter[str] = Counter()
        for _ in range(self.free):
            if not allowed:
                break
            name = min(allowed, key=lambda name: (self._all[name].under_way + wanted[name], self._all[name].last_start))
            wanted[name] += 1
            if wanted[name] == allowed[name]:
                del allowed[name]
        return dict(wanted)

    def probing(self, wanted: Iterable[str], now: int) -> set[str]:
        """Those of these endpoints that get a call only to find out whether they work."""
        endpoints = ((name, self._all[name]) for name in wanted)
        return {name for name, endpoint in endpoints if admits(endpoint.health, now, endpoint.under_way) == "probe"}

    def ready_in(self, now: int) -> float:
        """Seconds until a call may begin of what is due now; infinite if time alone does not let one begin."""
        if not self.free:
            return math.inf
        moment = time.monotonic()
        return min((self._all[name].pace.wait(moment, self._rate) for name in self._sendable(now)), default=math.inf)

    def more_in(self, now: int) -> float:
        """Seconds until more is due at an endpoint that may be sent it by then; infinite if nothing is known."""
        moments = (
            max(endpoint.due_at, 0 if endpoint.health.mode == "healthy" else endpoint.health.until)
            for endpoint in self._all.values()
            if endpoint.due_at is not None
        )
        return min((moment - now for moment in moments if moment > now), default=math.inf) / 1000

    def _sendable(self, now: int) -> dict[str, int]:
        """How many calls each endpoint's health allows, of those that have something due."""
        return {
            name: number
            for name, endpoint in self._all.items()
            if endpoint.due_at is not None
            and not now < endpoint.due_at <= now + self._horizon
            and (number := self._most(endpoint, now)) > 0
        }

    def _most(self, endpoint: Endpoint, now: int) -> int:
        match admits(endpoint.health, now, endpoint.under_way):
            case "none":
                return 0
            case "probe":
                return 1
            case "all":
                if endpoint.most is not None and endpoint.most >= self._concurrency:
                    endpoint.most = None
                return self._concurrency if endpoint.most is None else endpoint.most - endpoint.under_way
