"""The log, by the standard library's logging: text, lines with systemd's priorities, or JSON."""

import io
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from logging import DEBUG, ERROR, INFO, WARNING, Formatter, LogRecord

from cdc_sync.config import Log
from cdc_sync.core.content import to_the_second
from cdc_sync.core.visible import visible, visible_json

LOGGER = logging.getLogger("cdc_sync")
"""Writes our own lines; the `fields` of a record are beside its message."""

Fields = dict[str, object]
Form = Callable[[str, str, str, Fields], str]
"""Makes a line of an event, its level, the moment and the fields."""

LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}

# syslog's priorities, for the prefix of sd-daemon(3).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}

_COLORS = {"debug": 36, "info": 32, "warning": 33, "error": 31}

_MINUTE = 60.0

_MOST_MESSAGES = 1_000
"""Remembered messages."""


def configure(log: Log, environ: Mapping[str, str]) -> None:
    """Set up logging for the process and its libraries; `auto` is text on a terminal, the journal's format, else JSON.

    Only libraries' warnings matter; events report the driver's.
    """
    kind = log.format
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if "JOURNAL_STREAM" in environ else "json"
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
    handler.setLevel(LEVELS[log.level])
    has_colors = sys.stderr.isatty() and "NO_COLOR" not in environ
    handler.setFormatter(_Lines({"json": _json, "journal": _journal, "text": _colored if has_colors else _text}[kind]))
    handler.addFilter(Libraries())
    logging.basicConfig(level=WARNING, handlers=[handler], force=True)
    LOGGER.setLevel(LEVELS[log.level])
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def write(level: int, message: str, fields: Fields) -> None:
    """Write a line of our own."""
    LOGGER.log(level, message, extra={"fields": fields})


class _Lines(Formatter):
    """Formats a record as one line."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form

    def format(self, record: LogRecord) -> str:
        """The line."""
        fields: Fields = record.__dict__.get("fields", {})
        present = {name: value for name, value in fields.items() if value is not None}
        return self._form(record.getMessage(), record.levelname, _instant(record.created), present)


_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _json(event: str, level: str, instant: str, fields: Fields) -> str:
    return visible_json(_encode({**fields, "event": event, "level": level, "timestamp": instant}))


def _journal(event: str, level: str, _: str, fields: Fields) -> str:
    return f"<{_PRIORITIES[level]}>{_logfmt({'event': _on_one_line(event), **fields})}"


def _text(event: str, level: str, instant: str, fields: Fields) -> str:
    return f"{instant} [{level:<9}] {_on_one_line(event):<30} {_logfmt(dict(sorted(fields.items())))}".rstrip()


def _colored(event: str, level: str, instant: str, fields: Fields) -> str:
    name, text = f"\x1b[{_COLORS[level]}m[{level:<9}]\x1b[0m", f"\x1b[1m{_on_one_line(event):<30}\x1b[0m"
    return f"{instant} {name} {text} {_logfmt(dict(sorted(fields.items())))}".rstrip()


def _instant(seconds: float) -> str:
    second, rest = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{to_the_second(second)}.{rest:06}Z"


def _on_one_line(event: str) -> str:
    return visible(" ".join(event.split()))


def _logfmt(fields: Fields) -> str:
    """Fields as `name=value`; a value is quoted where its end would be unclear (https://brandur.org/logfmt)."""
    return " ".join(name if value is True else f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    """A value with visible control characters: no text may forge a line or steer a terminal."""
    text = "false" if value is False else visible(str(value))
    if not any(mark in text for mark in ' ="'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class Repeats:
    """Lets a repeated message have one line a minute, with the number of its repetitions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By message: the time of its next line, and its repetitions since.
        self._seen: dict[str, tuple[float, int]] = {}

    def times(self, message: str) -> int:
        """The repetitions that a line may report now; 0 for no line."""
        now = self._clock()
        free_at, times = self._seen.get(message, (now, 0))
        if now < free_at:
            self._seen[message] = free_at, times + 1
            return 0
        if len(self._seen) >= _MOST_MESSAGES:
            self._seen.clear()
        self._seen[message] = now + _MINUTE, 0
        return times + 1


class Libraries(logging.Filter):
    """Gives libraries' records their fields, and lets a repeated one have a line a minute.

    On a full table of open files asyncio logs a hundred a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: LogRecord) -> bool:
        """Whether a record has a line."""
        if record.name == LOGGER.name:
            return True
        # Without the exception's text, which may quote a connection string or a row.
        exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.getMessage().partition("\n")[0]
        times = self._repeats.times(f"{record.name} {exception} {message}")
        record.fields = {"library": record.name, "exception": exception, "times": times if times > 1 else None}
        return times > 0
