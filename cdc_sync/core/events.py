"""The events that the program reports about itself. Logs, metrics and conditions are made of them.

Each consumer offers a handler for each type that it needs; `Dispatch` joins the offers in one table. Durations are in
seconds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, dataclass_transform

from .replies import CallOutcome, Mode
from .rows import Origin


@dataclass_transform(frozen_default=True)
class Event:
    """Something that happened. Each class below is a dataclass.

    Frozen for the type checker alone: a frozen one takes six times as long to make.
    """

    def __init_subclass__(cls) -> None:
        dataclass(unsafe_hash=True)(cls)


Emit = Callable[[Event], None]

Handler = Callable[[Any], None]

Handlers = Mapping[type[Event], Handler | None]
"""A consumer's handler for each type of event, None to ignore it. `Event` is the default."""

Consumer = Callable[[], Handlers]
"""Offers its handlers."""


class Dispatch:
    """Hands each event to the handlers of its type, in the consumers' order."""

    def __init__(self, *consumers: Consumer) -> None:
        self._offers = [offer() for offer in consumers]
        self._handlers: dict[type[Event], list[Handler]] = {}

    def emit(self, event: Event) -> None:
        """Hand an event to its handlers."""
        kind = type(event)
        if kind not in self._handlers:
            found = (offer.get(kind, offer.get(Event)) for offer in self._offers)
            self._handlers[kind] = [handle for handle in found if handle]
        for handle in self._handlers[kind]:
            handle(event)


class WatchEvent(Event):
    """An event of one watch."""

    watch: str


class WatchMessage(WatchEvent):
    """An event of one watch, in words."""

    message: str


class EndpointEvent(Event):
    """An event of one endpoint."""

    endpoint: str


class DaemonStarted(Event):
    """The process is up. `admin` is the page's address."""

    version: str
    watches: tuple[str, ...]
    dry_run: bool
    admin: str | None = None


class DaemonStopping(Event):
    """A signal asked for the end; calls under way are finished first."""

    signal: str
    under_way: int


class DaemonStopped(Event):
    """Everything is closed."""


class ReloadStarted(Event):
    """A signal asked for the configuration to be read again."""


class Reloaded(Event):
    """The configuration was read again: all watches begin again with it."""

    watches: tuple[str, ...]


class ReloadRefused(Event):
    """The new configuration cannot be used; the present one stays."""

    problems: tuple[str, ...]


class WatchEnded(WatchEvent):
    """A watch has stopped: its tenant is gone."""


class WatchUnconfigured(WatchEvent):
    """The store has a watch that is no longer configured, with so many applications (`known`) and entries."""

    known: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    suspected: int = 0


class AccountsUnconfigured(Event):
    """So many pending entries wait for accounts that are no longer configured."""

    accounts: tuple[str, ...]
    pending: int


class TenantsFound(Event):
    """Tenants of templates have appeared: their watches begin."""

    watches: tuple[str, ...]


class TenantsGone(Event):
    """Tenants have lost their schema or table: their watches have ended, their state is kept."""

    watches: tuple[str, ...]


class TenantsMissing(Event):
    """A template has no tenant."""

    template: str


class OverridesUnused(Event):
    """A template's `overrides` name tenants that do not exist."""

    template: str
    tenants: tuple[str, ...]


class TenantsUnknown(Event):
    """A database cannot be asked for tenants; known ones go on. `database` is "" if it is the only one."""

    database: str
    message: str


class TenantsKnown(Event):
    """The database answers again."""

    database: str


class TenantRefused(WatchMessage):
    """A tenant has no watch because its own settings cannot be used: a header's file, say."""


class TenantAccepted(WatchEvent):
    """The tenant's settings work, or the tenant is gone."""


class HeartBeat(Event):
    """The event loop turns."""


class WatchConnected(WatchEvent):
    """The watch's database is connected and its lock held. `database` is its name, if it has one."""

    mode: str
    server_version: int
    database: str = ""


class PendingReread(WatchEvent):
    """The rows of the watch's `pending` entries were read again and applied: its entries may be sent."""

    pending: int


class CaptureStarted(WatchEvent):
    """The baseline is complete; changes are captured from now on."""


class WatchLost(WatchMessage):
    """The watch's database cannot be used. Emitted when the reason changes.

    `code` is one of docs/messages.md.
    """

    misconfigured: bool
    code: str | None = None
    database: str = ""


class WatchStandsBy(WatchMessage):
    """A daemon with another store captures the watch. Emitted when `message` changes."""


class TriggersMissing(WatchMessage):
    """Notify mode lacks its triggers: only sweeps find changes."""


class TriggersFound(WatchEvent):
    """The triggers exist, enabled and current."""


class BellLeftAlone(WatchEvent):
    """The triggers must not NOTIFY on this server: the log is read every `pause` seconds instead."""

    pause: float


class BaselineOverEarlierWork(WatchEvent):
    """A silent baseline begins although another store captured the watch before."""


class ZoneDoubted(WatchEvent):
    """The event dates of the last changed rows are whole hours off. Emitted when these hours change."""

    reason: str


class ZoneTrusted(WatchEvent):
    """The event dates of the last changed rows fit again."""


class ChangesMissed(WatchEvent):
    """In `number` transactions changes were not recorded (some may have been rolled back): a sweep follows."""

    number: int
    reason: str


class TableReplaced(WatchEvent):
    """A watch's table is another one than before, and unknown: the deletions that a sweep finds are held."""

    table: str


class RowsHidden(WatchMessage):
    """Row-level security may hide rows: every deletion is held."""


class RowsVisible(WatchEvent):
    """Row-level security hides no rows."""


class DeletionsWait(WatchMessage):
    """Deletions cannot be decided: another watch may have the applications, and its table cannot be read."""


class DeletionsDecided(WatchEvent):
    """Suspected deletions were decided."""


class BaselineProgress(WatchEvent):
    """`rows` have been read; `estimate` is the planner's guess at the table's rows (0: none)."""

    rows: int
    estimate: int


class BaselineDone(WatchEvent):
    """The baseline is complete: `known` applications, `queued` calls (0 unless the baseline is sent)."""

    known: int
    queued: int
    seconds: float


class StatusRulesChanged(WatchEvent):
    """Labels map to other statuses than before: `touched` applications have a new status.

    `held`: they exceed the fuse's limit, so all of them wait for a person.
    """

    touched: int
    held: bool


class ChangesRead(WatchEvent):
    """Capture read `keys` keys in one batch."""

    origin: Origin
    keys: int


class CaughtUp(WatchEvent):
    """Everything committed before a read that took `seconds` is now applied."""

    seconds: float


class NotifyQueueSeen(WatchEvent):
    """`usage` is the used share of the server's NOTIFY queue, from 0 to 1."""

    usage: float


class CaptureLate(WatchEvent):
    """Capture lags for longer than `limit` seconds. Emitted once."""

    limit: float


class CaptureInTime(WatchEvent):
    """Capture has caught up."""


class DeliveryLate(EndpointEvent):
    """A call to an endpoint has been due for longer than `limit` seconds. Emitted once."""

    limit: float


class DeliveryInTime(EndpointEvent):
    """No call to the endpoint is late."""


Outcome = Literal["queued", "cancelled", "adopted", "held", "dead"]


class Decided(WatchEvent):
    """An observation differs from what is known."""

    application_id: str
    origin: Origin
    outcome: Outcome
    reason: str | None = None


class RowSkipped(WatchEvent):
    """A row cannot be sent."""

    key: str
    application_id: str | None
    reason: str


ASKED_FOR = "asked_for"
"""The cause of repairs by a requested sweep, after a TRUNCATE say: capture had not missed them."""


class SweepDone(WatchEvent):
    """The whole table was compared. `repaired` counts by cause the changes that only the sweep found."""

    rows: int
    seconds: float
    repaired: Mapping[str, int]


class CallEnded(WatchEvent):
    """A call to HelloWork has ended."""

    application_id: str
    outcome: CallOutcome
    reply: str
    attempt: int
    took: float
    waited: float


class EndpointChanged(EndpointEvent):
    """An endpoint's circuit opened, or it paused, was throttled or recovered."""

    mode: Mode
    reason: str | None
    wait: float


class EndpointGone(EndpointEvent):
    """An endpoint is used no more: its account is not configured, or no entry goes there."""


class SendingPaused(Event):
    """An operator has paused an endpoint, or all if it is None."""

    endpoint: str | None


class SendingResumed(Event):
    """An operator has resumed sending."""

    endpoint: str | None


class PersonActed(Event):
    """A person has acted, by the page or by a command.

    `at` is in milliseconds; `who` is the operating system's user, or whom the page knows by the token or a proxy;
    `count` entries or endpoints are concerned, `on` the named watch or endpoint.
    """

    at: int
    action: str
    who: str
    count: int
    on: str | None = None


class StoreFailed(Event):
    """The store cannot be written; meanwhile nothing is sent or consumed.

    `by` is the watch that cannot write, None for the sender; each recovers by itself. `code` is one of
    docs/messages.md.
    """

    message: str
    by: str | None = None
    code: str | None = None


class StandsBy(Event):
    """Another daemon leads the store's daemons: this one waits. Emitted when `message`, who leads, changes."""

    message: str


class StandbyDiffers(Event):
    """This daemon stands by, and its configuration differs from the leader's."""


class StandbyAgrees(Event):
    """It no longer does."""


class LeadTaken(Event):
    """This daemon leads, with these watches; `since` is the moment for people."""

    since: str
    watches: tuple[str, ...]


class LeadLost(Event):
    """This daemon no longer leads; it stands by, and leads again when it can."""

    message: str


class TakeOverBlocked(Event):
    """This daemon cannot take over from a leader that is silent. `code` as in `StoreFailed`."""

    message: str
    code: str


class TakeOverUnblocked(Event):
    """It has taken over, or the leader goes on."""


class StoreRecovered(Event):
    """The store can be written again by `by`."""

    by: str | None = None


class NoticeFailed(Event):
    """A message to whom it concerns was not taken."""

    reason: str


class TokenRefused(Event):
    """The address `peer` presented a wrong token to the admin server."""

    peer: str


class ConnectionDisplaced(Event):
    """All connections of the admin server are taken: one was closed."""
