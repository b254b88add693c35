"""How a line of the log is written: as text on a terminal, as fields for systemd's journal, or as JSON.

A line is a level, a message and fields. A field that is None is left out.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import DEBUG, ERROR, INFO, WARNING
from pathlib import Path

from cdc_sync.config import Log
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.daemon import journal

Fields = dict[str, object]
Write = Callable[[int, str, Fields], None]
"""Writes a line whatever its level is. It may change the fields that it gets."""

_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_NAMES = {number: name for name, number in _LEVELS.items()}

# syslog's priorities, as sd-daemon(3) wants them at the beginning of a line.
_PRIORITIES = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3}


@dataclass(frozen=True, slots=True)
class Lines:
    """Where lines go, and from which level on. Whoever formats a line looks at the level first."""

    level: int
    write: Write

    def warn(self, message: str) -> None:
        """Write a warning that no event reports: something suspicious in the configuration."""
        if self.level <= WARNING:
            self.write(WARNING, message, {})


def configure(log: Log, environ: Mapping[str, str], journal_socket: Path = journal.SOCKET) -> Lines:
    """Set the process's logging up, libraries' included; `auto` is text on a terminal, the journal's, else JSON.

    The journal takes fields if our standard error leads to it, and lines with priorities if another process stands in
    between.
    """
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if "JOURNAL_STREAM" in environ else "json"
    match kind:
        case "text":
            write = _text(colors=sys.stderr.isatty() and "NO_COLOR" not in environ)
        case "journal":
            write = _fields_to(journal_socket) if journal.is_ours(environ, journal_socket) else _write_priority
        case _:
            write = _write_json
    lines = Lines(_LEVELS[log.level], write)
    # Libraries' own loggers: their warnings matter, their chatter does not. Events report the driver's.
    logging.basicConfig(level=WARNING, handlers=[Libraries(lines)], force=True)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    return lines


_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _write_json(level: int, message: str, fields: Fields) -> None:
    if None in fields.values():
        fields = _without_nothing(fields)
    fields["event"] = message
    fields["level"] = _NAMES[level]
    fields["timestamp"] = _now()
    _to_standard_error(visible_json(_encode(fields)))


def _write_priority(level: int, message: str, fields: Fields) -> None:
    """Write a line for the journal: systemd takes the priority off its beginning."""
    _to_standard_error(f"<{_PRIORITIES[level]}>{logfmt(_on_one_line(message, fields))}")


def _fields_to(journal_socket: Path) -> Write:
    """Write a line to the journal, with its facts as fields; to standard error if the journal does not take it."""

    def write(level: int, message: str, fields: Fields) -> None:
        facts, priority = _on_one_line(message, fields), _PRIORITIES[level]
        line = logfmt(facts)
        if not journal.send(journal.datagram(line, priority, facts), journal_socket):
            _to_standard_error(f"<{priority}>{line}")

    return write


def _text(*, colors: bool) -> Write:
    # A daemon without a terminal never gets here, and does without structlog and the rich that it loads.
    import structlog  # noqa: PLC0415 - as above

    render = structlog.dev.ConsoleRenderer(colors=colors)

    def write(level: int, message: str, fields: Fields) -> None:
        line = {**_on_one_line(message, fields), "level": _NAMES[level], "timestamp": _now()}
        _to_standard_error(str(render(None, _NAMES[level], line)))

    return write


def _to_standard_error(line: str) -> None:
    """Write a line. One that standard error does not take is lost: a full disk must not stop the work."""
    with suppress(OSError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def _without_nothing(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _on_one_line(message: str, fields: Fields) -> Fields:
    """The fields that say something, after the message; control characters are made visible.

    Text from outside must not forge a line, or steer a terminal.
    """
    line = {"event": " ".join(message.split()), **_without_nothing(fields)}
    return {name: visible(value) if isinstance(value, str) else value for name, value in line.items()}


def logfmt(fields: Fields) -> str:
    """Fields as `name=value`; a value is quoted where that is needed to find its end (https://brandur.org/logfmt)."""
    return " ".join(name if value is True else f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    text = "false" if value is False else str(value)
    if not any(mark in text for mark in ' ="'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Repeats:
    """Lets a message that repeats itself have a line a minute, with the number of times since the last one.

    Args:
        clock: seconds that do not go back.
        pause: seconds between two lines of the same message.
        remembered: messages whose last line is remembered.
    """

    def __init__(self, clock: Callable[[], float], pause: float = 60.0, remembered: int = 1_000) -> None:
        self._clock = clock
        self._pause = pause
        self._remembered = remembered
        # Of each message: when its next line may come, and how many times it has happened without one.
        self._seen: dict[str, tuple[float, int]] = {}

    def times(self, message: str, *, happened: bool = True) -> int:
        """How many times a line may report now; 0: it is too early for one, or there is nothing to report."""
        now = self._clock()
        free_at, times = self._seen.get(message, (now, 0))
        times += happened
        if now < free_at or not times:
            self._seen[message] = (free_at, times)
            return 0
        if len(self._seen) >= self._remembered:
            self._seen.clear()
        self._seen[message] = (now + self._pause, 0)
        return times


class Libraries(logging.Handler):
    """Writes what libraries log as the same lines, so that whoever reads them has one format to understand.

    A line that repeats itself comes once a minute: of a full table of open files asyncio has a hundred a second.

    Args:
        lines: takes the lines.
        clock: seconds that do not go back.
    """

    def __init__(self, lines: Lines, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(lines.level)
        self._lines = lines
        self._repeats = Repeats(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        # Not the exception's text: it may quote what a connection string or a row holds.
        exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.getMessage()
        times = self._repeats.times(f"{record.name} {exception} {message.partition(chr(10))[0]}")
        if not times:
            return
        level = ERROR if record.levelno >= ERROR else WARNING
        if level >= self._lines.level:
            facts: Fields = {"library": record.name, "exception": exception, "times": times if times > 1 else None}
            self._lines.write(level, message, facts)
