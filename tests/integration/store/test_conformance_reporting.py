"""Reading the store for people, and what keeps it in order."""

from typing import Any

import pytest
from support.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    WATCH,
    a_batch,
    a_content,
    a_suspicion,
    an_observation,
    moved,
    some_rules,
)
from support.store_backends import Backend, OpenStore
from support.store_steps import (
    acknowledge,
    adopt,
    begin_call,
    begin_calls,
    bury,
    lose_answer,
    observe,
    reject,
    waiting_entry,
)

from cdc_sync.core.batch import Resolved
from cdc_sync.core.events import PersonActed, WatchUnconfigured
from cdc_sync.core.failures import StoreError
from cdc_sync.core.outbox import Skip, Suspicion
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.core.replies import DeadLetter, Finished, Health
from cdc_sync.core.rows import OutOfScope, Unreportable
from cdc_sync.store import Store
from cdc_sync.store.errors import AnotherDatabaseError
from cdc_sync.store.report import CALL_STEP, CallCounts, Record, WatchCounts

EVERYTHING = 10**9
"""More events than there are."""


class TestIdentity:
    async def test_it_remembers_each_configured_database_by_its_name_and_refuses_another(
        self, store: Store, open_store: OpenStore
    ) -> None:
        assert (await store.databases.identity("main"), await store.databases.hosts("main")) == (None, ())
        for name, identity, host in (("", "7312/ats", "db-1:5432"), ("main", "8000/other", "db-2:5432")):
            await store.databases.bind(identity, [host], name)
        await store.driver.close()

        store = await open_store()
        assert (await store.databases.identity(), await store.databases.hosts()) == ("7312/ats", ("db-1:5432",))
        assert await store.databases.identity("main") == "8000/other"
        with pytest.raises(AnotherDatabaseError):
            await store.databases.bind("9999/ats", [], "main", "databases.all")
        by = PersonActed(NOW, "adopt-database", "julia", 1, "main")
        await store.databases.rebind("9999/ats", ["db-3:5432"], {WATCH: {"replica": ""}}, by)
        await store.databases.bind("9999/ats", ["db-3:5432"], "main", "databases.all")
        assert await store.databases.hosts("main") == ("db-3:5432",)
        assert await store.databases.identity() == "7312/ats"
        assert await store.capture.positions(WATCH) == {"replica": ""}
        (line,) = await store.report.story("", 10)
        assert (line.event, line.detail["who"], line.detail["database"]) == ("database-adopted", "julia", "main")

    async def test_it_remembers_the_session_by_which_a_watch_is_captured(self, store: Store) -> None:
        assert await store.databases.begin_capture(WATCH, "first") is None
        assert await store.databases.begin_capture("other", "its own") is None
        # A file's former leader has ended, and its sessions with it.
        before = ("first", "second") if store.driver.clock.shared else (None, None)
        assert (
            await store.databases.begin_capture(WATCH, "second"),
            await store.databases.begin_capture(WATCH, "third"),
        ) == before


async def test_a_store_written_by_a_newer_version_is_refused(
    store: Store, backend: Backend, open_store: OpenStore
) -> None:
    await store.driver.close()
    await backend.mark_as_newer()

    with pytest.raises(StoreError, match=r"newer cdc-sync.*Run that version, or restore"):
        await open_store()


async def test_a_reason_keeps_its_code_and_values_wherever_it_is_kept(store: Store, open_store: OpenStore) -> None:
    reason = coded("http-answer", "HTTP %(status)s: %(answer)s", status=400, answer='"no"')
    await observe(store, an_observation("a1"))
    letter = await begin_call(store)
    await store.delivery.complete(
        [Finished(letter, DeadLetter(reason), {"reason": reason}, NOW)], {"e": Health(reason=reason)}
    )
    await store.operation.set_conditions({"store": reason}, NOW)
    await store.capture.apply(some_rules(), a_batch(Resolved("a1", NOW, Unreportable("a1", ("3",), reason))))
    await store.capture.apply(some_rules(), a_batch(Unreportable(None, ("4",), reason)))
    await observe(store, an_observation("a2"), an_observation("a3", deleted=True), rules=some_rules(max_changes=0))
    await store.capture.blow_fuse("other", reason, NOW)
    await store.driver.close()

    store = await open_store()
    (dead,), (held,), (hit,) = (
        await store.report.entries("dead", None, 9),
        (await store.report.entries("held", None, 1)),
        (await store.report.search("4", None, 9)),
    )
    fuses = await store.operation.fuses()
    refused = [
        dead.reason,
        (await store.report.story("a1", 9))[-1].detail["reason"],
        (await store.delivery.endpoints())["e"][0].reason,
        (await store.operation.conditions())[0].message,
        (await store.report.skipped([WATCH], 9))[0][1].reason,
        (await store.report.records("a1", None))[0].skipped,
        hit.reason,
        fuses["other"].reason,
    ]
    kept = [held.reason, fuses[WATCH].reason, (await store.operation.held_groups(WATCH))[0].reason]
    assert refused == [reason] * len(refused)
    assert [(each.code, each.values) for each in refused if isinstance(each, Reason)] == [
        (reason.code, reason.values)
    ] * len(refused)
    assert [each.code for each in kept if isinstance(each, Reason)] == ["fuse-changes"] * len(kept)


async def test_what_is_held_of_watches_that_the_configuration_does_not_have(store: Store) -> None:
    await bury(store, an_observation("x1"))
    await observe(store, an_observation("h1"), rules=some_rules(max_changes=0))
    await adopt(store, "a1")
    await store.capture.apply(some_rules(), a_suspicion("a1"))
    await store.capture.apply(some_rules("spontaneous"), a_batch(an_observation("s1")))
    await store.databases.begin_capture("empty", "a session")

    assert await store.report.unconfigured({WATCH, "spontaneous", "new"}) == [WatchUnconfigured("empty")]
    assert await store.report.unconfigured(["new"]) == [
        WatchUnconfigured(WATCH, known=3, held=1, dead=1, suspected=1),
        WatchUnconfigured("empty"),
        WatchUnconfigured("spontaneous", known=1, pending=1),
    ]


class TestCounts:
    async def test_each_watch_is_counted(self, store: Store) -> None:
        await adopt(store, "a1", "a2", "a3", "a4", "a5")
        await bury(store, an_observation("a1", "seen"))
        await observe(store, an_observation("a2", "seen"), at=NOW + 5)
        await observe(store, an_observation("a3", "seen"), at=NOW + 3)
        await observe(store, an_observation("a4", "seen"), rules=some_rules(max_changes=0))
        await store.capture.apply(
            some_rules(), a_batch(an_observation("a5", deleted=True), skips=[Skip(("9",), None, "it has no status")])
        )
        await store.capture.apply(some_rules("spontaneous"), a_batch(skips=[Skip(("9",), None, "it has no status")]))

        assert await store.report.counts() == {
            WATCH: WatchCounts(
                known=5, pending=2, held=1, dead=1, skipped=1, suspected=1, oldest_queued_at=NOW + 3, changed_at=NOW
            ),
            "spontaneous": WatchCounts(skipped=1),
        }

    async def test_the_last_change_is_the_last_news(self, store: Store) -> None:
        await adopt(store, "a1")
        assert (await store.report.counts())[WATCH].changed_at is None, "adopted, which is no change"
        await observe(store, an_observation("a1", "seen"), at=NOW + 1)
        assert (await store.report.counts())[WATCH].changed_at == NOW + 1
        await observe(store, an_observation("a1"), at=NOW + 2)
        assert (await store.report.counts())[WATCH].changed_at == NOW + 2, "undone"
        await observe(store, an_observation("a1"), at=NOW + 3)
        await adopt(store, "a2", at=NOW + 4)
        assert (await store.report.counts())[WATCH].changed_at == NOW + 2


class TestRecords:
    async def test_one_has_everything(self, store: Store) -> None:
        await adopt(store, "a1")
        await observe(store, moved(an_observation(status="hired"), "row 2"))
        await store.capture.apply(some_rules(), a_suspicion("a1", key=("row 2",)))
        await store.capture.apply(some_rules(), a_batch(Resolved("a1", NOW, OutOfScope("a1", ("row 2",)))))
        skipped = Resolved("a1", NOW, Unreportable("a1", ("row 3",), "it has no job id"))
        await store.capture.apply(some_rules(), a_batch(skipped))
        suspicion = Suspicion("a1", NOW, NOW + 5 * SECOND)

        entry = await waiting_entry(store)
        assert await store.report.records("a1", None) == [
            Record(WATCH, "a1", ("row 2",), False, a_content(), NOW, entry, suspicion, "it has no job id", True)  # noqa: FBT003 - a record's fields in order
        ]

    async def test_a_row_that_could_never_be_reported_is_explained(self, store: Store) -> None:
        await store.databases.begin_capture(WATCH, "a session")
        await store.capture.apply(some_rules(), a_batch(skips=[Skip(("7",), "a1", "it has no status")]))

        (record,) = await store.report.records("a1", None)

        assert (record.watch, record.key, record.skipped) == (WATCH, ("7",), "it has no status")
        assert (record.snapshot, record.acknowledged_at, record.entry, record.suspicion) == (None, None, None, None)
        assert await store.report.records("a1", "spontaneous") == []


class TestSearch:
    async def found(self, store: Store, text: str, watch: str | None = None, limit: int = 20) -> list[tuple[Any, ...]]:
        return [(hit.watch, hit.application_id, hit.key) for hit in await store.report.search(text, watch, limit)]

    async def test_an_application_is_found_by_its_id_before_all_else(self, store: Store) -> None:
        await observe(store, an_observation("hw-1", key=("7",)), an_observation("hw-10", key=("hw-1",)))

        assert await self.found(store, "hw-1") == [(WATCH, "hw-1", ("7",))]

    @pytest.mark.parametrize("key", [("17",), ("a,b/c",), ('["17"]',), ('é"\\',), ("a", "b")])
    async def test_a_row_is_found_by_its_key_as_it_is_shown(self, store: Store, key: tuple[str, ...]) -> None:
        await observe(store, an_observation("hw-1", key=key), an_observation("hw-2", key=("a", "c")))

        assert await self.found(store, "/".join(key)) == [(WATCH, "hw-1", key)]

    async def test_a_key_may_be_of_several_rows(self, store: Store) -> None:
        await observe(store, an_observation("hw-1é", key=("7",)))
        await observe(store, an_observation("hw-1", key=("7",)), rules=some_rules(watch="spontaneous"))

        assert [hit[:2] for hit in await self.found(store, "7")] == [(WATCH, "hw-1é"), ("spontaneous", "hw-1")]
        assert [hit[:2] for hit in await self.found(store, "7", limit=1)] == [(WATCH, "hw-1é")]
        assert [hit[:2] for hit in await self.found(store, "7", "spontaneous")] == [("spontaneous", "hw-1")]

    async def test_rows_that_cannot_be_reported_are_found_too(self, store: Store) -> None:
        rows = [Unreportable("hw-9", ("8",), "it has no status"), Unreportable(None, ("9",), "its id is no id")]
        await store.databases.begin_capture(WATCH, "a session")
        await store.capture.apply(some_rules(), a_batch(*rows))

        assert [hit.application_id for hit in await store.report.search("hw-9", None, 20)] == ["hw-9"]
        (hit,) = await store.report.search("9", None, 20)
        assert (hit.application_id, hit.key, hit.reason) == (None, ("9",), "its id is no id")

    @pytest.mark.parametrize("text", ["", "[", "[1, null, {}]", "hw", "HW-1", "\U0010ffff", "%", "_", "hw-1\x00"])
    async def test_nothing_is_found_by_what_nothing_is_called(self, store: Store, text: str) -> None:
        await adopt(store, "hw-1")

        assert await store.report.search(text, None, 20) == []


class TestEndsOfCalls:
    async def test_the_newest_come_first_whatever_else_has_happened(self, store: Store) -> None:
        for number, id_ in enumerate(("a1", "a2", "a3", "a4")):
            await observe(store, an_observation(id_), at=NOW + number)
            entry = await begin_call(store, NOW + number)
            match id_:
                case "a2":
                    await lose_answer(store, entry, at=NOW + number, again_at=NOW + MINUTE)
                case "a3":
                    await reject(store, entry, at=NOW + number)
                case _:
                    await acknowledge(store, entry, at=NOW + number)
        await observe(store, *(an_observation(f"b{number}") for number in range(20)), at=NOW + 9)

        ends = await store.report.recent_ends(3, failed=False)
        assert [(end.application_id, end.event) for end in ends] == [
            ("a4", "acknowledged"),
            ("a3", "dead-lettered"),
            ("a2", "answered"),
        ]
        assert [end.application_id for end in await store.report.recent_ends(3, failed=True)] == ["a3", "a2"]
        assert [end.application_id for end in await store.report.recent_ends(1, failed=True)] == ["a3"]
        # Acknowledgements are looked for among the newest events only, failures among all.
        assert [end.application_id for end in await store.report.recent_ends(3, failed=False, among=20)] == ["a3", "a2"]
        assert [end.application_id for end in await store.report.recent_ends(1, failed=False, among=21)] == ["a4"]

    async def test_they_are_counted_by_outcome_in_steps_of_time(self, store: Store, open_store: OpenStore) -> None:
        step = NOW - NOW % CALL_STEP
        await observe(store, an_observation("a1"), an_observation("a2"), an_observation("a3"), an_observation("a4"))
        one, two, three, four = await begin_calls(store)
        await acknowledge(store, one, two, at=step + CALL_STEP - 1)
        await lose_answer(store, three, at=step + CALL_STEP)
        await reject(store, four, at=step + CALL_STEP)
        await acknowledge(store, await begin_call(store, NOW + HOUR), at=step + 3 * CALL_STEP)

        counts = [
            CallCounts(step, acknowledged=2),
            CallCounts(step + CALL_STEP, retry=1, dead=1),
            CallCounts(step + 3 * CALL_STEP, acknowledged=1),
        ]
        await store.driver.close()
        store = await open_store()
        assert await store.report.call_counts(step + CALL_STEP - 1) == counts
        assert await store.report.call_counts(step + CALL_STEP) == counts[1:]
        assert await store.report.call_counts(step + 4 * CALL_STEP) == []

        await store.operation.prune(step + 2 * CALL_STEP, EVERYTHING, 10)
        assert await store.report.call_counts(0) == counts[2:]


async def test_what_sweeps_repair_is_added_up_by_cause(store: Store) -> None:
    assert await store.operation.repairs() == {}

    await store.operation.add_repairs(WATCH, {"changed": 2, "gone": 1})
    await store.operation.add_repairs(WATCH, {"changed": 3})
    await store.operation.add_repairs("spontaneous", {"gone": 4})
    await store.operation.add_repairs(WATCH, {})

    assert await store.operation.repairs() == {WATCH: {"changed": 5, "gone": 1}, "spontaneous": {"gone": 4}}


STRANGE = ("applications@tenant 42", 'applications@"A/b"', "applications@été", "applications@x'y", "applications@100%")
"""Names of watches, as schemas of tenants may make them."""


class TestManyWatches:
    """What costs one statement, however many watches there are."""

    async def test_the_oldest_entry_of_each_watch_is_found(self, store: Store) -> None:
        for number, watch in enumerate(STRANGE):
            held = some_rules(watch, max_changes=0)
            await store.capture.apply(held, a_batch(an_observation("h2"), now=NOW + number * SECOND))
            await store.capture.apply(held, a_batch(an_observation("h1"), now=NOW - SECOND))
        await observe(store, an_observation("p1"))

        assert {
            watch: entry.application_id for watch, entry in (await store.report.oldest("held")).items()
        } == dict.fromkeys(STRANGE, "h1")
        assert list(await store.report.oldest("pending")) == [WATCH]
        assert await store.report.oldest("dead") == {}

    async def test_positions_and_skipped_rows_come_with_their_watch(self, store: Store) -> None:
        for watch in STRANGE:
            rows = [Unreportable(f"{watch} {number}", (str(number),), "it has no status") for number in range(3)]
            await store.capture.apply(some_rules(watch), a_batch(*rows, positions={"baseline": watch, "sweep": "7"}))

        assert await store.report.positions_of_all("baseline", "none") == {
            watch: {"baseline": watch} for watch in STRANGE
        }
        found = await store.report.skipped([STRANGE[1], STRANGE[0], "unknown"], 2)
        assert [(watch, skip.key) for watch, skip in found] == [
            (watch, (str(number),)) for watch in (STRANGE[1], STRANGE[0]) for number in range(2)
        ]
        assert await store.report.skipped([], 2) == []
