"""Which endpoint an entry belongs to, whose turn it is, and that neither takes longer where there are many."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any, Self

import pytest
from support.builders import HOUR, NOW, WATCH
from support.memory_outbox import MemoryOutbox
from support.sending import SETTINGS, an_entry

from cdc_sync.core.outbox import Entry, Lane
from cdc_sync.core.replies import Credentials, Health, Reply
from cdc_sync.delivery import endpoints as module
from cdc_sync.delivery.endpoints import Endpoints, fingerprint
from cdc_sync.delivery.sender import Sender

BASE_URL = "https://api.example"
ORIGIN = f"{BASE_URL}:443"


def own(*watches: str) -> dict[str, Credentials]:
    """Credentials of its own for each watch."""
    return {watch: Credentials(watch, {"X-Api-Key": f"key of {watch}"}) for watch in watches}


def entries_of(watch: str, *ids: str) -> list[Entry]:
    return [an_entry(each, base_url=BASE_URL)._replace(watch=watch) for each in ids]


def endpoints(**settings: Any) -> Endpoints:
    """Endpoints whose clock stands still, and that know what the store knows: nothing."""
    found = Endpoints(replace(SETTINGS, **settings), lambda: NOW, lambda: 1000.0)
    found.learn({}, {}, ())
    return found


def name_of(found: Endpoints, watch: str) -> str:
    """The endpoint of a watch's calls."""
    found.put(entries_of(watch, "probe"))
    begun = found.begin()
    assert begun is not None
    found.end(begun[1], None)
    return begun[1].name


def modes(found: Endpoints) -> dict[str, tuple[str, int]]:
    return {name: (each.health.mode, each.health.until) for name, each in found.all.items()}


def test_an_entry_that_becomes_due_after_the_decision_about_claims_waits_for_no_other_event() -> None:
    now = NOW
    found = Endpoints(SETTINGS, lambda: now, lambda: 1000.0)
    found.hint(NOW + 5, (ORIGIN, WATCH))
    assert found.claimable() == ({}, frozenset())

    now += 10

    assert found.due_in() <= 0
    assert found.claimable()[0]
    assert found.due_in() > 0, "it is decided"


class TestCredentials:
    def test_a_watch_with_its_own_has_an_endpoint_of_its_own(self) -> None:
        found = endpoints(own=own("a@t1"))

        assert name_of(found, "a@t1") == f"{ORIGIN} [a@t1]"
        assert name_of(found, "b") == ORIGIN

    def test_watches_that_share_them_share_an_endpoint(self) -> None:
        shared = Credentials("a@t1", {"X-Api-Key": "secret"})
        found = endpoints(own={"a@t1": shared, "b@t1": shared})

        assert {name_of(found, watch) for watch in ("a@t1", "b@t1")} == {f"{ORIGIN} [a@t1]"}

    def test_they_are_shown_nowhere(self) -> None:
        settings = replace(SETTINGS, own={WATCH: Credentials(WATCH, {"X-Api-Key": "planted-secret"})})

        assert "planted-secret" not in repr(settings)
        assert "planted-secret" not in repr(Endpoints(settings, lambda: NOW))

    def test_a_refusal_concerns_the_watches_that_have_them_only(self) -> None:
        found = endpoints(own=own("a", "b"))
        found.learn({f"{ORIGIN} [a]": refused("a")}, {(ORIGIN, "a"): NOW, (ORIGIN, "b"): NOW, (ORIGIN, "c"): NOW}, ())

        wanted, probing = found.claimable()

        assert wanted.keys() == {(ORIGIN, "b"), (ORIGIN, "c")}
        assert not probing

    def test_at_first_sight_those_that_were_not_refused_are_tried_at_once(self) -> None:
        found = Endpoints(replace(SETTINGS, own=own("a", "b")), lambda: NOW)

        found.learn({f"{ORIGIN} [a]": refused("a"), f"{ORIGIN} [b]": refused("another key")}, {}, ())

        assert modes(found) == {f"{ORIGIN} [a]": ("paused", NOW + HOUR), f"{ORIGIN} [b]": ("paused", 0)}

    def test_a_new_key_is_tried_at_once_although_the_store_has_copied_the_refusal_to_its_new_owner(self) -> None:
        found = endpoints(own=own("b"))
        found.learn({f"{ORIGIN} [b]": refused("b")}, {(ORIGIN, "b"): NOW}, ())

        found.use(replace(found.settings, own=dict.fromkeys("ab", Credentials("a", {"X-Api-Key": "new"}))))
        found.learn({f"{ORIGIN} [a]": refused("b")}, {(ORIGIN, "b"): NOW}, ())

        assert modes(found) == {f"{ORIGIN} [a]": ("paused", 0)}

    def test_a_watch_that_joins_a_working_key_does_not_hold_it_up(self) -> None:
        found = endpoints(own=own("c", "m"))
        found.learn({f"{ORIGIN} [c]": refused("c")}, {(ORIGIN, "c"): NOW, (ORIGIN, "m"): NOW}, ())
        found.put(entries_of("m", "m1"))

        # The key's owner is another one now, and gets a call before its health is read.
        found.use(replace(found.settings, own=dict.fromkeys("acm", Credentials("a", {"X-Api-Key": "key of m"}))))
        found.begin()
        found.learn({f"{ORIGIN} [a]": refused("c")}, {(ORIGIN, "c"): NOW}, ())

        assert modes(found) == {f"{ORIGIN} [a]": ("paused", 0)}

    def test_a_reload_that_changes_those_of_one_watch_concerns_its_endpoint_only(self) -> None:
        found = endpoints(own=own("a", "b"))
        found.learn({f"{ORIGIN} [{each}]": refused(each) for each in "ab"}, {}, ())

        found.use(replace(found.settings, own={**own("a"), "b": Credentials("b", {"X-Api-Key": "new"})}))

        assert modes(found) == {f"{ORIGIN} [a]": ("paused", NOW + HOUR), f"{ORIGIN} [b]": ("paused", 0)}

    def test_a_reload_that_changes_none_tries_all(self) -> None:
        found = endpoints(own=own("a"))
        found.learn({f"{ORIGIN} [a]": refused("a"), ORIGIN: refused("shared")}, {}, ())

        found.use(replace(found.settings, concurrency=3))

        assert {until for _, until in modes(found).values()} == {0}

    def test_what_is_ready_or_due_goes_to_the_endpoint_of_the_new_ones(self) -> None:
        found = endpoints()
        found.put(entries_of("a", "a1", "a2"))
        found.hint(NOW, (ORIGIN, "a"))

        found.use(replace(found.settings, own=own("a")))

        begun = found.begin()
        assert begun is not None
        assert begun[1].name == f"{ORIGIN} [a]"
        assert not found.all[ORIGIN].due
        assert list(begun[1].due) == [(ORIGIN, "a")]
        assert len(found.ready) == 1

    def test_what_was_ready_for_credentials_that_are_gone_is_given_back(self) -> None:
        found = endpoints(own=own("a", "b"))
        found.put([*entries_of("a", "a1", "a2"), *entries_of("b", "b1")])
        offer = found.offer("a", ["a2"], claims=False)

        found.use(replace(found.settings, own=own("b")))
        found.settle("a", offer, ())

        assert list(found.returning) == [("a", "a1")]
        assert found.ready.keys() == {("a", "a2"), ("b", "b1")}

    def test_an_endpoint_whose_credentials_have_another_owner_keeps_its_health_by_its_new_name(self) -> None:
        found, shared = endpoints(own=own("b", "c"), built={"b": BASE_URL}), {"X-Api-Key": "key of b"}
        found.learn({f"{ORIGIN} [b]": refused("b"), f"{ORIGIN} [c]": refused("c")}, {}, ())

        gone, followers = found.use(replace(found.settings, own={"a": Credentials("a", shared)}, built={"a": BASE_URL}))

        assert gone == [f"{ORIGIN} [b]", f"{ORIGIN} [c]"]
        assert [each.name for each in followers] == [f"{ORIGIN} [a]"]
        assert modes(found)[f"{ORIGIN} [a]"] == ("paused", NOW + HOUR)

    def test_a_key_that_another_watch_has_too_has_the_health_that_is_known_of_it(self) -> None:
        found, shared = endpoints(own=own("a", "b"), built=dict.fromkeys("ab", BASE_URL)), own("a")["a"]
        found.learn({f"{ORIGIN} [b]": refused("b")}, {}, ())

        gone, followers = found.use(replace(found.settings, own={"a": shared, "b": shared}))

        assert (gone, followers) == ([f"{ORIGIN} [b]"], [])
        assert modes(found) == {f"{ORIGIN} [a]": ("healthy", 0)}


def refused(watch: str) -> Health:
    """An endpoint that refused the credentials of a watch."""
    return Health("paused", 1, NOW + HOUR, "HTTP 401", fingerprint({"X-Api-Key": f"key of {watch}"}))


class TestTurns:
    def test_watches_of_one_endpoint_share_what_is_claimed(self) -> None:
        found = endpoints(concurrency=8)
        found.learn({}, {(ORIGIN, "mass"): NOW - HOUR, (ORIGIN, "quiet"): NOW}, ())

        assert found.claimable()[0] == {(ORIGIN, "mass"): 4, (ORIGIN, "quiet"): 4}

    def test_each_has_its_turn_where_there_are_more_of_them_than_places(self) -> None:
        found, turns = endpoints(concurrency=2), Counter[str]()
        lanes = {(ORIGIN, watch): NOW for watch in "abcde"}

        for _ in range(5):
            found.learn({}, lanes, ())
            wanted, _ = found.claimable()
            assert found.claimable()[0] == wanted, "to ask is no turn"
            found.expect(wanted)
            found.coming.remove(wanted)
            turns.update(watch for _, watch in wanted)

        assert turns == dict.fromkeys("abcde", 2)

    def test_an_apply_claims_of_its_own_watch(self) -> None:
        found = endpoints(own=own("b"), built={"a": BASE_URL, "b": BASE_URL})

        assert found.offer("a", ["1"], claims=True).wanted == {(ORIGIN, "a"): 16}
        assert found.offer("b", ["1"], claims=True).wanted == {}, "the free workers are taken"

    def test_an_apply_claims_nothing_before_the_endpoints_health_is_known(self) -> None:
        found = Endpoints(replace(SETTINGS, built={"a": BASE_URL}), lambda: NOW)

        assert found.offer("a", ["1"], claims=True).wanted == {}

    def test_an_apply_leaves_the_turn_to_what_is_due_already(self) -> None:
        found = endpoints(built={"a": BASE_URL})
        found.hint(NOW, (ORIGIN, "mass"))

        assert found.offer("a", ["1"], claims=True).wanted == {}


class Steps:
    """Counts the lines of `endpoints` that are run."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != module.__file__:
            return None
        self.count += event == "line"
        return self._trace


def known(number: int) -> Endpoints:
    """So many endpoints, each of a watch with its own credentials, of which the last one has work."""
    watches = [f"w{each}" for each in range(number)]
    found = endpoints(own=own(*watches), built=dict.fromkeys(watches, BASE_URL), concurrency=100)
    lanes: dict[Lane, int] = {(ORIGIN, watch): NOW for watch in watches}
    found.learn({f"{ORIGIN} [{watch}]": Health() for watch in watches}, lanes, ())
    found.learn({}, {}, ())
    return found


def steps_of_a_call(number: int) -> int:
    """What one change costs from its apply to the end of its call."""
    found, watch = known(number), f"w{number - 1}"
    with Steps() as steps:
        offer = found.offer(watch, ["a1"], claims=True)
        found.settle(watch, offer, ())
        found.put(entries_of(watch, "a1"))
        begun = found.begin()
        assert begun is not None
        found.end(begun[1], 0.02)
    return steps.count


def test_a_call_takes_no_more_steps_with_a_thousand_endpoints() -> None:
    assert steps_of_a_call(1000) == steps_of_a_call(1)


def test_a_claim_takes_no_more_steps_with_a_thousand_endpoints_of_which_one_has_something_due() -> None:
    def steps_of_a_claim(number: int) -> int:
        found = known(number)
        found.hint(NOW, (ORIGIN, "w0"))
        with Steps() as steps:
            found.give_back()
            wanted, _ = found.claimable()
            found.expect(wanted)
            found.coming.remove(wanted)
            found.put(entries_of("w0", "a1"))
            assert found.due_in() > 0
            assert found.has_due()
        return steps.count

    assert steps_of_a_claim(1000) == steps_of_a_claim(1)


@pytest.mark.parametrize("ready", [1, 50])
def test_the_next_call_goes_to_an_endpoint_with_the_fewest_under_way(ready: int) -> None:
    found = known(ready)
    for number in range(ready):
        found.put(entries_of(f"w{number}", "a1", "a2"))

    first = [found.begin() for _ in range(ready)]
    second = found.begin()

    assert len({begun[1].name for begun in first if begun}) == ready
    assert second is not None
    assert second[1].under_way == 2


class ManyLanes(MemoryOutbox):
    """The outbox of a thousand watches that wait: a look at it takes 0.02 s."""

    looks = 0
    lanes = 1000
    moment = 1000.0

    async def look(self) -> tuple[dict[str, Health], dict[Lane, int]]:
        self.looks += 1
        self.moment += 0.02
        return {}, {(ORIGIN, f"w{number}"): NOW + HOUR for number in range(self.lanes)}


class Nobody:
    async def call(self, entry: Entry) -> tuple[Reply, str]:
        raise AssertionError(f"nothing is due: {entry}")


@pytest.mark.parametrize(("lanes", "looks"), [(1000, 1), (10, 20)])
async def test_a_look_at_many_lanes_takes_a_tenth_of_the_time_at_most(lanes: int, looks: int) -> None:
    outbox = ManyLanes(lambda: NOW)
    outbox.lanes = lanes
    sender = Sender(outbox, Nobody(), SETTINGS, lambda _: None, lambda: NOW, monotonic=lambda: outbox.moment)
    sending = asyncio.create_task(sender.run())
    await asyncio.sleep(0)
    begun, before = outbox.moment, outbox.looks

    for _ in range(20):
        sender.look()
        await asyncio.sleep(0.001)

    assert outbox.looks - before <= looks
    assert outbox.looks - before >= min(looks, 5) - 1
    outbox.moment = begun + 0.5
    sender.look()
    await asyncio.sleep(0.001)
    assert outbox.moment > begun + 0.5, "the look that had to wait"
    sender.stop()
    await sending
