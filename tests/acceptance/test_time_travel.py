"""A backup of the same database is restored: the past is a mass change, and held."""

import shutil
import subprocess

from support.installation import JOB, Installation

from cdc_sync.demo.postgres import Server


def test_a_restored_backup_is_held_until_a_person_decides(
    on_own_server: Installation, restartable_server: Server
) -> None:
    ours, data = on_own_server, restartable_server.folder / "data"
    ours.add_many("hw-", 20)
    assert ours.run("run", "--once").code == 0
    backup = stopped(ours, restartable_server)
    subprocess.run(["cp", "-a", data, backup], check=True)  # noqa: S607 - keeps the owner, as no function of Python does
    started(ours, restartable_server)
    for number in range(1, 21):
        ours.change(f"hw-{number}", status="SEEN")
    for number in range(3):
        ours.add(f"later-{number}")
    assert ours.run("run", "--once").code == 0
    before = len(ours.hellowork.calls)
    assert ours.hellowork.told("hw-20") == [("SEEN", JOB)]
    stopped(ours, restartable_server)
    shutil.rmtree(data)
    subprocess.run(["cp", "-a", backup, data], check=True)  # noqa: S607 - as above
    started(ours, restartable_server)
    # The way there, in the same window, counts as well: so it is not one change back that is believed.
    ours.configure_watch(fuse={"max_changes": 20, "max_deletions": 2, "window": "1h"})

    with ours.daemon(ready=False) as daemon:
        assert "more than 20 changes at once" in daemon.wait_until_not_ready("fuse applications")
        daemon.wait_for_report(lambda report: report["watches"][0]["held"] == 20 + 3, "the past is held")
        assert len(ours.hellowork.calls) == before
        assert ours.run("fuse", "discard", "--yes").code == 0
        daemon.wait_until_ready()
        # What happens from now on is told, though transaction ids, sequences and the change log have gone back too.
        ours.change("hw-20", status="HIRED")
        ours.add("anew")
        ours.settle(daemon)
        assert ours.hellowork.told("hw-20")[-1] == ("HIRED", JOB)
        assert ours.hellowork.told("anew") == [("NEW", JOB)]


def stopped(ours: Installation, server: Server) -> str:
    """Stop the server; returns where its data may be kept."""
    ours.ats.close()
    server.stop()
    return str(server.folder / "backup")


def started(ours: Installation, server: Server) -> None:
    """Start the server on the data that it has now."""
    server.start()
    ours.reconnect()
