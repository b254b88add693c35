"""The status report as JSON."""

import json
import os

from support.builders import ENDPOINT, NOW
from support.looking import Admin, fill

from cdc_sync.admin.report import status_report


async def test_the_report(admin: Admin) -> None:
    await fill(admin.store)

    answer = await admin.get("/api/status")

    assert answer.headers["Content-Type"].startswith("application/json")
    report = json.loads(answer.text)
    assert report.pop("daemon") == {"running": True, "process": os.getpid()}
    assert report == await status_report(admin.config, admin.store, NOW)
    assert report["at"] == "2023-01-10T09:00:00.000Z"
    (watch,) = report["watches"]
    assert watch == {
        "watch": "applications",
        "configured": True,
        "table": "public.applications",
        "mode": "notify",
        "baseline": {"state": "not begun", "rows": 0},
        "over_earlier_work": False,
        "known": 4,
        "last_change_at": "2023-01-10T09:00:00.000Z",
        "pending": 1,
        "oldest_pending_seconds": 60.0,
        "held": 1,
        "held_reason": "more than 0 changes at once (fuse.max_changes)",
        "fuse": "blown",
        "fuse_reason": "more than 0 changes at once (fuse.max_changes)",
        "dead_letters": 1,
        "skipped": 1,
        "suspected_deletions": 1,
        "sweep_repairs": {"missed": 2},
    }
    assert report["endpoints"] == [
        {
            "endpoint": ENDPOINT,
            "mode": "paused",
            "failures": 2,
            "until": "2023-01-10T10:00:00.000Z",
            "retried_at": "2023-01-10T10:00:00.000Z",
            "late_seconds": 0.0,
            "reason": "HTTP 400: no",
            "sending_paused": False,
        }
    ]
    assert [(item["name"], item["since"]) for item in report["conditions"]] == [
        (f"endpoint {ENDPOINT}", "2023-01-10T08:59:00.000Z")
    ]
    assert [(item["application_id"], item["event"], item["reason"]) for item in report["last_failures"]] == [
        ("known", "answered", "timed out"),
        ("a1", "dead-lettered", "HTTP 400: no"),
    ]
    assert report["skipped_rows"] == [
        {"watch": "applications", "application_id": "a1", "key": ["a1", "2"], "reason": "HTTP 400: no"}
    ]
