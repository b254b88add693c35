"""Each event's line in the log.

A lasting state is reported when it changes. Levels: error, an operator must act; warning, a temporary loss or something
to look at; info, milestones; debug, every change and call. `logs.yaml` has the lines; other events are written under
their class's name. A new logger has reported nothing yet.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields as fields_of
from datetime import timedelta
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from cdc_sync.core import events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.content import iso
from cdc_sync.core.events import Event, Handler, Handlers
from cdc_sync.core.watch_names import SEPARATOR, listed
from cdc_sync.daemon.logs import LEVELS, LOGGER, Fields, Repeats, write
from cdc_sync.packaged import data

_NEVER = 0
"""Below every level."""

_BEGUN_BY: Mapping[type[Event], type[Event]] = {
    events.RowsVisible: events.RowsHidden,
    events.DeletionsDecided: events.DeletionsWait,
}
"""The event that begins a lasting state, by the one that ends it; both are emitted at each look."""


class EventLogger:
    """Writes the lines of events, except those `shown_elsewhere`."""

    def __init__(
        self, shown_elsewhere: Iterable[type[Event]] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        # Nor have frequent events and mere numbers.
        self._silent = (*shown_elsewhere, events.CaughtUp, events.NotifyQueueSeen)
        self._repeats = Repeats(clock)
        # The reported message of each lasting state, by the event that begins it, and its watch.
        self._lasting: dict[tuple[type[Event], str], str] = {}
        # A watch's reported configuration errors, until its next sweep: each retry may get as far as capturing.
        self._mistakes: dict[str, set[str]] = {}

    def handlers(self) -> Handlers:
        """The writer of each type's line; None where the level is off, so that nothing is formatted."""
        lines = data("daemon/logs.yaml")["lines"]
        handlers: dict[type[Event], Handler | None] = {
            getattr(events, name): self._line(getattr(events, name), **line) for name, line in lines.items()
        }
        handlers |= {
            Event: _unknown if LOGGER.isEnabledFor(INFO) else None,
            events.ReloadRefused: _reload_refused,
            events.CallEnded: _call_ended,
        }
        if LOGGER.isEnabledFor(WARNING):
            handlers |= dict.fromkeys((events.TokenRefused, events.ConnectionDisplaced), self._stranger)
        return handlers | dict.fromkeys(self._silent)

    def _line(
        self, of: type[Any], level: str, message: Any, by: str | None = None, without: Sequence[str] = ()
    ) -> Handler | None:
        """A type's line."""
        least = LOGGER.level
        if LEVELS.get(level, least) < least:
            return None
        level_of = _LEVEL_OF.get(level, getattr(self, f"_level_of_{level}", lambda _: LEVELS[level]))
        hidden = {"message", by, *without, *re.findall(r"{(\w+)}", str(message))}
        shown = [(name, *_field(name)) for field in fields_of(of) if (name := field.name) not in hidden]

        def handle(event: Any) -> None:
            if (its_level := level_of(event)) >= least:
                text = message if by is None else message.get(getattr(event, by), message.get("others"))
                fields: Fields = {called: show(getattr(event, name)) for name, called, show in shown}
                write(its_level, text.format(remedy=REMEDY, **vars(event)) if "{" in text else text, fields)

        return handle

    def _stranger(self, event: events.TokenRefused | events.ConnectionDisplaced) -> None:
        """At most a line a minute: they may do it as often as they like."""
        name = type(event).__name__
        if times := self._repeats.times(name):
            fields: Fields = {"peer": getattr(event, "peer", None), "times": times}
            write(WARNING, data("daemon/logs.yaml")["lines"][name]["message"], fields)

    # Levels that depend on what was reported before.

    def _level_of_loss(self, event: events.WatchLost) -> int:
        if event.repeated:
            return DEBUG
        if not event.misconfigured:
            return WARNING
        reported = self._mistakes.setdefault(event.watch, set())
        is_news = event.message not in reported
        reported.add(event.message)
        return ERROR if is_news else DEBUG

    def _level_of_milestone(self, event: events.WatchConnected | events.CaptureStarted | events.WatchStandsBy) -> int:
        """Debug for a watch that retries after a reported error, and for tenants, which another line lists."""
        return DEBUG if event.watch in self._mistakes or SEPARATOR in event.watch else INFO

    def _level_of_sweep(self, event: events.SweepDone) -> int:
        if self._mistakes.pop(event.watch, None):
            write(INFO, "watching again", {"watch": event.watch})
        return WARNING if event.repaired.keys() - {events.ASKED_FOR} else INFO if event.repaired else DEBUG

    def _level_of_beginning(self, event: events.RowsHidden | events.DeletionsWait) -> int:
        return WARNING if self._is_news(type(event), event.watch, event.message) else DEBUG

    def _level_of_end(self, event: events.RowsVisible | events.DeletionsDecided) -> int:
        return INFO if self._lasting.pop((_BEGUN_BY[type(event)], event.watch), None) else DEBUG

    def _level_of_decision(self, event: events.Decided) -> int:
        """One line for all held entries of a blown fuse."""
        if event.outcome == "queued" and self._lasting:
            self._lasting.pop((events.Decided, event.watch), None)
        elif event.outcome == "held" and self._is_news(events.Decided, event.watch, "held"):
            return WARNING
        return ERROR if event.outcome == "dead" else DEBUG

    def _level_of_progress(self, event: events.BaselineProgress) -> int:
        return INFO if self._repeats.times(event.watch) else _NEVER

    def _is_news(self, began: type[Event], watch: str, message: str) -> bool:
        before, self._lasting[began, watch] = self._lasting.get((began, watch)), message
        return before != message


_OF_MODE = {"healthy": INFO, "paused": ERROR}

_LEVEL_OF: Mapping[str, Callable[[Any], int]] = {
    "baseline": lambda event: DEBUG if SEPARATOR in event.watch and not event.queued else INFO,
    "endpoint": lambda event: _OF_MODE.get(event.mode, WARNING),
    "remapping": lambda event: WARNING if event.held else INFO,
}
"""Levels that depend on the event alone."""


def _unknown(event: Any) -> None:
    write(INFO, type(event).__name__, {field.name: getattr(event, field.name) for field in fields_of(event)})


def _reload_refused(event: events.ReloadRefused) -> None:
    for problem in event.problems:
        write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})


_ENDED = {
    "acknowledged": (INFO, "sent"),
    "retry": (INFO, "not sent yet"),
    "dead": (ERROR, "given up, now a dead letter"),
}


def _call_ended(event: events.CallEnded) -> None:
    """A failed call is news at the first attempt."""
    level, message = _ENDED[event.outcome]
    if event.outcome == "retry" and event.attempt > 1:
        level = DEBUG
    if LOGGER.isEnabledFor(level):
        fields: Fields = {} if event.outcome == "acknowledged" else {"reply": event.reply}
        fields |= {"watch": event.watch, "application_id": event.application_id, "attempt": event.attempt}
        write(level, message, {**fields, "ms": round(event.seconds * 1000)})


def _field(name: str) -> tuple[str, Callable[[Any], object]]:
    """A field's name on a line, and the form of its value."""
    called, shown = (*data("daemon/logs.yaml")["fields"].get(name, [name]), "as it is")[:2]
    return called, _SHOWN[shown]


def _short(seconds: float) -> str | None:
    return str(timedelta(seconds=round(seconds))) if seconds else None


_SHOWN: dict[str, Callable[[Any], object]] = {
    "as it is": lambda value: value,
    "if any": lambda value: value or None,
    "list": lambda names: listed(names, ",") or None,
    "object": dict,
    "duration": _short,
    "instant": iso,
    "tenths": lambda seconds: round(seconds, 1),
    "hundredths": lambda seconds: round(seconds, 2),
    "major": lambda version: version // 10_000,
}
