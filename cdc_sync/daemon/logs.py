"""The log: which line each event has.

A state that lasts is reported when it changes. Levels: error, somebody must do something; warning, something is lost
for now and mends itself, or a person should look when there is time; info, the milestones; debug, every change and
call. An event without a line of its own here is written under its class's name, with its fields.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from datetime import timedelta
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from cdc_sync.core import observations as events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.findings import UNCONFIGURED
from cdc_sync.core.observations import Handler, Handlers
from cdc_sync.core.payload import iso
from cdc_sync.daemon.lines import Fields, Lines, Repeats


class EventLogger:
    """Writes the lines of events.

    Args:
        lines: takes the lines.
        progress_elsewhere: a bar shows a baseline's progress, so it has no lines.
        rehearsal: the calls themselves are shown, so they have no lines.
        clock: seconds that do not go back.
        remembered: applications whose last reply is remembered, so that it is reported once.
    """

    def __init__(
        self,
        lines: Lines,
        *,
        progress_elsewhere: bool = False,
        rehearsal: bool = False,
        clock: Callable[[], float] = time.monotonic,
        remembered: int = 10_000,
    ) -> None:
        self._progress_elsewhere = progress_elsewhere
        self._rehearsal = rehearsal
        self._remembered = remembered
        self._repeats = Repeats(clock)
        self._peer: str | None = None
        # Watches whose fuse was reported as blown.
        self._blown: set[str] = set()
        # Endpoints that were reported as unwell; and of each application the reply that was reported last.
        self._unwell: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}
        # What row-level security hides, as reported: it is found anew after each reconnect.
        self._hidden: dict[str, str] = {}
        # How many steps of a baseline were reported.
        self._progress: dict[str, int] = {}
        # Mistakes of a watch's configuration that were reported, until it works again. It tries every few seconds, and
        # may get as far as capturing each time.
        self._mistakes: dict[str, set[str]] = {}
        self._lines = lines

    def use(self, lines: Lines) -> None:
        """Write to other lines: the logging was configured anew, and the handlers are others now."""
        self._lines = lines

    def handlers(self) -> Handlers:
        """What writes the line of each type of event; None where the level is off, so that nothing is formatted.

        What remembers something for a later line is there on every level: a reload may turn that line on.
        """
        line, level = self._line, self._lines.level
        milestone = self._level_of_milestone
        return {
            events.Event: self._unknown if level <= INFO else None,
            events.DaemonStarted: line(INFO, "started"),
            events.DaemonStopping: line(INFO, "stopping"),
            events.DaemonStopped: line(INFO, "stopped"),
            events.ReloadStarted: line(DEBUG, "reading the configuration again"),
            events.Reloaded: line(INFO, "the configuration was read again and is in use"),
            events.ReloadRefused: self._reload_refused,
            events.WatchEnded: line(self._level_of_end, "no longer watching", "for_good"),
            events.WatchUnconfigured: line(WARNING, UNCONFIGURED),
            events.HeartBeat: self._heart_beat if level <= WARNING else None,
            events.LoopsHang: line(ERROR, _HANG),
            events.LoopsMove: line(INFO, "every loop gets round again"),
            events.WatchConnected: line(milestone, "connected"),
            events.CaptureStarted: line(milestone, "watching"),
            events.WatchStandsBy: line(milestone, _message),
            events.WatchLost: line(self._level_of_loss, _message, "misconfigured", "repeated"),
            events.TriggersMissing: line(ERROR, _message),
            events.TriggersFound: line(DEBUG, "triggers are in place"),
            events.BellLeftAlone: line(INFO, _NEVER_RINGS),
            events.ChangesMissed: line(WARNING, _MISSED),
            events.RowsHidden: line(self._level_of_hiding, _message),
            events.RowsVisible: line(self._level_of_visibility, "row-level security hides no rows"),
            events.WatermarkDoubted: line(WARNING, f"the watermark cannot be relied on: {REMEDY}"),
            events.WatermarkTrusted: line(INFO, "nothing speaks against the watermark any more"),
            events.BaselineProgress: None if self._progress_elsewhere else line(self._level_of_progress, "baseline"),
            events.BaselineDone: line(INFO, _baseline_done, "known", "queued"),
            events.BaselineOverEarlierWork: line(ERROR, _OVER_EARLIER_WORK),
            events.StatusRulesChanged: line(
                lambda e: WARNING if e.held else INFO, lambda e: _REMAPPED_AND_HELD if e.held else _REMAPPED, "held"
            ),
            events.ChangesRead: line(DEBUG, "read"),
            events.CaughtUp: None,  # many times a second
            events.ListenerProved: None,  # nothing but a number
            events.CaptureLate: line(WARNING, _CAPTURE_LATE),
            events.CaptureInTime: line(INFO, "changes are read in time again"),
            events.DeliveryLate: line(WARNING, _DELIVERY_LATE),
            events.DeliveryInTime: line(INFO, "calls go out in time again"),
            events.ClockSkewed: line(WARNING, lambda e: _CLOCKS_DIFFER if e.shared else _CLOCK_SET, "shared"),
            events.ClockAgrees: line(INFO, "this machine's clock agrees again"),
            events.Decided: self._decided,
            events.RowSkipped: line(WARNING, lambda e: f"a row cannot be reported: {e.reason}", "reason"),
            events.SweepDone: line(self._level_of_sweep, "swept", "missed"),
            events.CallEnded: None if self._rehearsal else self._call_ended,
            events.EndpointChanged: line(self._level_of_endpoint, lambda e: _ENDPOINT[e.mode], "mode"),
            events.SendingPaused: line(WARNING, _PAUSED),
            events.SendingResumed: line(INFO, "sending is resumed"),
            events.PersonActed: line(INFO, lambda e: f"a person acted: {e.action}", "action"),
            events.StoreFailed: line(ERROR, _message),
            events.StoreRecovered: line(INFO, "the store can be written again"),
            events.StoreUpgrading: line(INFO, _UPGRADING),
            events.StoreMoved: line(WARNING, _STORE_MOVED),
            events.TokenRefused: self._token_refused if level <= WARNING else None,
            events.ConnectionDisplaced: self._connection_displaced if level <= WARNING else None,
        }

    def _line(
        self, level: int | Callable[[Any], int], message: str | Callable[[Any], str], *said: str
    ) -> Handler | None:
        """A line with the fields of its event, but for those that the message has `said`.

        A level may depend on the event, and on what was reported before, which its function remembers.
        """
        least, write = self._lines.level, self._lines.write
        if isinstance(level, int) and level < least:
            return None

        def handle(event: Any) -> None:
            its_level = level if isinstance(level, int) else level(event)
            if its_level >= least:
                fields: Fields = {}
                for field in fields_of(event):
                    if field.name not in said and field.name != "message":
                        name, shown = _FIELDS.get(field.name, (field.name, _as_it_is))
                        fields[name] = shown(getattr(event, field.name))
                write(its_level, message if isinstance(message, str) else message(event), fields)

        return handle

    def _unknown(self, event: Any) -> None:
        fields = {field.name: getattr(event, field.name) for field in fields_of(event)}
        self._lines.write(INFO, type(event).__name__, fields)

    def _reload_refused(self, event: events.ReloadRefused) -> None:
        for problem in event.problems:
            self._lines.write(ERROR, f"not reloaded, the configuration in use stays: {problem}", {})

    def _heart_beat(self, event: events.HeartBeat) -> None:
        if self._lines.level <= DEBUG:
            self._lines.write(DEBUG, "every loop gets round", {"pending": event.pending})
        # What happened at the door since its last line, though nothing more does.
        self._door()

    def _token_refused(self, event: events.TokenRefused) -> None:
        self._peer = event.peer
        self._door(token_refused=True)

    def _connection_displaced(self, _: events.ConnectionDisplaced) -> None:
        self._door(displaced=True)

    def _door(self, *, token_refused: bool = False, displaced: bool = False) -> None:
        """What strangers do at the admin server's door: a line a minute at most."""
        if times := self._repeats.times(_REFUSED_TOKEN, happened=token_refused):
            self._lines.write(WARNING, _REFUSED_TOKEN, {"peer": self._peer, "times": times})
        if times := self._repeats.times(_FULL, happened=displaced):
            self._lines.write(WARNING, _FULL, {"times": times})

    def _level_of_end(self, event: events.WatchEnded) -> int:
        for reported in (self._hidden, self._progress, self._mistakes):
            reported.pop(event.watch, None)
        return DEBUG

    def _level_of_milestone(self, event: events.WatchConnected | events.CaptureStarted | events.WatchStandsBy) -> int:
        """A watch that tries again with a mistake that was reported has nothing new to report."""
        return DEBUG if event.watch in self._mistakes else INFO

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
        reported = self._hidden.get(event.watch)
        self._hidden[event.watch] = event.message
        return DEBUG if event.message == reported else WARNING

    def _level_of_visibility(self, event: events.RowsVisible) -> int:
        return INFO if self._hidden.pop(event.watch, None) else DEBUG

    def _level_of_progress(self, event: events.BaselineProgress) -> int:
        """A line at about every tenth, and not more often than every 20,000 rows."""
        step = event.rows // max(event.estimate // 10, 20_000)
        if step <= self._progress.get(event.watch, 0):
            return _NEVER
        self._progress[event.watch] = step
        return INFO

    def _decided(self, event: events.Decided) -> None:
        """That entries are held is reported with the first one, and not again for each of the thousands after it."""
        outcome, level = event.outcome, DEBUG
        if outcome == "queued":
            if self._blown:
                self._blown.discard(event.watch)
        elif outcome == "dead":
            level = ERROR
        elif outcome == "held" and event.watch not in self._blown:
            self._blown.add(event.watch)
            level = WARNING
        if level >= self._lines.level:
            fields: Fields = {
                "watch": event.watch,
                "application_id": event.application_id,
                "by": event.origin,
                "reason": event.reason,
            }
            self._lines.write(level, _HELD if outcome == "held" else outcome, fields)

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

    def _call_ended(self, event: events.CallEnded) -> None:
        if event.outcome == "retry":
            level = INFO if self._is_news(event) else DEBUG
        else:
            level = INFO if event.outcome == "acknowledged" else ERROR
            if self._refused:
                self._refused.pop((event.watch, event.application_id), None)
        if level >= self._lines.level:
            fields: Fields = {} if event.outcome == "acknowledged" else {"reply": event.reply}
            fields["watch"] = event.watch
            fields["application_id"] = event.application_id
            fields["attempt"] = event.attempt
            fields["ms"] = round(event.seconds * 1000)
            self._lines.write(level, _CALL[event.outcome], fields)

    def _is_news(self, event: events.CallEnded) -> bool:
        """Whether a failed call is news: not if the reply is as before, or the whole endpoint is down.

        An outage of days would have thousands of such lines.
        """
        key = (event.watch, event.application_id)
        if len(self._refused) >= self._remembered:
            self._refused.clear()
        before = self._refused.get(key)
        self._refused[key] = event.reply
        return event.reply != before and not self._unwell


_NEVER = -1
"""The level of what has no line, whatever level is on."""


def _as_it_is(value: object) -> object:
    return value


def _if_any(value: object) -> object:
    return value or None


def _listed(names: Sequence[str]) -> str | None:
    return ",".join(names) or None


def _short(seconds: float) -> str | None:
    return str(timedelta(seconds=round(seconds))) if seconds else None


_FIELDS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "at": ("at", iso),
    "ahead": ("ahead_seconds", lambda seconds: round(seconds, 1)),
    "begun": ("begun", _listed),
    "by": ("watch", _as_it_is),
    "dead": ("dead_letters", _as_it_is),
    "dry_run": ("dry_run", _if_any),
    "ended": ("ended", _listed),
    "estimate": ("about", _if_any),
    "limit": ("longer_than", _short),
    "loops": ("loops", _listed),
    "number": ("changes", _as_it_is),
    "origin": ("by", _as_it_is),
    "pause": ("drains_every", _short),
    "renewed": ("renewed", _listed),
    "repaired": ("repaired", dict),
    "resumed": ("resumed", _if_any),
    "seconds": ("seconds", lambda seconds: round(seconds, 2)),
    "server_version": ("postgresql", lambda version: version // 10_000),
    "suspected": ("suspected_deletions", _as_it_is),
    "touched": ("applications", _as_it_is),
    "under_way": ("calls_under_way", _as_it_is),
    "wait": ("next_try_in", _short),
    "watches": ("watches", _listed),
}
"""How fields of events are called on a line, and shown, where that is not as they are."""


def _message(event: Any) -> str:
    return str(event.message)


def _baseline_done(event: events.BaselineDone) -> str:
    calls = f"{event.queued} calls queued" if event.queued else "0 calls"
    return f"{event.known} applications known, {calls}"


_CALL = {
    "acknowledged": "sent",
    "retry": "not sent yet",
    "dead": "given up, now a dead letter",
}

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

_PAUSED = "sending is paused by an operator: everything is kept; `cdc-sync resume` lets calls go out again"

_UPGRADING = "bringing the store of an earlier version up to date: do not interrupt it, or it begins again"

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
    "healthy": "the endpoint takes calls again",
    "throttled": "the endpoint asks to wait",
    "open": "the endpoint does not work; trying one call at a time",
    "paused": "the endpoint refuses our credentials; everything is kept. Check hellowork.headers",
}
