"""What a DBA does by hand: print without secrets, wait briefly for locks, take everything back, see that it is gone."""

from collections.abc import Iterator

import pytest
from support.installation import JOB, Installation
from support.roles import NewRole, roles


@pytest.fixture
def new_role(database: str) -> Iterator[NewRole]:
    with roles(database) as new_role:
        yield new_role


@pytest.fixture
def without_secrets(notify: Installation) -> Installation:
    """An installation as a DBA has it: the file, and none of the variables that it refers to."""
    notify.variables.clear()
    return notify


class TestWithoutSecrets:
    def test_every_script_is_printed(self, without_secrets: Installation) -> None:
        without_secrets.configure(
            hellowork={"headers": {"Authorization": "Bearer ${file:/nowhere/key}"}}, state={"dsn": "${STORE_DSN}"}
        )
        for script in ("install", "install --store", "verify", "uninstall", "grants --role cdc"):
            printed = without_secrets.run("sql", *script.split())

            assert (printed.code, printed.stderr) == (0, ""), script
            assert len(printed.stdout) > 100
            assert "no-value" not in printed.stdout
            assert "STORE_DSN" not in printed.stdout

    def test_a_role_that_is_not_known_is_asked_for(self, without_secrets: Installation) -> None:
        without_secrets.configure(database={"dsn": "postgresql://cdc:${PASSWORD}@db/ats"})
        assert 'TO "cdc"' in without_secrets.run("sql", "grants").stdout
        without_secrets.configure(database={"dsn": "postgresql://${NOBODY}@db/ats"})
        refused = without_secrets.run("sql", "grants")
        assert refused.code == 2
        assert "--role" in refused.stderr
        assert "no-value" not in refused.stderr
        installed = without_secrets.run("sql", "install")
        assert installed.code == 0


def test_everything_is_removed(notify: Installation) -> None:
    notify.share_store()
    left = notify.run("sql", "verify", "--expect", "absent", "--apply", "--dsn", notify.dsn)
    assert left.code == 1
    assert "present     function   cdc_sync.record_applications()" in left.stdout
    for arguments in ([], ["--store"]):
        removed = notify.run("sql", "uninstall", *arguments, "--apply", "--dsn", notify.dsn)
        assert removed.code == 0
    gone = notify.run("sql", "verify", "--expect", "absent", "--apply", "--dsn", notify.dsn)
    assert (gone.code, gone.stderr) == (0, "")


def test_without_depends_on_nothing_is_installed_and_what_is_there_goes_on(notify: Installation) -> None:
    upper = "upper(t.status)"
    notify.configure_watch(columns={"status": {"sql": upper, "depends_on": ["status"]}})
    notify.install()
    notify.configure_watch(columns={"status": {"sql": upper, "depends_on": None}}, where="t.notes IS NULL")

    for arguments in (["install"], ["install", "--apply", "--dsn", notify.dsn], ["verify"], ["verify", "--apply"]):
        refused = notify.run("sql", *arguments)
        assert (refused.code, refused.stdout) == (78, "")
        assert refused.stderr == "".join(
            f"the configuration: watches.applications.{place}: notify mode needs depends_on here, the columns that the "
            "triggers compare; paste the list that `cdc-sync check` prints\n"
            for place in ("columns.status", "where")
        )
    assert "has no depends_on" in notify.run("sql", "grants").stdout
    notify.add("hw-1")
    notify.grant()
    with notify.daemon(ready=False) as daemon:
        daemon.wait_for_event("depends_on is missing for columns.status, where: run `cdc-sync check`")
        daemon.wait_for_event("applications known")
        notify.change("hw-1", status="INTERVIEW")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("INTERVIEW", JOB)], "the change")


def test_the_daemons_own_role_may_not_install(notify: Installation, new_role: NewRole) -> None:
    daemon = new_role()
    notify.share_store()
    dsn = ["--apply", "--dsn", notify.dsn]
    for store in ([], ["--store"]):
        assert notify.run("sql", "grants", "--role", daemon, *store, *dsn).code == 0

    refused = notify.run("sql", "install", "--apply")
    assert refused.code == 1, "the daemon's own role may not"
    assert "Nothing was changed: " in refused.stderr
    assert "GRANT" not in refused.stderr, "nobody becomes a superuser by a remedy of ours"
