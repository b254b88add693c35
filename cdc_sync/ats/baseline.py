"""The first walk through a table: its rows are adopted silently, or enqueued with `baseline: send`.

Each page, in key order, is applied together with the position that it reaches: a restart goes on there. Later changes
are in the change log; in poll mode the sweep after the baseline finds them.
"""

import json
import time
from dataclasses import asdict, dataclass, replace

from cdc_sync.ats.intake import Intake
from cdc_sync.core.diff import Enqueue
from cdc_sync.core.events import BaselineDone, BaselineProgress
from cdc_sync.core.rows import Key
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


async def adopt_everything(intake: Intake, position: BaselinePosition) -> BaselinePosition:
    """Walk the rest of the table and return the final position.

    After a `SourceError` or `StoreError`, call again with the position in the store.
    """
    watch, started = intake.rules.watch, time.monotonic()
    # After a restart, rows behind the position may be in the store.
    rows_are_new = position.after is None and not await intake.store.capture.knows_any(watch)
    estimate, digests = intake.reader.mapping.facts.estimate, intake.shape_of_digests

    while not position.done:
        page = await intake.reader.page(position.after, intake.parts.steps.adopted, digests)
        known = position.known + len(page.rows)
        reached = replace(position, done=page.last is None, after=page.last, known=known)
        adopting = intake.adopt(intake.interpreted(page), {POSITION: reached.to_text()}, rows_are_new=rows_are_new)
        queued = sum(isinstance(result.decision, Enqueue) for result in await adopting)
        position = replace(reached, queued=position.queued + queued)
        intake.observe(BaselineProgress(watch, position.known, estimate))
    known = await intake.store.report.known_of(watch)
    intake.observe(BaselineDone(watch, known, position.queued, time.monotonic() - started))
    return position
