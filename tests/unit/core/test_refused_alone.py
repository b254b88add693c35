"""Credentials that are refused for some applications alone, and credentials that are wrong: weeks of both, in no time.

The order in which the store gives probes is told here once more, in a few lines; its own tests show that it does.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.sending import an_entry

from cdc_sync.core.delivery import Again, Done, GiveUp, fate
from cdc_sync.core.endpoint import Health, admits, after, in_context, probed_by
from cdc_sync.core.outbox import Entry
from cdc_sync.core.reply import Acknowledged, CredentialsRefused
from cdc_sync.core.retry import RetryPolicy

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
            new = replace(entry, queued_at=self.now, due_at=self.now, attempts=0, first_attempt_at=None)
            self.outbox[each] = new

    def work_until(self, end: int) -> None:
        while self.now < end:
            due = [entry for entry in self.outbox.values() if entry.due_at <= self.now]
            match admits(self.health, self.now, 0):
                case "all" if due:
                    self.call(min(due, key=lambda entry: entry.due_at))
                case "probe" if due:
                    self.call(min(due, key=lambda entry: _probed(entry, probed_by(self.health))))
                case "none":
                    self.now = min(self.health.until, end)
                case _:
                    self.now = min([end, *(entry.due_at for entry in self.outbox.values())])
        self.now = end

    def call(self, entry: Entry) -> None:
        tried_since = self.now if entry.first_attempt_at is None else entry.first_attempt_at
        entry = replace(entry, attempts=entry.attempts + 1, first_attempt_at=tried_since)
        self.calls.append((self.now, entry.application_id, self.health.mode))
        self.now += LATENCY
        reply = CredentialsRefused() if self.refuses(entry.application_id) else Acknowledged()
        meaning = in_context(reply, self.health, entry.refused_in)
        became = fate(entry, meaning, "HTTP 403", POLICY, now=self.now, chance=self.chance())
        self.health = after(self.health, meaning, "HTTP 403", POLICY, now=self.now, chance=self.chance())
        del self.outbox[entry.application_id]
        match became:
            case Done():
                self.waited[entry.application_id] = self.now - entry.queued_at
            case GiveUp():
                raise AssertionError(f"{entry.application_id} is given up for our credentials")
            case Again() as again:
                first = None if again.anew else entry.first_attempt_at
                later = replace(entry, due_at=again.due_at, refused_in=again.refused_in, first_attempt_at=first)
                self.outbox[entry.application_id] = later


def _probed(entry: Entry, turn: int) -> tuple[int, int]:
    if entry.refused_in is not None:
        return (3 if entry.refused_in < turn else 2), entry.due_at
    return (1, entry.due_at) if entry.attempts else (0, -entry.due_at)


def refused(number: int) -> list[str]:
    return [f"refused-{each}" for each in range(number)]


def is_refused(application_id: str) -> bool:
    return application_id.startswith("refused")


def an_endpoint(seed: int, refuses: Callable[[str], bool] = is_refused) -> Endpoint:
    return Endpoint(random.Random(seed).random, refuses)  # noqa: S311 - jitter


SEEDS = st.integers(0, 2**32)
BRIEFLY = settings(max_examples=10, deadline=None)
EVERY = 5 * MINUTE


@BRIEFLY
@given(seed=SEEDS, number=st.integers(1, 20))
def test_a_few_that_are_refused_alone_keep_nobody_waiting(seed: int, number: int) -> None:
    endpoint = an_endpoint(seed)
    endpoint.queue(*refused(number))
    others = [f"a{each}" for each in range(4 * DAY // EVERY)]
    for each, other in enumerate(others):
        endpoint.work_until(NOW + each * EVERY)
        endpoint.queue(other)
    endpoint.work_until(endpoint.now + EVERY)

    assert endpoint.health.mode == "healthy"
    assert endpoint.outbox.keys() == set(refused(number)), "they wait, each by itself"
    # Each is a probe once at most; then the others hardly notice.
    assert sum(mode == "paused" for *_, mode in endpoint.calls) <= 2 * number
    assert max(endpoint.waited.values()) <= 2 * POLICY.max
    assert sum(endpoint.waited[other] > 10 * SECOND for other in others) <= number


@BRIEFLY
@given(seed=SEEDS, number=st.integers(1, 50), others=st.integers(1, 200), before=st.sampled_from([0, HOUR, DAY]))
def test_one_that_works_opens_the_endpoint_for_all_at_the_next_probe(
    seed: int, number: int, others: int, before: int
) -> None:
    endpoint = an_endpoint(seed)
    endpoint.queue(*refused(number))
    endpoint.work_until(NOW + before + SECOND)
    assert endpoint.health.mode == "paused"

    endpoint.queue(*(f"a{each}" for each in range(others)))
    endpoint.work_until(endpoint.now + POLICY.max + (number + others) * 2 * SECOND)

    assert all(map(is_refused, endpoint.outbox))


@BRIEFLY
@given(seed=SEEDS, number=st.integers(0, 8), waiting=st.integers(1, 50))
def test_wrong_credentials_give_nothing_up_and_make_one_call_after_each_wait(
    seed: int, number: int, waiting: int
) -> None:
    wrong = False
    endpoint = an_endpoint(seed, lambda one: wrong or is_refused(one))
    endpoint.queue(*refused(number))
    for hour in range(12):
        endpoint.queue(f"before-{hour}")
        endpoint.work_until(NOW + (hour + 1) * HOUR)
    assert all(map(is_refused, endpoint.outbox))

    wrong, begin = True, endpoint.now
    endpoint.queue(*(f"a{each}" for each in range(waiting)))
    endpoint.work_until(begin + 30 * DAY)

    assert len(endpoint.outbox) == number + waiting
    assert endpoint.health.mode == "paused"
    calls = [(at, mode) for at, _, mode in endpoint.calls if at >= begin]
    # Each that was refused alone may be called once before the first of the others; then as after any refusal.
    assert sum(mode == "healthy" for _, mode in calls) <= number + 1
    probes = [at for at, mode in calls if mode == "paused"]
    assert len(probes) <= 30 * DAY / (POLICY.max / 2) + 12
    assert all(later - earlier >= SECOND / 2 for earlier, later in pairwise(probes))

    wrong = False
    endpoint.work_until(endpoint.now + 2 * POLICY.max + (number + waiting) * 2 * SECOND)
    assert all(map(is_refused, endpoint.outbox)), "of two probes one is for one of the others, and all of them follow"


@BRIEFLY
@given(seed=SEEDS)
def test_what_is_refused_with_nobody_beside_it_holds_up_nobody_who_comes(seed: int) -> None:
    wrong = False
    endpoint = an_endpoint(seed, lambda one: wrong or is_refused(one))
    endpoint.queue(*refused(1), "a1")
    endpoint.work_until(NOW + HOUR)
    assert endpoint.waited.keys() == {"a1"}

    wrong = True  # and nobody can tell
    endpoint.work_until(NOW + 30 * DAY)

    assert len(endpoint.calls) <= 30 * DAY / (POLICY.max / 2) * 1.1
    wrong = False
    endpoint.queue("a2")
    endpoint.work_until(endpoint.now + POLICY.max + MINUTE)
    assert endpoint.waited["a2"] <= SECOND
    assert endpoint.outbox.keys() == set(refused(1))


@BRIEFLY
@given(seed=SEEDS, number=st.integers(1, 5))
def test_one_that_is_set_right_is_asked_though_another_keeps_the_endpoint_paused(seed: int, number: int) -> None:
    set_right = False
    endpoint = an_endpoint(seed, lambda one: is_refused(one) and not (set_right and one == "refused-0"))
    endpoint.queue("refused-0", "a1")
    endpoint.work_until(NOW + HOUR)
    endpoint.queue(*(f"refused-later-{each}" for each in range(number)))
    endpoint.work_until(NOW + DAY)
    assert endpoint.health.mode == "paused"

    set_right = True
    endpoint.work_until(endpoint.now + 4 * (number + 2) * POLICY.max)

    assert "refused-0" in endpoint.waited
