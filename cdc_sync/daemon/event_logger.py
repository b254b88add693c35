"""Each event's line in the log, as `logs.yaml` has it.

Levels: error, an operator must act; warning, a temporary loss or something to look at; info, milestones; debug, every
change and call.
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

_TEXTS = data("daemon/logs.yaml")

LINES: Mapping[str, Mapping[str, Any]] = {
    **{
        name: {"level": level, "message": message}
        for level, messages in _TEXTS["levels"].items()
        for name, message in messages.items()
    },
    **_TEXTS["others"],
}
"""Level, message and the rest of each line (see `logs.yaml`), by the name of its event."""


def handlers(shown_elsewhere: Iterable[type[Event]] = ()) -> Handlers:
    """The writers of the lines of events, except those `shown_elsewhere`."""
    found = {getattr(events, name): _writer(getattr(events, name), line) for name, line in LINES.items()}
    return {**found, events.ReloadRefused: _reload_refused, **dict.fromkeys(shown_elsewhere)}


def _writer(of: type[Any], line: Mapping[str, Any]) -> Handler:
    """What writes a type's line."""
    by, form_of = line.get("by"), _FORMS.get
    hidden = {"message", by, *line.get("without", ()), *re.findall(r"{(\w+)}", str(line["message"]))}
    names = [field.name for field in fields_of(of) if field.name not in hidden]
    shown = [(name, _TEXTS["fields"].get(name, name), form_of(name, _shown)) for name in names]

    def handle(event: Any) -> None:
        case = None if by is None else getattr(event, by)
        level = _level(_of_case(line["level"], case), event)
        if not LOGGER.isEnabledFor(level):
            return
        fields: Fields = {called: form(getattr(event, name)) for name, called, form in shown}
        if of is events.CallEnded:
            _describe_call(fields, event)
        text = _of_case(line["message"], case).format(remedy=REMEDY, **vars(event))
        repeats = _of_case(line.get("repeats"), case)
        subject = None if repeats is None else (of, *(getattr(event, name) for name in repeats))
        write(level, text, fields, subject)

    return handle


def _of_case(choices: Any, case: object) -> Any:
    """What a line has for one value of its field `by`."""
    return choices.get(case, choices.get("others")) if isinstance(choices, dict) else choices


def _level(name: str, event: Any) -> int:
    match name:
        case "milestone":
            # Another line lists tenants.
            return DEBUG if SEPARATOR in event.watch else INFO
        case "attempt":
            return INFO if event.attempt == 1 else DEBUG
        case "sweep" if event.repaired.keys() - {events.ASKED_FOR}:
            return WARNING
        case "sweep":
            return INFO if event.repaired else DEBUG
    return LEVELS[name]


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
    return value


def _describe_call(fields: Fields, event: events.CallEnded) -> None:
    """Whole milliseconds; an answer only if the call failed."""
    fields["ms"] = round(event.seconds * 1000)
    if event.outcome == "acknowledged":
        del fields["reply"]


def _reload_refused(event: events.ReloadRefused) -> None:
    for problem in event.problems:
        write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})
