"""Each event's line in the log.

Levels: error, an operator must act; warning, a temporary loss or something to look at; info, milestones; debug, every
change and call. `logs.yaml` has the lines; other events are written under their class's name. A new logger has reported
nothing yet.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from datetime import timedelta
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from cdc_sync.core import events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.content import iso
from cdc_sync.core.events import Event, Handler, Handlers
from cdc_sync.core.watch_names import SEPARATOR, listed
from cdc_sync.daemon.logs import LEVELS, LOGGER, Fields, write
from cdc_sync.packaged import data


class EventLogger:
    """Writes the lines of events, except those `shown_elsewhere`."""

    def __init__(self, shown_elsewhere: Iterable[type[Event]] = ()) -> None:
        # Nor have frequent events and mere numbers.
        self._silent = (*shown_elsewhere, events.CaughtUp, events.NotifyQueueSeen)
        # A watch's reported configuration errors, until its next sweep: each retry may get as far as capturing.
        self._mistakes: dict[str, set[str]] = {}

    def handlers(self) -> Handlers:
        """The writer of each type's line; None where the level is off, so that nothing is formatted."""
        handlers: dict[type[Event], Handler | None] = {Event: _unknown if LOGGER.isEnabledFor(INFO) else None}
        for name, line in data("daemon/logs.yaml")["lines"].items():
            of = getattr(events, name)
            handlers[of] = self._line(of, line)
        return {**handlers, events.ReloadRefused: _reload_refused, **dict.fromkeys(self._silent)}

    def _line(self, of: type[Any], line: Mapping[str, Any]) -> Handler | None:
        """A type's line; see `logs.yaml`."""
        level, message, by = line["level"], line["message"], line.get("by")
        if isinstance(level, str) and not LOGGER.isEnabledFor(LEVELS.get(level, ERROR)):
            return None
        renamed = data("daemon/logs.yaml")["fields"]
        hidden = {"message", by, *line.get("without", ()), *re.findall(r"{(\w+)}", str(message))}
        names = [field.name for field in fields_of(of) if field.name not in hidden]
        shown = [(name, renamed.get(name, name), _FORMS.get(name, _shown)) for name in names]

        def handle(event: Any) -> None:
            case = "all" if by is None else getattr(event, by)
            its_level = self._level(_of_case(level, case), event)
            if LOGGER.isEnabledFor(its_level):
                text = _of_case(message, case)
                fields: Fields = {called: form(getattr(event, name)) for name, called, form in shown}
                if of is events.CallEnded:
                    _describe_call(fields, event)
                subject = (of, getattr(event, "watch", None)) if case == line.get("repeats") else None
                write(its_level, text.format(remedy=REMEDY, **vars(event)) if "{" in text else text, fields, subject)

        return handle

    def _level(self, name: str, event: Any) -> int:
        match name:
            case "milestone":
                # Another line lists tenants.
                return DEBUG if event.watch in self._mistakes or SEPARATOR in event.watch else INFO
            case "attempt":
                return INFO if event.attempt == 1 else DEBUG
            case "loss":
                return self._level_of_loss(event)
            case "sweep":
                return self._level_of_sweep(event)
        return LEVELS[name]

    def _level_of_loss(self, event: events.WatchLost) -> int:
        if event.repeated:
            return DEBUG
        if not event.misconfigured:
            return WARNING
        reported = self._mistakes.setdefault(event.watch, set())
        is_news = event.message not in reported
        reported.add(event.message)
        return ERROR if is_news else DEBUG

    def _level_of_sweep(self, event: events.SweepDone) -> int:
        if self._mistakes.pop(event.watch, None):
            write(INFO, "watching again", {"watch": event.watch})
        if event.repaired.keys() - {events.ASKED_FOR}:
            return WARNING
        return INFO if event.repaired else DEBUG


def _of_case(choices: Any, case: object) -> Any:
    """What a line has for one value of its field `by`."""
    return choices.get(case, choices.get("others")) if isinstance(choices, dict) else choices


def _short(seconds: float) -> str | None:
    return str(timedelta(seconds=round(seconds))) if seconds else None


def _if_any(value: object) -> object:
    return value or None


_FORMS: Mapping[str, Callable[[Any], object]] = {
    "at": iso,
    "server_version": lambda version: version // 10_000,
    **dict.fromkeys(("limit", "pause", "wait"), _short),
    **dict.fromkeys(("database", "dry_run", "estimate"), _if_any),
}
"""The forms of some fields' values. A value of None is left out."""


def _shown(value: Any) -> object:
    """The form of any other field's value."""
    match value:
        case tuple():
            return listed(value, ",") or None
        case float():
            return round(value, 3)
        case Mapping():
            return dict(value)
    return value


def _describe_call(fields: Fields, event: events.CallEnded) -> None:
    """Whole milliseconds; an answer only if the call failed."""
    fields["ms"] = round(event.seconds * 1000)
    if event.outcome == "acknowledged":
        del fields["reply"]


def _unknown(event: Any) -> None:
    write(INFO, type(event).__name__, {field.name: getattr(event, field.name) for field in fields_of(event)})


def _reload_refused(event: events.ReloadRefused) -> None:
    for problem in event.problems:
        write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})
