"""A thousand watches: how many statements a look costs, what is named first, and what is only counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import a_baseline, a_batch, an_observation, some_rules
from support.looking import Admin, admin_server

from cdc_sync.config import Config
from cdc_sync.core.conditions import starting
from cdc_sync.store.driver import Transaction
from cdc_sync.store.sqlite.driver import SqliteTransaction

STRANGE = (
    "applications@tenant 42",
    'applications@"A/b"',
    "applications@été",
    "applications@<b>'x'",
    "applications@100%&a=1",
)
"""Names as schemas of tenants may make them."""

TENANTS = tuple(f"applications@tenant_{number:04}" for number in range(1000 - len(STRANGE)))
WATCHES = (*TENANTS, *STRANGE)


def with_watches(config: Config, watches: tuple[str, ...]) -> Config:
    """The configuration with its only watch under each of these names."""
    (watch,) = config.watches.values()
    return config.model_copy(update={"watches": dict.fromkeys(watches, watch)})


async def fill(admin: Admin, watches: tuple[str, ...]) -> None:
    """Let each watch know an application."""
    done = {"baseline": json.dumps({"done": True, "known": 1})}
    await asyncio.gather(
        *(
            admin.store.apply(some_rules(watch), replace(a_baseline(an_observation(f"hw-{n}")), positions=done))
            for n, watch in enumerate(watches)
        )
    )


async def hold(admin: Admin, *watches: str) -> None:
    """Let an application of each watch be held."""
    for watch in watches:
        await admin.store.apply(some_rules(watch, max_changes=0), a_batch(an_observation("held")))


async def bury(admin: Admin, *watches: str) -> None:
    """Let each watch have a dead letter."""
    for watch in watches:
        await admin.store.apply(some_rules(watch), a_batch(an_observation("dead", refused="no such label")))


@pytest.fixture
async def many(tmp_path: Path) -> AsyncIterator[Admin]:
    """A server with a thousand watches that are all well."""
    async with admin_server(tmp_path) as admin:
        admin.config = with_watches(admin.config, WATCHES)
        admin.use(admin.config)
        await fill(admin, WATCHES)
        yield admin


async def statements_of(admin: Admin, *paths: str) -> dict[str, int]:
    """How many statements each path costs."""
    seen: list[str] = []

    async def listen(transaction: Transaction) -> None:
        assert isinstance(transaction, SqliteTransaction)
        transaction.connection.set_trace_callback(seen.append)

    await admin.store.transact(listen)
    numbers = {}
    for path in paths:
        seen.clear()
        assert (await admin.get(path)).status in (200, 404, 503)
        numbers[path] = len([one for one in seen if one.lstrip().upper().startswith(("SELECT", "WITH", "INSERT"))])
    return numbers


async def test_a_look_costs_as_many_statements_for_a_thousand_watches_as_for_one(many: Admin, tmp_path: Path) -> None:
    await hold(many, *TENANTS[:60])
    paths = ("/", "/api/status", "/readyz", "/metrics", "/application?id=hw-0")
    numbers = await statements_of(many, *paths)
    (tmp_path / "one").mkdir()
    async with admin_server(tmp_path / "one") as one:
        await fill(one, ("applications",))
        await hold(one, "applications")
        assert numbers == await statements_of(one, *paths)
    assert max(numbers.values()) < 30


async def test_readiness_names_ten_reasons_those_first_that_concern_all(many: Admin) -> None:
    many.conditions = {**starting(WATCHES), "store": "the disk is full"}
    await hold(many, TENANTS[7])

    answer = await many.get("/readyz")

    lines = answer.text.splitlines()
    assert answer.status == 503
    assert lines[0] == "store: the disk is full"
    assert len(lines) == 11
    assert lines[-1] == "and 992 more"


async def test_a_daemon_that_stands_by_for_all_is_ready_in_few_words(many: Admin) -> None:
    many.conditions = {f"standby {watch}": "process 7 captures" for watch in WATCHES}

    answer = await many.get("/readyz")

    assert answer.status == 200
    lines = answer.text.splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("ready", 12, "and 990 more")


async def test_the_status_has_all_and_a_part_if_that_is_asked_for(many: Admin) -> None:
    await hold(many, STRANGE[4])
    await bury(many, STRANGE[1])
    many.conditions = {f"lag {TENANTS[3]}": "changes were last read completely more than 60 s ago"}

    async def names(query: str) -> list[str]:
        report = json.loads((await many.get(f"/api/status{query}")).text)
        return [watch["watch"] for watch in report["watches"]]

    assert await names("") == list(WATCHES)
    assert await names("?problems=1") == [TENANTS[3], STRANGE[1], STRANGE[4]]
    assert await names("?problems=0") == list(WATCHES)
    assert await names("?watch=applications%40tenant_001%25") == list(TENANTS[10:20])
    assert await names("?watch=%2Atenant*2&problems=1") == []
    assert await names("?watch=applications%40100%25%26a%3D1&problems=1") == [STRANGE[4]]
    assert await names("?watch=unknown") == []
    whole, part = [json.loads((await many.get(f"/api/status{query}")).text) for query in ("", "?problems=1")]
    assert whole.keys() == part.keys()
    assert whole["watches"][3] == part["watches"][0]
