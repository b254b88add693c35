"""How a watch begins, for the daemon, `run --once` and a dry run alike: connect, adopt, get ready."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from cdc_sync.core.events import BaselineOverEarlierWork, PendingReread, WatchConnected
from cdc_sync.pipeline import baseline
from cdc_sync.pipeline.capture import Capture
from cdc_sync.pipeline.database import WatchParts
from cdc_sync.pipeline.intake import Intake
from cdc_sync.pipeline.notify import NotifyCapture
from cdc_sync.pipeline.poll import PollCapture
from cdc_sync.pipeline.preview import measure_edit
from cdc_sync.pipeline.tenant_table import FORGOTTEN
from cdc_sync.pipeline.tenant_table import POSITION as TABLE
from cdc_sync.source.connection import Connection
from cdc_sync.source.facts import table_facts
from cdc_sync.source.mapping import Mapping as TableMapping
from cdc_sync.source.replica_guard import POSITION as REPLICA
from cdc_sync.store.protocol import FROM_DATABASE

KINDS: Mapping[str, type[Capture]] = {"notify": NotifyCapture, "poll": PollCapture}
"""The kinds of capture, by `capture.mode`."""


@asynccontextmanager
async def connect(parts: WatchParts) -> AsyncIterator[Intake]:
    """Connect a watch to its database, check its configuration there and, unless in a dry run, take its turn.

    Raises:
        SourceError: the database cannot be used as configured, or another daemon captures the watch.
        StoreError: the store cannot be used, or belongs to another database.
    """
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(parts.database.sessions(parts.name))

        async def prepare(connection: Connection) -> TableMapping:
            facts = await table_facts(connection, parts.watch.table)
            return await TableMapping.prepare(connection, parts.watch, facts)

        mapping = await sessions.unless_lost(sessions.pool.ask("preparing to capture changes", prepare))
        # A dry run works beside the daemon that has the turn.
        if not parts.dry_run:
            await stack.enter_async_context(parts.database.turn(parts.name, sessions))
        intake = Intake(parts, sessions, mapping)
        stack.callback(sessions.lookout.leave, intake.watched)
        await sessions.unless_lost(_look(intake))
        yield intake


async def _look(intake: Intake) -> None:
    await intake.sessions.lookout.join(intake.watched)
    # Every later look is at least as recent.
    intake.seen = intake.watched.state
    await intake.load()
    await intake.look_for_policies(first=True)


async def open_capture(intake: Intake) -> Capture:
    """Make a watch's capture."""
    return await KINDS[intake.parts.watch.capture.mode].open(intake)


async def begin(intake: Intake, meanwhile: str, progressed: Callable[[], None]) -> Capture:
    """Adopt a watch's rows, and make its capture ready.

    May raise `SourceError`, also when the sessions are lost, and `StoreError`.

    `meanwhile` names what finds changes where triggers are missing.
    """
    return await intake.sessions.unless_lost(_begin(intake, meanwhile, progressed))


async def _begin(intake: Intake, meanwhile: str, progressed: Callable[[], None]) -> Capture:
    parts = intake.parts
    mode, version = parts.watch.capture.mode, intake.sessions.server.version
    parts.observe(WatchConnected(parts.name, mode, version, parts.database.shown_name))
    capture = await open_capture(intake)
    capture.report_problems(meanwhile)
    position = await adopt(capture, progressed)
    await measure_edit(intake, progressed)
    number = await intake.reread_pending(progressed)
    parts.observe(PendingReread(parts.name, number))
    await capture.begin(position.look)
    return capture


async def adopt(capture: Capture, progressed: Callable[[], None]) -> baseline.BaselinePosition:
    """Run the baseline, or the rest of it; returns its position."""
    parts = capture.parts
    positions = await parts.store.capture.positions(parts.name)
    position = baseline.BaselinePosition.from_text(positions.get(baseline.POSITION))
    if position is None:
        is_silent = parts.rules.baseline == "adopt" and not parts.dry_run
        if is_silent and await capture.was_worked_before():
            # The baseline takes as acknowledged what the earlier store may have had to send.
            parts.observe(BaselineOverEarlierWork(parts.name))
            await capture.intake.place({baseline.OVER_EARLIER_WORK: "yes"})
        if parts.database.name:
            await capture.intake.place({FROM_DATABASE: parts.database.name})
        position = baseline.BaselinePosition(look=await capture.look())
    if not position.done:
        position = await baseline.adopt_everything(capture.intake, position, progressed)
    return position


def positions_elsewhere(positions: Mapping[str, str]) -> dict[str, str]:
    """The positions to write when a watch's store is given to another database.

    A transaction's number means nothing in another cluster, nor does a table's oid. The watermark is a time and stays;
    the new sweep at the next start finds what it misses. The baseline is done: the snapshot stays the reference.
    """
    kept: dict[str, str] = {}
    adopted = baseline.BaselinePosition.from_text(positions.get(baseline.POSITION))
    if adopted is not None:
        kept[baseline.POSITION] = replace(adopted, look=None).to_text()
    void = {REPLICA: "", TABLE: FORGOTTEN}
    for kind in KINDS.values():
        void |= kind.void_elsewhere
    return kept | {name: text for name, text in void.items() if name in positions}
