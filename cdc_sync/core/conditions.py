"""What is wrong now, computed from the events: the one source of readiness and of `status`."""

from collections.abc import Mapping
from types import MappingProxyType

from . import events as seen
from .events import Event
from .reasons import coded
from .status_url import DEFAULT_ACCOUNT, account_of

Conditions = Mapping[str, str]
"""What is wrong, in words, with the remedy, by the condition's name."""

NONE: Conditions = MappingProxyType({})

STANDBY = "standby"
"""The condition that is no problem: another daemon leads; or with a watch's name, one of another store captures it."""

ZONE = "zone"
"""Prefix of conditions that an operator should know, though every change arrives: with a wrong date."""

SENDING = "sending"
"""Prefix of conditions that an operator has caused: sending is paused."""

REMEDY = (
    "let `timezone` name the zone in which the ATS writes its dates; if the column of event_date has a time zone of "
    "its own (timestamptz), correct the ATS"
)
"""The remedy for event dates that are whole hours off."""

_DIFFERS = "configuration"


_OF_A_WATCH = ("watch", ZONE, "triggers", "deletions", "row security", "baseline", "store", "lag")
"""The conditions of a captured watch."""


def kind_of(name: str) -> str:
    """A condition's name without watches and hosts."""
    return next((kind for kind in KINDS if name == kind or name.startswith(f"{kind} ")), "other")


def starting(watches: tuple[str, ...]) -> Conditions:
    """The conditions of watches that begin."""
    return {f"watch {watch}": coded("unconnected", "not connected yet") for watch in watches}


def fold(conditions: Conditions, event: Event) -> Conditions:
    """The conditions after an event; the same object if it changes none."""
    match event:
        case seen.TenantsFound(watches):
            return {**conditions, **starting(watches)}
        case seen.WatchEnded(watch) | seen.WatchStandsBy(watch):
            # The capturing daemon reports the watch's other problems.
            for of_it in _OF_A_WATCH:
                conditions = _with(conditions, f"{of_it} {watch}", "")
        case seen.WatchConnected(watch) | seen.WatchLost(watch):
            # The baseline goes on, or its end was interrupted.
            for over in (STANDBY, "baseline"):
                conditions = _with(conditions, f"{over} {watch}", "")
    kind = KIND_OF.get(type(event))
    if kind is None:
        return conditions
    subject = next((getattr(event, name) for name in _SUBJECTS if hasattr(event, name)), None)
    return _with(conditions, f"{kind} {subject}" if subject else kind, _reason(event))


def _reason(event: Event) -> str:
    """What is wrong by an event; empty if it ends a condition."""
    if isinstance(event, seen.EndpointChanged):
        mode, why = event.mode, event.reason or ""
        return "" if mode == "healthy" else coded(f"endpoint-{mode}", f"{mode}: %(reason)s", reason=why)
    if type(event) in _REASONS:
        return coded(*_REASONS[type(event)], **vars(event))
    return getattr(event, "message", "")


def wrong(conditions: Conditions) -> Conditions:
    """Those that delay or stop changes."""
    return {name: message for name, message in conditions.items() if kind_of(name) not in {STANDBY, _DIFFERS, ZONE}}


def is_of_one_account(name: str) -> bool:
    """Whether a condition stops the calls of one named account."""
    return kind_of(name) == "endpoint" and account_of(name) != DEFAULT_ACCOUNT


def is_for_a_person(name: str) -> bool:
    """Whether a condition is no fault, but what a person has caused or has to decide."""
    return kind_of(name) in {ZONE, SENDING, _DIFFERS}


def is_standby(name: str) -> bool:
    """Whether another daemon leads, or captures the condition's watch."""
    return kind_of(name) == STANDBY


def _with(conditions: Conditions, name: str, message: str) -> Conditions:
    """The conditions with one changed; an empty message ends it. The same object if nothing changes."""
    if conditions.get(name, "") == message:
        return conditions
    # Copied as a whole: a comprehension over a thousand watches takes ten times as long.
    after = {**conditions, name: message}
    if not message:
        del after[name]
    return after


_BY_KIND: Mapping[str, tuple[type[Event], ...]] = {
    "watch": (seen.WatchConnected, seen.WatchLost, seen.CaptureStarted),
    "triggers": (seen.TriggersMissing, seen.TriggersFound),
    "deletions": (seen.DeletionsWait, seen.DeletionsDecided),
    "row security": (seen.RowsHidden, seen.RowsVisible),
    ZONE: (seen.ZoneDoubted, seen.ZoneTrusted),
    "baseline": (seen.BaselineProgress, seen.BaselineDone),
    "endpoint": (seen.EndpointChanged, seen.EndpointGone),
    SENDING: (seen.SendingPaused, seen.SendingResumed),
    "lag": (seen.CaptureLate, seen.CaptureInTime, seen.DeliveryLate, seen.DeliveryInTime),
    # Watches and the sender recover separately.
    "store": (seen.StoreFailed, seen.StoreRecovered),
    STANDBY: (seen.StandsBy, seen.LeadTaken, seen.WatchStandsBy, seen.WatchEnded),
    "take-over": (seen.TakeOverBlocked, seen.TakeOverUnblocked),
    _DIFFERS: (seen.StandbyDiffers, seen.StandbyAgrees),
    "tenants": (seen.TenantsUnknown, seen.TenantsKnown),
    "tenant": (seen.TenantRefused, seen.TenantAccepted),
}
"""The kind of condition that each type of event begins, by a reason below or its `message`, or else ends."""

KIND_OF = {event: kind for kind, events in _BY_KIND.items() for event in events}
"""The kind of condition that an event begins or ends."""

_SUBJECTS = ("watch", "endpoint", "by", "database")
"""The field that names the condition's subject."""

_REASONS: Mapping[type[Event], tuple[str, str]] = {
    seen.WatchConnected: ("preparing", "connected, and getting ready"),
    seen.BaselineProgress: ("baseline", "the baseline is running: %(rows)s rows"),
    seen.ZoneDoubted: ("zone", f"%(reason)s. Remedy: {REMEDY}"),
    seen.SendingPaused: ("sending-paused", "paused by an operator: `cdc-sync resume` lets calls go out again"),
    seen.StandbyDiffers: ("standby-differs", "this daemon's configuration is another one than the leader's"),
    seen.CaptureLate: ("lag", "changes were last read completely more than %(limit)s s ago"),
    seen.DeliveryLate: ("call-late", "a call has been due for more than %(limit)s s"),
}
"""The code and the text of each reason; the text's fields are the event's."""


KINDS = (*_BY_KIND, "fuse", "held")
"""The first words of conditions' names; a watch or a host follows."""
