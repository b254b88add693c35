"""The entries in the sender's memory, and which lanes of the outbox are to be read into it.

An endpoint is an origin and an account, such as a customer's; a lane is an endpoint and a watch. An endpoint has room
in memory for its part of eight times `concurrency` entries; one that admits no call keeps its probe alone. The lanes of
an endpoint take turns.

An application is in memory once for each account, and once for each watch. Of every due entry one of these holds:

- it is in memory (`entries`), or has replaced one that is there and whose call has begun (`calling`): the completion of
  that call says when to read its lane;
- its lane is being read, or is read once the entry is due (`Lanes.unread`);
- its application is in memory for another watch of the same account: its lane is read after that (`behind`).

[Decision 25](../../docs/decisions/0025-one-leader-claims-in-memory.md).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from cdc_sync.core.batch import Applied
from cdc_sync.core.outbox import Applying, DueEntries, Entry, EntryId, Lane, Wanted
from cdc_sync.core.replies import Admission

from .endpoints import Endpoint, Endpoints

_ROOM = 8
"""Times `concurrency`: entries in memory whose calls have not begun."""

_LEAST = 2
"""An endpoint's share of the room, however many there are."""

AT_ONCE = 0
"""An early time."""

Application = tuple[str, str]
"""An account, and an application's id. Calls are in order by it."""


def lane_of(entry: Entry) -> Lane:
    """An entry's lane."""
    return entry.content.endpoint, entry.watch


@dataclass(slots=True)
class Lanes:
    """Which lanes are to be read, when, and how much of each.

    Attributes:
        may_send: whether a watch may send now.
        unread: when to read each lane, in the order of their turns.
        share: of the room, for each endpoint; as it was divided last.
    """

    endpoints: Endpoints
    may_send: Callable[[str], bool]
    unread: dict[Lane, int] = field(default_factory=dict)
    share: int = 0

    def read_at(self, lane: Lane, at: int) -> None:
        """Read a lane at that time, or earlier."""
        if at <= self.endpoints.until:
            self.unread[lane] = min(at, self.unread.get(lane, at))

    def waits(self, lane: Lane) -> bool:
        """Whether a lane is not read: its watch is withheld, or its endpoint's account is not configured."""
        endpoint, watch = lane
        return not (self.may_send(watch) and self.endpoints.is_configured(endpoint))

    def admits(self, lane: Lane) -> Admission:
        """What may be sent of a lane now."""
        return "none" if self.waits(lane) else self.endpoints.admits(self.endpoints.of(lane))

    def limits(self, loaded: Collection[Endpoint]) -> dict[Lane, int]:
        """How much to read now, by lane. Their endpoints and the `loaded` ones divide the room into new shares."""
        now, due = self.endpoints.now(), defaultdict[Endpoint, list[Lane]](list)
        for lane, at in self.unread.items():
            if at <= now and self.admits(lane) != "none":
                due[self.endpoints.of(lane)].append(lane)
        room = _ROOM * self.endpoints.settings.concurrency
        self.share = max(room // max(len({*due, *loaded}), 1), _LEAST)
        limits = dict[Lane, int]()
        for endpoint, lanes in due.items():
            left = self.share - len(endpoint.ready)
            if self.endpoints.admits(endpoint) == "probe":
                left = 0 if endpoint.ready else 1
            elif 2 * left < self.share:
                left = 0  # to read few costs as much as to read many
            if left:
                limits.update(dict.fromkeys(lanes[:left], max(left // len(lanes), 1)))
        return limits


@dataclass(slots=True)
class Memory:
    """See the module's text. Nothing here waits: each method is one step of the event loop.

    Attributes:
        entries: the entries in memory.
        calling: those whose call has begun, and is not completed: it may have ended.
        deciding: the ids of applications about which an apply decides, of whatever watch.
        behind: the applications of `entries`, each with other watches' lanes that have an entry of it.
        loaded: the endpoints with entries whose call has not begun, in the order of their turns.
    """

    endpoints: Endpoints
    lanes: Lanes
    entries: dict[EntryId, Entry] = field(default_factory=dict)
    calling: dict[EntryId, Entry] = field(default_factory=dict)
    deciding: Counter[str] = field(default_factory=Counter)
    behind: dict[Application, set[Lane]] = field(default_factory=dict)
    loaded: dict[Endpoint, None] = field(default_factory=dict)

    # Beside an apply.

    def begin_apply(self, watch: str, application_ids: Collection[str]) -> Applying:
        """See `core.batch.BesideApply`."""
        self.deciding.update(application_ids)
        return Applying(watch, tuple(application_ids), dict(self.calling))

    def end_apply(self, applying: Applying, applied: Applied | None) -> None:
        """See `core.batch.BesideApply`. What has not begun of its applications leaves memory in any case."""
        self.deciding.subtract(applying.application_ids)
        for id_ in applying.application_ids:
            if not self.deciding[id_]:
                del self.deciding[id_]
            self._forget_if_ready((applying.watch, id_))
        if applied is None:
            return
        for of in applied.replaced:
            self._forget_if_ready(of)
        for endpoint in applied.corrected:
            self.lanes.read_at((endpoint, applying.watch), AT_ONCE)
        now = self.endpoints.now()
        for entry in applied.entries:
            lane = lane_of(entry)
            is_read_up = self.lanes.unread.get(lane, math.inf) > now
            has_room = not self.lanes.waits(lane) and len(self.endpoints.of(lane).ready) < self.lanes.share
            if entry.due_at <= now and is_read_up and has_room:
                self._enter(entry, lane)
            else:
                self.lanes.read_at(lane, entry.due_at)

    # Reading.

    def take_wanted(self) -> dict[Lane, Wanted]:
        """What to read now. These lanes have had their turn: the answer says when the next one is."""
        limits, wanted = self.lanes.limits(self.loaded), dict[Lane, Wanted]()
        if not limits:
            return wanted
        # By watch, the applications that need not be read: in memory, or behind what is.
        besides: defaultdict[str, list[str]] = defaultdict(list)
        for entry in self.entries.values():
            besides[entry.watch].append(entry.application_id)
        for (_, application_id), lanes in self.behind.items():
            for _, watch in lanes:
                besides[watch].append(application_id)
        for lane, limit in limits.items():
            del self.lanes.unread[lane]
            probing = self.endpoints.of(lane).health.mode in ("open", "paused")
            wanted[lane] = Wanted(limit, besides.get(lane[1], ()), probing)
        return wanted

    def take_in(self, found: DueEntries | None) -> None:
        """Take what was read into memory. None: it could not be read; a look follows."""
        if found is None:
            return
        for lane, at in found.next_at.items():
            if at is not None:
                self.lanes.read_at(lane, at)
        for entry in filter(None, chain.from_iterable(zip_longest(*found.entries.values()))):
            self._enter(entry, lane_of(entry))

    def _enter(self, entry: Entry, lane: Lane) -> None:
        """Take a due entry into memory, or see to it that its lane is read again."""
        of, application = entry.id, (entry.content.account, entry.application_id)
        if of in self.entries:
            return  # a completion says when to read it
        if application in self.behind:
            self.behind[application].add(lane)
            return
        admitted = self.lanes.admits(lane)
        has_place = admitted == "all" or (admitted == "probe" and not self.endpoints.of(lane).ready)
        if entry.application_id in self.deciding or not has_place:
            self.lanes.read_at(lane, AT_ONCE)
            return
        endpoint = self.endpoints.of(lane)
        self.entries[of] = endpoint.ready[of] = entry
        self.behind[application] = set()
        self.loaded[endpoint] = None

    # Calls.

    def begin(self) -> tuple[Entry, Endpoint] | None:
        """Begin a call of the endpoint with the fewest under way: a slow one takes nothing that another could use."""
        endpoints, chosen, of = self.endpoints, None, None
        if endpoints.under_way >= endpoints.settings.concurrency:
            return None
        for endpoint in self.loaded:
            is_fewer = chosen is None or endpoint.under_way < chosen.under_way
            if not (is_fewer and endpoints.may_call(endpoint)):
                continue
            first = next((each for each in endpoint.ready if each[1] not in self.deciding), None)
            if first is not None:
                chosen, of = endpoint, first
                if not chosen.under_way:
                    break
        if chosen is None or of is None:
            return None
        entry = self.calling[of] = chosen.ready.pop(of)
        del self.loaded[chosen]
        if chosen.ready:
            self.loaded[chosen] = None  # at the end of the turns
        endpoints.begin(chosen)
        return entry, chosen

    def seconds_left(self) -> float:
        """Seconds until the next time that a lane is due, its endpoint admits calls again, or a rate limit allows one.

        Infinite if nothing waits for that.
        """
        endpoints, lanes = self.endpoints, self.lanes
        now, moment = endpoints.clock(), endpoints.monotonic()
        unread = [(lane, at) for lane, at in lanes.unread.items() if not lanes.waits(lane)]
        left = [(max(at, endpoints.of(lane).health.until) - now) / 1000 for lane, at in unread]
        if endpoints.settings.rate is not None:
            left += [endpoint.may_call_at - moment for endpoint in self.loaded]
        return min((seconds for seconds in left if seconds > 0), default=math.inf)

    def completed(self, of: EntryId) -> None:
        """The result of an entry's call is in the store."""
        del self.calling[of]
        self._leave(of)

    # Leaving memory.

    def forget(self, leave: Callable[[Lane], bool] = lambda _: True) -> None:
        """Let entries of some lanes leave memory whose calls have not begun."""
        for endpoint in list(self.loaded):
            for of, entry in list(endpoint.ready.items()):
                if leave(lane_of(entry)):
                    self._forget(of)

    def _forget_if_ready(self, of: EntryId) -> None:
        if of in self.entries and of not in self.calling:
            self._forget(of)

    def _forget(self, of: EntryId) -> None:
        lane = lane_of(self.entries[of])
        endpoint = self.endpoints.of(lane)
        del endpoint.ready[of]
        if not endpoint.ready:
            del self.loaded[endpoint]
        self._leave(of)
        self.lanes.read_at(lane, AT_ONCE)

    def _leave(self, of: EntryId) -> None:
        """An application has left memory: read the lanes that have something else of it."""
        entry = self.entries.pop(of)
        for lane in self.behind.pop((entry.content.account, entry.application_id)):
            self.lanes.read_at(lane, AT_ONCE)
