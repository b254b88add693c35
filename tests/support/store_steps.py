"""Steps that tests of a store take again and again, through its protocol alone."""

from collections.abc import Sequence

from cdc_sync.core.batch import ApplyResult, Batch, BesideApply, HistoryEntry, Resolved
from cdc_sync.core.outbox import Applying, Entry, Known, Wanted
from cdc_sync.core.replies import Acked, DeadLetter, Finished, Retry, begun
from cdc_sync.core.rows import Reportable, WatchRules
from cdc_sync.store import Store
from support.builders import ENDPOINT, NOW, WATCH, a_baseline, a_batch, an_observation, some_rules


async def adopt(store: Store, *ids: str, watch: str = WATCH, at: int = NOW) -> None:
    """Let HelloWork be taken to know these applications as `applied` for job J1."""
    await store.capture.apply(some_rules(watch), a_baseline(*map(an_observation, ids), now=at))


async def results_of(store: Store, rules: WatchRules, batch: Batch) -> list[ApplyResult]:
    """What was news of a batch that is applied."""
    return list((await store.capture.apply(rules, batch)).results)


async def observe(
    store: Store,
    *found: Reportable | Resolved,
    rules: WatchRules | None = None,
    at: int = NOW,
    under_way: Sequence[Entry] = (),
) -> list[ApplyResult]:
    """Apply observations that capture made, while calls are under way; of a deletion, after its grace."""
    is_deletion = any(isinstance(each, Reportable) and each.content.deleted for each in found)
    batch = a_batch(*found, now=at, origin="deletion" if is_deletion else "notify")
    return list((await store.capture.apply(rules or some_rules(), batch, Begun(*under_way))).results)


async def begin_calls(store: Store, at: int = NOW, *, limit: int = 100, endpoint: str = ENDPOINT) -> list[Entry]:
    """Begin calls of what is due for one endpoint, of each watch so many at most. The store does not know of it."""
    lanes = [lane for lane in await store.delivery.lanes() if lane[0] == endpoint]
    found = await store.delivery.due(dict.fromkeys(lanes, Wanted(limit)), at)
    return [begun(entry, at) for lane in lanes for entry in found.entries[lane]]


async def begin_call(store: Store, at: int = NOW) -> Entry:
    (entry,) = await begin_calls(store, at)
    return entry


class Begun(BesideApply):
    """A sender whose calls with these entries have begun."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = {(entry.watch, entry.application_id): entry for entry in entries}

    def begin_apply(self, watch: str, application_ids: Sequence[str]) -> Applying:
        return Applying(watch, application_ids, self.entries)


async def acknowledge(store: Store, *entries: Entry, at: int = NOW) -> None:
    """HelloWork answered 200."""
    await store.delivery.complete([Finished(entry, Acked(), {"http": 200}, at) for entry in entries], {})


async def lose_answer(store: Store, entry: Entry, *, at: int = NOW, again_at: int | None = None) -> None:
    """Nobody knows whether HelloWork heard it; to be tried again."""
    result = Retry(at if again_at is None else again_at)
    await store.delivery.complete([Finished(entry, result, {"reason": "timed out"}, at)], {})


async def reject(store: Store, entry: Entry, *, at: int = NOW) -> None:
    rejected = Finished(entry, DeadLetter("HTTP 400"), {"http": 400, "reason": "HTTP 400"}, at)
    await store.delivery.complete([rejected], {})


async def bury(store: Store, *observations: Reportable) -> None:
    """Record observations and let HelloWork refuse the calls."""
    await observe(store, *observations)
    for entry in await begin_calls(store):
        await reject(store, entry)


async def entry_of(store: Store, application_id: str = "a1", watch: str = WATCH) -> Entry | None:
    for record in await store.report.records(application_id, watch):
        return record.entry
    return None


async def waiting_entry(store: Store, application_id: str = "a1", watch: str = WATCH) -> Entry:
    entry = await entry_of(store, application_id, watch)
    assert entry is not None
    return entry


async def known_one(store: Store, application_id: str = "a1", watch: str = WATCH) -> Known:
    return (await store.capture.known(watch, [application_id]))[application_id]


async def told_status(store: Store, application_id: str = "a1", watch: str = WATCH) -> str | None:
    """The status that HelloWork is taken to know; None if it was told nothing."""
    snapshot = (await known_one(store, application_id, watch)).snapshot
    return None if snapshot is None else snapshot.status


async def events_of(store: Store, application_id: str = "a1") -> list[str]:
    """The names of what happened to an application, oldest first."""
    return [event.event for event in await story_of(store, application_id)]


async def story_of(store: Store, application_id: str = "a1") -> list[HistoryEntry]:
    return await store.report.story(application_id, 1000)
