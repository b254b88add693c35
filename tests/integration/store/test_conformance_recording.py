"""What an observation becomes, by what HelloWork knows and what waits."""

from dataclasses import replace

import pytest
from support import acting
from support.builders import (
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_baseline,
    a_batch,
    a_content,
    an_observation,
    moved,
    some_rules,
)
from support.store_steps import (
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    entry_of,
    events_of,
    known_one,
    lose_answer,
    observe,
    reject,
    results_of,
    story_of,
    told_status,
    waiting_entry,
)

from cdc_sync.core.batch import Applied, ApplyResult
from cdc_sync.core.content import Kind
from cdc_sync.core.diff import Enqueue
from cdc_sync.core.failures import StoreError
from cdc_sync.core.rows import Observation, OutOfScope, Reportable
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.store import Store


async def test_a_baseline_is_adopted_without_a_call(store: Store) -> None:
    rows = an_observation("a1"), an_observation("a2", "hired", "J2")

    results = await results_of(store, some_rules(), a_baseline(*rows))

    assert results == [ApplyResult("a1", "adopt"), ApplyResult("a2", "adopt")]

    assert await begin_calls(store) == []
    known = await known_one(store, "a2")
    assert (known.snapshot, known.pending) == (a_content("hired", "J2", application_id="a2"), None)


async def test_a_second_row_that_a_baseline_meets_of_one_application_is_adopted_too(store: Store) -> None:
    await adopt(store, "a1")

    assert await results_of(store, some_rules(), a_baseline(an_observation(status="hired"))) == [
        ApplyResult("a1", "adopt")
    ]

    assert await entry_of(store) is None
    assert await told_status(store) == "hired"


async def test_a_baseline_that_sends_does_not_say_twice_what_was_acknowledged_meanwhile(store: Store) -> None:
    sending = a_batch(an_observation(), origin="baseline", unseen="send")
    await store.capture.apply(some_rules(), sending)
    await acknowledge(store, await begin_call(store))

    assert await results_of(store, some_rules(), sending) == []

    assert await begin_calls(store) == []


async def test_every_field_of_a_content_is_kept(store: Store) -> None:
    content = a_content("reçu 🎉 '\"", "2022-001-développeur", deleted=True)._replace(
        created=-62_135_596_800_000,  # the first and the last instant that HelloWork's dates can write
        event_date=253_402_300_799_999,
        source='{"sourceId": "CVCatcherWebsite", "n": 1.10}',
        extra='{"communicationDelay": 3}',
    )

    await observe(store, replace(an_observation(), content=content))
    assert (await waiting_entry(store)).content == content

    await acknowledge(store, await begin_call(store))
    assert (await known_one(store)).snapshot == content


@pytest.mark.parametrize(
    ("row", "kinds"),
    [(an_observation(), frozenset({"first"})), (an_observation(deleted=True), frozenset({"first", "deleted"}))],
    ids=["live", "deleted"],
)
async def test_an_application_never_seen_is_queued(store: Store, row: Reportable, kinds: frozenset[Kind]) -> None:
    assert await observe(store, row) == [ApplyResult("a1", Enqueue(kinds), "pending")]

    assert (await waiting_entry(store)).kinds == kinds
    assert (await known_one(store)).snapshot is None


async def test_an_application_that_appears_later_is_adopted_if_so_configured(store: Store) -> None:
    assert await results_of(store, some_rules(), a_batch(an_observation(), unseen="adopt")) == [
        ApplyResult("a1", "adopt")
    ]

    assert await entry_of(store) is None
    assert await told_status(store) == "applied"


async def test_what_waits_for_its_first_call_is_not_adopted_by_a_later_baseline(store: Store) -> None:
    await observe(store, an_observation())

    assert await results_of(store, some_rules(), a_baseline(an_observation())) == []

    assert (await waiting_entry(store)).state == "pending"


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        (an_observation(status="hired"), frozenset({"status"})),
        (an_observation(job_id="J2"), frozenset({"job"})),
        (an_observation(deleted=True), frozenset({"deleted"})),
        (an_observation(status="hired", job_id="J2", deleted=True), frozenset({"status", "job", "deleted"})),
    ],
    ids=["status", "job", "deletion", "all at once"],
)
async def test_a_change_is_queued(store: Store, changed: Reportable, kinds: frozenset[Kind]) -> None:
    await adopt(store, "a1")

    assert await observe(store, changed, at=NOW + 1) == [ApplyResult("a1", Enqueue(kinds), "pending")]

    entry = await waiting_entry(store)
    assert (entry.content, entry.kinds, entry.state) == (changed.content, kinds, "pending")
    assert (entry.queued_at, entry.due_at) == (NOW + 1, NOW + 1)
    assert (entry.attempted, entry.attempts, entry.first_attempt_at, entry.not_found_since) == (False, 0, None, None)
    assert await told_status(store) == "applied"


async def test_the_same_state_again_is_no_news(store: Store) -> None:
    await adopt(store, "a1")
    rewritten = an_observation(event_date=NOW + MINUTE)

    assert await observe(store, rewritten) == []

    assert await entry_of(store) is None
    assert await events_of(store) == []


class TestDates:
    """A receiver that orders by eventDate keeps the newest state."""

    RULES = replace(some_rules(), ordered_dates=True)

    @pytest.fixture(autouse=True)
    async def _acknowledged(self, store: Store) -> None:
        """HelloWork has acknowledged `applied`, dated NOW."""
        await observe(store, an_observation())
        await acknowledge(store, await begin_call(store))

    async def test_an_older_date_than_the_acknowledged_one_is_replaced_and_kept_in_the_history(
        self, store: Store
    ) -> None:
        older = replace(an_observation(status="seen", event_date=NOW - MINUTE), changed_at=NOW + SECOND)

        await observe(store, older, rules=self.RULES)

        assert (await waiting_entry(store)).content.event_date == NOW + SECOND
        queued = (await story_of(store))[-1]
        assert queued.detail["event_date"] == NOW + SECOND
        assert queued.detail["event_date_of_row"] == NOW - MINUTE
        # The row is read again, with its own date: no news, and the call stays as it is.
        entry = await begin_call(store)
        assert await observe(store, older, rules=self.RULES) == []
        await lose_answer(store, entry)
        assert (await begin_call(store)).content == entry.content

    async def test_a_later_date_stays_and_needs_no_words(self, store: Store) -> None:

        await observe(store, an_observation(status="seen", event_date=NOW + 1), rules=self.RULES)

        assert (await waiting_entry(store)).content.event_date == NOW + 1
        queued = (await story_of(store))[-1]
        assert not queued.detail.keys() & {"event_date", "event_date_of_row"}

    async def test_an_attempted_entry_counts_as_received(self, store: Store) -> None:
        await observe(store, an_observation(status="seen", event_date=NOW + MINUTE), rules=self.RULES)
        await lose_answer(store, await begin_call(store))

        # Undone: sent, since the answer may be lost, and later than what it undoes.
        await observe(store, an_observation(event_date=NOW), rules=self.RULES)

        assert (await waiting_entry(store)).content == a_content(event_date=NOW + MINUTE + 1)

    async def test_a_deletion_and_what_follows_it_are_in_order_too(self, store: Store) -> None:
        await observe(store, an_observation(status="deleted", deleted=True, event_date=NOW - MINUTE), rules=self.RULES)
        await acknowledge(store, await begin_call(store))
        await observe(store, an_observation(event_date=NOW - MINUTE), rules=self.RULES)

        assert (await waiting_entry(store)).content.event_date == NOW + 2

    async def test_a_date_alone_is_never_news(self, store: Store) -> None:

        assert await observe(store, an_observation(event_date=NOW - MINUTE), rules=self.RULES) == []
        assert await entry_of(store) is None

    async def test_without_the_rule_the_rows_own_date_is_sent(self, store: Store) -> None:
        await observe(store, an_observation(status="seen", event_date=NOW - MINUTE), rules=some_rules())

        assert (await waiting_entry(store)).content.event_date == NOW - MINUTE

    async def test_the_date_of_an_adopted_state_was_never_sent(self, store: Store) -> None:
        await adopt(store, "a2")

        await observe(store, an_observation("a2", "seen", event_date=NOW - MINUTE), rules=self.RULES)

        assert (await waiting_entry(store, "a2")).content.event_date == NOW - MINUTE
        assert not (await known_one(store, "a2")).is_acknowledged
        (record,) = await store.report.records("a2", WATCH)
        assert record.acknowledged_at == NOW


async def test_the_same_state_again_leaves_what_waits_as_it_is(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    before = await waiting_entry(store)

    assert await observe(store, an_observation(status="hired", event_date=NOW + MINUTE), at=NOW + MINUTE) == []

    assert await waiting_entry(store) == before


async def test_the_newest_state_takes_the_place_of_what_waits(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="seen"))
    first = await waiting_entry(store)

    news = await observe(store, an_observation(status="hired", job_id="J2"), at=NOW + SECOND)

    assert news == [ApplyResult("a1", Enqueue(frozenset({"status", "job"})), "pending")]
    second = await waiting_entry(store)
    assert second.content == a_content("hired", "J2")
    assert second.revision > first.revision
    assert second.queued_at == NOW + SECOND
    assert [event.detail["replaced"] for event in await story_of(store)] == [False, True]


async def test_a_new_content_starts_its_retries_afresh_but_stays_attempted(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="seen"))
    await lose_answer(store, await begin_call(store), again_at=NOW + 10 * MINUTE)

    await observe(store, an_observation(status="hired"), at=NOW + SECOND)

    entry = await waiting_entry(store)
    assert (entry.attempts, entry.first_attempt_at, entry.reason) == (0, None, None)
    assert entry.due_at == NOW + SECOND
    assert entry.attempted


async def test_a_change_undone_before_it_was_attempted_is_cancelled(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))

    assert await observe(store, an_observation()) == [ApplyResult("a1", "cancel")]

    assert await entry_of(store) is None
    assert await begin_calls(store) == []
    assert await events_of(store) == ["queued", "cancelled"]


async def test_a_change_undone_after_an_attempt_is_enqueued(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    await lose_answer(store, await begin_call(store))

    assert await observe(store, an_observation()) == [ApplyResult("a1", Enqueue(frozenset({"status"})), "pending")]

    assert (await begin_call(store)).content == a_content()


async def test_a_change_undone_while_its_call_is_under_way_is_enqueued(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))
    under_way = await begin_call(store)

    await observe(store, an_observation(), under_way=[under_way])
    await acknowledge(store, under_way)
    assert (await begin_call(store)).content == a_content()


async def test_a_first_call_that_was_never_answered_is_never_cancelled(store: Store) -> None:
    await observe(store, an_observation())

    assert await observe(store, an_observation(status="hired")) == [
        ApplyResult("a1", Enqueue(frozenset({"first"})), "pending"),
    ]


async def test_what_must_not_be_sent_becomes_a_dead_letter_at_once(store: Store) -> None:
    await adopt(store, "a1")

    refused = an_observation(status="42", refused="the label '42' is not in status.map")
    news = await observe(store, refused)

    assert news == [ApplyResult("a1", Enqueue(frozenset({"status"})), "dead", "the label '42' is not in status.map")]
    entry = await waiting_entry(store)
    assert (entry.state, entry.reason, entry.attempted) == ("dead", "the label '42' is not in status.map", False)
    assert await begin_calls(store) == []
    assert await observe(store, refused) == []
    assert await events_of(store) == ["dead-lettered"]


async def test_what_must_not_be_sent_may_even_have_a_url_that_is_none(store: Store) -> None:
    odd = a_content("hired")._replace(url="javascript:alert(1)")

    await observe(store, replace(an_observation(), content=odd, refused="its URL may not be called"))

    assert (await waiting_entry(store)).content.url == "javascript:alert(1)"
    assert await store.delivery.endpoints() == {}


async def test_what_must_not_be_sent_takes_the_place_of_what_waits(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="hired"))

    await observe(store, an_observation(status="42", refused="unmapped"))

    assert await begin_calls(store) == []
    assert (await waiting_entry(store)).state == "dead"


async def test_a_dead_letter_that_was_never_attempted_is_cancelled_when_undone(store: Store) -> None:
    await adopt(store, "a1")
    await observe(store, an_observation(status="42", refused="unmapped"))

    assert await observe(store, an_observation()) == [ApplyResult("a1", "cancel")]


async def test_a_dead_letter_waits_until_the_application_changes_again(store: Store) -> None:
    await adopt(store, "a1")
    await bury(store, an_observation(status="hired"))

    assert await observe(store, an_observation(status="hired")) == []
    assert await observe(store, an_observation(status="seen")) == [
        ApplyResult("a1", Enqueue(frozenset({"status"})), "pending"),
    ]

    entry = await begin_call(store)
    assert entry.content == a_content("seen")
    assert (entry.attempts, entry.reason) == (1, None)


async def test_an_attempted_dead_letter_that_is_undone_is_enqueued(store: Store) -> None:
    await adopt(store, "a1")
    await bury(store, an_observation(status="hired"))

    await observe(store, an_observation())

    assert (await begin_call(store)).content == a_content()


async def test_a_status_must_stand_for_its_settle_time(store: Store) -> None:
    rules = some_rules(settle={"rejected": 5 * MINUTE}, default_settle=SECOND)
    await adopt(store, "a1", "a2")

    await observe(store, an_observation("a1", "rejected"), an_observation("a2", "seen"), rules=rules)

    assert (await waiting_entry(store, "a1")).due_at == NOW + 5 * MINUTE
    assert (await waiting_entry(store, "a2")).due_at == NOW + SECOND
    assert await begin_calls(store, NOW + SECOND - 1) == []
    assert [entry.application_id for entry in await begin_calls(store, NOW + SECOND)] == ["a2"]
    assert [entry.application_id for entry in await begin_calls(store, NOW + 5 * MINUTE)] == ["a2", "a1"]


async def test_each_new_status_settles_again_and_a_repeated_one_does_not(store: Store) -> None:
    rules = some_rules(default_settle=MINUTE)
    await adopt(store, "a1")

    await observe(store, an_observation(status="seen"), rules=rules, at=NOW)
    await observe(store, an_observation(status="hired"), rules=rules, at=NOW + 30 * SECOND)
    await observe(store, an_observation(status="hired"), rules=rules, at=NOW + 40 * SECOND)

    assert (await waiting_entry(store)).due_at == NOW + 90 * SECOND


async def test_watches_do_not_know_each_other(store: Store) -> None:
    await adopt(store, "a1", watch="applications")
    await adopt(store, "a1", watch="spontaneous")

    await observe(store, an_observation(status="hired"), rules=some_rules("spontaneous"))

    assert await entry_of(store, "a1", "applications") is None
    assert (await waiting_entry(store, "a1", "spontaneous")).content.status == "hired"
    assert await store.capture.known("applications", ["a1", "a2"]) != await store.capture.known(
        "spontaneous", ["a1", "a2"]
    )


@pytest.mark.parametrize("application_id", ["1", "é 🎉", 'a"b', "a'b", "a\\b", "%", "[1]", "{}", "x" * 300, " 1"])
async def test_any_id_names_its_application_and_no_other(store: Store, application_id: str) -> None:
    await adopt(store, application_id, "other")

    await observe(store, an_observation(application_id, "hired"))

    assert (await begin_call(store)).application_id == application_id
    assert list(await store.capture.known("applications", [application_id])) == [application_id]


async def test_a_large_baseline_is_one_step(store: Store) -> None:
    ids = [f"a{number}" for number in range(5000)]

    await adopt(store, *ids)

    known = await store.capture.known("applications", ids)
    assert len(known) == 5000
    assert len({one.number for one in known.values()}) == 5000


async def test_a_batch_that_cannot_be_recorded_leaves_nothing_behind(store: Store) -> None:
    twice = a_baseline(an_observation("a1"), *(moved(an_observation("a2"), row) for row in ("row 1", "row 2")))

    with pytest.raises(StoreError):
        await store.capture.apply(some_rules(), twice._replace(positions={"baseline": "a2"}))

    assert await store.capture.known("applications", ["a1", "a2"]) == {}
    assert await store.capture.positions("applications") == {}


async def test_a_batch_without_news_is_not_written(store: Store) -> None:
    await adopt(store, "a1", "a2")
    await observe(store, an_observation("a2", "seen"))
    rows: list[Observation] = [an_observation("a1"), an_observation("a2", "seen"), OutOfScope(None, ("nobody's",))]

    assert await store.capture.apply(some_rules(), a_batch(*rows)._replace(replica={"replica": "7"})) == Applied()
    assert (await store.capture.apply(some_rules(), a_batch(an_observation("a1", key=("row 2",))))).written is False
    assert await store.capture.positions(WATCH) == {}

    applied = await store.capture.apply(
        some_rules(), a_batch(an_observation("a1", "seen"))._replace(replica={"replica": "7"})
    )
    assert applied.written
    assert await store.capture.positions(WATCH) == {"replica": "7"}


async def test_an_unresolved_application_keeps_the_position_back(store: Store) -> None:
    await adopt(store, "a1")
    rows = [an_observation("a1", "hired", key=("row 2",)), an_observation("a3")]

    applied = await store.capture.apply(some_rules(), a_batch(*rows)._replace(positions={"baseline": "row 2"}))

    assert (applied.unresolved, [result.application_id for result in applied.results]) == ({"a1": NOW}, ["a3"])
    assert await store.capture.positions(WATCH) == {}


async def test_the_history_has_who_saw_what(store: Store) -> None:
    await adopt(store, "a1")

    await store.capture.apply(some_rules(), a_batch(an_observation(job_id="J2"), origin="sweep", now=NOW + 1))

    (event,) = await story_of(store)
    assert (event.at, event.watch, event.application_id, event.event) == (NOW + 1, "applications", "a1", "queued")
    assert event.detail == {
        "by": "sweep",
        "from": {"status": "applied", "job_id": "J1", "deleted": False},
        "to": {"status": "applied", "job_id": "J2", "deleted": False},
        "kinds": ["job"],
        "replaced": False,
        "due_at": NOW + 1,
    }


class TestACorrectedRow:
    """It says what waits already, and something else of what rides along."""

    async def test_corrects_a_dead_letter_which_stays_one(self, store: Store) -> None:
        await adopt(store, "a1")
        await bury(store, an_observation(status="hired"))
        before = await waiting_entry(store, "a1")
        corrected = replace(an_observation(status="hired"), content=RIGHT)

        assert await observe(store, corrected) == []

        entry = await waiting_entry(store, "a1")
        assert entry.content == RIGHT._replace(event_date=before.content.event_date)
        assert entry._replace(content=before.content, revision=before.revision) == before
        assert await acting.retry_dead(store, None, NOW) == [(WATCH, "a1")]
        (sent,) = await begin_calls(store, endpoint=endpoint_of(RIGHT.url))
        assert sent.content == entry.content

    async def test_is_sent_instead_of_what_waits_and_no_sooner(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"), rules=some_rules(default_settle=MINUTE))

        await observe(
            store, replace(an_observation(status="hired"), content=RIGHT), rules=some_rules(), at=NOW + SECOND
        )

        assert await begin_calls(store, NOW + MINUTE - 1, endpoint=endpoint_of(RIGHT.url)) == []
        assert endpoint_of(RIGHT.url) in await store.delivery.endpoints()
        (sent,) = await begin_calls(store, NOW + MINUTE, endpoint=endpoint_of(RIGHT.url))
        assert (sent.content.source, sent.content.url) == (RIGHT.source, RIGHT.url)
        assert (await store.operation.fuses())[WATCH].changes == 1

    async def test_is_not_taken_for_acknowledged_by_a_call_under_way(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))
        under_way = await begin_call(store)

        corrected = replace(an_observation(status="hired"), content=RIGHT)
        await observe(store, corrected, under_way=[under_way])
        await reject(store, under_way)

        assert (await waiting_entry(store, "a1")).state == "pending", "what was refused was the earlier one"

    async def test_changes_nothing_if_it_may_not_be_called(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, an_observation(status="hired"))

        await observe(store, replace(an_observation(status="hired", refused="another host"), content=RIGHT))

        assert (await begin_call(store)).content == a_content("hired")


RIGHT = a_content("hired", base_url="https://right.example")._replace(
    source='"partner"', created=NOW - 1, extra='{"x": 1}'
)
