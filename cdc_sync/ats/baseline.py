"""The first walk through a table: its rows are adopted silently, or enqueued with `baseline: send`.

Each page, in key order, is applied together with the position that it reaches: a restart goes on there. Later changes
are in the change log; in poll mode the sweep after the baseline finds them.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc_sync.ats.intake import Intake
from cdc_sync.core.batch import ApplyResult
from cdc_sync.core.diff import Enqueue
from cdc_sync.core.events import BaselineDone, BaselineProgress
from cdc_sync.core.rows import Key, Observation
from cdc_sync.event_loop import end
from cdc_sync.store import Store

POSITION = "baseline"


@dataclass(frozen=True, slots=True)
class BaselinePosition:
    """How far the baseline is.

    Attributes:
        after: the last key adopted.
        known: rows so far.
        queued: calls so far; after a failure, those of a page may be missing.
    """

    done: bool = False
    after: Key | None = None
    known: int = 0
    queued: int = 0

    def to_text(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str | None) -> "BaselinePosition | None":
        """The inverse of `to_text`; None if no baseline was begun."""
        if text is None:
            return None
        fields = json.loads(text)
        after = fields["after"]
        return cls(fields["done"], after and tuple(after), fields["known"], fields["queued"])


OVER_EARLIER_WORK = "baseline over earlier work"
"""The position of a watch that had been captured before, with another store."""


async def is_adopted(store: Store, watch: str) -> bool:
    """Whether the watch's baseline is done."""
    return is_done((await store.capture.positions(watch)).get(POSITION))


def is_done(text: str | None) -> bool:
    """Whether a baseline that has reached this position is done."""
    position = BaselinePosition.from_text(text)
    return position is not None and position.done


Interpreted = tuple[list[Observation], Key | None]
"""A page's observations, and where the next page begins; the rows are dropped first."""


async def _and_meanwhile(
    adopted: Coroutine[Any, Any, Sequence[ApplyResult]], reading: Coroutine[Any, Any, Interpreted] | None
) -> tuple[Sequence[ApplyResult], Interpreted | None]:
    """Read the next page while one is applied.

    The apply is awaited even if the reading fails: later, it could set the position of a new start back.
    """
    if reading is None:
        return await adopted, None
    following = asyncio.create_task(reading, name="baseline: the next page")
    try:
        results = await adopted
    except BaseException:
        await end([following])
        raise
    return results, await following


async def adopt_everything(
    intake: Intake, position: BaselinePosition, progressed: Callable[[], None]
) -> BaselinePosition:
    """Walk the rest of the table and return the final position.

    After a `SourceError` or `StoreError`, call again with the position in the store.
    """
    watch, started = intake.rules.watch, time.monotonic()
    # After a restart, rows behind the position may be in the store.
    rows_are_new = position.after is None and not await intake.store.capture.knows_any(watch)
    estimate, digests = intake.reader.mapping.facts.estimate, intake.shape_of_digests

    async def read(after: Key | None) -> Interpreted:
        page = await intake.reader.page(after, intake.parts.steps.adopted, digests)
        return intake.interpreted(page), page.last

    found = None if position.done else await read(position.after)
    while found is not None:
        observations, last = found
        reached = replace(position, done=last is None, after=last, known=position.known + len(observations))
        adopted = intake.adopt(observations, {POSITION: reached.to_text()}, rows_are_new=rows_are_new)
        results, found = await _and_meanwhile(adopted, None if last is None else read(last))
        queued = sum(isinstance(result.decision, Enqueue) for result in results)
        position = replace(reached, queued=position.queued + queued)
        intake.observe(BaselineProgress(watch, position.known, estimate))
        progressed()
    known = await intake.store.report.known_of(watch)
    intake.observe(BaselineDone(watch, known, position.queued, time.monotonic() - started))
    return position
