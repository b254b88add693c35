"""The status report of `cdc-sync status`, `/api/status`, `/readyz`, `/metrics` and the page.

Functions raise `StoreError`.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict

from cdc_sync.admin.watches import Json
from cdc_sync.ats.beginning import BASELINE, OVER_EARLIER_WORK
from cdc_sync.config import Config
from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.conditions import is_standby
from cdc_sync.core.content import iso
from cdc_sync.core.diff import Fuse
from cdc_sync.core.replies import is_paused
from cdc_sync.store import Store
from cdc_sync.store.lead import present_leader
from cdc_sync.store.operation import Condition
from cdc_sync.store.report import WatchCounts

RECENT = 20
"""Last failures, and rows that cannot be reported of each watch."""


async def status_report(config: Config, store: Store, now: int, here: Iterable[Condition] = ()) -> Json:
    """Watches, pending entries, endpoints, conditions, last failures; `now` is in milliseconds since the epoch.

    `here` are this process's conditions, which an unwritable store lacks.
    """
    noted = {each.name: each for each in await store.operation.conditions()}
    noted |= {each.name: each for each in here if each.name not in noted or noted[each.name].message != each.message}
    conditions = [{**asdict(each), "since": iso(each.since)} for each in noted.values()]
    leader = await present_leader(store)
    skipped = await store.report.skipped_of_each(config.watches, RECENT)
    return {
        "at": iso(now),
        "leader": leader and {"host": leader.host, "process": leader.process, "since": iso(leader.since)},
        "watches": await _watches(config, store, now),
        "endpoints": await _endpoints(store, now),
        "accounts_waiting": await store.delivery.waiting(),
        "conditions": [each for each in conditions if not is_standby(each["name"])],
        "standby": [each for each in conditions if is_standby(each["name"])],
        "last_failures": [_failure(each) for each in await store.report.recent_ends(RECENT, failed=True)],
        "skipped_rows": [{"watch": name, **asdict(skip), "key": list(skip.key)} for name, skip in skipped],
    }


def _failure(entry: HistoryEntry) -> Json:
    return {
        "watch": entry.watch,
        "application_id": entry.application_id,
        "at": iso(entry.at),
        "event": entry.event,
        "reason": entry.detail.get("reason"),
    }


async def _watches(config: Config, store: Store, now: int) -> list[Json]:
    """The configured watches, then those that only the store knows."""
    counts, held = await store.report.counts(), await store.report.oldest("held")
    repairs, fuses = await store.operation.repairs(), await store.operation.fuses()
    positions = await store.report.positions_of_all(BASELINE, OVER_EARLIER_WORK)
    found = []
    for name in (*config.watches, *sorted(counts.keys() - config.watches.keys())):
        has, at, fuse = counts.get(name, WatchCounts()), positions.get(name, {}), fuses.get(name, Fuse())
        oldest = has.oldest_queued_at
        found.append(
            {
                "watch": name,
                **_configured(config, name),
                "baseline": _baseline(at.get(BASELINE)),
                "over_earlier_work": OVER_EARLIER_WORK in at,
                "known": has.known,
                "last_change_at": None if has.changed_at is None else iso(has.changed_at),
                "pending": has.pending,
                "oldest_pending_seconds": None if oldest is None else max(now - oldest, 0) / 1000,
                "held": has.held,
                "dead_letters": has.dead,
                "skipped": has.skipped,
                "suspected_deletions": has.suspected,
                # With an intact fuse: of a suspected deletion.
                "held_reason": held[name].reason if name in held else None,
                "fuse": "whole" if fuse.blown_at is None else "blown",
                "fuse_reason": fuse.reason,
                "sweep_repairs": repairs.get(name, {}),
            }
        )
    return found


def _configured(config: Config, name: str) -> Json:
    watch = config.watches.get(name)
    return {
        "configured": watch is not None,
        **({"database": watch and config.database_name(name)} if len(config.all_databases) > 1 else {}),
        "table": watch and str(watch.table),
        "mode": watch and watch.capture.mode,
    }


def _baseline(position: str | None) -> Json:
    if position is None:
        return {"state": "not begun", "rows": 0}
    saved = json.loads(position)
    return {"state": "done" if saved["done"] else "running", "rows": saved["known"]}


async def _endpoints(store: Store, now: int) -> list[Json]:
    """The endpoints' states.

    `late_seconds`: for how long the earliest pending call has been due, null if none is pending; `retried_at` is null
    if no call is to come.
    """
    clock, paused = store.driver.clock, await store.operation.paused()
    found = []
    for endpoint, (health, due_at) in (await store.delivery.endpoints()).items():
        takes_calls, sending_paused = health.mode == "healthy", is_paused(paused, endpoint)
        is_retried = not takes_calls and not sending_paused and due_at is not None
        found.append(
            {
                "endpoint": endpoint,
                **asdict(health),
                "until": None if takes_calls else iso(clock.for_people(health.until)),
                "retried_at": iso(clock.for_people(max(health.until, due_at or 0))) if is_retried else None,
                "late_seconds": None if due_at is None else max(now - clock.for_people(due_at), 0) / 1000,
                "sending_paused": sending_paused,
            }
        )
    return found


def held_back(report: Json) -> dict[str, str]:
    """Why entries of watches are held, by the names under which readiness gives it."""
    reasons = {}
    for each in report["watches"]:
        if each["fuse"] == "blown":
            reasons[f"fuse {each['watch']}"] = f"blown, {each['fuse_reason']}; see `cdc-sync fuse show`"
        elif each["held"]:
            reasons[f"held {each['watch']}"] = f"{each['held_reason']}; see `cdc-sync fuse show`"
    return reasons
