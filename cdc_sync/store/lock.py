"""One daemon per store: a lock file beside it.

`flock` belongs to the open file and goes with the process, also by kill -9, so a stale lock cannot exist.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdc_sync.store.errors import store_error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the store at `path`.

    Raises:
        StoreError: another process holds it, or the lock file cannot be made.
    """
    lock = _lock_path(path)
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise store_error("store-lock-file", file=lock, said=error.strerror) from error
    try:
        while not _flock(file, fcntl.LOCK_EX):
            # Only a daemon refuses to share; a glance of `holder_of` is over at once, and must not keep a daemon from
            # starting.
            if not _flock(file, fcntl.LOCK_SH):
                raise store_error("store-in-use", process=_process_in(file) or "unknown", store=path)
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
        yield
    finally:
        os.close(file)


def holder_of(path: Path) -> int | None:
    """The process id of the daemon that works on the store at `path`, 0 if it is unknown; None if there is none."""
    try:
        file = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _flock(file, fcntl.LOCK_SH) else _process_in(file)
    finally:
        os.close(file)


def _process_in(file: int) -> int:
    text = os.read(file, 32)
    return int(text) if text.isdigit() else 0


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
