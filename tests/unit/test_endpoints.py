"""Which endpoint an entry belongs to, and whose turn it is."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from support.builders import HOUR, NOW
from support.sending import SETTINGS, an_entry

from cdc_sync.core.batch import Applied
from cdc_sync.core.outbox import DueEntries, Entry
from cdc_sync.core.replies import Health
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.delivery import memory
from cdc_sync.delivery.endpoints import Endpoint, Endpoints, SenderSettings
from cdc_sync.delivery.memory import Lanes, Memory

BASE_URL = "https://api.example"
ORIGIN = f"{BASE_URL}:443"


def endpoint_of(account: str) -> str:
    return f"{ORIGIN} [{account}]"


def entries_of(watch: str, *ids: str, account: str = DEFAULT_ACCOUNT) -> list[Entry]:
    return [an_entry(each, base_url=BASE_URL, account=account)._replace(watch=watch) for each in ids]


class Rig:
    """A sender's memory, whose clock stands still, and a store in which nothing else is due."""

    def __init__(self, healths: Mapping[str, Health] | None = None, **settings: Any) -> None:
        self.now = NOW
        self.endpoints = Endpoints(replace(SETTINGS, **settings), lambda: self.now, lambda: 1000.0)
        self.memory = Memory(self.endpoints, Lanes(self.endpoints, lambda _: True))
        self.endpoints.learn(healths or {})

    @property
    def settings(self) -> SenderSettings:
        return self.endpoints.settings

    def read(self, entries: Collection[Entry], next_at: int | None = None) -> None:
        """Read these entries, all of one lane."""
        lane = memory.lane_of(next(iter(entries)))
        self.memory.lanes.unread[lane] = 0
        del self.memory.lanes.unread[lane]
        self.memory.take_in(DueEntries({lane: list(entries)}, {lane: next_at}))

    def use(self, **settings: Any) -> list[str]:
        self.memory.forget()
        return self.endpoints.use(replace(self.settings, **settings))

    def begin(self) -> Endpoint | None:
        begun = self.memory.begin()
        return None if begun is None else begun[1]

    @property
    def modes(self) -> dict[str, tuple[str, int]]:
        return {name: (each.health.mode, each.health.until) for name, each in self.endpoints.all.items()}

    @property
    def wanted(self) -> dict[str, int]:
        """How much of each watch would be read now."""
        unread = dict(self.memory.lanes.unread)
        wanted = self.memory.take_wanted()
        self.memory.lanes.unread = unread
        return {watch: of.limit for (_, watch), of in wanted.items()}

    def due(self, *watches: str, endpoint: str = ORIGIN) -> None:
        for watch in watches:
            self.memory.lanes.read_at((endpoint, watch), NOW)


REFUSED = Health("paused", 1, NOW + HOUR, "HTTP 401")
"""An endpoint that refused credentials."""


class TestAccounts:
    def test_a_refusal_concerns_its_account_only(self) -> None:
        rig = Rig(accounts={"a", "b"})
        rig.endpoints.of((endpoint_of("a"), "w")).heed(REFUSED)
        rig.due("w1", endpoint=endpoint_of("a"))
        rig.due("w2", endpoint=endpoint_of("b"))

        assert rig.wanted.keys() == {"w2"}

    def test_a_reload_tries_all_that_were_refused(self) -> None:
        rig = Rig({endpoint_of("a"): Health()}, accounts={"a"})
        rig.endpoints.of((endpoint_of("a"), "w")).heed(REFUSED)

        rig.use(concurrency=3)

        assert rig.modes == {endpoint_of("a"): ("paused", 0)}

    def test_entries_of_one_that_is_no_longer_configured_leave_memory_and_wait(self) -> None:
        rig = Rig({endpoint_of("a"): Health()}, accounts={"a"})
        rig.read(entries_of("w", "a1", account="a"))

        gone = rig.use(accounts={"b"})

        assert gone == [endpoint_of("a")]
        assert (rig.memory.entries, rig.begin(), rig.wanted) == ({}, None, {})
        applying = rig.memory.begin_apply("w", ["a2"])
        rig.memory.end_apply(applying, Applied(entries=entries_of("w", "a2", account="a")))
        rig.read(entries_of("w", "a1", account="a"))
        assert (rig.memory.entries, rig.begin(), rig.modes) == ({}, None, {})
        rig.use(accounts={"a"})
        assert rig.wanted.keys() == {"w"}


class TestRoom:
    def test_each_has_its_turn_where_there_are_more_of_them_than_places(self) -> None:
        rig, turns = Rig(concurrency=1), Counter[str]()
        watches = [f"w{number}" for number in range(12)]
        rig.due(*watches)

        for _ in range(3):
            wanted = rig.memory.take_wanted()
            turns.update(watch for _, watch in wanted)
            rig.memory.take_in(DueEntries(dict.fromkeys(wanted, ()), dict.fromkeys(wanted, NOW)))

        assert turns == dict.fromkeys(watches, 2)

    def test_nothing_is_read_while_half_of_it_is_taken(self) -> None:
        rig = Rig(concurrency=1)
        rig.read(entries_of("a", *"12345"), NOW)
        assert rig.wanted == {}

        rig.begin()

        assert rig.wanted == {"a": 4}

    def test_what_waits_for_its_time_is_not_read_before(self) -> None:
        rig = Rig()
        rig.memory.lanes.read_at((ORIGIN, "a"), NOW + 5)
        assert (rig.wanted, rig.memory.seconds_left()) == ({}, 0.005)

        rig.now += 5

        assert rig.wanted.keys() == {"a"}

    def test_a_probe_is_alone(self) -> None:
        rig = Rig({ORIGIN: Health("open", 5, NOW - 1)})
        rig.due("a", "b")

        assert rig.wanted == {"a": 1}
        rig.read(entries_of("a", "a1", "a2"))

        assert [entry.application_id for entry in rig.memory.entries.values()] == ["a1"]
        assert rig.wanted == {}


def known(number: int) -> Rig:
    """So many endpoints, each of an account with a watch of its name."""
    names = [f"w{each}" for each in range(number)]
    endpoints = {endpoint_of(name): Health() for name in names}
    rig = Rig(endpoints, accounts=frozenset(names), expected=set(endpoints), concurrency=100)
    rig.memory.take_wanted()
    return rig


@pytest.mark.parametrize("number", [2, 50])
def test_the_next_call_goes_to_an_endpoint_with_the_fewest_under_way(number: int) -> None:
    rig = known(number)
    for each in range(number):
        rig.read(entries_of(f"w{each}", "a1", "a2", account=f"w{each}"))

    first = [rig.begin() for _ in range(number)]
    second = rig.begin()

    assert len({begun.name for begun in first if begun}) == number
    assert second is not None
    assert second.under_way == 2


def test_a_slow_endpoint_leaves_half_of_the_calls_to_others() -> None:
    rig = Rig(concurrency=4, accounts={"slow", "other"}, expected={endpoint_of("other")})
    rig.read(entries_of("w", *"123456", account="slow"))

    assert [rig.begin() is not None for _ in range(3)] == [True, True, False]
    rig.endpoints.end(rig.endpoints.all[endpoint_of("slow")], 0.5)

    assert [rig.begin() is not None for _ in range(4)] == [True, True, True, False]
