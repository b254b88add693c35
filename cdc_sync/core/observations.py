"""Everything that the daemon says about itself: one closed set of values. Logs and metrics are two readers of it.

A component says what happened; what of it is worth a line, and which number it moves, is the readers' business. Lengths
of time are in seconds here, as clocks and histograms have them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.endpoint import Mode
from cdc_sync.core.hints import Origin


@dataclass(frozen=True, slots=True)
class DaemonStarted:
    """The process is up; `watches` names what it works on, `admin` is where it can be looked at."""

    version: str
    watches: tuple[str, ...]
    dry_run: bool
    admin: str | None = None


@dataclass(frozen=True, slots=True)
class DaemonStopping:
    """A signal asked for the end; calls under way are finished first."""

    signal: str
    under_way: int


@dataclass(frozen=True, slots=True)
class DaemonStopped:
    """Everything is put away."""


@dataclass(frozen=True, slots=True)
class ReloadStarted:
    """A signal asked for the configuration to be read again."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was read again, and is in use; `watches` are its watches.

    `begun`, `renewed` and `ended` name those that are new, that begin again with other settings, and that are no more.
    """

    watches: tuple[str, ...]
    begun: tuple[str, ...] = ()
    renewed: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadRefused:
    """The configuration was read again and cannot be used: the one in use stays, whole. `problems` has everything."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """A watch has stopped because of another configuration, for good or to begin again: what was said of it is past."""

    watch: str
    for_good: bool


@dataclass(frozen=True, slots=True)
class WatchUnconfigured:
    """The store knows a watch that the configuration in use does not have: it was removed, or renamed.

    Of it the store holds `known` applications, so many entries that are `pending`, `held` and `dead` letters, and
    `suspected` deletions.
    """

    watch: str
    known: int = 0
    pending: int = 0
    held: int = 0
    dead: int = 0
    suspected: int = 0


@dataclass(frozen=True, slots=True)
class HeartBeat:
    """Every loop gets round. `pending` entries wait; None if the store does not tell."""

    pending: int | None


@dataclass(frozen=True, slots=True)
class LoopsHang:
    """These loops have not got round in time: they wait for something that never comes."""

    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoopsMove:
    """All loops get round again."""


@dataclass(frozen=True, slots=True)
class WatchConnected:
    """The watch's database is reached, its lock is held."""

    watch: str
    mode: str
    server_version: int


@dataclass(frozen=True, slots=True)
class CaptureStarted:
    """The baseline is done, and changes are captured from now on."""

    watch: str


@dataclass(frozen=True, slots=True)
class WatchLost:
    """The watch's database cannot be used. Said when the reason changes, not at each try."""

    watch: str
    message: str
    misconfigured: bool


@dataclass(frozen=True, slots=True)
class WatchStandsBy:
    """Another daemon captures the watch; this one could, and waits for its turn. Said when `message` changes."""

    watch: str
    message: str


@dataclass(frozen=True, slots=True)
class TriggersMissing:
    """Notify mode without its triggers: only sweeps find changes. `message` has the remedy."""

    watch: str
    message: str


@dataclass(frozen=True, slots=True)
class TriggersFound:
    """The triggers are there, enabled and current."""

    watch: str


@dataclass(frozen=True, slots=True)
class BellLeftAlone:
    """The triggers may not NOTIFY on this server: the log is read every `pause` seconds instead."""

    watch: str
    pause: float


@dataclass(frozen=True, slots=True)
class BaselineOverEarlierWork:
    """A silent baseline begins where the database shows that the watch was worked before, with another store."""

    watch: str


@dataclass(frozen=True, slots=True)
class ChangesMissed:
    """The triggers could not record `number` changes (some may have been rolled back): a sweep follows."""

    watch: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class RowsHidden:
    """Row-level security may hide rows from us: every deletion is held. `message` has the remedy."""

    watch: str
    message: str


@dataclass(frozen=True, slots=True)
class RowsVisible:
    """Row-level security hides no rows from us."""

    watch: str


@dataclass(frozen=True, slots=True)
class BaselineProgress:
    """So many applications are known; `estimate` is the planner's guess at the table's rows (0: no idea)."""

    watch: str
    rows: int
    estimate: int


@dataclass(frozen=True, slots=True)
class BaselineDone:
    """The first look is over: `known` applications, `queued` calls (0 unless the baseline is to be sent)."""

    watch: str
    known: int
    queued: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StatusRulesChanged:
    """Labels become other statuses than when the watch was worked on last: `touched` applications are to be told.

    `held`: they are more than the fuse believes, so all of them wait for a person.
    """

    watch: str
    touched: int
    held: bool


@dataclass(frozen=True, slots=True)
class ChangesRead:
    """Capture brought `keys` keys in one batch."""

    watch: str
    origin: Origin
    keys: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything that was committed before a look that took `seconds`, and is over now, is recorded."""

    watch: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ListenerProved:
    """The listening connection hears; `queue_usage` is the share in use of the server's NOTIFY queue, from 0 to 1."""

    watch: str
    queue_usage: float


@dataclass(frozen=True, slots=True)
class CaptureLate:
    """For longer than `limit` seconds capture has not caught up with the database. Said once, when it begins."""

    watch: str
    limit: float


@dataclass(frozen=True, slots=True)
class CaptureInTime:
    """Capture has caught up again."""

    watch: str


@dataclass(frozen=True, slots=True)
class DeliveryLate:
    """A call to an endpoint has been due for longer than `limit` seconds. Said once, when it begins."""

    endpoint: str
    limit: float


@dataclass(frozen=True, slots=True)
class DeliveryInTime:
    """No call to the endpoint is late any more."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class ClockSkewed:
    """This machine's clock is so many seconds ahead of the store's, negative: behind.

    If nobody else has the store, it is ahead of its own as it was when the store was first opened after the boot.
    """

    ahead: float
    shared: bool


@dataclass(frozen=True, slots=True)
class ClockAgrees:
    """This machine's clock agrees again."""


Outcome = Literal["queued", "cancelled", "adopted", "held", "dead"]
"""What became of an observation that was news."""


@dataclass(frozen=True, slots=True)
class Decided:
    """An observation was news."""

    watch: str
    application_id: str
    origin: Origin
    outcome: Outcome
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RowSkipped:
    """A row cannot be reported."""

    watch: str
    key: str
    application_id: str | None
    reason: str


ASKED_FOR = "asked_for"
"""The cause of what a sweep has found that was asked for, as by a TRUNCATE: nothing that capture had missed."""


@dataclass(frozen=True, slots=True)
class SweepDone:
    """The whole table was compared. `repaired` counts by cause what nothing else had found.

    `resumed`: it was interrupted and went on. What happened meanwhile to rows that it had compared before, it missed.
    """

    watch: str
    rows: int
    seconds: float
    repaired: Mapping[str, int]
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call to HelloWork is over."""

    watch: str
    application_id: str
    outcome: Literal["acknowledged", "retry", "dead"]
    reply: str
    attempt: int
    seconds: float
    waited: float


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """An endpoint opened, paused, throttled or recovered."""

    endpoint: str
    mode: Mode
    reason: str | None
    wait: float


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store cannot be written; nothing is sent or consumed meanwhile.

    `by` is whom it fails: the watch that cannot record, or None for the sender. Each tells its own recovery.
    """

    message: str
    by: str | None = None


@dataclass(frozen=True, slots=True)
class StoreMoved:
    """Another server than before has the shared store, or the same after a restart: sweeps find what it may lack."""


@dataclass(frozen=True, slots=True)
class StoreRecovered:
    """The store can be written again, by whom it had failed."""

    by: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """Somebody brought the admin server another token than the right one. `peer` is the address that he came from."""

    peer: str


@dataclass(frozen=True, slots=True)
class ConnectionDisplaced:
    """All places of the admin server are taken: one that waited longest was cut off for a new one, or that refused."""


Observation = (
    DaemonStarted
    | DaemonStopping
    | DaemonStopped
    | ReloadStarted
    | Reloaded
    | ReloadRefused
    | WatchEnded
    | WatchUnconfigured
    | HeartBeat
    | LoopsHang
    | LoopsMove
    | WatchConnected
    | CaptureStarted
    | WatchLost
    | WatchStandsBy
    | TriggersMissing
    | TriggersFound
    | BellLeftAlone
    | ChangesMissed
    | RowsHidden
    | RowsVisible
    | BaselineProgress
    | BaselineDone
    | BaselineOverEarlierWork
    | StatusRulesChanged
    | ChangesRead
    | CaughtUp
    | ListenerProved
    | CaptureLate
    | CaptureInTime
    | DeliveryLate
    | DeliveryInTime
    | ClockSkewed
    | ClockAgrees
    | Decided
    | RowSkipped
    | SweepDone
    | CallEnded
    | EndpointChanged
    | StoreFailed
    | StoreMoved
    | StoreRecovered
    | TokenRefused
    | ConnectionDisplaced
)

Observe = Callable[[Observation], None]
