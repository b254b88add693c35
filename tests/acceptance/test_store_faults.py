"""A store that cannot be written: nothing is sent, nothing is consumed, it is said, and it mends itself."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A file system without a free byte."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(folder)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        with (folder / "ballast").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield folder
    finally:
        unmounting = ["umount", "-l", str(folder)]
        subprocess.run(unmounting, check=True)


def test_a_first_start_on_a_full_disk_says_so(notify: Installation) -> None:
    with full_disk(notify.folder / "disk") as disk:
        notify.configure(state={"path": str(disk / "state.db")})
        ended = notify.run("run")

    assert ended.code == 1
    assert ended.stderr.startswith("cdc-sync: ")
    assert "full" in ended.stderr or "No space left on device" in ended.stderr


def test_a_full_temporary_folder_stops_nothing(notify: Installation) -> None:
    notify.add_many("hw-", 2_000)
    with full_disk(notify.folder / "temporary") as folder:
        notify.variables["TMPDIR"] = str(folder)
        with notify.daemon(forked=False) as daemon:
            notify.settle(daemon)
            notify.change("hw-1", status="SEEN")
            daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", "job-1")], "the call")


def test_a_disk_that_takes_no_more_stops_everything_until_it_does(notify: Installation) -> None:
    notify.add("hw-1")
    with notify.daemon() as daemon:
        notify.settle(daemon)
        before = len(notify.hellowork.calls)

        fill_disk(notify, daemon)
        notify.change("hw-1", status="SEEN")
        reasons = daemon.wait_until_not_ready("store applications")
        assert f"The store {notify.store} cannot be used" in reasons
        assert "nothing is sent until it can be written" in reasons
        assert notify.unread() > 0
        assert "cdc_sync_store_ok 0" in daemon.get("/metrics")[1]
        # It stays that way, and does not come and go with each try.
        for _ in range(30):
            assert "store applications" in daemon.readiness()[1]
        assert len(notify.hellowork.calls) == before

        free_disk(daemon)
        daemon.wait_until(lambda: notify.hellowork.told("hw-1") == [("SEEN", "job-1")], "the call")
        daemon.wait_until_ready()
        notify.settle(daemon)
        for said in ("cannot be used", "the store can be written again"):
            daemon.wait_for_event(said)
            # The sender may have met it as well.
            assert [event.get("watch") for event in daemon.events_named(said)].count("applications") == 1


def deleted(store: Path) -> None:
    for file in store.parent.glob(f"{store.name}*"):
        if file.suffix != ".lock":
            file.unlink()


def replaced(store: Path) -> None:
    copy = store.with_name("copy")
    shutil.copyfile(store, copy)
    copy.replace(store)


@pytest.mark.parametrize("fate", [deleted, replaced])
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
