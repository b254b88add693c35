"""Reports lasting states when they begin, change and end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cdc_sync.core.events import Emit, Event


def unreported(_: str) -> None:
    """An end that nobody needs to know."""


@dataclass(slots=True)
class Lasting:
    """States of one kind, each by its subject; `over` makes the event of a subject's end."""

    emit: Emit
    over: Callable[[str], Event | None] = unreported
    _now: Mapping[str, Event] = field(default_factory=dict, init=False)

    def are(self, now: Mapping[str, Event]) -> None:
        """These are the states now, and no others."""
        before, self._now = self._now, now
        for subject, event in now.items():
            if before.get(subject) != event:
                self.emit(event)
        for subject in before.keys() - now.keys():
            if (event_of_end := self.over(subject)) is not None:
                self.emit(event_of_end)

    def is_(self, event: Event | None) -> None:
        """This is the state of the only subject, or there is none."""
        self.are({} if event is None else {"": event})
