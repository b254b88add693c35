"""A physical copy has the name and the system identifier of the original, and is another database all the same."""

import signal
import sqlite3
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.installation import JOB, PASSWORD, Installation
from support.standby import standby_of

from cdc_sync.demo.postgres import Server

pytestmark = pytest.mark.parametrize("mode", ["notify"], indirect=True)


def login(installation: Installation, dsn: str) -> dict[str, str]:
    """The environment in which commands connect there."""
    return {"ATS_DSN": make_conninfo(dsn, user=installation.role, password=PASSWORD)}


def test_a_physical_copy_is_refused_until_it_is_adopted(
    on_own_server: Installation, restartable_server: Server
) -> None:
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
        for arguments in (["run"], ["run", "--once"], ["plan"]):
            refused = on_own_server.run(*arguments, variables=there)
            assert refused.code == 1
            assert "a physical copy" in refused.stderr
            assert "cdc-sync adopt-database" in refused.stderr
        assert on_own_server.hellowork.calls == []
        assert "ok       identity" in on_own_server.run("check").stdout

        adopted = on_own_server.run("adopt-database", "--yes", variables=there)
        assert adopted.code == 0
        assert on_own_server.run("run", "--once", variables=there).code == 0
        assert on_own_server.hellowork.told("hw-1") == [("TESTED", JOB)]
        assert on_own_server.run("run", "--once").code == 1


def test_hosts_that_are_added_or_left_out_are_remembered_anew(
    on_own_server: Installation, restartable_server: Server
) -> None:
    with standby_of(restartable_server) as standby:
        one, other = conninfo_to_dict(restartable_server.dsn), conninfo_to_dict(standby.dsn)
        both = {
            "host": f"{one['host']},{other['host']}",
            "port": f"{one.get('port', 5432)},{other['port']}",
            "target_session_attrs": "read-write",
        }
        either = login(on_own_server, make_conninfo(restartable_server.dsn, **both))
        on_own_server.add("hw-1")
        assert on_own_server.run("run", "--once").code == 0
        assert on_own_server.run("run", "--once", variables=either).code == 0
        standby.catch_up()
        on_own_server.ats.close()
        restartable_server.stop(signal.SIGQUIT)
        standby.promote()
        with psycopg.connect(standby.dsn, autocommit=True) as ats:
            ats.execute("UPDATE public.applications SET status = 'SEEN' WHERE hellowork_id = 'hw-1'")
        assert on_own_server.run("run", "--once", variables=either).code == 0
        assert on_own_server.run("run", "--once", variables=login(on_own_server, standby.dsn)).code == 0
        assert on_own_server.hellowork.told("hw-1") == [("SEEN", JOB)]
    restartable_server.start()  # the role is dropped there
    on_own_server.reconnect()


def test_a_store_that_remembers_no_hosts_takes_those_it_finds(
    on_own_server: Installation, restartable_server: Server
) -> None:
    """As one of 0.1.0."""
    assert on_own_server.run("run", "--once").code == 0
    with closing(sqlite3.connect(on_own_server.store)) as store:
        assert store.execute("DELETE FROM about WHERE name = 'hosts'").rowcount == 1
        store.commit()
    assert "ok       identity" in on_own_server.run("check").stdout
    assert on_own_server.run("run", "--once").code == 0
    with standby_of(restartable_server) as copy:
        copy.promote()
        assert on_own_server.run("run", "--once", variables=login(on_own_server, copy.dsn)).code == 1
