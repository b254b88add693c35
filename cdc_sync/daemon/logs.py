"""The log: one reader of the observations, one line for each thing that a person needs to know.

A state that lasts is told when it changes. Levels: error, somebody must do something; warning, something is lost for
now and mends itself, or a person should look when there is time; info, the milestones; debug, every change and call.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, assert_never

import structlog

from cdc_sync.config import Log
from cdc_sync.core.observations import (
    ASKED_FOR,
    BaselineDone,
    BaselineOverEarlierWork,
    BaselineProgress,
    BellLeftAlone,
    CallEnded,
    CaptureInTime,
    CaptureLate,
    CaptureStarted,
    CaughtUp,
    ChangesMissed,
    ChangesRead,
    ClockAgrees,
    ClockSkewed,
    ConnectionDisplaced,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    Decided,
    DeliveryInTime,
    DeliveryLate,
    EndpointChanged,
    HeartBeat,
    ListenerProved,
    LoopsHang,
    LoopsMove,
    Observation,
    Outcome,
    Reloaded,
    ReloadRefused,
    ReloadStarted,
    RowsHidden,
    RowSkipped,
    RowsVisible,
    StatusRulesChanged,
    StoreFailed,
    StoreMoved,
    StoreRecovered,
    SweepDone,
    TokenRefused,
    TriggersFound,
    TriggersMissing,
    WatchConnected,
    WatchEnded,
    WatchLost,
    WatchStandsBy,
    WatchUnconfigured,
)
from cdc_sync.core.unconfigured import MESSAGE as _UNCONFIGURED
from cdc_sync.core.visible import visible, visible_json
from cdc_sync.daemon import journal
from cdc_sync.daemon.journal import Journal

# syslog's priorities, as sd-daemon(3) wants them at the beginning of a line
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}

_NEVER_RINGS = (
    "the server allows prepared transactions (max_prepared_transactions), which may not NOTIFY, or its commits wait "
    "for a synchronous standby (synchronous_standby_names), and a NOTIFY would have them wait for each other too: "
    "nobody is woken, and the change log is read every poll_interval"
)

_MISSED = (
    "triggers dropped changes; a sweep compares every row, so nothing is lost. If it goes on: `cdc-sync sql verify "
    "--apply` names triggers of watches that are no longer configured, which fill the log too"
)

_REMAPPED = "the section status of the configuration has changed: so many applications are told another status"

_REMAPPED_AND_HELD = (
    "the section status of the configuration has changed, and more applications would be told another status than "
    "fuse.max_changes: all of it is held for a person; see `cdc-sync fuse show`, then release or discard"
)
_LOGFMT = structlog.processors.LogfmtRenderer(key_order=["event"])


def configure(log: Log, environ: Mapping[str, str]) -> None:
    """Set the process's logging up; `auto` is text on a terminal, the journal under systemd, else JSON.

    The journal takes fields if our standard error leads to it, and lines with priorities if somebody stands in between.
    """
    kind = log.format
    factory: Any = _StandardError
    if kind == "auto":
        kind = "text" if sys.stderr.isatty() else "journal" if "JOURNAL_STREAM" in environ else "json"
    processors: list[structlog.typing.Processor] = [_without_nothing, structlog.processors.add_log_level]
    if kind != "json":
        processors.append(_on_one_line)
    if kind != "journal":
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    match kind:
        case "text":
            processors.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in environ))
        case "journal":
            processors.append(_priority)
            if journal.is_ours(environ):
                factory = Journal
                processors.append(_with_fields)
            else:
                processors += [_LOGFMT, _with_priority]
        case _:
            processors.append(structlog.processors.JSONRenderer(_json_line))
    level = getattr(logging, log.level.upper())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    # Libraries' own loggers: their warnings matter, their chatter does not. The driver's are told by our observations.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)


_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode


def _json_line(event: structlog.typing.EventDict, **_: Any) -> str:
    return visible_json(_encode(event))


def warn(message: str) -> None:
    """Write a line that no observation tells: something suspicious in the configuration."""
    structlog.get_logger().warning(message)


_OFTEN = 60.0
"""Seconds between two lines that say the same of something which others can make happen as often as they like."""

_MOST_REPEATED = 1_000
"""Different things whose last line is remembered."""


class _Repeated:
    """Lets what repeats itself have a line a minute, which has the number of times since the last one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Of each: when its next line may come, and how many times it has happened without one.
        self._seen: dict[str, tuple[float, int]] = {}

    def times(self, what: str, *, happened: bool = True) -> int:
        """How many times a line may tell of now; 0: none may be written yet, or there is nothing to tell."""
        now = self._clock()
        free_at, times = self._seen.get(what, (now, 0))
        times += happened
        if now < free_at or not times:
            self._seen[what] = (free_at, times)
            return 0
        if len(self._seen) >= _MOST_REPEATED:
            self._seen.clear()
        self._seen[what] = (now + _OFTEN, 0)
        return times


class _Libraries(logging.Handler):
    """Takes what libraries log into the same lines, so that whoever reads them has one format to understand.

    A line that repeats itself comes once a minute: of a full table of open files asyncio has a hundred a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeated = _Repeated(time.monotonic)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        # Not the exception's text: it may quote what a connection string or a row holds.
        exception = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        message = record.getMessage()
        times = self._repeated.times(f"{record.name} {exception} {message.partition(chr(10))[0]}")
        if not times:
            return
        log = structlog.get_logger()
        say = log.error if record.levelno >= logging.ERROR else log.warning
        say(message, library=record.name, exception=exception, times=times if times > 1 else None)


class _StandardError:
    """Writes lines to standard error. One that it does not take is lost: a full disk must not stop the work."""

    def __init__(self, *_: Any) -> None:
        """A logger's arguments are of no use here."""

    def error(self, line: str) -> None:
        """Write a line."""
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error


def _on_one_line(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Make control characters visible: text from outside must not forge a line, or steer a terminal."""
    event["event"] = " ".join(event["event"].split())
    return {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}


def _without_nothing(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: value for name, value in event.items() if value is not None}


def _priority(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["_priority"] = _PRIORITIES.get(event.pop("level"), 6)
    return event


def _with_priority(_: object, __: str, line: Any) -> str:
    """Move the priority to the front, where systemd takes it off again."""
    text = str(line)
    head, _sep, priority = text.rpartition(" _priority=")
    return f"<{priority}>{head}"


def _with_fields(logger: object, method: str, event: structlog.typing.EventDict) -> dict[str, Any]:
    """A line as it always is, and its facts as fields beside it."""
    priority = event.pop("_priority")
    return {"message": str(_LOGFMT(logger, method, dict(event))), "priority": priority, "facts": event}


class LogReader:
    """Writes lines for observations.

    With `progress_elsewhere`, somebody shows a baseline's progress as a bar; in a `rehearsal`, the calls are shown.
    """

    def __init__(
        self,
        *,
        progress_elsewhere: bool = False,
        rehearsal: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.follow_configuration()
        self._repeated = _Repeated(clock)
        self._peer: str | None = None
        self._progress_elsewhere = progress_elsewhere
        self._rehearsal = rehearsal
        self._blown: set[str] = set()
        # Endpoints that were told to be unwell; and of each application what was told to stand in a call's way.
        self._unwell: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}
        # What row-level security hides, as told: it is found anew after each reconnect.
        self._hidden: dict[str, str] = {}
        self._told: dict[str, int] = {}
        # Mistakes of a watch's configuration that were told, until it works again. It tries every few seconds, and may
        # get as far as capturing each time.
        self._mistakes: dict[str, set[str]] = {}

    def follow_configuration(self) -> None:
        """Write as the logging is set up now (`configure`)."""
        # Bound once: the processors would be put together anew for each line.
        self._log = structlog.get_logger().bind()

    def read(self, observation: Observation) -> None:  # noqa: C901, PLR0912, PLR0915 - one case per kind
        """Write the line of one observation."""
        log = self._log
        match observation:
            case DaemonStarted(version, watches, dry_run, admin):
                log.info("started", version=version, watches=",".join(watches), dry_run=dry_run or None, admin=admin)
            case DaemonStopping(signal, under_way):
                log.info("stopping", signal=signal, calls_under_way=under_way)
            case DaemonStopped():
                log.info("stopped")
            case ReloadStarted() | Reloaded() | ReloadRefused() | WatchEnded():
                self._reload(observation)
            case WatchUnconfigured(watch, known, pending, held, dead, suspected):
                holds = {"pending": pending, "held": held, "dead_letters": dead, "suspected_deletions": suspected}
                log.warning(_UNCONFIGURED, watch=watch, known=known, **holds)
            case HeartBeat() | LoopsHang() | LoopsMove():
                self._heart(observation)
            case WatchConnected() | CaptureStarted() | WatchLost() | WatchStandsBy():
                self._watch(observation)
            case TriggersMissing() | TriggersFound() | BellLeftAlone() | ChangesMissed():
                self._triggers(observation)
            case RowsHidden() | RowsVisible():
                self._row_security(observation)
            case BaselineProgress(watch, rows, estimate):
                self._progress(watch, rows, estimate)
            case BaselineDone(watch, known, queued, seconds):
                calls = "0 calls" if not queued else f"{queued} calls queued"
                message = f"{known} applications known, {calls}"
                log.info(message, watch=watch, seconds=round(seconds, 1))
            case CaptureLate() | CaptureInTime() | DeliveryLate() | DeliveryInTime():
                self._lag(observation)
            case BaselineOverEarlierWork(watch):
                log.error(_OVER_EARLIER_WORK, watch=watch)
            case StoreMoved():
                log.warning(_STORE_MOVED)
            case ClockSkewed(ahead, shared):
                log.warning(_CLOCKS_DIFFER if shared else _CLOCK_SET, ahead_seconds=round(ahead, 1))
            case ClockAgrees():
                log.info("this machine's clock agrees again")
            case CaughtUp() | ListenerProved():
                pass  # many times a second, or nothing but a number
            case StatusRulesChanged():
                self._rules(observation)
            case ChangesRead(watch, origin, keys):
                log.debug("read", watch=watch, by=origin, keys=keys)
            case Decided(watch, application_id, origin, outcome, reason):
                say = self._how_to_say(watch, outcome)
                say(
                    _HELD if outcome == "held" else outcome,
                    watch=watch,
                    application_id=application_id,
                    by=origin,
                    reason=reason,
                )
            case RowSkipped(watch, key, application_id, reason):
                message = f"a row cannot be reported: {reason}"
                log.warning(message, watch=watch, key=key, application_id=application_id)
            case SweepDone(watch, rows, seconds, repaired, resumed):
                if self._mistakes.pop(watch, None):
                    log.info("watching again", watch=watch)
                say = log.warning if repaired.keys() - {ASKED_FOR} else log.info if repaired else log.debug
                how = {"resumed": True} if resumed else {}
                say("swept", watch=watch, rows=rows, seconds=round(seconds, 2), repaired=dict(repaired), **how)
            case CallEnded():
                self._call(observation)
            case EndpointChanged(endpoint, mode, reason, wait):
                if mode == "healthy":
                    self._unwell.discard(endpoint)
                    log.info("the endpoint takes calls again", endpoint=endpoint)
                else:
                    self._unwell.add(endpoint)
                    say = log.error if mode == "paused" else log.warning
                    say(_ENDPOINT[mode], endpoint=endpoint, reason=reason, next_try_in=_short(wait))
            case StoreFailed() | StoreRecovered():
                self._store(observation)
            case TokenRefused(peer):
                self._peer = peer
                self._door(token_refused=True)
            case ConnectionDisplaced():
                self._door(displaced=True)
            case _:
                assert_never(observation)

    def _reload(self, observation: ReloadStarted | Reloaded | ReloadRefused | WatchEnded) -> None:
        log = self._log
        match observation:
            case ReloadStarted():
                log.debug("reading the configuration again")
            case Reloaded(watches, begun, renewed, ended):
                changed = {"begun": begun, "renewed": renewed, "ended": ended}
                facts = {name: ",".join(names) or None for name, names in changed.items()}
                log.info("the configuration was read again and is in use", watches=",".join(watches), **facts)
            case ReloadRefused(problems):
                for problem in problems:
                    message = f"not reloaded, the configuration in use stays: {problem}"
                    log.error(message)
            case WatchEnded(watch):
                log.debug("no longer watching", watch=watch)
                for told in (self._hidden, self._told, self._mistakes):
                    told.pop(watch, None)

    def _heart(self, observation: HeartBeat | LoopsHang | LoopsMove) -> None:
        match observation:
            case HeartBeat(pending):
                self._log.debug("every loop gets round", pending=pending)
                self._door()  # what happened since its last line, though nothing more does
            case LoopsHang(loops):
                self._log.error(_HANG, loops=", ".join(loops))
            case LoopsMove():
                self._log.info("every loop gets round again")

    def _triggers(self, observation: TriggersMissing | TriggersFound | BellLeftAlone | ChangesMissed) -> None:
        log, watch = self._log, observation.watch
        match observation:
            case TriggersMissing(_, message):
                log.error(message, watch=watch)
            case TriggersFound():
                log.debug("triggers are in place", watch=watch)
            case BellLeftAlone(_, pause):
                log.info(_NEVER_RINGS, watch=watch, drains_every=_short(pause))
            case ChangesMissed(_, number, reason):
                log.warning(_MISSED, watch=watch, changes=number, reason=reason)

    def _watch(self, observation: WatchConnected | CaptureStarted | WatchLost | WatchStandsBy) -> None:
        """A watch that tries again with a mistake that was told has nothing new to say."""
        log, watch = self._log, observation.watch
        milestone = log.debug if watch in self._mistakes else log.info
        match observation:
            case WatchConnected(_, mode, version):
                milestone("connected", watch=watch, mode=mode, postgresql=version // 10000)
            case CaptureStarted():
                milestone("watching", watch=watch)
            case WatchStandsBy(_, message):
                milestone(message, watch=watch)
            case WatchLost(_, message, misconfigured=False):
                log.warning(message, watch=watch)
            case WatchLost(_, message):
                told = self._mistakes.setdefault(watch, set())
                (log.debug if message in told else log.error)(message, watch=watch)
                told.add(message)

    def _lag(self, observation: CaptureLate | CaptureInTime | DeliveryLate | DeliveryInTime) -> None:
        match observation:
            case CaptureLate(watch, limit):
                self._log.warning(_CAPTURE_LATE, watch=watch, longer_than=_short(limit))
            case CaptureInTime(watch):
                self._log.info("changes are read in time again", watch=watch)
            case DeliveryLate(endpoint, limit):
                self._log.warning(_DELIVERY_LATE, endpoint=endpoint, longer_than=_short(limit))
            case DeliveryInTime(endpoint):
                self._log.info("calls go out in time again", endpoint=endpoint)

    def _store(self, observation: StoreFailed | StoreRecovered) -> None:
        match observation:
            case StoreFailed(message, by):
                self._log.error(message, watch=by)
            case StoreRecovered(by):
                self._log.info("the store can be written again", watch=by)

    def _door(self, *, token_refused: bool = False, displaced: bool = False) -> None:
        """What strangers do at the admin server's door: a line a minute at most."""
        if times := self._repeated.times(_REFUSED_TOKEN, happened=token_refused):
            self._log.warning(_REFUSED_TOKEN, peer=self._peer, times=times)
        if times := self._repeated.times(_FULL, happened=displaced):
            self._log.warning(_FULL, times=times)

    def _rules(self, changed: StatusRulesChanged) -> None:
        if changed.held:
            self._log.warning(_REMAPPED_AND_HELD, watch=changed.watch, applications=changed.touched)
        else:
            self._log.info(_REMAPPED, watch=changed.watch, applications=changed.touched)

    def _row_security(self, observation: RowsHidden | RowsVisible) -> None:
        told = self._hidden.pop(observation.watch, None)
        match observation:
            case RowsHidden(watch, message):
                self._hidden[watch] = message
                (self._log.debug if message == told else self._log.warning)(message, watch=watch)
            case RowsVisible(watch):
                (self._log.info if told else self._log.debug)("row-level security hides no rows", watch=watch)

    def _how_to_say(self, watch: str, outcome: Outcome) -> Any:
        """That entries are held is told with the first one, and not again for each of the thousands after it."""
        if outcome == "dead":
            return self._log.error
        if outcome == "held" and watch not in self._blown:
            self._blown.add(watch)
            return self._log.warning
        if outcome == "queued":
            self._blown.discard(watch)
        return self._log.debug

    def _progress(self, watch: str, rows: int, estimate: int) -> None:
        """A line at about every tenth, and not more often than every 20,000 rows."""
        if self._progress_elsewhere:
            return
        step = max(estimate // 10, 20_000)
        if rows // step > self._told.get(watch, 0):
            self._told[watch] = rows // step
            self._log.info("baseline", watch=watch, rows=rows, about=estimate or None)

    def _call(self, call: CallEnded) -> None:
        if self._rehearsal:
            return
        facts: dict[str, Any] = {
            "watch": call.watch,
            "application_id": call.application_id,
            "attempt": call.attempt,
            "ms": round(call.seconds * 1000),
        }
        match call.outcome:
            case "acknowledged":
                self._refused.pop((call.watch, call.application_id), None)
                self._log.info("sent", **facts)
            case "retry":
                say = self._log.info if self._is_news(call) else self._log.debug
                say("not sent yet", reply=call.reply, **facts)
            case "dead":
                self._refused.pop((call.watch, call.application_id), None)
                self._log.error("given up, now a dead letter", reply=call.reply, **facts)

    def _is_news(self, call: CallEnded) -> bool:
        """Whether a try that failed tells anything: not if the same was answered before, or the whole endpoint is down.

        An outage of days would have thousands of such lines.
        """
        key = (call.watch, call.application_id)
        if len(self._refused) >= _MOST_REFUSED:
            self._refused.clear()
        before = self._refused.get(key)
        self._refused[key] = call.reply
        return call.reply != before and not self._unwell


_MOST_REFUSED = 10_000
"""Applications whose last reply is remembered, so that it is told once."""

_CAPTURE_LATE = (
    "changes are not read in time. Is the database slow, or a table locked (pg_stat_activity tells), or are more rows "
    "changed than can be read?"
)

_DELIVERY_LATE = (
    "calls are late. Does HelloWork answer slowly, or are hellowork.rate_limit and hellowork.concurrency too low for "
    "what changes?"
)

_CLOCKS_DIFFER = (
    "clocks differ: this machine's and the store's. Nothing waits longer for it; dates of calls and certificates are "
    "judged by this machine's. Is its NTP in order (timedatectl)?"
)

_CLOCK_SET = (
    "this machine's clock was set since the store was first opened after the boot. Nothing waits longer for it; the "
    "history goes on by the clock as it is now"
)

_OVER_EARLIER_WORK = (
    "this watch was worked before, with another store: this one takes the present rows as told, so what waited in the "
    "other is never sent. If the other was lost or replaced by mistake, stop the daemon and put it back, or restore a "
    "backup; or begin with a new store and baseline: send"
)

_STORE_MOVED = (
    "another server has the shared store, or the same after a restart: what was committed last may be missing there. A "
    "full sweep of each watch finds it"
)

_HELD = "held for a person; see `cdc-sync fuse show`, then release or discard"

_HANG = (
    "loops have not got round in time: they wait for something that never comes. systemd's watchdog ends the process "
    "and starts it again, which loses nothing; elsewhere restart it. Please report it, with the log from before"
)

_REFUSED_TOKEN = "a wrong admin token was refused"  # noqa: S105 - a message

_FULL = (
    "the admin server's connections are used up: the one that waited longest was cut off for a new one. Who opens so "
    "many? `ss -tn` tells"
)

_ENDPOINT = {
    "throttled": "the endpoint asks to wait",
    "open": "the endpoint does not work; trying one call at a time",
    "paused": "the endpoint refuses our credentials; everything is kept. Check hellowork.headers",
}


def _short(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
