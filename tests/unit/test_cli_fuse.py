"""What `fuse show` reads."""

from datetime import datetime
from pathlib import Path

from cdc_sync.cli.outbox import _held
from cdc_sync.config import parse
from cdc_sync.core.instants import from_datetime
from cdc_sync.store.clock import boot_id, uptime
from cdc_sync.store.opening import opened_beside
from cdc_sync.store.sqlite import SqliteStore

WATCH = "applications"
HOUR = 3_600_000
CONFIG = f"""
database: {{dsn: "postgresql:///ats"}}
state: {{path: PATH}}
watches:
  {WATCH}:
    table: applications
    key: [id]
    columns: {{application_id: id, status: status, job_id: job_id, created: created_at}}
"""


async def test_when_the_fuse_blew_is_shown_by_the_clock_that_people_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    config = parse(CONFIG.replace("PATH", str(path)), name="the test's configuration", environ={})
    store = SqliteStore(path)
    people = store.clock.for_people()
    # As if the machine's clock had been set forward by an hour since the boot.
    anchor = f"{boot_id()} {people - HOUR - uptime()}"
    await store.driver.transact(lambda t: t.run("set_about", name="clock", value=anchor))
    await store.close()
    store = SqliteStore(path)
    await store.blow_fuse(WATCH, "too many", store.clock())
    await store.close()

    async with opened_beside(config, read_only=True) as beside:
        (fuse,), _ = await _held(beside, WATCH)

    assert fuse["watch"] == WATCH
    assert abs(from_datetime(datetime.fromisoformat(fuse["blown_at"])) - people) < HOUR / 2
