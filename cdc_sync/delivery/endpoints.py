"""What each endpoint may be sent: by its health, its pace, and its share of the calls that may be under way.

Entries are claimed ahead: what the workers are expected to start within `AHEAD` waits here, in the ready queue of its
endpoint, for a worker. The queues hold twice `concurrency` at most, all together.

Claims and free workers are dealt out one by one, each to the endpoint that has the fewest: one that answers slowly, or
not at all, cannot take what another could use.

An endpoint that was not healthy comes back gently: it gets one call at once, and one more for each that it answers, so
that their number doubles with each round. What has just got up is not knocked over by all that has waited for it.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cdc_sync.core.endpoint import Admission, Health, admits, with_other_credentials
from cdc_sync.core.outbox import Entry, Offer
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.delivery.pace import Pace

AHEAD = 0.05
"""Seconds: what is expected to start within them is claimed ahead."""

_MEMORY = 16
"""The expected length of a call follows the calls that end; each counts for one part in so many."""

Whose = tuple[str, str]
"""A watch and an application's id."""


def whose(entry: Entry) -> Whose:
    """The application that an entry belongs to."""
    return entry.watch, entry.application_id


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint as the sender knows it.

    Attributes:
        name: scheme, host and port.
        health: its state.
        stored: its state in the store, as we last wrote or read it; another one there is another daemon's.
        due_at: when its next entry is due, as far as is known; None if it has none.
        hinted: when one may be due of which the store may not have heard yet; None if there is no such one.
        ready: claimed entries whose calls have not begun, in the order of their turns.
        coming: entries that are being claimed, at most.
        under_way: calls that have begun and not ended.
        last_start: when the last one began, by the monotonic clock.
        pace: when the next one may begin, by the rate limit.
        most: how many calls at once it may get while it comes back; None if as many as anybody.
    """

    name: str
    health: Health
    stored: Health
    due_at: int | None = None
    hinted: int | None = None
    ready: dict[Whose, Entry] = field(default_factory=dict)
    coming: int = 0
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

    def hint(self, due_at: int) -> None:
        """Something may be due then: find out at the next claim."""
        self.hinted = due_at if self.hinted is None else min(self.hinted, due_at)

    @property
    def burden(self) -> tuple[int, float]:
        """By which endpoints are compared when a call or a claim is dealt out; the smallest gets it."""
        return self.under_way, self.last_start


class Endpoints:
    """Every endpoint that entries were ever queued for, and the entries that are ready for each.

    Args:
        concurrency: calls under way at once, to all of them.
        rate: calls per second to one of them; None for no limit.
        horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
        monotonic: a clock for the pace: seconds.
    """

    def __init__(
        self,
        concurrency: int,
        rate: float | None,
        horizon: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = concurrency
        self._rate = rate
        self._horizon = horizon
        self._monotonic = monotonic
        self._all: dict[str, Endpoint] = {}
        self._withdrawn: dict[Whose, Offer] = {}
        """Ready entries that an apply decides about now: none of them may begin."""
        self._call_takes = math.inf
        """Seconds that a call is expected to take."""
        self.under_way = 0
        """Calls that have begun and not ended."""
        self.ready = 0
        """Entries in the ready queues, the withdrawn ones among them."""
        self.coming = 0
        """Entries that are being claimed, at most."""

    def __getitem__(self, name: str) -> Endpoint:
        return self._all[name]

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._all.values())

    @property
    def free(self) -> int:
        """How many more calls may begin."""
        return max(self._concurrency - self.under_way, 0)

    @property
    def ahead(self) -> int:
        """How many calls are expected to begin within `AHEAD`, of those for which no worker is free now."""
        expected = AHEAD * self._concurrency / self._call_takes if self._call_takes else math.inf
        return int(min(expected, 2 * self._concurrency))

    @property
    def runs_low(self) -> bool:
        """Whether it is time to claim more, if there is more."""
        return self.ready <= self.ahead // 2

    @property
    def expects_more(self) -> bool:
        """Whether an endpoint has something due, now or later, or may have."""
        return any(endpoint.due_at is not None or endpoint.hinted is not None for endpoint in self._all.values())

    @property
    def is_hinted(self) -> bool:
        """Whether an endpoint may have something due that is not known yet."""
        return any(endpoint.hinted is not None for endpoint in self._all.values())

    def limit(self, concurrency: int, rate: float | None, horizon: int) -> None:
        """Go on with other limits; more calls than are allowed now may be under way for a moment."""
        self._concurrency, self._rate, self._horizon = concurrency, rate, horizon

    def probe_refusing(self) -> None:
        """Let one call go out to each endpoint that refused our credentials: they may be others now."""
        for endpoint in self._all.values():
            endpoint.health = with_other_credentials(endpoint.health)

    def learn(self, found: Mapping[str, tuple[Health, int | None]], unsaved: Collection[str]) -> list[str]:
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
                endpoint = self._all[name] = Endpoint(name, health, stored=health)
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

    def hint(self, due_at: int) -> None:
        """Something was enqueued, nobody says for which endpoint."""
        for endpoint in self._all.values():
            endpoint.hint(due_at)

    def follow_hints(self) -> None:
        """Believe the hints until `learn` knows."""
        for endpoint in self._all.values():
            if endpoint.hinted is not None:
                known = endpoint.due_at
                endpoint.due_at = endpoint.hinted if known is None else min(known, endpoint.hinted)
                endpoint.hinted = None

    # Claiming.

    def wanted(self, now: int) -> dict[str, int]:
        """How many entries to claim now for each endpoint that has some due, as far as is known.

        Nothing while enough is ready: small claims cost as much as large ones.
        """
        room = min(self.free + self.ahead, 2 * self._concurrency) - self.ready - self.coming
        if room <= 0:
            return {}
        allowed = {
            endpoint.name: number
            for endpoint in self._all.values()
            if self._has_due(endpoint, now) and (number := self._claimable(endpoint, now))
        }
        if not self.runs_low and self.ready >= self.free and all(self._all[name].ready for name in allowed):
            return {}
        return self._dealt(room, allowed)

    def offered(self, now: int) -> dict[str, int]:
        """How many entries an apply may claim of those that it enqueues, for each endpoint: as many as begin at once.

        None for an endpoint that has others due, which come first, or which are being claimed: the next claim is
        theirs, and takes what is new with them.
        """
        room = self.free - self.ready - self.coming
        if room <= 0:
            return {}
        allowed = {
            endpoint.name: number
            for endpoint in self._all.values()
            if not (endpoint.coming or endpoint.ready or self._has_due(endpoint, now))
            and endpoint.hinted is None
            and (number := self._claimable(endpoint, now))
        }
        return self._dealt(room, allowed)

    def probing(self, wanted: Iterable[str], now: int) -> frozenset[str]:
        """Those of these endpoints that get a call only to find out whether they work."""
        return frozenset(name for name in wanted if self._admits(self._all[name], now) == "probe")

    def expect(self, wanted: Mapping[str, int]) -> None:
        """So many entries are being claimed: they have their places in the queues."""
        for name, number in wanted.items():
            self._all[name].coming += number
            self.coming += number

    def came(self, wanted: Mapping[str, int]) -> None:
        """That claim has ended."""
        for name, number in wanted.items():
            self._all[name].coming -= number
            self.coming -= number

    def put(self, entry: Entry) -> None:
        """An entry was claimed: it is the last in its endpoint's queue."""
        name = endpoint_of(entry.content.url)
        endpoint = self._all.get(name)
        if endpoint is None:
            endpoint = self._all[name] = Endpoint(name, Health(), stored=Health())
        of = whose(entry)
        if self._withdrawn.pop(of, None) is not None:
            # An apply has replaced the entry that was withdrawn, or this one could not have been claimed.
            self._drop(of)
        if of not in endpoint.ready:
            self.ready += 1
        endpoint.ready[of] = entry

    # Beginning and ending.

    def begin(self, now: Callable[[], int]) -> tuple[Entry, Endpoint] | None:
        """Take the next entry whose call may begin now; its call counts as begun. None if there is none."""
        if self.ready <= len(self._withdrawn) or self.under_way >= self._concurrency:
            return None
        moment = self._monotonic()
        chosen: tuple[Endpoint, Whose] | None = None
        for each in self._all.values():
            if (
                each.ready
                and (chosen is None or each.burden < chosen[0].burden)
                and self._may_begin(each, now)
                and not each.pace.wait(moment, self._rate)
                and (first := self._first(each)) is not None
            ):
                chosen = each, first
        if chosen is None:
            return None
        endpoint, of = chosen
        entry = endpoint.ready.pop(of)
        self.ready -= 1
        self.under_way += 1
        endpoint.under_way += 1
        endpoint.last_start = moment
        endpoint.pace.take(moment, self._rate)
        return entry, endpoint

    def end(self, endpoint: Endpoint, seconds: float | None) -> None:
        """A call has ended, after so many seconds; None if none was made after all."""
        endpoint.under_way -= 1
        self.under_way -= 1
        if seconds is not None:
            known = self._call_takes
            self._call_takes = seconds if known == math.inf else known + (seconds - known) / _MEMORY

    # Giving back.

    def withdraw(self, watch: str, application_ids: Collection[str]) -> frozenset[str]:
        """Which of these applications have an entry that has not begun, and that no other apply decides about."""
        if not self.ready:
            return frozenset()
        ids = frozenset(application_ids)
        return frozenset(
            of[1]
            for endpoint in self._all.values()
            for of in endpoint.ready
            if of[0] == watch and of[1] in ids and of not in self._withdrawn
        )

    def hold(self, watch: str, offer: Offer) -> None:
        """Let none of the offer's entries begin until it is settled."""
        self._withdrawn.update(((watch, application_id), offer) for application_id in offer.unstarted)

    def settle(self, watch: str, offer: Offer, touched: Collection[str] | None) -> list[Entry]:
        """Let the offer's entries begin again where they were, but for those that were touched.

        Returns those to be given back: all of them if it is not known what became of them (`touched` is None).
        """
        doubtful: list[Entry] = []
        for application_id in offer.unstarted:
            of = (watch, application_id)
            if self._withdrawn.get(of) is not offer:
                continue  # it was replaced and claimed again already
            del self._withdrawn[of]
            if touched is None or application_id in touched:
                entry = self._drop(of)
                if touched is None:
                    doubtful.append(entry)
        return doubtful

    def surplus(self, now: int, *, everything: bool = False) -> list[Entry]:
        """Take from the queues what will not begin soon: the endpoint waits, or its calls take longer than they did.

        With `everything`, nothing will begin any more. What is withdrawn stays, as an apply decides about it.
        """
        if not self.ready:
            return []
        found: list[Entry] = []
        # Not at once if it is a few more than would be claimed now: how long calls take goes up and down.
        most = min(2 * (self.free + self.ahead), 2 * self._concurrency)
        for endpoint in self._all.values():
            waits = everything or admits(endpoint.health, now, endpoint.under_way) == "none"
            for of in [of for of in list(endpoint.ready)[0 if waits else most :] if of not in self._withdrawn]:
                found.append(self._drop(of))
                endpoint.hint(now)
        return found

    # When.

    def due_in(self, now: int) -> float:
        """Seconds until time alone lets a call begin, or a claim be made; infinite if it does not."""
        moment = self._monotonic()
        return min((self._due_in(endpoint, now, moment) for endpoint in self._all.values()), default=math.inf)

    def has_due(self, now: int) -> bool:
        """Whether time alone lets a further call begin of what was due at `now`, sooner or later."""
        return any(self._has_due(endpoint, now) and self._admits(endpoint, now) != "none" for endpoint in self)

    def _due_in(self, endpoint: Endpoint, now: int, moment: float) -> float:
        pace = endpoint.pace.wait(moment, self._rate)
        if self.free and self._first(endpoint) is not None and self._may_begin(endpoint, lambda: now):
            return pace
        if endpoint.due_at is None:
            return math.inf
        due_at = max(endpoint.due_at, 0 if endpoint.health.mode == "healthy" else endpoint.health.until)
        if due_at > now:
            return (due_at - now) / 1000
        return pace - AHEAD if pace > AHEAD else math.inf

    def _has_due(self, endpoint: Endpoint, now: int) -> bool:
        return endpoint.due_at is not None and not now < endpoint.due_at <= now + self._horizon

    def _admits(self, endpoint: Endpoint, now: int) -> Admission:
        """What may be claimed: of a probe there is only one, be it under way or on its way."""
        return admits(endpoint.health, now, endpoint.under_way + len(endpoint.ready) + endpoint.coming)

    def _claimable(self, endpoint: Endpoint, now: int) -> int:
        """How many more entries the endpoint's health and pace let be claimed."""
        waiting = len(endpoint.ready) + endpoint.coming
        match self._admits(endpoint, now):
            case "all":
                most = 2 * self._concurrency if endpoint.most is None else endpoint.most
            case "probe":
                most = 1
            case _:
                return 0
        return max(endpoint.pace.within(self._monotonic(), self._rate, AHEAD, most) - waiting, 0)

    def _may_begin(self, endpoint: Endpoint, now: Callable[[], int]) -> bool:
        """Whether the endpoint's health lets a call begin."""
        health = endpoint.health
        if health.mode != "healthy" and (admitted := admits(health, now(), endpoint.under_way)) != "all":
            return admitted == "probe"
        if endpoint.most is not None and endpoint.most >= self._concurrency:
            endpoint.most = None
        return endpoint.most is None or endpoint.under_way < endpoint.most

    def _first(self, endpoint: Endpoint) -> Whose | None:
        """The first in an endpoint's queue that is not withdrawn."""
        return next((of for of in endpoint.ready if of not in self._withdrawn), None)

    def _drop(self, of: Whose) -> Entry:
        """Take an entry out of its queue."""
        queue = next(endpoint.ready for endpoint in self._all.values() if of in endpoint.ready)
        self.ready -= 1
        return queue.pop(of)

    def _dealt(self, room: int, allowed: dict[str, int]) -> dict[str, int]:
        """Deal out so many places to endpoints, each of which may have so many."""
        if len(allowed) == 1:
            return {name: min(room, most) for name, most in allowed.items()}
        dealt: Counter[str] = Counter()

        def burden(name: str) -> tuple[int, float]:
            endpoint = self._all[name]
            return endpoint.under_way + len(endpoint.ready) + endpoint.coming + dealt[name], endpoint.last_start

        for _ in range(room):
            if not allowed:
                break
            name = min(allowed, key=burden)
            dealt[name] += 1
            if dealt[name] == allowed[name]:
                del allowed[name]
        return dict(dealt)
