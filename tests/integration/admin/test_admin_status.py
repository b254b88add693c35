"""The status report, as JSON and as the page."""

import json
import os
from html.parser import HTMLParser

import pytest
from support.builders import ENDPOINT, HOUR, MINUTE, NOW, SECOND, a_baseline, a_batch, a_sighting, some_rules
from support.looking import Admin
from support.store_steps import claim_one, lose_answer, reject

from cdc_sync.admin.report import status_report
from cdc_sync.core.endpoint import Health
from cdc_sync.core.outbox import Skip, Suspicion

HOSTILE = "<script>alert('1')</script>\"&amp;<img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


async def fill(admin: Admin, application_id: str = "a1", reason: str = "HTTP 400: no") -> None:
    """A store with one of everything."""
    store, rules = admin.store, some_rules()
    await store.record(rules, a_baseline(a_sighting("known"), a_sighting("gone")))
    await store.record(rules, a_batch(a_sighting(application_id, "seen"), now=NOW - HOUR))
    await reject(store, await claim_one(store), at=NOW - HOUR, reason=reason)
    await store.record(rules, a_batch(a_sighting("known", "hired"), now=NOW - MINUTE))
    await lose_answer(store, await claim_one(store), again_at=NOW + MINUTE)
    skip = Skip((application_id, "2"), application_id, reason)
    await store.record(rules, a_batch(suspicions=[Suspicion("gone", NOW, NOW + SECOND)], skips=[skip]))
    await store.record(some_rules(max_changes=0), a_batch(a_sighting("known2"), now=NOW))
    await store.finish([], {ENDPOINT: Health("paused", 2, NOW + HOUR, reason)})
    await store.set_condition(f"endpoint {ENDPOINT}", f"paused: {reason}", NOW - MINUTE)
    await store.add_repairs("applications", {"missed": 2})


async def test_the_report(admin: Admin) -> None:
    await fill(admin)

    answer = await admin.get("/api/status")

    assert answer.headers["Content-Type"].startswith("application/json")
    report = json.loads(answer.text)
    assert report.pop("daemon") == {"running": True, "process": os.getpid()}
    assert report == await status_report(admin.config, admin.store, NOW)
    assert report["at"] == "2023-01-10T09:00:00.000Z"
    (watch,) = report["watches"]
    assert watch == {
        "watch": "applications",
        "table": "public.applications",
        "mode": "notify",
        "baseline": {"state": "not begun", "rows": 0},
        "known": 4,
        "pending": 1,
        "oldest_pending_seconds": 60.0,
        "held": 1,
        "held_reason": "more than 0 changes at once",
        "fuse": "blown",
        "fuse_reason": "more than 0 changes at once",
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
            "reason": "HTTP 400: no",
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


@pytest.mark.parametrize(
    ("position", "baseline"),
    [
        (None, {"state": "not begun", "rows": 0}),
        ({"done": False, "known": 7}, {"state": "running", "rows": 7}),
        ({"done": True, "known": 9}, {"state": "done", "rows": 9}),
    ],
)
async def test_how_far_the_baseline_is(admin: Admin, position: object, baseline: object) -> None:
    if position is not None:
        await admin.store.record(some_rules(), a_batch(positions={"baseline": json.dumps(position)}))

    report = json.loads((await admin.get("/api/status")).text)

    assert report["watches"][0]["baseline"] == baseline


async def test_the_page_of_a_new_store(admin: Admin) -> None:
    answer = await admin.get("/")

    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert "All is well." in page.texts
    assert page.texts.count("None.") == 3
    assert {"applications", "notify", "sweep repairs", "none"} <= set(page.texts)


async def test_the_page_tells_what_is_wrong(admin: Admin) -> None:
    await fill(admin)

    page = Page((await admin.get("/")).text)

    assert "All is well." not in page.texts
    assert f"endpoint {ENDPOINT}: paused: HTTP 400: no" in page.texts
    assert "fuse applications: more than 0 changes at once" in page.texts
    assert {"timed out", "a1, 2", "2023-01-10T10:00:00.000Z", "missed: 2"} <= set(page.texts)


async def test_what_comes_from_outside_cannot_become_markup(admin: Admin) -> None:
    await fill(admin, HOSTILE, f"HTTP 400: {HOSTILE}")

    page = Page((await admin.get("/")).text)

    assert not {"script", "img"} & set(page.tags)
    assert page.attributes <= {"lang", "charset", "name", "content", "http-equiv", "class", "scope"}
    # As a dead letter, as a row's key, in reasons and conditions.
    assert HOSTILE in page.texts
    assert f"{HOSTILE}, 2" in page.texts
    assert f"endpoint {ENDPOINT}: paused: HTTP 400: {HOSTILE}" in page.texts


async def test_a_refreshed_page_needs_no_script(admin: Admin) -> None:
    answer = await admin.get("/")

    assert "script" not in Page(answer.text).tags
    assert "script-src" not in answer.headers["Content-Security-Policy"]
