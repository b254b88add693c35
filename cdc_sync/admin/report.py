"""The status report: the same for `cdc-sync status`, `GET /api/status` and the page."""

import json
from typing import Any

from cdc_sync.config import Config
from cdc_sync.core.conditions import is_standby
from cdc_sync.core.delivery import is_paused
from cdc_sync.core.payload import iso
from cdc_sync.store.protocol import WatchCounts
from cdc_sync.store.store import Store

_BASELINE = "baseline"
_OVER_EARLIER_WORK = "baseline over earlier work"
_RECENT = 20


async def status_report(config: Config, store: Store, now: int) -> dict[str, Any]:
    """Watches, lag, what waits, what is wrong, the last errors; `now` is in milliseconds since the epoch.

    After the configured watches come those that only the store knows: what waits of them is sent all the same.

    Raises:
        StoreError: the store cannot be read.
    """
    counts, repairs, fuses = await store.counts(), await store.repairs(), await store.fuses()
    watches = []
    for name in (*config.watches, *sorted(counts.keys() - config.watches.keys())):
        watch = config.watches.get(name)
        of_watch = counts.get(name, WatchCounts())
        fuse = fuses.get(name)
        positions = await store.positions(name)
        oldest = of_watch.oldest_queued_at
        watches.append(
            {
                "watch": name,
                "configured": watch is not None,
                "table": None if watch is None else str(watch.table),
                "mode": None if watch is None else watch.capture.mode,
                "baseline": _baseline(positions.get(_BASELINE)),
                "over_earlier_work": _OVER_EARLIER_WORK in positions,
                "known": of_watch.known,
                "last_change_at": None if of_watch.changed_at is None else iso(of_watch.changed_at),
                "pending": of_watch.pending,
                "oldest_pending_seconds": None if oldest is None else max(now - oldest, 0) / 1000,
                "held": of_watch.held,
                "held_reason": await _held_reason(store, name),
                "fuse": "blown" if fuse is not None and fuse.blown_at is not None else "whole",
                "fuse_reason": None if fuse is None else fuse.reason,
                "dead_letters": of_watch.dead,
                "skipped": of_watch.skipped,
                "suspected_deletions": of_watch.suspected,
                "sweep_repairs": repairs.get(name, {}),
            }
        )
    paused = await store.paused()
    endpoints = [
        {
            "endpoint": endpoint,
            "mode": health.mode,
            "failures": health.failures,
            "until": iso(store.clock.for_people(health.until)) if health.mode != "healthy" else None,
            "reason": health.reason,
            "sending_paused": is_paused(paused, endpoint),
        }
        for endpoint, (health, _) in (await store.endpoints()).items()
    ]
    noted = [
        {"name": condition.name, "message": condition.message, "since": iso(condition.since)}
        for condition in await store.conditions()
    ]
    standby = [condition for condition in noted if is_standby(condition["name"])]
    conditions = [condition for condition in noted if condition not in standby]
    failures = [
        {
            "watch": event.watch,
            "application_id": event.application_id,
            "at": iso(event.at),
            "event": event.event,
            "reason": event.detail.get("reason"),
        }
        for event in await store.recent_ends(_RECENT, failed=True)
    ]
    skipped = [
        {
            "watch": name,
            "application_id": skip.application_id,
            "key": list(skip.key),
            "reason": skip.reason,
        }
        for name in config.watches
        for skip in await store.skipped(name, _RECENT)
    ]
    return {
        "at": iso(now),
        "watches": watches,
        "endpoints": endpoints,
        "conditions": conditions,
        "standby": standby,
        "last_failures": failures,
        "skipped_rows": skipped,
    }


async def _held_reason(store: Store, watch: str) -> str | None:
    """Why the oldest held entry is: with a whole fuse, since its deletion is doubted."""
    held = await store.entries("held", watch, 1)
    return held[0].reason if held else None


def _baseline(text: str | None) -> dict[str, Any]:
    if text is None:
        return {"state": "not begun", "rows": 0}
    position = json.loads(text)
    return {"state": "done" if position["done"] else "running", "rows": position["known"]}
