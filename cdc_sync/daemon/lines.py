"""How a line of the log is written: as text on a terminal, as fields for systemd's journal, or as JSON.

A line is a level, a message and fields. A field that is None is left out.

The journal is spoken to in its own protocol, so that each field can be asked for:

    journalctl --unit cdc-sync CDC_SYNC_APPLICATION_ID=hw-1

That is one datagram per line, of NAME=VALUE lines (https://systemd.io/JOURNAL_NATIVE_PROTOCOL); values have no line
break here.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from logging import DEBUG, ERROR, INFO, WARNING
from pathlib import Path

from cdc_sync.config import Log
from cdc_sync.core.visible import visible, visible_json

Fields = dict[str, object]
Write = Callable[[int, str, Fields], None]
"""Writes a line whatever its level is. It may change the fields that it gets."""

Put = Callable[[int, str], None]
"""Takes a line that is ready, and its level."""

JOURNAL = Path("/run/systemd/journal/socket")
"""Where the journal listens."""

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_NAMES = {number: name for name, number in LEVELS.items()}

# syslog's priorities, as sd-daemon(3) wants them at the beginning of a line.
_PRIORITIES = {DEBUG: 7, INFO: 6, WARNING: 4, ERROR: 3}

_COLORS = {DEBUG: 36, INFO: 32, WARNING: 33, ERROR: 31}


@dataclass(frozen=True, slots=True)
class Lines:
    """Where lines go, and from which level on. Whoever formats a line looks at the level first."""

    level: int
    write: Write

    def warn(self, message: str) -> None:
        """Write a warning that no event reports: something suspicious in the configuration."""
        if self.level <= WARNING:
            self.write(WARNING, message, {})


def configure(log: Log, environ: Mapping[str, str], journal: Path = JOURNAL) -> Lines:
    """Set the process's logging up, libraries' included; `auto` is text on a terminal, the journal's, else JSON.

    The journal takes fields if our standard error leads to it, and lines with priorities if another process stands in
    between.
    """
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if "JOURNAL_STREAM" in environ else "json"
    put = _to_standard_error()
    if kind == "text":
        write = _text(put, colors=sys.stderr.isatty() and "NO_COLOR" not in environ)
    elif kind == "json":
        write = _json(put)
    else:
        write = _journal(journal if is_the_journals(environ, journal) else None, put)
    lines = Lines(LEVELS[log.level], write)
    # Libraries' own loggers: their warnings matter, their chatter does not. Events report the driver's.
    logging.basicConfig(level=WARNING, handlers=[Libraries(lines)], force=True)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    return lines


def is_the_journals(environ: Mapping[str, str], journal: Path) -> bool:
    """Whether our standard error is the journal's: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5))."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}" and journal.exists()


_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _json(put: Put) -> Write:
    """A line as a JSON object. Every call has one, so this is written for speed: the encoder takes twice as long."""

    def write(level: int, message: str, fields: Fields) -> None:
        fields["event"] = message
        members = []
        for name, value in fields.items():
            if type(value) is int:
                members.append(f'"{name}": {value}')
            elif value is not None:
                text = _encode(value)
                members.append(f'"{name}": {text if text.isprintable() else visible_json(text)}')
        put(level, f'{{{", ".join(members)}, "level": "{_NAMES[level]}", "timestamp": "{_now()}"}}')

    return write


def _journal(journal: Path | None, put: Put) -> Write:
    """A line with its facts as fields, to the journal; or with a priority, if there is none or it does not take it."""
    path = str(journal)
    # Bound to no journal: the next line finds the one that was started in its place.
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
    """A line for a terminal."""

    def write(level: int, message: str, fields: Fields) -> None:
        facts = _on_one_line(message, fields)
        event, name = f"{facts.pop('event'):<30}", f"[{_NAMES[level]:<9}]"
        if colors:
            event, name = f"\x1b[1m{event}\x1b[0m", f"\x1b[{_COLORS[level]}m{name}\x1b[0m"
        put(level, f"{_now()} {name} {event} {logfmt(dict(sorted(facts.items())))}".rstrip())

    return write


def _now() -> str:
    second, microsecond = divmod(time.time_ns() // 1000, 1_000_000)
    return f"{_second(second)}.{microsecond:06}Z"


@lru_cache(maxsize=1)  # many lines have the same one
def _second(since_the_epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_the_epoch))


def _on_one_line(message: str, fields: Fields) -> Fields:
    """The fields that say something, after the message; control characters are made visible.

    Text from outside must not forge a line, or steer a terminal.
    """
    line = {"event": " ".join(message.split()), **fields}
    return {
        name: visible(value) if isinstance(value, str) else value for name, value in line.items() if value is not None
    }


def logfmt(fields: Fields) -> str:
    """Fields as `name=value`; a value is quoted where that is needed to find its end (https://brandur.org/logfmt)."""
    return " ".join(name if value is True else f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    text = "false" if value is False else str(value)
    if not any(mark in text for mark in ' ="'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _to_standard_error() -> Put:
    """What writes lines: those of level info and debug that one turn of the event loop has, together at its end.

    A warning or an error is written at once, and with it those before it. A process that is killed takes along at most
    the lines of the turn that it was in.
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
    """Write lines. What standard error does not take is lost: a full disk must not stop the work."""
    text = ""
    with suppress(IndexError):  # each is taken once, also if a library writes in another thread
        while True:
            text += lines.popleft()
    with suppress(OSError):
        sys.stderr.write(text)  # nothing of it stays there: standard error is buffered by the line


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
