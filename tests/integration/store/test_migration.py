"""Stores that earlier versions wrote, opened by this one: see `tests/old_stores`."""

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from old_stores import OLD_STORES, OldStore
from support import acting
from support.postgres import Cluster, fresh_database
from support.upgrading import OldData, OldFile, OldSchema, Row, Tables

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.core.fuse import Fuse
from cdc_sync.core.outbox import Skip, Suspicion, Wanted
from cdc_sync.core.reasons import from_text
from cdc_sync.core.replies import HEALTHY
from cdc_sync.core.status_url import DEFAULT_ACCOUNT
from cdc_sync.store import Store
from cdc_sync.store.report import CallCounts
from cdc_sync.store.sqlite.driver import SqliteDriver
from cdc_sync.store.statements import SCHEMA

WATCHES = ("applications", "direct", "polled")
FUTURE = 2**62


@contextmanager
def restored(old: OldStore, folder: Path, request: pytest.FixtureRequest) -> Iterator[OldData]:
    if old.backend == "sqlite":
        yield OldFile(old, folder)
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        with fresh_database(cluster) as dsn:
            yield OldSchema(old, dsn)


@pytest.fixture(scope="module", params=OLD_STORES, ids=lambda old: old.name)
def old(request: pytest.FixtureRequest) -> OldStore:
    found: OldStore = request.param
    return found


@pytest.fixture(scope="module")
def data(old: OldStore, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[OldData]:
    """One for the tests that only look; the first of them brings it up to date."""
    with restored(old, tmp_path_factory.mktemp("old"), request) as found:
        yield found


@pytest.fixture(scope="module")
def before(old: OldStore, data: OldData) -> Tables:
    """What its tables held; asked before it is opened."""
    found = data.tables()
    rows = {**found, **{name: list(map(as_until_4, found[name])) for name in ("snapshot", "outbox")}}
    for row in [row for row in (*rows["snapshot"], *rows["outbox"]) if old.has_decisions and row["watch"] == "direct"]:
        # It had headers of its own, which are an account of its name.
        row["account"] = "direct"
        if row.get("endpoint"):
            row["endpoint"] += " [direct]"
    return {name: list(map(with_sentences, of_table)) for name, of_table in rows.items()}


def with_sentences(row: Row) -> Row:
    """A row with its reasons as people read them: from schema 7 on each has a code and values too."""
    return {**row, **{name: from_text(row[name]) for name in ("reason", "message") if name in row}}


def as_until_4(row: Row) -> Row:
    """A row of schema 8 as those of 0.1.0 were: a column for each field, and an attempt counted when it is claimed."""
    if "metadata" not in row:
        return row
    row = {"claimed_by": None, **row}
    sent = dict.fromkeys(("created", "event_date", "source", "extra", "url")) | json.loads(row["metadata"] or "{}")
    if "acknowledged_at" in row:
        at = row["acknowledged_at"]
        return {**row, **sent, "told_at": -at if at and row["adopted"] else at}
    claimed = row["claimed_by"] is not None
    return {**row, **sent, "attempted": row["attempted"] or claimed, "attempts": row["attempts"] + claimed}


@pytest.fixture
async def store(before: Tables, data: OldData) -> AsyncIterator[Store]:
    opened = await data.open()
    yield opened
    await opened.driver.close()


def content(row: Row) -> Content | None:
    """What a row of `snapshot` or `outbox` says, as every version has kept it until schema 4."""
    names = ("status", "job_id", "deleted", "created", "event_date", "source", "extra", "url")
    status, job_id, deleted, *rest = (row[name] for name in names)
    if status is None:
        return None
    return Content(status, job_id, bool(deleted), *rest)._replace(account=row.get("account", DEFAULT_ACCOUNT))


def entries_of(before: Tables, state: str) -> list[Row]:
    return [row for row in before["outbox"] if row["state"] == state]


def ids_of(before: Tables, watch: str) -> list[str]:
    return [row["application_id"] for row in before["snapshot"] if row["watch"] == watch]


class TestEveryState:
    async def test_the_store_has_this_versions_schema(self, old: OldStore, store: Store, data: OldData) -> None:
        assert data.schema() == SCHEMA

    async def test_the_acknowledged_and_adopted_states_are_the_same(self, store: Store, before: Tables) -> None:
        for watch in WATCHES:
            known = await store.capture.known(watch, ids_of(before, watch))
            for row in (row for row in before["snapshot"] if row["watch"] == watch):
                found = known[row["application_id"]]
                assert (found.number, list(found.key), found.in_scope) == (
                    *(row["number"], json.loads(row["row_key"])),
                    bool(row["in_scope"]),
                )
                assert found.snapshot == content(row)
                assert found.is_acknowledged == ((row["told_at"] or 0) > 0)
                (record,) = await store.report.records(row["application_id"], watch)
                assert record.snapshot == content(row)
                assert record.acknowledged_at == (row["told_at"] and abs(row["told_at"]))
        assert await store.capture.highest_number() == max(row["number"] for row in before["snapshot"])

    @pytest.mark.parametrize("state", ["pending", "held", "dead"])
    async def test_the_outbox_is_the_same(self, store: Store, before: Tables, state: Any) -> None:
        found = await store.report.entries(state, None, 100)
        # The attempt that a claim counted as has begun at some time; only some versions noted it.
        claimed = {row["application_id"] for row in before["outbox"] if row.get("claimed_by") is not None}
        assert all(entry.first_attempt_at for entry in found if entry.application_id in claimed)
        found = [entry._replace(first_attempt_at=None) if entry.application_id in claimed else entry for entry in found]
        # As people read it: a clock that is behind the newest event of the history shifts what is due.
        shift = store.driver.clock.shift
        assert sorted(described(entry._asdict() | {"content": entry.content._asdict()}) for entry in found) == sorted(
            described(
                {
                    **row,
                    "content": vars_of(content(row)),
                    "kinds": frozenset(row["kinds"].split()),
                    "attempted": bool(row["attempted"]),
                    "first_attempt_at": None if row["application_id"] in claimed else row["first_attempt_at"],
                    "queued_at": row["queued_at"] + shift,
                    "due_at": row["due_at"] + shift,
                    "reason": from_text(row["reason"]),
                }
            )
            for row in entries_of(before, state)
        )

    async def test_a_decision_finds_the_pending_entry(self, store: Store, before: Tables) -> None:
        for row in before["outbox"]:
            known = (await store.capture.known(row["watch"], [row["application_id"]]))[row["application_id"]]
            assert known.entry is not None
            assert (known.entry.content, known.entry.attempted) == (content(row), bool(row["attempted"]))

    async def test_the_numbers_are_the_same(self, store: Store, before: Tables) -> None:
        counts = await store.report.counts()

        for watch in WATCHES:
            of = counts[watch]
            states = Counter(row["state"] for row in before["outbox"] if row["watch"] == watch)
            assert (of.pending, of.held, of.dead) == (states["pending"], states["held"], states["dead"])
            assert of.known == len(ids_of(before, watch))
            assert of.skipped == len([row for row in before["skipped"] if row["watch"] == watch])
            assert of.suspected == len([row for row in before["suspicion"] if row["watch"] == watch])
            tallies = before.get("tally") or before.get("watch") or []
            changed = [row["changed_at"] for row in tallies if watch in (row.get("watch"), row.get("name"))]
            assert of.changed_at == (changed[0] if changed else None)

    async def test_suspicions_are_the_same(self, store: Store, before: Tables) -> None:
        for watch in WATCHES:
            rows = [row for row in before["suspicion"] if row["watch"] == watch]
            expected = [Suspicion(row["application_id"], row["at"], row["due_at"]) for row in rows]
            assert await store.capture.due_suspicions(watch, FUTURE, 10) == expected
            assert await store.capture.suspected(watch, ids_of(before, watch)) == {
                each.application_id for each in expected
            }
            assert await store.capture.next_suspicion(watch) == min((each.due_at for each in expected), default=None)

    async def test_rows_that_cannot_be_reported_are_the_same(self, store: Store, before: Tables) -> None:
        (row,) = before["skipped"]

        found = await store.report.skipped([row["watch"]], 10)

        skip = Skip(tuple(json.loads(row["row_key"])), row["application_id"], from_text(row["reason"]))
        assert found == [(row["watch"], skip)]

    async def test_positions_are_the_same(self, store: Store, before: Tables) -> None:
        for watch in WATCHES:
            expected = {row["name"]: row["value"] for row in before["position"] if row["watch"] == watch}
            assert await store.capture.positions(watch) == expected

    async def test_the_database_that_it_belongs_to_is_the_same(self, store: Store, before: Tables) -> None:
        about = {row["name"]: row["value"] for row in before["about"]}

        assert await store.databases.identity() == about["database"]
        before = json.loads(about.get("hosts", '{"hosts": []}'))["hosts"]
        assert await store.databases.hosts() == tuple(before)

    async def test_the_endpoints_health_is_the_same(self, store: Store, before: Tables) -> None:
        endpoints = await store.delivery.endpoints()

        pending = {row["endpoint"] for row in entries_of(before, "pending")}
        assert endpoints.keys() == {row["endpoint"] for row in before["endpoint"]} | pending
        for row in before["endpoint"]:
            # `turn` counted how often an endpoint began to refuse our credentials; `refused` was a fingerprint of them.
            gone = {"turn", "refused"}
            kept = {name: value for name, value in json.loads(row["health"]).items() if name not in gone}
            expected = HEALTHY._asdict() | kept
            assert endpoints[row["endpoint"]][0]._asdict() == expected | {"reason": from_text(expected["reason"])}

    async def test_what_people_decided_is_the_same(self, old: OldStore, store: Store, before: Tables) -> None:
        (record,) = await store.report.records("applications-11", "applications")

        assert record.discarded == old.has_decisions
        assert await store.operation.paused() == ({old.paused} if old.has_decisions else set())
        assert await store.driver.value("about", name="actions") is None, "who did what is in the history"

    async def test_fuses_are_the_same(self, store: Store, before: Tables) -> None:
        kept = before.get("fuse") or before["watch"]
        expected = {row.get("watch") or row["name"]: row.get("state") or row.get("fuse") for row in kept}

        assert await store.operation.fuses() == {
            watch: _fuse(**json.loads(text)) for watch, text in expected.items() if text
        }

    async def test_the_history_is_the_same(self, store: Store, before: Tables) -> None:
        expected = [
            HistoryEntry(row["at"], row["watch"], row["application_id"], row["event"], json.loads(row["detail"]))
            for row in sorted(before["history"], key=lambda row: row["number"])
        ]

        for id_ in {each.application_id for each in expected}:
            assert await store.report.story(id_, 100) == [each for each in expected if each.application_id == id_]

    async def test_the_tallies_are_the_same(self, store: Store, before: Tables) -> None:
        repairs = {(row["watch"], row["cause"]): row["count"] for row in before["repair"]}
        calls: dict[int, dict[str, int]] = {}
        for row in before.get("call_count", []):
            calls.setdefault(row["step"], {})[row["outcome"]] = row["count"]

        found = await store.operation.repairs()

        assert {(watch, cause): n for watch, of in found.items() for cause, n in of.items()} == repairs
        assert await store.report.call_counts(0) == [CallCounts(step, **of) for step, of in sorted(calls.items())]

    async def test_the_conditions_are_found_anew(self, store: Store) -> None:
        assert await store.operation.conditions() == []

    async def test_sweeps_pass_over_what_was_verified(self, old: OldStore, store: Store, before: Tables) -> None:
        if old.backend == "sqlite" and not old.has_decisions:
            pytest.skip("the first sweep after 0.1.0 reads each row")
        verified = [row for row in before["snapshot"] if row.get("verified")]
        waiting = {(row["watch"], row["application_id"]) for row in before["outbox"]}

        for row in verified:
            (found,) = await store.capture.compare(row["watch"], json.dumps([f"{row['verified']}{row['row_key']}"]))
            assert found == (-1 if (row["watch"], row["application_id"]) in waiting else row["number"])

    async def test_it_works_on(
        self, old: OldStore, before: Tables, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        with restored(old, tmp_path, request) as data:
            store = await data.open()
            try:
                assert len(await acting.retry_dead(store, None, 1)) == 1
                assert len(await acting.discard(store, "held", "polled", 1)) == 3
                assert len(await acting.resend(store, "applications", ["applications-1"], 1)) == 1
                await store.delivery.begin_sending()

                wanted = dict.fromkeys([(row["endpoint"], row["watch"]) for row in before["outbox"]], Wanted(50))
                found = await store.delivery.due(wanted, store.driver.clock())

                assert sum(map(len, found.entries.values())) == 9
            finally:
                await store.driver.close()


def shape_of(path: Path) -> dict[str, str]:
    """What a file has, by name, in one form."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {name: " ".join(text.replace("IF NOT EXISTS ", "").replace('"', "").split()) for name, text in rows}


@pytest.mark.parametrize("old", [old for old in OLD_STORES if old.backend == "sqlite"], ids=lambda old: old.name)
async def test_a_file_has_the_schema_of_a_new_one_afterwards(old: OldStore, tmp_path: Path) -> None:
    upgraded = OldFile(old, tmp_path)

    await (await upgraded.open()).driver.close()
    await SqliteDriver(tmp_path / "new.db").close()

    assert shape_of(upgraded.path) == shape_of(tmp_path / "new.db")


WITH_DECISIONS = [pytest.param(old, id=old.name) for old in OLD_STORES if old.has_decisions]
API, OTHER = "https://api.example:443", "https://other.example:443"
OWNERS = {"jobs@acme": "jobs", "jobs@beta": "jobs", "equal": "direct", "direct": "direct", "polled": None}
"""Of the headers of a template's tenants, of two watches with equal ones, and of one without any."""


@pytest.mark.parametrize("old", WITH_DECISIONS)
@pytest.mark.parametrize(
    ("paused", "then"),
    [
        ([], set()),
        (["", API], {"", API}),
        ([f"{API} [jobs]"], {f"{API} [jobs]", f"{API} [jobs@acme]", f"{API} [jobs@beta]"}),
        ([f"{API} [direct]", OTHER], {f"{API} [direct]", f"{API} [equal]", OTHER}),
    ],
)
async def test_who_shared_paused_headers_is_paused(
    old: OldStore, paused: list[str], then: set[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with restored(old, tmp_path, request) as data:
        data.set_note("credentials", json.dumps(OWNERS))
        data.set_note("paused", json.dumps(paused))
        store = await data.open()
        try:
            assert await store.operation.paused() == then
        finally:
            await store.driver.close()


def vars_of(found: Content | None) -> dict[str, Any]:
    assert found is not None
    return found._asdict()


def described(entry: dict[str, Any]) -> str:
    """What an entry and a row of the outbox have in common, as text that can be sorted."""
    names = ("watch", "application_id", "content", "kinds", "state", "revision", "queued_at", "due_at", "attempted")
    more = ("attempts", "first_attempt_at", "not_found_since", "reason")
    return repr([sorted(v) if isinstance(v := entry[name], frozenset) else v for name in (*names, *more)])


def _fuse(window_start: int | None = None, **fields: Any) -> Fuse:
    """A blown one goes on holding everything: nobody knows whether an edited map blew it, before schema 7."""
    if window_start is None:
        return Fuse(**fields | {"reason": from_text(fields["reason"])})
    return Fuse(at=window_start, holds_all=fields["blown_at"] is not None, **fields)
