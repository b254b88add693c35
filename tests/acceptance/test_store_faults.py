"""A store that cannot be written: nothing is sent, nothing is consumed, it is said, and it mends itself."""

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support.daemon_process import DaemonProcess
from support.installation import Installation


def fill_disk(of: Installation, daemon: DaemonProcess) -> None:
    """Let the store's files grow no more, as on a full disk or beyond a quota; the log is smaller, and may."""
    size = of.store.with_name("state.db-wal").stat().st_size
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def free_disk(daemon: DaemonProcess) -> None:
    """Let them grow again."""
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_a_disk_that_takes_no_more_stops_everything_until_it_does(installation: Installation) -> None:
    installation.add("hw-1")
    with installation.daemon() as daemon:
        installation.settle(daemon)
        before = len(installation.hellowork.calls)

        fill_disk(installation, daemon)
        installation.change("hw-1", status="SEEN")
        reasons = daemon.wait_until_not_ready("store applications")
        assert f"The store {installation.store} cannot be used" in reasons
        assert "nothing is sent until it can be written" in reasons
        french = daemon.get("/?language=fr")[1]
        assert "ne peut pas être utilisé" in french
        assert "rien n'est envoyé tant que l'écriture est impossible" in french
        if installation.mode == "notify":
            assert installation.unread() > 0
        assert "cdc_sync_store_ok 0" in daemon.get("/metrics")[1]
        # It stays that way, and does not come and go with each try.
        for _ in range(30):
            assert "store applications" in daemon.readiness()[1]
        assert len(installation.hellowork.calls) == before

        free_disk(daemon)
        daemon.wait_until(lambda: installation.hellowork.told("hw-1") == [("SEEN", "job-1")], "the call")
        daemon.wait_until_ready()
        installation.settle(daemon)
        for said in ("cannot be used", "the store can be written again"):
            daemon.wait_for_event(said)
            # The sender may have met it as well.
            assert [event.get("watch") for event in daemon.events_named(said)].count("applications") == 1
        assert daemon.stop() == 0


def test_what_was_sent_and_cannot_be_written_down_is_written_down_later(notify: Installation) -> None:
    notify.add("hw-1")
    notify.add("hw-2")
    notify.hellowork.will({"kind": "delay", "seconds": 6, "application_id": "hw-1"})
    with notify.daemon() as daemon:
        notify.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: notify.hellowork.calls_for("hw-1"), "the call under way")
        fill_disk(notify, daemon)
        daemon.wait_until_not_ready("store: ")
        notify.change("hw-2", status="SEEN")
        assert notify.hellowork.calls_for("hw-2") == []

        free_disk(daemon)
        daemon.wait_until(lambda: notify.hellowork.told("hw-2"), "the other one")
        notify.settle(daemon)
        assert len(notify.hellowork.calls_for("hw-1")) == 1, "its end was not forgotten"
        daemon.wait_until_ready()


def test_a_store_that_somebody_keeps_locked_is_waited_for_and_said(poll: Installation) -> None:
    poll.add("hw-1")
    with poll.daemon() as daemon:
        poll.settle(daemon)
        with closing(sqlite3.connect(poll.store, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            poll.change("hw-1", status="SEEN")
            daemon.wait_until_not_ready("database is locked. Another process keeps it locked")
            assert poll.hellowork.calls_for("hw-1") == []
            somebody.execute("ROLLBACK")
        daemon.wait_until(lambda: poll.hellowork.told("hw-1"), "the call")
        daemon.wait_until_ready()
        assert daemon.stop() == 0


def test_a_damaged_store_is_refused_and_nothing_is_sent(poll: Installation) -> None:
    poll.add_many("hw-", 500)
    with poll.daemon() as daemon:
        assert daemon.stop() == 0
    poll.change("hw-1", status="SEEN")
    with poll.store.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(poll.store.stat().st_size - 4096))

    refused = poll.run("run", "--once")

    assert refused.code == 1
    assert "malformed. Its disk or a copy of it is damaged: restore a backup, or move it away" in refused.stderr
    assert poll.hellowork.calls == []


def deleted(store: Path) -> None:
    for file in store.parent.glob(f"{store.name}*"):
        if file.suffix != ".lock":
            file.unlink()


def replaced(store: Path) -> None:
    copy = store.with_name("copy")
    shutil.copyfile(store, copy)
    copy.replace(store)


def robbed_of_its_wal(store: Path) -> None:
    store.with_name(f"{store.name}-wal").unlink()


@pytest.mark.parametrize("fate", [deleted, replaced, robbed_of_its_wal])
def test_a_store_that_is_gone_from_under_the_daemon_ends_it(notify: Installation, fate: Callable[[Path], None]) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        before = len(notify.hellowork.calls)

        fate(notify.store)
        notify.change("hw-1", status="SEEN")

        assert daemon.wait() == 1
        assert f"The store {notify.store} is gone from under the daemon" in daemon.logged
        assert len(notify.hellowork.calls) == before
        assert notify.unread() > 0, "the change stays in the log"


def test_a_new_store_in_the_place_of_a_lost_one_says_what_that_means(notify: Installation) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        assert not daemon.events_named("worked before"), "the first one takes nobody's place"
        assert daemon.stop() == 0
    assert "worked before" not in notify.run("status").stdout
    notify.store.unlink()
    with notify.daemon() as daemon:
        said = daemon.wait_for_event("this watch was captured before, with another store")
        assert (said["level"], said["watch"]) == ("error", "applications")
        assert daemon.stop() == 0
    with notify.daemon() as daemon:
        assert not daemon.events_named("worked before"), "it is said once"
        remark = "was captured before, with another store: this one took the rows that it found as acknowledged"
        assert remark in notify.run("status").stdout
        assert daemon.stop() == 0


def fill(file: Path) -> None:
    """Write until the file system is full."""
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))


@pytest.fixture
def small_disk(poll: Installation) -> Iterator[Path]:
    """A file system of a few megabytes, where the installation keeps its store."""
    place = poll.folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        poll.configure(state={"path": str(place / "state.db")})
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S607 - of the path


def test_a_full_disk_has_recovered_when_it_takes_what_it_had_refused(poll: Installation, small_disk: Path) -> None:
    poll.add_many("hw-", 2_000)
    with poll.daemon() as daemon:
        poll.settle(daemon)
        ballast = small_disk / "ballast"
        fill(ballast)
        # No news to the poll, which goes on; but each sweep has new digests to keep, more than there is room for.
        poll.ats.execute("UPDATE public.applications SET updated_at = clock_timestamp()")
        daemon.wait_until_not_ready("database or disk is full")
        tries = len(daemon.events_named("connected"))
        daemon.wait_until(lambda: len(daemon.events_named("connected")) >= tries + 5, "five more tries")
        assert not daemon.events_named("the store can be written again")
        poll.change("hw-1", status="SEEN")
        daemon.wait_until(lambda: len(daemon.events_named("connected")) >= tries + 8, "three more tries")
        assert not daemon.events_named("the store can be written again")

        ballast.unlink()
        daemon.wait_until_ready()
        daemon.wait_until(lambda: poll.hellowork.told("hw-1"), "the call")
        said = [event.get("watch") for event in daemon.events_named("the store can be written again")]
        assert sorted(said, key=str) == sorted(set(said), key=str), "each says it once"
        assert "applications" in said
        assert daemon.stop() == 0
