"""What each endpoint may be sent: by its health, its pace, and its share of the calls that may be under way.

Entries are claimed ahead: what the workers are expected to start within `AHEAD` waits here, in the ready queue of its
endpoint, for a worker. What is claimed and what is under way are nine times `concurrency` at most, all together: that
lasts for as long as the store works on a group.

Claims and free workers are dealt out one by one, each to the endpoint that has the fewest: one that answers slowly, or
not at all, cannot take what another could use.

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
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cdc_sync.core.delivery import HEALTHY, Admission, Health, RetryPolicy, admits, is_paused, with_other_credentials
from cdc_sync.core.outbox import NOTHING, Entry, Offer
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
    """

    concurrency: int
    rate: float | None
    policy: RetryPolicy
    allowed: AllowedHosts
    built: Mapping[str, str]
    horizon: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


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
        name: scheme, host and port.
        health: its state.
        stored: its state in the store, as we last wrote or read it; another one there is another daemon's.
        due_at: when its next entry is due, as far as is known; None if it has none.
        ready: claimed entries whose calls have not begun, in the order of their turns.
        under_way: calls that have begun and not ended.
        last_start: when the last one began, by the monotonic clock.
        pace: when the next one may begin, by the rate limit.
        most: how many calls at once it may get while it comes back; None if as many as anybody.
    """

    name: str
    health: Health = HEALTHY
    stored: Health = HEALTHY
    due_at: int | None = None
    ready: dict[Whose, Entry] = field(default_factory=dict)
    under_way: int = 0
    last_start: float = -math.inf
    pace: Pace = field(default_factory=Pace)
    most: int | None = None

    def heed(self, health: Health, *, answered: bool = False) -> None:
        """Take over another health; `answered`: after a reply of an endpoint that works."""
        if health.mode != "healthy":
            self.most = 1
        elif self.health.mode == "healthy" and answered and self.most is not None:
            self.most += 1
        self.health = health


def _earlier(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


@dataclass(slots=True)
class Endpoints:
    """Every endpoint that entries were ever queued for, and the entries that are ready for each.

    Attributes:
        settings: what may be sent.
        clock: when something is due: milliseconds since the epoch.
        monotonic: a clock for the pace: seconds.
        all: the endpoints, by name.
        coming: how many entries are being claimed for each, at most: they have their places in the queues.
        withdrawn: ready entries that an apply decides about now: none of them may begin.
        ahead: how many calls are expected to begin within `AHEAD`, of those for which no worker is free now.
        under_way: calls that have begun and not ended.
        ready: entries in the ready queues, the withdrawn ones among them.
        returning: claimed entries that are to be given back.
        expects_more: whether an endpoint has something due, now or later, or may have.
        paused: to which of them an operator has paused sending.
        until: what is due later, or waits until later, is not sent: the beginning of a run that delivers only what was
            due then.
    """

    settings: SenderSettings
    clock: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    all: dict[str, Endpoint] = field(default_factory=dict)
    coming: Counter[str] = field(default_factory=Counter)
    withdrawn: dict[Whose, Offer] = field(default_factory=dict)
    ahead: int = 0
    under_way: int = 0
    ready: int = 0
    returning: dict[Whose, Entry] = field(default_factory=dict)
    expects_more: bool = False
    paused: frozenset[str] = frozenset()
    until: int = sys.maxsize
    # When something may be due, by endpoint, that a look which has begun may not show.
    _hints: dict[str, int] = field(default_factory=dict)
    # Seconds that a call is expected to take.
    _call_takes: float = math.inf

    def use(self, settings: SenderSettings) -> None:
        """Go on with other settings; more calls than are allowed now may be under way for a moment.

        One call goes out to each endpoint that refused our credentials: they may be others now.
        """
        self.settings = settings
        self.ahead = min(self.ahead, _MOST_AHEAD * settings.concurrency)  # until the next call ends
        for endpoint in self.all.values():
            endpoint.health = with_other_credentials(endpoint.health)

    def learn(self, found: Mapping[str, tuple[Health, int | None]], unsaved: Collection[str]) -> list[str]:
        """Take over what the store knows: of health what another daemon that shares the store has written.

        Args:
            found: health and next due time, by endpoint.
            unsaved: endpoints of whose health we know better than the store.

        At first sight, one that refused other credentials than we have now may be asked at once.

        Returns the names of those whose mode is news: another one now, or not healthy at first sight. An address where
        nothing waits then may have been given up long ago.
        """
        news: list[str] = []
        for name, (health, due_at) in found.items():
            is_known = name in self.all
            endpoint = self.all.setdefault(name, Endpoint(name))
            if health != endpoint.stored and not (is_known and name in unsaved):
                if health.mode != endpoint.health.mode and (is_known or due_at is not None):
                    news.append(name)
                endpoint.stored = health
                others = not is_known and health.mode == "paused" and not are_refused(self.settings.headers, health)
                # What another daemon has met comes back as gently here.
                endpoint.heed(with_other_credentials(health) if others else health)
            endpoint.due_at = _earlier(due_at, self._hints.get(name))
        for name in self.all.keys() - found.keys():
            # A failover has lost it.
            self.all[name].due_at = self._hints.get(name)
        self.expects_more = any(endpoint.due_at is not None for endpoint in self.all.values())
        return news

    def hint(self, due_at: int, endpoint: Endpoint | None = None) -> None:
        """Something may be due then, at one endpoint or nobody says where."""
        for each in self.all.values() if endpoint is None else (endpoint,):
            each.due_at = _earlier(each.due_at, due_at)
            self._hints[each.name] = min(self._hints.get(each.name, due_at), due_at)
        self.expects_more = True

    def look(self) -> None:
        """A look begins: it will show whatever was hinted at until now."""
        self._hints.clear()

    # Claiming.

    def claimable(self, *, by_apply: bool = False) -> tuple[dict[str, int], frozenset[str]]:
        """How many entries to claim for each endpoint now, and those that get one only to find out whether they work.

        Of what is due, as far as is known; and nothing while enough is ready: small claims cost as much as large ones.

        An apply may claim of what it enqueues: as many as begin at once. None for an endpoint that has others due,
        which come first, or which are being claimed: the next claim is theirs, and takes what is new with them.
        """
        free = max(self.settings.concurrency - self.under_way, 0)
        most = _MOST_AHEAD * self.settings.concurrency + free
        room = (free if by_apply else free + self.ahead) - self.ready - self.coming.total()
        if room <= 0:
            return {}, frozenset()
        enough = not by_apply and self.ready > self.ahead // 2 and self.ready >= free
        now, allowed = self.clock(), dict[str, int]()
        for endpoint in self.all.values():
            waiting, due_at = len(endpoint.ready) + self.coming[endpoint.name], endpoint.due_at
            is_due = due_at is not None and not min(now, self.until) < due_at <= now + self.settings.horizon
            if is_due == by_apply or (by_apply and waiting):
                continue
            number = endpoint.most or most
            if self.paused or endpoint.health.mode != "healthy":
                # Of a probe there is only one, be it under way or on its way.
                admitted = self._admits(endpoint, now, endpoint.under_way + waiting)
                number = {"none": 0, "probe": 1}.get(admitted, number)
            if number and self.settings.rate is not None:
                number = endpoint.pace.within(self.monotonic(), self.settings.rate, AHEAD, number)
            if number > waiting:
                allowed[endpoint.name] = min(number - waiting, room)
                enough = enough and bool(endpoint.ready)
        if enough:
            return {}, frozenset()
        if len(allowed) > 1:
            allowed = self._dealt(room, allowed)
        return allowed, frozenset(name for name in allowed if self.all[name].health.mode in ("open", "paused"))

    def put(self, entries: Iterable[Entry]) -> None:
        """Entries were claimed: each is the last in its endpoint's queue."""
        for entry in entries:
            of = entry.watch, entry.application_id
            if of in self.returning:
                self.returning[of] = entry  # the unclaim may be written after this claim
                continue
            name = endpoint_of(entry.content.url)
            endpoint = self.all.get(name) or self.all.setdefault(name, Endpoint(name))
            if self.withdrawn.pop(of, None) is not None:
                # An apply has replaced the entry that was withdrawn, or this one could not have been claimed.
                self._drop(of)
            if of not in endpoint.ready:
                self.ready += 1
            endpoint.ready[of] = entry

    # Beginning and ending.

    def begin(self) -> tuple[Entry, Endpoint] | None:
        """Take the next entry whose call may begin now; its call counts as begun. None if there is none."""
        settings = self.settings
        if self.ready <= len(self.withdrawn) or self.under_way >= settings.concurrency:
            return None
        moment, rate, quick = self.monotonic(), settings.rate, not self.paused
        chosen: Endpoint | None = None
        for each in self.all.values():
            if (
                each.ready
                and (chosen is None or (each.under_way, each.last_start) < (chosen.under_way, chosen.last_start))
                and (
                    (quick and each.most is None and each.health.mode == "healthy")
                    or self._may_begin(each, self.clock())
                )
                and (rate is None or not each.pace.wait(moment))
                and (not self.withdrawn or self._first(each) is not None)
            ):
                chosen = each
        if chosen is None:
            return None
        of = next(filter(lambda of: of not in self.withdrawn, chosen.ready) if self.withdrawn else iter(chosen.ready))
        entry = chosen.ready.pop(of)
        self.ready -= 1
        self.under_way += 1
        chosen.under_way += 1
        chosen.last_start = moment
        if rate is not None:
            chosen.pace.take(moment, rate)
        return entry, chosen

    def end(self, endpoint: Endpoint, seconds: float | None) -> None:
        """A call has ended, after so many seconds; None if none was made after all."""
        endpoint.under_way -= 1
        self.under_way -= 1
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
        if self.ready:
            ids = frozenset(application_ids)
            unstarted = frozenset(
                of[1]
                for endpoint in self.all.values()
                for of in endpoint.ready
                if of[0] == watch and of[1] in ids and of not in self.withdrawn
            )
        wanted, probing = self.claimable(by_apply=True) if claims else ({}, frozenset[str]())
        if not unstarted and not wanted:
            return NOTHING
        offer = Offer(unstarted, wanted, probing, self.settings.horizon)
        self.withdrawn.update(((watch, application_id), offer) for application_id in unstarted)
        self.coming.update(wanted)
        return offer

    def settle(self, watch: str, offer: Offer, touched: Collection[str] | None) -> None:
        """Let the offer's entries begin again where they were, but for those that were touched.

        All of them are given back if it is not known what became of them (`touched` is None).
        """
        self.coming.subtract(offer.wanted)
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
        if not self.ready:
            return
        # Not at once if it is a few more than would be claimed now: how long calls take goes up and down.
        now = self.clock()
        free = max(self.settings.concurrency - self.under_way, 0)
        most = min(2 * (free + self.ahead), free + _MOST_AHEAD * self.settings.concurrency)
        rate = self.settings.rate
        for endpoint in self.all.values():
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
        soonest, now = math.inf, self.clock()
        moment = 0.0 if self.settings.rate is None else self.monotonic()
        for endpoint in self.all.values():
            pace = 0.0 if self.settings.rate is None else endpoint.pace.wait(moment)
            if pace and self._first(endpoint) is not None and self._may_begin(endpoint, now):
                soonest = min(soonest, pace)
            elif endpoint.due_at is not None:
                due_at = max(endpoint.due_at, 0 if endpoint.health.mode == "healthy" else endpoint.health.until)
                if due_at <= min(now, self.until):
                    soonest = min(soonest, pace - AHEAD) if pace > AHEAD else soonest
                elif due_at <= self.until:
                    soonest = min(soonest, (due_at - now) / 1000)
        return soonest

    def has_due(self) -> bool:
        """Whether time alone lets a further call begin of what is due, sooner or later."""
        now = self.clock()
        for each in self.all.values():
            is_due = each.due_at is not None and not min(now, self.until) < each.due_at <= now + self.settings.horizon
            under_way = each.under_way + len(each.ready) + self.coming[each.name]
            if is_due and self._admits(each, now, under_way) != "none":
                return True
        return False

    # Within.

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
        queue = next(endpoint.ready for endpoint in self.all.values() if of in endpoint.ready)
        self.ready -= 1
        return queue.pop(of)

    def _dealt(self, room: int, allowed: dict[str, int]) -> dict[str, int]:
        """Deal out so many places to endpoints, each of which may have so many."""
        dealt: Counter[str] = Counter()

        def burden(name: str) -> tuple[int, float]:
            endpoint = self.all[name]
            return endpoint.under_way + len(endpoint.ready) + self.coming[name] + dealt[name], endpoint.last_start

        for _ in range(min(room, sum(allowed.values()))):
            name = min((name for name, most in allowed.items() if dealt[name] < most), key=burden)
            dealt[name] += 1
        return dict(dealt)
