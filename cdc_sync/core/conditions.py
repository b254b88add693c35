"""What is wrong now, folded from the events: the one source of readiness and of `status`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cdc_sync.core import observations as seen
from cdc_sync.core.observations import Event

Conditions = Mapping[str, str]
"""Name of a condition → what is wrong, in words, with the remedy."""

NONE: Conditions = MappingProxyType({})

STANDBY = "standby"
"""What the name of the one condition begins with that is nothing wrong: another daemon captures the watch."""

WATERMARK = "watermark"
"""What the names of conditions begin with of which a person should know, though every change arrives: by sweeps."""

REMEDY = (
    "have every part of the ATS set that column, in the time zone that `timezone` names, or use capture.mode notify; "
    "until then a shorter capture.sweep finds such changes sooner"
)
"""What to do about a watermark that cannot be relied on."""

KINDS = (
    "watch",
    STANDBY,
    WATERMARK,
    "triggers",
    "row security",
    "baseline",
    "endpoint",
    "sending",
    "lag",
    "store",
    "loops",
    "fuse",
    "held",
)
"""What the names of conditions begin with; the rest says which watch or which host."""

_OF_A_WATCH = ("watch", WATERMARK, "triggers", "row security", "baseline", "store")
"""What the names of the conditions of a watch that is captured here begin with, but for its lag."""


def kind_of(name: str) -> str:
    """A condition's name without watches and hosts, for whoever may not know them."""
    return next((kind for kind in KINDS if name == kind or name.startswith(f"{kind} ")), "other")


def starting(watches: tuple[str, ...]) -> Conditions:
    """The conditions of a daemon that has just started."""
    return {f"watch {watch}": "not connected yet" for watch in watches}


def fold(conditions: Conditions, event: Event) -> Conditions:
    """The conditions after an event; the same object if it changes none."""
    match event:
        case seen.Reloaded(begun=begun):
            return {**conditions, **starting(begun)} if begun else conditions
        case seen.WatchEnded(watch, for_good):
            # One that begins again is as late as it was, and not connected.
            others = _without(conditions, watch, STANDBY, *_OF_A_WATCH, *(("lag",) if for_good else ()))
            return others if for_good else {**others, **starting((watch,))}
        case seen.WatchStandsBy(watch, message):
            # Whatever else was wrong with the watch is the business of whoever captures it.
            return _with(_without(conditions, watch, *_OF_A_WATCH, "lag"), f"{STANDBY} {watch}", message)
        case seen.WatchConnected(watch) | seen.WatchLost(watch):
            conditions = _without(conditions, watch, STANDBY)
        case _:
            pass
    rule = _RULES.get(type(event))
    if rule is None:
        return conditions
    kind, subject, message_of = rule
    whose = getattr(event, subject) if subject else None
    return _with(conditions, f"{kind} {whose}" if whose else kind, message_of(event))


def wrong(conditions: Conditions) -> Conditions:
    """Those that keep changes from arriving: not a daemon that waits for its turn, nor a watermark."""
    return {
        name: message
        for name, message in conditions.items()
        if not is_standby(name) and not name.startswith(f"{WATERMARK} ")
    }


def is_standby(name: str) -> bool:
    """Whether a condition is that of a daemon that waits for its turn."""
    return name.startswith(f"{STANDBY} ")


def _without(conditions: Conditions, watch: str, *kinds: str) -> Conditions:
    """The conditions without a watch's of some kinds; the same object if it has none."""
    own = conditions.keys() & {f"{kind} {watch}" for kind in kinds}
    return {name: conditions[name] for name in conditions if name not in own} if own else conditions


def _with(conditions: Conditions, name: str, message: str | None) -> Conditions:
    """The conditions with one as it is now; no message: nothing is wrong any more."""
    if conditions.get(name) == message:
        return conditions
    others = {key: value for key, value in conditions.items() if key != name}
    return others if message is None else {**others, name: message}


def _ends(_: Any) -> None:
    return None


def _message(event: Any) -> str:
    return str(event.message)


def _baseline_runs(event: Any) -> str:
    of = f" of about {event.estimate}" if event.estimate else ""
    return f"the baseline is running: {event.rows}{of} rows"


_RULES: Mapping[type[Event], tuple[str, str, Callable[[Any], str | None]]] = {
    seen.WatchConnected: ("watch", "watch", lambda _: "connected, and getting ready"),
    seen.WatchLost: ("watch", "watch", _message),
    seen.CaptureStarted: ("watch", "watch", _ends),
    seen.TriggersMissing: ("triggers", "watch", _message),
    seen.TriggersFound: ("triggers", "watch", _ends),
    seen.RowsHidden: ("row security", "watch", _message),
    seen.RowsVisible: ("row security", "watch", _ends),
    seen.WatermarkDoubted: (WATERMARK, "watch", lambda event: f"{event.reason}. Remedy: {REMEDY}"),
    seen.WatermarkTrusted: (WATERMARK, "watch", _ends),
    seen.BaselineProgress: ("baseline", "watch", _baseline_runs),
    seen.BaselineDone: ("baseline", "watch", _ends),
    seen.EndpointChanged: (
        "endpoint",
        "endpoint",
        lambda event: None if event.mode == "healthy" else f"{event.mode}: {event.reason}",
    ),
    seen.SendingPaused: (
        "sending",
        "endpoint",
        lambda _: "paused by an operator: `cdc-sync resume` lets calls go out again",
    ),
    seen.SendingResumed: ("sending", "endpoint", _ends),
    seen.CaptureLate: (
        "lag",
        "watch",
        lambda late: f"changes were last read completely more than {late.limit:.0f} s ago",
    ),
    seen.CaptureInTime: ("lag", "watch", _ends),
    seen.DeliveryLate: ("lag", "endpoint", lambda late: f"a call has been due for more than {late.limit:.0f} s"),
    seen.DeliveryInTime: ("lag", "endpoint", _ends),
    # One for each whom it fails: that the sender can write again says nothing of what a watch could not record.
    seen.StoreFailed: ("store", "by", _message),
    seen.StoreRecovered: ("store", "by", _ends),
    seen.LoopsHang: (
        "loops",
        "",
        lambda hang: f"these have not got round in time, and only a restart mends that: {', '.join(hang.loops)}",
    ),
    seen.LoopsMove: ("loops", "", _ends),
}
"""Which condition each type of event begins, or ends if it has no message: its kind, and the field that says whose."""

EVENTS = frozenset({seen.Reloaded, seen.WatchEnded, seen.WatchStandsBy, *_RULES})
"""The types of the events that can change a condition."""
