"""A single run of many watches."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from cdc_sync.ats.database import Database
from cdc_sync.config import parse
from cdc_sync.core.events import Event, WatchLost
from cdc_sync.daemon.once import run_once

NOWHERE = "host=127.0.0.1 port=1 connect_timeout=2"


async def test_each_database_is_connected_to_once(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a network that fell silent each try takes 10 seconds, and there may be hundreds of watches."""
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, hw text, status text, job text, made timestamptz)")
    watch = "table: t, key: [id], columns: {application_id: hw, status: status, job_id: job, created: made}"
    watches = {"a": "down", "b": "down", "c": "up", "d": "down", "e": "up"}
    lines = [f"databases: {{up: {{dsn: '{database}'}}, down: {{dsn: '{NOWHERE}'}}}}", "watches:"]
    lines += [f"  {name}: {{database: {of}, {watch}}}" for name, of in watches.items()]
    config = parse("\n".join(lines), name="config.yaml", environ={}, folder=tmp_path)
    config = config.model_copy(update={"state": config.state.model_copy(update={"path": tmp_path / "state.db"})})
    tried, connect = list[str](), Database._connect

    async def connected(self: Database) -> Any:
        tried.append(self.name)
        return await connect(self)

    monkeypatch.setattr(Database, "_connect", connected)
    said: list[Event] = []

    result = await run_once(config, [lambda: {Event: said.append}], print, dry_run=False)

    assert sorted(tried) == ["down", "up"]
    assert [event.watch for event in said if isinstance(event, WatchLost)] == ["a", "b", "d"]
    assert result.failed
