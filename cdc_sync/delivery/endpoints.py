"""What may be sent to each endpoint: by its health, its pace, and an operator's pauses.

An endpoint is an origin and an account: one customer's revoked key stops only the calls with that key.

A rate limit spaces calls evenly, without a burst after a silence. A recovered endpoint gets one call at a time, and one
more for each answer: its backlog must not overload it again.
"""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from cdc_sync.core import replies
from cdc_sync.core.outbox import Entry, EntryId, Lane
from cdc_sync.core.status_url import DEFAULT_ACCOUNT, AllowedHosts, account_of

_SOON = 1.0
"""Seconds of a quick endpoint's call."""

_LATENESS = 0.05
"""Seconds of a call's delay that do not delay the next one, with a rate limit."""


@dataclass(frozen=True, slots=True)
class SenderSettings:
    """The sender's settings.

    Attributes:
        concurrency: calls at once, to all endpoints.
        rate: calls per second to one endpoint; None for no limit.
        policy: when to retry, and when to dead-letter.
        allowed: where calls may go, checked before each call: an entry may be older than the configuration.
        built: the base URL of each watch with built URLs, which are built again, for the same reason.
        accounts: the configured ones: entries of others wait.
        expected: endpoints that will have entries.
    """

    concurrency: int
    rate: float | None
    policy: replies.RetryPolicy
    allowed: AllowedHosts
    built: Mapping[str, str]
    accounts: Collection[str] = frozenset({DEFAULT_ACCOUNT})
    expected: frozenset[str] = frozenset()


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint as the sender knows it.

    Attributes:
        name: scheme, host and port, and the account.
        ready: the entries in memory whose calls have not begun, in the order of their turns.
        under_way: how many calls.
        may_call_at: when the next call may begin by a rate limit, in seconds of the monotonic clock.
        most: calls at once: few while it recovers.
        is_quick: whether its last answer came soon.
    """

    name: str
    health: replies.Health = replies.HEALTHY
    ready: dict[EntryId, Entry] = field(default_factory=dict)
    under_way: int = 0
    may_call_at: float = 0.0
    most: int = sys.maxsize
    is_quick: bool = False

    def heed(self, health: replies.Health) -> None:
        """Take over a health."""
        if health.mode != "healthy":
            self.most = 1
        elif health == replies.HEALTHY and self.health.mode == "healthy":
            self.most += 1
        self.health = health


@dataclass(slots=True)
class Endpoints:
    """Every endpoint that ever had entries.

    Attributes:
        clock: for due times: milliseconds since the epoch.
        monotonic: for the pace: seconds.
        all: the endpoints, by name.
        unsaved: the healths that the store does not have yet.
        under_way: how many calls, to all of them.
        paused: endpoints that an operator has paused.
        until: only what is due then is delivered.
    """

    settings: SenderSettings
    clock: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    all: dict[str, Endpoint] = field(default_factory=dict)
    unsaved: dict[str, replies.Health] = field(default_factory=dict)
    under_way: int = 0
    paused: frozenset[str] = frozenset()
    until: int = sys.maxsize

    def of(self, lane: Lane) -> Endpoint:
        """A lane's endpoint, which is new if it had no entry before."""
        name, _ = lane
        return self.all.get(name) or self.all.setdefault(name, Endpoint(name))

    def is_configured(self, endpoint: str) -> bool:
        """Whether an endpoint's account is configured."""
        return account_of(endpoint) in self.settings.accounts

    def learn(self, healths: Mapping[str, replies.Health]) -> None:
        """Take over the healths that the store has."""
        for name, health in healths.items():
            if self.is_configured(name):
                self.all.setdefault(name, Endpoint(name)).heed(replies.with_other_credentials(health))

    # What is admitted.

    def now(self) -> int:
        """Until when entries are due."""
        return min(self.clock(), self.until)

    def admits(self, endpoint: Endpoint) -> replies.Admission:
        """What an endpoint's health admits now."""
        if self.paused and replies.is_paused(self.paused, endpoint.name):
            return "none"
        health = endpoint.health
        if health.mode == "healthy":
            return "all"
        now = self.clock()
        if self.until < health.until <= now:
            return "none"  # it waits until after the beginning of a run that ends
        return replies.admits(health, now, endpoint.under_way)

    def may_call(self, endpoint: Endpoint) -> bool:
        """Whether a call may begin."""
        if self.settings.rate is not None and self.monotonic() < endpoint.may_call_at:
            return False
        half = (self.settings.concurrency + 1) // 2
        is_alone = len(self.all) == 1 and self.settings.expected <= self.all.keys()
        if not (is_alone or endpoint.is_quick) and endpoint.under_way >= half:
            return False  # the others must not wait for a slow one
        return self.admits(endpoint) != "none" and endpoint.under_way < endpoint.most

    def begin(self, endpoint: Endpoint) -> None:
        """A call begins."""
        self.under_way += 1
        endpoint.under_way += 1
        if self.settings.rate is not None:
            now, between = self.monotonic(), 1 / self.settings.rate
            # From the planned time: else late wake-ups would lower the rate.
            is_in_time = now - endpoint.may_call_at <= min(_LATENESS, between)
            endpoint.may_call_at = (endpoint.may_call_at if is_in_time else now) + between

    def end(self, endpoint: Endpoint, seconds: float) -> None:
        """A call has ended, after so many seconds."""
        self.under_way -= 1
        endpoint.under_way -= 1
        endpoint.is_quick = seconds < _SOON

    # Other settings.

    def use(self, settings: SenderSettings) -> list[str]:
        """Use other settings; calls under way may exceed the new limit for a moment.

        Returns the names of removed endpoints: those of accounts that are no longer configured.
        """
        self.settings = settings
        gone = [name for name in self.all if not self.is_configured(name)]
        for name in gone:
            del self.all[name]
            self.unsaved.pop(name, None)
        for endpoint in self.all.values():
            endpoint.health = replies.with_other_credentials(endpoint.health)
        return gone
