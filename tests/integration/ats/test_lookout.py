"""What is looked at for all watches of a database at once, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from psycopg.conninfo import make_conninfo
from support.eventually import eventually
from support.roles import NewRole
from support.sessions import Ats, end_sessions, one, run
from support.watched import a_config, install_triggers, some_config

from cdc_sync.ats.connection import Pool, pooled
from cdc_sync.ats.facts import server_facts
from cdc_sync.ats.lookout import LEASE, Bell, Ears, Lookout, Watched
from cdc_sync.ats.triggers import relations_of
from cdc_sync.config import Config
from cdc_sync.core.identifiers import QualifiedName
from cdc_sync.event_loop import end

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
    return [Watched(name, relations_of(name, watch)) for name, watch in config.watches.items()]


async def lookout_for(pool: Pool, watches: list[Watched]) -> Lookout:
    lookout = Lookout(pool, await pool.ask("asking", server_facts))
    for each in watches:
        await lookout.join(each)
        each.changed.clear()
    return lookout


OF_ONE = [
    "ALTER TABLE one.applications DISABLE TRIGGER cdc_sync_one_row",
    "DROP TRIGGER cdc_sync_one_row ON one.applications",
    "ALTER FUNCTION cdc_sync.record_one() SECURITY INVOKER",
    "DROP SEQUENCE cdc_sync.missed_one",
    "TRUNCATE one.applications",
    "CREATE TABLE one.archived () INHERITS (one.applications)",
    "ALTER TABLE one.applications RENAME TO others",
    "DROP TABLE one.applications",
    "ALTER TABLE one.applications FORCE ROW LEVEL SECURITY",
    "CREATE POLICY few ON one.applications USING (id > 1)",
    "ALTER TABLE one.applications OWNER TO pg_monitor",
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
        "CREATE TRIGGER others BEFORE TRUNCATE ON cdc_sync.changes EXECUTE PROCEDURE cdc_sync.record_one()",
        "CREATE POLICY others ON cdc_sync.changes",
        "DROP TABLE cdc_sync.changes",
    ],
)
async def test_what_may_concern_any_watch_is_told_to_all(tenants: Config, ats: Ats, pool: Pool, change: str) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)

    ats.execute(change.encode())
    await lookout.go_round()

    assert all(each.changed.is_set() for each in watches)


async def test_each_change_of_policies_and_rules_is_seen(tenants: Config, ats: Ats, pool: Pool) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)
    for change in (
        "ALTER TABLE one.applications ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON one.applications USING (id > 1)",
        "ALTER POLICY few ON one.applications USING (id > 2)",
        "DROP POLICY few ON one.applications",
        "CREATE RULE others AS ON INSERT TO cdc_sync.changes DO NOTHING",
        "DROP RULE others ON cdc_sync.changes",
    ):
        ats.execute(change.encode())
        await lookout.go_round()
        assert watches[0].changed.is_set(), change
        watches[0].changed.clear()


async def test_what_an_ats_does_every_day_is_no_change(tenants: Config, ats: Ats, pool: Pool) -> None:
    """A change is a sweep."""
    run(ats, "CREATE VIEW one.seen AS SELECT * FROM one.applications")
    watches = [*watched(tenants), Watched("view", [QualifiedName("one", "seen")])]
    lookout = await lookout_for(pool, watches)
    for statement in (
        "INSERT INTO one.applications (hellowork_id, status) SELECT 'a' || i, 'NEW' FROM generate_series(1, 1000) i",
        "UPDATE one.applications SET status = 'SEEN'",
        "SELECT nextval('cdc_sync.missed_one')",
        "TRUNCATE cdc_sync.changes",
        "VACUUM ANALYZE one.applications",
        "VACUUM ANALYZE cdc_sync.changes",
        "VACUUM FULL ANALYZE pg_trigger",
        "VACUUM FREEZE ANALYZE pg_policy",
        "GRANT SELECT ON one.applications TO pg_monitor",
        "CREATE INDEX CONCURRENTLY ON one.applications (status)",
        "ALTER TABLE one.applications ADD COLUMN remarks text",
        "CREATE SCHEMA four; CREATE TABLE four.applications (id int)",
        "ALTER TABLE four.applications ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON four.applications USING (id > 1)",
        "DROP SCHEMA four CASCADE",
        "CREATE ROLE cdc_sync_somebody BYPASSRLS",
        "DROP ROLE cdc_sync_somebody",
    ):
        ats.execute(statement.encode())
        await lookout.go_round()
        assert not [each.name for each in watches if each.changed.is_set()], statement


@pytest.mark.usefixtures("tenants")
async def test_what_a_view_reads_is_looked_for_too(ats: Ats, pool: Pool) -> None:
    run(ats, "CREATE VIEW one.inner_view AS SELECT * FROM one.applications")
    run(ats, "CREATE VIEW one.a_view AS SELECT id, status FROM one.inner_view")
    run(ats, "CREATE TABLE one.others (LIKE one.applications)")
    view = Watched("view", [QualifiedName("one", "a_view")])
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

    assert len({*states, view.state}) == len(states)


class Listening:
    """What a watch learns of the change log."""

    def __init__(self, every: float = 60.0) -> None:
        self.rings = 0
        self.looks = list[float]()
        self.ears = Ears(every, arms=False, rung=self._ring, looked=self.looks.append)

    def _ring(self) -> None:
        self.rings += 1


async def test_a_look_rings_for_the_watches_with_changes(tenants: Config, ats: Ats, pool: Pool) -> None:
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)
    listening = {each.name: Listening() for each in watches}
    for each in watches:
        lookout.listen(each, listening[each.name].ears)
    run(ats, "INSERT INTO two.applications (hellowork_id, status) VALUES ('a', 'NEW')")

    await asyncio.sleep(0.5)  # what has no changes is shown at most twice a second
    await lookout.look()

    assert {name: each.rings for name, each in listening.items()} == {"one": 0, "two": 1, "three": 0}
    assert {name: len(each.looks) for name, each in listening.items()} == {"one": 1, "two": 0, "three": 1}


async def test_a_connection_that_the_pool_has_lost_fails_no_watch(tenants: Config, ats: Ats, pool: Pool) -> None:
    watches, listening = watched(tenants), Listening()
    lookout = await lookout_for(pool, watches)
    for each in watches:
        lookout.listen(each, listening.ears)
    end_sessions(ats, "datname = current_database() AND pid <> pg_backend_pid()")
    run(ats, "INSERT INTO two.applications (hellowork_id, status) VALUES ('a', 'NEW')")

    looking = asyncio.create_task(lookout.run())
    await eventually(lambda: listening.rings, "a ring")
    await end([looking])

    assert [each.error for each in watches] == [None, None, None]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ("SELECT nextval('cdc_sync.missed_two'), nextval('cdc_sync.missed_two')", [0, 2, 0]),
        ("DROP SEQUENCE cdc_sync.missed_two", [0, None, 0]),
    ],
)
async def test_it_counts_what_was_not_recorded(
    tenants: Config, ats: Ats, pool: Pool, change: str, missed: list[int | None]
) -> None:
    run(ats, change)
    watches = watched(tenants)
    lookout = await lookout_for(pool, watches)
    for each in watches:
        lookout.listen(each, Listening().ears)

    await lookout.look()

    assert [each.missed for each in watches] == missed
    assert [each.error is None for each in watches] == [each is not None for each in missed]


async def test_whether_policies_apply_to_the_daemon_is_seen(
    new_role: NewRole, tenants: Config, ats: Ats, database: str
) -> None:
    role = new_role()
    run(ats, "ALTER TABLE one.applications ENABLE ROW LEVEL SECURITY")
    watches = watched(tenants)
    async with pooled(make_conninfo(database, user=role, password=role)) as pool:
        lookout = await lookout_for(pool, watches)
        run(ats, "ALTER ROLE {role} BYPASSRLS", role=role)
        await lookout.go_round()

    assert [each.name for each in watches if each.changed.is_set()] == ["one"]


# The bell that all watches of a database share, on a real server.


LEFT = "SELECT last_value - extract(epoch FROM clock_timestamp()) FROM cdc_sync.bell"


class Clock:
    """A monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def belled(database: str, ats: Ats) -> AsyncIterator[Pool]:
    install_triggers(ats, a_config())
    async with pooled(database) as belled:
        yield belled


async def test_it_is_armed_for_a_lease_and_renewed_in_time(belled: Pool, ats: Ats) -> None:
    clock = Clock()
    bell = Bell(belled, clock)
    await bell.follow()
    assert bell.is_armed
    assert LEASE - 5 < one(ats, LEFT) <= LEASE

    run(ats, "SELECT setval('cdc_sync.bell', 1)")
    clock.now += LEASE / 6
    await bell.follow()
    assert one(ats, LEFT) < 0, "not yet due"

    clock.now += LEASE / 6
    await bell.follow()
    assert one(ats, LEFT) > LEASE - 5


async def test_while_changes_are_many_it_is_kept_disarmed(belled: Pool, ats: Ats) -> None:
    """Another daemon, with other watches in the database, may arm it."""
    clock = Clock()
    bell = Bell(belled, clock)
    await bell.count(10_000)
    run(ats, "SELECT setval('cdc_sync.bell', 2000000000)")

    clock.now += LEASE / 3
    await bell.count(10_000)
    await bell.follow()

    assert (bell.is_busy, bell.is_armed) == (True, False)
    assert one(ats, LEFT) <= 0


async def test_bells_of_earlier_versions_are_silenced(belled: Pool, ats: Ats) -> None:
    """Else their triggers would ring, or after a day take the watch for abandoned."""
    for name in ("bell_applications", "bell_never_set", "belle_epoque"):
        run(ats, "CREATE SEQUENCE cdc_sync.{name} MINVALUE 0", name=name)
    run(ats, "SELECT setval('cdc_sync.bell_applications', 2000000000), setval('cdc_sync.belle_epoque', 7)")

    await Bell(belled).silence()

    values = "SELECT last_value, is_called FROM cdc_sync.{name}"
    assert one(ats, values.format(name="bell_applications")) == 0
    assert one(ats, "SELECT is_called FROM cdc_sync.bell_never_set") is False
    assert one(ats, values.format(name="belle_epoque")) == 7
