"""What is looked at for all watches of a database at once, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
from support.builders import WATCH
from support.eventually import eventually
from support.sessions import Ats, one, run
from support.watched import install_triggers, some_config

from cdc_sync.config import Config
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.source.changelog import Bell, Bells
from cdc_sync.source.connection import Pool, pooled
from cdc_sync.source.errors import SourceError
from cdc_sync.source.facts import server_facts
from cdc_sync.source.lookout import ROUND, Look, Lookout, State, Watched
from cdc_sync.source.recorders import functions_of, tables_of

COLUMNS = {"application_id": "hellowork_id", "status": "status", "job_id": "job_id", "created": "created_at"}


def config_of(*schemas: str) -> Config:
    """A watch for each tenant's schema, named after it."""
    return some_config(
        "", {schema: {"table": f"{schema}.applications", "key": ["id"], "columns": COLUMNS} for schema in schemas}
    )


@pytest.fixture
def tenants(ats: Ats) -> Iterator[Config]:
    """Three tenants with triggers."""
    config = config_of("one", "two", "three")
    for schema in config.watches:
        run(ats, "CREATE SCHEMA {schema}", schema=schema)
        run(ats, "CREATE TABLE {schema}.applications (LIKE public.applications INCLUDING ALL)", schema=schema)
    install_triggers(ats, config)
    yield config
    for schema in config.watches:
        run(ats, "DROP SCHEMA IF EXISTS {schema} CASCADE", schema=schema)


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with pooled(database) as pool:
        yield pool


def watched(config: Config) -> list[Watched]:
    return [Watched(name, tables_of(watch), functions_of(name, watch), 30.0) for name, watch in config.watches.items()]


async def lookout_for(pool: Pool, watches: list[Watched]) -> Lookout:
    lookout = Lookout(pool, await pool.ask("asking", server_facts))
    for each in watches:
        await lookout.join(each)
        each.changed.clear()
    return lookout


OF_ONE = [
    "ALTER TABLE one.applications DISABLE TRIGGER cdc_sync_one_row",
    "DROP TRIGGER cdc_sync_one_row ON one.applications",
    "COMMENT ON TRIGGER cdc_sync_one_row ON one.applications IS 'made anew'",
    "COMMENT ON FUNCTION cdc_sync.record_one() IS 'edited'",
    "ALTER FUNCTION cdc_sync.record_one() SECURITY INVOKER",
    "DROP SEQUENCE cdc_sync.missed_one",
    "TRUNCATE one.applications",
    "CREATE TABLE one.archived () INHERITS (one.applications)",
    "ALTER TABLE one.applications RENAME TO others",
    "DROP TABLE one.applications",
]


@pytest.mark.parametrize("change", OF_ONE)
async def test_a_round_tells_the_watch_that_it_concerns_and_no_other(
    tenants: Config, ats: Ats, pool: Pool, change: str
) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)
    await lookout.go_round()
    assert not any(each.changed.is_set() for each in watches)

    ats.execute(change.encode())
    await lookout.go_round()

    assert [each.name for each in watches if each.changed.is_set()] == ["one"]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE one.applications ENABLE ROW LEVEL SECURITY",
        "CREATE RULE others AS ON INSERT TO cdc_sync.changes DO NOTHING",
        "DROP TABLE cdc_sync.changes",
    ],
)
async def test_what_may_concern_any_watch_is_told_to_all(tenants: Config, ats: Ats, pool: Pool, change: str) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)

    ats.execute(change.encode())
    await lookout.go_round()

    assert all(each.changed.is_set() for each in watches)


async def test_each_change_of_what_hides_rows_is_seen(tenants: Config, ats: Ats, pool: Pool) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)
    assert watches[0].state.policies is None
    seen = {watches[0].state.policies}
    for change in (
        "ALTER TABLE one.applications ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON one.applications USING (id > 1)",
        "ALTER POLICY few ON one.applications USING (id > 2)",
        "ALTER TABLE one.applications FORCE ROW LEVEL SECURITY",
        "CREATE VIEW one.seen AS SELECT * FROM one.applications",
    ):
        ats.execute(change.encode())
        await lookout.go_round()
        assert watches[0].state.policies not in seen, change
        seen.add(watches[0].state.policies)
    ats.execute("ALTER TABLE one.applications DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    await lookout.go_round()
    assert watches[0].state.policies is None


async def test_a_table_that_is_not_there_is_nobody_elses_trouble(tenants: Config, pool: Pool) -> None:
    watches = watched(tenants)
    missing = Watched("missing", [QualifiedName("no_such", "table"), QualifiedName(None, "nor_this")], [], 30.0)
    await lookout_for(pool, [*watches, missing])

    assert missing.state == State(None, missing.state.setup, None, missing.state.log)
    assert all(each.state.storage for each in watches)


@pytest.mark.usefixtures("tenants")
async def test_what_a_view_reads_is_looked_for_too(ats: Ats, pool: Pool) -> None:
    run(ats, "CREATE VIEW one.inner_view AS SELECT * FROM one.applications")
    run(ats, "CREATE VIEW one.a_view AS SELECT id, status FROM one.inner_view")
    run(ats, "CREATE TABLE one.others (LIKE one.applications)")
    view = Watched("view", [QualifiedName("one", "a_view")], [], 30.0)
    lookout, states = await lookout_for(pool, [view]), [view.state]
    for change in (
        "TRUNCATE one.applications",
        "CREATE OR REPLACE VIEW one.inner_view AS SELECT * FROM one.others",
        "CREATE OR REPLACE VIEW one.inner_view AS SELECT * FROM one.others WHERE id > 1",
        "CREATE OR REPLACE VIEW one.a_view AS SELECT id, upper(status) AS status FROM one.inner_view",
    ):
        run(ats, change)
        await lookout.go_round()
        states.append(view.state)
    await lookout.go_round()

    assert len({state.storage for state in [*states, view.state]}) == 5


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("DROP SEQUENCE cdc_sync.bell_two", 'bell_two" does not exist'),
        ("ALTER SEQUENCE cdc_sync.bell_two MAXVALUE 10 START 1 RESTART 1", "out of bounds for sequence"),
    ],
)
async def test_a_bell_that_cannot_be_set_is_nobody_elses_trouble(
    tenants: Config, ats: Ats, pool: Pool, broken: str, expected: str
) -> None:
    run(ats, broken)
    bells = [Bell(name, wanted=True) for name in tenants.watches]

    await Bells(pool).update(bells)

    assert [bell.until is not None for bell in bells] == [True, False, True]
    (error,) = (bell.error for bell in bells if bell.error is not None)
    assert expected in str(error)


@pytest.mark.parametrize("ahead", [-7200, 90, 86400])
async def test_a_busy_watchs_bell_is_disarmed_though_the_servers_clock_was_set_back(
    tenants: Config, ats: Ats, pool: Pool, ahead: int
) -> None:
    """Else each of the ATS's transactions would notify until the clock has caught up."""
    run(ats, "SELECT setval('cdc_sync.bell_two', extract(epoch FROM clock_timestamp())::bigint + %s)", (ahead,))

    await Bells(pool).update([Bell(name) for name in tenants.watches])

    late = one(ats, "SELECT extract(epoch FROM clock_timestamp()) - last_value FROM cdc_sync.bell_two")
    assert 0 <= late < 60


async def test_a_watch_whose_bell_is_refused_learns_of_it_at_once(tenants: Config, pool: Pool) -> None:
    one, *_ = watched(tenants)
    lookout = await lookout_for(pool, [one])
    looks: list[Look] = []
    one.bell, one.looked = Bell("one", missed=0, refused=True), looks.append

    lookout.rest(one, 60.0)
    await lookout.look()

    assert len(looks) == 1


async def test_a_watch_that_reads_the_log_itself_gets_its_next_look_in_time(tenants: Config, pool: Pool) -> None:
    one, *_ = watched(tenants)
    lookout = await lookout_for(pool, [one])
    looks: list[Look] = []

    def rung_for_meanwhile(look: Look) -> None:
        looks.append(look)
        one.looked = None

    one.looked = rung_for_meanwhile
    lookout.rest(one, 0.2)
    looking = asyncio.create_task(lookout.run())
    await eventually(lambda: looks, "the first look")
    await asyncio.sleep(0)
    one.looked = looks.append
    await eventually(lambda: len(looks) > 1, "the next look", within=ROUND / 2)
    looking.cancel()


async def test_hundreds_of_bells_are_armed_with_few_locks(ats: Ats, pool: Pool) -> None:
    """All in one statement would take two locks for each of them."""
    ats.execute("CREATE SCHEMA IF NOT EXISTS cdc_sync")
    names = [f"{WATCH}{number}" for number in range(250)]
    for kind in ("bell", "missed"):
        for name in names:
            ats.execute(f"CREATE SEQUENCE cdc_sync.{kind}_{name}".encode())
    bells = [Bell(name, wanted=True) for name in names]

    await Bells(pool).update(bells)

    assert len({bell.fence for bell in bells}) == 1
    assert all(bell.until is not None and bell.missed == 0 for bell in bells)


async def test_who_asks_at_the_same_time_gets_the_same_answer(pool: Pool) -> None:
    lookout = await lookout_for(pool, [])
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    assert [await lookout.ask("what", 60, ask) for _ in range(3)] == [1, 1, 1]
    assert await lookout.ask("something else", 60, ask) == 2
    assert await lookout.ask("what", 0, ask) == 3


async def test_an_answer_that_failed_is_asked_for_again(pool: Pool) -> None:
    lookout = await lookout_for(pool, [])

    async def fails() -> int:
        raise SourceError("unreachable", "gone")

    async def answers() -> int:
        return 1

    with pytest.raises(SourceError):
        await lookout.ask("what", 60, fails)
    assert await lookout.ask("what", 60, answers) == 1


def asking(*schemas: str) -> list[str]:
    return [f"SELECT FROM {schema}.applications AS t WHERE t.status = %s" for schema in schemas]


async def test_polls_that_come_together_are_one_statement(
    tenants: Config, ats: Ats, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookout, reads = await lookout_for(pool, []), list[str]()
    read = pool.read

    async def counted(doing: str, query: Any) -> Any:
        reads.append(doing)
        return await read(doing, query)

    monkeypatch.setattr(pool, "read", counted)
    for schema in ("two", "three"):
        run(ats, "INSERT INTO {schema}.applications (hellowork_id, status) VALUES ('a', 'NEW')", schema=schema)

    async def found(*schemas: str) -> list[bool]:
        return await asyncio.gather(*(lookout.is_any(query, "NEW", 0.01) for query in asking(*schemas)))

    assert await found("one", "two", "three", "one") == [False, True, True, False]
    assert await found("one", "two", "three", "one") == [False, True, True, False]
    assert len(reads) == 2
    assert await found("one", "two", "three", "one", "nowhere") == [True] * 5, "each finds out whose trouble it is"
    assert await found("one", "two") == [True] * 2, "they are few"
    assert len(reads) == 3
    many = await found(*["one", "two"] * 15)
    assert many == [False, True] * 15
    assert len(reads) == 5, "a statement looks into so many tables at most"


@pytest.mark.usefixtures("tenants")
async def test_a_locked_table_does_not_hold_up_the_polls_of_others(pool: Pool, database: str) -> None:
    lookout = await lookout_for(pool, [])
    async with await psycopg.AsyncConnection.connect(database) as other:
        await other.execute("LOCK one.applications IN ACCESS EXCLUSIVE MODE")
        asked = (lookout.is_any(query, "NEW", 0.01) for query in asking("one", "two", "three", "two"))
        async with asyncio.timeout(5):
            assert await asyncio.gather(*asked) == [True] * 4, "each finds out whose trouble it is"
