"""What each endpoint may be sent: by its health, its pace, and its share of the calls that may be under way.

An endpoint is an origin and credentials: a watch that has its own shares none with those that have others, so that one
customer's revoked key holds up that customer's calls only. Of one endpoint, the watches take turns: each claim takes as
many entries of each watch that has some due, beginning with the one whose turn is the longest ago.

Entries are claimed ahead: what the workers are expected to start within `AHEAD` waits here, in the ready queue of its
endpoint, for a worker. What is claimed and what is under way are nine times `concurrency` at most, all together: that
lasts for as long as the store works on a group.

Claims and free workers are dealt out one by one, each to the endpoint that has the fewest: one that answers slowly, or
not at all, cannot take what another could use. What is done for each call does not depend on how many endpoints there
are: those that have something ready are kept by how many calls each has under way.

A rate limit spaces the calls to one endpoint evenly, with no burst after a silence.

An endpoint that was not healthy comes back gently: it gets one call at once, and one more for each that it answers, so
that their number doubles with each round. What has just got up is not knocked over by all that has waited for it.
"""

import hmac
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from itertools import chain, cycle, islice

from cdc_sync.core.delivery import (
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
from cdc_sync.core.outbox import NOTHING, Entry, Lane, Offer
from cdc_sync.core.status_url import AllowedHosts, endpoint_of

AHEAD = 0.05
"""Seconds: what is expected to start within them is claimed ahead."""

_MOST_AHEAD = 8
"""Times `concurrency`, however short calls are."""

_MEMORY = 16
"""The expected length of a call follows the calls that end; each counts for one part in so many."""

_LATENESS = 0.05
"""Seconds by which a call may be late and still count as made in its time, where there is a rate limit."""

Whose = tuple[str, str]
"""A watch and an application's id."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """What the sender may do.

    Attributes:
        concurrency: calls under way at once, to all endpoints.
        rate: calls per second to one endpoint; None for no limit.
        policy: when to try again, and when to give up.
        allowed: where calls may go, looked at again before each call: an entry may be older than the configuration.
        built: the base URL of each watch that builds its URLs: for the same reason they are built again.
        horizon: a due time further than this many milliseconds ahead is a clock's mistake, and counts as due.
        headers: sent with each call: an endpoint that refused others is asked again.
        own: what is sent instead with the calls of some watches, by watch.
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
    """What tells other headers from these, and nobody what they hold: 16 bits, by a key that is drawn if not given.

    So few that of a list of guesses one in 65,536 remains. The key is kept from refusal to refusal: two dumps tell no
    more than one.
    """
    salt = os.urandom(8) if salt is None else salt
    text = json.dumps(sorted((name.lower(), value) for name, value in headers.items()))
    return salt.hex() + hmac.digest(salt, text.encode(), "sha256")[:2].hex()


def are_refused(headers: Mapping[str, str], health: Health) -> bool:
    """Whether these are the headers that an endpoint refused last."""
    refused = health.refused
    return refused is not None and refused == fingerprint(headers, bytes.fromhex(refused[:16]))


class Pace:
    """Spaces calls by a rate limit. Times are seconds of a monotonic clock."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = 0.0

    def take(self, now: float, rate: float) -> None:
        """A call is made."""
        # From the planned time, not from now: otherwise each wake-up's lateness would lower the rate. After a
        # silence from now: what was not used is gone.
        was_planned = now - self._next <= min(_LATENESS, 1 / rate)
        self._next = (self._next if was_planned else now) + 1 / rate

    def wait(self, now: float) -> float:
        """Seconds until the next call may be made."""
        return max(self._next - now, 0.0)

    def within(self, now: float, rate: float, seconds: float, most: int) -> int:
        """How many calls may be made from now until so many seconds later, `most` at most."""
        rest = seconds - self.wait(now)
        return min(most, int(rest * rate) + 1) if rest >= 0 else 0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint as the sender knows it.

    Attributes:
        name: scheme, host and port, and whose credentials it gets if those are a watch's own.
        health: its state.
        stored: its state in the store, as we last wrote or read it; another one there is another daemon's.
        due: when the next entry of each lane is due, as far as is known, in the order of the lanes' turns.
        ready: claimed entries whose calls have not begun, in the order of their turns.
        under_way: calls that have begun and not ended.
        last_start: when the last one began, by the monotonic clock.
        pace: when the next one may begin, by the rate limit.
        most: how many calls at once it may get while it comes back; None if as many as anybody.
        level: the calls under way by which `Endpoints` finds it; None while nothing is ready.
    """

    name: str
    health: Health = HEALTHY
    stored: Health = HEALTHY
    due: dict[Lane, int] = field(default_factory=dict)
    ready: dict[Whose, Entry] = field(default_factory=dict)
    under_way: int = 0
    last_start: float = -math.inf
    pace: Pace = field(default_factory=Pace)
    most: int | None = None
    level: int | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.name.partition(" ")[0]

    def heed(self, health: Health, *, answered: bool = False) -> None:
        """Take over another health; `answered`: after a reply of an endpoint that works."""
        if health.mode != "healthy":
            self.most = 1
        elif self.health.mode == "healthy" and answered and self.most is not None:
            self.most += 1
        self.health = health


@dataclass(slots=True)
class Endpoints:
    """Every endpoint that entries were ever queued for, and the entries that are ready for each.

    Attributes:
        settings: what may be sent.
        clock: when something is due: milliseconds since the epoch.
        monotonic: a clock for the pace: seconds.
        all: the endpoints, by name.
        coming: how many entries are being claimed of each lane, at most: they have their places in the queues.
        withdrawn: ready entries that an apply decides about now: none of them may begin.
        ahead: how many calls are expected to begin within `AHEAD`, of those for which no worker is free now.
        under_way: calls that have begun and not ended.
        returning: claimed entries that are to be given back.
        paused: to which of them an operator has paused sending.
        until: what is due later, or waits until later, is not sent: the beginning of a run that delivers only what was
            due then.
    """

    settings: SenderSettings
    clock: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    all: dict[str, Endpoint] = field(default_factory=dict)
    coming: dict[Lane, int] = field(default_factory=dict)
    withdrawn: dict[Whose, Offer] = field(default_factory=dict)
    ahead: int = 0
    under_way: int = 0
    returning: dict[Whose, Entry] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    until: int = sys.maxsize
    # By watch and origin.
    _lanes: dict[str, dict[str, Endpoint]] = field(default_factory=dict)
    # Those of which something is due, now or later, or may be.
    _pending: dict[Endpoint, None] = field(default_factory=dict)
    # Those that have something ready, by how many calls they have under way; who came first is the first.
    _levels: dict[int, dict[Endpoint, None]] = field(default_factory=dict)
    # In whose queue a ready entry is.
    _queued: dict[Whose, Endpoint] = field(default_factory=dict)
    # When something may be due, by lane, that a look which has begun may not show.
    _hints: dict[Lane, int] = field(default_factory=dict)
    # Seconds that a call is expected to take.
    _call_takes: float = math.inf
    _has_learnt: bool = False

    @property
    def ready(self) -> int:
        """Entries in the ready queues, the withdrawn ones among them."""
        return len(self._queued)

    @property
    def expects_more(self) -> bool:
        """Whether an endpoint has something due, now or later, or may have."""
        return bool(self._pending)

    def headers_of(self, endpoint: Endpoint) -> Mapping[str, str]:
        """The headers of an endpoint's calls."""
        own = self.settings.own.get(credentials_of(endpoint.name) or "")
        return self.settings.headers if own is None else own.headers

    def use(self, settings: SenderSettings) -> None:
        """Go on with other settings; more calls than are allowed now may be under way for a moment.

        One call goes out to each endpoint that refused our credentials, if they are others now. If none are, one goes
        out to each: whoever reloads all the same may have had them accepted.
        """
        before = {endpoint: self.headers_of(endpoint) for endpoint in self.all.values()}
        are_same = (settings.headers, settings.own) == (self.settings.headers, self.settings.own)
        self.settings = settings
        self.ahead = min(self.ahead, _MOST_AHEAD * settings.concurrency)  # until the next call ends
        for endpoint, headers in before.items():
            if are_same or headers != self.headers_of(endpoint):
                endpoint.health = with_other_credentials(endpoint.health)
        if not are_same:
            self._sort_anew()

    def _sort_anew(self) -> None:
        """Have each lane, and what is ready of it, at the endpoint whose credentials its watch has now."""
        lanes = [(origin, watch) for watch, of_watch in self._lanes.items() for origin in of_watch]
        self._lanes.clear()
        for lane in lanes:
            self._endpoint_of(lane)
        dues = [(lane, due_at) for endpoint in self._pending for lane, due_at in endpoint.due.items()]
        for endpoint in self._pending:
            endpoint.due.clear()
        self._pending.clear()
        for lane, due_at in dues:
            self._set_due(lane, due_at)
        for of, endpoint in list(self._queued.items()):
            entry = endpoint.ready[of]
            if self._endpoint_of(lane_of(entry)) is not endpoint:
                self._drop(of)
                self._queue(of, entry)

    def learn(self, healths: Mapping[str, Health], lanes: Mapping[Lane, int], unsaved: Collection[str]) -> list[str]:
        """Take over what the store knows: of health what another daemon that shares the store has written.

        Args:
            healths: health by endpoint.
            lanes: the next due time by lane.
            unsaved: endpoints of whose health we know better than the store.

        At first sight, one that refused other credentials than we have now may be asked at once.

        Returns the names of those whose mode is news: another one now, or not healthy at first sight. An address where
        nothing waits then may have been given up long ago.
        """
        known, news = self.all.keys() & healths.keys(), list[str]()
        lanes = {**lanes}
        for lane, due_at in self._hints.items():
            lanes[lane] = min(lanes.get(lane, due_at), due_at)
        for endpoint in list(self._pending):
            # What is not found any more is claimed, or a failover has lost it.
            for lane in [lane for lane in endpoint.due if lane not in lanes]:
                del endpoint.due[lane]
            if not endpoint.due:
                del self._pending[endpoint]
        for lane, due_at in lanes.items():
            self._set_due(lane, due_at)
        for name, health in healths.items():
            is_known, endpoint = name in known, self._named(name)
            if health == endpoint.stored or (is_known and name in unsaved):
                continue
            if health.mode != endpoint.health.mode and (is_known or endpoint.due):
                news.append(name)
            endpoint.stored = health
            others = not is_known and health.mode == "paused" and not are_refused(self.headers_of(endpoint), health)
            # What another daemon has met comes back as gently here.
            endpoint.heed(with_other_credentials(health) if others else health)
        self._has_learnt = True
        return news

    def hint(self, due_at: int, lane: Lane) -> None:
        """Something of a lane may be due then."""
        self._set_due(lane, min(self._endpoint_of(lane).due.get(lane, due_at), due_at))
        self._hints[lane] = min(self._hints.get(lane, due_at), due_at)

    def hint_of_watches(self, due_at: int, watches: Collection[str]) -> None:
        """Something of each of these watches may be due then, at an endpoint that it has had entries for."""
        for lane in [(origin, watch) for watch in watches for origin in self._lanes.get(watch, ())]:
            self.hint(due_at, lane)

    def look(self) -> None:
        """A look begins: it will show whatever was hinted at until now."""
        self._hints.clear()

    # Claiming.

    def claimable(self, by_apply_of: str | None = None) -> tuple[dict[Lane, int], frozenset[Lane]]:
        """How many entries to claim of each lane now, and those that get one only to find out whether they work.

        Of what is due, as far as is known; and nothing while enough is ready: small claims cost as much as large ones.

        An apply may claim of what it enqueues for its watch: as many as begin at once. None for an endpoint that has
        others due, which come first, or which are being claimed: the next claim is theirs, and takes what is new with
        them.
        """
        free = max(self.settings.concurrency - self.under_way, 0)
        most = _MOST_AHEAD * self.settings.concurrency + free
        by_apply = by_apply_of is not None
        room = (free if by_apply else free + self.ahead) - self.ready - sum(self.coming.values())
        if room <= 0:
            return {}, frozenset()
        enough = not by_apply and self.ready > self.ahead // 2 and self.ready >= free
        now, coming = self.clock(), self._coming()
        allowed, lanes = dict[Endpoint, int](), dict[Endpoint, list[Lane]]()
        for endpoint in self._pending if by_apply_of is None else self._endpoints_of(by_apply_of):
            waiting, due = len(endpoint.ready) + coming[endpoint], self._due_lanes(endpoint, now)
            if bool(due) == by_apply or (by_apply and waiting):
                continue
            number = self._places(endpoint, now, waiting, endpoint.most or most)
            if number > waiting:
                allowed[endpoint] = min(number - waiting, room)
                lanes[endpoint] = due if by_apply_of is None else [(endpoint.origin, by_apply_of)]
                enough = enough and bool(endpoint.ready)
        if enough:
            return {}, frozenset()
        if len(allowed) > 1:
            allowed = _dealt(room, allowed, coming)
        wanted: dict[Lane, int] = {}
        for endpoint, number in allowed.items():
            wanted |= Counter(islice(cycle(lanes[endpoint]), number))
        probes = [lanes[endpoint] for endpoint in allowed if endpoint.health.mode in ("open", "paused")]
        return wanted, frozenset(chain.from_iterable(probes)) & wanted.keys()

    def expect(self, wanted: Mapping[Lane, int]) -> None:
        """So many entries are being claimed: these lanes have had their turns."""
        for lane, number in wanted.items():
            self.coming[lane] = self.coming.get(lane, 0) + number
            due = self._endpoint_of(lane).due
            if lane in due:
                due[lane] = due.pop(lane)

    def came(self, wanted: Mapping[Lane, int]) -> None:
        """The claim that was expected has come to its end."""
        for lane, number in wanted.items():
            self.coming[lane] -= number
            if not self.coming[lane]:
                del self.coming[lane]

    def put(self, entries: Iterable[Entry]) -> None:
        """Entries were claimed: each is the last in its endpoint's queue."""
        for entry in entries:
            of = entry.watch, entry.application_id
            if of in self.returning:
                self.returning[of] = entry  # the unclaim may be written after this claim
                continue
            if self.withdrawn.pop(of, None) is not None:
                # An apply has replaced the entry that was withdrawn, or this one could not have been claimed.
                self._drop(of)
            self._queue(of, entry)

    # Beginning and ending.

    def begin(self) -> tuple[Entry, Endpoint] | None:
        """Take the next entry whose call may begin now; its call counts as begun. None if there is none."""
        settings, levels = self.settings, self._levels
        if len(self._queued) <= len(self.withdrawn) or self.under_way >= settings.concurrency:
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
        del self._queued[of]
        self.under_way += 1
        chosen.under_way += 1
        chosen.last_start = moment
        self._place(chosen)
        if rate is not None:
            chosen.pace.take(moment, rate)
        return entry, chosen

    def end(self, endpoint: Endpoint, seconds: float | None) -> None:
        """A call has ended, after so many seconds; None if none was made after all."""
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
        """Withdraw the entries of these applications that have not begun, but for those of another apply.

        None of them begins until the offer is settled. With `claims`, the apply may claim what begins at once.
        """
        unstarted = frozenset[str]()
        if self._queued:
            queued, withdrawn = self._queued, self.withdrawn
            unstarted = frozenset(
                application_id
                for application_id in application_ids
                if (watch, application_id) in queued and (watch, application_id) not in withdrawn
            )
        wanted, probing = self.claimable(watch) if claims else ({}, frozenset[Lane]())
        if not unstarted and not wanted:
            return NOTHING
        offer = Offer(unstarted, wanted, probing, self.settings.horizon)
        self.withdrawn.update(((watch, application_id), offer) for application_id in unstarted)
        self.expect(wanted)
        return offer

    def settle(self, watch: str, offer: Offer, touched: Collection[str] | None) -> None:
        """Let the offer's entries begin again where they were, but for those that were touched.

        All of them are given back if it is not known what became of them (`touched` is None).
        """
        self.came(offer.wanted)
        for application_id in offer.unstarted:
            of = (watch, application_id)
            if self.withdrawn.get(of) is not offer:
                continue  # it was replaced and claimed again already
            del self.withdrawn[of]
            if touched is None:
                self.returning[of] = self._drop(of)
            elif application_id in touched:
                self._drop(of)

    # Giving back.

    def give_back(self, *, everything: bool = False) -> None:
        """Take from the queues what will not begin soon: the endpoint waits, or its calls take longer than they did.

        With `everything`, nothing will begin any more. What is withdrawn stays, as an apply decides about it.
        """
        if not self._queued:
            return
        # Not at once if it is a few more than would be claimed now: how long calls take goes up and down.
        now = self.clock()
        free = max(self.settings.concurrency - self.under_way, 0)
        most = min(2 * (free + self.ahead), free + _MOST_AHEAD * self.settings.concurrency)
        rate = self.settings.rate
        for endpoint in list(self._ready_ones()):
            stays = most
            if everything or self._admits(endpoint, now, endpoint.under_way) == "none":
                stays = 0
            elif rate is not None:  # a reload may have brought it
                stays = min(most, 2 * max(endpoint.pace.within(self.monotonic(), rate, AHEAD, most), 1))
            for of in [of for of in list(endpoint.ready)[stays:] if of not in self.withdrawn]:
                self.returning[of] = self._drop(of)

    # When.

    def due_in(self) -> float:
        """Seconds until time alone lets a call begin, or a claim be made; infinite if it does not."""
        soonest, now, has_pace = math.inf, self.clock(), self.settings.rate is not None
        moment, due_now = self.monotonic() if has_pace else 0.0, min(now, self.until)
        for endpoint in {*self._pending, *self._ready_ones()} if has_pace else self._pending:
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
        """Whether time alone lets a further call begin of what is due, sooner or later."""
        now, coming = self.clock(), self._coming()
        for each in self._pending:
            under_way = each.under_way + len(each.ready) + coming[each]
            if self._due_lanes(each, now) and self._admits(each, now, under_way) != "none":
                return True
        return False

    # Within.

    def _named(self, name: str) -> Endpoint:
        return self.all.get(name) or self.all.setdefault(name, Endpoint(name))

    def _endpoint_of(self, lane: Lane) -> Endpoint:
        """The endpoint to which a lane's entries are sent, with the credentials that its watch has now."""
        origin, watch = lane
        of_watch = self._lanes.get(watch)
        endpoint = None if of_watch is None else of_watch.get(origin)
        if endpoint is None:
            own = self.settings.own.get(watch)
            endpoint = self._named(endpoint_name(origin, None if own is None else own.owner))
            self._lanes.setdefault(watch, {})[origin] = endpoint
        return endpoint

    def _endpoints_of(self, watch: str) -> Iterable[Endpoint]:
        """Those that a watch has had entries for; before it has, that of its base URL."""
        base_url = self.settings.built.get(watch)
        if watch not in self._lanes and base_url is not None and self._has_learnt:  # else its health is not known
            self._endpoint_of((endpoint_of(base_url), watch))
        return self._lanes.get(watch, {}).values()

    def _set_due(self, lane: Lane, due_at: int) -> None:
        endpoint = self._endpoint_of(lane)
        endpoint.due[lane] = due_at
        self._pending[endpoint] = None

    def _coming(self) -> Counter[Endpoint]:
        """How many entries are being claimed for each endpoint, at most."""
        coming: Counter[Endpoint] = Counter()
        for lane, number in self.coming.items():
            coming[self._endpoint_of(lane)] += number
        return coming

    def _places(self, endpoint: Endpoint, now: int, waiting: int, most: int) -> int:
        """How many entries may wait for an endpoint where so many do, by its health and its pace; `most` at most."""
        if self.paused or endpoint.health.mode != "healthy":
            # Of a probe there is only one, be it under way or on its way.
            admitted = self._admits(endpoint, now, endpoint.under_way + waiting)
            most = {"none": 0, "probe": 1}.get(admitted, most)
        if most and self.settings.rate is not None:
            return endpoint.pace.within(self.monotonic(), self.settings.rate, AHEAD, most)
        return most

    def _due_lanes(self, endpoint: Endpoint, now: int) -> list[Lane]:
        """The lanes of which something is due now, in the order of their turns."""
        due, latest = min(now, self.until), now + self.settings.horizon
        return [lane for lane, due_at in endpoint.due.items() if not due < due_at <= latest]

    def _ready_ones(self) -> Iterator[Endpoint]:
        """The endpoints that have something ready, those with the fewest calls under way first."""
        for level in sorted(self._levels):
            yield from self._levels[level]

    def _place(self, endpoint: Endpoint) -> None:
        """Have the endpoint where `begin` finds it, after its calls under way or its queue have become others."""
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

    def _queue(self, of: Whose, entry: Entry) -> None:
        """Put a claimed entry at the end of its endpoint's queue; one that is there is replaced."""
        endpoint = self._endpoint_of(lane_of(entry))
        if self._queued.get(of, endpoint) is not endpoint:
            self._drop(of)
        endpoint.ready[of] = entry
        self._queued[of] = endpoint
        if endpoint.level is None:
            self._place(endpoint)

    def _admits(self, endpoint: Endpoint, now: int, under_way: int) -> Admission:
        """What the endpoint's health lets be sent, with so many calls to it under way."""
        if self.paused and is_paused(self.paused, endpoint.name):
            return "none"
        health = endpoint.health
        if health.mode != "healthy" and self.until < health.until <= now:
            return "none"
        return admits(health, now, under_way)

    def _may_begin(self, endpoint: Endpoint, now: int) -> bool:
        """Whether the endpoint's health lets a call begin."""
        admitted = self._admits(endpoint, now, endpoint.under_way)
        if admitted != "all":
            return admitted == "probe"
        if endpoint.most is not None and endpoint.most >= self.settings.concurrency:
            endpoint.most = None
        return endpoint.most is None or endpoint.under_way < endpoint.most

    def _first(self, endpoint: Endpoint) -> Whose | None:
        """The first in an endpoint's queue that is not withdrawn."""
        return next((of for of in endpoint.ready if of not in self.withdrawn), None)

    def _drop(self, of: Whose) -> Entry:
        """Take an entry out of its queue."""
        endpoint = self._queued.pop(of)
        entry = endpoint.ready.pop(of)
        self._place(endpoint)
        return entry


def lane_of(entry: Entry) -> Lane:
    """The lane that an entry was claimed of."""
    return endpoint_of(entry.content.url), entry.watch


def _dealt(room: int, allowed: Mapping[Endpoint, int], coming: Mapping[Endpoint, int]) -> dict[Endpoint, int]:
    """Deal out so many places to endpoints, each of which may have so many, one by one to whoever has the fewest."""
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
