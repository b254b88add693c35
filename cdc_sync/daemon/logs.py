"""The log: which line each event has.

A state that lasts is reported when it changes. Levels: error, somebody must do something; warning, something is lost
for now and mends itself, or a person should look when there is time; info, the milestones; debug, every change and
call. The lines are in `logs.yaml`; an event without one is written under its class's name, with its fields.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields as fields_of
from datetime import timedelta
from functools import cache
from importlib.resources import files
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

import yaml

from cdc_sync.core import observations as events
from cdc_sync.core.conditions import REMEDY
from cdc_sync.core.findings import UNCONFIGURED
from cdc_sync.core.observations import Event, Handler, Handlers
from cdc_sync.core.payload import iso
from cdc_sync.daemon.lines import LEVELS, Fields, Lines, Repeats

_MOST_REMEMBERED = 10_000
"""Applications whose last reply is remembered, so that it is reported once."""


class EventLogger:
    """Writes the lines of events.

    Args:
        lines: takes the lines.
        shown_elsewhere: types of events that another output shows, so that they have no lines.
        clock: seconds that do not go back.
    """

    def __init__(
        self,
        lines: Lines,
        shown_elsewhere: Iterable[type[Event]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What is many times a second, or nothing but a number, has no line either.
        self._silent = (*shown_elsewhere, events.CaughtUp, events.ListenerProved)
        self._repeats = Repeats(clock)
        self._peer: str | None = None
        """Who brought a wrong token last."""
        # Endpoints that were reported as unwell; and of each application the reply that was reported last.
        self._unwell: set[str] = set()
        self._refused: dict[tuple[str, str], str] = {}
        # Of a watch, what was reported last: that its fuse is blown, what row-level security hides (which is found anew
        # after each reconnect), how many steps of its baseline are done.
        self._reported: dict[tuple[str, str], object] = {}
        # Mistakes of a watch's configuration that were reported, until it works again. It tries every few seconds, and
        # may get as far as capturing each time.
        self._mistakes: dict[str, set[str]] = {}
        self._lines = lines
        self._levels: dict[str, Callable[[Any], int]] = {
            "end": self._level_of_end,
            "milestone": self._level_of_milestone,
            "loss": self._level_of_loss,
            "hiding": self._level_of_hiding,
            "visibility": self._level_of_visibility,
            "progress": self._level_of_progress,
            "remapping": lambda event: WARNING if event.held else INFO,
            "sweep": self._level_of_sweep,
            "endpoint": self._level_of_endpoint,
            "decision": self._level_of_decision,
        }

    def use(self, lines: Lines) -> None:
        """Write to other lines: the logging was configured anew, and the handlers are others now."""
        self._lines = lines

    def handlers(self) -> Handlers:
        """What writes the line of each type of event; None where the level is off, so that nothing is formatted.

        What remembers something for a later line is there on every level: a reload may turn that line on.
        """
        level = self._lines.level
        handlers: dict[type[Event], Handler | None] = {}
        for name, line in _read()["lines"].items():
            if "level" in line:
                event = getattr(events, name)
                handlers[event] = self._line(event, **line)
        handlers |= {
            Event: self._unknown if level <= INFO else None,
            events.WatchUnconfigured: self._line(events.WatchUnconfigured, "warning", UNCONFIGURED),
            events.WatermarkDoubted: self._line(
                events.WatermarkDoubted, "warning", f"the watermark cannot be relied on: {REMEDY}"
            ),
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
        """A type's line, as `logs.yaml` has it; its level may depend on what was reported before."""
        least, write = self._lines.level, self._lines.write
        always, level_of = LEVELS.get(level, _NEVER), self._levels.get(level)
        if level_of is None and always < least:
            return None
        said = {"message", by, *without, *re.findall(r"{(\w+)}", str(message))}
        shown = [(name, *_field(name)) for field in fields_of(of) if (name := field.name) not in said]

        def handle(event: Any) -> None:
            its_level = always if level_of is None else level_of(event)
            if its_level >= least:
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
            self._lines.write(DEBUG, "every loop gets round", {"pending": event.pending})
        # What happened at the door since its last line, though nothing more does.
        for kind in (events.TokenRefused, events.ConnectionDisplaced):
            self._door(kind.__name__, happened=False)

    def _at_the_door(self, event: events.TokenRefused | events.ConnectionDisplaced) -> None:
        self._peer = event.peer if isinstance(event, events.TokenRefused) else self._peer
        self._door(type(event).__name__, happened=True)

    def _door(self, name: str, *, happened: bool) -> None:
        """What strangers do at the admin server's door: a line a minute at most."""
        if times := self._repeats.times(name, happened=happened):
            peer = self._peer if name == "TokenRefused" else None
            self._lines.write(WARNING, _message(name), {"peer": peer, "times": times})

    def _level_of_end(self, event: events.WatchEnded) -> int:
        self._mistakes.pop(event.watch, None)
        for what in ("rows hidden", "progress"):
            self._reported.pop((what, event.watch), None)
        return DEBUG

    def _is_news(self, what: str, watch: str, said: object) -> bool:
        before, self._reported[what, watch] = self._reported.get((what, watch)), said
        return before != said

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
        return WARNING if self._is_news("rows hidden", event.watch, event.message) else DEBUG

    def _level_of_visibility(self, event: events.RowsVisible) -> int:
        return INFO if self._reported.pop(("rows hidden", event.watch), None) else DEBUG

    def _level_of_progress(self, event: events.BaselineProgress) -> int:
        """A line at about every tenth, and not more often than every 20,000 rows."""
        step = event.rows // max(event.estimate // 10, 20_000)
        return INFO if step and self._is_news("progress", event.watch, step) else _NEVER

    def _level_of_decision(self, event: events.Decided) -> int:
        """That entries are held is reported with the first one, and not again for each of the thousands after it."""
        if event.outcome == "queued" and self._reported:
            self._reported.pop(("fuse", event.watch), None)
        elif event.outcome == "held" and self._is_news("fuse", event.watch, "blown"):
            return WARNING
        return ERROR if event.outcome == "dead" else DEBUG

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
        """A call. One that failed is news if the reply is, and the whole endpoint is not down.

        An outage of days would have thousands of such lines.
        """
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
            self._lines.write(level, _message("CallEnded")[event.outcome], fields)


_NEVER = -1
"""The level of what has no line, whatever level is on."""


@cache
def _read() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(files("cdc_sync.daemon").joinpath("logs.yaml").read_text("utf-8"))
    return found


def _message(event: str) -> Any:
    """The message of an event, or its messages."""
    return _read()["lines"][event]["message"]


def _field(name: str) -> tuple[str, Callable[[Any], object]]:
    """How a field of an event is called on a line, and shown."""
    called, shown = (*_read()["fields"].get(name, [name]), "as it is")[:2]
    return called, _SHOWN[shown]


def _short(seconds: float) -> str | None:
    return str(timedelta(seconds=round(seconds))) if seconds else None


_SHOWN: dict[str, Callable[[Any], object]] = {
    "as it is": lambda value: value,
    "if any": lambda value: value or None,
    "list": lambda names: ",".join(names) or None,
    "object": dict,
    "duration": _short,
    "instant": iso,
    "tenths": lambda seconds: round(seconds, 1),
    "hundredths": lambda seconds: round(seconds, 2),
    "major": lambda version: version // 10_000,
}
