"""What a batch changes, by what is known: nothing is written of what only all rows of an application can tell."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.builders import MINUTE, NOW, SECOND, WATCH, a_content, a_known_entry, an_observation, some_rules

from cdc_sync.core.batch import ApplyResult, Batch, Resolved
from cdc_sync.core.content import Content
from cdc_sync.core.diff import Enqueue
from cdc_sync.core.elsewhere import Inheritance, Other
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Entry, EntryState, Known, Skip, Suspicion
from cdc_sync.core.plan import ASKED_AGAIN_AFTER, BatchPlan, different, plan_batch
from cdc_sync.core.rows import (
    FirstStatus,
    Ignored,
    Key,
    Observation,
    Origin,
    OutOfScope,
    Reportable,
    Unreportable,
    WatchRules,
)

RULES = some_rules()
FIRST = Enqueue(frozenset({"first"}))
STATUS = Enqueue(frozenset({"status"}))
DELETED = Enqueue(frozenset({"deleted"}))


def known(
    acknowledged: Content | None = None,
    entry: Entry | None = None,
    *,
    key: Key = ("a1",),
    in_scope: bool = True,
    is_acknowledged: bool = True,
    since: int = 1,
    is_suspected: bool = False,
) -> Known:
    return Known(1, key, in_scope, acknowledged, entry, is_acknowledged, since, is_suspected)


def before(
    acknowledged: Content | None = None,
    pending: Content | None = None,
    *,
    attempted: bool = False,
    state: EntryState = "pending",
    reason: str | None = None,
    queued_at: int = NOW,
    **others: object,
) -> Known:
    """An application that HelloWork knows, and its entry if there is one."""
    if pending is None:
        return known(acknowledged, **others)  # type: ignore[arg-type] # passed on as they come
    entry = a_known_entry(pending, attempted=attempted, state=state, queued_at=queued_at)
    return known(acknowledged, entry._replace(reason=reason), **others)  # type: ignore[arg-type] # as above


def plan(
    *observations: Observation,
    a1: Known | None = None,
    rules: WatchRules = RULES,
    fuse: Fuse | None = None,
    origin: Origin = "notify",
    first_status: FirstStatus = "send",
    others: Mapping[str, Known] | None = None,
    archive: Known | None = None,
    **batch: object,
) -> BatchPlan:
    """What a batch changes where `a1` is known so, and so to the watch of an archive."""
    everything = {**({} if a1 is None else {"a1": a1}), **(others or {})}
    step = Batch(origin, NOW, first_status, observations, **batch)  # type: ignore[arg-type] # passed on as they come
    elsewhere = {} if archive is None else {"a1": [Other("archive", archive)]}
    return plan_batch(rules, step, everything, fuse or Fuse(), elsewhere)


def resolved(canonical: Observation | None, *keys: str, id_: str = "a1") -> Resolved:
    return Resolved(id_, NOW - 1, canonical, frozenset((key,) for key in keys))


class TestNews:
    def test_an_application_never_seen_is_enqueued(self) -> None:
        row = an_observation()

        found = plan(row)

        assert found.new == [row]
        (entry,) = found.enqueued
        assert (entry.application_id, entry.content, entry.kinds, entry.state) == (
            "a1",
            row.content,
            frozenset({"first"}),
            "pending",
        )
        assert (entry.queued_at, entry.due_at, entry.reason) == (NOW, NOW, None)
        assert found.results == [ApplyResult("a1", Enqueue(frozenset({"first"})), "pending")]

    def test_a_change_is_enqueued_and_told_in_the_history(self) -> None:
        found = plan(an_observation(status="hired"), a1=before(a_content()), shift=7)

        assert found.results == [ApplyResult("a1", STATUS, "pending")]
        assert (found.new, found.moved) == ([], [])
        detail = {
            "by": "notify",
            "from": {"status": "applied", "job_id": "J1", "deleted": False},
            "to": {"status": "hired", "job_id": "J1", "deleted": False},
            "kinds": ["status"],
            "replaced": False,
            "due_at": NOW + 7,
        }
        (line,) = found.history
        assert line == (NOW + 7, WATCH, "a1", "queued", detail)

    def test_a_reverted_change_is_cancelled(self) -> None:
        found = plan(an_observation(), a1=before(a_content(), a_content("hired")))

        assert (found.cancelled, found.enqueued) == (["a1"], [])
        assert found.results == [ApplyResult("a1", "cancel")]
        assert [entry.event for entry in found.history] == ["cancelled"]

    def test_what_may_not_be_called_is_born_dead(self) -> None:
        found = plan(an_observation(refused="another host"))

        (entry,) = found.enqueued
        assert (entry.state, entry.reason) == ("dead", "another host")
        assert found.results == [ApplyResult("a1", Enqueue(frozenset({"first"})), "dead", "another host")]
        assert (found.history[0].event, found.history[0].detail["reason"]) == ("dead-lettered", "another host")

    def test_dates_rise(self) -> None:
        rules = replace(RULES, ordered_dates=True)
        row = an_observation(status="hired", event_date=NOW - MINUTE, changed_at=NOW + SECOND)

        found = plan(row, a1=before(a_content()), rules=rules)

        assert found.enqueued[0].content.event_date == NOW + SECOND
        detail = found.history[0].detail
        dates = detail["event_date"], detail["event_date_of_row"]
        assert dates == (NOW + SECOND, NOW - MINUTE)

    def test_the_date_of_an_adopted_state_was_never_sent(self) -> None:
        rules = replace(RULES, ordered_dates=True)
        row = an_observation(status="hired", event_date=NOW - MINUTE)

        found = plan(row, a1=before(a_content(), is_acknowledged=False), rules=rules)

        assert found.enqueued[0].content.event_date == NOW - MINUTE

    @pytest.mark.parametrize("state", ["pending", "dead"])
    def test_a_corrected_row_corrects_its_entry_but_not_its_date(self, state: EntryState) -> None:
        """The row's date may be earlier than what was sent."""
        row = an_observation(status="hired", event_date=NOW - MINUTE)
        corrected = a_content("hired", source='"partner"')
        row = replace(row, content=corrected._replace(event_date=NOW - MINUTE))

        found = plan(row, a1=before(a_content(), a_content("hired"), state=state))

        assert (found.refreshed, found.results, found.history) == ([replace(row, content=corrected)], [], [])

    def test_a_row_that_may_not_be_called_corrects_nothing(self) -> None:
        row = an_observation(status="hired", refused="another host")
        row = replace(row, content=row.content._replace(source='"partner"'))

        assert plan(row, a1=before(a_content(), a_content("hired"))).is_empty

    def test_a_row_without_a_job_has_the_last_known_one(self) -> None:
        jobless = an_observation(status="hired", job_id="")
        row = Unreportable("a1", ("a1",), "it has no job id", incomplete=jobless)

        assert plan(row).skips == plan(row, a1=before()).skips == [Skip(("a1",), "a1", "it has no job id")]
        (entry,) = plan(row, a1=before(a_content(job_id="J7"))).enqueued
        assert (entry.content.status, entry.content.job_id) == ("hired", "J7")
        (entry,) = plan(row, a1=before(a_content(job_id="J7"), a_content(job_id="J8"))).enqueued
        assert entry.content.job_id == "J8"
        same = replace(row, incomplete=an_observation(job_id=""))
        assert plan(same, a1=before(a_content(job_id="J7"))).is_empty, "that a job is gone is no change of job"


class TestAnotherWatchsState:
    LEFT = before(a_content("interview"), in_scope=False)
    HIRED = before(a_content("hired"), since=NOW)

    @pytest.mark.parametrize("own", [LEFT, None, before(a_content(deleted=True), is_acknowledged=False, since=NOW + 1)])
    def test_becomes_the_own_one_of_what_is_new_or_was_left(self, own: Known | None) -> None:
        same = plan(an_observation(status="hired"), a1=own, archive=self.HIRED)
        assert (same.results, same.is_empty) == ([], False)
        changed = plan(an_observation(status="interview"), a1=own, archive=self.HIRED)
        assert [each.decision for each in changed.results] == [STATUS]
        for found in (same, changed):
            taken = found.inherited["a1"]
            assert (taken.snapshot, taken.is_acknowledged, taken.since) == (self.HIRED.snapshot, True, NOW)

    def test_that_is_older_or_left_itself_does_not_count(self) -> None:
        row = an_observation(status="interview")
        left = before(a_content(deleted=True), is_acknowledged=False, since=9)
        for other in (before(a_content("hired"), since=0), left):
            assert plan(row, a1=self.LEFT, archive=other).inherited == {}

    def test_is_compared_with_a_changed_row_only(self) -> None:
        own = before(a_content("interview"))
        assert plan(an_observation(status="interview"), a1=own, archive=self.HIRED).is_empty
        found = plan(an_observation(status="hired"), a1=own, archive=self.HIRED)
        assert (found.results, list(found.inherited)) == ([], ["a1"])

    @pytest.mark.parametrize("pending", [a_content("hired"), a_content(deleted=True)])
    def test_that_may_be_under_way_counts_as_received(self, pending: Content) -> None:
        archive = before(a_content("interview"), pending, attempted=True)
        found = plan(an_observation(status="hired"), archive=archive)
        assert [each.decision for each in found.results] == ([] if pending.status == "hired" else [STATUS])
        assert (found.inherited["a1"].snapshot, found.inherited["a1"].since) == (pending, 0)
        assert found.replaced == ([] if pending.status == "hired" else [archive.entry])

    def test_that_has_not_begun_is_replaced_by_a_newer_one(self) -> None:
        archive = before(a_content("interview"), a_content("hired"))
        assert plan(an_observation(status="offer"), archive=archive).replaced == [archive.entry]
        undone = plan(an_observation(status="interview"), archive=archive)
        assert (undone.results, undone.replaced) == ([], [archive.entry])

    def test_that_was_never_sent_is_sent_whatever_becomes_of_first_ones(self) -> None:
        archive = before(None, a_content("hired"), since=0)
        (found,) = plan(an_observation(status="hired"), archive=archive, first_status="adopt").results
        assert found.decision == FIRST

    def test_a_live_row_replaces_its_deletion(self) -> None:
        archive = before(a_content(), a_content(deleted=True))
        found = plan(an_observation(), archive=archive)
        assert (found.results, found.replaced) == ([], [archive.entry])

    def test_of_another_account_does_not_count(self) -> None:
        for archive in (before(a_content("hired", account="b")), before(None, a_content("hired", account="b"))):
            (found,) = plan(an_observation(), archive=archive, first_status="adopt").results
            assert found.decision == "adopt"

    def test_of_any_account_counts_where_rows_name_theirs(self) -> None:
        rules = replace(RULES, account=None)
        archive = before(a_content(account="b"), since=NOW)
        assert plan(an_observation(), archive=archive, rules=rules).results == []

    def test_its_date_was_sent(self) -> None:
        rules = replace(RULES, ordered_dates=True)
        (entry,) = plan(an_observation(status="interview"), archive=self.HIRED, rules=rules).enqueued
        assert entry.content.event_date > NOW

    def test_it_has_the_last_known_job(self) -> None:
        row = Unreportable("a1", ("a1",), "it has no job id", incomplete=an_observation(status="hired", job_id=""))
        assert plan(row, archive=before(a_content(job_id="J7"), since=NOW)).enqueued[0].content.job_id == "J7"

    def test_a_confirmed_deletion_is_sent_whatever_becomes_of_first_ones(self) -> None:
        gone = resolved(an_observation(deleted=True), "a1")
        archive = before(a_content(), in_scope=False, since=NOW)
        for elsewhere, decision in ((archive, DELETED), (None, "adopt")):
            found = plan(origin="deletion", first_status="adopt", resolved=[gone], archive=elsewhere)
            assert [each.decision for each in found.results] == [decision]


class TestLeavingTheScope:
    @pytest.mark.parametrize(
        ("archive", "pending", "states"),
        [
            (before(a_content("hired"), since=9), None, []),
            (before(a_content("hired"), since=9), a_content("offer"), ["offer"]),
            (before(a_content("hired"), since=9, is_acknowledged=False), None, ["applied"]),
            (before(a_content("hired"), since=1), None, ["applied"]),
            (before(a_content(), since=1), None, []),
        ],
        ids=["newer", "older than what is sent", "never sent", "older", "the same"],
    )
    def test_leaves_a_newer_state_to_the_others(
        self, archive: Known, pending: Content | None, states: list[str]
    ) -> None:
        a1, row = before(a_content(), pending, since=5), OutOfScope("a1", ("a1",))
        found = plan(a1=a1, resolved=[resolved(row, "a1")], archive=archive)
        assert [each.state.status for each in found.left] == states


class TestLiveRows:
    def test_end_a_suspicion(self) -> None:
        a1 = before(a_content(), is_suspected=True)
        assert plan(an_observation(), a1=a1).answered == {"a1"}
        assert plan(Ignored("a1", ("a1",)), a1=a1).answered == {"a1"}
        assert plan(an_observation(deleted=True), a1=a1).answered == set()

    def test_out_of_scope_it_represents_the_application_from_then_on(self) -> None:
        found = plan(a1=before(a_content()), resolved=[resolved(OutOfScope("a1", ("2",)), "2")])
        assert (found.out_of_scope, [row.key for row in found.moved]) == (["a1"], [("2",)])


class TestBaseline:
    def test_what_differs_from_an_adopted_row_is_adopted(self) -> None:
        row = an_observation(status="hired")

        found = plan(row, a1=before(a_content()), origin="baseline", first_status="adopt")

        assert (found.acknowledged, found.results) == ([row], [ApplyResult("a1", "adopt")])
        assert found.history == []

    @pytest.mark.parametrize(
        ("keys", "decision"), [(("a1", "2"), "adopt"), (("2",), STATUS)], ids=["both are there", "the first has gone"]
    )
    def test_a_second_row_is_adopted_unless_the_first_has_gone(self, keys: tuple[str, ...], decision: object) -> None:
        row = an_observation(status="hired", key=("2",))

        found = plan(a1=before(a_content()), origin="baseline", first_status="adopt", resolved=[resolved(row, *keys)])

        assert [each.decision for each in found.results] == [decision]
        assert found.moved == [row]

    def test_what_waits_for_its_first_call_is_not_adopted(self) -> None:
        row = an_observation(status="hired")

        found = plan(row, a1=before(None, a_content()), origin="baseline", first_status="adopt")

        assert [each.content.status for each in found.enqueued] == ["hired"]


class TestUnresolved:
    @pytest.mark.parametrize("other", ["a2", None])
    def test_a_row_that_carries_another_id(self, other: str | None) -> None:
        row = OutOfScope(None, ("a1",), 5) if other is None else an_observation(other, key=("a1",), changed_at=5)

        found = plan(row, a1=before(a_content()))

        assert found.unresolved == {"a1": 5}
        assert [each.application_id for each in found.new] == ([] if other is None else ["a2"])

    @pytest.mark.parametrize(
        ("rows", "a1"), [([], before(a_content())), ([an_observation(key=("1",))], None)], ids=["before", "with it"]
    )
    def test_another_row(self, rows: list[Observation], a1: Known | None) -> None:
        found = plan(*rows, an_observation(status="hired", key=("2",), changed_at=5), a1=a1)

        assert found.unresolved == {"a1": 5}
        assert replace(found, unresolved={}).is_empty, "nothing is written of it"

    @pytest.mark.parametrize(
        "a1",
        [None, before(a_content(deleted=True)), before(a_content(), in_scope=False), before()],
        ids=["never seen", "known to be gone", "out of scope", "nothing known"],
    )
    def test_what_is_no_loss_needs_no_second_look_and_is_not_suspected(self, a1: Known | None) -> None:
        assert plan(a1=a1, gone={("a1",): 5}).is_empty
        assert plan(OutOfScope(None, ("a1",)), a1=a1).unresolved == {}
        assert plan(a1=a1, resolved=[resolved(None)]).is_empty

    def test_a_row_whose_id_cannot_be_read_is_as_good_as_its_applications(self) -> None:
        row = Unreportable(None, ("a1",), "it fails", unreadable=True)

        found = plan(row, replace(row, key=("8",)), a1=before(a_content()), others={"a2": before(key=("9",))})

        assert found.unresolved == {}
        assert found.skips == [Skip(("a1",), "a1", "it fails"), Skip(("8",), None, "it fails")]

    def test_the_step_is_not_over_so_its_position_is_not_saved(self) -> None:
        found = plan(an_observation("a2"), a1=before(a_content()), gone={("a1",): 5}, positions={"at": "9"})

        assert found.unresolved
        assert found.positions == {}
        assert [each.application_id for each in found.enqueued] == ["a2"], "others go on"


class TestResolved:
    def test_the_canonical_row_represents_the_application(self) -> None:
        row = an_observation(status="hired", key=("2",))

        found = plan(a1=before(a_content()), resolved=[resolved(row, "2")])

        assert found.moved == [row]
        assert [each.decision for each in found.results] == [STATUS]

    def test_a_row_that_is_in_scope_again(self) -> None:
        row = an_observation()

        assert plan(row, a1=before(a_content(), in_scope=False)).moved == [row]

    def test_no_row_any_more_is_a_suspicion(self) -> None:
        found = plan(a1=before(a_content()), resolved=[resolved(None)])

        assert found.suspicions == [Suspicion("a1", NOW - 1, NOW + 5 * SECOND)]

    def test_a_soft_deletion_is_a_suspicion(self) -> None:
        for a1 in (before(a_content()), None):
            found = plan(an_observation(deleted=True, changed_at=5), a1=a1)

            assert found.suspicions == [Suspicion("a1", 5, NOW + 5 * SECOND)]
            assert (found.results, found.new) == ([], [])


class TestAnsweredSuspicions:
    """After the grace, by a fresh read."""

    def answered(self, a1: Known | None, canonical: Observation | None, **others: object) -> BatchPlan:
        keys = () if canonical is None or canonical.application_id is None else ("a1",)
        batch = {"resolved": [resolved(canonical, *keys)], **others}
        found = plan(a1=a1, origin="deletion", **batch)  # type: ignore[arg-type] # passed on as they come
        assert found.answered == {"a1"}
        return found

    def test_a_row_that_is_still_gone_is_a_deletion(self) -> None:
        found = self.answered(before(a_content("hired", "J2")), None)

        (entry,) = found.enqueued
        assert entry.content == a_content("deleted", "J2", deleted=True)._replace(event_date=NOW - 1)
        assert [each.decision for each in found.results] == [Enqueue(frozenset({"status", "deleted"}))]

    def test_its_url_is_built_again_unless_rows_have_their_own(self) -> None:
        moved = replace(RULES, base_url="https://ats-partner.hellowork.com/x", own_urls=False)

        (entry,) = self.answered(before(a_content()), None, rules=moved).enqueued

        assert entry.content.url == "https://ats-partner.hellowork.com/x/v1/applications/a1/status"

    def test_a_soft_deletion_is_believed(self) -> None:
        found = self.answered(before(a_content()), an_observation(deleted=True))

        assert [each.decision for each in found.results] == [DELETED]

    def test_a_row_that_lost_its_id_is_no_deletion(self) -> None:
        for row in (OutOfScope(None, ("a1",)), Unreportable("..", ("a1",), "no id")):
            found = self.answered(before(a_content()), row)

            assert (found.out_of_scope, found.results, found.skips) == (["a1"], [], [])

    def test_a_row_that_cannot_be_read_may_well_have_its_id(self) -> None:
        found = self.answered(before(a_content()), Unreportable(None, ("a1",), "it fails", unreadable=True))

        assert (found.out_of_scope, found.results) == ([], [])

    ALIVE = before(a_content("interview"), is_acknowledged=False)

    def test_an_application_that_another_watch_has_is_left_to_it(self) -> None:
        moved = Resolved("a1", NOW, None)
        found = plan(a1=before(a_content(), since=9), origin="deletion", resolved=[moved], archive=self.ALIVE)

        assert (found.answered, found.forgotten, found.results) == ({"a1"}, ["a1"], [])
        assert [line.event for line in found.history] == ["moved"]
        assert found.left == [Inheritance("archive", "a1", a_content(), is_acknowledged=True, since=9)]

    @pytest.mark.parametrize("pending", [None, a_content("hired")])
    def test_its_row_that_is_marked_as_deleted_is_taken_as_acknowledged(self, pending: Content | None) -> None:
        marked = an_observation(deleted=True)
        moved = Resolved("a1", NOW, marked)
        found = plan(a1=before(a_content(), pending), origin="deletion", resolved=[moved], archive=self.ALIVE)

        assert (found.answered, found.forgotten, found.enqueued) == ({"a1"}, [], [])
        assert (found.acknowledged, found.moved) == ([marked], [])
        assert found.cancelled == ([] if pending is None else ["a1"])
        assert [each.state for each in found.left] == [a_content()]
        from_the_first = plan(origin="deletion", resolved=[moved], archive=self.ALIVE)
        assert (from_the_first.adopted, from_the_first.enqueued) == ([marked], [])

    def test_a_record_stays_while_another_watch_has_a_row_without_a_call(self) -> None:
        kept = Resolved("a1", NOW, None, elsewhere="unreported")
        found = plan(a1=before(a_content()), origin="deletion", resolved=[kept])

        assert found.answered == {"a1"}
        assert (found.forgotten, found.left, found.results) == ([], [], [])

    @pytest.mark.parametrize(
        ("state", "attempted", "is_forgotten"),
        [("pending", True, False), ("pending", False, True), ("dead", True, True)],
    )
    def test_a_call_that_may_be_under_way_ends_first(
        self, state: EntryState, *, attempted: bool, is_forgotten: bool
    ) -> None:
        a1 = before(a_content(), a_content("hired"), attempted=attempted, state=state)
        found = plan(a1=a1, origin="deletion", resolved=[Resolved("a1", NOW, None)], archive=self.ALIVE)

        assert bool(found.forgotten) == is_forgotten
        assert found.answered == {"a1"}
        suspecting = plan(a1=a1, resolved=[Resolved("a1", NOW, None)], archive=self.ALIVE)
        assert bool(suspecting.suspicions) == is_forgotten, "a later sweep finds it again"

    def test_a_deletion_that_may_be_under_way_is_known_to_who_has_the_application(self) -> None:
        deletion = a_content(deleted=True)
        a1 = before(a_content(), deletion, attempted=True)
        found = plan(a1=a1, origin="deletion", resolved=[Resolved("a1", NOW, None)], archive=self.ALIVE)

        assert found.forgotten == ["a1"]
        assert found.left == [Inheritance("archive", "a1", deletion, is_acknowledged=True, since=0)]

    @pytest.mark.parametrize("pending", [None, a_content("hired")])
    def test_a_suspicion_waits_while_another_table_cannot_be_asked(self, pending: Content | None) -> None:
        a1 = before(a_content(), pending, attempted=True)
        found = plan(a1=a1, origin="deletion", resolved=[Resolved("a1", NOW - 1, None, elsewhere="unknown")])

        assert (found.answered, found.results, found.is_empty) == (set(), [], False)
        assert found.postponed == [Suspicion("a1", NOW - 1, NOW + ASKED_AGAIN_AFTER)]

    @pytest.mark.parametrize("a1", [None, before(a_content(), in_scope=False), before()])
    def test_nothing_is_sent_or_forgotten_of_what_was_never_reported(self, a1: Known | None) -> None:
        assert self.answered(a1, None).results == []
        left = self.answered(a1, None, resolved=[Resolved("a1", NOW, None)], archive=self.ALIVE)
        assert bool(left.forgotten) == bool(left.history) == bool(a1 and a1.latest)

    def test_a_doubted_deletion_is_held_and_does_not_count(self) -> None:
        found = self.answered(before(a_content()), None, doubt="rows may be hidden")

        assert [(each.state, each.reason) for each in found.enqueued] == [("held", "rows may be hidden")]
        assert found.fuses.own == Fuse()
        assert found.history[0].event == "held"


class TestScopeAndSkips:
    def test_a_row_leaves_the_scope_once(self) -> None:
        row = OutOfScope("a1", ("a1",))

        # Another one may be in scope.
        assert plan(row, a1=before(a_content())).unresolved.keys() == {"a1"}
        assert plan(a1=before(a_content()), resolved=[resolved(row, "a1")]).out_of_scope == ["a1"]
        assert plan(row, a1=before(a_content(), in_scope=False)).is_empty
        assert plan(row).is_empty

    def test_a_row_whose_label_is_ignored_represents_a_reported_application(self) -> None:
        row = Ignored("a1", ("2",))

        found = plan(a1=before(a_content()), resolved=[resolved(row, "2")])

        assert (found.moved, found.results) == ([row], [])
        assert plan(Ignored("a1", ("a1",)), a1=before(a_content())).is_empty
        assert plan(row, a1=before(key=("2",))).is_empty
        assert plan(row).is_empty

    @pytest.mark.parametrize(
        "row", [Ignored("a1", ("a1",)), Unreportable("a1", ("a1",), "it has no status"), OutOfScope("a1", ("a1",))]
    )
    def test_a_row_without_a_call_takes_back_a_status_that_has_not_stood(self, row: Observation) -> None:
        changed, pending, later, read = a_content(), a_content("hired"), NOW + SECOND, [resolved(row, "a1")]
        assert plan(a1=before(changed, pending, queued_at=later), resolved=read).cancelled == ["a1"]
        assert plan(a1=before(None, pending, queued_at=later), resolved=read).forgotten == ["a1"]
        assert plan(a1=before(None, pending, queued_at=later, attempted=True), resolved=read).forgotten == []
        returned = plan(a1=before(a_content(deleted=True), pending, queued_at=later), resolved=read)
        assert (returned.cancelled, returned.suspicions) == (["a1"], [])
        for entry in (
            before(changed, pending, queued_at=NOW),
            before(changed, pending, queued_at=later, attempted=True),
            before(changed, pending, queued_at=later, state="held"),
        ):
            assert plan(a1=entry, resolved=read).results == []

    @pytest.mark.parametrize(
        "row", [Ignored("a1", ("a1",)), Unreportable("a1", ("a1",), "it has no status"), OutOfScope("a1", ("a1",))]
    )
    def test_a_row_without_a_call_takes_back_its_applications_deletion(self, row: Observation) -> None:
        deletion = a_content(deleted=True)

        assert plan(row, a1=before(a_content(), deletion)).cancelled == ["a1"]
        assert plan(row, a1=before(None, deletion)).forgotten == ["a1"]
        # Its first call may be acknowledged yet.
        assert plan(row, a1=before(None, deletion, attempted=True)).cancelled == ["a1"]
        (entry,) = plan(row, a1=before(a_content(), deletion, attempted=True)).enqueued
        assert entry.content == a_content()

    def test_a_row_that_cannot_be_reported_is_its_applications_under_another_key_too(self) -> None:
        read = [resolved(Unreportable("a1", ("2",), "it has no status"), "2")]

        assert plan(a1=before(a_content()), resolved=read).moved == [Ignored("a1", ("2",))]
        assert plan(a1=before(a_content(), key=("2",)), resolved=read).moved == []
        assert plan(a1=before(a_content(), in_scope=False), resolved=read).moved == []

    def test_a_row_that_cannot_be_reported_is_skipped_once(self) -> None:
        row = Unreportable("a1", ("1",), "it has no status")

        assert plan(row).skips == [Skip(("1",), "a1", "it has no status")]
        assert plan(row, skipped={("1",): "it has no status"}).is_empty
        assert plan(row, skipped={("1",): "another reason"}).skips == [Skip(("1",), "a1", "it has no status")]

    @pytest.mark.parametrize(
        "row", [OutOfScope(None, ("1",)), OutOfScope("a1", ("1",)), Ignored("a1", ("1",)), an_observation(key=("1",))]
    )
    def test_a_row_that_can_be_reported_or_need_not_is_skipped_no_more(self, row: Observation) -> None:
        a1 = before(a_content(), key=("1",), in_scope=False)

        assert plan(row, a1=a1, skipped={("1",): "it has no status"}).skips == [Skip(("1",), None, None)]


class TestFuse:
    STRICT = some_rules(max_changes=1, max_deletions=1)

    def test_it_counts_and_holds_what_is_too_much(self) -> None:
        found = plan(an_observation("a1"), an_observation("a2"), rules=self.STRICT)

        assert [each.state for each in found.enqueued] == ["pending", "held"]
        assert (found.fuses.own.changes, found.fuses.own.blown_at) == (1, NOW)
        assert [each.event for each in found.history] == ["queued", "held"]

    def test_a_held_entry_stays_held_for_its_reason(self) -> None:
        a1 = before(a_content(), a_content("seen"), state="held", reason="earlier")

        (entry,) = plan(an_observation(status="hired"), a1=a1, fuse=Fuse(NOW, blown_at=NOW, reason="later")).enqueued

        assert (entry.state, entry.reason) == ("held", "earlier")

    def test_that_a_row_is_back_ends_the_doubt(self) -> None:
        a1 = before(a_content(), a_content("deleted", deleted=True), state="held", reason="rows may be hidden")

        (entry,) = plan(an_observation(status="hired"), a1=a1).enqueued

        assert entry.state == "pending"

    @pytest.mark.parametrize(("queued_at", "changes"), [(NOW - MINUTE, 5), (NOW - 10 * MINUTE, 6)])
    def test_an_entry_counts_once_in_a_window(self, queued_at: int, changes: int) -> None:
        a1 = before(a_content(), a_content("seen"), queued_at=queued_at)

        found = plan(an_observation(status="hired"), a1=a1, fuse=Fuse(NOW, changes=5))

        assert found.fuses.own.changes == changes

    def test_a_deletion_always_counts(self) -> None:
        a1 = before(a_content(), a_content("seen"))

        found = plan(a1=a1, fuse=Fuse(NOW, changes=5), origin="deletion", resolved=[resolved(None)])

        assert found.fuses.own == Fuse(NOW, changes=6, deletions=1)

    def test_a_deletion_that_is_pending_needs_no_doubt(self) -> None:
        a1 = before(a_content(), a_content("deleted", deleted=True), attempted=True)
        row = an_observation(status="gone", deleted=True)

        found = plan(row, a1=a1, doubt="rows may be hidden")

        assert [each.state for each in found.enqueued] == ["pending"]

    def test_one_that_holds_all_holds_everything_new(self) -> None:
        fuse = Fuse(NOW, blown_at=NOW, reason="too much", holds_all=True)

        (entry,) = plan(an_observation(), fuse=fuse).enqueued

        assert (entry.state, entry.reason) == ("held", "too much")


class TestDifferent:
    """For sweeps: which rows are to be looked at again."""

    def found(self, *rows: Observation, known: Mapping[str, Known], **batch: object) -> set[Key]:
        step = Batch("sweep", NOW, "send", rows, **batch)  # type: ignore[arg-type] # passed on as they come
        return different(RULES, step, known)

    def test_rows_of_which_something_would_be_written(self) -> None:
        rows: list[Observation] = [
            an_observation("a1"),
            an_observation("a2", "hired"),
            an_observation("a3"),
            OutOfScope("a4", ("a4",)),
            Unreportable("a5", ("a5",), "it has no status"),
            Unreportable("a6", ("a6",), "it has no status"),
            an_observation("a7", deleted=True),
            OutOfScope(None, ("8",)),
        ]
        everything = {
            id_: known(a_content(application_id=id_), key=(id_,)) for id_ in ("a1", "a2", "a4", "a5", "a6", "a7")
        }

        found = self.found(*rows, known=everything, skipped={("a6",): "it has no status"})

        assert found == {("a2",), ("a3",), ("a4",), ("a5",), ("a7",)}

    def test_of_two_rows_the_canonical_one_is_not_different(self) -> None:
        rows = [an_observation(key=("1",)), an_observation(key=("2",), status="hired")]

        assert self.found(*rows, known={"a1": known(a_content(), key=("1",))}) == {("2",)}
        assert self.found(*rows, known={}) == {("1",), ("2",)}


IDS, KEYS = ("a1", "a2", "a3"), (("1",), ("2",), ("3",), ("4",))
ids, keys = st.sampled_from(IDS), st.sampled_from(KEYS)


@st.composite
def contents(draw: st.DrawFn, id_: str) -> Content:
    status, deleted = draw(st.sampled_from(["s1", "s2"])), draw(st.booleans())
    return a_content(status, draw(st.sampled_from(["J1", "J2"])), application_id=id_, deleted=deleted)


@st.composite
def rows(draw: st.DrawFn, key: Key) -> Observation:
    id_ = draw(ids)
    kinds: list[Observation] = [
        OutOfScope(None, key),
        Unreportable(draw(st.sampled_from([None, id_])), key, "it fails", unreadable=draw(st.booleans())),
        OutOfScope(id_, key),
        Ignored(id_, key),
    ]
    reportable = st.builds(lambda content: Reportable(id_, key, content, None), contents(id_))
    return draw(reportable | st.sampled_from(kinds) | reportable)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Known]:
    world: dict[str, Known] = {}
    states: tuple[EntryState, ...] = ("pending", "held", "dead")
    for id_ in draw(st.sets(ids)):
        pending = draw(st.none() | contents(id_))
        acknowledged = draw(contents(id_) if pending is None else st.none() | contents(id_))
        state = draw(st.sampled_from(states))
        attempted = draw(st.booleans())
        world[id_] = before(
            acknowledged,
            pending,
            attempted=attempted,
            state=state,
            reason="earlier" if state != "pending" else None,
            key=draw(keys),
            in_scope=draw(st.booleans()),
        )
    return world


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    met = draw(st.sets(keys))
    origin: Origin = draw(st.sampled_from(["notify", "sweep", "baseline"]))
    observations = [draw(rows(key)) for key in sorted(met)]
    gone: dict[Key, int] = {key: NOW for key in KEYS if key not in met and draw(st.booleans())}
    return Batch(origin, NOW, draw(st.sampled_from(["send", "adopt"])), observations, gone)


def applied(world: Mapping[str, Known], found: BatchPlan) -> dict[str, Known]:
    """The world as a store has it that wrote the plan."""
    after = dict(world)
    for row in (*found.new, *found.adopted):
        acknowledged = row.content if row in found.adopted else None
        after[row.application_id] = known(acknowledged, key=row.key)
    for moved in found.moved:
        one = after[moved.application_id]
        after[moved.application_id] = one._replace(key=moved.key, in_scope=True)
    for row in found.acknowledged:
        one = after[row.application_id]
        after[row.application_id] = one._replace(snapshot=row.content)
    for id_ in found.cancelled:
        after[id_] = after[id_]._replace(entry=None)
    for entry in found.enqueued:
        one = after[entry.application_id]
        attempted = one.is_attempted
        waiting = entry._replace(attempted=attempted)
        after[entry.application_id] = one._replace(entry=waiting)
    for id_ in found.out_of_scope:
        after[id_] = after[id_]._replace(in_scope=False)
    for id_ in found.forgotten:
        del after[id_]
    return after


@given(world=worlds(), batch=batches())
def test_what_was_applied_is_no_news_any_more(world: dict[str, Known], batch: Batch) -> None:
    first = plan_batch(RULES, batch, world, Fuse())
    skipped = {skip.key: skip.reason for skip in first.skips if skip.reason is not None}

    again = plan_batch(RULES, batch._replace(skipped=skipped), applied(world, first), Fuse())

    assert (again.results, again.moved, again.out_of_scope, again.skips) == ([], [], [], [])
    assert again.unresolved == first.unresolved
    assert again.suspicions == first.suspicions, "the first one counts, which the store knows"


@given(world=worlds(), batch=batches())
def test_nothing_is_written_of_what_is_unresolved_and_one_step_of_what_is_not(
    world: dict[str, Known], batch: Batch
) -> None:
    found = plan_batch(RULES, batch, world, Fuse())

    ids_of = [[each.application_id for each in some] for some in (found.new, found.adopted, found.acknowledged)]
    ids_of += [[each.application_id for each in found.enqueued], [each.application_id for each in found.moved]]
    ids_of += [[each.application_id for each in found.suspicions], found.cancelled, found.out_of_scope]
    for some in ids_of:
        assert not set(some) & found.unresolved.keys()
        assert all(number == 1 for number in Counter(some).values())
    assert {entry.application_id for entry in found.enqueued} <= {each.application_id for each in found.results}


@given(batch=batches())
def test_a_page_of_unknown_applications_is_adopted_as_its_rows_would_be_one_by_one(batch: Batch) -> None:
    batch = batch._replace(origin="baseline")
    elsewhere = {"b1": before(a_content(application_id="b1"), key=("b1",))}

    found = plan_batch(RULES, batch, elsewhere, Fuse())
    assert replace(found, before={}) == plan_batch(RULES, batch, {}, Fuse())


@pytest.mark.parametrize(
    ("canonical", "is_deletion"),
    [(None, True), (an_observation(deleted=True), True), (an_observation(), False), (OutOfScope("a1", ("1",)), False)],
)
def test_without_a_live_row_it_is_a_deletion(canonical: Observation | None, *, is_deletion: bool) -> None:
    assert Resolved("a1", NOW, canonical).is_deletion == is_deletion
