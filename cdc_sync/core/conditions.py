"""What is wrong now, folded from the observations: the one source of readiness and of `status`."""

from collections.abc import Mapping
from types import MappingProxyType

from cdc_sync.core.observations import (
    BaselineDone,
    BaselineProgress,
    CaptureInTime,
    CaptureLate,
    CaptureStarted,
    DeliveryInTime,
    DeliveryLate,
    EndpointChanged,
    LoopsHang,
    LoopsMove,
    Observation,
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


def fold(conditions: Conditions, observation: Observation) -> Conditions:
    """The conditions after an observation; the same object if it changes none."""
    if isinstance(observation, WatchEnded):
        return _without(conditions, observation)
    if isinstance(observation, Reloaded):
        return {**conditions, **starting(observation.begun)} if observation.begun else conditions
    if isinstance(observation, WatchStandsBy):
        return _standing_by(conditions, observation)
    name, message = _about(observation)
    if name is None or conditions.get(name) == message:
        return conditions
    settled = {name}
    if isinstance(observation, WatchConnected | WatchLost):
        settled.add(f"{STANDBY} {observation.watch}")
    others = {key: value for key, value in conditions.items() if key not in settled}
    return others if message is None else {**others, name: message}


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


def _about(observation: Observation) -> tuple[str | None, str | None]:  # noqa: C901, PLR0912 - one case per kind
    """Which condition an observation tells of, and what is wrong; no message: nothing is any more."""
    found: tuple[str | None, str | None] = (None, None)
    match observation:
        case WatchConnected(watch):
            found = (f"watch {watch}", "connected, and getting ready")
        case CaptureStarted(watch):
            found = (f"watch {watch}", None)
        case WatchLost(watch, message):
            found = (f"watch {watch}", message)
        case TriggersMissing(watch, message):
            found = (f"triggers {watch}", message)
        case TriggersFound(watch):
            found = (f"triggers {watch}", None)
        case RowsHidden(watch, message):
            found = (f"row security {watch}", message)
        case RowsVisible(watch):
            found = (f"row security {watch}", None)
        case BaselineProgress(watch, rows, estimate):
            of = f" of about {estimate}" if estimate else ""
            found = (f"baseline {watch}", f"the baseline is running: {rows}{of} rows")
        case BaselineDone(watch):
            found = (f"baseline {watch}", None)
        case EndpointChanged(endpoint, mode, reason):
            found = (f"endpoint {endpoint}", None if mode == "healthy" else f"{mode}: {reason}")
        case CaptureLate(watch, limit):
            found = (f"lag {watch}", f"changes were last read completely more than {limit:.0f} s ago")
        case CaptureInTime(watch):
            found = (f"lag {watch}", None)
        case DeliveryLate(endpoint, limit):
            found = (f"lag {endpoint}", f"a call has been due for more than {limit:.0f} s")
        case DeliveryInTime(endpoint):
            found = (f"lag {endpoint}", None)
        case StoreFailed(message, by):
            found = (_store(by), message)
        case StoreRecovered(by):
            found = (_store(by), None)
        case LoopsHang(loops):
            found = ("loops", f"these have not got round in time, and only a restart mends that: {', '.join(loops)}")
        case LoopsMove():
            found = ("loops", None)
        case _:
            pass
    return found


def _store(by: str | None) -> str:
    """One for each whom it fails: that the sender can write again says nothing of what a watch could not record."""
    return "store" if by is None else f"store {by}"
