"""What the triggers could not record is repaired by a sweep that sees all of it, and said once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.applications import insert, update
from support.builders import WATCH
from support.eventually import eventually
from support.rig import OpenRig, Rig, nothing
from support.sessions import Ats, one

from cdc_sync.ats.lookout import Ears
from cdc_sync.core.events import ChangesMissed

BACKLOG = 64 * 1024
SOON = {"drain_interval": "200ms"}
FULL = {"max_backlog": BACKLOG, **SOON}


@asynccontextmanager
async def watching(rig: Rig) -> AsyncIterator[None]:
    drain = rig.drain
    drain.lookout.listen(drain.watched, Ears(0.1, arms=False, rung=nothing, looked=lambda _: None))
    task = asyncio.create_task(rig.drain.watch_missed())
    try:
        yield
        assert not task.done() or task.exception() is None
    finally:
        drain.watched.ears = None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def missed(rig: Rig) -> list[int]:
    return [observation.number for observation in rig.heard(ChangesMissed)]


async def test_not_before_the_transaction_has_ended(ats: Ats, other: Ats, open_rig: OpenRig) -> None:
    insert(ats, 1, "a1")
    async with open_rig(capture=SOON) as rig:
        await rig.adopt()
        ats.execute("ALTER TABLE cdc_sync.changes RENAME TO away")
        other.execute("BEGIN")
        update(other, 1, status="hired")
        ats.execute("ALTER TABLE cdc_sync.away RENAME TO changes")
        async with watching(rig):
            await eventually(lambda: missed(rig), "it is noticed")
            await asyncio.sleep(0.7)  # time for more than one look
            assert rig.sweeps_wanted == 0, "a sweep would not see it yet"

            other.execute("COMMIT")

            await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")
        assert missed(rig) == [1]
        assert (await rig.sweep()).repaired == {"status": 1}


async def test_a_log_that_was_full_while_the_daemon_was_away_loses_nothing(ats: Ats, open_rig: OpenRig) -> None:
    """The whole story: full, drained, swept, recorded again."""
    number, recorded = 2_000, 1_500
    ats.execute(
        "INSERT INTO public.applications (id, hellowork_id, status, job_id, created_at)"
        " SELECT i, 'a' || i, 'NEW', 'j', now() FROM generate_series(1, %s) i",
        [number],
    )
    async with open_rig(capture=FULL) as rig:
        await rig.adopt()

    ats.execute("UPDATE public.applications SET status = 'hired' WHERE id <= %s", [recorded])
    assert one(ats, "SELECT pg_relation_size('cdc_sync.changes')") > BACKLOG
    warned = list[str]()
    ats.add_notice_handler(lambda notice: warned.append(str(notice.message_primary)))
    ats.execute("UPDATE public.applications SET status = 'hired' WHERE id > %s", [recorded])
    assert warned == [], "one in each transaction would fill the server's log"

    async with open_rig(capture=FULL) as rig:
        await rig.drain.catch_up()
        counts = (await rig.store.report.counts())[WATCH]
        assert counts.pending + counts.held == recorded
        async with watching(rig):
            await eventually(lambda: rig.sweeps_wanted, "a sweep is wanted")
            done = await rig.sweep()
        assert recorded + done.repaired["status"] == number
        assert missed(rig) == [1]
        assert "the change log was full" in rig.heard(ChangesMissed)[0].reason

        update(ats, 1, status="interview")
        await rig.drain.catch_up()
        pending = (await rig.store.capture.known(WATCH, ["a1"]))["a1"].pending
        assert pending is not None
        assert pending.content.status == "interview"
