"""Credentials that are refused for some applications alone, and credentials that are wrong: weeks of both, in no time.

The order in which the store gives probes is told here once more, in a few lines; its own tests show that it does.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.sending import an_entry

from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Acked, DeadLetter, Health, Meaning, Retry, RetryPolicy, admits, after, result_of

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
DAY = 24 * HOUR
NOW = 1_700_000_000_000
POLICY = RetryPolicy(first=SECOND, max=15 * MINUTE, give_up_after=DAY, not_found_for=15 * MINUTE)
LATENCY = 50


@dataclass
class Endpoint:
    """One endpoint, what waits for it, and what came of it; calls are made one after the other.

    Attributes:
        refuses: whether our credentials are refused for an application now.
        calls: when, for what, and in which mode of the endpoint each was made.
        waited: for how long each acknowledged one had been due.
    """

    chance: Callable[[], float]
    refuses: Callable[[str], bool]
    now: int = NOW
    health: Health = field(default_factory=Health)
    outbox: dict[str, Entry] = field(default_factory=dict)
    calls: list[tuple[int, str, str]] = field(default_factory=list)
    waited: dict[str, int] = field(default_factory=dict)

    def queue(self, *ids: str) -> None:
        for each in ids:
            entry = an_entry(each, base_url="https://ats-partner.hellowork.com")
            new = entry._replace(queued_at=self.now, due_at=self.now, attempts=0, first_attempt_at=None)
            self.outbox[each] = new

    def work_until(self, end: int) -> None:
        while self.now < end:
            due = [entry for entry in self.outbox.values() if entry.due_at <= self.now]
            match admits(self.health, self.now, 0):
                case "all" if due:
                    self.call(min(due, key=lambda entry: entry.due_at))
                case "probe" if due:
                    self.call(min(due, key=lambda entry: (entry.attempts, entry.due_at)))
                case "none":
                    self.now = min(self.health.until, end)
                case _:
                    self.now = min([end, *(entry.due_at for entry in self.outbox.values())])
        self.now = end

    def call(self, entry: Entry) -> None:
        tried_since = self.now if entry.first_attempt_at is None else entry.first_attempt_at
        entry = entry._replace(attempts=entry.attempts + 1, first_attempt_at=tried_since)
        self.calls.append((self.now, entry.application_id, self.health.mode))
        self.now += LATENCY
        meaning = Meaning("refused credentials") if self.refuses(entry.application_id) else Meaning("acknowledged")
        became = result_of(entry, meaning, "HTTP 403", POLICY, now=self.now, chance=self.chance())
        self.health = after(self.health, meaning, "HTTP 403", POLICY, now=self.now, chance=self.chance())
        del self.outbox[entry.application_id]
        match became:
            case Acked():
                self.waited[entry.application_id] = self.now - entry.queued_at
            case DeadLetter():
                raise AssertionError(f"{entry.application_id} is given up for our credentials")
            case Retry() as again:
                first = None if again.restarts else entry.first_attempt_at
                later = entry._replace(due_at=again.due_at, first_attempt_at=first)
                self.outbox[entry.application_id] = later


def refused(number: int) -> list[str]:
    return [f"refused-{each}" for each in range(number)]


def is_refused(application_id: str) -> bool:
    return application_id.startswith("refused")


def an_endpoint(seed: int, refuses: Callable[[str], bool] = is_refused) -> Endpoint:
    return Endpoint(random.Random(seed).random, refuses)  # noqa: S311 - jitter


SEEDS = st.integers(0, 2**32)
BRIEFLY = settings(max_examples=min(10, settings().max_examples // 4), deadline=None)
EVERY = 5 * MINUTE


@BRIEFLY
@given(seed=SEEDS, number=st.integers(1, 8))
def test_a_few_that_are_always_refused_hold_nobody_up_for_longer_than_a_retry(seed: int, number: int) -> None:
    endpoint = an_endpoint(seed)
    endpoint.queue(*refused(number))
    endpoint.work_until(NOW + DAY)
    for other in [f"a{each}" for each in range(DAY // EVERY)]:
        endpoint.work_until(endpoint.now + EVERY)
        endpoint.queue(other)
    endpoint.work_until(endpoint.now + POLICY.max + MINUTE)

    assert endpoint.outbox.keys() == set(refused(number)), "they stay pending"
    assert max(endpoint.waited.values()) <= POLICY.max + MINUTE


@BRIEFLY
@given(seed=SEEDS, waiting=st.integers(1, 50))
def test_wrong_credentials_give_nothing_up_and_make_one_call_after_each_wait(seed: int, waiting: int) -> None:
    wrong = True
    endpoint = an_endpoint(seed, lambda _: wrong)
    endpoint.queue(*(f"a{each}" for each in range(waiting)))
    endpoint.work_until(NOW + 7 * DAY)

    assert len(endpoint.outbox) == waiting
    assert endpoint.health.mode == "paused"
    probes = [at for at, _, mode in endpoint.calls if mode == "paused"]
    assert len(endpoint.calls) == len(probes) + 1
    assert len(probes) <= 7 * DAY / (POLICY.max / 2) + 12
    assert all(later - earlier >= SECOND / 2 for earlier, later in pairwise(probes))

    wrong = False
    endpoint.work_until(endpoint.now + 2 * POLICY.max + waiting * SECOND)
    assert endpoint.outbox == {}
