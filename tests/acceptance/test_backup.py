"""`cdc-sync backup`: a copy of the store that is one itself, whatever the daemon does meanwhile."""

import json
import stat

from support.daemon_process import COMMAND
from support.installation import Installation


def test_a_backup_of_a_working_daemons_store_opens_as_a_store(notify: Installation) -> None:
    copy = notify.folder / "copy.db"
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") != [], "the call")
        notify.settle(daemon)

        made = notify.run("backup", str(copy))
        assert (made.code, made.stdout) == (0, f"{copy} has the store {notify.store}\n")

    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert notify.run("backup", str(copy)).code == 1, "an existing file is left as it is"
    no_room = ["sh", "-c", 'ulimit -f 80; exec "$@"', "sh", *COMMAND, "--config", str(notify.config), "backup"]
    refused = notify.run_bare([*no_room, f"{copy}-2"])
    assert (refused.code, "cannot be copied to" in refused.stderr, "sent" in refused.stderr) == (1, True, False)
    assert sorted(path.name for path in notify.folder.glob("copy.db*")) == ["copy.db"]
    notify.configure(state={"path": str(copy)})
    (story,) = json.loads(notify.run("explain", "hw-1", "--json").stdout)
    assert story["told"]["status"] == "SEEN"
    assert notify.run("run", "--once").code == 0


def test_a_store_in_postgresql_is_backed_up_by_pg_dump(notify: Installation) -> None:
    notify.share_store()
    copy = notify.folder / "copy.db"

    refused = notify.run("backup", str(copy))

    assert refused.code == 1
    assert "has a pg_dump of it alone" in refused.stderr
    assert not copy.exists()
