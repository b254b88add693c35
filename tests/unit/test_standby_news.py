"""What a daemon reports while it stands by: each thing once, until it changes."""

from dataclasses import replace

from cdc_sync.core.events import (
    Event,
    LeadLost,
    StandbyAgrees,
    StandbyDiffers,
    StandsBy,
    StoreFailed,
    StoreRecovered,
    TakeOverBlocked,
    TakeOverUnblocked,
)
from cdc_sync.daemon.standby_news import StandbyNews
from cdc_sync.store.errors import store_error
from cdc_sync.store.lead import Standby
from cdc_sync.store.leader import Leader

OURS = Leader.here("ours")
THEIRS = replace(OURS, host="ats-1", process=7, configuration="ours")
NOBODY = Standby(None, None, OURS)
BEHIND = Standby(None, THEIRS, OURS)
APART = Standby(None, replace(THEIRS, configuration="theirs"), OURS)
BLOCKED = store_error("store-take-over", daemon=THEIRS.shown)
LOST = store_error("store-lead-lost", place="in x")
DOWN = store_error("store-unusable", store="x", message="it is down")


class Reported:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.news = StandbyNews(self.events.append)

    def new(self) -> list[Event]:
        found, self.events[:] = list(self.events), []
        return found


def test_who_leads_is_reported_when_it_changes() -> None:
    reported = Reported()

    reported.news.report(NOBODY)
    reported.news.report(NOBODY)
    assert reported.new() == [StandsBy("no daemon leads yet")]
    reported.news.report(BEHIND)
    reported.news.report(replace(BEHIND, is_free=True))
    assert reported.new() == [StandsBy(THEIRS.shown)]


def test_a_standby_is_reported_again_after_a_lead() -> None:
    reported = Reported()
    reported.news.report(BEHIND)
    reported.news.over()
    reported.new()

    reported.news.report(BEHIND)

    assert reported.new() == [StandsBy(THEIRS.shown)]


def test_another_configuration_than_the_leaders_is_reported_until_they_agree() -> None:
    reported = Reported()
    reported.news.report(APART)
    reported.news.report(APART)
    assert reported.new() == [StandsBy(THEIRS.shown), StandbyDiffers()]

    reported.news.report(BEHIND)
    assert reported.new() == [StandbyAgrees()]


def test_without_a_leader_no_configuration_differs() -> None:
    assert not NOBODY.differs


def test_a_lead_ends_what_only_a_standby_has() -> None:
    reported = Reported()
    reported.news.report(replace(APART, not_taken_over=BLOCKED))
    reported.new()

    reported.news.over()
    reported.news.over()

    assert reported.new() == [StandbyAgrees(), TakeOverUnblocked()]


def test_a_take_over_that_is_not_possible_is_reported_until_it_is() -> None:
    reported = Reported()
    reported.news.report(BEHIND)
    reported.new()

    for _ in range(2):
        reported.news.report(replace(BEHIND, not_taken_over=BLOCKED))
    assert reported.new() == [TakeOverBlocked(BLOCKED.message, "store-take-over")]
    reported.news.report(BEHIND)
    assert reported.new() == [TakeOverUnblocked()]


def test_each_loss_of_the_lead_is_reported() -> None:
    reported = Reported()
    for _ in range(2):
        reported.news.report_failure(LOST)

    assert reported.new() == [LeadLost(LOST.message)] * 2


def test_a_store_that_cannot_be_used_is_reported_until_it_can() -> None:
    reported = Reported()
    reported.news.report(BEHIND)
    reported.new()
    for _ in range(2):
        reported.news.report_failure(DOWN)
    assert reported.new() == [StoreFailed(DOWN.message, code="store-unusable")]

    reported.news.report(BEHIND)
    assert reported.new() == [StoreRecovered(), StandsBy(THEIRS.shown)]
    reported.news.report_failure(DOWN)
    reported.new()
    reported.news.over()
    assert reported.new() == [StoreRecovered()]


def test_a_standby_after_a_failure_is_reported() -> None:
    reported = Reported()
    reported.news.report(BEHIND)
    reported.news.report_failure(LOST)
    reported.new()

    reported.news.report(BEHIND)

    assert reported.new() == [StandsBy(THEIRS.shown)]
