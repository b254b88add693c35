"""Everything that the program reports about itself: its events, which logs, metrics and conditions are made of.

A component emits what happened. What of it is worth a line, and which number it moves, is decided by each consumer: it
offers a handler for each type of event that it cares about. `Dispatch` puts their offers together in one table, so an
event costs one look-up and the handlers that its type has. A new event needs no edit of the consumers; the log writes
it under its class's name. Durations are in seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, dataclass_transform

from cdc_sync.core.delivery import Mode
from cdc_sync.core.rows import Key, Origin


@dataclass_transform(frozen_default=True)
class Event:
    """Something that happened, as a value: each class below is a dataclass.

    Frozen for the type checker alone: at run time it would take six times as long to make one.
    """

    def __init_subclass__(cls) -> None:
        dataclass(unsafe_hash=True)(cls)


Observation = Event
"""The former name, by which most parts still know it."""

Observe = Callable[[Event], None]
"""Takes each event as it happens."""

Handler = Callable[[Any], None]

Handlers = Mapping[type[Event], Handler | None]
"""What a consumer does about the events of each type: None, nothing. `Event` stands for each type that is not there."""

Consumer = Callable[[], Handlers]
"""Offers its handlers, as they are now."""


class Dispatch:
    """Hands each event to the consumers that have a handler for its type, in their order."""

    def __init__(self, *consumers: Consumer) -> None:
        self._consumers = consumers
        self.rebuild()

    def rebuild(self) -> None:
        """Ask the consumers anew: what one of them does about some event has changed."""
        offers = [offer() for offer in self._consumers]
        self._table: dict[type[Event], tuple[Handler, ...]] = {
            of: tuple(handler for each in offers if (handler := each.get(of, each.get(Event))))
            for of in {Event}.union(*offers)
        }

    def emit(self, event: Event) -> None:
        """Have an event handled."""
        for handle in self._table.get(type(event), self._table[Event]):
            handle(event)


class WatchEvent(Event):
    """What concerns one watch."""

    watch: str


class DaemonStarted(Event):
    """The process is up; `watches` names what it works on, `admin` is where it can be looked at."""

    version: str
    watches: tuple[str, ...]
    dry_run: bool
    admin: str | None = None


class DaemonStopping(Event):
    """A signal asked for the end; calls under way are finished first."""

    signal: str
    under_way: int


class DaemonStopped(Event):
    """Everything is put away."""


class ReloadStarted(Event):
    """A signal asked for the configuration to be read again."""


class Reloaded(Event):
    """The configuration was read again, and is in use; `watches` are its watches.

    `begun`, `renewed` and `ended` name those that are new, that begin again with other settings, and that are no more.
    """

    watches: tuple[str, ...]
    begun: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


class ReloadRefused(Event):
    """The configuration was read again and cannot be used: the one in use stays, whole. `problems` has everything."""

    problems: tuple[str, ...]


class WatchEnded(WatchEvent):
    """A watch has stopped because of another configuration, for good or to begin again: what was said of it is past."""

    for_good: bool


class WatchUnconfigured(WatchEvent):
    """The store knows a watch that the configuration in use does not have: it was removed, or renamed.

    Of it the store holds `known` applications, so many entries that are `pending`, `held` and `dead` letters, and
    `suspected` deletions.
    """

    known: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    suspected: int = 0


class TenantsFound(Event):
    """Tenants of templates have appeared: their watches begin."""

    watches: tuple[str, ...]


class TenantsGone(Event):
    """Tenants have no schema any more, or not their table in it: their watches have ended, what is known is kept."""

    watches: tuple[str, ...]


class TenantsMissing(Event):
    """A template has no tenant."""

    template: str


class OverridesUnused(Event):
    """A template's `overrides` name tenants that there are not."""

    template: str
    tenants: tuple[str, ...]


class TenantsUnknown(Event):
    """A database cannot be asked for tenants: those that are known go on. `database` is its name, "" the only one's."""

    database: str
    message: str


class TenantsKnown(Event):
    """It can be asked again."""

    database: str


class TenantRefused(WatchEvent):
    """A tenant has no watch, since something of its own cannot be used: the file of a header, say."""

    message: str


class TenantAccepted(WatchEvent):
    """That is over, or the tenant is gone."""


class HeartBeat(Event):
    """Every loop gets round. `pending` entries wait; None if the store does not tell."""

    pending: int | None


class LoopsHang(Event):
    """These loops have not got round in time: they wait for something that never comes."""

    loops: tuple[str, ...]


class LoopsMove(Event):
    """All loops get round again."""


class WatchConnected(WatchEvent):
    """The watch's database is reached, its lock is held. `database` is its name, if there are several."""

    mode: str
    server_version: int
    database: str | None = None


class CaptureStarted(WatchEvent):
    """The baseline is done, and changes are captured from now on."""


class WatchLost(WatchEvent):
    """The watch's database cannot be used. Reported when the reason changes, not at each try.

    `code` names what is wrong; docs/operations.md has the codes. `repeated` tells that another watch has just reported
    the same of the database that they share; `database` is its name, if there are several.
    """

    message: str
    misconfigured: bool
    code: str | None = None
    repeated: bool = False
    database: str | None = None


class WatchStandsBy(WatchEvent):
    """Another daemon captures the watch; this one could, and waits for its turn. Said when `message` changes."""

    message: str


class TriggersMissing(WatchEvent):
    """Notify mode without its triggers: only sweeps find changes. `message` has the remedy."""

    message: str


class TriggersFound(WatchEvent):
    """The triggers are there, enabled and current."""


class BellLeftAlone(WatchEvent):
    """The triggers may not NOTIFY on this server: the log is read every `pause` seconds instead."""

    pause: float


class BaselineOverEarlierWork(WatchEvent):
    """A silent baseline begins where the database shows that the watch was worked before, with another store."""


class WatermarkDoubted(WatchEvent):
    """Polls cannot rely on the watermark; `reason` has what was seen. Said when another thing speaks against it."""

    reason: str


class WatermarkTrusted(WatchEvent):
    """Nothing has spoken against the watermark for a day."""


class ChangesMissed(WatchEvent):
    """The triggers could not record `number` changes (some may have been rolled back): a sweep follows."""

    number: int
    reason: str


class RowsHidden(WatchEvent):
    """Row-level security may hide rows from us: every deletion is held. `message` has the remedy."""

    message: str


class RowsVisible(WatchEvent):
    """Row-level security hides no rows from us."""


class BaselineProgress(WatchEvent):
    """So many applications are known; `estimate` is the planner's guess at the table's rows (0: no idea)."""

    rows: int
    estimate: int


class BaselineDone(WatchEvent):
    """The first look is over: `known` applications, `queued` calls (0 unless the baseline is to be sent)."""

    known: int
    queued: int
    seconds: float


class StatusRulesChanged(WatchEvent):
    """Labels become other statuses than when the watch was worked on last: `touched` applications are to be told.

    `held`: they are more than the fuse believes, so all of them wait for a person.
    """

    touched: int
    held: bool


class ChangesRead(WatchEvent):
    """Capture brought `keys` keys in one batch."""

    origin: Origin
    keys: int


class CaughtUp(WatchEvent):
    """Everything that was committed before a look that took `seconds`, and is over now, is recorded."""

    seconds: float


class ListenerProved(WatchEvent):
    """The listening connection hears; `queue_usage` is the share in use of the server's NOTIFY queue, from 0 to 1."""

    queue_usage: float


class CaptureLate(WatchEvent):
    """For longer than `limit` seconds capture has not caught up with the database. Said once, when it begins."""

    limit: float


class CaptureInTime(WatchEvent):
    """Capture has caught up again."""


class DeliveryLate(Event):
    """A call to an endpoint has been due for longer than `limit` seconds. Said once, when it begins."""

    endpoint: str
    limit: float


class DeliveryInTime(Event):
    """No call to the endpoint is late any more."""

    endpoint: str


class ClockSkewed(Event):
    """This machine's clock is so many seconds ahead of the store's, negative: behind.

    If nobody else has the store, it is ahead of its own as it was when the store was first opened after the boot.
    """

    ahead: float
    shared: bool


class ClockAgrees(Event):
    """This machine's clock agrees again."""


Outcome = Literal["queued", "cancelled", "adopted", "held", "dead"]
"""What became of an observation that was news."""


class Decided(WatchEvent):
    """An observation was news."""

    application_id: str
    origin: Origin
    outcome: Outcome
    reason: str | None = None


class RowSkipped(WatchEvent):
    """A row cannot be reported."""

    key: str
    application_id: str | None
    reason: str


ASKED_FOR = "asked_for"
"""The cause of what a sweep has found that was asked for, as by a TRUNCATE: nothing that capture had missed."""


class SweepDone(WatchEvent):
    """The whole table was compared. `repaired` counts by cause what nothing else had found.

    `resumed`: it was interrupted and went on. What happened meanwhile to rows that it had compared before, it missed.
    `missed` are keys of rows whose change nothing else had found, not all if they are many.
    """

    rows: int
    seconds: float
    repaired: Mapping[str, int]
    resumed: bool = False
    missed: tuple[Key, ...] = ()


class CallEnded(WatchEvent):
    """A call to HelloWork is over."""

    application_id: str
    outcome: Literal["acknowledged", "retry", "dead"]
    reply: str
    attempt: int
    seconds: float
    waited: float


class EndpointChanged(Event):
    """An endpoint opened, paused, throttled or recovered."""

    endpoint: str
    mode: Mode
    reason: str | None
    wait: float


class SendingPaused(Event):
    """An operator has paused sending, to one endpoint or, if it is None, to all."""

    endpoint: str | None


class SendingResumed(Event):
    """Such a pause has ended."""

    endpoint: str | None


class PersonActed(Event):
    """A person has decided something, by the page or by a command, which works without the daemon too.

    Attributes:
        at: when, in milliseconds since the epoch.
        action: the command's or button's name.
        who: the operating system's user, or the page's session.
        count: how many entries or endpoints it concerned.
        on: the watch or the endpoint that was named, if any.
    """

    at: int
    action: str
    who: str
    count: int
    on: str | None = None


class StoreFailed(Event):
    """The store cannot be written; nothing is sent or consumed meanwhile.

    `by` is whom it fails: the watch that cannot record, or None for the sender. Each tells its own recovery.
    `code` names what is wrong; docs/operations.md has the codes.
    """

    message: str
    by: str | None = None
    code: str | None = None


class StoreUpgrading(Event):
    """The store of an earlier version is brought up to date, for so many seconds now; said every ten."""

    seconds: float


class StoreMoved(Event):
    """Another server than before has the shared store, or the same after a restart: sweeps find what it may lack."""


class StoreRecovered(Event):
    """The store can be written again, by whom it had failed."""

    by: str | None = None


class TokenRefused(Event):
    """Somebody brought the admin server another token than the right one. `peer` is the address that he came from."""

    peer: str


class ConnectionDisplaced(Event):
    """All places of the admin server are taken: one that waited longest was cut off for a new one, or that refused."""
