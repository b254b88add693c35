"""The baseline's progress bar, where there is a terminal; elsewhere the log has lines."""

import sys
from typing import TYPE_CHECKING, Self

from cdc_sync.core.observations import BaselineDone, BaselineProgress, Handlers

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class BaselineBar:
    """Draws one bar per watch while its baseline runs."""

    def __init__(self) -> None:
        self.shown = sys.stderr.isatty()
        self._tasks: dict[str, TaskID] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def handlers(self) -> Handlers:
        """What moves a bar; nothing if none is shown."""
        return {BaselineProgress: self._move, BaselineDone: self._done} if self.shown else {}

    def _move(self, event: BaselineProgress) -> None:
        progress = self._start()
        # The planner's estimate may be too small: a bar never runs over its end.
        total = max(event.estimate, event.rows) or None
        if event.watch not in self._tasks:
            self._tasks[event.watch] = progress.add_task(f"baseline {event.watch}", total=total)
        progress.update(self._tasks[event.watch], completed=event.rows, total=total)

    def _done(self, event: BaselineDone) -> None:
        watch = event.watch
        if watch in self._tasks and self._progress is not None:
            self._progress.remove_task(self._tasks.pop(watch))
            if not self._tasks:
                self._stop()

    def _start(self) -> "Progress":
        if self._progress is None:
            # A daemon without a terminal never gets here, and does without rich.
            from rich.console import Console  # noqa: PLC0415 - as above
            from rich.progress import (  # noqa: PLC0415 - as above
                BarColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:,.0f} of about {task.total:,.0f} rows"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
        return self._progress

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
