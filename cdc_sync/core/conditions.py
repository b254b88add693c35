"""What is wrong now, folded from the events: the one source of readiness and of `status`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from cdc_sync.core.observations import (
    BaselineDone,
    BaselineProgress,
    CaptureInTime,
    CaptureLate,
    CaptureStarted,
    DeliveryInTime,
    DeliveryLate,
    EndpointChanged,
    Event,
    LoopsHang,
    LoopsMove,
    Reloaded,
    RowsHidden,
    RowsVisible,
    StoreFailed,
    StoreRecovered,
    TriggersFound,
    TriggersMissing,
    WatchConnected,
    WatchEnded,
    WatchLost,
    WatchStandsBy,
)

Conditions = Mapping[str, str]
"""Name of a condition → what is wrong, in words, with the remedy."""

_Handler = Callable[[Conditions, Any], Conditions]

NONE: Conditions = MappingProxyType({})

STANDBY = "standby"
"""What the name of the one condition begins with that is nothing wrong: another daemon captures the watch."""

KINDS = ("watch", STANDBY, "triggers", "row security", "baseline", "endpoint", "lag", "store", "loops", "fuse", "held")
"""What the names of conditions begin with; the rest says which watch or which host."""

_OF_A_WATCH = ("watch", STANDBY, "triggers", "row security", "baseline", "store")
"""What the names of the conditions of one watch begin with."""


def kind_of(name: str) -> str:
    """A condition's name without watches and hosts, for whoever may not know them."""
    return next((kind for kind in KINDS if name == kind or name.startswith(f"{kind} ")), "other")


def starting(watches: tuple[str, ...]) -> Conditions:
    """The conditions of a daemon that has just started."""
    return {f"watch {watch}": "not connected yet" for watch in watches}


def fold(conditions: Conditions, event: Event) -> Conditions:
    """The conditions after an event; the same object if it changes none."""
    handler = _HANDLERS.get(type(event))
    return conditions if handler is None else handler(conditions, event)


def wrong(conditions: Conditions) -> Conditions:
    """Those that keep changes from arriving: all but that of a daemon that waits for its turn."""
    return {name: message for name, message in conditions.items() if not is_standby(name)}


def is_standby(name: str) -> bool:
    """Whether a condition is that of a daemon that waits for its turn."""
    return name.startswith(f"{STANDBY} ")


def _standing_by(conditions: Conditions, standby: WatchStandsBy) -> Conditions:
    """Whatever else was wrong with the watch is the business of whoever captures it."""
    name = f"{STANDBY} {standby.watch}"
    if conditions.get(name) == standby.message:
        return conditions
    own = {f"{kind} {standby.watch}" for kind in (*_OF_A_WATCH, "lag")}
    others = {key: message for key, message in conditions.items() if key not in own}
    return {**others, name: standby.message}


def _without(conditions: Conditions, ended: WatchEnded) -> Conditions:
    """The conditions without those of a watch that has ended; it is not connected if it begins again."""
    # One that begins again is as late as it was.
    kinds = (*_OF_A_WATCH, "lag") if ended.for_good else _OF_A_WATCH
    own = {f"{kind} {ended.watch}" for kind in kinds}
    others = {name: message for name, message in conditions.items() if name not in own}
    if not ended.for_good:
        return {**others, **starting((ended.watch,))}
    return others if len(others) < len(conditions) else conditions


def _begun(conditions: Conditions, reloaded: Reloaded) -> Conditions:
    return {**conditions, **starting(reloaded.begun)} if reloaded.begun else conditions


def _watch_stands(message_of: Callable[[Any], str]) -> _Handler:
    """Of a watch that is connected or lost: it does not wait for its turn any more."""

    def handle(conditions: Conditions, event: Any) -> Conditions:
        without = _with(conditions, f"{STANDBY} {event.watch}", None)
        return _with(without, f"watch {event.watch}", message_of(event))

    return handle


def _begins(name_of: Callable[[Any], str], message_of: Callable[[Any], str | None]) -> _Handler:
    """What begins a condition, if there is a message, or else ends it."""
    return lambda conditions, event: _with(conditions, name_of(event), message_of(event))


def _ends(name_of: Callable[[Any], str]) -> _Handler:
    return lambda conditions, event: _with(conditions, name_of(event), None)


def _with(conditions: Conditions, name: str, message: str | None) -> Conditions:
    """The conditions with one as it is now; no message: nothing is wrong any more."""
    if conditions.get(name) == message:
        return conditions
    others = {key: value for key, value in conditions.items() if key != name}
    return others if message is None else {**others, name: message}


def _of(kind: str) -> Callable[[Any], str]:
    return lambda event: f"{kind} {event.watch}"


def _of_endpoint(kind: str) -> Callable[[Any], str]:
    return lambda event: f"{kind} {event.endpoint}"


def _store(event: StoreFailed | StoreRecovered) -> str:
    """One for each whom it fails: that the sender can write again says nothing of what a watch could not record."""
    return "store" if event.by is None else f"store {event.by}"


def _message(event: Any) -> str:
    return str(event.message)


def _baseline_runs(event: BaselineProgress) -> str:
    of = f" of about {event.estimate}" if event.estimate else ""
    return f"the baseline is running: {event.rows}{of} rows"


def _endpoint_stands(event: EndpointChanged) -> str | None:
    return None if event.mode == "healthy" else f"{event.mode}: {event.reason}"


def _loops_hang(event: LoopsHang) -> str:
    return f"these have not got round in time, and only a restart mends that: {', '.join(event.loops)}"


_HANDLERS: Mapping[type[Event], _Handler] = {
    Reloaded: _begun,
    WatchEnded: _without,
    WatchStandsBy: _standing_by,
    WatchConnected: _watch_stands(lambda _: "connected, and getting ready"),
    WatchLost: _watch_stands(_message),
    CaptureStarted: _ends(_of("watch")),
    TriggersMissing: _begins(_of("triggers"), _message),
    TriggersFound: _ends(_of("triggers")),
    RowsHidden: _begins(_of("row security"), _message),
    RowsVisible: _ends(_of("row security")),
    BaselineProgress: _begins(_of("baseline"), _baseline_runs),
    BaselineDone: _ends(_of("baseline")),
    EndpointChanged: _begins(_of_endpoint("endpoint"), _endpoint_stands),
    CaptureLate: _begins(
        _of("lag"), lambda late: f"changes were last read completely more than {late.limit:.0f} s ago"
    ),
    CaptureInTime: _ends(_of("lag")),
    DeliveryLate: _begins(_of_endpoint("lag"), lambda late: f"a call has been due for more than {late.limit:.0f} s"),
    DeliveryInTime: _ends(_of_endpoint("lag")),
    StoreFailed: _begins(_store, _message),
    StoreRecovered: _ends(_store),
    LoopsHang: _begins(lambda _: "loops", _loops_hang),
    LoopsMove: _ends(lambda _: "loops"),
}
"""What each type of event does to the conditions."""

EVENTS = frozenset(_HANDLERS)
"""The types of the events that can change a condition."""
