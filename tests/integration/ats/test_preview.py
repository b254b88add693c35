"""The plan says what a sweep and its consequences would do, and does none of it."""

from collections.abc import Awaitable, Sequence

import pytest
from support.applications import delete, insert, update
from support.rig import OpenRig, Rig
from support.sessions import Ats
from support.store_steps import events_of

from cdc_sync.ats import preview as plan_module
from cdc_sync.ats.database import Steps
from cdc_sync.ats.preview import plan
from cdc_sync.core.diff import Fuse, Unseen
from cdc_sync.core.outbox import Known

Line = tuple[str | None, str, tuple[str, ...]]


async def planned(rig: Rig, unseen: Unseen = "send") -> list[Line]:
    found = plan(rig.intake, unseen)
    return sorted([(line.application_id, line.action, line.kinds) async for line in found], key=str)


async def test_each_difference_has_a_line(ats: Ats, open_rig: OpenRig) -> None:
    for number in range(1, 10):
        insert(ats, number, f"a{number}")
    async with open_rig(status={"unmapped": "reject", "map": {"applied": "applied", "hired": "hired"}}) as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        update(ats, 2, job_id="J2")
        delete(ats, 3)
        update(ats, 4, deleted_at="2024-01-01")
        update(ats, 5, status=None)
        update(ats, 6, status="odd")
        update(ats, 7, hellowork_id=None)
        insert(ats, 10, "a10")
        with ats.transaction():
            delete(ats, 8)
            insert(ats, 11, "a8", job_id="J2")

        lines = await planned(rig)

        assert lines == [
            ("a1", "send", ("status",)),
            ("a10", "send", ("first",)),
            ("a2", "send", ("job",)),
            ("a3", "confirm-deletion", ("deleted", "status")),
            ("a4", "send", ("deleted", "status")),
            ("a5", "skip", ()),
            ("a6", "dead-letter", ("status",)),
            ("a8", "send", ("job",)),
        ]
        assert await planned(rig) == lines
        assert await rig.entries() == []
        assert await events_of(rig.store) == []


async def test_applications_that_are_gone_are_read_in_parts(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        insert(ats, number, f"a{number}")
    async with open_rig(steps=Steps(confirmed=2)) as rig:
        await rig.adopt()
        for number in range(1, 6):
            delete(ats, number)
        asked, known = list[int](), rig.store.capture.known

        def counted(watch: str, application_ids: Sequence[str]) -> Awaitable[dict[str, Known]]:
            asked.append(len(application_ids))
            return known(watch, application_ids)

        monkeypatch.setattr(rig.store.capture, "known", counted)

        assert [action for _, action, _ in await planned(rig)] == ["confirm-deletion"] * 5
        assert max(asked) == 2


async def test_before_the_baseline_everything_is_adopted(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2", deleted_at="2024-01-01")
    async with open_rig() as rig:
        assert await planned(rig, "adopt") == [("a1", "adopt", ()), ("a2", "adopt", ())]


async def test_a_change_undone_before_it_was_sent_is_cancelled(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig() as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        await rig.drain.catch_up()
        assert await planned(rig) == []
        update(ats, 1, status="applied")

        assert await planned(rig) == [("a1", "cancel", ())]


async def test_what_the_fuse_would_hold_is_said_over_pages_and_deletions(
    ats: Ats, open_rig: OpenRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same count as the daemon's."""
    monkeypatch.setattr(plan_module, "PAGE", 2)
    for number in range(1, 10):
        insert(ats, number, f"a{number}")
    async with open_rig(fuse={"max_changes": 4, "max_deletions": 1}) as rig:
        await rig.adopt()
        for number in range(1, 6):
            update(ats, number, status="hired")
        for number in (7, 8):
            delete(ats, number)
        found = plan(rig.intake, "send")

        lines = {each.application_id: (each.action, each.reason) async for each in found}

        changes = ("held", "more than 4 changes at once (fuse.max_changes)")
        assert lines == {f"a{number}": ("send", None) for number in range(1, 5)} | dict.fromkeys(
            ("a5", "a7", "a8"), changes
        )


async def test_it_goes_on_from_the_fuse_as_it_is_and_knows_when_entries_are_due(ats: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    insert(ats, 2, "a2")
    async with open_rig(fuse={"max_changes": 2}, settle={"hired": "1h"}) as rig:
        await rig.adopt()
        update(ats, 1, status="hired")
        update(ats, 2, status="hired")
        now = rig.store.driver.clock()
        fuse = Fuse(at=now, changes=1)

        first, second = [each async for each in plan(rig.intake, "send", fuse=fuse)]

        assert first.due_at is not None
        assert first.due_at >= now + rig.store.driver.clock.shift + 3_600_000
        assert (second.action, second.due_at) == ("held", None)
