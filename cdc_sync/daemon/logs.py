"""The log: each event's line, as text, as fields for systemd's journal, or as JSON.

A lasting state is reported when it changes. Levels: error, an operator must act; warning, a temporary loss or something
to look at; info, milestones; debug, every change and call. `logs.yaml` has the lines; other events are written under
their class's name.

The journal gets its own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), so that each field can be queried:

    journalctl --unit cdc-sync CDC_SYNC_APPLICATION_ID=hw-1
"""

import asyncio
import io
import json
import logging
import os
import re
import socket
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import timedelta
from logging import DEBUG, ERROR, INFO, WARNING
from pathlib import Path
from typing import Any

from cdc_sync.config import Log
from cdc_sync.core import events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.content import iso, to_the_second
from cdc_sync.core.events import Event, Handler, Handlers
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.core.watch_names import SEPARATOR, listed
from cdc_sync.packaged import data

Fields = dict[str, object]
Write = Callable[[int, str, Fields], None]
"""Writes a line; may change the given fields."""

Put = Callable[[int, str], None]
"""Takes a finished line and its level."""

JOURNAL = Path("/run/systemd/journal/socket")
"""The journal's socket."""

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_NAMES = {number: name for name, number in LEVELS.items()}

# syslog's priorities, for the prefix of sd-daemon(3).
_PRIORITIES = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3}

_COLORS = {DEBUG: 36, INFO: 32, WARNING: 33, ERROR: 31}


@dataclass(frozen=True, slots=True)
class Lines:
    """The writer of lines, and their lowest level, which callers check before they format one."""

    level: int
    write: Write

    def warn(self, message: str) -> None:
        """Write a warning about the configuration."""
        if self.level <= WARNING:
            self.write(WARNING, message, {})


def configure(log: Log, environ: Mapping[str, str], journal: Path = JOURNAL) -> Lines:
    """Set up logging for the process and its libraries; `auto` is text on a terminal, the journal's format, else JSON.

    The journal gets fields if standard error leads to it, lines with priorities if another process stands between.
    """
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if "JOURNAL_STREAM" in environ else "json"
    if kind != "text" and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # also in other locales
    put = _to_standard_error()
    if kind == "text":
        write = _text(put, colors=sys.stderr.isatty() and "NO_COLOR" not in environ)
    elif kind == "json":
        write = _json(put)
    else:
        write = _journal(journal if is_the_journals(environ, journal) else None, put)
    lines = Lines(LEVELS[log.level], write)
    # Only libraries' warnings matter; events report the driver's.
    logging.basicConfig(level=WARNING, handlers=[Libraries(lines)], force=True)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    return lines


def is_the_journals(environ: Mapping[str, str], journal: Path) -> bool:
    """Whether standard error is the journal: `$JOURNAL_STREAM` has its device and inode (systemd.exec(5))."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}" and journal.exists()


_quote = json.encoder.encode_basestring
_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _json(put: Put) -> Write:
    """JSON objects. The library's encoder takes two to three times as long."""

    def write(level: int, message: str, fields: Fields) -> None:
        fields["event"] = message
        members = []
        for name, value in fields.items():
            if type(value) is int:
                members.append(f'"{name}": {value}')
            elif value is not None:
                text = _quote(value) if type(value) is str else _encode(value)
                members.append(f'"{name}": {text if text.isprintable() else visible_json(text)}')
        put(level, f'{{{", ".join(members)}, "level": "{_NAMES[level]}", "timestamp": "{_now()}"}}')

    return write


def _journal(journal: Path | None, put: Put) -> Write:
    """Fields for the journal; text with a priority, if it is missing or refuses them."""
    path = str(journal)
    # Not connected, so that it reaches a restarted journal.
    sending = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(level: int, message: str, fields: Fields) -> None:
        facts, priority = _on_one_line(message, fields), _PRIORITIES[level]
        line = logfmt(facts)
        if journal is not None:
            all_of_it = {"MESSAGE": line, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "cdc-sync"}
            all_of_it |= {f"CDC_SYNC_{name.upper()}": value for name, value in facts.items()}
            datagram = "".join(f"{name}={value}\n" for name, value in all_of_it.items())
            with suppress(OSError):
                sending.sendto(datagram.encode("utf-8", "backslashreplace"), path)
                return
        put(level, f"<{priority}>{line}")

    weakref.finalize(write, sending.close)
    return write


def _text(put: Put, *, colors: bool) -> Write:

    def write(level: int, message: str, fields: Fields) -> None:
        facts = _on_one_line(message, fields)
        event, name = f"{facts.pop('event'):<30}", f"[{_NAMES[level]:<9}]"
        if colors:
            event, name = f"\x1b[1m{event}\x1b[0m", f"\x1b[{_COLORS[level]}m{name}\x1b[0m"
        put(level, f"{_now()} {name} {event} {logfmt(dict(sorted(facts.items())))}".rstrip())

    return write


def _now() -> str:
    second, rest = divmod(time.time_ns() // 1_000, 1_000_000)
    return f"{to_the_second(second)}.{rest:06}Z"


def _on_one_line(message: str, fields: Fields) -> Fields:
    """The message and fields, with visible control characters: no text may forge a line or steer a terminal."""
    line = {"event": " ".join(message.split()), **fields}
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in line.items() if value is not None
    }


def logfmt(fields: Fields) -> str:
    """Fields as `name=value`; a value is quoted where its end would be unclear (https://brandur.org/logfmt)."""
    return " ".join(name if value is True else f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    text = "false" if value is False else str(value)
    if not any(mark in text for mark in ' ="'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _to_standard_error() -> Put:
    """Write info and debug together at the end of the event loop's turn, the rest at once, all in order.

    A kill loses at most the lines of its turn.
    """
    waiting: deque[str] = deque()

    def put(level: int, line: str) -> None:
        waiting.append(f"{line}\n")
        if level >= WARNING:
            _write_all(waiting)
        elif len(waiting) == 1:
            try:
                asyncio.get_running_loop().call_soon(_write_all, waiting)
            except RuntimeError:  # none runs here
                _write_all(waiting)

    weakref.finalize(put, _write_all, waiting)
    return put


def _write_all(lines: deque[str]) -> None:
    """Write lines. Refused ones are lost: a full disk must not stop the work."""
    text = ""
    with suppress(IndexError):  # each is taken once, also if a library writes in another thread
        while True:
            text += lines.popleft()
    with suppress(OSError):
        sys.stderr.write(text)  # standard error is line-buffered: nothing stays there


_MINUTE = 60.0
_MOST_MESSAGES = 1_000
"""Remembered messages."""


class Repeats:
    """Lets a repeated message have one line a minute, with the number of its repetitions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By message: the time of its next line, and its repetitions since.
        self._seen: dict[str, tuple[float, int]] = {}

    def times(self, message: str, *, happened: bool = True) -> int:
        """The repetitions that a line may report now; 0 for no line."""
        now = self._clock()
        free_at, times = self._seen.get(message, (now, 0))
        times += happened
        if now < free_at or not times:
            self._seen[message] = (free_at, times)
            return 0
        if len(self._seen) >= _MOST_MESSAGES:
            self._seen.clear()
        self._seen[message] = (now + _MINUTE, 0)
        return times


class Libraries(logging.Handler):
    """Writes libraries' log records in the same format, repeated ones once a minute.

    On a full table of open files asyncio logs a hundred a second.
    """

    def __init__(self, lines: Lines, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lines.level)
        self._lines = lines
        self._repeats = Repeats(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        # Without the exception's text, which may quote a connection string or a row.
        exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.getMessage()
        times = self._repeats.times(f"{record.name} {exception} {message.partition(chr(10))[0]}")
        if not times:
            return
        level = ERROR if record.levelno >= ERROR else WARNING
        if level >= self._lines.level:
            facts: Fields = {"library": record.name, "exception": exception, "times": times if times > 1 else None}
            self._lines.write(level, message, facts)


_MOST_REMEMBERED = 10_000
"""Applications with a remembered reply, which is reported once."""


class EventLogger:
    """Writes the lines of events, except those `shown_elsewhere`."""

    def __init__(
        self,
        lines: Lines,
        shown_elsewhere: Iterable[type[Event]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Nor have frequent events and mere numbers.
        self._silent = (*shown_elsewhere, events.CaughtUp, events.NotifyQueueSeen)
        self._repeats = Repeats(clock)
        # The last refusal of the admin server, by type.
        self._at_door: dict[str, events.TokenRefused | events.ConnectionDisplaced] = {}
        # Endpoints reported as unhealthy, and each application's last reported reply.
        self._unwell: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}
        # Last reports by subject and watch.
        self._reported: dict[tuple[str, str], object] = {}
        # A watch's reported configuration errors, until its next sweep: each retry may get as far as capturing.
        self._mistakes: dict[str, set[str]] = {}
        self._lines = lines
        # For speed: each change has one.
        self._ended: Mapping[str, str] = _read()["lines"]["CallEnded"]["message"]

    def use(self, lines: Lines) -> None:
        """Write to other lines; the handlers change too."""
        self._lines = lines

    def handlers(self) -> Handlers:
        """The writer of each type's line; None where the level is off, so that nothing is formatted.

        Handlers with a memory are there at every level: a reload may turn later lines on.
        """
        level = self._lines.level
        handlers: dict[type[Event], Handler | None] = {}
        for name, line in _read()["lines"].items():
            if "level" in line:
                event = getattr(events, name)
                handlers[event] = self._line(event, **line)
        handlers |= {
            Event: self._unknown if level <= INFO else None,
            events.ZoneDoubted: self._line(events.ZoneDoubted, "warning", f"event dates are whole hours off: {REMEDY}"),
            events.ReloadRefused: self._reload_refused,
            events.HeartBeat: self._heart_beat if level <= WARNING else None,
            events.CallEnded: self._call_ended,
            events.TokenRefused: self._at_the_door if level <= WARNING else None,
            events.ConnectionDisplaced: self._at_the_door if level <= WARNING else None,
        }
        return handlers | dict.fromkeys(self._silent)

    def _line(
        self, of: type[Any], level: str, message: Any, by: str | None = None, without: Sequence[str] = ()
    ) -> Handler | None:
        """A type's line; its level may depend on earlier reports."""
        least, write = self._lines.level, self._lines.write
        if LEVELS.get(level, least) < least:
            return None
        level_of = getattr(self, f"_level_of_{level}", lambda _: LEVELS[level])
        hidden = {"message", by, *without, *re.findall(r"{(\w+)}", str(message))}
        shown = [(name, *_field(name)) for field in fields_of(of) if (name := field.name) not in hidden]

        def handle(event: Any) -> None:
            if (its_level := level_of(event)) >= least:
                text = message if by is None else message.get(getattr(event, by), message.get("others"))
                facts: Fields = {called: show(getattr(event, name)) for name, called, show in shown}
                write(its_level, text.format_map(vars(event)) if "{" in text else text, facts)

        return handle

    def _unknown(self, event: Any) -> None:
        fields = {field.name: getattr(event, field.name) for field in fields_of(event)}
        self._lines.write(INFO, type(event).__name__, fields)

    def _reload_refused(self, event: events.ReloadRefused) -> None:
        for problem in event.problems:
            self._lines.write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})

    def _heart_beat(self, event: events.HeartBeat) -> None:
        if self._lines.level <= DEBUG:
            self._lines.write(DEBUG, "every loop makes progress", {"pending": event.pending})
        # Report repetitions even if there are no more.
        for last in self._at_door.values():
            self._at_the_door(last, happened=False)

    def _at_the_door(self, event: events.TokenRefused | events.ConnectionDisplaced, *, happened: bool = True) -> None:
        """A refused token, or a displaced connection: at most a line a minute."""
        name = type(event).__name__
        self._at_door[name] = event
        if times := self._repeats.times(name, happened=happened):
            fields: Fields = {"peer": getattr(event, "peer", None), "times": times}
            self._lines.write(WARNING, _read()["lines"][name]["message"], fields)

    def _level_of_end(self, event: events.WatchEnded) -> int:
        self._mistakes.pop(event.watch, None)
        for what in ("rows hidden", "progress"):
            self._reported.pop((what, event.watch), None)
        return DEBUG

    def _is_news(self, what: str, watch: str, now: object) -> bool:
        before, self._reported[what, watch] = self._reported.get((what, watch)), now
        return before != now

    def _level_of_milestone(self, event: events.WatchConnected | events.CaptureStarted | events.WatchStandsBy) -> int:
        """Debug for a watch that retries after a reported error, and for tenants, which another line lists."""
        return DEBUG if event.watch in self._mistakes or SEPARATOR in event.watch else INFO

    def _level_of_baseline(self, event: events.BaselineDone) -> int:
        return DEBUG if SEPARATOR in event.watch and not event.queued else INFO

    def _level_of_loss(self, event: events.WatchLost) -> int:
        if event.repeated:
            return DEBUG
        if not event.misconfigured:
            return WARNING
        reported = self._mistakes.setdefault(event.watch, set())
        if event.message in reported:
            return DEBUG
        reported.add(event.message)
        return ERROR

    def _level_of_hiding(self, event: events.RowsHidden) -> int:
        return WARNING if self._is_news("rows hidden", event.watch, event.message) else DEBUG

    def _level_of_visibility(self, event: events.RowsVisible) -> int:
        return INFO if self._reported.pop(("rows hidden", event.watch), None) else DEBUG

    def _level_of_waiting(self, event: events.DeletionsWait) -> int:
        return WARNING if self._is_news("deletions wait", event.watch, event.message) else DEBUG

    def _level_of_decided(self, event: events.DeletionsDecided) -> int:
        return INFO if self._reported.pop(("deletions wait", event.watch), None) else DEBUG

    def _level_of_progress(self, event: events.BaselineProgress) -> int:
        """A line at about every tenth, at most every 20,000 rows."""
        step = event.rows // max(event.estimate // 10, 20_000)
        return INFO if step and self._is_news("progress", event.watch, step) else _NEVER

    def _level_of_decision(self, event: events.Decided) -> int:
        """One line for all held entries of a blown fuse."""
        if event.outcome == "queued" and self._reported:
            self._reported.pop(("fuse", event.watch), None)
        elif event.outcome == "held" and self._is_news("fuse", event.watch, "blown"):
            return WARNING
        return ERROR if event.outcome == "dead" else DEBUG

    def _level_of_remapping(self, event: events.StatusRulesChanged) -> int:
        return WARNING if event.held else INFO

    def _level_of_sweep(self, event: events.SweepDone) -> int:
        if self._mistakes.pop(event.watch, None) and self._lines.level <= INFO:
            self._lines.write(INFO, "watching again", {"watch": event.watch})
        return WARNING if event.repaired.keys() - {events.ASKED_FOR} else INFO if event.repaired else DEBUG

    def _level_of_endpoint(self, event: events.EndpointChanged) -> int:
        if event.mode == "healthy":
            self._unwell.discard(event.endpoint)
            return INFO
        self._unwell.add(event.endpoint)
        return ERROR if event.mode == "paused" else WARNING

    def _level_of_gone(self, event: events.EndpointGone) -> int:
        self._unwell.discard(event.endpoint)
        return DEBUG

    def _call_ended(self, event: events.CallEnded) -> None:
        """A failed call is news if its reply is, and the endpoint is not down."""
        level, key = INFO if event.outcome == "acknowledged" else ERROR, (event.watch, event.application_id)
        if event.outcome == "retry":
            if len(self._refused) >= _MOST_REMEMBERED:
                self._refused.clear()
            before, self._refused[key] = self._refused.get(key), event.reply
            level = INFO if event.reply != before and not self._unwell else DEBUG
        elif self._refused:
            self._refused.pop(key, None)
        if level >= self._lines.level:
            fields: Fields = {} if event.outcome == "acknowledged" else {"reply": event.reply}
            fields["watch"] = event.watch
            fields["application_id"] = event.application_id
            fields["attempt"] = event.attempt
            fields["ms"] = round(event.seconds * 1000)
            self._lines.write(level, self._ended[event.outcome], fields)


_NEVER = -1
"""Below every level."""


def _read() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = data("daemon/logs.yaml")
    return found


def _field(name: str) -> tuple[str, Callable[[Any], object]]:
    """A field's name on a line, and the form of its value."""
    called, shown = (*_read()["fields"].get(name, [name]), "as it is")[:2]
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
