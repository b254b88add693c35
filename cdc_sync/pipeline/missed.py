"""Repair what the triggers could not record: have the watch swept as soon as a sweep can see all of it.

The number that was answered for is kept in the store, so that after a restart only what came since is said. It is
written down before the sweep has run; a crash in between loses nothing, since a whole sweep follows every start.
"""

import asyncio
from collections.abc import Callable

from psycopg_pool import AsyncConnectionPool

from cdc_sync.core.observations import ChangesMissed
from cdc_sync.pipeline.intake import Intake
from cdc_sync.source.connection import Connection
from cdc_sync.source.missed import missed_changes
from cdc_sync.source.transactions import all_ended

POSITION = "missed"


async def watch_missed(
    intake: Intake, pool: AsyncConnectionPool[Connection], sweep: Callable[[], None], every: float
) -> None:
    """Look every `every` seconds, for ever, and call `sweep` when one is needed.

    Raises:
        SourceError: the database cannot answer.
        StoreError: the number cannot be kept.
    """
    watch = intake.rules.watch
    answered = int((await intake.store.positions(watch)).get(POSITION, "0"))
    while True:
        count = await missed_changes(pool, watch)
        if count != answered:
            # Fewer than before: the sequence was made anew.
            intake.observe(ChangesMissed(watch, count - answered if count > answered else count))
            await all_ended(pool)
            sweep()
            await intake.place({POSITION: str(count)})
            answered = count
        await asyncio.sleep(every)
