"""Repair what the triggers could not record: have the watch swept as soon as a sweep can see all of it.

The number that was answered for is kept in the store, so that after a restart only what came since is said. It is
written down before the sweep has run; a crash in between loses nothing, since a whole sweep follows every start.
"""

import asyncio
from collections.abc import Callable

from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.observations import ChangesMissed
from cdc_sync.pipeline.drain import Drain
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.bell import Bell
from cdc_sync.source.connection import Connection
from cdc_sync.source.transactions import all_ended
from cdc_sync.source.triggers import log_filled_by, missed_changes

POSITION = "missed"


async def watch_missed(
    intake: Intake,
    pool: AsyncConnectionPool[Connection],
    drain: Drain,
    sweep: Callable[[], None],
    every: float,
) -> None:
    """Look every `every` seconds, for ever, and call `sweep` when one is needed; `drain` empties the log.

    Raises:
        SourceError: the database cannot answer.
        StoreError: the number cannot be kept.
    """
    watch = intake.rules.watch
    bell = Bell(pool, watch)
    answered = int((await intake.store.positions(watch)).get(POSITION, "0"))
    while True:
        await bell.worked()
        was_full = drain.was_full()
        count = await missed_changes(pool, watch)
        if count != answered:
            # Fewer than before: the sequence was made anew.
            dropped = count - answered if count > answered else count
            intake.observe(ChangesMissed(watch, dropped, await _reason(pool, drain.max_backlog, was_full=was_full)))
            await all_ended(pool)
            sweep()
            await intake.place({POSITION: str(count)})
            answered = count
        await asyncio.sleep(every)


async def _reason(pool: AsyncConnectionPool[Connection], max_backlog: int, *, was_full: bool) -> str:
    filled_by = await log_filled_by(pool, max_backlog)
    bound = f"full (max_backlog is {max_backlog:,} bytes)"
    if filled_by is None and was_full:
        return f"the change log was {bound}; its changes were taken, and its space given back"
    if filled_by is None:
        return (
            "writing to the change log failed (the server's log has the triggers' WARNINGs), or nobody had taken this "
            "watch's changes for a day while another's were taken"
        )
    if not filled_by:
        return f"the change log is {bound}; its changes were taken, and its space will be given back"
    return f"the change log is {bound}; in it are " + ", ".join(
        f"{number:,} of the watch {name}" for name, number in filled_by.items()
    )
