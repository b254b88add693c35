"""What may be sent to each endpoint: by its health, its pace, and its share of the calls under way.

An endpoint is an origin and credentials: one customer's revoked key stops only the calls with that key. Its watches
take turns: a claim takes equally many entries of each, the longest waiting watch first.

Entries that the workers will start within `AHEAD` wait in their endpoint's ready queue (decision 19).

Claims and free workers go one by one to the endpoint with the fewest, so a slow one takes nothing that another could
use. With an index by calls under way, a call's cost does not grow with the endpoints.

A rate limit spaces calls evenly, without a burst after a silence. A recovered endpoint gets one call at a time, and one
more for each answer: its backlog must not overload it again.
"""

import hmac
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import chain, cycle, islice

from cdc_sync.core.outbox import NOTHING, Entry, Lane, Offer
from cdc_sync.core.replies import (
    HEALTHY,
    Admission,
    Credentials,
    Health,
    RetryPolicy,
    admits,
    credentials_of,
    endpoint_name,
    is_paused,
    with_other_credentials,
)
from cdc_sync.core.status_url import AllowedHosts, endpoint_of

AHEAD = 0.05
"""Seconds: entries expected to start within them are claimed ahead."""

_MOST_AHEAD = 8
"""Times `concurrency`, however short calls are."""

_MEMORY = 16
"""A call counts for one in so many in the moving average of durations."""

_LATENESS = 0.05
"""Seconds of a call's delay that do not delay the next one, with a rate limit."""

EntryId = tuple[str, str]
"""A watch and an application's id."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """The sender's settings.

    Attributes:
        concurrency: calls at once, to all endpoints.
        rate: calls per second to one endpoint; None for no limit.
        policy: when to retry, and when to dead-letter.
        allowed: where calls may go, checked before each call: an entry may be older than the configuration.
        built: the base URL of each watch with built URLs, which are built again, for the same reason.
        horizon: milliseconds; a due time further ahead comes from a wrong clock, and counts as due.
        headers: of each call.
        own: credentials by watch.
    """

    concurrency: int
    rate: float | None
    policy: RetryPolicy
    allowed: AllowedHosts
    built: Mapping[str, str]
    horizon: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    own: Mapping[str, Credentials] = field(default_factory=dict)


def fingerprint(headers: Mapping[str, str], salt: bytes | None = None) -> str:
    """16 bits that hide the headers, with a random key; one in 65,536 of an attacker's guesses remains.

    A second refusal has the same key, and reveals no more.
    """
    salt = os.urandom(8) if salt is None else salt
    text = json.dumps(sorted((name.lower(), value) for name, value in headers.items()))
    return salt.hex() + hmac.digest(salt, text.encode(), "sha256")[:2].hex()


def are_refused(headers: Mapping[str, str], health: Health) -> bool:
    """Whether the endpoint refused these headers last."""
    refused = health.refused
    return refused is not None and refused == fingerprint(headers, bytes.fromhex(refused[:16]))


class Pace:
    """Spaces calls by a rate limit. Times are seconds of a monotonic clock."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0.0

    def take(self, now: float, rate: float) -> None:
        """Count a call that is made."""
        # From the planned time: else late wake-ups would lower the rate.
        was_planned = now - self._next <= min(_LATENESS, 1 / rate)
        self._next = (self._next if was_planned else now) + 1 / rate

    def wait(self, now: float) -> float:
        """Seconds until the next call may be made."""
        return max(self._next - now, 0.0)

    def within(self, now: float, rate: float, seconds: float, most: int) -> int:
        """The calls that may be made within so many seconds from now, `most` at most."""
        rest = seconds - self.wait(now)
        return min(most, int(rest * rate) + 1) if rest >= 0 else 0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint as the sender knows it.

    Attributes:
        name: scheme, host and port, and the owner of a watch's own credentials.
        stored: the health that we last wrote to or read from the store.
        is_learnt: whether we have read one from the store.
        is_unreported: whether its mode was read while nothing was due: it is reported once something is.
        due: each lane's next known due time, in the order of turns.
        ready: claimed, unstarted entries, in the order of turns.
        last_start: of a call, by the monotonic clock.
        most: calls at once while it recovers; else None.
        level: its place in the index of `Endpoints`; None while nothing is ready.
    """

    name: str
    health: Health = HEALTHY
    stored: Health = HEALTHY
    is_learnt: bool = False
    is_unreported: bool = False
    due: dict[Lane, int] = field(default_factory=dict)
    ready: dict[EntryId, Entry] = field(default_factory=dict)
    under_way: int = 0
    last_start: float = -math.inf
    pace: Pace = field(default_factory=Pace)
    most: int | None = None
    level: int | None = None

    def heed(self, health: Health, *, answered: bool = False) -> None:
        """Take over a health; `answered`: after the reply of a working endpoint."""
        if health.mode != "healthy":
            self.most = 1
        elif self.health.mode == "healthy" and answered and self.most is not None:
            self.most += 1
        self.health = health


@dataclass(slots=True)
class Endpoints:
    """Every endpoint that ever had entries.

    Attributes:
        clock: for due times: milliseconds since the epoch.
        monotonic: for the pace: seconds.
        all: the endpoints, by name.
        pending: those with entries known to be due, now or later.
        ready: the endpoint of each ready entry, withdrawn ones included.
        coming: claims under way: the most entries of each lane, with reserved places in the queues.
        withdrawn: ready entries that must not begin: an apply decides about them.
        ahead: calls expected to begin within `AHEAD`, beyond the free workers.
        returning: claimed entries to give back.
        paused: endpoints that an operator has paused.
        until: only what is due then is delivered.
    """

    settings: SenderSettings
    clock: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    all: dict[str, Endpoint] = field(default_factory=dict)
    pending: dict[Endpoint, None] = field(default_factory=dict)
    ready: dict[EntryId, Endpoint] = field(default_factory=dict)
    coming: list[Mapping[Lane, int]] = field(default_factory=list)
    withdrawn: dict[EntryId, Offer] = field(default_factory=dict)
    ahead: int = 0
    under_way: int = 0
    returning: dict[EntryId, Entry] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    until: int = sys.maxsize
    # By watch and origin.
    _lanes: dict[str, dict[str, Endpoint]] = field(default_factory=dict)
    # Endpoints with ready entries, by calls under way; first come, first served.
    _levels: dict[int, dict[Endpoint, None]] = field(default_factory=dict)
    # Due times by lane that a look under way may miss.
    _hints: dict[Lane, int] = field(default_factory=dict)
    # Expected seconds of a call.
    _call_takes: float = math.inf
    _has_learnt: bool = False
    # The time of the last decision about claims.
    _decided_at: int = sys.maxsize

    def headers_of(self, endpoint: Endpoint) -> Mapping[str, str]:
        """The headers of an endpoint's calls."""
        own = self.settings.own.get(credentials_of(endpoint.name) or "")
        return self.settings.headers if own is None else own.headers

    def use(self, settings: SenderSettings) -> tuple[list[str], list[Endpoint]]:
        """Use other settings; calls under way may exceed the new limit for a moment.

        Each endpoint that refused our credentials gets one call if these have changed, or if none have changed.

        Returns the names of removed endpoints, and the endpoints that took over a health from one of them.
        """
        before = {endpoint: self.headers_of(endpoint) for endpoint in self.all.values()}
        are_same = (settings.headers, settings.own) == (self.settings.headers, self.settings.own)
        lost = self.settings.own.keys() - settings.own.keys()
        self.settings = settings
        self.ahead = min(self.ahead, _MOST_AHEAD * settings.concurrency)  # until the next call ends
        owners = {own.owner for own in settings.own.values()}
        gone = {each: None for each in before if credentials_of(each.name) not in owners | {None}}
        for endpoint, headers in before.items():
            if endpoint not in gone and (are_same or headers != self.headers_of(endpoint)):
                endpoint.health = with_other_credentials(endpoint.health)
        if not are_same:
            # Give back what was to be sent with credentials that are gone: a forgotten watch's may be gone for good.
            for of in [of for of in self.ready if of[0] in lost and of not in self.withdrawn]:
                self.returning[of] = self._drop(of)
            self._reassign_lanes()
        if self._has_learnt:
            self._know_built()
        return [each.name for each in gone], [other for each in gone if (other := self._follow(each, before[each]))]

    def _follow(self, gone: Endpoint, headers: Mapping[str, str]) -> Endpoint | None:
        """Remove an endpoint. An untouched one with its credentials takes over its health, and is returned."""
        del self.all[gone.name]
        origin, _, _ = gone.name.partition(" [")
        for other in self.all.values():
            if other.name.partition(" [")[0] == origin and self.headers_of(other) == headers:
                if gone.health.mode == "healthy" or other.health != HEALTHY:
                    return None
                other.heed(gone.health)
                return other
        return None

    def _reassign_lanes(self) -> None:
        """Move lanes and ready entries to the endpoints with their watches' present credentials."""
        lanes = [(origin, watch) for watch, of_watch in self._lanes.items() for origin in of_watch]
        self._lanes.clear()
        for origin, watch in lanes:
            self._endpoint_of(origin, watch)
        dues = [(lane, due_at) for endpoint in self.pending for lane, due_at in endpoint.due.items()]
        for endpoint in self.pending:
            endpoint.due.clear()
        self.pending.clear()
        for lane, due_at in dues:
            self._set_due(lane, due_at)
        for of, endpoint in list(self.ready.items()):
            entry = endpoint.ready[of]
            other = self._endpoint_of(endpoint_of(entry.content.url), entry.watch)
            if other is not endpoint:
                self._drop(of)
                other.ready[of], self.ready[of] = entry, other
                self._place(other)

    def _know_built(self) -> None:
        """Assume that a watch with built URLs has entries for its base URL."""
        for watch, base_url in self.settings.built.items():
            if watch not in self._lanes:
                self._endpoint_of(endpoint_of(base_url), watch)

    def learn(self, healths: Mapping[str, Health], lanes: Mapping[Lane, int], unsaved: Collection[str]) -> list[str]:
        """Take over the store's due times by lane, and other daemons' healths by endpoint.

        An `unsaved` endpoint's health is newer than the store's. An endpoint read for the first time that refused
        other credentials than ours may be called at once: the store may have copied the refusal to another owner.

        Returns the names of endpoints with a new mode; of new ones, those with entries due, as soon as they have some.
        """
        known, news = self.all.keys() & healths.keys(), list[str]()
        lanes = {**lanes}
        for lane, due_at in self._hints.items():
            lanes[lane] = min(lanes.get(lane, due_at), due_at)
        for endpoint in list(self.pending):
            # Missing lanes are claimed, or lost by a failover.
            for lane in [lane for lane in endpoint.due if lane not in lanes]:
                del endpoint.due[lane]
            if not endpoint.due:
                del self.pending[endpoint]
        for lane, due_at in lanes.items():
            self._set_due(lane, due_at)
        for name, health in healths.items():
            is_known, endpoint = name in known, self._named(name)
            if is_known and name in unsaved:
                continue
            is_new, endpoint.is_learnt = not endpoint.is_learnt, True
            if health == endpoint.stored:
                continue
            is_changed = health.mode != endpoint.health.mode
            endpoint.is_unreported |= is_changed
            if is_changed and is_known:
                news.append(name)
            endpoint.stored = health
            others = is_new and health.mode == "paused" and not are_refused(self.headers_of(endpoint), health)
            # It recovers as gently here as at the daemon that wrote it.
            endpoint.heed(with_other_credentials(health) if others else health)
        self._has_learnt = True
        self._know_built()
        return [*news, *self._reported_late(news)]

    def _reported_late(self, now: Collection[str]) -> list[str]:
        """The pending endpoints whose mode was never reported; those that are reported `now` were."""
        late = [each.name for each in self.pending if each.is_unreported and each.name not in now]
        for name in (*now, *late):
            self.all[name].is_unreported = False
        return late

    def hint(self, due_at: int, lane: Lane) -> None:
        """A lane may have an entry due then."""
        self._set_due(lane, min(self._endpoint_of(*lane).due.get(lane, due_at), due_at))
        self._hints[lane] = min(self._hints.get(lane, due_at), due_at)

    def hint_of_watches(self, due_at: int, watches: Collection[str]) -> None:
        """The same for each lane of these watches."""
        for lane in [(origin, watch) for watch in watches for origin in self._lanes.get(watch, ())]:
            self.hint(due_at, lane)

    def look(self) -> None:
        """A look begins, and includes all earlier hints."""
        self._hints.clear()

    # Claiming.

    def claimable(self) -> tuple[dict[Lane, int], frozenset[Lane]]:
        """How many entries to claim of each lane now, and the lanes that get only a probe.

        Nothing while enough is ready: small claims cost as much as large ones.
        """
        now, coming = self.clock(), self._coming()
        self._decided_at = now
        due = ((endpoint, lanes) for endpoint in self.pending if (lanes := self._due_lanes(endpoint, now)))
        return self._dealt(due, self.ahead, now, coming)

    def expect(self, wanted: Mapping[Lane, int]) -> None:
        """A claim begins: its lanes have had their turns."""
        self.coming.append(wanted)
        for lane in wanted:
            due = self._endpoint_of(*lane).due
            if lane in due:
                due[lane] = due.pop(lane)

    def put(self, entries: Iterable[Entry]) -> None:
        """Queue claimed entries, in place of their applications' older ones."""
        for entry in entries:
            of = entry.watch, entry.application_id
            if of in self.returning:
                self.returning[of] = entry  # the unclaim may follow this claim
                continue
            if self.withdrawn.pop(of, None) is not None:
                # An apply has replaced the withdrawn entry: else nobody could have claimed this one.
                self._drop(of)
            endpoint = self._endpoint_of(endpoint_of(entry.content.url), entry.watch)
            if self.ready.get(of, endpoint) is not endpoint:
                self._drop(of)
            endpoint.ready[of] = entry
            self.ready[of] = endpoint
            if endpoint.level is None:
                self._place(endpoint)

    # Beginning and ending.

    def begin(self) -> tuple[Entry, Endpoint] | None:
        """Take the next entry that may begin; its call counts as begun."""
        settings, levels = self.settings, self._levels
        if len(self.ready) <= len(self.withdrawn) or self.under_way >= settings.concurrency:
            return None
        moment, rate, quick = self.monotonic(), settings.rate, not self.paused
        chosen: Endpoint | None = None
        for each in self._ready_ones() if len(levels) > 1 else next(iter(levels.values())):
            if (
                ((quick and each.most is None and each.health.mode == "healthy") or self._may_begin(each, self.clock()))
                and (rate is None or not each.pace.wait(moment))
                and (not self.withdrawn or self._first(each) is not None)
            ):
                chosen = each
                break
        if chosen is None:
            return None
        of = next(filter(lambda of: of not in self.withdrawn, chosen.ready) if self.withdrawn else iter(chosen.ready))
        entry = chosen.ready.pop(of)
        del self.ready[of]
        self.under_way += 1
        chosen.under_way += 1
        chosen.last_start = moment
        self._place(chosen)
        if rate is not None:
            chosen.pace.take(moment, rate)
        return entry, chosen

    def end(self, endpoint: Endpoint, seconds: float | None) -> None:
        """End a call after so many seconds; None: none was made."""
        endpoint.under_way -= 1
        self.under_way -= 1
        if endpoint.ready:
            self._place(endpoint)
        if seconds is not None:
            known, most = self._call_takes, self.settings.concurrency
            takes = self._call_takes = seconds if known == math.inf else known + (seconds - known) / _MEMORY
            self.ahead = int(most * min(AHEAD / takes if takes else math.inf, _MOST_AHEAD))

    # Beside an apply.

    def offer(self, watch: str, application_ids: Collection[str], *, claims: bool) -> Offer:
        """Withdraw these applications' unstarted entries, except those of another apply.

        With `claims`, the apply may claim new entries that begin at once, except where others are due or being claimed.
        """
        unstarted = frozenset[str]()
        if self.ready:
            queued, withdrawn = self.ready, self.withdrawn
            unstarted = frozenset(
                application_id
                for application_id in application_ids
                if (watch, application_id) in queued and (watch, application_id) not in withdrawn
            )
        wanted, probing = dict[Lane, int](), frozenset[Lane]()
        if claims and (of_watch := self._lanes.get(watch)):
            now, coming = self.clock(), self._coming() if self.coming else Counter[Endpoint]()
            idle = (
                (endpoint, [(origin, watch)])
                for origin, endpoint in of_watch.items()
                if not (endpoint.ready or coming[endpoint] or (endpoint.due and self._due_lanes(endpoint, now)))
            )
            wanted, probing = self._dealt(idle, 0, now, coming)
        if not unstarted and not wanted:
            return NOTHING
        offer = Offer(unstarted, wanted, probing, self.settings.horizon)
        self.withdrawn.update(((watch, application_id), offer) for application_id in unstarted)
        if wanted:
            self.coming.append(wanted)
        return offer

    def settle(self, watch: str, offer: Offer, touched: Collection[str] | None) -> None:
        """Return untouched entries to their places; `touched` None (unknown): give all back."""
        if offer.wanted:
            self.coming.remove(offer.wanted)
        for application_id in offer.unstarted:
            of = (watch, application_id)
            if self.withdrawn.get(of) is not offer:
                continue  # replaced, and claimed already
            del self.withdrawn[of]
            if touched is None:
                self.returning[of] = self._drop(of)
            elif application_id in touched:
                self._drop(of)

    # Giving back.

    def give_back(self, *, everything: bool = False) -> None:
        """Empty the queues of what will not begin soon, or `everything`; withdrawn entries stay."""
        if not self.ready:
            return
        # Twice what a claim would take may stay: calls' durations vary.
        now = self.clock()
        free = max(self.settings.concurrency - self.under_way, 0)
        most = min(2 * (free + self.ahead), free + _MOST_AHEAD * self.settings.concurrency)
        rate = self.settings.rate
        for endpoint in list(self._ready_ones()):
            stays = most
            if everything or self._admits(endpoint, now, endpoint.under_way) == "none":
                stays = 0
            elif rate is not None:  # perhaps since a reload
                stays = min(most, 2 * max(endpoint.pace.within(self.monotonic(), rate, AHEAD, most), 1))
            for of in [of for of in list(endpoint.ready)[stays:] if of not in self.withdrawn]:
                self.returning[of] = self._drop(of)

    # When.

    def due_in(self) -> float:
        """Seconds until time alone allows a call or a claim; may be infinite."""
        soonest, now, has_pace = math.inf, self.clock(), self.settings.rate is not None
        # What became due since the last decision about claims waits for the next one.
        moment, due_now = self.monotonic() if has_pace else 0.0, min(now, self._decided_at, self.until)
        for endpoint in {*self.pending, *self._ready_ones()} if has_pace else self.pending:
            pace = endpoint.pace.wait(moment) if has_pace else 0.0
            if pace and self._first(endpoint) is not None and self._may_begin(endpoint, now):
                soonest = min(soonest, pace)
                continue
            waits = 0 if endpoint.health.mode == "healthy" else endpoint.health.until
            for due_at in endpoint.due.values():
                if max(due_at, waits) > due_now:
                    if max(due_at, waits) <= self.until:
                        soonest = min(soonest, (max(due_at, waits) - now) / 1000)
                elif pace > AHEAD:
                    soonest = min(soonest, pace - AHEAD)
        return soonest

    def has_due(self) -> bool:
        """Whether time alone will allow another call of a due entry."""
        now, coming = self.clock(), self._coming()
        for each in self.pending:
            under_way = each.under_way + len(each.ready) + coming[each]
            if self._due_lanes(each, now) and self._admits(each, now, under_way) != "none":
                return True
        return False

    # Within.

    def _named(self, name: str) -> Endpoint:
        return self.all.get(name) or self.all.setdefault(name, Endpoint(name))

    def _endpoint_of(self, origin: str, watch: str) -> Endpoint:
        """A lane's endpoint by its watch's present credentials."""
        of_watch = self._lanes.get(watch)
        endpoint = None if of_watch is None else of_watch.get(origin)
        if endpoint is None:
            own = self.settings.own.get(watch)
            endpoint = self._named(endpoint_name(origin, None if own is None else own.owner))
            self._lanes.setdefault(watch, {})[origin] = endpoint
        return endpoint

    def _set_due(self, lane: Lane, due_at: int) -> None:
        endpoint = self._endpoint_of(*lane)
        endpoint.due[lane] = due_at
        self.pending[endpoint] = None

    def _coming(self) -> Counter[Endpoint]:
        """Most entries being claimed for each endpoint."""
        coming: Counter[Endpoint] = Counter()
        for lane, number in chain.from_iterable(claim.items() for claim in self.coming):
            coming[self._endpoint_of(*lane)] += number
        return coming

    def _dealt(
        self, lanes: Iterable[tuple[Endpoint, Sequence[Lane]]], ahead: int, now: int, coming: Counter[Endpoint]
    ) -> tuple[dict[Lane, int], frozenset[Lane]]:
        """Deal the free workers' entries and `ahead` more out to lanes; returns as `claimable`."""
        settings, ready, wanted = self.settings, len(self.ready), dict[Lane, int]()
        free = max(settings.concurrency - self.under_way, 0)
        room = free + ahead - ready - coming.total()
        if room <= 0:
            return wanted, frozenset()
        enough = ready > ahead // 2 and ready >= free
        allowed, turns = dict[Endpoint, int](), dict[Endpoint, Sequence[Lane]]()
        for endpoint, of_endpoint in lanes:
            waiting, most = len(endpoint.ready) + coming[endpoint], endpoint.most
            most = most or _MOST_AHEAD * settings.concurrency + free
            if self.paused or endpoint.health.mode != "healthy":
                # At most one probe is under way or coming.
                admitted = self._admits(endpoint, now, endpoint.under_way + waiting)
                most = {"none": 0, "probe": 1}.get(admitted, most)
            if most and settings.rate is not None:
                most = endpoint.pace.within(self.monotonic(), settings.rate, AHEAD, most)
            if most > waiting:
                allowed[endpoint], turns[endpoint] = min(most - waiting, room), of_endpoint
                enough = enough and bool(endpoint.ready)
        if enough:
            return wanted, frozenset()
        if len(allowed) > 1:
            allowed = _one_by_one(room, allowed, coming)
        for endpoint, number in allowed.items():
            wanted |= Counter(islice(cycle(turns[endpoint]), number))
        probes = [turns[endpoint] for endpoint in allowed if endpoint.health.mode in ("open", "paused")]
        return wanted, frozenset(chain.from_iterable(probes)) & wanted.keys()

    def _due_lanes(self, endpoint: Endpoint, now: int) -> list[Lane]:
        """The lanes with entries due now, in the order of their turns."""
        due, latest = min(now, self.until), now + self.settings.horizon
        return [lane for lane, due_at in endpoint.due.items() if not due < due_at <= latest]

    def _ready_ones(self) -> Iterator[Endpoint]:
        """The endpoints with ready entries, by calls under way."""
        for level in sorted(self._levels):
            yield from self._levels[level]

    def _place(self, endpoint: Endpoint) -> None:
        """Update an endpoint's place in the index."""
        level = endpoint.under_way if endpoint.ready else None
        if level == endpoint.level:
            return
        if endpoint.level is not None:
            others = self._levels[endpoint.level]
            del others[endpoint]
            if not others:
                del self._levels[endpoint.level]
        if level is not None:
            self._levels.setdefault(level, {})[endpoint] = None
        endpoint.level = level

    def _admits(self, endpoint: Endpoint, now: int, under_way: int) -> Admission:
        """What an endpoint's health admits with so many calls under way."""
        if self.paused and is_paused(self.paused, endpoint.name):
            return "none"
        health = endpoint.health
        if health.mode != "healthy" and self.until < health.until <= now:
            return "none"
        return admits(health, now, under_way)

    def _may_begin(self, endpoint: Endpoint, now: int) -> bool:
        admitted = self._admits(endpoint, now, endpoint.under_way)
        if admitted != "all":
            return admitted == "probe"
        if endpoint.most is not None and endpoint.most >= self.settings.concurrency:
            endpoint.most = None
        return endpoint.most is None or endpoint.under_way < endpoint.most

    def _first(self, endpoint: Endpoint) -> EntryId | None:
        """The first ready entry that is not withdrawn."""
        return next((of for of in endpoint.ready if of not in self.withdrawn), None)

    def _drop(self, of: EntryId) -> Entry:
        endpoint = self.ready.pop(of)
        entry = endpoint.ready.pop(of)
        self._place(endpoint)
        return entry


def lane_of(entry: Entry) -> Lane:
    """The lane of an entry's claim."""
    return endpoint_of(entry.content.url), entry.watch


def _one_by_one(room: int, allowed: Mapping[Endpoint, int], coming: Mapping[Endpoint, int]) -> dict[Endpoint, int]:
    """Deal places out within limits, one by one to the endpoint with the fewest."""
    dealt: dict[Endpoint, int] = {}
    burdens = [
        (each.under_way + len(each.ready) + coming[each], each.last_start, number, each)
        for number, each in enumerate(allowed)
    ]
    heapify(burdens)
    for _ in range(min(room, sum(allowed.values()))):
        burden, last_start, number, endpoint = burdens[0]
        dealt[endpoint] = dealt.get(endpoint, 0) + 1
        if dealt[endpoint] < allowed[endpoint]:
            heapreplace(burdens, (burden + 1, last_start, number, endpoint))
        else:
            heappop(burdens)
    return dealt
