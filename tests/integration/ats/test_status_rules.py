"""An edited section `status` is noticed, measured and held before anything of it is sent."""

from typing import Any

import pytest
from support.applications import insert, update
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats

from cdc_sync.ats import status_rules
from cdc_sync.ats.status_rules import STATUS_RULES, measure_edit, to_text
from cdc_sync.core.events import StatusRulesChanged
from cdc_sync.core.rows import StatusRules

BEFORE = {"map": {"applied": "sent", "hired": "hired"}}
AFTER = {"map": {"applied": "received", "hired": "hired"}}
OLD = to_text(StatusRules(BEFORE["map"], "send", "deleted"))
FUSE = {"max_changes": 3, "max_deletions": 3, "window": "10m"}


async def adopted(ats: Ats, open_rig: OpenRig, number: int, **watch: Any) -> None:
    """So many applications are known, and the daemon has ended."""
    for each in range(1, number + 1):
        insert(ats, each, f"a{each}")
    async with open_rig(fuse=FUSE, **watch) as rig:
        await start(rig)


async def start(rig: Rig) -> list[StatusRulesChanged]:
    """What a start does before it captures; returns what it says of the rules."""
    await rig.adopt()
    await measure_edit(rig.intake)
    return rig.heard(StatusRulesChanged)


async def test_as_many_as_the_fuse_believes_are_said_and_sent(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 3, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=3, held=False)]

        await rig.sweep()

        assert [(entry.application_id, entry.content.status) for entry in await rig.entries()] == [
            ("a1", "received"),
            ("a2", "received"),
            ("a3", "received"),
        ]
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [], "it is noticed once"


async def test_of_more_not_a_single_one_is_sent(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=4, held=True)]

        await rig.sweep()

        assert await rig.entries() == []
        held = await rig.entries("held")
        assert {entry.application_id for entry in held} == {f"a{number}" for number in range(1, 5)}
        assert len({entry.reason for entry in held}) == 1


async def test_what_changed_by_itself_meanwhile_does_not_count(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    for number in range(1, 5):
        update(ats, number, status="hired")
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=0, held=False)]


async def test_what_would_be_adopted_does_not_count(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status={"map": {"hired": "hired"}, "unmapped": "ignore"}, first_status="adopt")
    async with open_rig(fuse=FUSE, status={"map": {"hired": "hired"}}, first_status="adopt") as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=0, held=False)]


async def test_rows_without_a_job_count_by_their_last_known_one(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    update(ats, 1, 2, 3, 4, job_id=None)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=4, held=True)]


@pytest.mark.parametrize("distance", [1, 1000], ids=["on its page", "on another page"])
async def test_an_old_row_beside_the_canonical_one_does_not_count(
    ats: Ats, open_rig: OpenRig, distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_rules, "_PAGE", 2)
    for number in range(1, 5):
        insert(ats, 10 * number, f"a{number}", created_at="2020-01-01")
        insert(ats, 10 * number + distance, f"a{number}", "hired", created_at="2021-01-01")
    async with open_rig(fuse=FUSE, status=BEFORE) as rig:
        await start(rig)
        await rig.sweep()
        await rig.deliver()
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=0, held=False)]


@pytest.mark.parametrize("distance", [1, 1000], ids=["on its page", "on another page"])
@pytest.mark.parametrize("known", [True, False])
async def test_an_application_of_two_rows_counts_once(
    ats: Ats, open_rig: OpenRig, distance: int, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    monkeypatch.setattr(status_rules, "_PAGE", 2)
    await adopted(ats, open_rig, 1, status=BEFORE)
    old = "a1" if known else "a2"
    insert(ats, 10, old, created_at="2020-01-01")
    insert(ats, 10 + distance, old, created_at="2999-01-01")
    expected = 1 if known else 2
    async with open_rig(fuse=FUSE, status=AFTER, first_status="send") as rig:
        await measure_edit(rig.intake)
        assert rig.heard(StatusRulesChanged) == [StatusRulesChanged(WATCH, touched=expected, held=False)]


async def test_dying_before_the_end_it_is_noticed_again(ats: Ats, open_rig: OpenRig) -> None:
    await adopted(ats, open_rig, 4, status=BEFORE)
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        await start(rig)
        # As if it had died before the new rules were kept.
        await rig.intake.place({STATUS_RULES: OLD})
        first = (await rig.store.operation.fuses())[WATCH]
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        assert await start(rig) == [StatusRulesChanged(WATCH, touched=4, held=True)]
        assert (await rig.store.operation.fuses())[WATCH] == first


async def test_a_newer_row_counts_though_the_last_known_one_does_not(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1", "hired", created_at="2020-01-01")
    async with open_rig(fuse=FUSE, status=BEFORE) as rig:
        await start(rig)
    insert(ats, 2, "a1", created_at="2999-01-01")
    async with open_rig(fuse=FUSE, status=AFTER) as rig:
        await measure_edit(rig.intake)
        assert rig.heard(StatusRulesChanged) == [StatusRulesChanged(WATCH, touched=1, held=False)]
