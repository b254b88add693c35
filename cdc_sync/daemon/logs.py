"""The log: text, lines with systemd's priorities, or JSON; what libraries log by the standard library is in it, too.

`logs.yaml` has each event's line. Levels: error, an operator must act; warning, a temporary loss or something to look
at; info, milestones; debug, every change and call.
"""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from logging import DEBUG, ERROR, INFO, WARNING, LogRecord
from time import monotonic
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

Fields = dict[str, object]
"""What is beside a line's text."""

LevelOf = Callable[[str, Any], int]
"""The level of an event's line, by its rule's name."""

Form = Callable[[int, str, Fields], str]
"""A line's form; of its level, its text and its fields."""

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

_NAMES = {number: name for name, number in LEVELS.items()}

# syslog's priorities, for the prefix of sd-daemon(3).
_PRIORITIES = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3}

_MINUTE = 60.0

_MANY_SUBJECTS = 10_000
"""Subjects of lines that repeat themselves: with more, all are forgotten, and each has a line again."""


class _Writer(logging.StreamHandler[Any]):
    """Writes the lines of events, which come here at once, and of libraries, which come by the standard library.

    Of lines with the same subject there is one a minute, with their number: on a full table of open files asyncio logs
    a hundred a second.
    """

    form: Form

    def use(self, form: Form, level: int) -> None:
        """Write lines of this form, from this level on, to standard error."""
        self.stream, self.form, self.level = sys.stderr, form, level
        # By subject: the time of its next line, and its repetitions since.
        self._seen: dict[object, tuple[float, int]] = {}

    def emit(self, record: LogRecord) -> None:
        """Write a library's line, without the exception's text, which may quote a DSN or a row."""
        text, fields = record.getMessage(), dict[str, object](library=record.name)
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = record.exc_info[0].__name__
        subject = (*fields.values(), text.partition("\n")[0])
        self.write(ERROR if record.levelno >= ERROR else WARNING, text, fields, subject)

    def write(self, level: int, text: str, fields: Fields, subject: object = None) -> None:
        """Write a line."""
        if level < self.level or (subject is not None and self._repeats(subject, fields)):
            return
        line = self.form(level, text, fields)
        # A full disk must not stop the work.
        with suppress(OSError, ValueError):
            self.stream.write(f"{line}\n")

    def _repeats(self, subject: object, fields: Fields) -> bool:
        """Whether a subject had a line within the last minute; else the number of its repetitions joins the fields."""
        now = monotonic()
        free_at, times = self._seen.get(subject, (now, 0))
        if now < free_at:
            self._seen[subject] = free_at, times + 1
            return True
        if len(self._seen) >= _MANY_SUBJECTS:
            self._seen.clear()
        self._seen[subject] = now + _MINUTE, 0
        if times:
            fields["times"] = times + 1
        return False


LOG = _Writer()
"""The process's log."""


def configure(log: Log, environ: Mapping[str, str]) -> None:
    """Set up the process's log; `auto` is text on a terminal, the journal's format, else JSON."""
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if logs_to_journal(environ) else "json"
    if kind != "text" and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # also in other locales
    LOG.use({"json": _json, "journal": _journal, "text": _text}[kind], LEVELS[log.level])
    logging.basicConfig(level=WARNING, handlers=[LOG], force=True)


# The forms of lines.

_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _json(level: int, text: str, fields: Fields) -> str:
    return visible_json(_encode({**fields, "event": text, "level": _NAMES[level], "timestamp": _now()}))


def _journal(level: int, text: str, fields: Fields) -> str:
    return f"<{_PRIORITIES[level]}>{_logfmt({'event': _on_one_line(text), **fields})}"


def _text(level: int, text: str, fields: Fields) -> str:
    sorted_fields = _logfmt(dict(sorted(fields.items())))
    return f"{_now()} [{_NAMES[level]:<9}] {_on_one_line(text):<30} {sorted_fields}".rstrip()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _on_one_line(text: str) -> str:
    return visible(" ".join(text.split()))


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


# The lines of events.

_TEXTS = data("daemon/logs.yaml")

LINES: Mapping[str, Mapping[Any, Any]] = {
    **{
        name: {"level": level, "message": message}
        for level, messages in _TEXTS["levels"].items()
        for name, message in messages.items()
    },
    **_TEXTS["others"],
}
"""Level, message and the rest of each line, or its cases (see `logs.yaml`), by the name of its event."""


def _length(seconds: float) -> str | None:
    return str(timedelta(seconds=round(seconds))) if seconds else None


_FORMS: Mapping[str, Callable[[Any], object]] = {
    "at": iso,
    "server_version": lambda number: number // 10_000,
    "took": lambda seconds: round(seconds * 1000),
    **dict.fromkeys(("ahead", "seconds"), lambda seconds: round(seconds, 3)),
    **dict.fromkeys(("limit", "pause", "wait"), _length),
    **dict.fromkeys(("database", "dry_run", "estimate"), lambda value: value or None),
    **dict.fromkeys(("accounts", "tenants", "watches"), lambda names: listed(names, ",") or None),
}
"""The forms of fields, by name; a value of None is left out."""


def handlers(shown_elsewhere: Iterable[type[Event]] = ()) -> Handlers:
    """The writers of the lines of events, except those `shown_elsewhere`."""
    level_of = _Levels().of
    found = {getattr(events, name): _writer(getattr(events, name), line, level_of) for name, line in LINES.items()}
    return {**found, events.ReloadRefused: _reload_refused, **dict.fromkeys(shown_elsewhere)}


def _writer(of: type[Any], line: Mapping[Any, Any], level_of: LevelOf) -> Handler:
    """What writes a type's line."""
    by = line.get("by")
    if by is None:
        return _writer_of_case(of, line, level_of)
    of_case = cache(lambda case: _writer_of_case(of, {"by": by, **line.get(case, line.get("others"))}, level_of))
    return lambda event: of_case(getattr(event, by))(event)


def _writer_of_case(of: type[Any], line: Mapping[Any, Any], level_of: LevelOf) -> Handler:
    """What writes a line; what can be known before the event is found out here."""
    level, message, repeats = line["level"], line["message"], line.get("repeats")
    always, label_of = LEVELS.get(level), _TEXTS["fields"].get
    names = re.findall(r"{(\w+)}", message)
    hidden = {"message", line.get("by"), *names, *line.get("without", ())}
    shown = [(name, label_of(name, name), _FORMS.get(name)) for name in of.__match_args__ if name not in hidden]

    def write(event: Any) -> None:
        now = always or level_of(level, event)
        if now < LOG.level:
            return
        fields: Fields = {}
        values = vars(event)
        for name, label, form in shown:
            value = form(values[name]) if form else values[name]
            if value is not None:
                fields[label] = value
        text = message.format(remedy=REMEDY, **values) if names else message
        LOG.write(now, text, fields, None if repeats is None else (of, *map(values.get, repeats)))

    return write


def _reload_refused(event: events.ReloadRefused) -> None:
    for problem in event.problems:
        LOG.write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})


_BACK = events.CaptureStarted, events.WatchStandsBy, events.WatchEnded
"""What ends the loss of a database that could not be reached."""

_MENDED = events.SweepDone, events.WatchStandsBy, events.WatchEnded
"""What ends a mistake: each try may get as far as capturing."""

_ON_THE_WAY = events.WatchConnected, events.CaptureStarted
"""What comes before the end of a loss."""


class _Levels:
    """The levels of lines that depend on the event, by their rules' names in `logs.yaml`.

    Watches of a database that are lost by the same cause have one line when the first is lost, and one when the last is
    back.
    """

    def __init__(self) -> None:
        self._lost: dict[str, events.WatchLost] = {}
        """By watch, and each without it."""

    def of(self, rule: str, event: Any) -> int:
        """The level of an event's line."""
        match rule:
            case "loss":
                return self._of_loss(event)
            case "attempt":
                return INFO if event.attempt == 1 else DEBUG
            case "milestone":
                # Another line lists tenants; what is lost may be lost again before it works.
                is_on_the_way = isinstance(event, _ON_THE_WAY) and event.watch in self._lost
                level = DEBUG if SEPARATOR in event.watch or is_on_the_way else INFO
            case "sweep" if event.repaired:
                level = WARNING if event.repaired.keys() - {events.ASKED_FOR} else INFO
            case _:
                level = DEBUG
        return max(level, INFO) if self._ends_loss(event) else level

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
