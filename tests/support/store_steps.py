"""Steps that tests of a store take again and again, through its protocol alone."""

from cdc_sync.core.batch import ApplyResult, Batch, HistoryEntry, Resolved
from cdc_sync.core.outbox import Entry, Known
from cdc_sync.core.replies import Acked, DeadLetter, Finished, Retry
from cdc_sync.core.rows import Reportable, WatchRules
from cdc_sync.store import Store
from support.builders import ENDPOINT, HOUR, NOW, WATCH, a_baseline, a_batch, an_observation, some_rules

HORIZON = 24 * HOUR
"""No due time of these tests is further ahead than that, unless it is about a clock's mistake."""


async def adopt(store: Store, *ids: str, watch: str = WATCH, at: int = NOW) -> None:
    """Let HelloWork be taken to know these applications as `applied` for job J1."""
    await store.apply(some_rules(watch), a_baseline(*map(an_observation, ids), now=at))


async def results_of(store: Store, rules: WatchRules, batch: Batch) -> list[ApplyResult]:
    """What was news of a batch that is applied."""
    return list((await store.apply(rules, batch)).results)


async def observe(
    store: Store, *found: Reportable | Resolved, rules: WatchRules | None = None, at: int = NOW
) -> list[ApplyResult]:
    """Apply observations that capture made; of a deletion, after its grace."""
    is_deletion = any(isinstance(each, Reportable) and each.content.deleted for each in found)
    batch = a_batch(*found, now=at, origin="deletion" if is_deletion else "notify")
    return await results_of(store, rules or some_rules(), batch)


async def claim(store: Store, at: int = NOW, *, limit: int = 100, endpoint: str = ENDPOINT) -> list[Entry]:
    """Claim what is due for one endpoint, of each watch so many at most."""
    _, lanes = await store.look()
    wanted = [lane for lane in lanes if lane[0] == endpoint]
    return await store.claim(at, HORIZON, dict.fromkeys([(endpoint, WATCH), *wanted], limit))


async def claim_one(store: Store, at: int = NOW) -> Entry:
    (entry,) = await claim(store, at)
    return entry


async def acknowledge(store: Store, *entries: Entry, at: int = NOW) -> None:
    """HelloWork answered 200."""
    await store.complete([Finished(entry, Acked(), {"http": 200}, at) for entry in entries], {})


async def lose_answer(store: Store, entry: Entry, *, at: int = NOW, again_at: int | None = None) -> None:
    """Nobody knows whether HelloWork heard it; to be tried again."""
    result = Retry(at if again_at is None else again_at)
    await store.complete([Finished(entry, result, {"reason": "timed out"}, at)], {})


async def reject(store: Store, entry: Entry, *, at: int = NOW, reason: str = "HTTP 400") -> None:
    await store.complete([Finished(entry, DeadLetter(reason), {"http": 400}, at)], {})


async def bury(store: Store, *observations: Reportable) -> None:
    """Record observations and let HelloWork refuse the calls."""
    await observe(store, *observations)
    for entry in await claim(store):
        await reject(store, entry)


async def entry_of(store: Store, application_id: str = "a1", watch: str = WATCH) -> Entry | None:
    for record in await store.records(application_id, watch):
        return record.entry
    return None


async def waiting_entry(store: Store, application_id: str = "a1", watch: str = WATCH) -> Entry:
    entry = await entry_of(store, application_id, watch)
    assert entry is not None
    return entry


async def known_one(store: Store, application_id: str = "a1", watch: str = WATCH) -> Known:
    return (await store.known(watch, [application_id]))[application_id]


async def told_status(store: Store, application_id: str = "a1", watch: str = WATCH) -> str | None:
    """The status that HelloWork is taken to know; None if it was told nothing."""
    snapshot = (await known_one(store, application_id, watch)).snapshot
    return None if snapshot is None else snapshot.status


async def events_of(store: Store, application_id: str = "a1") -> list[str]:
    """The names of what happened to an application, oldest first."""
    return [event.event for event in await story_of(store, application_id)]


async def story_of(store: Store, application_id: str = "a1") -> list[HistoryEntry]:
    return await store.story(application_id, None, 1000)
