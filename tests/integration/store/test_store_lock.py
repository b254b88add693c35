"""One daemon per store: real processes, since a lock is between processes."""

import os
import stat
from pathlib import Path

import pytest
from support.store_process import store_process

from cdc_sync.core.failures import StoreError
from cdc_sync.store.sqlite.schema import holder_of, locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def test_a_second_daemon_is_refused_and_the_first_is_named(path: Path) -> None:
    with store_process("lock", path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"

        with pytest.raises(StoreError, match=rf"process {first.pid}\) .*{path}\. Stop it first"):
            locked(path).__enter__()

        assert holder_of(path) == first.pid


def test_kill_9_frees_the_lock(path: Path) -> None:
    with store_process("lock", path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        first.kill()
        first.wait()

        assert holder_of(path) is None
        with locked(path):
            assert holder_of(path) == os.getpid()


def test_somebody_who_only_looks_never_keeps_a_daemon_from_starting(path: Path) -> None:
    with locked(path):
        pass
    with store_process("glance", path) as onlooker:
        assert onlooker.stdout is not None
        assert onlooker.stdout.readline() == "glancing\n"

        for _ in range(3000):
            with locked(path):
                pass


def test_the_lock_file_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with locked(path):
            (file,) = path.parent.iterdir()
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
