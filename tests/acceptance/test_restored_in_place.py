"""A database that was put back from a backup in its place: a person says that it is meant, once."""

import json
import sqlite3
from contextlib import closing

import pytest
from support.installation import JOB, Installation, plainly

pytestmark = pytest.mark.parametrize("mode", ["poll"], indirect=True)


def read_further(installation: Installation, by: int) -> None:
    """Let the store remember a server that was further by so many transactions."""
    with closing(sqlite3.connect(installation.store)) as store:
        ((text,),) = store.execute("SELECT value FROM position WHERE name = 'replica'").fetchall()
        position = json.loads(text)
        xmax = int(position[4].split(":")[1]) + by
        position[0], position[4] = position[0] - 1, f"{xmax}:{xmax}:"
        store.execute("UPDATE position SET value = ? WHERE name = 'replica'", (json.dumps(position),))
        store.commit()


def test_it_waits_for_adopt_database_whatever_is_restarted(installation: Installation) -> None:
    installation.add("hw-1")
    assert installation.run("run", "--once").code == 0
    read_further(installation, 100_000)
    installation.change("hw-1", status="PUT BACK")

    refused = installation.run("run", "--once")
    assert refused.code == 1
    assert "behind what was read before" in refused.stderr
    assert "a restart does not forget" in refused.stderr
    assert "warning  applications replica-position: This server is behind" in installation.run("check").stdout
    asked = installation.run("adopt-database")
    assert asked.code == 2
    assert "no terminal to ask on, so say --yes" in plainly(asked)
    assert installation.hellowork.calls == []

    adopted = installation.run("adopt-database", "--yes")
    assert adopted.code == 0
    assert "What was read before is forgotten" in adopted.stdout
    assert installation.run("run", "--once").code == 0
    assert installation.hellowork.told("hw-1") == [("PUT BACK", JOB)]
