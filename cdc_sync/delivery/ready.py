"""The entries in the sender's memory.

An application of an account is in memory once. Of every due entry one of these holds:

- it is in memory (`flying`), or has replaced one that is there and whose call has begun (`begun`): the completion of
  that call says when to read its lane;
- its lane is being read, or is read once the entry is due (`unread`);
- its application is in memory for another watch with the same credentials: its lane is read after that (`behind`).

[Decision 25](../../docs/decisions/0025-one-leader-claims-in-memory.md).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from cdc_sync.core.batch import Applied
from cdc_sync.core.outbox import Applying, DueEntries, Entry, Lane, Wanted
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.delivery.endpoints import Application, Endpoint, Endpoints, SenderSettings
from cdc_sync.delivery.lanes import AT_ONCE, Lanes


def lane_of(entry: Entry) -> Lane:
    """An entry's lane."""
    return endpoint_of(entry.content.url), entry.watch


@dataclass(slots=True)
class Ready:
    """See the module's text. Nothing here waits: each method is one step of the event loop.

    Attributes:
        flying: the entries in memory.
        begun: those whose call has begun, and is not completed.
        applying: the ids of applications about which an apply decides.
        behind: other watches' lanes with an entry of an application in memory.
        loaded: the endpoints with entries whose call has not begun, in the order of their turns.
    """

    endpoints: Endpoints
    lanes: Lanes
    flying: dict[Application, Entry] = field(default_factory=dict)
    begun: dict[Application, Entry] = field(default_factory=dict)
    applying: Counter[str] = field(default_factory=Counter)
    behind: defaultdict[Application, set[Lane]] = field(default_factory=lambda: defaultdict(set))
    loaded: dict[Endpoint, None] = field(default_factory=dict)

    # Beside an apply.

    def begin_apply(self, watch: str, application_ids: Collection[str]) -> Applying:
        """See `core.batch.Calls`."""
        self.applying.update(application_ids)
        begun = {(entry.watch, entry.application_id): entry for entry in self.begun.values()}
        return Applying(watch, tuple(application_ids), begun)

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """See `core.batch.Calls`. Entries of its applications whose calls have not begun leave memory in any case."""
        self.applying.subtract(applying.application_ids)
        account = self._account(applying.watch)
        for id_ in applying.application_ids:
            if not self.applying[id_]:
                del self.applying[id_]
            if (account, id_) in self.flying and (account, id_) not in self.begun:
                self._forget((account, id_))
        if applied is None:
            return
        for origin in applied.corrected:
            self.lanes.read_at((origin, applying.watch), AT_ONCE)
        for entry in applied.entries:
            self._enqueued(entry)

    def _enqueued(self, entry: Entry) -> None:
        """Take a new entry into memory, if it is due, and its lane is read up and has room."""
        lane, now = lane_of(entry), self.lanes.now()
        has_room = len(self.endpoints.of(lane).ready) < self.lanes.share
        if entry.due_at > now or self.lanes.is_unread(lane, now) or not has_room:
            self.lanes.read_at(lane, entry.due_at)
        else:
            self._enter(entry, lane)

    # Reading.

    def wanted(self) -> dict[Lane, Wanted]:
        """What to read now."""
        limits = self.lanes.limits(self.loaded)
        besides = self._in_memory() if limits else {}
        return {
            lane: Wanted(limit, besides.get(lane[1], ()), self.endpoints.of(lane).health.mode in ("open", "paused"))
            for lane, limit in limits.items()
        }

    def _in_memory(self) -> defaultdict[str, list[str]]:
        """By watch, the applications that need not be read: in memory, or behind what is."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for entry in self.flying.values():
            found[entry.watch].append(entry.application_id)
        for (_, application_id), lanes in self.behind.items():
            for _, watch in lanes:
                found[watch].append(application_id)
        return found

    def reading(self, wanted: Iterable[Lane]) -> None:
        """These lanes are being read: they have had their turn."""
        for lane in wanted:
            del self.lanes.unread[lane]

    def found(self, wanted: Iterable[Lane], found: DueEntries | None) -> None:
        """Take what was read into memory; None: it could not be read."""
        if found is None:
            for lane in wanted:
                self.lanes.read_at(lane, AT_ONCE)
            return
        for lane, at in found.next_at.items():
            if at is not None:
                self.lanes.read_at(lane, at)
        for entry in filter(None, chain.from_iterable(zip_longest(*found.entries.values()))):
            self._enter(entry, lane_of(entry))

    def _enter(self, entry: Entry, lane: Lane) -> None:
        """Take a due entry into memory, or see to it that its lane is read again."""
        application = self._account(entry.watch), entry.application_id
        present, endpoint = self.flying.get(application), self.endpoints.of(lane)
        if present is not None:
            if present.watch != entry.watch:  # else a completion says when to read it
                self.behind[application].add(lane)
        elif entry.application_id in self.applying or not self._has_place(endpoint, entry.watch):
            self.lanes.read_at(lane, AT_ONCE)
        else:
            self.flying[application] = endpoint.ready[application] = entry
            self.loaded[endpoint] = None

    def _has_place(self, endpoint: Endpoint, watch: str) -> bool:
        if self.lanes.waits(watch):
            return False
        admitted = self.endpoints.admits(endpoint, self.endpoints.clock())
        return admitted == "all" or (admitted == "probe" and not endpoint.ready)

    # Calls.

    def begin(self) -> tuple[Application, Entry, Endpoint] | None:
        """Begin a call of the endpoint with the fewest under way: a slow one takes nothing that another could use."""
        endpoints, chosen, application = self.endpoints, None, None
        if endpoints.under_way >= endpoints.settings.concurrency:
            return None
        for endpoint in self.loaded:
            is_fewer = chosen is None or endpoint.under_way < chosen.under_way
            if is_fewer and endpoints.may_call(endpoint) and (first := self._first(endpoint)) is not None:
                chosen, application = endpoint, first
                if not chosen.under_way:
                    break
        if chosen is None or application is None:
            return None
        entry = self.begun[application] = chosen.ready.pop(application)
        del self.loaded[chosen]
        if chosen.ready:
            self.loaded[chosen] = None  # at the end of the turns
        endpoints.begin(chosen)
        return application, entry, chosen

    def _first(self, endpoint: Endpoint) -> Application | None:
        """The first application about which no apply decides."""
        if not self.applying:
            return next(iter(endpoint.ready), None)
        return next((each for each in endpoint.ready if each[1] not in self.applying), None)

    def pace_wait(self) -> float:
        """Seconds until a rate limit allows a call; infinite if none waits for that."""
        rate, moment = self.endpoints.settings.rate, self.endpoints.monotonic()
        waits = [] if rate is None else [endpoint.pace.wait(moment) for endpoint in self.loaded]
        return min(filter(None, waits), default=math.inf)

    def completed(self, application: Application) -> None:
        """A call's result is in the store."""
        entry = self.flying.pop(application)
        del self.begun[application]
        self._free(application)
        if entry.watch in self.lanes.moving and all(other.watch != entry.watch for other in self.begun.values()):
            self.lanes.moving.discard(entry.watch)

    # Leaving memory.

    def forget(self, leaves: Callable[[Entry, Endpoint], bool]) -> None:
        """Let entries leave memory whose calls have not begun."""
        for endpoint in list(self.loaded):
            for application, entry in list(endpoint.ready.items()):
                if leaves(entry, endpoint):
                    self._forget(application)

    def use(self, settings: SenderSettings) -> list[str]:
        """See `Endpoints.use`."""
        self.forget(lambda _, __: True)
        former = self.endpoints.settings
        self.lanes.moving |= {
            watch
            for watch in {entry.watch for entry in self.begun.values()}
            if former.owner(watch) != settings.owner(watch)
        }
        return self.endpoints.use(settings)

    def _forget(self, application: Application) -> None:
        entry = self.flying.pop(application)
        lane = lane_of(entry)
        endpoint = self.endpoints.of(lane)
        del endpoint.ready[application]
        if not endpoint.ready:
            del self.loaded[endpoint]
        self._free(application)
        self.lanes.read_at(lane, AT_ONCE)

    def _free(self, application: Application) -> None:
        """An application has left memory: read the lanes that have something else of it."""
        for lane in self.behind.pop(application, ()):
            self.lanes.read_at(lane, AT_ONCE)

    # Within.

    def _account(self, watch: str) -> str:
        return self.endpoints.settings.owner(watch) or ""
