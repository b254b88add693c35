"""A page goes to the records that it names, and never through all of a table, whatever the planner knows of it."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from support.builders import WATCH
from support.postgres import Cluster, fresh_database

from cdc_sync.core.failures import StoreError
from cdc_sync.store import Store
from cdc_sync.store.driver import Transaction
from cdc_sync.store.postgres.driver import PostgresDriver, PostgresTransaction, array
from cdc_sync.store.statements import statements

_PLANS_FOR_VALUES = 120_000
"""The first server version that can be asked to plan a prepared statement for its values."""

_KNOWN, _PAGE = 10_000, 500

_KNOW = """
INSERT INTO cdc_sync.snapshot (watch, application_id, row_key, status, job_id, deleted, metadata, acknowledged_at,
                               adopted, verified)
SELECT %(watch)s, 'hw-' || i, '["' || i || '"]', 'S', 'j', FALSE, '{}', 1, TRUE, '0123456789abcdef'
  FROM generate_series(1, %(known)s) AS i
"""
_QUEUE = """
INSERT INTO cdc_sync.outbox (watch, application_id, status, job_id, deleted, metadata, kinds, state, revision,
                             queued_at, due_at, attempted, attempts, endpoint)
SELECT watch, application_id, status, job_id, deleted, metadata, 'changed', 'pending', 1, 1, 1, FALSE, 0, 'e'
  FROM cdc_sync.snapshot WHERE number > %(page)s
"""

_WAIT = """
INSERT INTO cdc_sync.outbox (watch, application_id, status, job_id, deleted, metadata, kinds, state, revision,
                             queued_at, due_at, attempted, attempts, endpoint)
SELECT unnest(%(watches)s::text[]), 'hw-0', 'S', 'j', FALSE, '{}', 'changed', 'pending', 1, 1, 1, FALSE, 0, 'e'
"""
_SKIP = """
INSERT INTO cdc_sync.skipped (watch, row_key, reason, at)
SELECT %(watch)s, '["' || i || '"]', 'why', 1 FROM generate_series(1, %(known)s) AS i
"""
_OTHERS = array(f"other-{number}" for number in range(20))

_NUMBERS = range(1, _PAGE + 1)
_IDS = array(f"hw-{number}" for number in _NUMBERS)
_KEYS = array(f'["{number}"]' for number in _NUMBERS)
_DIGESTS = [f'0123456789abcdef["{number}"]' for number in _NUMBERS]
_WATCHES, _NOTHING = array([WATCH] * _PAGE), array([None] * _PAGE)


@pytest.fixture(scope="module", params=["never analysed", "analysed"])
def filled(cluster: Cluster, request: pytest.FixtureRequest) -> "Iterator[psycopg.Connection[Any]]":
    async def make(dsn: str) -> None:
        await (await PostgresDriver.open(dsn)).close()

    with fresh_database(cluster) as dsn:
        asyncio.run(make(dsn))
        # In a transaction that is open until the end, so that autovacuum sees nothing of it.
        with psycopg.connect(dsn) as connection:
            connection.execute(_KNOW, {"watch": WATCH, "known": _KNOWN})
            connection.execute(_QUEUE, {"page": _PAGE})
            if request.param == "analysed":
                connection.execute("ANALYZE cdc_sync.snapshot")
                connection.execute("ANALYZE cdc_sync.outbox")
            yield connection
            connection.rollback()


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("before", {"ids": _IDS, "rows_first": _KEYS, "rows_second": _IDS}),
        ("current", {"ids_first": _WATCHES, "ids_second": _IDS}),
        ("due", {"endpoint": "e", "now": 1, "latest": 2, "besides": [""], "probing": False, "limit": _PAGE}),
        ("compare", {"digests": json.dumps(_DIGESTS)}),
        ("elsewhere", {"ids": _IDS, "watches": array([WATCH])}),
        ("verify", {"watch": _WATCHES, "application_id": _IDS, "row_key": _KEYS, "digest": _IDS, "status": _NOTHING,
                    "job_id": _NOTHING, "deleted": _NOTHING}),
    ],
)  # fmt: skip
def test_the_page_comes_first(filled: "psycopg.Connection[Any]", name: str, page: Mapping[str, Any]) -> None:
    steps = _explained(filled, name, {"watch": WATCH, **page})

    walked = {_walked(step) for step in steps if "Relation Name" in step or "Index Name" in step}
    assert max(walked) <= _PAGE, steps


def test_a_page_is_not_looked_for_in_one_watch_after_the_other(filled: "psycopg.Connection[Any]") -> None:
    with filled.transaction(force_rollback=True):
        filled.execute(_WAIT, {"watches": _OTHERS})
        steps = _explained(filled, "elsewhere", {"watch": "new", "ids": _IDS, "watches": _OTHERS})

    assert max(step["Actual Loops"] for step in steps) <= _PAGE, steps


def test_of_many_skipped_rows_only_the_wanted_ones_are_read(filled: "psycopg.Connection[Any]") -> None:
    with filled.transaction(force_rollback=True):
        filled.execute(_SKIP, {"watch": WATCH, "known": _KNOWN})
        filled.execute("ANALYZE cdc_sync.skipped")
        steps = _explained(filled, "skipped_of_each", {"watches": [WATCH, "other"], "limit": 20})

    walked = {_walked(step) for step in steps if "Relation Name" in step or "Index Name" in step}
    assert max(walked) <= 20, steps


def _explained(connection: "psycopg.Connection[Any]", name: str, page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps of a statement's plan, with what each had to do."""
    statement = f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statements('postgres')[name].text}"
    found = connection.execute(statement.encode(), page).fetchone()
    assert found is not None
    return list(_steps(found[0][0]["Plan"]))


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _steps(each)


def _walked(step: Mapping[str, Any]) -> int:
    """How many rows of a table or an index a step of a plan had in its hands."""
    removed = int(step.get("Rows Removed by Filter", 0)) + int(step.get("Rows Removed by Index Recheck", 0))
    return round((float(step["Actual Rows"]) + removed) * int(step["Actual Loops"]))


async def test_statements_are_prepared_and_planned_for_the_outbox_as_it_is(store_database: str) -> None:
    driver = await PostgresDriver.open(store_database)
    for _ in range(30):
        await Store(driver).delivery.lanes()
    connection = driver._connection
    prepared = await (await connection.execute("SELECT statement FROM pg_prepared_statements")).fetchall()
    mode = await (await connection.execute("SELECT current_setting('plan_cache_mode', true)")).fetchall()
    can_say_how_to_plan = connection.info.server_version >= _PLANS_FOR_VALUES
    await driver.close()

    assert any("FROM cdc_sync.endpoint" in text for (text,) in prepared) == can_say_how_to_plan
    assert mode == [("force_custom_plan" if can_say_how_to_plan else None,)]


async def test_a_failed_transaction_leaves_no_half_prepared_statement(store_database: str) -> None:
    async def work(transaction: Transaction) -> list[tuple[Any, ...]]:
        # Prepared one time or the other.
        await transaction.run("set_about", name="colour", value="blue")
        return await transaction.run("about", name="colour")

    async def fail(transaction: Transaction) -> list[tuple[Any, ...]]:
        assert isinstance(transaction, PostgresTransaction)
        await transaction._connection.execute(b"DO $$BEGIN RAISE SQLSTATE '40P01'; END$$")
        return await work(transaction)  # sent before the error comes back

    driver = await PostgresDriver.open(store_database)
    for _ in range(20):
        with pytest.raises(StoreError):
            await driver.transact(fail)
        assert await driver.transact(work) == [("blue",)]
    await driver.close()
