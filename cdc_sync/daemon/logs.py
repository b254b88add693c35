"""The log, by the standard library's logging: text, lines with systemd's priorities, or JSON.

`logs.yaml` has each event's line. Levels: error, an operator must act; warning, a temporary loss or something to look
at; info, milestones; debug, every change and call.
"""

import io
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from logging import DEBUG, ERROR, INFO, WARNING, Formatter, LogRecord
from typing import Any

from cdc_sync.config import Log
from cdc_sync.core import events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.content import iso
from cdc_sync.core.events import Event, Handler, Handlers
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.core.watch_names import SEPARATOR, listed
from cdc_sync.packaged import data

from .systemd import logs_to_journal

LOGGER = logging.getLogger("cdc_sync")
"""Writes our own lines; the `fields` of a record are beside its message, and `subject` is for `Repeats`."""

Fields = dict[str, object]

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

# syslog's priorities, for the prefix of sd-daemon(3).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}

_MINUTE = 60.0

_MANY_SUBJECTS = 10_000
"""Subjects of lines that repeat themselves: with more, all are forgotten, and each has a line again."""


def configure(log: Log, environ: Mapping[str, str]) -> None:
    """Set up logging for the process and its libraries; `auto` is text on a terminal, the journal's format, else JSON.

    Only libraries' warnings matter; events report the driver's.
    """
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if logs_to_journal(environ) else "json"
    if kind != "text" and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # also in other locales
    for name, level in LEVELS.items():
        logging.addLevelName(level, name)
    logging.addLevelName(logging.CRITICAL, "error")
    # Nobody reads where a record comes from: to find out takes as long as to write the line.
    logging._srcfile = None  # noqa: SLF001 - as its documentation says
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a full disk must not stop the work
    handler = logging.StreamHandler()
    handler.setFormatter({"json": _Json, "journal": _Journal, "text": _Text}[kind]())
    handler.addFilter(Repeats())
    level = LEVELS[log.level]
    logging.basicConfig(level=max(level, WARNING), handlers=[handler], force=True)
    LOGGER.setLevel(level)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)


_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


class _Json(Formatter):
    def format(self, record: LogRecord) -> str:
        always = {"event": record.getMessage(), "level": record.levelname, "timestamp": _instant(record)}
        return visible_json(_encode({**_fields(record), **always}))


class _Journal(Formatter):
    def format(self, record: LogRecord) -> str:
        fields = {"event": _on_one_line(record), **_fields(record)}
        return f"<{_PRIORITIES[record.levelname]}>{_logfmt(fields)}"


class _Text(Formatter):
    def format(self, record: LogRecord) -> str:
        fields = _logfmt(dict(sorted(_fields(record).items())))
        return f"{_instant(record)} [{record.levelname:<9}] {_on_one_line(record):<30} {fields}".rstrip()


def _fields(record: LogRecord) -> Fields:
    fields: Fields = record.__dict__.get("fields", {})
    return {name: value for name, value in fields.items() if value is not None}


def _instant(record: LogRecord) -> str:
    # In half the time of `strftime`; it runs for each call.
    return f"{datetime.fromtimestamp(record.created, UTC).isoformat(timespec='microseconds')[:-6]}Z"


def _on_one_line(record: LogRecord) -> str:
    return visible(" ".join(record.getMessage().split()))


def _logfmt(fields: Fields) -> str:
    """Fields as `name=value`; a value is quoted where its end would be unclear (https://brandur.org/logfmt)."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    """A value with visible control characters: no text may forge a line or steer a terminal."""
    text = visible(str(value))
    if not any(mark in text for mark in ' ="'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Repeats(logging.Filter):
    """Lets lines with the same subject, and the same line of a library, come once a minute, with their number.

    On a full table of open files asyncio logs a hundred a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # By subject: the time of its next line, and its repetitions since.
        self._seen: dict[object, tuple[float, int]] = {}

    def filter(self, record: LogRecord) -> bool:
        """Whether a record has a line."""
        if record.name != LOGGER.name:
            # Without the exception's text, which may quote a DSN or a row.
            exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
            record.fields = {"library": record.name, "exception": exception}
            record.subject = (record.name, exception, record.getMessage().partition("\n")[0])
        subject = record.__dict__.get("subject")
        if subject is None:
            return True
        now = self._clock()
        free_at, times = self._seen.get(subject, (now, 0))
        if now < free_at:
            self._seen[subject] = free_at, times + 1
            return False
        if len(self._seen) >= _MANY_SUBJECTS:
            self._seen.clear()
        self._seen[subject] = now + _MINUTE, 0
        if times:
            record.__dict__["fields"]["times"] = times + 1
        return True


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
    level_of = _Levels().of
    found = {getattr(events, name): _writer(getattr(events, name), line, level_of) for name, line in LINES.items()}
    return {**found, events.ReloadRefused: _reload_refused, **dict.fromkeys(shown_elsewhere)}


def _writer(of: type[Any], line: Mapping[str, Any], level_of: Callable[[str, Any], int]) -> Handler:
    """What writes a type's line."""
    by = line.get("by")
    hidden = {"message", by, *line.get("without", ()), *re.findall(r"{(\w+)}", str(line["message"]))}
    shown = [field.name for field in fields_of(of) if field.name not in hidden]
    name_of = _TEXTS["fields"].get

    def handle(event: Any) -> None:
        case = None if by is None else getattr(event, by)
        level = level_of(_of_case(line["level"], case), event)
        if not LOGGER.isEnabledFor(level):
            return
        fields: Fields = {name_of(name, name): _shown(name, getattr(event, name)) for name in shown}
        if of is events.CallEnded:
            fields["ms"] = round(event.seconds * 1000)
            if event.outcome == "acknowledged":
                del fields["reply"]
        text = _of_case(line["message"], case).format(remedy=REMEDY, **vars(event))
        repeats = _of_case(line.get("repeats"), case)
        subject = None if repeats is None else (of, *(getattr(event, name) for name in repeats))
        LOGGER.log(level, text, extra={"fields": fields, "subject": subject})

    return handle


def _of_case(choices: Any, case: object) -> Any:
    """What a line has for one value of its field `by`."""
    return choices.get(case, choices.get("others")) if isinstance(choices, dict) else choices


_BACK = events.CaptureStarted, events.WatchStandsBy, events.WatchEnded
"""What ends the loss of a database that could not be reached."""

_MENDED = events.SweepDone, events.WatchStandsBy, events.WatchEnded
"""What ends a mistake: each try may get as far as capturing."""


_ON_THE_WAY = events.WatchConnected, events.CaptureStarted
"""What comes before the end of a loss."""


class _Levels:
    """The levels of lines, by their names in `logs.yaml`.

    Watches of a database that are lost by the same cause have one line when the first is lost, and one when the last is
    back.
    """

    def __init__(self) -> None:
        self._lost: dict[str, events.WatchLost] = {}
        """By watch, and each without it."""

    def of(self, name: str, event: Any) -> int:
        """The level of an event's line."""
        match name:
            case "milestone":
                # Another line lists tenants; what is lost may be lost again before it works.
                is_on_the_way = isinstance(event, _ON_THE_WAY) and event.watch in self._lost
                level = DEBUG if SEPARATOR in event.watch or is_on_the_way else INFO
            case "loss":
                level = self._of_loss(event)
            case "attempt":
                level = INFO if event.attempt == 1 else DEBUG
            case "sweep" if event.repaired.keys() - {events.ASKED_FOR}:
                level = WARNING
            case "sweep":
                level = INFO if event.repaired else DEBUG
            case _:
                level = LEVELS[name]
        return max(level, INFO) if isinstance(event, _BACK + _MENDED) and self._ends_loss(event) else level

    def _of_loss(self, event: events.WatchLost) -> int:
        loss = replace(event, watch="")
        is_known = loss in self._lost.values()
        self._lost[event.watch] = loss
        if is_known:
            return DEBUG
        return ERROR if event.misconfigured else WARNING

    def _ends_loss(self, event: events.WatchEvent) -> bool:
        loss = self._lost.get(event.watch)
        if loss is None or not isinstance(event, _MENDED if loss.misconfigured else _BACK):
            return False
        del self._lost[event.watch]
        return loss not in self._lost.values()


def _shown(name: str, value: Any) -> object:
    """The form of a field's value; a value of None is left out."""
    match name:
        case "at":
            value = iso(value)
        case "server_version":
            value //= 10_000
        case "limit" | "pause" | "wait":
            value = str(timedelta(seconds=round(value))) if value else None
        case "database" | "dry_run" | "estimate":
            value = value or None
    match value:
        case tuple():
            return listed(value, ",") or None
        case float():
            return round(value, 3)
    return value


def _reload_refused(event: events.ReloadRefused) -> None:
    for problem in event.problems:
        LOGGER.error("not reloaded, the configuration in use stays: %s", problem, extra={"fields": {}})
