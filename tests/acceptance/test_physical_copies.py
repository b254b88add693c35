"""A physical copy has the name and the system identifier of the original, and is another database all the same."""

from unittest.mock import patch

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.installation import JOB, PASSWORD, Installation
from support.standby import standby_of

from cdc_sync.demo.postgres import Server

pytestmark = pytest.mark.parametrize("mode", ["notify"], indirect=True)


def login(installation: Installation, dsn: str) -> dict[str, str]:
    """The environment in which commands connect there."""
    return {"ATS_DSN": make_conninfo(dsn, user=installation.role, password=PASSWORD)}


def test_a_physical_copy_is_refused_until_adopted(on_own_server: Installation, restartable_server: Server) -> None:
    on_own_server.add("hw-1")
    assert on_own_server.run("run", "--once").code == 0
    with standby_of(restartable_server) as copy:
        copy.promote()
        there = login(on_own_server, copy.dsn)
        with psycopg.connect(copy.dsn, autocommit=True) as tests:
            tests.execute("UPDATE public.applications SET status = 'TESTED' WHERE hellowork_id = 'hw-1'")

        checked = on_own_server.run("check", variables=there)
        assert checked.code == 1
        assert "failed   identity: The store belongs to the database" in checked.stdout
        for arguments in (["run", "--once"], ["plan"]):
            refused = on_own_server.run(*arguments, variables=there)
            assert refused.code == 1
            assert "a physical copy" in refused.stderr
            assert "cdc-sync adopt-database" in refused.stderr
        with patch.dict(on_own_server.variables, there), on_own_server.daemon(ready=False) as daemon:
            assert "cdc-sync adopt-database" in daemon.wait_until_not_ready("a physical copy")
            assert daemon.stop() == 0
        assert on_own_server.hellowork.calls == []
        assert "ok       identity" in on_own_server.run("check").stdout

        adopted = on_own_server.run("adopt-database", "--yes", variables=there)
        assert adopted.code == 0
        assert on_own_server.run("run", "--once", variables=there).code == 0
        assert on_own_server.hellowork.told("hw-1") == [("TESTED", JOB)]
        assert on_own_server.run("run", "--once").code == 1
        assert on_own_server.run("adopt-database", "--yes", variables=there).code == 0


def test_a_daemon_whose_store_is_in_a_copy_ends(on_own_server: Installation, restartable_server: Server) -> None:
    """It could go on with the copy's store, while its watch is back at the original."""
    on_own_server.share_store()
    assert on_own_server.run("run", "--once").code == 0
    with standby_of(restartable_server) as copy:
        copy.promote()
        with (
            patch.dict(on_own_server.variables, login(on_own_server, copy.dsn)),
            on_own_server.daemon(ready=False) as daemon,
        ):
            assert daemon.wait() == 1
            assert "a physical copy" in daemon.tail
