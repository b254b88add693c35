"""The metrics, as a scraper reads them."""

import re
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.builders import ENDPOINT, HOUR, NOW, SECOND, a_baseline, a_batch, an_observation, some_rules
from support.looking import Admin
from support.observing import EXAMPLES
from support.requests import forgotten
from support.store_steps import begin_call, reject

from cdc_sync.admin.metrics import ACTIONS, CAUSES
from cdc_sync.ats.sweep import _causes
from cdc_sync.core import events
from cdc_sync.core.content import Kind
from cdc_sync.core.diff import Decision, Enqueue
from cdc_sync.core.outbox import Skip
from cdc_sync.core.replies import CallOutcome, Health, Mode
from cdc_sync.core.rows import Origin

DOCS = Path(__file__).parents[3] / "docs"


async def scrape(admin: Admin) -> dict[str, float]:
    """Every sample, by its name and labels as they are written."""
    answer = await admin.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    # The official parser must understand it.
    assert list(text_string_to_metric_families(answer.text))
    lines = [line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


async def read(admin: Admin, *happened: events.Event) -> dict[str, float]:
    for event in happened:
        admin.emit(event)
    return await scrape(admin)


async def test_a_watch_begins_at_0_before_anything_happens(admin: Admin) -> None:
    samples = await read(admin, events.LeadTaken("2026-01-01T00:00:00Z", ("one",)), events.Reloaded(("one", "two")))

    for watch in ("one", "two"):
        for name, label, values in (
            ("captured_keys", "origin", get_args(Origin)),
            ("decisions", "outcome", get_args(events.Outcome)),
            ("calls", "outcome", get_args(CallOutcome)),
            ("sweep_repairs", "cause", CAUSES),
        ):
            for value in values:
                labels = ",".join(sorted((f'{label}="{value}"', f'watch="{watch}"')))
                assert samples[f"cdc_sync_{name}_total{{{labels}}}"] == 0
        assert samples[f'cdc_sync_missed_changes_total{{watch="{watch}"}}'] == 0
        assert samples[f'cdc_sync_call_seconds_count{{watch="{watch}"}}'] == 0
        assert samples[f'cdc_sync_queue_seconds_count{{watch="{watch}"}}'] == 0
    for action in ACTIONS:
        assert samples[f'cdc_sync_human_actions_total{{action="{action}"}}'] == 0


def test_every_cause_that_sweeps_count_begins_at_0() -> None:
    decisions: list[Decision] = [Enqueue(frozenset(get_args(Kind))), "adopt", "cancel"]

    assert {*CAUSES} == {cause for decision in decisions for cause in _causes(decision)} | {"gone", events.ASKED_FOR}
    assert set(CAUSES) <= set(re.findall(r"`(\w+)`", (DOCS / "metrics.md").read_text(encoding="utf-8")))


async def test_what_waits(admin: Admin) -> None:
    rules = some_rules()
    await admin.store.capture.apply(rules, a_baseline(an_observation("a1"), an_observation("a2")))
    await admin.store.capture.apply(rules, a_batch(an_observation("a1", "seen"), now=NOW - HOUR))
    await reject(admin.store, await begin_call(admin.store))
    await admin.store.capture.apply(rules, a_batch(an_observation("a2", "seen"), now=NOW - 90 * SECOND))
    await admin.store.capture.apply(
        some_rules(max_changes=0), a_batch(an_observation("a3"), skips=[Skip(("9",), None, "no id")])
    )
    admin.conditions = {"one": "wrong", "another": "wrong"}

    samples = await scrape(admin)

    assert samples['cdc_sync_known_applications{watch="applications"}'] == 3
    for state in ("pending", "held", "dead"):
        assert samples[f'cdc_sync_outbox_entries{{state="{state}",watch="applications"}}'] == 1
    assert samples['cdc_sync_oldest_pending_seconds{watch="applications"}'] == 90
    assert samples['cdc_sync_skipped_rows{watch="applications"}'] == 1
    assert samples["cdc_sync_conditions"] == 2


@pytest.mark.parametrize(("mode", "healthy"), [("healthy", 1), ("throttled", 0), ("open", 0), ("paused", 0)])
async def test_an_endpoint_is_shown_as_the_store_has_it_also_after_a_restart(
    admin: Admin, mode: Mode, healthy: int
) -> None:
    await admin.store.capture.apply(some_rules(), a_batch(an_observation("a1", "seen")))
    await admin.store.delivery.complete([], {ENDPOINT: Health(mode, 1, NOW + HOUR, "HTTP 401")})

    assert (await scrape(admin))[f'cdc_sync_endpoint_healthy{{endpoint="{ENDPOINT}"}}'] == healthy


@pytest.mark.parametrize("over", [events.LeadLost("its session is lost"), events.StandsBy("process 7 leads")], ids=str)
async def test_a_daemon_that_no_longer_leads_has_no_samples_of_databases(admin: Admin, over: events.Event) -> None:
    working = events.WatchConnected("w", "notify", 180_000), events.CaughtUp("w", 2.0), events.NotifyQueueSeen("w", 0.7)
    assert (await read(admin, events.LeadTaken("now", ("w",)), *working))["cdc_sync_leading"] == 1

    samples = await read(admin, over)

    assert samples["cdc_sync_leading"] == 0
    of_databases = "watch_connected", "capture_lag_seconds", "notify_queue_usage_ratio"
    assert [name for name in of_databases if f'cdc_sync_{name}{{watch="w"}}' in samples] == []


async def test_the_store(admin: Admin) -> None:
    assert (await scrape(admin))["cdc_sync_store_ok"] == 1
    assert (await read(admin, events.StoreFailed("the disk is full")))["cdc_sync_store_ok"] == 0
    assert (await read(admin, events.StoreFailed("the disk is full", "w")))["cdc_sync_store_ok"] == 0
    assert (await read(admin, events.StoreRecovered()))["cdc_sync_store_ok"] == 0, "the watch cannot record yet"
    assert (await read(admin, events.StoreRecovered("w")))["cdc_sync_store_ok"] == 1


STRANGE = 'applications@"Été" \\ 1/2'
"""A watch's name as a schema of a tenant may make it."""


MANY = ("one", "two", STRANGE, *(f"watch_{number}" for number in range(8)))


async def of_many(admin: Admin, *happened: events.Event) -> dict[str, float]:
    """The samples of a daemon with eleven watches, whose label `watch` is empty, without it."""
    samples = await read(admin, events.LeadTaken("2026-01-01T00:00:00Z", MANY), *happened)
    assert not [name for name in samples if 'watch="' in name.replace('watch=""', "")]
    return {re.sub(r'\{watch=""\}|,watch=""', "", name): number for name, number in samples.items()}


async def test_a_name_of_any_characters_is_a_label(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules(STRANGE), a_batch(an_observation("a1")))
    admin.emit(events.LeadTaken("2026-01-01T00:00:00Z", (STRANGE,)))

    families = text_string_to_metric_families((await admin.get("/metrics")).text)

    labels = [sample.labels.get("watch") for family in families for sample in family.samples]
    assert {*labels} == {STRANGE, "applications", None}


async def test_of_more_than_ten_watches_numbers_are_added_up_and_the_worst_is_taken(admin: Admin) -> None:
    for watch, age in (("one", 90), (STRANGE, 30)):
        await admin.store.capture.apply(some_rules(watch), a_batch(an_observation("a1"), now=NOW - age * SECOND))
        await admin.store.capture.apply(
            some_rules(watch, max_changes=0), a_batch(an_observation("a2"), now=NOW - age * SECOND)
        )

    admin.emit(events.CaughtUp(STRANGE, 300.0))

    samples = await of_many(
        admin,
        events.SweepDone("one", 1000, 1.5, {"status": 2}),
        events.SweepDone(STRANGE, 1000, 310.0, {"status": 1}),
        events.WatchConnected("one", "notify", 180_000),
        events.NotifyQueueSeen("one", 0.25),
        events.NotifyQueueSeen(STRANGE, 0.5),
        *(events.CallEnded(watch, "a1", "acknowledged", "HTTP 200", 1, 0.03, 0.2) for watch in ("one", STRANGE)),
    )

    assert samples["cdc_sync_watch_connected"] == 0, "one of them is not"
    assert samples['cdc_sync_outbox_entries{state="pending"}'] == 2
    assert samples['cdc_sync_outbox_entries{state="held"}'] == 2
    assert samples["cdc_sync_fuse_blown"] == 2
    assert samples["cdc_sync_known_applications"] == 4
    assert samples["cdc_sync_oldest_pending_seconds"] == 90
    assert samples["cdc_sync_last_change_timestamp_seconds"] == NOW / 1000 - 30
    assert 300 <= samples["cdc_sync_capture_lag_seconds"] < 360
    assert samples["cdc_sync_notify_queue_usage_ratio"] == 0.5
    assert samples["cdc_sync_sweep_seconds"] == 310
    assert samples['cdc_sync_sweep_repairs_total{cause="status"}'] == 3
    assert samples['cdc_sync_calls_total{outcome="acknowledged"}'] == 2
    assert samples["cdc_sync_call_seconds_count"] == 2
    assert samples["cdc_sync_call_seconds_sum"] == pytest.approx(0.06)
    assert samples['cdc_sync_call_seconds_bucket{le="0.05"}'] == 2
    assert samples['cdc_sync_queue_seconds_bucket{le="0.1"}'] == 0


async def test_of_more_than_ten_watches_every_name_stays(admin: Admin) -> None:
    of_each = {name.partition("{")[0] for name in await read(admin, *EXAMPLES, events.LeadTaken("now", MANY[:2]))}

    assert {name.partition("{")[0] for name in await read(admin, events.LeadTaken("now", MANY))} == of_each


async def test_counts_go_on_when_an_eleventh_watch_begins(admin: Admin) -> None:
    await read(admin, events.LeadTaken("now", MANY[:10]), events.ChangesMissed("one", 3, "full"))

    samples = await read(admin, events.TenantsFound(MANY[10:]), events.ChangesMissed("one", 4, "full"))

    missed = {name: number for name, number in samples.items() if name.startswith("cdc_sync_missed_changes_total")}
    assert missed['cdc_sync_missed_changes_total{watch=""}'] == 4
    assert sum(missed.values()) == 7


async def test_a_watch_that_the_store_has_forgotten_has_no_samples(admin: Admin) -> None:
    await admin.store.capture.apply(some_rules("former"), a_batch(an_observation("a1")))
    assert 'cdc_sync_known_applications{watch="former"}' in await scrape(admin)

    await forgotten(admin.store, "former", events.PersonActed(NOW, "forget", "somebody", 1, "former"))

    assert not [name for name in await scrape(admin) if "former" in name]
